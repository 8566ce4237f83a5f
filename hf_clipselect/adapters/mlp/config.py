"""Configuration of the MLP adapter and its entry in peft's list of methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peft.config import PeftConfig
from peft.utils import PeftType

from ...config.checks import is_finite_number, is_whole_number
from ...encoder.dual_encoder import WITH_PROJECTIONS
from ...errors import InputError


DEFAULT_TARGET_MODULES = tuple(head.name for head in WITH_PROJECTIONS.heads)


def _extend_peft_type(name: str) -> PeftType:
    """Add `name` to `PeftType`, which Python does not let a package extend by subclassing.

    `register_peft_method` refuses names outside the enum, and peft < 0.21 refuses to save them.
    """
    if name in PeftType.__members__:
        return PeftType[name]
    member = str.__new__(PeftType, name)
    member._name_ = name
    member._value_ = name
    # As an attribute first: once the name is in the member map, the enum refuses to set it.
    type.__setattr__(PeftType, name, member)
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
    return member


MLP_ADAPTER = _extend_peft_type("MLP_ADAPTER")


@dataclass
class MlpAdapterConfig(PeftConfig):
    """Configuration of the MLP adapter: a residual MLP on the output of each targeted layer.

    y = base(h); y + scale * fc1(gelu(fc0(y))). The dimension-preserving adapters of
    https://huggingface.co/papers/2410.11215 ("simple MLP", dataset adaptation), here as residuals: fc1 starts at zero,
    so that training starts from CLIP itself.

    Args:
        target_modules (`list[str]` or `str`, *optional*): Layers that get an adapter, linear ones or the attention
            poolers that end SigLIP's image towers: names (or ends of names), or one regular expression over the full
            name. `None` stands for the two heads of the dual encoder: CLIP's projections, `["visual_projection",
            "text_projection"]`, or SigLIP's `["vision_model.head", "text_model.head"]`.
        exclude_modules (`list[str]` or `str`, *optional*): Modules that get no adapter although `target_modules` names
            them.
        modules_to_save (`list[str]`, *optional*): Further modules that are trained in full and saved with the adapter.
        hidden_dim (`int`, *optional*): Width of the hidden layer, at least 1. `None` takes the output size D of the
            target (D -> D -> D).
        scale (`float`, *optional*, defaults to `1.0`): Finite factor on the MLP's output before it is added.

    Raises:
        [`~hf_clipselect.errors.InputError`]: If modules are not named by strings, or `hidden_dim` or `scale` is out of
            range.

    Example:

    ```python
    >>> from peft import get_peft_model
    >>> from hf_clipselect import MlpAdapterConfig

    >>> model = get_peft_model(clip_model, MlpAdapterConfig())
    ```
    """

    target_modules: list[str] | set[str] | str | None = None
    exclude_modules: list[str] | set[str] | str | None = None
    modules_to_save: list[str] | None = None
    hidden_dim: int | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = MLP_ADAPTER
        for name in ("target_modules", "exclude_modules", "modules_to_save"):
            if not _are_names(value := getattr(self, name)):
                raise InputError(f"{name} of MlpAdapterConfig must be a list of names of modules, got {value!r}.")
        # peft itself stores sets, which are quick to search.
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)
        if self.hidden_dim is not None and not is_whole_number(self.hidden_dim, at_least=1):
            raise InputError(
                f"hidden_dim of MlpAdapterConfig must be an integer of at least 1, or None for the output size of the "
                f"adapted layer, got {self.hidden_dim!r}."
            )
        if not is_finite_number(self.scale):
            raise InputError(f"scale of MlpAdapterConfig must be a finite number, got {self.scale!r}.")

    def to_dict(self) -> dict[str, Any]:
        """The fields by name; sets become sorted lists, so that the saved file is the same every time."""
        return {key: sorted(value) if isinstance(value, set) else value for key, value in super().to_dict().items()}


def _are_names(value: object) -> bool:
    if isinstance(value, list | tuple | set):
        return all(isinstance(name, str) for name in value)
    return value is None or isinstance(value, str)
