"""How wrong labels that were put into a file of embeddings with images are found, as a picture and in figures."""

from dataclasses import dataclass

from datasets import ClassLabel
from PIL import Image

from ..errors import InputError
from ..pipeline.embeddings import select_embeddings
from ..results.report import PICTURE_SIDE, draw_grid, pick_suspects
from ..results.scores_table import column_values
from .comparison.features_setting import ReadyFeatures
from .robustness import add_label_noise


# Enough to tell a share of them, few enough that somebody would look at them.
_FIRST = 100


@dataclass(frozen=True)
class FoundSuspects:
    """The rows whose labels look wrong, most probably wrong first, beside what is true of them."""

    picture: Image.Image
    tables: str  # Markdown


def find_suspects(
    features: ReadyFeatures, class_names: list[str], *, noise_rate: float, num_drawn: int, seed: int
) -> FoundSuspects:
    """Give a share of the N rows another class, drawn uniformly, and look for them by the default objective's scores.

    Args:
        features ([`ReadyFeatures`]): A file with images, whose labels are taken as right.
        class_names (`list[str]`): One for each of its classes.
        noise_rate (`float`): Share of the labels to change, in [0, 1).
        num_drawn (`int`): Rows in the picture.
        seed (`int`): Of the noise and the selection.

    Returns:
        `FoundSuspects`

    Raises:
        InputError: The file has no images, or another number of classes; no row is to be drawn; or no label looks
            wrong.
    """
    if len(features.images) == 0:
        raise InputError(f"{features.name} holds no train_images, and the picture is of them.")
    if len(class_names) != len(features.texts):
        raise InputError(
            f"{features.name} has {len(features.texts)} classes with a text, got {len(class_names)} names for them."
        )
    if num_drawn < 1:
        raise InputError(f"--num is how many rows to draw and must be at least 1, got {num_drawn}.")
    labels = add_label_noise(features.labels, len(class_names), rate=noise_rate, seed=seed)
    scores = select_embeddings(features.embeds, features.texts, labels, seed=seed).scores
    classes = ClassLabel(names=class_names)
    for name in ("label", "predicted_label", "clean_label"):
        scores = scores.cast_column(name, classes)
    suspects = pick_suspects(scores)
    if len(suspects) == 0:
        raise InputError(f"No label of {features.name} looks wrong, so there is nothing to draw.")
    side = max(1, PICTURE_SIDE // max(features.images.shape[1:3]))
    images: dict[int, Image.Image | None] = {
        int(row): Image.fromarray(features.images[row]).resize(
            (side * features.images.shape[2], side * features.images.shape[1]), Image.Resampling.BICUBIC
        )
        for row in suspects[:num_drawn]
    }
    picture = draw_grid(scores, suspects[:num_drawn], images)
    is_wrong, proposed = labels != features.labels, column_values(scores, "clean_label")
    first = suspects[:_FIRST]
    lines = {
        "rows": len(labels),
        "labels made wrong": int(is_wrong.sum()),
        "rows whose label looks wrong": len(suspects),
        "of these wrong": int(is_wrong[suspects].sum()),
        f"of the first {len(first)} wrong": int(is_wrong[first].sum()),
        f"of the first {len(first)} proposed the right class": int((proposed == features.labels)[first].sum()),
    }
    table = "\n".join(f"| {name} | {value:,} |" for name, value in lines.items())
    heading = f"## {features.name}, {100 * noise_rate:g}% wrong labels"
    return FoundSuspects(picture, f"{heading}\n\nSuspects:\n\n| what | rows |\n|---|---|\n{table}\n")
