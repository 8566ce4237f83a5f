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
    """Fetch the adapters of a Hub id or folder, of the same commit on every process; errors as `fetch_adapter`."""
    if name is None:
        return None
    adapter = fetch_adapter(name)
    # The branch may move between the processes' requests, so all take the main one's commit.
    [revision] = broadcast_object_list([adapter.revision])
    return adapter if adapter.revision == revision else fetch_adapter(name, revision=revision)


def check_given(adapter: AdapterFiles, backbone: Backbone) -> None:
    """Raise `InputError` for given adapters that a run's scores can't come from; the backbone stays as it is.

    They are made for another base model, do not fit this one, or sit elsewhere than on its heads.
    """
    config = adapter.peft_config
    base, revision = config.base_model_name_or_path or "", config.revision
    base_is_named = base.startswith(EMBEDDED_PREFIX) or (base != "" and is_hub_id(base, revision=revision))
    # A folder may hold a copy of the named model, and a model that was passed may state the name that it had before
    # its own training: neither is refused for its name.
    run_is_named = not backbone.in_memory and not os.path.isdir(backbone.name)
    if base_is_named and run_is_named and base != backbone.name:
        raise InputError(
            f"The adapters of {adapter} are made for {base}, but the model of the run is {backbone.name}; pass "
            f"--model_name_or_path {base}, or other adapters."
        )
    what = f"The config of {adapter}"
    check_method(backbone.model, config, what)
    check_on_projections(check_fits(adapter, backbone.model), what)
    warn_of_other_base(adapter, backbone.name)
    if base_is_named and revision and backbone.revision and revision != backbone.revision:
        logger.warning(
            "The adapters of %s were trained on revision %s of %s, and this run uses %s; --model_revision %s takes "
            "theirs.",
            adapter,
            revision,
            base,
            backbone.revision,
            revision,
        )
