"""Rows that are copies of rows of a reference, such as the test split.

Legend: N rows considered, M readable rows of the reference, D embed_dim.
"""

import logging

import numpy as np
import torch

from ..adapters.projections import Projections, embed_rows
from ..encoder.features import encode_dataset
from ..errors import InputError
from ..scores.leaks import copies, nearest_references, usual_cosine
from ..selection.neighbor_graph import zero_cosine
from .encode import EncodedRows
from .prepared import AnyPrepared, ImageInputs


logger = logging.getLogger(__name__)


def find_leaks(prepared: AnyPrepared, inputs: ImageInputs, rows: EncodedRows) -> np.ndarray:
    """The row of the reference that each row is a copy of, `(N,)`, int64; -1 for one that is none or can't be read.

    Copies are near duplicates as `duplicate_group` has them: the cosine of the two embeddings is so far above what is
    usual between a row of the class and its nearest rows that few other pairs reach it. Measured with 200 copies of
    each kind, by the tiny CLIP on digits and by an ImageNet classifier on photographs of 160 pixels and on CIFAR-10
    (OpenAI's CLIP was not at hand): exact copies are all found, JPEGs of quality 90 nearly all, of quality 75 from
    78 %, of quality 30 hardly one; enlarged ones all, photographs of three quarters of the size too, but of the small
    images hardly one, and of half the size at most a tenth; cropped by a tenth at most 37 %; copies that were mirrored
    or turned hardly ever. Of the other rows 0.2 % of the digits and none of the photographs and of CIFAR-10 counted as
    copies. So what is found deserves belief, and a report of none does not prove that there are none.

    By plain CLIP, since a copy is one whatever its label is, and adapters pull the rows of a label together. Each
    class is compared by one process, and all processes get all rows. Raises `InputError` where an image of the
    reference can't be read and `--on_bad_image` is error.
    """
    numbers, references = _embed_reference(prepared, inputs)
    projections, cells = Projections(inputs.model), rows.targets.cells
    processes, mine = prepared.processes, []
    for cell in range(int(cells.max()) + 1)[processes.index :: processes.count]:
        of_cell = np.flatnonzero(cells == cell)
        if len(of_cell):
            embeds = embed_rows(projections, rows.features.images, of_cell)
            mine.append((of_cell, usual_cosine(embeds), *nearest_references(embeds, references)))
    parts = [part for theirs in processes.gather(mine) for part in theirs]
    # A class of one row tells nothing of what is usual; where all are so, exact copies alone count.
    known = [usual for _, usual, _, _ in parts if usual is not None] or [zero_cosine(np.ones(1))]
    of_a_class = np.float32(np.median(known))
    leak_of = np.full(len(prepared.rows.labels), -1, dtype=np.int64)
    for of_cell, usual, nearest, cosines in parts:
        found = copies(nearest, cosines, of_a_class if usual is None else usual)
        leak_of[rows.numbers[of_cell]] = np.where(found < 0, -1, numbers[found])
    return leak_of


def _embed_reference(prepared: AnyPrepared, inputs: ImageInputs) -> tuple[np.ndarray, torch.Tensor]:
    """Rows of the reference that can be read, `(M,)`, int64, and their unit-norm embeddings `(M, D)`."""
    reference, arguments = inputs.reference, prepared.arguments
    assert reference is not None
    encoded = encode_dataset(
        reference,
        inputs.backbone,
        inputs.folder.reference_features,
        accelerator=inputs.accelerator,
        batch_size=inputs.batch_size,
        num_workers=arguments.model.dataloader_num_workers,
        on_bad_image="drop",  # what else to do is told here, in words for a reference
        overwrite=arguments.run.overwrite_output_dir,
    )
    if encoded.unreadable:
        row, reason = min(encoded.unreadable.items())
        if arguments.data.on_bad_image == "error":
            raise InputError(
                f"The image of row {row} of the reference can't be read: {reason} Repair or remove it, or pass "
                "--on_bad_image drop to compare with the others."
            )
        logger.warning(
            "%d of %d images of the reference could not be read, and nothing was compared with them; the first is "
            "that of row %d.",
            len(encoded.unreadable),
            len(encoded.features),
            row,
        )
    numbers = np.setdiff1d(np.arange(len(encoded.features)), list(encoded.unreadable))
    if len(numbers) == 0:
        raise InputError("No image of the reference can be read; give another --reference_split.")
    return numbers, embed_rows(Projections(inputs.model), encoded.features, numbers)
