"""Rows that copy a reference, and damaged images, through the command and the function, on one small dataset."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage

from hf_clipselect import InputError, SelectionResult, load_pruned, select_dataset
from hf_clipselect.cli import main


pytest.importorskip("cleanvision")

NUM_TRAIN, NUM_TEST = 120, 30
# Row of the training split -> row of the test split that it copies.
COPIED = {3: 0, 50: 29, 77: 12}
TORN = 5  # row of the test split
DARK, UNIFORM = 10, 77  # the latter is a copy as well
ISSUES = {DARK: "blurry, dark", UNIFORM: "low information"}


def png(image: PILImage.Image) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def drawn(rng: np.random.Generator) -> PILImage.Image:
    """Coarse patches of any colour under noise: sharp, bright enough, and none like another."""
    patches = rng.integers(0, 256, (4, 4, 3)).repeat(6, axis=0).repeat(6, axis=1)
    return PILImage.fromarray(np.clip(patches + rng.normal(0, 25, (24, 24, 3)), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def splits() -> tuple[Dataset, Dataset]:
    rng = np.random.default_rng(0)
    train = [drawn(rng) for _ in range(NUM_TRAIN)]
    train[DARK] = train[DARK].point(lambda value: value // 5)
    train[UNIFORM] = PILImage.new("RGB", (24, 24), (100, 140, 90))
    test = [drawn(rng) for _ in range(NUM_TEST)]
    for row, original in COPIED.items():
        test[original] = train[row]
    cells = [png(image) for image in test]
    cells[TORN] = {"bytes": b"torn", "path": None}
    features = Features({"image": Image(), "label": ClassLabel(names=["red", "green", "blue"])})
    labels = [row % 3 for row in range(NUM_TRAIN)]
    return (
        Dataset.from_dict({"image": [png(image) for image in train], "label": labels}, features=features),
        Dataset.from_dict({"image": cells}, features=Features({"image": Image()})),  # without labels
    )


@pytest.fixture(scope="module")
def folder(splits, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "patches"
    folder.mkdir()
    for name, split in zip(("train", "test"), splits, strict=True):
        split.to_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def flags(folder) -> list[str]:
    settings = "--use_cpu --adaptation off --objective clean --selection_ratio 0.3 --dataloader_num_workers 0"
    named = ["--dataset_name", str(folder), "--model_name_or_path", "embedded/tiny-clip", "--reference_split", "test"]
    return ["select", *named, *settings.split()]


@pytest.fixture(scope="module")
def output(flags, tmp_path_factory) -> Path:
    """The folder of a run that drops both kinds of rows."""
    out = tmp_path_factory.mktemp("run") / "out"
    asked = ["--on_bad_image", "drop", "--drop_leaks", "--quality_checks", "drop", "--output_dir", str(out)]
    assert main([*flags, *asked]) == 0
    return out


def column(result: SelectionResult, name: str) -> list[Any]:
    return result.scores[name][:]


def leaks_in(result: SelectionResult) -> dict[int, int]:
    return {row: original for row, original in enumerate(column(result, "leak_of")) if original != -1}


def issues_in(result: SelectionResult) -> dict[int, str]:
    return {row: issues for row, issues in enumerate(column(result, "quality_issues")) if issues}


def test_what_is_found_is_told_and_left_out(output, folder):
    result = SelectionResult.from_folder(output)
    assert (leaks_in(result), issues_in(result)) == (COPIED, ISSUES)
    reasons = column(result, "reason")
    assert [reasons[row] for row in COPIED] == [f"copy of row {row} of the reference" for row in COPIED.values()]
    assert reasons[DARK] == "damaged image: blurry, dark"
    out = sorted({*COPIED, *ISSUES})
    assert np.flatnonzero(column(result, "must_drop")).tolist() == out
    for size in (0.3, 0.5, 116 / 120):
        assert not set(result.at(size).selected) & set(out)
        assert [column(result.at(size), "reason")[row] for row in out] == [reasons[row] for row in out]
    with pytest.raises(InputError, match="4 of 120 rows must be dropped, which leaves 116"):
        result.at(1.0)
    assert len(load_pruned(output / "subset", ratio=0.3)) == 36


def test_report_and_records_of_the_run(output, folder):
    report = json.loads((output / "report.json").read_text())
    assert report["leaks"] == {"reference": f"{folder} (split test)", "rows": 3, "dropped": True}
    counts = {"blurry": 1, "dark": 1, "light": 0, "low information": 1, "odd aspect ratio": 0, "odd size": 0}
    assert report["quality"] == {"rows": 2, "dropped": True, "issues": counts}
    copies = f"3 rows copy images of {folder.name} (split test), by their embeddings; no subset holds them."
    damaged = "2 images look damaged (1 blurry, 1 dark, 1 low information); no subset holds them."
    assert {copies, damaged} <= set(report["warnings"])
    torn = "1 of 30 images of the reference could not be read, and nothing was compared with them; the first is that"
    assert f"{torn} of row 5." in report["warnings"]
    published = SelectionResult.from_folder(output).report
    assert published["leaks"]["reference"] == "patches (split test)"
    config = yaml.safe_load((output / "config.yaml").read_text())
    told = {name: config["arguments"][name] for name in ("reference_split", "drop_leaks", "quality_checks")}
    assert told == {"reference_split": "test", "drop_leaks": True, "quality_checks": "drop"}
    card = (output / "subset" / "README.md").read_text()
    assert "`leak_of`" in card and "`quality_issues`" in card and "--drop_leaks" in card


def test_the_console_tells_of_both_and_a_repeated_run_decodes_nothing_again(output, flags, folder, capsys):
    kept = [*output.glob("*features/*.safetensors"), output / "quality_issues.parquet"]
    before = [(path.name, path.stat().st_ino) for path in kept]
    asked = ["--on_bad_image", "drop", "--drop_leaks", "--quality_checks", "report", "--output_dir", str(output)]
    assert main([*flags, *asked, "--selection_ratio", "0.9"]) == 0
    printed = capsys.readouterr()
    assert (
        f"checked: 3 rows copied from {folder} (split test), dropped; 2 damaged images\n" in printed.out
        and "(1 blurry, 1 dark, 1 low information); they may be in" in printed.err
    )
    assert "Checking images" not in printed.err and "images]" not in printed.err
    assert [(path.name, path.stat().st_ino) for path in kept] == before
    # Of the two checks one only tells now.
    result = SelectionResult.from_folder(output)
    assert np.flatnonzero(column(result, "must_drop")).tolist() == sorted(COPIED)
    assert DARK in result.selected and not set(result.selected) & set(COPIED)
    assert not any(reason.startswith("damaged") for reason in column(result, "reason"))


def test_from_python_they_are_only_told_where_nothing_else_is_asked(splits):
    train, test = splits
    result = select_dataset(
        train,
        model_name_or_path="embedded/tiny-clip",
        reference=test,
        must_drop=[DARK],
        quality_checks="report",
        on_bad_image="drop",
        selection_count=NUM_TRAIN - 1,
        adaptation="off",
        objective="clean",
        use_cpu=True,
        dataloader_num_workers=0,
    )
    assert (leaks_in(result), issues_in(result)) == (COPIED, ISSUES)
    assert result.report["leaks"] == {"reference": "a dataset that was passed", "rows": 3, "dropped": False}
    assert result.dropped.tolist() == [DARK]
    assert column(result, "reason")[DARK] == "must drop"
    assert any("drop_leaks=True leaves them out." in warning for warning in result.report["warnings"])


def test_another_reference_is_refused_until_the_folder_may_be_overwritten(output, flags, splits, tmp_path, capsys):
    splits[1].select(range(10)).to_parquet(tmp_path / "other.parquet")
    other = ["--reference_dataset_name", str(tmp_path / "other.parquet"), "--reference_split", "train"]
    asked = [*flags, *other, "--on_bad_image", "drop", "--output_dir", str(output)]
    assert main(asked) == 2
    assert "reference_features were made otherwise: dataset" in capsys.readouterr().err
    features = output / "features" / "images-00000.safetensors"
    before = features.stat().st_ino
    assert main([*asked, "--overwrite_output_dir"]) == 0
    assert leaks_in(SelectionResult.from_folder(output)) == {3: 0} and features.stat().st_ino == before


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("--reference_split train", "The reference is the split that is selected from"),
        ("--reference_split validation", "--reference_split validation"),
        ("--reference_dataset_name nowhere/at/all", "--reference_dataset_name 'nowhere/at/all' is neither a folder"),
        ("", "The image of row 5 of the reference can't be read"),
        (
            "--on_bad_image drop --drop_leaks --must_keep {keep}",
            "--must_keep lists row 50, which --drop_leaks leaves out, since it is a copy of row 29 of the reference.",
        ),
        (
            "--on_bad_image drop --quality_checks drop --must_keep {keep}",
            "--must_keep lists row 10, which --quality_checks drop leaves out, since it has a damaged image (blurry",
        ),
        (
            "--on_bad_image drop --quality_checks drop --selection_ratio 1",
            "2 of 120 rows must be dropped, which leaves 118, but 120 are to be kept; drop fewer with --must_drop or "
            "--decisions, or lower the selection ratio. Rows that "
            "--drop_leaks and --quality_checks drop leave out count as --must_drop.",
        ),
        ("--drop_leaks --objective paper --solver sgd", "--solver sgd can't leave rows out, which --drop_leaks does"),
    ],
)
def test_what_is_refused(flags, tmp_path, capsys, asked, message):
    keep = tmp_path / "keep.txt"
    keep.write_text(f"{DARK} 50")
    assert main([*flags, *asked.format(keep=keep).split(), "--output_dir", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_what_is_refused_before_anything_is_loaded(monkeypatch, tmp_path, capsys):
    asked = ["select", "--output_dir", str(tmp_path / "out")]
    assert main([*asked, "--drop_leaks"]) == 2
    assert "there is none; name a split, such as test, with --reference_split." in capsys.readouterr().err
    assert main([*asked, "--reference_dataset_name", "embedded/digits"]) == 2
    assert "needs --reference_split" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "cleanvision", None)  # as where it is not installed
    assert main([*asked, "--quality_checks", "report"]) == 2
    assert "pip install 'hf_clipselect[quality_checks]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_issue_of_most_rows_counts_for_none(splits, tmp_path):
    train = splits[0].map(
        lambda row: {"image": row["image"].point(lambda value: value // 5)}, features=splits[0].features
    )
    select_dataset(
        train,
        model_name_or_path="embedded/tiny-clip",
        quality_checks="drop",
        adaptation="off",
        objective="clean",
        use_cpu=True,
        dataloader_num_workers=0,
        output_dir=tmp_path,
    )
    result = SelectionResult.from_folder(tmp_path)
    assert set(issues_in(result)) == {UNIFORM}  # which every image shares its darkness with
    assert "dark" not in result.report["quality"]["issues"] and "must_drop" in result.scores.column_names
    assert any("cleanvision finds 100 % of the images dark" in told for told in result.report["warnings"])
    assert pq.read_table(tmp_path / "quality_issues.parquet")["dark"].to_numpy().all()
