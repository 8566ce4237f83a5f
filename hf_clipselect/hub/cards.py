"""The README.md of a pushed subset and of pushed adapters, made from the report of the run.

The text stands in templates/dataset_card.md and templates/adapter_card.md, whose headers hold what is the same for every
run; the keys of the run are added here. Nothing unknown is filled in.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from huggingface_hub import CardData, DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData, RepoCard
from jinja2 import Environment, StrictUndefined

from ..errors import InputError
from . import wording
from .escape import Markdown, code_span, escape_markdown, python_literal
from .licenses import HUB_LICENSES
from .naming import EMBEDDED_PREFIX, check_repo_id, hide_paths, is_hub_id, plain_name


SCORES_CONFIG = "scores"


def dataset_card(
    report: dict[str, Any],
    *,
    data_files: dict[str, str],
    default_config: str,
    content_ids: dict[str, str] | None = None,
    repo_id: str | None = None,
) -> str:
    """The README.md of a folder of subsets, which `load_dataset` and the Hub read.

    Args:
        report (`dict`): The content of report.json.
        data_files (`dict[str, str]`):
            Name of each config and its Parquet files, a glob relative to the folder: `ratio_<percent>` for each subset
            of the report that is there, and `scores`. Each config has the one split `train`.
        default_config (`str`): The config that `load_dataset` gives without a name; one of the subsets.
        content_ids (`dict[str, str]`, *optional*):
            A text per config that changes with the content of its files. `load_dataset` caches a local folder under the
            folder's name and what its card says of a config, not under its files: without it, another folder of the
            same name, or a later run in the same one, would give the rows of the first that was loaded.
        repo_id (`str`, *optional*): Dataset repository on the Hub, for the snippets.

    Returns:
        `str`: YAML header and Markdown.

    Raises:
        InputError: A config is neither `scores` nor a subset of the report, `default_config` is no subset among
            `data_files`, or `repo_id` is not a Hub id.
    """
    if repo_id is not None:
        check_repo_id(repo_id)
    subsets = _subsets_of_configs(report, data_files, default_config)
    source, objective, default = report["source"], report["objective"], subsets[default_config]
    on_hub = is_hub_id(source["name"], revision=source["revision"])
    license_name = (source["license"] or "").strip()
    title = wording.title("Subsets of", source["name"], otherwise="Subsets chosen by CLIP")
    classes = wording.shown_classes(report["classes"], default["percent"])
    metadata = {
        "pretty_name": title,
        "license": license_name.lower() if license_name.lower() in HUB_LICENSES else None,
        "size_categories": [wording.size_category(default["rows"])],
        "source_datasets": [source["name"]] if on_hub else None,
        "configs": _configs(data_files, default_config, content_ids or {}),
    }
    context = _common_context(report) | {
        "title": title,
        "location": repo_id or "path/to/subset",
        "source_is_on_hub": on_hub,
        "license_text": license_name if license_name.lower() != "unknown" else "",
        "diversity_counts": objective["diversity_weight"] != 0,
        "configs": list(data_files),
        "default_config": default_config,
        "subsets": subsets,
        "score_columns": wording.list_in_code(f"selection_score_{subset['percent']}" for subset in subsets.values()),
        "selected_columns": wording.list_in_code(f"selected_{subset['percent']}" for subset in subsets.values()),
        "objective": wording.list_in_code(f"{knob}: {value}" for knob, value in objective.items()),
        "classes": classes,
        "hidden_classes": len(classes) < len(report["classes"]),
        "classes_without_images": wording.shorten(report["classes_without_images"]),
        "quantile_names": wording.quantile_names(report["score_quantiles"]),
        "score_quantiles": [(name, list(values.values())) for name, values in report["score_quantiles"].items()],
        "class_balance": wording.class_balance_text(objective["class_balance"]),
        "warnings": hide_paths(report["warnings"]),
    }
    return _render("dataset_card.md", DatasetCard, DatasetCardData, metadata, context)


def adapter_card(report: dict[str, Any], *, repo_id: str | None = None) -> str:
    """The README.md of a folder of adapters.

    Args:
        report (`dict`): The content of report.json of a run that kept its adapters.
        repo_id (`str`, *optional*): Model repository on the Hub, for the snippets.

    Returns:
        `str`: YAML header and Markdown.

    Raises:
        InputError: The run kept plain CLIP, or `repo_id` is not a Hub id.
    """
    if not report["adaptation"]["kept"]:
        raise InputError(
            "This run kept plain CLIP, so there are no adapters to describe; --adaptation always keeps them."
        )
    if repo_id is not None:
        check_repo_id(repo_id)
    source, model = report["source"], report["model"]
    base_on_hub = is_hub_id(model["name"], revision=model["revision"])
    base_is_embedded = model["name"].startswith(EMBEDDED_PREFIX)
    title = wording.title("CLIP adapters for", source["name"], otherwise="CLIP adapters")
    metadata: dict[str, Any] = {}
    if base_on_hub:
        metadata |= {"base_model": model["name"], "base_model_relation": "adapter"}
    if is_hub_id(source["name"], revision=source["revision"]):
        metadata |= {"datasets": [source["name"]]} | _measured(report, model_name=plain_name(repo_id or "") or title)
    context = _common_context(report) | {
        "title": title,
        "location": repo_id or "path/to/adapter",
        "base_code": wording.model_code(model),
        "base_is_embedded": base_is_embedded,
        "base_is_local": not base_on_hub and not base_is_embedded,
        "example_prompts": wording.example_prompts(report),
        "held_out": report["adaptation"]["held_out_agreement_adapted"] is not None,
        "accuracy_before": report["accuracy_before"],
        "accuracy_after": report["accuracy_after"],
    }
    return _render("adapter_card.md", ModelCard, ModelCardData, metadata, context)


def _subsets_of_configs(
    report: Mapping[str, Any], data_files: Mapping[str, str], default_config: str
) -> dict[str, Mapping[str, Any]]:
    known = {f"ratio_{subset['percent']}": subset for subset in report["subsets"]}
    if unknown := [config for config in data_files if config not in known and config != SCORES_CONFIG]:
        raise InputError(
            f"data_files names {', '.join(unknown)}, of which the report knows nothing; its configs are "
            f"{', '.join([*known, SCORES_CONFIG])}."
        )
    subsets = {config: known[config] for config in data_files if config in known}
    if default_config not in subsets:
        raise InputError(
            f"default_config {default_config!r} is no subset among data_files; choose one of {', '.join(subsets)}."
        )
    return subsets


def _configs(
    data_files: Mapping[str, str], default_config: str, content_ids: Mapping[str, str]
) -> list[dict[str, Any]]:
    configs = []
    for config, path in data_files.items():
        entry = {"config_name": config, "data_files": [{"split": "train", "path": path}]}
        if config in content_ids:
            entry["description"] = content_ids[config]
        configs.append(entry | {"default": True} if config == default_config else entry)
    return configs


def _measured(report: Mapping[str, Any], *, model_name: str) -> dict[str, Any]:
    """The keys behind `model-index`, which has no place for a dataset that is not on the Hub."""
    source, agreement = report["source"], report["adaptation"]["held_out_agreement_adapted"]
    if agreement is None:
        return {}
    result = EvalResult(
        task_type="zero-shot-image-classification",
        dataset_type=source["name"],
        dataset_name=source["name"],
        dataset_config=source["config_name"],
        dataset_split=source["split"],
        dataset_revision=source["revision"],
        metric_type="accuracy",
        metric_name="agreement with the given labels on held-out rows",
        metric_value=round(agreement, 4),
    )
    return {"metrics": ["accuracy"], "model_name": model_name, "eval_results": [result]}


def _common_context(report: Mapping[str, Any]) -> dict[str, Any]:
    adaptation = report["adaptation"]
    return {
        "source": report["source"],
        "source_text": wording.source_text(report["source"]),
        "model": report["model"],
        "model_text": wording.model_text(report["model"]),
        "prompts": wording.list_in_code(report["model"]["prompt_template"]),
        "adaptation": adaptation | {"reason": hide_paths(adaptation["reason"])},
        "seed": report["seed"],
        "versions": wording.list_in_code(f"{name} {version}" for name, version in report["versions"].items()),
        "arguments": wording.arguments_block(report["arguments"]),
        "num_rows": report["num_rows"],
        "num_readable": report["num_rows"] - report["num_unreadable"],
        "num_unreadable": report["num_unreadable"],
        "num_classes": len(report["classes"]),
    }


def _render(
    template_name: str,
    card_class: type[RepoCard],
    data_class: type[CardData],
    metadata: Mapping[str, Any],
    context: Mapping[str, Any],
) -> str:
    template = card_class((files("hf_clipselect") / "templates" / template_name).read_text(encoding="utf-8"))
    known = {key: value for key, value in metadata.items() if value is not None}
    header = data_class(**template.data.to_dict(), **known).to_yaml()
    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Escaping is what happens unless a value is marked as Markdown, so that no place in a template can forget it.
        finalize=lambda value: value if isinstance(value, Markdown) else escape_markdown(value),
    )
    environment.filters |= {
        "code": code_span,
        "literal": python_literal,
        "count": wording.count,
        "number": wording.number,
        "percent": wording.percent,
    }
    return f"---\n{header}\n---\n{environment.from_string(template.text).render(context)}"
