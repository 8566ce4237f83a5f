"""Adapters that a run is given with `--adapter_name_or_path` instead of training its own."""

import logging
import os

from accelerate.utils import broadcast_object_list

from ..encoder.backbone import Backbone
from ..errors import InputError
from ..runtime.hub_ids import EMBEDDED_PREFIX, is_hub_id
from .adapter_files import AdapterFiles, fetch_adapter
from .peft_folder import check_fits, warn_of_other_base
from .placing import check_method, check_on_projections


logger = logging.getLogger(__name__)


def fetch_given(name: str | None) -> AdapterFiles | None:
    """Fetch the adapters of a run, the same commit on every process.

    Args:
        name (`str`, *optional*): Hub id or folder; without it there is nothing to fetch.

    Returns:
        `AdapterFiles`, *optional*

    Raises:
        InputError: As `fetch_adapter`.
    """
    if name is None:
        return None
    adapter = fetch_adapter(name)
    # The branch may move between the processes' looks at it: all take the main one's commit.
    [revision] = broadcast_object_list([adapter.revision])
    return adapter if adapter.revision == revision else fetch_adapter(name, revision=revision)


def check_given(adapter: AdapterFiles, backbone: Backbone) -> None:
    """Check that a run's scores can come from these adapters.

    Args:
        adapter (`AdapterFiles`): What `--adapter_name_or_path` names.
        backbone (`Backbone`): The run's model, which stays as it is.

    Raises:
        InputError: They are made for another base model, do not fit this one, or sit elsewhere than on the two heads.
    """
    config, _ = adapter.parsed_config
    base, revision = config.base_model_name_or_path, config.revision
    # A folder says nothing about what is in it: it may be a copy of the model, on this machine or on the one of the
    # training. Nor does a model that was passed: what it says of its origin may be of before its own training.
    has_a_name = bool(base) and (base.startswith(EMBEDDED_PREFIX) or is_hub_id(base, revision=revision))
    unknown = backbone.in_memory or os.path.isdir(backbone.name)
    if has_a_name and base != backbone.name and not unknown:
        raise InputError(
            f"The adapters of {adapter} are made for {base}, but the model of the run is {backbone.name}; pass "
            f"--model_name_or_path {base}, or other adapters."
        )
    check_method(backbone.model, config, f"The config of {adapter}")
    check_on_projections(check_fits(adapter, backbone.model), f"The config of {adapter}")
    warn_of_other_base(adapter, backbone.name)
    if has_a_name and revision and backbone.revision and revision != backbone.revision:
        logger.warning(
            "The adapters of %s were trained on revision %s of %s, and this run uses %s; --model_revision %s takes "
            "theirs.",
            adapter,
            revision,
            base,
            backbone.revision,
            revision,
        )
