"""Scoring of shards: the scores of one machine, whatever the shards; what can't be read; what a rerun trusts."""

import json
import shutil
from multiprocessing.popen_fork import Popen
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captioned import drawn_pairs
from datasets import Dataset, Image
from datatrove.io import get_datafolder
from sharded import members, run_on_sample, write_tar
from sklearn.metrics import roc_auc_score

from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.robustness import add_label_noise
from hf_clipselect.scale.prepare_reference import SampleColumns, prepare_reference
from hf_clipselect.scale.scale_command import main
from hf_clipselect.scale.scale_reference import Reference, read_reference_of
from hf_clipselect.scale.score_step import Scored, score_shards


NUM_ROWS = 240
COLUMNS = ("cluster", "sas", "margin", "sds")


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    dataset, _ = drawn_pairs()
    return dataset.select(range(NUM_ROWS))


@pytest.fixture(scope="module")
def sample_run(pairs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    return run_on_sample(pairs, folder, "--caption_column", "text", "--adaptation", "off", "--num_clusters", 3)


@pytest.fixture
def prepared(sample_run: Path, pairs: Dataset, tmp_path: Path) -> Path:
    """A folder with a reference in `work/`, and all rows of the sample in three shards in `data/`."""
    prepare_reference(sample_run, get_datafolder(str(tmp_path / "work")), columns=SampleColumns(uid="uid"))
    write_tar(tmp_path / "data" / "a.tar", members(pairs, range(100)))
    write_tar(tmp_path / "data" / "b" / "c.tar", members(pairs, range(100, 130)))
    rest = pairs.select(range(130, NUM_ROWS)).add_column("uid", [f"{row:032x}" for row in range(130, NUM_ROWS)])
    rest.to_parquet(tmp_path / "data" / "d.parquet")
    return tmp_path


def score(folder: Path, **options) -> tuple[int, list]:
    data, work = (get_datafolder(str(folder / name)) for name in ("data", "work"))
    scored = score_shards(data, work, **{"workers": 1, "use_cpu": True, **options})
    return scored.num_shards, scored.lost


def scores_of(folder: Path) -> dict[int, tuple]:
    """The scores of all shards by uid, which is the number of the row in the sample."""
    found = {}
    for path in sorted((folder / "work" / "scores").rglob("*.parquet")):
        table = pq.read_table(path)
        columns = [table[name].to_pylist() for name in COLUMNS]
        for uid, *values in zip(table["uid"].to_pylist(), *columns, strict=True):
            found[int.from_bytes(uid, "big")] = tuple(values)
    return found


def told(folder: Path, name: str) -> dict:
    schema = pq.read_schema(folder / "work" / "scores" / name)
    return json.loads(schema.metadata[b"hf_clipselect"])


def assert_as_on_one_machine(folder: Path, run: Path) -> None:
    one = pq.read_table(run / "scores.parquet")
    scores = scores_of(folder)
    assert sorted(scores) == list(range(len(one)))
    found = dict(zip(COLUMNS, np.array([scores[row] for row in range(len(one))]).T, strict=True))
    assert np.array_equal(found["cluster"], one["label"].to_numpy())
    for name in ("sas", "margin", "sds"):
        assert np.allclose(found[name], one[name].to_numpy(), rtol=0, atol=2e-6), name


def test_shards_have_the_scores_of_one_machine(prepared: Path, sample_run: Path) -> None:
    """Where the sample is all of the data, and no cluster has more rows than are compared with."""
    assert score(prepared) == (3, [])
    assert_as_on_one_machine(prepared, sample_run)
    assert (told(prepared, "b/c.parquet")["num_rows"], told(prepared, "b/c.parquet")["shard"]) == (30, "b/c.tar")
    assert sum(told(prepared, "a.parquet")["counts"].values()) == 100


def test_tasks_and_embeddings_change_no_score(prepared: Path) -> None:
    score(prepared)
    once = scores_of(prepared)
    shutil.rmtree(prepared / "work" / "scores")
    assert score(prepared, tasks=3, workers=1, with_embeddings=True, num_workers=2) == (3, [])
    assert scores_of(prepared) == once
    embeds = np.stack(pq.read_table(prepared / "work" / "scores" / "a.parquet")["embedding"].to_numpy())
    assert embeds.shape == (100, 96) and np.allclose(np.linalg.norm(embeds.astype(np.float32), axis=1), 1, atol=2e-3)


def test_decoding_processes_end_in_order(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    launch = Popen._launch

    def noted(popen: Popen, process: BaseProcess) -> None:
        started.append(popen)
        launch(popen, process)

    monkeypatch.setattr(Popen, "_launch", noted)
    score(prepared, num_workers=2)
    assert [popen.wait() for popen in started] == [0, 0]  # for all shards


def test_shards_and_scores_may_lie_in_object_storage(prepared: Path, sample_run: Path) -> None:
    """One that knows no renaming, and no folders of this machine."""
    score(prepared)
    data, work = (get_datafolder(f"memory://{prepared}/far/{name}") for name in ("data", "work"))
    for name in ("a.tar", "b/c.tar", "d.parquet"):
        data.makedirs(str(Path(name).parent), exist_ok=True)
        data.pipe_file(name, (prepared / "data" / name).read_bytes())
    prepare_reference(sample_run, work, columns=SampleColumns(uid="uid"))
    for _ in range(2):
        assert score_shards(data, work, use_cpu=True) == Scored(3, [], NUM_ROWS, 0, None)
    with work.open("scores/b/c.parquet") as file:
        assert pq.read_table(file).equals(pq.read_table(prepared / "work" / "scores" / "b" / "c.parquet"))


def test_rows_and_shards_that_can_not_be_read(prepared: Path, pairs: Dataset, capsys: pytest.CaptureFixture) -> None:
    whole = members(pairs, range(6))
    names = [name for name, _ in whole]
    contents = dict(whole)
    contents["000001.png"] = contents["000001.png"][:200]
    contents["000002.txt"] = b"  "
    del contents["000003.png"]
    contents["000004.txt"] = "fünf".encode("latin-1")
    data = prepared / "data"
    write_tar(data / "some.tar", [(name, contents[name]) for name in names if name in contents])
    write_tar(data / "none.tar", [("1.png", b"no image"), ("1.txt", b"a text")])
    write_tar(data / "empty.tar", [])
    (data / "torn.tar").write_bytes((data / "a.tar").read_bytes()[:5000])
    assert main(["score", "--data_dir", str(data), "--work_dir", str(prepared / "work"), "--use_cpu"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == [
        "scores: 6 of 7 shards",
        "without scores: 5 of 247 rows, such as none.tar, row 0: Cannot read image: not an image in a format "
        "that PIL knows.",
    ]
    assert printed[2:] == ["not readable: torn.tar, see scores/torn.failed.json"]
    table = pq.read_table(prepared / "work" / "scores" / "some.parquet")
    assert table["row"].to_pylist() == [0, 5] and told(prepared, "some.parquet")["unreadable"] == 4
    counted = {name: told(prepared, f"{name}.parquet") for name in ("none", "empty")}
    assert [(of["num_rows"], of["num_scored"], of["counts"]) for of in counted.values()] == [(1, 0, {}), (0, 0, {})]
    failure = json.loads((prepared / "work" / "scores" / "torn.failed.json").read_text())
    assert failure["shard"] == "torn.tar" and "unexpected end of data" in failure["reason"]
    # The shard is mended: the same command scores it, and it alone.
    before = {path: path.stat().st_mtime_ns for path in (prepared / "work" / "scores").rglob("*.parquet")}
    shutil.copy(data / "b" / "c.tar", data / "torn.tar")
    assert score(prepared) == (7, [])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not (prepared / "work" / "scores" / "torn.failed.json").exists()


def test_captions_are_texts(prepared: Path, pairs: Dataset) -> None:
    """Bytes are decoded; of another type they are refused, and not written out as Python does."""
    whole = (
        pairs.cast_column("picture", Image(decode=False))
        .select(range(6))
        .add_column("uid", list(map(uid_of, range(6))))
    )
    shutil.rmtree(prepared / "data")
    (prepared / "data").mkdir()
    whole = whole.to_pandas()
    texts = whole["text"].tolist()
    for name, kind in (("bytes", str.encode), ("lists", lambda text: [text]), ("numbers", len), ("texts", str)):
        table = pa.Table.from_pandas(whole.assign(text=list(map(kind, texts))))
        pq.write_table(table, prepared / "data" / f"{name}.parquet")
    count, lost = score(prepared)
    assert (count, [shard.path for shard in lost]) == (4, ["lists.parquet", "numbers.parquet"])
    failure = json.loads((prepared / "work" / "scores" / "lists.failed.json").read_text())
    assert "is of type list, and not a text" in failure["reason"]
    of_bytes, of_texts = (
        pq.read_table(prepared / "work" / "scores" / f"{name}.parquet") for name in ("bytes", "texts")
    )
    assert len(of_texts) == 6 and of_bytes.equals(of_texts)


def test_a_caption_of_half_a_sign_costs_its_row_alone(prepared: Path, pairs: Dataset) -> None:
    parts = dict(members(pairs, range(3)))
    del parts["000001.txt"]
    parts["000001.json"] = b'{"caption": "a \\ud800 dog"}'
    write_tar(prepared / "data" / "a.tar", parts.items())
    assert score(prepared) == (3, [])
    assert (told(prepared, "a.parquet")["num_scored"], told(prepared, "a.parquet")["unreadable"]) == (2, 1)


def uid_of(row: int) -> str:
    return f"{row:032x}"


def test_a_rerun_makes_anew_what_it_can_not_trust(prepared: Path, pairs: Dataset) -> None:
    score(prepared)
    once, scores = scores_of(prepared), prepared / "work" / "scores"
    damaged = scores / "a.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    (scores / "d.parquet").unlink()
    written = (scores / "b" / "c.parquet").stat().st_mtime_ns
    score(prepared)
    assert scores_of(prepared) == once and (scores / "b" / "c.parquet").stat().st_mtime_ns == written
    # A shard whose captions were replaced may have the same size, and one with fewer rows has another.
    changed = [(name, part[::-1] if name.endswith("txt") else part) for name, part in members(pairs, range(100, 130))]
    write_tar(prepared / "data" / "b" / "c.tar", changed)
    score(prepared)
    sas = {row: scores[1] for row, scores in scores_of(prepared).items()}
    assert all((sas[row] == once[row][1]) == (row not in range(100, 130)) for row in once)
    write_tar(prepared / "data" / "b" / "c.tar", members(pairs, range(100, 120)))
    score(prepared)
    assert told(prepared, "b/c.parquet")["num_rows"] == 20


@pytest.mark.slow
def test_scores_of_another_reference_are_not_mixed_in(prepared: Path, sample_run: Path) -> None:
    score(prepared)
    key, work = told(prepared, "a.parquet")["key"], get_datafolder(str(prepared / "work"))
    prepare_reference(sample_run, work, columns=SampleColumns(uid="uid"))  # the same one
    with pytest.raises(InputError, match="holds another reference"):
        prepare_reference(sample_run, work, num_clusters=2, columns=SampleColumns(uid="uid"))
    shutil.rmtree(prepared / "work" / "reference")
    with pytest.raises(InputError, match="run prepare first"):
        score(prepared)
    prepare_reference(sample_run, work, num_clusters=2, columns=SampleColumns(uid="uid"))
    score(prepared)
    for name in ("a.parquet", "b/c.parquet", "d.parquet"):
        assert told(prepared, name)["key"] == read_reference_of(work).key != key


def test_a_damaged_reference_is_refused(prepared: Path, sample_run: Path) -> None:
    path = prepared / "work" / "reference" / "reference.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="run prepare again"):
        score(prepared)
    work, facts = get_datafolder(str(prepared / "work")), path.with_suffix(".json")
    told = facts.read_text()
    for other in (told[:200], told.replace('"format": 2', '"format": 1')):
        facts.write_text(other)
        with pytest.raises(InputError, match="made by another version"):
            score(prepared)
        with pytest.raises(InputError, match="made by another version"):
            prepare_reference(sample_run, work, columns=SampleColumns(uid="uid"))


def test_diversity_is_against_the_references_of_the_cluster(prepared: Path, pairs: Dataset) -> None:
    """Rows that the sample does not have, against a slow version."""
    fresh, _ = drawn_pairs(30, seed=11)
    shutil.rmtree(prepared / "data")
    write_tar(prepared / "data" / "fresh.tar", members(fresh, range(30)))
    score(prepared, with_embeddings=True)
    reference = read_reference_of(get_datafolder(str(prepared / "work")))
    table = pq.read_table(prepared / "work" / "scores" / "fresh.parquet")
    columns = [table[name].to_pylist() for name in ("cluster", "embedding", "sds")]
    for cluster, embed, sds in zip(*columns, strict=True):
        others = reference.embeds[reference.clusters == cluster]
        distances = np.sort(np.linalg.norm(others - np.array(embed), axis=1))
        assert sds == pytest.approx(distances[: reference.num_nearest[cluster]].mean(), abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("adaptation", ["off", "always"])
def test_labels_and_adapters(tmp_path: Path, adaptation: str) -> None:
    """Classes stand for clusters, and the adapters that the sample's run kept are used. Labels may be texts that look
    like places of other classes.
    """
    digits, named = load_digits_dataset("train").select(range(150)), []
    if adaptation == "off":
        texts = [str(label + 1) for label in digits["label"]]
        digits = digits.remove_columns("label").add_column("label", texts)
        (tmp_path / "names.txt").write_text("\n".join("one ten two three four five six seven eight nine".split()))
        named = ["--class_names_file", tmp_path / "names.txt"]
    flags = [
        *named,
        "--label_column_name",
        "label",
        "--adaptation",
        adaptation,
        "--objective",
        "clean",
        "--max_train_steps",
        5,
    ]
    run = run_on_sample(digits, tmp_path, *flags)
    reference: Reference = prepare_reference(run, get_datafolder(str(tmp_path / "work")))
    assert (reference.adapter_id is not None) == (adaptation == "always")
    write_tar(tmp_path / "data" / "a.tar", members(digits, range(150), image="image", text="label"))
    assert score(tmp_path) == (1, [])
    assert_as_on_one_machine(tmp_path, run)
    # A label that the sample does not know, by number or by name, is told.
    write_tar(tmp_path / "data" / "b.tar", [("1.png", b"i"), ("1.cls", b"11")])
    _, lost = score(tmp_path)
    reason = json.loads((tmp_path / "work" / lost[0].failed_path).read_text())["reason"]
    assert "the label '11' is no class" in reason


@pytest.mark.slow
def test_wrong_labels_of_rows_outside_the_sample_are_found(
    tmp_path: Path, sample_run: Path, capsys: pytest.CaptureFixture
) -> None:
    digits = load_digits_dataset("train")
    right = np.array(digits["label"])
    given = add_label_noise(right, 10, rate=0.2, kind="symmetric", seed=0)
    digits = digits.remove_columns("label").add_column("label", given.tolist(), feature=digits.features["label"])
    run = run_on_sample(digits.select(range(500)), tmp_path, "--adaptation", "off")
    work = get_datafolder(str(tmp_path / "work"))
    with pytest.raises(InputError, match="--num_clusters 3: the sample has labels"):
        prepare_reference(run, work, num_clusters=3)
    reference = prepare_reference(run, work)
    write_tar(tmp_path / "data" / "a.tar", members(digits, range(500, 900), image="image", text="label"))
    step = ["score", "--data_dir", str(tmp_path / "data"), "--work_dir", str(tmp_path / "work"), "--use_cpu"]
    assert main([*step, "--label_errors", "--embeddings"]) == 0
    path = tmp_path / "work" / "scores" / "a.parquet"
    table, is_wrong = pq.read_table(path), (given != right)[500:900]
    found = table["label_error_probability"].to_numpy()
    assert table.schema.field("label_error_probability").type == pa.float32()
    assert roc_auc_score(is_wrong, found) > 0.97 and found.mean() == pytest.approx(is_wrong.mean(), abs=0.03)
    embeds = np.stack(table["embedding"].to_numpy()).astype(np.float32)
    assert np.allclose(reference.label_judge.error_probability(embeds, given[500:900]), found, atol=0.05)
    # Who asks for less finds it done.
    written = path.stat().st_mtime_ns
    assert main(step) == 0 and path.stat().st_mtime_ns == written
    assert read_reference_of(work).key == reference.key
    captions = tmp_path / "captions"
    prepare_reference(sample_run, get_datafolder(str(captions)))
    capsys.readouterr()
    assert main([*step[:3], "--work_dir", str(captions), "--label_errors"]) == 2
    assert "the sample has captions; leave it out." in capsys.readouterr().err


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path, sample_run: Path) -> None:
    work = get_datafolder(str(tmp_path / "work"))
    with pytest.raises(InputError, match="holds no finished run"):
        prepare_reference(tmp_path, work)
    unfinished = shutil.copytree(sample_run, tmp_path / "run")
    (unfinished / "scores.parquet").unlink()
    with pytest.raises(InputError, match="holds no finished run"):
        prepare_reference(unfinished, work)
