import threading
from pathlib import Path

import pytest
import torch

from hf_clipselect import select_dataset
from hf_clipselect.config.arguments import EMBEDDED_MODEL
from hf_clipselect.data import read_images
from hf_clipselect.embedded.digits import load_digits_dataset
from hf_clipselect.encoder.backbone import head_features, load_backbone
from hf_clipselect.encoder.batch_size import largest_that_fits, resolve_batch_size
from hf_clipselect.encoder.cache import recorded_key
from hf_clipselect.encoder.dual_encoder import of_model
from hf_clipselect.encoder.features import encode_dataset
from hf_clipselect.encoder.precision import (
    _Setting,
    available_precisions,
    encoder_arithmetic,
    fastest_products,
    resolve_precision,
)
from hf_clipselect.encoder.tower import ImageTower
from hf_clipselect.errors import InputError
from hf_clipselect.pipeline.provenance import identity
from hf_clipselect.results.run_folder import RunFolder
from hf_clipselect.runtime.launch import make_accelerator
from hf_clipselect.runtime.processes import Processes


FLAGS = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split())
HAS_BFLOAT16 = not FLAGS.isdisjoint({"avx512_bf16", "amx_bf16"})
lacks_bfloat16 = pytest.mark.skipif(HAS_BFLOAT16, reason="this CPU has bfloat16")
PRODUCTS = torch.backends.mkldnn.matmul


def test_the_cpu_is_asked_for_its_instructions():
    assert available_precisions("cpu") == (("float32", "bfloat16") if HAS_BFLOAT16 else ("float32",))


def test_auto_goes_on_with_what_is_there():
    assert resolve_precision("auto", "cpu") == resolve_precision("auto", "cpu", {}) == "float32"
    assert resolve_precision("auto", "cpu", {"dtype": "torch.bfloat16"}) == "bfloat16"
    assert resolve_precision("auto", "cpu", {"dtype": "torch.float32"}) == "float32"
    assert resolve_precision("float32", "cpu", {"dtype": "torch.bfloat16"}) == "float32"


@lacks_bfloat16
@pytest.mark.parametrize("asked", [{"precision": "bfloat16"}, {"bf16": True}])
def test_a_precision_that_the_machine_lacks(images_dataset, clip_folder, caplog, asked):
    with pytest.raises(InputError) as error:
        select_dataset(images_dataset, model_name_or_path=clip_folder, use_cpu=True, **asked)
    assert str(error.value) == (
        'precision="bfloat16" is not what this machine\'s cpu computes in; it has float32. Pass one that it has, or '
        "leave it out."
    )
    assert ("bf16=True is the old name" in caplog.text) == ("bf16" in asked)


def test_a_run_goes_on_with_the_precision_and_batch_size_of_its_features(images_dataset, clip_folder, tmp_path):
    def run(**settings):
        settings |= {"output_dir": tmp_path, "use_cpu": True, "adaptation": "off", "dataloader_num_workers": 0}
        return select_dataset(images_dataset, model_name_or_path=clip_folder, **settings)

    images, features = read_images(images_dataset), tmp_path / "features"
    half = load_backbone(str(clip_folder), precision="bfloat16")
    RunFolder(tmp_path).write_config({"identity": identity(images, half)})
    encode_dataset(images, half, features, accelerator=make_accelerator(), batch_size=16)
    shard = features / "images-00000.safetensors"
    written = shard.stat().st_mtime_ns
    report = run().report
    assert (report["model"]["precision"], report["model"]["batch_size"]) == ("bfloat16", 16)
    assert (report["arguments"]["precision"], report["arguments"]["per_device_eval_batch_size"]) == ("auto", "auto")
    for settings, told in (({"precision": "float32"}, "dtype"), ({"per_device_eval_batch_size": 8}, "batch_size")):
        with pytest.raises(InputError, match=f"were made otherwise: {told} "):
            run(**settings)
    assert shard.stat().st_mtime_ns == written and recorded_key(features)["batch_size"] == 16


