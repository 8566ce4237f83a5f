"""Checks of the YAML header of README.md, as the Hub answers them at /api/validate-yaml."""

import re

import yaml


HEADER = re.compile(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\n|$))")
REPO_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")
LICENSES = frozenset(
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 "
    "bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc "
    "cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 "
    "cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 "
    "cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 "
    "eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl "
    "apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib "
    "pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 "
    "llama4 grok2-community gemma unknown "
    "other".split()
)
TEXT = ("library_name", "pipeline_tag", "pretty_name", "license_name", "license_link")
TEXTS = ("tags", "task_categories", "task_ids", "size_categories", "source_datasets", "annotations_creators")
TEXT_OR_TEXTS = ("language", "base_model", "datasets", "metrics", "license")
REPO_IDS = {"base_model": "models", "datasets": "datasets"}
SDKS = ("gradio", "docker", "static")
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
RELATIONS = ("adapter", "merge", "quantized", "finetune")


class _Loader(yaml.SafeLoader):
    """YAML as the Hub's parser reads it: `no` is a word, and a key given twice is an error."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise yaml.YAMLError(f"duplicated mapping key {twice!r}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def read_header(content: str) -> dict | None:
    """The YAML header of a card, or None where it has none.

    Raises:
        yaml.YAMLError: If the header is not YAML or not a mapping.
    """
    match = HEADER.match(content)
    data = yaml.load(match[2], _Loader) if match else None
    if data is not None and not isinstance(data, dict):
        raise yaml.YAMLError("the header must be a mapping")
    return data


def check(content: str, kind: str) -> dict:
    """The errors and warnings of a card.

    Args:
        content: The whole README.md.
        kind: `model`, `dataset` or `space`.

    Returns:
        `dict`: `{"errors": [{"message": ...}], "warnings": [{"message": ...}]}`.
    """
    try:
        data = read_header(content)
    except yaml.YAMLError as error:
        return _answer([f"YAML metadata error: {error}"], [])
    if not data:
        return _answer([], ["empty or missing yaml metadata in repo card"])
    errors = _field_errors(data)
    if kind == "space":
        errors += _space_errors(data)
    else:
        errors += _config_errors(data) if kind == "dataset" else _model_index_errors(data.get("model-index"))
    return _answer(errors, [])


def _answer(errors: list[str], warnings: list[str]) -> dict:
    return {"errors": [{"message": m} for m in errors], "warnings": [{"message": m} for m in warnings]}


def _texts(data: dict, name: str) -> list:
    value = data.get(name)
    return [] if value is None else value if isinstance(value, list) else [value]


def _field_errors(data: dict) -> list[str]:
    errors = [f'"{n}" must be a string' for n in TEXT if data.get(n) is not None and not isinstance(data[n], str)]
    errors += [f'"{n}" must be an array' for n in TEXTS if data.get(n) is not None and not isinstance(data[n], list)]
    for name in TEXTS + TEXT_OR_TEXTS:
        wrong = [i for i, value in enumerate(_texts(data, name)) if not isinstance(value, str) or not value]
        errors += [f'"{name}[{i}]" must be a string' for i in wrong]
    errors += [f'"license" must be one of [...], got "{v}"' for v in _texts(data, "license") if str(v) not in LICENSES]
    for name, page in REPO_IDS.items():
        wrong = [v for v in _texts(data, name) if isinstance(v, str) and not REPO_ID.fullmatch(v)]
        errors += [f'"{name}" with value "{v}" is not valid. Use an id from https://hf.co/{page}.' for v in wrong]
    relation = data.get("base_model_relation")
    if relation is not None and relation not in RELATIONS:
        errors.append(f'"base_model_relation" must be one of [{", ".join(RELATIONS)}]')
    return errors


def _space_errors(data: dict) -> list[str]:
    errors = [f'"{name}" must be a string' for name in ("title", "app_file") if not isinstance(data.get(name), str)]
    if data.get("sdk") not in SDKS:
        errors.append(f'"sdk" must be one of [{", ".join(SDKS)}]')
    if data.get("sdk") == "gradio" and not re.fullmatch(r"\d+\.\d+\.\d+", str(data.get("sdk_version"))):
        errors.append('"sdk_version" must be a version of Gradio')
    wrong = [name for name in ("colorFrom", "colorTo") if data.get(name, COLORS[0]) not in COLORS]
    return errors + [f'"{name}" must be one of [{", ".join(COLORS)}]' for name in wrong]


def _config_errors(data: dict) -> list[str]:
    configs = data.get("configs")
    if configs is None:
        return []
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        return ['"configs" must be an array of objects']
    errors, names = [], [config.get("config_name") for config in configs]
    for i, config in enumerate(configs):
        if not isinstance(config.get("config_name"), str) or names.index(config["config_name"]) != i:
            errors.append(f'"configs[{i}].config_name" must be a string, given once')
        if not isinstance(config.get("default", False), bool):
            errors.append(f'"configs[{i}].default" must be a boolean')
        if not _sane_data_files(config.get("data_files", "")):
            errors.append(f'"configs[{i}].data_files" must be a string, an array of strings or of (split, path)')
    if sum(config.get("default") is True for config in configs) > 1:
        errors.append('"configs" must have one default at most')
    infos = data.get("dataset_info", {})
    if not all(isinstance(info, dict) for info in (infos if isinstance(infos, list) else [infos])):
        errors.append('"dataset_info" must be an object or an array of objects')
    return errors


def _sane_data_files(value: object) -> bool:
    def is_split(item: object) -> bool:
        return isinstance(item, dict) and isinstance(item.get("split"), str) and _sane_paths(item.get("path"))

    return _sane_paths(value) or (isinstance(value, list) and all(is_split(item) for item in value))


def _sane_paths(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _model_index_errors(index: object) -> list[str]:
    if index is None:
        return []
    if not isinstance(index, list) or not all(isinstance(model, dict) for model in index):
        return ['"model-index" must be an array of objects']
    errors = []
    for i, model in enumerate(index):
        if not isinstance(model.get("name"), str):
            errors.append(f'"model-index[{i}].name" is required')
        if not isinstance(model.get("results"), list):
            errors.append(f'"model-index[{i}].results" is required')
            continue
        for j, result in enumerate(model["results"]):
            where = f"model-index[{i}].results[{j}]"
            needed = {"task": ["type"], "dataset": ["type", "name"]}
            for part, keys in needed.items():
                given = result.get(part) or {}
                errors += [
                    f'"{where}.{part}.{key}" is required' for key in keys if not isinstance(given.get(key), str)
                ]
            metrics = result.get("metrics")
            if not isinstance(metrics, list) or not all({"type", "value"} <= set(metric) for metric in metrics):
                errors.append(f'"{where}.metrics" must be an array of objects with type and value')
    return errors
