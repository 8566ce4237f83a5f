"""How decoding and the model share the cores: measured on a CPU, asked for by the user, or not worth a trial."""

import threading

import numpy as np
import pytest
import torch

from hf_clipselect.data import read_images, with_image_column_undecoded
from hf_clipselect.encoder import cores
from hf_clipselect.encoder.backbone import head_features, load_backbone
from hf_clipselect.encoder.cores import share_cores
from hf_clipselect.encoder.dual_encoder import of_model
from hf_clipselect.encoder.pixels import PreprocessedImages
from hf_clipselect.encoder.threads import in_order, one_thread_each
from hf_clipselect.encoder.tower import ImageTower


@pytest.fixture
def work(clip_folder, images_dataset):
    images, backbone = read_images(images_dataset), load_backbone(str(clip_folder))
    pixels = PreprocessedImages(with_image_column_undecoded(images), "image", backbone.image_processor)
    with head_features(backbone.model, of_model(backbone.model).image_head) as run:
        yield pixels, ImageTower(backbone, run)


@pytest.fixture
def eight_cores(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(cores, "available_cores", lambda: 8)
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("share", "expected"), [(0.01, (1, 8)), (0.3, (2, 6)), (0.5, (4, 4)), (1.0, (8, 1))])
def test_each_side_gets_its_share(work, monkeypatch, share, expected):
    monkeypatch.setattr(cores, "_decoding_share", lambda *_: share)
    assert share_cores(*work, range(1000)) == expected


@pytest.mark.usefixtures("eight_cores")
def test_threads_are_raised_only_where_a_launcher_gave_each_process_one(work, monkeypatch):
    monkeypatch.setattr(cores, "_decoding_share", lambda *_: 0.3)
    torch.set_num_threads(2)
    assert share_cores(*work, range(1000)) == (2, 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert share_cores(*work, range(1000)) == (2, 6)


@pytest.mark.usefixtures("eight_cores")
def test_what_the_user_asks_for_and_what_is_not_worth_a_trial(work, monkeypatch):
    monkeypatch.setattr(cores, "_decoding_share", lambda *_: pytest.fail("timed"))
    for rows, asked, expected in ((1000, 3, 3), (1000, 0, 0), (500, None, 0)):
        assert share_cores(*work, range(rows), num_workers=asked) == (expected, 8)


@pytest.mark.usefixtures("eight_cores")
def test_a_trial_times_both_sides(work):
    workers, threads = share_cores(*work, list(np.arange(60)) * 10)
    assert 1 <= workers <= 8 and 1 <= threads <= 8
    assert torch.get_num_threads() == 8


def test_results_come_in_the_order_of_the_items_from_several_threads():
    both = threading.Barrier(2, timeout=60)

    def work(item):
        both.wait()  # no result without a second thread
        return item, torch.get_num_threads()

    before = torch.get_num_threads()
    with one_thread_each(torch.device("cpu"), threads=2) as threads:
        assert list(in_order(work, range(6), threads=threads)) == [(item, 1) for item in range(6)]
    assert torch.get_num_threads() == before
    with one_thread_each(torch.device("meta")) as threads:
        assert threads == 0
    assert list(in_order(abs, [-1, 2], threads=0)) == [1, 2]


def test_an_error_in_a_thread_reaches_the_caller_and_ends_the_others():
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda item: 1 // (item - 3), items(), threads=2))
    assert len(taken) < 10


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = cores.available_cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores.available_cores() == max(1, alone // 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert cores.available_cores() == 1
