"""A PEFT method: residual MLPs on the outputs of linear layers. Importing this package registers it with peft."""

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import register_peft_method

from .config import DEFAULT_TARGET_MODULES, MLP_ADAPTER, MlpAdapterConfig
from .layer import MlpAdapterLayer
from .model import MlpAdapterModel


__all__ = ["DEFAULT_TARGET_MODULES", "MLP_ADAPTER", "MlpAdapterConfig", "MlpAdapterLayer", "MlpAdapterModel"]


def _register() -> None:
    registered = PEFT_TYPE_TO_CONFIG_MAPPING.get(MLP_ADAPTER)
    # peft refuses a second registration, which a reloaded module needs; that of another package is refused.
    if registered is not None and registered.__module__ == MlpAdapterConfig.__module__:
        return
    register_peft_method(
        name="mlp_adapter", config_cls=MlpAdapterConfig, model_cls=MlpAdapterModel, prefix=MlpAdapterModel.prefix
    )


_register()
