"""The tuner that puts MLP adapters on the targeted layers of a model."""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from ...encoder.dual_encoder import of_type, output_size
from ...errors import InputError
from .config import DEFAULT_TARGET_MODULES
from .layer import MERGE_REFUSED, MlpAdapterLayer


class MlpAdapterModel(BaseTuner):
    """Replaces every targeted layer of a model, in place, by an [`MlpAdapterLayer`].

    It is made by `peft.get_peft_model(model, MlpAdapterConfig())`; the model may be any `torch.nn.Module`.
    """

    prefix: str = "mlp_adapter_"
    tuner_layer_cls = MlpAdapterLayer
    target_module_mapping: dict[str, list[str]] = {}

    # peft's tuners declare configs of any method; this one gets a `MlpAdapterConfig`.
    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        # Not through `target_module_mapping`: models of types that no table lists have two projections too.
        if peft_config.target_modules is None:
            peft_config.target_modules = {head.name for head in of_type(model_config.get("model_type")).heads}
        return peft_config

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, MlpAdapterLayer):
            target.update_layer(adapter_name, config=peft_config)
            return
        if not output_size(target):
            kind = type(target)
            raise InputError(
                "An MLP adapter goes on torch.nn.Linear modules only, and on the head of SigLIP's images, but "
                f"target_modules matches {current_key!r}, a {kind.__module__}.{kind.__qualname__}; name linear layers "
                f"in target_modules (default: {', '.join(DEFAULT_TARGET_MODULES)})."
            )
        layer = MlpAdapterLayer(target, adapter_name, config=peft_config)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        if isinstance(new_module, MlpAdapterLayer):
            super()._replace_module(parent, child_name, new_module, child)
        else:  # the base layer is put back; peft would set its `weight`, which a pooler does not have
            setattr(parent, child_name, new_module)

    def _check_merge_allowed(self) -> None:
        raise InputError(MERGE_REFUSED)
