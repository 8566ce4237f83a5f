"""The rows of the benchmark: what each compares, its target, and those that stand in the README in plain words."""

from dataclasses import dataclass


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


EARLIER_COMMIT = "d51eaaf"
FASTER, SHARE = "other / ours", "ours / other"
CLOCK, CLOCK_MS = "CPU s, or s with a GPU", "CPU ms, or ms with a GPU"
TABLE = {
    "tower": Row(
        "a bare float32 torch loop / the image tower with precision auto, ViT-B/32's size, an image",
        CLOCK_MS,
        FASTER,
        ">= 2.5",
    ),
    "tower_bfloat16": Row(
        "a bare float32 torch loop / the image tower in bfloat16, ViT-B/32's size, an image",
        CLOCK_MS,
        FASTER,
    ),
    "tower_float32": Row(
        "a bare float32 torch loop / the image tower in float32, ViT-B/32's size, an image",
        CLOCK_MS,
        FASTER,
    ),
    "captions": Row(
        "captions with a long one among them / without it, text tower of ViT-B/32's size, a caption",
        CLOCK_MS,
        SHARE,
        "<= 1.2",
    ),
    "jpeg": Row("JPEG of 1,000 x 1,000 to pixels / decoded in full and resized, an image", "CPU ms", SHARE, "<= 0.4"),
    "pixels_32": Row("preprocessing of 32 x 32, tiny CLIP / by its image processor, an image", "CPU ms", SHARE),
    "pixels_500": Row("preprocessing of 500 x 400, CLIP / by its image processor, an image", "CPU ms", SHARE),
    "encode": Row(
        "encoding / (decoding and preprocessing alone + the model alone), all on all cores", "CPU s", SHARE, "<= 1.1"
    ),
    "encode_gpu": Row("encoding / the slower of decoding alone and model alone", "images/s", SHARE, ">= 0.9"),
    "matmul_rate": Row("encoding's model FLOP/s / rate of a large bf16 matrix product", "TFLOP/s", SHARE),
    "sds_products": Row(
        "SDS of a class of 5,000 x 512 / its matrix products alone, one thread", "CPU s", SHARE, "<= 1.5"
    ),
    "sds_sklearn": Row(
        "scikit-learn's NearestNeighbors, which the authors use / SDS, 5,000 x 512", "CPU s", FASTER, ">= 3"
    ),
    "sds_sklearn_large": Row("scikit-learn at 50,000 x 512, both from 1,024 rows", "CPU s", FASTER, ">= 4"),
    "sds_faiss": Row("faiss-cpu's IndexFlatIP / SDS, 5,000 x 512", "CPU s", FASTER),
    "sds_faiss_large": Row("faiss-cpu at 50,000 x 512, both from 1,024 rows", "CPU s", FASTER),
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
    "embeddings_1000": Row(
        "select_embeddings, diverse, without adapters, 100,000 x 512 in 1,000 classes / its two matrix products alone",
        "CPU s",
        SHARE,
        "<= 3",
    ),
    "embeddings_robust": Row("the same with robust / with diverse", "CPU s", SHARE),
    "embeddings_auto": Row("the same with robust and selection_ratio auto / with robust at 0.3", "CPU s", SHARE),
    "embeddings_10000": Row(
        "select_embeddings, diverse, without adapters, 100,000 x 512 in 10,000 classes / its two matrix products "
        "alone",
        "CPU s",
        SHARE,
    ),
    "adapters": Row(
        f"adapters, trial and final, 50,000 rows, tiny CLIP / the same at commit {EARLIER_COMMIT}",
        "CPU s",
        SHARE,
        "<= 0.1",
    ),
    "training": Row(
        "encoding in each of 30 epochs, extrapolated / adapters on cached features, trial and final",
        CLOCK,
        FASTER,
        ">= 20",
    ),
    "selection": Row(
        "30 such epochs and two scoring passes, extrapolated / the whole selection, its encoding pass included",
        CLOCK,
        FASTER,
        ">= 12",
    ),
    "selection_large": Row(
        "32 encoding passes / the whole selection, CLIP of ViT-B/32's size, encoding extrapolated (aim: 25)",
        CLOCK,
        FASTER,
        ">= 12",
    ),
    "overhead": Row("all of this selection but encoding / the whole", CLOCK, SHARE, "<= 0.1"),
    "adapters_part": Row("adapters of this selection, trial and final / the whole", CLOCK, SHARE, "<= 0.01"),
    "processes_cpu": Row("two processes / one, 50,000 rows, tiny CLIP, start-up apart", "CPU s", SHARE, "<= 1.3"),
    "processes_wall": Row("the same by the clock on the wall", "s", SHARE, "<= 1"),
    "cleanlab_issues": Row(
        "out-of-fold probabilities and cleanlab's find_label_issues / select_embeddings, robust, 50,000 x 512",
        "CPU s",
        FASTER,
    ),
    "cleanlab_datalab": Row("the same with cleanlab's Datalab", "CPU s", FASTER),
    "cleanlab_memory": Row("memory that Datalab takes / that select_embeddings takes", "MB", FASTER),
    "apricot": Row("apricot's facility location / select_embeddings, diverse, 5,000 x 512", "CPU s", FASTER),
    "results_decoded": Row(
        "images decoded to join scores, select and write a subset / its card's picture", "", SHARE, "<= 1"
    ),
    "results_memory": Row("memory that this takes / all images, as stored and decoded", "MB", SHARE, "<= 0.5"),
    "report_decoded": Row(
        "images decoded by a run that trains on cached features / its report's and card's pictures", "", SHARE, "<= 1"
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

# Of some rows: the work, and what the other side is, for someone who has not read the code.
IN_SHORT = {
    "tower_bfloat16": ("an image through a model of ViT-B/32's size, bfloat16", "a plain torch loop in float32"),
    "tower_float32": ("an image through a model of ViT-B/32's size, float32", "a plain torch loop in float32"),
    "jpeg": ("a photograph of 1,000 x 1,000 read and resized", "its full decoding, and the image processor"),
    "encode": ("reading and encoding 8,192 small images, tiny CLIP", "reading alone and the model alone"),
    "training": ("adapters for 50,000 small images", "encoding the images in each epoch"),
    "selection_large": (
        "a whole selection from 50,000 images, ViT-B/32's size",
        "encoding in each epoch, as the paper's code does",
    ),
    "overhead": ("all of this selection but the encoding", "the whole selection"),
    "processes_wall": ("two processes, 50,000 small images, in seconds that pass", "one process"),
    "sds_sklearn_large": ("diversity of a class of 50,000 embeddings", "scikit-learn"),
    "cleanlab_issues": (
        "wrong labels and a selection, 50,000 embeddings, without adapters",
        "cleanlab and its out-of-fold probabilities: wrong labels alone",
    ),
}
