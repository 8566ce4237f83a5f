"""Published selections read back: from folders here, from the loopback Hub by clients in processes of their own."""

import pytest
from datasets import Image
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub
from made_results import make_result

from hf_clipselect import load_pruned
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError


def rows_of(dataset):
    """All values, the images as they are stored."""
    plain = dataset.cast_column("image", Image(decode=False))
    return {**plain[:], "image": [value["bytes"] for value in plain["image"]]}


@pytest.fixture(scope="module")
def digits():
    return load_digits_dataset("test")


@pytest.mark.parametrize("with_images", [True, False])
@pytest.mark.parametrize("ratio", [0.3, 0.45])
def test_folders_give_the_rows_with_and_without_images(digits, tmp_path, with_images, ratio):
    result = make_result(digits, (0.3, 0.6), name="embedded/digits", report=True)
    result.save(tmp_path / "run" / "subset", digits if with_images else None)
    for folder in (tmp_path / "run", str(tmp_path / "run" / "subset")):
        subset, mine = load_pruned(folder, ratio=ratio), result.at(ratio).apply(digits)
        assert subset.features == mine.features
        assert rows_of(subset) == rows_of(mine)


def test_images_are_taken_from_the_folder_that_has_them(images_dataset, tmp_path):
    result = make_result(images_dataset, name="/mnt/data/flowers", report=True)
    result.save(tmp_path, images_dataset)
    assert rows_of(load_pruned(tmp_path, ratio=0.3)) == rows_of(result.apply(images_dataset))
    with pytest.raises(InputError, match="was made from the local folder flowers") as error:
        load_pruned(tmp_path, ratio=0.4)
    assert f"SelectionResult.from_folder({str(tmp_path)!r}).at(ratio).apply(dataset)" in str(error.value)


@pytest.mark.parametrize(
    "card",
    [
        None,
        "no header",
        "---\nconfigs: 7\n---\n",
        "---\nconfigs: [[]]\n---\n",
        "---\n[\n---\n",
    ],
    ids=["none", "no header", "number", "list", "broken"],
)
def test_without_a_card_that_names_configs_the_scores_decide(digits, tmp_path, card):
    result = make_result(digits, name="embedded/digits", report=True)
    result.save(tmp_path)
    (tmp_path / "README.md").unlink()
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert load_pruned(tmp_path, ratio=0.3)["source_index"][:] == result.selected.tolist()


def test_wrong_arguments(digits, tmp_path):
    make_result(digits, name="embedded/digits", report=True).save(tmp_path / "saved")
    for ratio in (0, 1.5, "half"):
        with pytest.raises(InputError, match="^ratio .*must"):
            load_pruned(tmp_path / "saved", ratio=ratio)
    with pytest.raises(InputError, match="ratio must be a number"):
        load_pruned(tmp_path / "saved", ratio=(0.3, 0.5))
    with pytest.raises(InputError, match="Give the size of the subset: ratio=0.5, or count=500"):
        load_pruned(tmp_path / "saved")
    with pytest.raises(InputError, match="Expected one size, got 2"):
        load_pruned(tmp_path / "saved", ratio=0.3, count=5)
    with pytest.raises(InputError, match="is a local folder, which has no revision 'v1'"):
        load_pruned(tmp_path / "saved", ratio=0.3, revision="v1")
    with pytest.raises(InputError, match="holds no selection that can be read"):
        load_pruned(tmp_path, ratio=0.3)
    with pytest.raises(InputError, match="neither a folder nor a Hub id"):
        load_pruned(tmp_path / "absent", ratio=0.3)


# The loopback Hub


def run_hub_client(hub, name, *arguments, token="hf_alice_write", home=None, **environment):
    return run_client("result_clients", name, *arguments, env={**hub.environment(token, home), **environment})


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with LoopbackHub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="module")
def put(hub, tmp_path_factory):
    return run_hub_client(hub, "source_put", tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def got(hub, put):
    return run_hub_client(hub, "result_get", token="hf_alice_read")


@pytest.mark.slow
def test_the_source_is_known_by_commit_and_license(hub, put):
    # Newest first: the source that moved on, the license in the card, the push of the rows.
    license_commit = hub.history("datasets/alice/source")[1].oid
    assert put["source"] == [license_commit, "cc-by-4.0, mit", "alice/source", "small", "train"]


@pytest.mark.slow
def test_the_commit_and_the_license_are_known_without_a_connection_too(hub, put, tmp_path):
    online = run_hub_client(hub, "source_get", home=tmp_path)
    assert online[:2] == [hub.head("datasets/alice/source"), "cc-by-4.0, mit"]
    assert run_hub_client(hub, "source_get", home=tmp_path, HF_HUB_OFFLINE="1") == online


@pytest.mark.slow
def test_published_scores_give_any_ratio(put, got):
    assert (got["first"], got["second"]) == (put["first"], put["second"])
    assert put["first"] != put["second"]
    assert (got["source"], got["reports"]) == (put["source"], put["reports"])


@pytest.mark.slow
def test_load_pruned_gives_the_rows_with_and_without_images(put, got):
    assert got["pruned"] == put["second"]
    assert got["pruned v1"] == got["scores"] == put["first"]


@pytest.mark.slow
def test_what_cannot_be_had_is_told_in_a_sentence(put, got):
    moved, short, no_revision, of_folder, of_memory, revision, nothing, no_repo, no_selection = got["refused"]
    source = f"alice/source (config small, split train, revision {put['source'][0]})"
    assert moved.endswith(f"labels or images differ. Pass {source}, with its rows in their order.")
    assert short == f"The selection was made from 30 rows, the dataset has 29; pass {source}."
    assert put["no revision"] == put["first"]["0.8"]  # until the source moved on
    assert "labels or images differ. Pass alice/source (config small, split train), with" in no_revision
    assert of_folder.startswith("The selection in alice/of-folder was made from the local folder flowers,")
    assert of_memory.startswith("The selection in alice/of-memory was made from a dataset in memory,")
    for message, repo in ((of_folder, "alice/of-folder"), (of_memory, "alice/of-memory")):
        assert f"SelectionResult.from_hub('{repo}').at(ratio).apply(dataset)" in message
    assert revision.startswith("The dataset repository alice/pruned has no revision 'v9'")
    assert nothing == no_repo
    assert no_repo.startswith("The dataset repository alice/nothing does not exist")
    assert no_selection.startswith(
        "The dataset repository alice/source has no file selection.json or scores/*.parquet"
    )
    assert no_selection.endswith("Check the id and the revision.")


@pytest.mark.slow
def test_strangers_read_neither_private_selections_nor_private_sources(hub, put):
    selection, pruned, source = run_hub_client(hub, "result_stranger", token="hf_bob_write")
    assert selection == pruned
    assert selection.startswith("The dataset repository alice/pruned does not exist, or it is private and the token")
    assert source.startswith("The source of the selection in alice/open-scores, alice/source (config small,")
    assert "can't be loaded from the Hub" in source
