"""Pieces of a report in the words of a card.

What comes back as [`Markdown`] is escaped already; plain strings are escaped when a template prints them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..data.prompts import PLACEHOLDER, clean_class_name
from ..runtime.hub_ids import EMBEDDED_PREFIX, is_hub_id, is_local_path, plain_name
from .escape import Markdown, code_span, escape_markdown, one_line, python_literal
from .noise_words import auto_keeps_all, confused_pairs, look_wrong


_MAX_CLASSES = 100
_CLASSES_AT_EACH_END = 10
_MAX_NAMES = 20
_MAX_PAIRS = 5
_EXAMPLE_CLASSES = 3
_EXAMPLE_TEXTS = ("a photo of a dog", "a photo of a cat")
_UNKNOWN = Markdown("n/a")
_QUANTILE_NAMES = {"0": "lowest", "0.5": "median", "1": "highest"}
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_CLASS_BALANCE = {
    "none": "Nothing balances the {several}: one that CLIP recognises badly may lose most of its rows.",
    "proportional": "Every {one} keeps about the same share of its rows, however good or bad its {labels} are.",
    "uniform": "The {several} are evened out, so their shares differ from those of the source.",
}
# Columns that the scores of some runs have, with what they hold.
_FURTHER_COLUMNS = {
    "row_id": ("string", "what the column `id_column` of the source holds, by which the row is known in any order"),
    "group": ("string", "category of the row, from the column `group_column` of the source"),
    "label_error_probability": (
        "float32",
        "probability that the given label is wrong, in [0, 1], by a noise model of CLIP and of a regression without "
        "the row's fold; lower is better",
    ),
    "clean_label": ("class label", "class that is most probably the true one by the same model; may be the given one"),
    "class_rank": ("int64", "place of the row in the order in which rows of its class are kept; 0 comes first"),
    "ensemble": (
        "float32",
        "sum of two log probabilities of the label, of CLIP and of a regression without the row's fold",
    ),
    "leak_of": (
        "int64",
        "row of the reference, such as the test split, that the image is a copy of by its embedding; -1 for none",
    ),
    "quality_issues": (
        "string",
        "what cleanvision finds wrong with the image, such as `blurry, dark`; empty for nothing",
    ),
    "must_keep": ("bool", "whether every subset had to keep the row"),
    "must_drop": ("bool", "whether no subset was to keep the row"),
    "given_label": ("class label", "the label given in the source, whatever people decided"),
    "decision": (
        "string",
        "what a person decided about the row: `keep` its label, `relabel` it, `drop` it, `unsure`, or empty",
    ),
}


def title(prefix: str, name: str, *, otherwise: str) -> str:
    """A heading that names a dataset, or `otherwise` for one without a name."""
    name = one_line(plain_name(name))
    return f"{prefix} {name}" if name else otherwise


def source_text(source: Mapping[str, Any]) -> Markdown:
    """The source dataset, to stand in a sentence."""
    if not source["name"]:
        return Markdown("an unnamed dataset that was passed in memory")
    return _place(source, url="https://huggingface.co/datasets", kind="dataset", folder="a local folder")


def model_text(model: Mapping[str, Any]) -> Markdown:
    """The CLIP model, to stand in a sentence."""
    in_memory = model.get("in_memory", False)
    if not model["name"]:
        passed = "that was passed in memory" if in_memory else "whose embeddings were passed in"
        return Markdown(f"an unnamed model {passed}")
    text = _place(model, url="https://huggingface.co", kind="model", folder="a model in a local folder")
    # Its weights may be others by now: what it says is no claim of ours.
    return Markdown(f"a model that was passed in memory, by its own account {text}") if in_memory else text


def weights_text(model: Mapping[str, Any]) -> Markdown:
    """What else there is to say of the weights, to stand behind the model and its revision; mostly nothing."""
    parts = []
    if revision := model.get("weights_revision"):
        parts.append(f"weights from its conversion to safetensors by SFconvertbot, revision {code_span(revision)}")
    for name, sha256 in model.get("weights_files", {}).items():
        parts.append(f"weights file {code_span(name)} with sha256 {code_span(sha256)}")
    if model["weights_sha256"]:
        parts.append(f"weights sha256 {code_span(model['weights_sha256'])}")
    if precision := model.get("precision"):
        parts.append(f"run in {code_span(precision)}")
    return Markdown("".join(f", {part}" for part in parts))


def model_code(model: Mapping[str, Any]) -> Markdown | None:
    """The arguments of `from_pretrained` that load the base model; None if there is none, but embeddings."""
    name = model["name"]
    if not name:
        return python_literal("path/to/model") if model.get("in_memory") else None
    if name.startswith(EMBEDDED_PREFIX):
        return Markdown("tiny_clip_path()")
    if not is_hub_id(name, revision=model["revision"]):
        return python_literal(f"path/to/{plain_name(name)}")
    revision = f", revision={python_literal(model['revision'])}" if model["revision"] else ""
    return Markdown(python_literal(name) + revision)


def example_prompts(report: Mapping[str, Any]) -> Markdown:
    """Prompts of a few classes as Python literals; where there are captions, texts that nobody owns."""
    texts: Iterable[str] = _EXAMPLE_TEXTS
    if not report["captions"]:
        template, classes = report["model"]["prompt_template"][0], report["classes"][:_EXAMPLE_CLASSES]
        texts = (template.replace(PLACEHOLDER, clean_class_name(entry["name"])) for entry in classes)
    return Markdown(", ".join(map(python_literal, texts)))


def adapter_text(name: str, revision: str | None, *, on_hub: bool) -> Markdown:
    """Adapters, to stand in a sentence: a repository and its commit, or the name of a folder."""
    if not on_hub:
        return Markdown(f"the folder {escape_markdown(plain_name(name))}")
    commit = f", revision {code_span(revision)}" if revision else ""
    return Markdown(f"[{escape_markdown(name)}](https://huggingface.co/{name}){commit}")


def license_text(source: Mapping[str, Any]) -> str:
    """The license that the source states; empty where it states none."""
    stated = (source["license"] or "").strip()
    return "" if stated.lower() == "unknown" else stated


def list_in_code(items: Iterable[object]) -> Markdown:
    """Items in code letters, separated by commas."""
    return Markdown(", ".join(map(code_span, items)))


def first_names(names: Sequence[str]) -> Markdown:
    """The first names of a list, escaped, and how many more there are."""
    more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
    return Markdown(", ".join(map(escape_markdown, names[:_MAX_NAMES])) + more)


def shown_classes(classes: Sequence[Mapping[str, Any]], suffix: str) -> list[Mapping[str, Any]]:
    """The rows of the class table: all classes, or the extremes by share kept when they are too many."""
    if len(classes) <= _MAX_CLASSES:
        return list(classes)
    by_share = sorted((c for c in classes if c["rows"]), key=lambda c: c["kept"][suffix] / c["rows"])
    at_the_end = max(len(by_share) - _CLASSES_AT_EACH_END, _CLASSES_AT_EACH_END)
    return by_share[:_CLASSES_AT_EACH_END] + by_share[at_the_end:]


def quantile_names(quantiles: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Headings for the quantiles that the scores have."""
    fractions = next(iter(quantiles.values()), {})
    return [_QUANTILE_NAMES.get(fraction, f"{float(fraction):.0%}") for fraction in fractions]


