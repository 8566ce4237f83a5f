"""How well an image fits its own caption, where there are no classes: against captions that say something else.

Legend: B rows, C captions that differ, R references, D embed_dim.
"""

import numpy as np
import torch

from ..selection.counts import round_half_up
from .arrays import Array, as_numpy, row_blocks


# Other captions that an image is compared with: enough that a random one of them rarely wins by chance.
NUM_REFERENCES = 1000
# The part of the references that is most like the row's own caption is left out: other words for the same thing are no
# mistake. On drawn digits, letters and shapes, whose captions say each thing in some 60 ways, a caption that is right
# beat the other 1,000 for 9 % of the images, and the nine tenths of them that are left for 78 %; one that is wrong for
# 0 and 3 %.
LIKE_THE_OWN = 0.1


def draw_references(num_captions: int, *, seed: int) -> np.ndarray:
    """The captions that all rows are compared with: all C, or 1,000 drawn with the seed; `(R,)`, int64, rising."""
    if num_captions <= NUM_REFERENCES:
        return np.arange(num_captions)
    # Another stream than those of batches, held-out rows and folds.
    return np.sort(np.random.default_rng([seed, 5]).choice(num_captions, NUM_REFERENCES, replace=False))


def caption_alignment(
    image_embeds: Array, own_embeds: Array, own: np.ndarray, reference_embeds: Array, references: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best caption of each image, SAS and margin, as `alignment_scores` gives them for classes.

    SAS is the cosine with the own caption (eq. 1 of https://huggingface.co/papers/2410.11215 with a text for every
    row). The margin, which is ours, is that cosine minus the highest one with a reference that says something else:
    the tenth of the references that is most like the own caption, by the cosine of the texts, is left out.

    Takes unit-norm float32 embeddings of the images and of their own captions, both `(B, D)`, and of the references,
    `(R, D)`; and caption numbers in `[0, C)`: the own ones `(B,)`, and those of at least 2 references `(R,)`.

    Returns arrays of shape `(B,)`: the caption that fits best, the own one or a reference, int64; SAS in [-1, 1] and
    margin in [-2, 2], float32, higher is better aligned, the margin above 0 where the own fits best.
    """
    images, owns, others = (torch.as_tensor(embeds) for embeds in (image_embeds, own_embeds, reference_embeds))
    left_out = max(1, round_half_up(LIKE_THE_OWN, len(references)))
    own_numbers, numbers = torch.from_numpy(own).to(images.device), torch.from_numpy(references).to(images.device)
    parts = []
    for block in row_blocks(len(images), width=max(others.shape), of=images):
        likeness = owns[block] @ others.T
        is_own = own_numbers[block, None] == numbers
        # First of all the caption itself, whatever the last digits of its cosine are.
        like_the_own = likeness.masked_fill_(is_own, torch.inf).topk(left_out, dim=1).indices
        cosines = (images[block] @ others.T).scatter_(1, like_the_own, -torch.inf)
        highest, place = cosines.max(dim=1)
        mine = torch.einsum("nd,nd->n", images[block], owns[block])
        fitting = torch.where(mine > highest, own_numbers[block], numbers[place])
        parts.append((fitting, mine.clamp(-1, 1), mine - highest))
    best, sas, margin = (as_numpy(torch.cat(column)) for column in zip(*parts, strict=True))
    return best, sas, margin
