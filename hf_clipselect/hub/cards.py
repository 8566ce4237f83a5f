"""The README.md of a pushed subset and of pushed adapters, made from the report of the run.

The text stands in templates/dataset_card.md and templates/adapter_card.md, whose headers hold what is the same for
every run; the keys of the run are added here. Nothing unknown is filled in.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import CardData, DatasetCardData, EvalResult, ModelCardData, RepoCard
from huggingface_hub.repocard import metadata_load
from jinja2 import Environment, StrictUndefined, Template

from ..errors import InputError
from ..runtime.hub_ids import EMBEDDED_PREFIX, check_repo_id, hide_paths, is_hub_id, plain_name
from . import command_words, wording
from .config_entries import SCORES_CONFIG, columns_of, config_entries, config_infos, configs_in
from .escape import Markdown, code_span, escape_markdown, python_literal
from .merge import AGREEMENT_METRIC, read_card, written_header


# A picture of some rows of the first subset, in the folder of subsets.
PREVIEW = "clipselect_preview.jpg"
# The one method that peft does not know by itself; it is told apart by name, since importing it would import peft.
_OUR_METHOD = "MLP_ADAPTER"


def subset_card(
    report: Mapping[str, Any],
    folder: Path,
    *,
    repo_id: str | None = None,
    adapter_id: str | None = None,
    adapter_revision: str | None = None,
    license_is_known: bool = True,
) -> str:
    """The README.md of a folder of subsets and scores, which `load_dataset` and the Hub read: YAML header, Markdown.

    Each subset of the report (the content of report.json) that is in the folder, as `ratio_<percent>/` or `count_<n>/`
    with `train-*.parquet`, becomes a config, then `scores/`; the first one is the default. A folder without subsets is
    one of scores alone.

    `repo_id` is the dataset repository, for the snippets; `adapter_id` and `adapter_revision` are the model repository
    and commit of the adapters behind the scores, by default those that the run was given. With `license_is_known` a
    license that looks like an id of the Hub is taken for one. The picture [`PREVIEW`] is shown where the folder holds
    it beside a subset. Raises `InputError` where the folder holds
    neither scores nor a subset of the report, or an id is not a Hub id.
    """
    for given in (repo_id, adapter_id):
        if given is not None:
            check_repo_id(given)
    configs = configs_in(folder, report)
    has_images = configs != [SCORES_CONFIG]
    score_columns = columns_of(folder, SCORES_CONFIG) if SCORES_CONFIG in configs else []
    # Scores tell of every subset of the run, whose rows they mark.
    subsets = {name: subset for name, subset in _subsets(report).items() if name in configs or not has_images}
    first, source = next(iter(subsets)), report["source"]
    on_hub = is_hub_id(source["name"], revision=source["revision"])
    stated = stated_license(report)
    prefix, otherwise = ("Subsets of", "Subsets chosen by CLIP") if has_images else ("CLIP scores of", "CLIP scores")
    title = wording.title(prefix, source["name"], otherwise=otherwise)
    metadata = {
        "pretty_name": title,
        "task_categories": ["image-to-text"] if report["captions"] else None,
        **_license_keys(stated.lower(), is_known=license_is_known),
        "size_categories": [wording.size_category(subsets[first]["rows"] if has_images else report["num_rows"])],
        "source_datasets": [source["name"]] if on_hub else None,
        "configs": config_entries(folder, configs),
        "dataset_info": config_infos(folder, configs) or None,
    }
    context = _common_context(report) | _tables(report, subsets)
    context |= {
        "title": title,
        "location": repo_id or "path/to/subset",
        "on_hub": repo_id is not None,
        "has_images": has_images,
        "source_is_on_hub": on_hub,
        "source_can_be_loaded": on_hub or source["name"].startswith(EMBEDDED_PREFIX),
        "license_given": report["arguments"].get("license"),
        "license_text": wording.license_text(source),
        "preview": Markdown(PREVIEW) if has_images and (folder / PREVIEW).is_file() else None,
        "configs": configs,
        "further_columns": wording.further_columns(score_columns),
    }
    if adapter_id is not None:
        context["adapter_text"] = wording.adapter_text(adapter_id, adapter_revision, on_hub=True)
    return _render("dataset_card.md", DatasetCardData, metadata, context)


def adapter_card(report: Mapping[str, Any], *, repo_id: str | None = None) -> str:
    """The README.md of a folder of adapters; `repo_id` is for the snippets.

    Raises `InputError` where the run kept plain CLIP, or `repo_id` is not a Hub id.
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
    needs_us = report["adaptation"]["method"] == _OUR_METHOD
    base_is_of_transformers = "format" not in model
    # The Hub shows a snippet for a library, and that of peft imports nothing but peft and transformers.
    metadata: dict[str, Any] = {} if needs_us or not base_is_of_transformers else {"library_name": "peft"}
    if base_on_hub:
        metadata |= {"base_model": model["name"], "base_model_relation": "adapter"}
    if is_hub_id(source["name"], revision=source["revision"]) and not report["adaptation"].get("adapter"):
        metadata |= {"datasets": [source["name"]]}
        if not report["captions"]:
            metadata |= _measured(report, model_name=plain_name(repo_id or "") or title)
    context = _common_context(report) | {
        "title": title,
        "location": repo_id or "path/to/adapter",
        "base_code": wording.model_code(model),
        "base_is_embedded": base_is_embedded,
        "base_is_local": not base_on_hub and not base_is_embedded,
        "base_is_of_transformers": base_is_of_transformers,
        "in_memory": model.get("in_memory", False),
        "needs_us": needs_us,
        "example_prompts": wording.example_prompts(report),
        "held_out": report["adaptation"]["held_out_agreement_adapted"] is not None,
    }
    return _render("adapter_card.md", ModelCardData, metadata, context)