def cell_words(report: Mapping[str, Any]) -> tuple[str, str]:
    """What diversity is measured within, one and several."""
    return ("cluster", "clusters") if report["captions"] else ("class", "classes")


def balance_text(report: Mapping[str, Any]) -> str:
    """What the quotas do to the shares of the classes, clusters or groups."""
    objective = report["objective"]
    one, several = ("group", "groups") if objective["balance_by"] == "group" else cell_words(report)
    what = "captions" if report["captions"] else "labels"
    text = _CLASS_BALANCE[objective["class_balance"]].format(one=one, several=several, labels=what)
    if objective["class_quotas"]:
        text += f" The number of rows of {len(objective['class_quotas'])} of them was given."
    auto = [subset["name"] for subset in report["subsets"] if subset["auto_ratio"] is not None]
    if auto and objective["class_balance"] == "proportional":
        text += f" In {auto[0]} its share is about that of its labels that look right, and at least a tenth."
    return text


def criterion_text(report: Mapping[str, Any]) -> str:
    """What was found out of each row, as a sentence without its full stop."""
    objective, what = report["objective"], "caption" if report["captions"] else "label"
    text = f"CLIP scored how well each image fits its {what}"
    if objective["herding"] or objective["alignment"] == "noise_model":
        text = "CLIP and a regression on its embeddings told how probably each label is wrong"
    if objective["diversity_weight"] != 0 or objective["spread"]:
        text += f" and how much it differs from the rest of its {cell_words(report)[0]}"
    return text


def order_text(report: Mapping[str, Any]) -> str:
    """Which rows the objective keeps, as a sentence without its full stop."""
    objective, what = report["objective"], "caption" if report["captions"] else "label"
    like_kept = objective["redundancy_weight"] != 0
    if objective["herding"] and not objective["gate"]:
        last = "whose labels may be wrong" + (" or that are like a kept row" if like_kept else "")
        follow = "Rows of each class were kept so that their mean follows that of its rows with safe labels (herding)"
        return f"{follow}, those {last} last"
    text = "The rows with the highest scores were kept"
    if objective["spread"] or objective["gate"]:
        how = "those with the highest scores before the others"
        if objective["herding"]:
            how = "so that their mean follows that of the rows of their class with safe labels (herding)"
        elif objective["spread"]:
            how = f"spread evenly over easy and hard ones of each {cell_words(report)[0]}"
        text = f"Rows whose {what} CLIP agrees with were kept first, {how}"
    return text + (", and what is like a kept row last" if like_kept else "")


