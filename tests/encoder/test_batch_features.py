"""Images that come as decoded batches have the features that a run on a dataset keeps."""

import numpy as np
from accelerate import Accelerator

from hf_clipselect.data import read_images, with_image_column_undecoded
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.encoder.batch_features import batch_features
from hf_clipselect.encoder.decoding import decoded_batches
from hf_clipselect.encoder.features import encode_dataset
from hf_clipselect.encoder.lean_pixels import LeanPixels
from hf_clipselect.encoder.pixels import PreprocessedImages


def test_batches_have_the_features_of_a_dataset(images_dataset, clip_folder, tmp_path):
    backbone, images = load_backbone(str(clip_folder)), read_images(images_dataset)
    kept = encode_dataset(images, backbone, tmp_path, accelerator=Accelerator(cpu=True), batch_size=16)
    lean = LeanPixels.of(backbone.image_processor)
    rows = with_image_column_undecoded(images).to_list()
    rows[7]["image"]["bytes"] = b"no image"
    column = {"image": [row["image"] for row in rows]}

    class Rows:
        def __len__(self):
            return len(rows)

        def __getitem__(self, numbers):
            return {"image": [column["image"][number] for number in numbers]}

    for workers, threads in [(0, 1), (2, 2)]:
        pixels = PreprocessedImages(Rows(), "image", backbone.image_processor, lean=lean)
        batches = decoded_batches(
            pixels, [list(range(at, min(at + 16, 60))) for at in range(0, 60, 16)], num_workers=workers
        )
        features, unreadable = batch_features(backbone, batches, lean=lean, threads=threads)
        assert list(unreadable) == [7] and "not an image" in unreadable[7]
        readable = np.setdiff1d(np.arange(60), [7])
        assert np.allclose(features, kept.features.take(readable), atol=1e-6)
    nothing, _ = batch_features(backbone, iter([]), lean=lean, threads=1)
    assert nothing.shape == (0, 16)
