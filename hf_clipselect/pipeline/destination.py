"""Where a run publishes its results: asked before any work is done."""

import logging

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ..config.arguments import Arguments
from ..data.places import hub_place
from ..errors import InputError, PushError
from ..hub import Destination


logger = logging.getLogger(__name__)


def check_destination(arguments: Arguments, accelerator: Accelerator) -> Destination | None:
    """Where the results go to on the Hub; the main process asks, and all stop if the answer is no."""
    if not arguments.hub.push_to_hub:
        if arguments.hub.hub_dataset_id is not None or arguments.hub.hub_model_id is not None:
            logger.info("Nothing is pushed to the Hub without --push_to_hub.")
        return None
    source = hub_place(arguments.data.dataset_name)
    if arguments.hub.hub_dataset_id == (source.repo if source else arguments.data.dataset_name):
        raise InputError(
            f"--hub_dataset_id {arguments.hub.hub_dataset_id} is the source itself, which the subset would take the "
            "place of; choose another repository."
        )
    destination, problem = Destination.from_arguments(arguments.hub), None
    if accelerator.is_main_process:
        try:
            destination.check()
        except (InputError, PushError) as error:
            problem = error
    [problem] = broadcast_object_list([problem])
    if problem is not None:
        raise problem
    return destination