def noise_text(report: Mapping[str, Any]) -> str | None:
    """How many labels look wrong, and which are confused, as sentences; None where there is no noise model."""
    noise = report["noise"]
    if noise is None:
        return None
    clause, pairs = look_wrong(noise), confused_pairs(noise, limit=_MAX_PAIRS)
    text = f"{clause[0].upper()}{clause[1:]}."
    return f"{text} Most often: {pairs}." if pairs else text


def review_texts(report: Mapping[str, Any]) -> list[str]:
    """What people decided, and which rows leak or look damaged, as sentences; empty where nobody looked."""
    texts = []
    if decisions := report.get("decisions"):
        texts += [
            f"People looked at {_rows(sum(decisions.values()))}: labels kept {decisions['keep']:,}, labels replaced "
            f"{decisions['relabel']:,}, rows dropped {decisions['drop']:,}, undecided {decisions['unsure']:,}."
        ]
    if (leaks := report.get("leaks")) and leaks["rows"]:
        texts += [f"Copies of rows of {leaks['reference']}: {_rows(leaks['rows'])}, {_fate(leaks)}."]
    elif leaks:
        texts += [f"No row is a copy of a row of {leaks['reference']}."]
    if quality := report.get("quality"):
        kinds = ", ".join(f"{kind} {rows:,}" for kind, rows in quality["issues"].items() if rows)
        fate = f" ({kinds}), {_fate(quality)}" if quality["rows"] else ""
        texts += [f"Images that look damaged, such as blurred or dark ones: {_rows(quality['rows'])}{fate}."]
    return texts


def _rows(number: int) -> str:
    return f"{number:,} {'row' if number == 1 else 'rows'}"


def _fate(found: Mapping[str, Any]) -> str:
    return "which no subset keeps" if found["dropped"] else "which subsets may keep"


def auto_text(report: Mapping[str, Any], subset: Mapping[str, Any]) -> str | None:
    """What a subset of the size "auto" is, as a sentence behind its name; None for another size, or
    where the scores lack the estimate.
    """
    noise = report["noise"]
    if subset["auto_ratio"] is None or noise is None:
        return None
    num_readable, bounds = report["num_rows"] - report["num_unreadable"], ""
    if abs(subset["rows"] - (1 - noise["estimated_share"]) * num_readable) >= 1:
        bounds = ", as far as the other settings and a tenth of each class allow"
    text = (
        f"keeps as many rows as have a right label by this estimate{bounds}: {subset['auto_ratio']:.4f} of those that "
        "could be read"
    )
    keeps_all = auto_keeps_all(noise, subset)
    return f"{text}. It {keeps_all}" if keeps_all else text


def size_argument(subset: Mapping[str, Any]) -> Markdown:
    """The argument of `load_pruned` that gives a subset of the report: `ratio=0.3`, `ratio="auto"` or `count=500`."""
    if subset["count"] is not None:
        return Markdown(f"count={subset['count']}")
    return Markdown(f"ratio={subset['ratio']}" if subset["auto_ratio"] is None else 'ratio="auto"')


def further_columns(names: Iterable[str]) -> list[tuple[str, str, Markdown]]:
    """Name, type and meaning of those columns of the scores that not every run writes."""
    there = set(names)
    return [(name, kind, Markdown(text)) for name, (kind, text) in _FURTHER_COLUMNS.items() if name in there]


def size_category(num_rows: int) -> str:
    """The size bucket of the Hub: 1,297 rows give `1K<n<10K`."""
    reached = sum(num_rows >= 10**exponent for exponent in range(3, 13))
    if reached == 0:
        return f"n<{_SIZES[0]}"
    return f"{_SIZES[reached - 1]}<n<{_SIZES[reached]}" if reached < len(_SIZES) else f"n>{_SIZES[-1]}"


def count(number: int) -> Markdown:
    """A number of rows, with commas."""
    return Markdown(f"{number:,}")


def number(value: float | None) -> Markdown:
    """A score, with four decimals."""
    return _UNKNOWN if value is None else Markdown(f"{value:.4f}")


def percent(value: float | None) -> Markdown:
    """A fraction as percentage."""
    return _UNKNOWN if value is None else Markdown(f"{value:.1%}")


def _place(named: Mapping[str, Any], *, url: str, kind: str, folder: str) -> Markdown:
    name = named["name"]
    if name.startswith(EMBEDDED_PREFIX):
        return Markdown(f"{code_span(name)} (part of hf_clipselect)")
    if is_hub_id(name, revision=named["revision"]):
        return Markdown(f"[{escape_markdown(name)}]({url}/{name})")
    return Markdown(f"{folder if is_local_path(name) else f'a {kind}'} named {escape_markdown(plain_name(name))}")
