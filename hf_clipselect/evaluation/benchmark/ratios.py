"""The table of ratios: what each compares, its target, and its Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        what (`str`): What is compared.
        unit (`str`): Of both sides; `CLOCK` for times by the clock that counts on the machine.
        ratio (`str`): "ours / other" or "other / ours".
        target (`str`): Bound of the ratio, such as "<= 1.1"; empty where there is none.
    """

    what: str
    unit: str
    ratio: str = "ours / other"
    target: str = ""


HEAD = ("what", "ours", "other side", "ratio", "target", "met")
FASTER, SHARE = "other / ours", "ours / other"
CLOCK = "CPU s, or s with a GPU"
TABLE = {
    "encode": Row(
        "encoding / (decoding and preprocessing alone + the model alone), all on all cores", "CPU s", SHARE, "<= 1.1"
    ),
    "rate_decoding": Row("images/s: encoding / decoding alone", "images/s", SHARE),
    "rate_model": Row("images/s: encoding / model alone", "images/s", SHARE),
    "encode_gpu": Row("encoding / the slower of decoding alone and model alone", "images/s", SHARE, ">= 0.9"),
    "matmul_rate": Row("encoding's model FLOP/s / rate of a large bf16 matrix product", "TFLOP/s", SHARE),
    "sds_products": Row(
        "SDS of a class of 5,000 x 512 / its matrix products alone, one thread", "CPU s", SHARE, "<= 1.5"
    ),
    "sds_sklearn": Row(
        "scikit-learn's NearestNeighbors, which the authors use / SDS, 5,000 x 512", "CPU s", FASTER, ">= 3"
    ),
    "sds_sklearn_large": Row("the same at 50,000 x 512, both from 1,024 rows", "CPU s", FASTER, ">= 4"),
    "sds_error": Row("largest relative error of SDS against float64, 50 neighbours and more", "", SHARE, "<= 1e-5"),
    "sds_memory": Row("extra memory of SDS over its inputs, 50,000 x 512 / 150 MB", "MB", SHARE, "<= 1"),
    "sds_gpu": Row("SDS, one class of 50,000 / its matrix products alone, on the GPU", "s", SHARE),
    **{
        f"{part}_{rows}_{classes}": Row(f"{what}, {rows:,} rows in {classes:,} classes", "CPU s", SHARE, target)
        for part, what, target in (
            ("herding", "herding of all rows / their SDS, one thread", "<= 3"),
            ("noise_model", "noise model / one product of rows and classes, 512 wide, one thread", "<= 20"),
        )
        for rows, classes in ((50_000, 10), (100_000, 100), (100_000, 1000))
    },
    "top_k": Row("the authors' loop, written out in numpy / `exact`, 50,000 scores", "CPU s", FASTER, ">= 1000"),
    "top_k_partition": Row("`exact` / one np.partition, 10 million scores", "CPU s", SHARE, "<= 5"),
    "top_k_equal": Row(
        "random, tied, constant, signed-zero and tiny scores: `exact` equal to a stable sort / all", "", SHARE, ">= 1"
    ),
    "sgd_iterations": Row(
        "iterations of `sgd` at 10,000, 100,000 and 1,000,000 rows: most / least", "", SHARE, "<= 1.05"
    ),
    "redundancy": Row(
        "greedy of `--redundancy_weight` and groups of copies / SDS with its neighbours, 10 classes of 5,000",
        "CPU s",
        SHARE,
        "<= 0.15",
    ),
    "training": Row(
        "encoding in each of 30 epochs, extrapolated / training on cached features", CLOCK, FASTER, ">= 20"
    ),
    "selection": Row(
        "30 such epochs and two scoring passes, extrapolated / the whole selection, its encoding pass included",
        CLOCK,
        FASTER,
        ">= 12",
    ),
    "selection_large": Row(
        "32 encoding passes / the whole selection, CLIP of ViT-B/32's size, both extrapolated (aim: 25)",
        CLOCK,
        FASTER,
        ">= 12",
    ),
    "results_decoded": Row("images decoded to join scores, select and write a subset", "", SHARE, "<= 0"),
    "results_memory": Row("memory that this takes / all images, as stored and decoded", "MB", SHARE, "<= 0.5"),
    "report_decoded": Row(
        "images decoded by a run that trains on cached features / its report's thumbnails", "", SHARE, "<= 1"
    ),
    **{
        name: Row(
            f"largest anonymous memory after encoding / (1.5 GB + 2 x largest class), adaptation {adaptation}",
            "GB",
            SHARE,
            "<= 1",
        )
        for name, adaptation in (("run_memory", "always"), ("run_memory_plain", "off"))
    },
    **{
        f"scaling_{stage}": Row(f"exponent of the cost of {stage}", "", SHARE, "<= 1.1")
        for stage in ("encoding", "training", "scoring", "selecting", "writing")
    },
    "scaling_sgd": Row("exponent of the cost of sgd", ""),
}


def markdown(figures: Mapping[str, Any]) -> str:
    """The tables of a run from what results.json holds; what could not be measured on the machine is left out."""
    measured = [cells(row) for row in figures["rows"].values() if "left_out" not in row]
    parts = ["## Measured\n", "Both sides and their ratio:\n", table(HEAD, *measured)]
    if stages := figures["stages"]:
        lines = ([stage, *map(number, values.values())] for stage, values in stages.items())
        parts += ["Stage by stage:\n", table(["stage", *next(iter(stages.values()))], *lines)]
    return "\n".join(parts)


def cells(result: Mapping[str, Any]) -> list[str]:
    """A line of the table from its figures."""
    if "left_out" in result:
        return [result["what"], result["left_out"], "", "", result["target"], ""]
    sides = [(result["ours"], result["unit"]), (result["other"], result["unit"]), (result["ratio"], "")]
    figures = ["" if value is None else f"{number(value)} {unit}".strip() for value, unit in sides]
    return [result["what"], *figures, result["target"], {True: "yes", False: "NO", None: ""}[result["met"]]]


def number(value: float) -> str:
    """Three digits that count."""
    return f"{float(f'{value:.3g}'):,g}"


def table(head: Sequence[str], *lines: Sequence[str]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *lines))
