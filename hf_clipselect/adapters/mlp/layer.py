"""The head of a tower with a residual MLP on its output: y = base(h); y + scale * fc1(gelu(fc0(y))).

The dimension-preserving adapters of https://huggingface.co/papers/2410.11215 ("simple MLP", dataset adaptation), here
as residuals whose last layer starts at zero, so that training starts from CLIP itself.
"""

from __future__ import annotations

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from ...encoder.dual_encoder import output_size
from ...errors import InputError
from .config import MlpAdapterConfig


MERGE_REFUSED = (
    "An MLP adapter cannot be merged: it is nonlinear and does not fold into the weight of a linear layer. Keep the "
    "adapted model as it is, or call `unload()` to get the base model back without the adapter."
)


class MlpAdapterLayer(nn.Module, BaseTunerLayer):
    """Wraps a layer, linear or an attention pooler of SigLIP; adds its active adapters' residuals to the output.

    Every active adapter reads the output of the base layer, not of another adapter, so their order does not matter.
    `adapter_name` is that of the first one, which becomes active.
    """

    # One ModuleDict per MLP layer: peft strips the adapter's name from a key only where it stands second to last
    # ("...mlp_adapter_fc0.default.weight"), so a ModuleDict of nn.Sequential would not load under another name.
    adapter_layer_names = ("mlp_adapter_fc0", "mlp_adapter_fc1")
    other_param_names = ("mlp_adapter_scale",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, *, config: MlpAdapterConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.mlp_adapter_fc0 = nn.ModuleDict()
        self.mlp_adapter_fc1 = nn.ModuleDict()
        self.mlp_adapter_scale: dict[str, float] = {}
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.merged_adapters: list[str] = []
        self.update_layer(adapter_name, config=config)

    def update_layer(self, adapter_name: str, *, config: MlpAdapterConfig) -> None:
        """Add an adapter, or reset the one of this name."""
        embed_dim = output_size(self.base_layer)
        hidden_dim = config.hidden_dim or embed_dim
        last_layer = nn.Linear(hidden_dim, embed_dim)
        nn.init.zeros_(last_layer.weight)
        nn.init.zeros_(last_layer.bias)
        self.mlp_adapter_fc0[adapter_name] = nn.Linear(embed_dim, hidden_dim)
        self.mlp_adapter_fc1[adapter_name] = last_layer
        self.mlp_adapter_scale[adapter_name] = config.scale
        # The device is passed because peft would look for a `weight`, which a pooler does not have.
        self._move_adapter_to_device_of_base_layer(adapter_name, next(self.base_layer.parameters()).device)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Apply the base layer to `(..., in_features)`, or to a pooler's patches and mask, and `add_residuals`."""
        return self.add_residuals(self.base_layer(*inputs))

    def add_residuals(self, base_output: torch.Tensor) -> torch.Tensor:
        """Add the residuals of the active adapters to an output `(..., D)` of the base layer, cached or not.

        Residuals are computed and added in the dtype of the adapter; the sum is rounded to that of `base_output`.
        """
        if self.disable_adapters:
            return base_output
        output = base_output
        for name in self.active_adapters:
            # An adapter with other target modules may be active too.
            if name in self.mlp_adapter_fc0:
                output = torch.add(output, self._mlp(name, base_output), alpha=self.mlp_adapter_scale[name])
        return output.to(base_output.dtype)

    def _mlp(self, name: str, base_output: torch.Tensor) -> torch.Tensor:
        first, last = self.mlp_adapter_fc0[name], self.mlp_adapter_fc1[name]
        return last(nn.functional.gelu(first(base_output.to(first.get_parameter("weight").dtype))))

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Raise `InputError`: the adapter is nonlinear."""
        raise InputError(MERGE_REFUSED)
