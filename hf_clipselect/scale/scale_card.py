"""The README.md of a selection from shards: what was kept, what is approximate, and how to use the files."""

from collections.abc import Mapping
from typing import Any

import yaml

from ..hub.escape import code_span, escape_markdown, python_literal
from ..hub.merge import written_header
from ..runtime.hub_ids import hide_paths
from .uid_lists import list_path


_BEGIN = (
    "<!-- hf_clipselect:begin: hf_clipselect writes the text between these two marks anew at each push; the text "
    "outside is kept -->"
)
_CITATION = """\
## Citation

The method comes from [A CLIP-Powered Framework for Robust and Generalizable Data Selection](https://huggingface.co/papers/2410.11215).
"""
# Largest clusters that the card lists.
_LISTED = 10


def selection_card(summary: Mapping[str, Any], reference: Mapping[str, Any], *, repo_id: str | None = None) -> str:
    """YAML header and Markdown: the header names the configs `scores` and `masks` for `load_dataset`.

    Takes the summary that `write_quotas` gives, with the facts `shards`, `unreadable` and `lost`; the content of
    reference.json; and the repository, for the snippet.
    """
    header = {
        "tags": ["clip", "data-selection", "hf_clipselect"],
        "configs": [{"config_name": folder, "data_files": f"{folder}/**/*.parquet"} for folder in ("scores", "masks")],
    }
    head = f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n"
    parts = [
        _BEGIN,
        "# Selection of image-text pairs" if reference["has_captions"] else "# Selection of labelled images",
        _counts(summary),
        _approximations(summary, reference),
        _use(summary, repo_id or "path/to/this/folder"),
        _clusters(summary, "Cluster" if reference["has_captions"] else "Class"),
        _CITATION,
        f"<!-- hf_clipselect:end wrote {written_header(head)} -->",
    ]
    return head + "\n\n".join(part.strip() for part in parts) + "\n"


def _counts(summary: Mapping[str, Any]) -> str:
    objective, lost = summary["objective"], summary["lost"]
    redundancy = f", redundancy weight {objective['redundancy_weight']}" if objective["redundancy_weight"] else ""
    lines = [
        f"hf_clipselect scored {summary['rows']:,} rows of {summary['shards']:,} shards with CLIP and selected of "
        f"them by the objective {code_span(objective['name'])}{redundancy}. The images are not here: they stay in the "
        "shards.",
        "",
        "| Config | Rows kept | Share |",
        "|---|---:|---:|",
        *(
            f"| {code_span(config)} | {count:,} | {count / summary['rows']:.1%} |"
            for config, count in summary["kept"].items()
        ),
        "",
        f"- Rows that could not be read: {summary['unreadable']:,}. They have no scores.",
        "- Rows left out because of those with one uid in a cluster only the one of the highest margin, sas and sds "
        f"counts: {summary['duplicates']:,}.",
    ]
    if lost:
        shown = ", ".join(code_span(shard) for shard in lost[:20])
        more = f" and {len(lost) - 20:,} more" if len(lost) > 20 else ""
        lines += [f"- Shards that could not be scored, none of whose rows is kept: {len(lost):,} ({shown}{more})."]
    return "\n".join(lines)


def _approximations(summary: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    model = reference["model"]
    name = escape_markdown(hide_paths(model["name"]))
    revision = f" (revision {code_span(model['revision'])})" if model["revision"] else ""
    adapters = "plain CLIP" if reference["adapter_id"] is None else "adapters that were trained on the sample"
    kind = "clusters of images" if reference["has_captions"] else "classes"
    lines = [
        "## What is approximate",
        f"- The scores come from {name}{revision} by {adapters}, and from what a sample of "
        f"{reference['num_rows']:,} rows tells: {kind} and reference captions or class names are the sample's.",
        "- The diversity of a row is its mean distance to the nearest of a fixed sample of its cluster, and not of "
        "all rows of the cluster.",
        "- Given the scores, the selection is exact: every config has just as many rows as its size says, and the "
        "same ones however the rows lie in shards; of equal rows the lower uid goes first.",
    ]
    if summary["objective"]["redundancy_weight"]:
        lines += ["- Rows that are alike are found inside a cluster alone, from embeddings in half precision."]
    return "\n".join([lines[0], "", *lines[1:]])


def _use(summary: Mapping[str, Any], place: str) -> str:
    config, suffix = next(iter(summary["sizes"].items()))
    return f"""\
## Use

- {code_span(list_path(config))} and its neighbours: the uids that a config keeps, as DataComp's subset files,
  sorted pairs of uint64.
- {code_span("masks/")}: a Parquet file for each shard with the uid and the place of every row, and a column such as
  {code_span(f"selected_{suffix}")}.
- {code_span("scores/")}: a Parquet file for each shard with sas, margin, sds and cluster of every row.

```python
from datasets import load_dataset

masks = load_dataset({python_literal(place)}, "masks", split="train", streaming=True)
kept = masks.filter(lambda row: row["selected_{suffix}"])
```"""


def _clusters(summary: Mapping[str, Any], word: str) -> str:
    clusters = sorted(summary["clusters"].items(), key=lambda item: (-item[1]["rows"], int(item[0])))
    configs = list(summary["sizes"])
    lines = [
        f"## Largest of {len(clusters):,} {'classes' if word == 'Class' else 'clusters'}",
        "",
        f"| {word} | Rows | First in line | {' | '.join(f'Kept in {code_span(config)}' for config in configs)} |",
        "|---" + "|---:" * (2 + len(configs)) + "|",
    ]
    for number, facts in clusters[:_LISTED]:
        kept = " | ".join(f"{facts['kept'][config]:,}" for config in configs)
        lines.append(f"| {number} | {facts['rows']:,} | {facts['first']:,} | {kept} |")
    return "\n".join(lines)
