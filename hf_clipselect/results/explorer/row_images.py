"""Images and captions of single rows, read when they are shown; the last thumbnails are kept in memory."""

import base64
import io
from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock

import numpy as np
from datasets import Dataset
from PIL import Image

from ...errors import InputError
from ..report.suspects import captions_of
from ..report.thumbnails import make_thumbnails, small_images, white_of


# The dataset, and the source_index of its rows where these are not all.
Loaded = tuple[Dataset, np.ndarray | None]
LARGE_SIDE = 640
# Of some 5 KB each.
_MOST_KEPT = 4000
# What a browser shows faster as PNG than as JPEG, and without its blur: drawings and icons of few pixels.
_MOST_PNG_BYTES = 200_000


class RowImages:
    """The images of the rows that a selection was made from, by `source_index`.

    Args:
        load (`Callable[[], tuple[Dataset, np.ndarray | None]]`):
            Gives the dataset, and the rising source_index of its rows where it holds some of them alone; called once,
            when the first image is asked for. An `InputError` of it becomes `missing`.
        image_column, label_column (`str`): Its columns.
    """

    def __init__(self, load: Callable[[], Loaded], image_column: str, label_column: str) -> None:
        self._load = load
        self._columns = image_column, label_column
        self._opening, self._reading = Lock(), Lock()
        self._opened = False
        self._dataset: Dataset | None = None
        self._numbers: np.ndarray | None = None
        self._missing = ""
        self._white: int | None = None
        self._thumbnails: OrderedDict[int, str | None] = OrderedDict()

    @property
    def missing(self) -> str:
        """Why there are no images, or none of some rows; empty where every row has one."""
        self._open()
        return self._missing

    def thumbnails(self, source_index: Iterable[int]) -> dict[int, str | None]:
        """Data URIs of at most 96 pixels a side, by source_index; None for a row without an image that can be read."""
        wanted = [int(number) for number in source_index]
        dataset = self._open()
        if dataset is None:
            return dict.fromkeys(wanted)
        with self._reading:
            places = self._places([number for number in wanted if number not in self._thumbnails])
            made = make_thumbnails(dataset, self._columns[0], places.values(), white=self._white)
            found = {number: self._thumbnails[number] for number in wanted if number in self._thumbnails}
            found |= {number: made[place] for number, place in places.items()}
            for number, image in found.items():
                self._thumbnails[number] = image
                self._thumbnails.move_to_end(number)
            while len(self._thumbnails) > _MOST_KEPT:
                self._thumbnails.popitem(last=False)
        return {number: found.get(number) for number in wanted}

    def large(self, source_index: int) -> str | None:
        """A data URI of at most 640 pixels a side: a small image larger by a whole factor, its pixels as they are."""
        dataset = self._open()
        places = self._places([source_index])
        if dataset is None or not places:
            return None
        place = places[source_index]
        image = small_images(dataset, self._columns[0], [place], max_side=LARGE_SIDE, white=self._white)[place]
        return None if image is None else _data_uri(image)

    def captions(self, source_index: Iterable[int]) -> dict[int, str]:
        """The captions of those rows that there are, by source_index, for a selection of images with captions."""
        dataset = self._open()
        places = self._places([int(number) for number in source_index])
        if dataset is None or not places:
            return {}
        texts = captions_of(dataset, self._columns[1])(np.array(list(places.values())))
        return dict(zip(places, texts, strict=True))

    def _places(self, source_index: list[int]) -> dict[int, int]:
        """Rows in the dataset of those that it holds."""
        if self._dataset is None:
            return {}
        if self._numbers is None:
            return {number: number for number in source_index if 0 <= number < len(self._dataset)}
        places = np.searchsorted(self._numbers, source_index)
        held = [(number, int(place)) for number, place in zip(source_index, places, strict=True)]
        return {n: place for n, place in held if place < len(self._numbers) and self._numbers[place] == n}

    def _open(self) -> Dataset | None:
        with self._opening:
            if not self._opened:
                try:
                    self._dataset, self._numbers = self._load()
                    if len(self._dataset):
                        self._white = white_of(self._dataset, self._columns[0])
                    if self._numbers is not None:
                        self._missing = "Only the rows that were kept have images here."
                except InputError as error:
                    self._missing = str(error)
                self._opened = True
        return self._dataset


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    kind = "png"
    if buffer.tell() > _MOST_PNG_BYTES:
        buffer, kind = io.BytesIO(), "jpeg"
        image.save(buffer, format=kind, quality=90)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
