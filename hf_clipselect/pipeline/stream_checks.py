"""What can't be done with a stream, or not with this one: told before its images are encoded, which may take hours."""

from collections.abc import Sequence

from ..config.arguments import DEFAULT_PROMPT_TEMPLATE, Arguments
from ..data.image_stream import ImageStream
from ..data.labels import known_class_names
from ..data.prompts import check_templates, distinct_names, read_class_names
from ..data.row_facts import Listing, check_id_column, check_listings
from ..errors import InputError
from ..runtime.processes import Processes
from ..runtime.words import there_are
from ..selection import Objective, Size
from .prepared import check_caption_settings


def check_can_be_streamed(arguments: Arguments, processes: Processes) -> None:
    """Raise `InputError` for what can be done with a dataset alone."""
    data, quality = arguments.data, arguments.selection.quality_checks
    if processes.count > 1:
        raise InputError(
            f"A stream is read by one process, and this run has {processes.count}; start it without a launcher, or "
            "load the dataset without --streaming."
        )
    if quality != "off":
        raise InputError(
            f"--quality_checks {quality} looks at all images once more, beside each other, which a stream does not "
            "give; leave it out, or load the dataset without --streaming."
        )
    if data.reference_split is not None:
        raise InputError(
            f"--reference_split {data.reference_split} is loaded whole, and of a dataset that is streamed that would "
            "be all of it; leave it out, load the dataset without --streaming, or call select_dataset(stream, "
            "reference=...) from Python with the images to compare with."
        )


def check_before_reading(
    stream: ImageStream,
    arguments: Arguments,
    listings: tuple[Listing | None, Listing | None],
    class_names: Sequence[str] | None,
    objective: Objective,
    sizes: Sequence[Size],
) -> None:
    """Raise `InputError` for what can't be met whatever rows the stream has.

    `listings` are those of `--must_keep` and `--must_drop`, and the class names those that a caller passed.
    """
    check_listings(*listings, stream.features)
    if arguments.data.id_column is not None:
        check_id_column(arguments.data.id_column, stream.features)
    if stream.has_captions:
        check_caption_words(arguments, class_names)
        check_caption_settings(objective, sizes)
        return
    check_templates(arguments.model.prompt_template)
    column, file = stream.label_column, arguments.data.class_names_file
    given = class_names if file is None else read_class_names(file)
    names = known_class_names(stream.features[column], column, given)
    if names is None:  # the rows tell
        return
    distinct_names(names)
    quotas = objective.class_quotas or {}
    if objective.balance_by == "class" and (unknown := [name for name in quotas if name not in names]):
        raise InputError(
            f"--class_quotas_file names {', '.join(unknown[:5])}, which is no class of the stream; {there_are(names)}."
        )


def check_caption_words(arguments: Arguments, class_names: Sequence[str] | None) -> None:
    """Raise `InputError` for words that would be put around captions, or in their place."""
    if class_names is not None:
        raise InputError("class_names are for labels, and captions are used as they are; leave them out.")
    if (templates := arguments.model.prompt_template) != [DEFAULT_PROMPT_TEMPLATE]:
        raise InputError(
            f"--prompt_template {templates[0]!r} is for the names of classes; captions are used as they are. Leave it "
            "out."
        )
