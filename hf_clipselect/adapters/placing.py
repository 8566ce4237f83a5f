"""Puts adapters on the modules of a model, and checks where they sit and how large they are before memory is taken."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import nn

from ..encoder.dual_encoder import of_model
from ..errors import InputError
from ..runtime.words import in_one_line
from .mlp import MLP_ADAPTER, MlpAdapterModel
from .peft_configs import method_of


def new_adapters(model: nn.Module, peft_config: PeftConfig) -> PeftModel:
    """Fresh adapters on the two heads of a frozen model.

    Raises `InputError` for a config that does not fit the model, misses the heads, or reaches into the towers, which
    do not run again once the features are cached.
    """
    try:
        adapted = get_peft_model(model, on_heads(model, peft_config))
    except ValueError as error:
        raise InputError(f"The PEFT config does not fit the model: {in_one_line(error, 400)}") from None
    check_on_projections(adapted, "The PEFT config")
    return adapted


def on_heads(model: nn.Module, peft_config: PeftConfig) -> PeftConfig:
    """A copy of a config, since peft may write into it, for the two heads of the model if it names no target."""
    config: Any = copy.deepcopy(peft_config)  # peft declares target_modules in the configs of the methods alone
    if config.target_modules is None:
        config.target_modules = {head.name for head in of_model(model).heads}
    return config


def check_method(model: nn.Module, peft_config: PeftConfig, what: str) -> None:
    """Raise `InputError`, which begins with `what`, for a method that acts inside a head whose output is cached."""
    behind = [head.name for head in of_model(model).heads if head.cached == "output"]
    if behind and peft_config.peft_type != MLP_ADAPTER:
        raise InputError(
            f"{what} is of the method {method_of(peft_config)}, but the features of a {type(model).__name__} are "
            f"cached behind {behind[0]}, which is no linear layer. What follows it can only be an MLP adapter: leave "
            "--peft_config out, or give one of the method MLP_ADAPTER; other methods go with a model that has two "
            "linear projections."
        )


def check_on_projections(adapted: PeftModel, what: str) -> None:
    """Raise `InputError`, which begins with `what`, for adapters in training mode that train nothing, or anything but
    the heads; of a head whose output is cached, anything but what follows it.
    """
    heads = of_model(adapted.get_base_model()).heads
    read = tuple(f"{head.name}.{MlpAdapterModel.prefix if head.cached == 'output' else ''}" for head in heads)
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    outside = [name for name in trained if not name.removeprefix("base_model.model.").startswith(read)]
    if outside or not trained:
        raise InputError(
            f"{what} trains {outside[0] if outside else 'nothing'}, but adapters are trained on cached features, "
            f"which only {' and '.join(head.name for head in heads)} read: name these two in target_modules, and "
            "nothing else."
        )


def lay_out(model: nn.Module, peft_config: PeftConfig, what: str) -> PeftModel:
    """A copy of the model with fresh adapters, in training mode, on the meta device: names and shapes without memory.

    Raises `InputError`, which begins with `what`, for a config that does not fit the model.
    """
    tensors = [*model.parameters(), *model.buffers()]
    memo = {id(tensor): _without_data(tensor) for tensor in tensors}
    config = copy.deepcopy(peft_config)
    config.inference_mode = False
    with refusing_misfits(model, what), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(copy.deepcopy(model, memo), config)


@contextmanager
def refusing_misfits(model: nn.Module, what: str) -> Iterator[None]:
    """Turn whatever peft raises inside the block into an `InputError`: the config does not fit the model."""
    try:
        yield
    except Exception as error:  # peft checks few types: wrong ones raise anything
        raise InputError(
            f"{what} does not fit a {type(model).__name__}: {type(error).__name__} {in_one_line(error, 400)}"
        ) from None


def absent_targets(model: nn.Module, peft_config: PeftConfig) -> list[str]:
    """The target_modules that a model does not have; peft only complains if it has none of them."""
    targets = vars(peft_config)["target_modules"]
    if not isinstance(targets, (list, set, tuple)):
        return []
    names = [name for name, _ in model.named_modules()]
    return [t for t in sorted(map(str, targets)) if not any(f".{name}".endswith(f".{t}") for name in names)]


def _without_data(tensor: torch.Tensor) -> torch.Tensor:
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
