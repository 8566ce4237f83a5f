"""The README.md of a trained classifier: what it learned, how, and what it was measured to do."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ...data.source import DatasetSource
from ...hub.escape import code_span
from ...runtime.hub_ids import EMBEDDED_PREFIX, is_hub_id
from .worth_table import comparison_table


_NAMES = {"accuracy": ("accuracy", "Accuracy"), "top_5_accuracy": ("accuracy", "Top-5 accuracy")}

_TEXT = """\
An image classifier, trained with `recipes/train_classifier.py` of hf_clipselect.

## Use
{needs}
```python
from transformers import pipeline

classify = pipeline("image-classification", model="path/to/this/folder"{trust})
classify("image.png")
```

## Measured

| set | rows | classes | accuracy | top-5 accuracy |
|---|---|---|---|---|
{table}
{comparison}
## Training

- Rows: {rows} of {source}
- Network: {network}, {parameters:,} parameters, images of {image_size} x {image_size} pixels
- Augmentation: {augmentation}
- Schedule: {schedule}
- Seed: {seed}
- Versions: {versions}
"""

_COMPARISON = """
## Compared

The same training on other rows of the dataset that was selected from:

{table}"""


def dataset_words(source: DatasetSource) -> str:
    """The dataset in words; of a local folder its last name alone, which says nothing about the machine."""
    name = Path(source.name).name if Path(source.name).is_absolute() else source.name or "a dataset in memory"
    details = [("config", source.config_name), ("split", source.split), ("revision", source.revision)]
    return code_span(name) + "".join(f", {what} {code_span(value)}" for what, value in details if value)


def classifier_card(
    results: dict[str, Any],
    sources: list[DatasetSource],
    *,
    model_name: str,
    selected_from: DatasetSource | None = None,
) -> str:
    """Write the card.

    Args:
        results (`dict`): The content of results.json.
        sources (`list[DatasetSource]`): Where the training rows, then the sets in the order of the results, came from.
        model_name (`str`): Name in the index of results.
        selected_from (`DatasetSource`, *optional*): What the training rows were selected from.

    Returns:
        `str`: YAML header and Markdown. The index of results holds those on sets that the Hub or the package has.
    """
    train, *tested = sources
    ratio = results["train"]["selection_ratio"]
    measured = list(zip(results["eval"].items(), tested, strict=True))
    known = [*sources, selected_from] if selected_from else sources
    on_hub = [source.name for source in known if is_hub_id(source.name, revision=source.revision)]
    base = results["model"]["pretrained"]
    entries = [
        EvalResult(
            task_type="image-classification",
            dataset_type=source.name,
            dataset_name=source.name,
            dataset_config=source.config_name,
            dataset_split=source.split,
            dataset_revision=source.revision,
            metric_type=_NAMES[metric][0],
            metric_name=_NAMES[metric][1],
            metric_value=figures[metric],
        )
        for (_, figures), source in measured
        if source.name in on_hub or source.name.startswith(EMBEDDED_PREFIX)
        for metric in _NAMES
        if metric in figures
    ]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=["image-classification", "hf_clipselect"],
        datasets=sorted(set(on_hub)) or None,
        base_model=base if base and is_hub_id(base) else None,
        model_name=model_name if entries else None,
        eval_results=entries or None,
    )
    rows = [
        f"| {dataset_words(source)} | {figures['num_rows']:,} | {figures['num_classes']:,} | "
        f"{figures['accuracy']:.2%} | "
        + (f"{figures['top_5_accuracy']:.2%} |" if "top_5_accuracy" in figures else "|")
        for (_, figures), source in measured
    ]
    text = _TEXT.format(
        needs="\nThe network is timm's: `pip install timm`.\n" if results["model"]["needs_timm"] else "",
        trust=", trust_remote_code=True" if results["model"]["needs_its_code"] else "",
        table="\n".join(rows) if rows else "| not yet | | | | |",
        comparison=_COMPARISON.format(table=comparison_table(results["comparison"]))
        if "comparison" in results
        else "",
        rows=f"{results['train']['num_rows']:,}",
        source=dataset_words(train)
        + (f", selection ratio {ratio:g}" if ratio is not None else "")
        + (f", selected from {dataset_words(selected_from)}" if selected_from else ""),
        network=code_span(results["model"]["architecture"])
        + (f" from {code_span(base if is_hub_id(base) else Path(base).name)}" if base else " with random weights"),
        parameters=results["model"]["num_parameters"],
        image_size=results["model"]["image_size"],
        augmentation=results["train"]["augmentation"],
        schedule=results["train"]["schedule"],
        seed=results["train"]["seed"],
        versions=", ".join(f"{name} {version}" for name, version in results["versions"].items()),
    )
    return f"---\n{data.to_yaml()}\n---\n\n# {model_name}\n\n{text}"
