"""Write the files of embeddings that recipes/robust/*.yaml compare on.

    CLIPSELECT_DATA=folder python recipes/robust_features.py --output_dir compare_output/robust

- digits.npz: the embedded digits by the embedded tiny CLIP; the judge sees the 64 pixels.
- cifar10_mapped_development.npz and cifar10_conse_development.npz: the first 3,000 training rows of
  $CLIPSELECT_DATA/cifar10-embeddings/features.npz in two image-text spaces, of which `mapped` knows the domain
  (zero-shot 74 %) and `conse` hardly does (40 %); the judge sees `judge`, the last layer of the network behind both
  spaces. The files of the name ..._report.npz hold the rows 6,000 to 8,999. The 1,500 test rows are the same in all.
- cifar10_mapped_images.npz and cifar10_conse_images.npz: the 9,000 rows from 3,000 on with their images, of
  $CLIPSELECT_DATA/cifar10, and the 8,500 other test rows: a small network is trained on the images, which knows
  nothing of the spaces.

What a judge sees has unit norm, so that one regularisation suits all sets. Without CLIPSELECT_DATA the digits alone
are written.
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

import argparse
import io
from pathlib import Path

import numpy as np

from hf_clipselect.config.arguments import EMBEDDED_DATASET, EMBEDDED_MODEL
from hf_clipselect.data import LabelledImages, read_images
from hf_clipselect.data.source import load_source
from hf_clipselect.encoder.images import open_image
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.comparison.clip_embeds import clip_embeds
from hf_clipselect.evaluation.digits_network import digit_pixels
from hf_clipselect.runtime.files import make_folder, write_atomically
from hf_clipselect.runtime.terminal import error_line


ROWS = {"development": slice(0, 3000), "report": slice(6000, 9000)}
# Images: none of the rows that the objective was developed on, nor of the test rows that it was tested on then.
IMAGES = slice(3000, 12000)
TEXTS = {"mapped": "text_mapped", "conse": "text"}

Arrays = dict[str, np.ndarray]


def main() -> int:
    arguments = parse_arguments()
    data = os.environ.get("CLIPSELECT_DATA")
    try:
        folder = make_folder(arguments.output_dir, "--output_dir")
        files = {"digits": digits()}
        if data:
            files |= cifar10(Path(data))
    except (InputError, OSError) as error:
        sys.stderr.write(error_line(error))
        return 2
    for name, arrays in files.items():
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomically(folder / f"{name}.npz", buffer.getvalue())
        print(
            f"{folder / name}.npz: {len(arrays['train_labels'])} training and {len(arrays['test_labels'])} test rows"
        )
    return 0


def digits() -> Arrays:
    arrays: Arrays = {}
    for split in ("train", "test"):
        images = read_images(*load_source(EMBEDDED_DATASET, split=split))
        embeds, arrays["class_text_embeds"] = clip_embeds(images, EMBEDDED_MODEL)
        arrays |= {f"{split}_image_embeds": embeds, f"{split}_labels": images.labels}
        arrays[f"{split}_judge_embeds"] = unit(digit_pixels(images.dataset))
    return arrays


def cifar10(data: Path) -> dict[str, Arrays]:
    files = {}
    with np.load(data / "cifar10-embeddings" / "features.npz", allow_pickle=False) as given:
        train = read_images(*load_source(str(data / "cifar10"), split="train"))
        test = read_images(*load_source(str(data / "cifar10"), split="test"))
        unseen = np.setdiff1d(np.arange(len(test.labels)), given["test_rows"])
        images = {
            "train_images": pixels(train, given["train_rows"][IMAGES]),
            "train_labels": given["labels"][IMAGES].astype(np.int64),
            "test_images": pixels(test, unseen),
            "test_labels": test.labels[unseen],
        }
        for space, texts in TEXTS.items():
            files[f"cifar10_{space}_images"] = {
                "train_image_embeds": given[space][IMAGES],
                "class_text_embeds": given[texts],
                **images,
            }
            for part, rows in ROWS.items():
                files[f"cifar10_{space}_{part}"] = {
                    "train_image_embeds": given[space][rows],
                    "train_labels": given["labels"][rows].astype(np.int64),
                    "train_judge_embeds": unit(given["judge"][rows]),
                    "test_image_embeds": given[f"test_{space}"],
                    "test_labels": given["test_labels"].astype(np.int64),
                    "test_judge_embeds": unit(given["test_judge"]),
                    "class_text_embeds": given[texts],
                }
    return files


def pixels(images: LabelledImages, rows: np.ndarray) -> np.ndarray:
    column = images.dataset.select(rows).with_format(None)[images.image_column]
    return np.stack([np.asarray(open_image(image).convert("RGB")) for image in column])


def unit(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="compare_output/robust", help="Folder of the files.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
