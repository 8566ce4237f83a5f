"""Write a file of embeddings and small images that recipes/compare.py compares on.

    python recipes/compare_features.py $CLIPSELECT_DATA/cifar10 --output_file compare_output/cifar10.npz
    python recipes/compare_features.py uoft-cs/cifar10 --model_name_or_path openai/clip-vit-base-patch32 \\
        --output_file cifar10.npz

With --model_name_or_path the embeddings are CLIP's. Without, they are those of a stand-in that needs no network: a
convolutional network that is trained on --num_other_rows other training rows with right labels, whose class means take
the place of the texts. Like CLIP it knows the classes from other images than those to select from, and much less than
CLIP. The candidates are --max_train_samples rows drawn from the train split, the test rows --max_eval_samples drawn
from the test split. How well the stand-in knows them is written to tables.md in a folder of the file's name.
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

import argparse
import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from hf_clipselect.data import LabelledImages, read_images
from hf_clipselect.data.source import load_source
from hf_clipselect.encoder.images import open_image
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.comparison.clip_embeds import clip_embeds
from hf_clipselect.evaluation.comparison.convnet import accuracy_of, embed_images, train_convnet
from hf_clipselect.pipeline.provenance import recipe_origin
from hf_clipselect.runtime.files import write_atomically, write_text_atomically
from hf_clipselect.runtime.terminal import error_line


_WIDTH, _NUM_STEPS, _BATCH_SIZE = 24, 1500, 128


def main() -> int:
    arguments = parse_arguments()
    try:
        arrays = make_arrays(arguments)
        path = Path(arguments.output_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomically(path, buffer.getvalue())
    except (InputError, OSError) as error:
        sys.stderr.write(error_line(error))
        return 2
    print(f"{path}: {len(arrays['train_labels'])} training and {len(arrays['test_labels'])} test rows")
    return 0


def make_arrays(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    splits = {split: read_images(*load_source(arguments.dataset_name, split=split)) for split in ("train", "test")}
    order = np.random.default_rng(0).permutation(len(splits["train"].labels))
    train, others = np.split(order, [arguments.max_train_samples])
    test = np.random.default_rng(1).permutation(len(splits["test"].labels))[: arguments.max_eval_samples]
    rows = {"train": np.sort(train), "test": np.sort(test)}
    chosen = {split: rows_of(splits[split], rows[split]) for split in splits}
    arrays = {f"{split}_labels": images.labels for split, images in chosen.items()}
    arrays |= {f"{split}_images": pixels(images) for split, images in chosen.items()}
    if arguments.model_name_or_path:
        for split, images in chosen.items():
            arrays[f"{split}_image_embeds"], arrays["class_text_embeds"] = clip_embeds(
                images, arguments.model_name_or_path
            )
        return arrays
    known = rows_of(splits["train"], np.sort(others[: arguments.num_other_rows]))
    known_pixels, num_classes = pixels(known), len(known.class_names)
    model = train_convnet(
        known_pixels,
        known.labels,
        num_classes=num_classes,
        seed=0,
        width=_WIDTH,
        num_steps=_NUM_STEPS,
        batch_size=_BATCH_SIZE,
    )
    for split in chosen:
        arrays[f"{split}_image_embeds"] = embed_images(model, arrays[f"{split}_images"])
    write_accuracy(accuracy_of(model, arrays["train_images"], arrays["train_labels"]), arguments)
    embeds = embed_images(model, known_pixels)
    means = [embeds[known.labels == label].mean(axis=0) for label in range(num_classes)]
    return {**arrays, "class_text_embeds": np.stack(means)}


def write_accuracy(accuracy: float, arguments: argparse.Namespace) -> None:
    table = f"| rows | accuracy |\n|---|---|\n| to select from | {100 * accuracy:.1f} |\n"
    text = f"## {Path(arguments.dataset_name).name}, a stand-in for CLIP\n\nAccuracy of the stand-in, %:\n\n{table}"
    folder = Path(arguments.output_file).with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    head = recipe_origin(__file__, "torch", "numpy")
    write_text_atomically(folder / "tables.md", f"{head}\n\n{text}")
    print(text)


def rows_of(images: LabelledImages, rows: np.ndarray) -> LabelledImages:
    return read_images(images.dataset.select(rows), replace(images.source, num_rows=len(rows)))


def pixels(images: LabelledImages) -> np.ndarray:
    column = images.dataset.with_format(None)[images.image_column]
    arrays = [np.asarray(open_image(image).convert("RGB")) for image in column]
    if len(shapes := {array.shape for array in arrays}) > 1:
        raise InputError(
            f"The convolutional network takes images of one size, and these have {len(shapes)}; resize them, or pass "
            "ready embeddings to recipes/compare.py without images."
        )
    return np.stack(arrays)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_name", help="Hub id or local folder with a train and a test split of small images.")
    parser.add_argument("--output_file", default="compare_output/features.npz", help="The .npz file.")
    parser.add_argument("--model_name_or_path", help="CLIP to embed with; default the stand-in.")
    parser.add_argument("--max_train_samples", type=int, default=5000, help="Rows to select from.")
    parser.add_argument("--max_eval_samples", type=int, default=2000, help="Rows to test on.")
    parser.add_argument("--num_other_rows", type=int, default=20000, help="Rows that the stand-in is trained on.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
