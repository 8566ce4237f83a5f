"""How decoding and the model share the cores: measured on a CPU, asked for by the user, or not worth a trial."""

import numpy as np
import pytest
import torch

from hf_clipselect.data import prepare_dataset, with_image_column_undecoded
from hf_clipselect.encoder import cores, load_backbone
from hf_clipselect.encoder.cores import cores_shared
from hf_clipselect.encoder.pixels import PreprocessedImages
from hf_clipselect.encoder.tower import ImageTower


@pytest.fixture
def work(clip_folder, images_dataset):
    images, backbone = prepare_dataset(images_dataset), load_backbone(str(clip_folder))
    pixels = PreprocessedImages(with_image_column_undecoded(images), "image", backbone.image_processor)
    return pixels, ImageTower(backbone)


@pytest.fixture
def eight_cores(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(cores, "available_cores", lambda: 8)
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("share", "workers", "threads"), [(0.01, 1, 8), (0.3, 2, 6), (0.5, 4, 4), (1.0, 8, 1)])
def test_each_side_gets_its_share(work, monkeypatch, share, workers, threads):
    monkeypatch.setattr(cores, "_decoding_share", lambda *_: share)
    with cores_shared(*work, range(1000)) as found:
        assert (found, torch.get_num_threads()) == (workers, threads)
    assert torch.get_num_threads() == 8


@pytest.mark.usefixtures("eight_cores")
def test_threads_are_never_raised(work, monkeypatch):
    monkeypatch.setattr(cores, "_decoding_share", lambda *_: 0.3)
    torch.set_num_threads(2)
    with cores_shared(*work, range(1000)) as found:
        assert (found, torch.get_num_threads()) == (2, 2)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("eight_cores")
def test_one_thread_that_a_launcher_gives_each_process_is_not_its_share(work, monkeypatch):
    monkeypatch.setattr(cores, "_decoding_share", lambda *_: 0.3)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    torch.set_num_threads(1)
    with cores_shared(*work, range(1000)) as found:
        assert (found, torch.get_num_threads()) == (2, 6)
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("eight_cores")
def test_what_the_user_asks_for_and_what_is_not_worth_a_trial(work, monkeypatch):
    monkeypatch.setattr(cores, "_decoding_share", lambda *_: pytest.fail("timed"))
    for rows, asked, expected in ((1000, 3, 3), (1000, 0, 0), (500, None, 0)):
        with cores_shared(*work, range(rows), num_workers=asked) as found:
            assert (found, torch.get_num_threads()) == (expected, 8)


@pytest.mark.usefixtures("eight_cores")
def test_a_trial_times_both_sides(work):
    pixels, tower = work
    with cores_shared(pixels, tower, list(np.arange(60)) * 10) as found:
        assert 1 <= found <= 8 and 1 <= torch.get_num_threads() <= 8
    with pytest.raises(ZeroDivisionError), cores_shared(pixels, tower, range(600)):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 8


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = cores.available_cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores.available_cores() == max(1, alone // 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert cores.available_cores() == 1