def stated_license(report: Mapping[str, Any]) -> str:
    """The license that the card of a subset states: that of `--license`, else that of the source; may be empty."""
    return str(report["arguments"].get("license") or report["source"]["license"] or "").strip()


def license_kept(report: Mapping[str, Any], card: Path) -> str | None:
    """The license that a card of the subset states and the report does not, as an earlier `--license` brought it.

    Raises `InputError` where the card can't be read.
    """
    header = metadata_load(card) if read_card(card) else None
    found = {key: value for key, value in (header or {}).items() if key in ("license", "license_name")}
    own = stated_license(report).lower()
    if not found or found in (_license_keys(own, is_known=True), _license_keys(own, is_known=False)):
        return None
    license = found.get("license_name") or found.get("license") or ""
    return ", ".join(map(str, license)) if isinstance(license, list) else str(license) or None


def _license_keys(stated: str, *, is_known: bool) -> dict[str, Any]:
    """A license as the Hub takes it: ids of a list that no library holds, or `other` and a name."""
    if stated in ("", "unknown"):
        return {}
    if is_known and re.fullmatch(r"[a-z0-9.+-]+(, [a-z0-9.+-]+)*", stated):
        return {"license": stated.split(", ") if "," in stated else stated}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", stated).strip("-") or "other"}


def _subsets(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {subset["name"]: subset for subset in report["subsets"]}


def _tables(report: Mapping[str, Any], subsets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a dataset card says of the rows, the classes and the scores."""
    first, objective, quantiles = next(iter(subsets)), report["objective"], report["score_quantiles"]
    classes = wording.shown_classes(report["classes"], subsets[first]["suffix"])
    suffixes = [subset["suffix"] for subset in report["subsets"]]
    knobs = [f"{knob}: {value}" for knob, value in objective.items() if value is not None]
    return {
        "subsets": subsets,
        "first": first,
        "score_columns": wording.list_in_code(f"selection_score_{suffix}" for suffix in suffixes),
        "selected_columns": wording.list_in_code(f"selected_{suffix}" for suffix in suffixes),
        "objective": wording.list_in_code(knobs),
        "criterion": wording.criterion_text(report),
        "order": wording.order_text(report),
        "noise_text": wording.noise_text(report),
        "review_texts": wording.review_texts(report),
        "is_decided": bool(report.get("decisions")) and not report["captions"],
        "size_argument": wording.size_argument(subsets[first]),
        "auto_texts": {name: wording.auto_text(report, subset) for name, subset in subsets.items()},
        "balance": wording.balance_text(report),
        "classes": classes,
        "hidden_classes": len(classes) < len(report["classes"]),
        "classes_without_images": wording.first_names(report["classes_without_images"]),
        "quantile_names": wording.quantile_names(quantiles),
        "score_quantiles": [(name, list(values.values())) for name, values in quantiles.items()],
        "warnings": hide_paths(report["warnings"]),
    }


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
        metric_name=AGREEMENT_METRIC,
        metric_value=round(agreement, 4),
    )
    return {"metrics": ["accuracy"], "model_name": model_name, "eval_results": [result]}


def _common_context(report: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of the report as they are, and pieces of it in words, for both templates."""
    adaptation, model, versions = report["adaptation"], report["model"], report["versions"]
    adapter_text = None
    if adapter := adaptation.get("adapter"):
        on_hub = is_hub_id(adapter["name"], revision=adapter["revision"])
        adapter_text = wording.adapter_text(adapter["name"], adapter["revision"], on_hub=on_hub)
    command = command_words.command(report)
    cell, cells = wording.cell_words(report)
    return {
        **report,
        "source_text": wording.source_text(report["source"]),
        "cell": cell,
        "cells": cells,
        "model_text": wording.model_text(model),
        "weights_text": wording.weights_text(model),
        "prompts": wording.list_in_code(model["prompt_template"]),
        "adaptation": adaptation | {"reason": hide_paths(adaptation["reason"])},
        "versions": wording.list_in_code(f"{name} {version}" for name, version in versions.items()),
        "adapter_was_given": adapter is not None,
        "adapter_text": adapter_text,
        "command_heading": "Command" if command else "All arguments",
        "command": command or command_words.arguments_block(report["arguments"]),
        "command_note": command_words.command_note(report) if command else None,
        "num_readable": report["num_rows"] - report["num_unreadable"],
        "num_classes": len(report["classes"]),
    }


def _render(
    template_name: str, data_class: type[CardData], metadata: Mapping[str, Any], context: Mapping[str, Any]
) -> str:
    own_metadata, body = _template(template_name)
    known = {key: value for key, value in metadata.items() if value is not None}
    header = f"---\n{data_class(**own_metadata | known).to_yaml()}\n---\n"
    return header + body.render({**context, "wrote": Markdown(written_header(header))})


@cache
def _template(name: str) -> tuple[dict[str, Any], Template]:
    """The metadata that a template states itself, and its body."""
    template = RepoCard((files("hf_clipselect.hub") / "templates" / name).read_text(encoding="utf-8"))
    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Escaping is what happens unless a value is marked as Markdown, so that no place in a template can forget it.
        finalize=lambda value: value if isinstance(value, Markdown) else escape_markdown(value),
    )
    filters = {"code": code_span, "literal": python_literal}
    environment.filters |= filters | {name: getattr(wording, name) for name in ("count", "number", "percent")}
    return template.data.to_dict(), environment.from_string(template.text)