@pytest.mark.slow
def test_precisions_keep_the_same_rows_where_margins_decide(tmp_path):
    # Other objectives don't: what herding picks first decides what it picks next, so float32 is the default.
    digits, kept = load_digits_dataset(), {}
    images = read_images(digits)
    for precision in ("float32", "bfloat16"):
        backbone, folder = load_backbone(EMBEDDED_MODEL, precision=precision), tmp_path / precision
        folder.mkdir()
        RunFolder(folder).write_config({"identity": identity(images, backbone)})
        encode_dataset(images, backbone, folder / "features", accelerator=make_accelerator(), batch_size=64)
        settings = {"objective": "clean", "adaptation": "off", "use_cpu": True, "output_dir": folder}
        result = select_dataset(digits, model_name_or_path=EMBEDDED_MODEL, **settings)
        assert result.report["model"]["precision"] == precision
        kept[precision] = set(result.selected.tolist())
    both = kept["float32"] & kept["bfloat16"]
    assert len(both) / len(kept["float32"] | kept["bfloat16"]) >= 0.97


def test_the_fastest_products_leave_embeddings_as_they_are(images_dataset, clip_folder):
    backbone = load_backbone(str(clip_folder))
    pixels = backbone.image_processor(images=list(images_dataset["image"]), return_tensors="pt")
    embeds = []
    with torch.inference_mode():
        for products in ("highest", fastest_products("float32", "cpu")):
            with encoder_arithmetic(products, torch.device("cpu")):
                embeds.append(torch.nn.functional.normalize(backbone.model.get_image_features(**pixels).pooler_output))
    torch.testing.assert_close(*embeds, atol=1e-5, rtol=0)


def test_torch_has_its_setting_back():
    setting, before = _Setting(), PRODUCTS.fp32_precision
    with pytest.raises(KeyError), setting.as_wanted(PRODUCTS, "bf16"):
        assert PRODUCTS.fp32_precision == "bf16"
        raise KeyError
    assert PRODUCTS.fp32_precision == before
    first_has_it, first_may_end, seen = threading.Event(), threading.Event(), []

    def hold(value, event=None):
        with setting.as_wanted(PRODUCTS, value):
            if event is not None:
                first_has_it.set()
                event.wait()
            seen.append(PRODUCTS.fp32_precision)

    threads = [threading.Thread(target=hold, args=("bf16", first_may_end))]
    threads[0].start()
    first_has_it.wait()
    hold("bf16")  # the same value: beside the other
    threads.append(threading.Thread(target=hold, args=("ieee",)))
    threads[1].start()
    assert seen == ["bf16"]
    first_may_end.set()
    for thread in threads:
        thread.join()
    assert seen == ["bf16", "bf16", before] and PRODUCTS.fp32_precision == before


def test_as_many_images_as_fit_go_through_at_once(clip_folder, monkeypatch):
    backbone, sizes, most = load_backbone(str(clip_folder)), [], 100
    forward = type(backbone.model).get_image_features

    def short_of_memory(model, pixel_values):
        sizes.append(len(pixel_values))
        if len(pixel_values) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(model, pixel_values=pixel_values)

    monkeypatch.setattr(type(backbone.model), "get_image_features", short_of_memory)
    with head_features(backbone.model, of_model(backbone.model).image_head) as run:
        assert largest_that_fits(ImageTower(backbone, run)) == 64 and sizes == [512, 256, 128, 64]
        most = 512
        assert largest_that_fits(ImageTower(backbone, run)) == 512
        backbone.image_processor.crop_size = {"height": 7, "width": 7}
        with pytest.raises(InputError, match="does not fit the model"):
            largest_that_fits(ImageTower(backbone, run))


def test_batch_sizes(clip_folder):
    backbone, alone = load_backbone(str(clip_folder)), Processes()
    assert resolve_batch_size(7, backbone, alone, {"batch_size": 16}) == 7
    assert resolve_batch_size("auto", backbone, alone, {"batch_size": 16}) == 16
    assert resolve_batch_size("auto", backbone, alone, {}) == 64
