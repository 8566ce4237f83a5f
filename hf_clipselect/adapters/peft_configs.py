"""PEFT configs that somebody wrote into a JSON file: of a `--peft_config`, and of adapters from elsewhere."""

import dataclasses
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from ..errors import InputError
from ..runtime.words import in_one_line
from .name_patterns import check_name_patterns


# Methods whose config and safetensors file hold all there is to the adapters, looked through for what they import,
# read or download, and tested to come back bit-equal. Not among them, for example: prompt learning, which adapts no
# module; XLORA and SHADOW, which load other models that the config names; OSF and PSOFT, which decompose the base
# weights anew when they load; ADALORA, whose weights once trained have shapes that peft cannot tell without weights.
_METHODS = frozenset(
    """
    BEFT C3A DELORA FOURIERFT GLORA GRALORA HIRA HRA IA3 LILY LN_TUNING LOHA LOKR LORA MISS MLP_ADAPTER OFT PEANUT RANDLORA
    ROAD VERA WAVEFT
    """.split()
)
# The others change the base model's weights, some at random, whenever the adapters are put on it.
_LORA_INITIALISATIONS = (True, False, "gaussian", "orthogonal")
_REFUSED = {
    "alora_invocation_tokens": "such adapters act after tokens of a chat, and so not at all in a CLIP",
    "megatron_config": "peft imports the module that megatron_core names",
}
# A hint for peft's Auto classes, which import it, and settings of the running process.
_NOT_OF_THE_ADAPTERS = ("auto_mapping", "runtime_config")
# Ranks of each module of a large CLIP take some 30 kB.
_MAX_BYTES = 65_536
_MAX_ITEMS = 500
# Ranks and widths beyond any CLIP; seeds alone may be larger.
_MAX_NUMBER = 65_536


def peft_methods() -> list[str]:
    """The PEFT types that adapters may be of, as far as the installed peft has them."""
    return sorted(_METHODS & {method.value for method in PEFT_TYPE_TO_CONFIG_MAPPING})


def read_peft_config(path: str | Path) -> PeftConfig:
    """Read a PEFT config from a JSON file; one that names no target is for the two heads of whatever model it meets.

    Args:
        path (`str` or `Path`): The file of `--peft_config`.

    Returns:
        `PeftConfig`: For training.

    Raises:
        InputError: The file is missing, not JSON, of no known method, or has a key or value that can't be used.
    """
    what = f"--peft_config {path}"
    try:
        content = read_config_bytes(Path(path))
    except OSError as error:
        raise InputError(f"{what} can't be read: {error.strerror}.") from None
    values = _read_object(what, content)
    config, unknown = _to_config(what, values)
    if unknown:
        # peft only warns, and a misspelt setting would silently keep its default.
        raise InputError(f"{what} has keys that {type(config).__name__} does not know: {', '.join(unknown)}.")
    config.inference_mode = False
    return config


def read_config_bytes(path: Path) -> bytes:
    """The content of a config file, cut off where it is longer than any config that is accepted.

    Raises:
        OSError: It can't be read.
    """
    with path.open("rb") as file:
        return file.read(_MAX_BYTES + 1)


def parse_adapter_config(what: str, content: bytes) -> tuple[PeftConfig, list[str]]:
    """Read the adapter_config.json of adapters that may come from anybody.

    Args:
        what (`str`): Subject of the error messages.
        content (`bytes`): The file.

    Returns:
        `tuple[PeftConfig, list[str]]`: For inference; and the keys that this version of peft does not know.

    Raises:
        InputError: It is not JSON, of no known method, of absurd sizes, or would make peft load something else.
    """
    config, unknown = _to_config(what, _read_object(what, content))
    config.inference_mode = True
    return config, unknown


def _read_object(what: str, content: bytes) -> dict[str, Any]:
    if len(content) > _MAX_BYTES:
        raise InputError(
            f"{what} is no PEFT config: it has more than {_MAX_BYTES:,} bytes, and a config a few thousand."
        )
    try:
        values = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        _refuse(what, f"it is not JSON ({in_one_line(error, 200)}).")
    if not isinstance(values, dict):
        _refuse(what, f"it holds a {type(values).__name__}, not an object.")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _refuse(what: str, why: str) -> NoReturn:
    raise InputError(f'{what} is no PEFT config: {why} Expected JSON such as {{"peft_type": "LORA", "r": 8}}.')


def _to_config(what: str, values: dict[str, Any]) -> tuple[PeftConfig, list[str]]:
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
            warnings.simplefilter("ignore")  # of unknown keys, which are handed on
            config = PeftConfig.from_peft_type(**values)
    except Exception as error:  # peft checks few types, and raises whatever comes of the wrong ones
        _refuse(what, f"{type(error).__name__} {in_one_line(error, 300)}")
    return config, sorted(set(values) - {field.name for field in dataclasses.fields(config)})


def _check_values(what: str, values: dict[str, Any]) -> None:
    """Refuse what would make peft import, read or change something else, and sizes that no adapter has."""
    for key, value in values.items():
        # Ranks by module (rank_pattern) are the one use of a mapping that names no module to import and no file to
        # read.
        if isinstance(value, dict) and value and not key.endswith("_pattern") and key not in _NOT_OF_THE_ADAPTERS:
            raise InputError(
                f"{what} sets {key}, which is not supported: only numbers, names and *_pattern mappings are."
            )
        for part in _parts(value):
            if isinstance(part, (list, dict)) and len(part) > _MAX_ITEMS:
                raise InputError(f"{what} sets {key} to {len(part):,} values; at most {_MAX_ITEMS} are supported.")
            if isinstance(part, float) and not math.isfinite(part):
                raise InputError(f"{what} sets {key} to {part}, which is no finite number.")
            if isinstance(part, int) and abs(part) > _MAX_NUMBER and not key.endswith(("seed", "_key")):
                raise InputError(
                    f"{what} sets {key} to {str(part)[:30]}; at most {_MAX_NUMBER} makes sense for a CLIP."
                )
    check_name_patterns(what, values)
    for key, why in _REFUSED.items():
        if values.get(key) is not None:
            raise InputError(f"{what} sets {key}, which is not supported: {why}.")
    if values.get("init_lora_weights", True) not in _LORA_INITIALISATIONS:
        raise InputError(
            f"{what} sets init_lora_weights to {str(values['init_lora_weights'])[:100]!r}, which changes the base "
            "model's weights each time the adapters are loaded. Choose true, false, gaussian or orthogonal, or "
            "convert them to plain LoRA."
        )
    for key in ("base_model_name_or_path", "revision"):
        if not isinstance(values.get(key), str | None):
            raise InputError(f"{what} sets {key} to {str(values[key])[:100]}; a name or null is expected.")
    if values.get("task_type") not in (None, "FEATURE_EXTRACTION"):
        raise InputError(
            f"{what} is for the task {str(values['task_type'])[:100]}; adapters of a CLIP have FEATURE_EXTRACTION or "
            "null."
        )


def _parts(value: Any) -> Iterator[Any]:
    """A value and all values in it, however deep they are nested."""
    open_values = [value]
    while open_values:
        value = open_values.pop()
        yield value
        if isinstance(value, (list, dict)):
            open_values.extend(value.values() if isinstance(value, dict) else value)
