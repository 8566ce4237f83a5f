"""Reads PEFT configs from JSON files: of `--peft_config`, and of adapters that may come from anybody."""

import dataclasses
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from peft import PeftConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from ..errors import InputError
from ..runtime.words import in_one_line
from .name_patterns import check_name_patterns


# Methods whose adapters are complete with a config and a safetensors file: their code imports, reads and downloads
# nothing else, and a test loads each of them bit-equal. Excluded are, for example: prompt learning, which adapts no
# module; XLORA and SHADOW, which load other models that the config names; OSF and PSOFT, which decompose the base
# weights again when they load; ADALORA, whose trained weights have shapes that peft can't tell without the weights.
_METHODS = frozenset(
    """
    BEFT C3A DELORA FOURIERFT GLORA GRALORA HIRA HRA IA3 LILY LN_TUNING LOHA LOKR LORA MISS MLP_ADAPTER OFT PEANUT
    RANDLORA ROAD VERA WAVEFT
    """.split()
)
# Other initialisations change the base model's weights, some at random, each time the adapters are loaded.
_LORA_INITIALISATIONS = (True, False, "gaussian", "orthogonal")
_REFUSED = {
    "alora_invocation_tokens": "such adapters act after tokens of a chat, and so not at all in a CLIP",
    "megatron_config": "peft imports the module that megatron_core names",
}
# Left out: a class that peft's Auto classes would import, and settings of the running process.
_NOT_OF_THE_ADAPTERS = ("auto_mapping", "runtime_config")
# A rank for each module of a large CLIP takes some 30 kB.
_MAX_BYTES = 65_536
_MAX_ITEMS = 500
# No rank or width of a CLIP is larger; only seeds may be.
_MAX_NUMBER = 65_536


def peft_methods() -> list[str]:
    """The PEFT types that adapters may be of and the installed peft has."""
    return sorted(_METHODS & {method.value for method in PEFT_TYPE_TO_CONFIG_MAPPING})


def method_of(config: PeftConfig) -> str:
    """The PEFT type of a config, such as `"LORA"`."""
    return PeftType(config.peft_type).value


def read_peft_config(path: str | Path) -> PeftConfig:
    """The config for training in the JSON file of `--peft_config`; without targets it is for the two heads.

    Raises `InputError` for a file that is missing, not JSON, of no known method, or has a key or value that can't be
    used.
    """
    what = f"--peft_config {path}"
    try:
        content = read_config_bytes(Path(path))
    except OSError as error:
        raise InputError(f"{what} can't be read: {error.strerror}.") from None
    config, unknown = _to_config(what, content)
    if unknown:  # peft only warns, and a misspelt setting would keep its default
        raise InputError(f"{what} has keys that {type(config).__name__} does not know: {', '.join(unknown)}.")
    config.inference_mode = False
    return config


def read_config_bytes(path: Path) -> bytes:
    """The content of a config file, cut off where it is longer than any config that is accepted."""
    with path.open("rb") as file:
        return file.read(_MAX_BYTES + 1)


def parse_adapter_config(what: str, content: bytes) -> tuple[PeftConfig, list[str]]:
    """The config in an adapter_config.json, for inference, and its keys that this version of peft does not know.

    Raises `InputError`, which begins with `what`, for one that is not JSON, of no known method, of absurd sizes, or
    would make peft load something else.
    """
    config, unknown = _to_config(what, content)
    config.inference_mode = True
    return config, unknown


def _refuse(what: str, why: str) -> NoReturn:
    raise InputError(f'{what} is no PEFT config: {why} Expected JSON such as {{"peft_type": "LORA", "r": 8}}.')


def _to_config(what: str, content: bytes) -> tuple[PeftConfig, list[str]]:
    if len(content) > _MAX_BYTES:
        _refuse(what, f"it has more than {_MAX_BYTES:,} bytes, and a config a few thousand.")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        _refuse(what, f"it is not JSON ({in_one_line(error, 200)}).")
    if not isinstance(values, dict):
        _refuse(what, f"it holds a {type(values).__name__}, not an object.")
    method = values.get("peft_type")
    if not isinstance(method, str) or method not in peft_methods():
        raise InputError(
            f"{what} is no PEFT config that can be used here: its peft_type is {str(method)[:100]!r}. Methods that "
            f"adapt modules and need no other files: {', '.join(peft_methods())}."
        )
    _check_values(what, values)
    values = {key: value for key, value in values.items() if key not in _NOT_OF_THE_ADAPTERS}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unknown keys, which are returned
            config = PeftConfig.from_peft_type(**values)
    except Exception as error:  # peft checks few types: wrong ones raise anything
        _refuse(what, f"{type(error).__name__} {in_one_line(error, 300)}")
    return config, sorted(set(values) - {field.name for field in dataclasses.fields(config)})


def _check_values(what: str, values: dict[str, Any]) -> None:
    """Refuse what would make peft import, read or change something else, and sizes that no adapter has."""

    def refuse(key: str, why: str) -> NoReturn:
        raise InputError(f"{what} sets {key}{why}.")

    for key, value in values.items():
        # Settings by module (rank_pattern) are the only mappings that name no Python module and no file.
        if isinstance(value, dict) and value and not key.endswith("_pattern") and key not in _NOT_OF_THE_ADAPTERS:
            refuse(key, ", which is not supported: only numbers, names and *_pattern mappings are")
        for part in _parts(value):
            if isinstance(part, (list, dict)) and len(part) > _MAX_ITEMS:
                refuse(key, f" to {len(part):,} values; at most {_MAX_ITEMS} are supported")
            if isinstance(part, float) and not math.isfinite(part):
                refuse(key, f" to {part}, which is no finite number")
            if isinstance(part, int) and abs(part) > _MAX_NUMBER and not key.endswith(("seed", "_key")):
                refuse(key, f" to {str(part)[:30]}; at most {_MAX_NUMBER} makes sense for a CLIP")
    check_name_patterns(what, values)
    for key, why in _REFUSED.items():
        if values.get(key) is not None:
            refuse(key, f", which is not supported: {why}")
    if (initial := values.get("init_lora_weights", True)) not in _LORA_INITIALISATIONS:
        refuse(
            "init_lora_weights",
            f" to {str(initial)[:100]!r}, which changes the base model's weights each time the adapters are loaded. "
            "Choose true, false, gaussian or orthogonal, or convert them to plain LoRA",
        )
    for key in ("base_model_name_or_path", "revision"):
        if not isinstance(values.get(key), str | None):
            refuse(key, f" to {str(values[key])[:100]}; a name or null is expected")
    if (task := values.get("task_type")) not in (None, "FEATURE_EXTRACTION"):
        raise InputError(
            f"{what} is for the task {str(task)[:100]}; adapters of a CLIP have FEATURE_EXTRACTION or null."
        )


def _parts(value: Any) -> Iterator[Any]:
    """A value and all values in it, at any depth."""
    open_values = [value]
    while open_values:
        value = open_values.pop()
        yield value
        if isinstance(value, (list, dict)):
            open_values.extend(value.values() if isinstance(value, dict) else value)
