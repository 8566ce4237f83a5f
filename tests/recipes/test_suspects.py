from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image
from made_reports import NAN, make_eight_noisy_rows, random_table, scores_table, with_random_noise
from made_results import make_result
from PIL import Image as PILImage
from recipe_files import launch_recipe, run_recipe

from hf_clipselect import SelectionResult, select_dataset
from hf_clipselect.cli import select
from hf_clipselect.data import read_images
from hf_clipselect.data.source import load_source
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.robustness import add_label_noise
from hf_clipselect.results.report import (
    GRID_COLUMNS,
    PICTURE_SIDE,
    draw_grid,
    for_spreadsheets,
    pick_suspects,
    small_images,
    suspects_table,
    verdict,
)
from hf_clipselect.results.scores_table import column_values


RECIPE = "suspects.py"


def test_suspects_by_hand(eight_rows):
    # Rows 2 and 6 disagree; row 3 could not be read.
    assert pick_suspects(eight_rows).tolist() == [6, 2]
    assert pick_suspects(eight_rows, num=1).tolist() == [6]
    assert pick_suspects(eight_rows, label="cat").tolist() == [2]
    assert pick_suspects(eight_rows, label="bird").tolist() == []
    assert suspects_table(eight_rows, np.array([6, 2])).to_pylist() == [
        {
            "source_index": 12,
            "label": "dog",
            "proposed_label": "bird",
            "sas": 0.125,
            "margin": -0.5,
            "selected_50": False,
            "selected_12_5": False,
        },
        {
            "source_index": 4,
            "label": "cat",
            "proposed_label": "dog",
            "sas": 0.25,
            "margin": -0.25,
            "selected_50": False,
            "selected_12_5": False,
        },
    ]
    with pytest.raises(InputError, match="no class 'fish'; the classes are 'cat', 'dog', 'bird'"):
        pick_suspects(eight_rows, label="fish")


def test_suspects_are_those_of_the_slow_obvious_version():
    scores = random_table(500, ["a", "b", "c"], seed=3)
    rows = [row for row in scores if row["label"] != row["predicted_label"]]
    expected = [row["source_index"] for row in sorted(rows, key=lambda row: (row["margin"], row["source_index"]))]
    assert pick_suspects(scores).tolist() == expected and len(expected) > 50
    table = suspects_table(scores, pick_suspects(scores, num=20))
    assert table["source_index"].to_pylist() == expected[:20]
    assert table["selected_30"].to_pylist() == [scores[row]["selected_30"] for row in expected[:20]]


def test_suspects_of_a_noise_model_by_hand():
    rows = make_eight_noisy_rows()
    # The labels of rows 6, 2 and 5 are more probably wrong than right; CLIP agrees with that of row 5.
    assert pick_suspects(rows).tolist() == [6, 2, 5]
    assert pick_suspects(rows, num=2, label="dog").tolist() == [6, 5]
    assert suspects_table(rows, np.array([6, 5])).to_pylist() == [
        {
            "source_index": index,
            "label": "dog",
            "proposed_label": "bird",
            "label_error_probability": wrong,
            "sas": sas,
            "margin": margin,
            "selected_50": kept,
            "selected_12_5": False,
        }
        for index, wrong, sas, margin, kept in ((12, 0.875, 0.125, -0.5, False), (10, 0.625, 0.625, 0.125, True))
    ]
    assert verdict(0.875, "bird") == "0.88 wrong, looks like bird"


def test_suspects_of_a_noise_model_are_those_of_the_slow_obvious_version():
    scores = with_random_noise(random_table(500, ["a", "b", "c"], seed=3))
    rows = [row for row in scores if row["label"] != row["clean_label"]]
    expected = sorted(rows, key=lambda row: (-row["label_error_probability"], row["source_index"]))
    found = pick_suspects(scores)
    assert found.tolist() == [row["source_index"] for row in expected] and len(expected) > 50
    assert pick_suspects(scores.remove_columns(["clean_label"])).tolist() != found.tolist()


def test_equal_margins_go_by_row():
    scores = scores_table(
        ["a", "b"],
        labels=[0] * 4,
        predicted=[1, 1, None, 1],
        sas=[0, 0, NAN, 0],
        margin=[-1, -2, NAN, -2],
        sds=[1, 1, NAN, 1],
        selected={"30": set()},
    )
    assert pick_suspects(scores).tolist() == [1, 3, 0]


def as_images(*values):
    return Dataset.from_dict({"picture": [{"bytes": value, "path": None} for value in values]}).cast_column(
        "picture", Image()
    )


def png(color, size=(8, 8), folder=None):
    path = folder / "image.png"
    PILImage.new("RGB", size, color).save(path)
    return path.read_bytes()


def test_small_images_are_those_of_their_rows(tmp_path):
    dataset = as_images(png("red", folder=tmp_path), png("blue", (400, 100), tmp_path), b"not an image")
    images = small_images(dataset, "picture", [2, 1, 0], max_side=PICTURE_SIDE)
    assert images[2] is None
    assert images[1].size == (144, 36) and images[1].getpixel((70, 20)) == (0, 0, 255)
    assert images[0].size == (144, 144) and images[0].getcolors() == [(144 * 144, (255, 0, 0))]


@pytest.mark.parametrize("num_rows", [1, GRID_COLUMNS, GRID_COLUMNS + 1])
@pytest.mark.parametrize("of_model", [False, True])
def test_grid_puts_every_image_into_its_tile(num_rows, of_model):
    names = ["short", "a name of many words that goes on and on and on", "x" * 5000, "\u732b", "two\nlines", " "]
    scores = random_table(200, names)
    scores = with_random_noise(scores) if of_model else scores
    rows = pick_suspects(scores, num=num_rows)
    source_index = column_values(scores, "source_index")[rows]
    colors = {int(index): (10 + place, 200, 30) for place, index in enumerate(source_index)}
    images = {index: PILImage.new("RGB", (144, 72), color) for index, color in colors.items()}
    grid = draw_grid(scores, rows, images)
    columns, lines = min(num_rows, GRID_COLUMNS), -(-num_rows // GRID_COLUMNS)
    across, down = (grid.width - 10) // columns, (grid.height - 10) // lines
    pixels = np.asarray(grid)
    for place, index in enumerate(source_index):
        left, top = 10 + place % GRID_COLUMNS * across, 10 + place // GRID_COLUMNS * down
        tile = pixels[top : top + down - 10, left : left + across - 10]
        assert (tile == colors[int(index)]).all(axis=2).sum() == 144 * 72
        # The text stays inside the tile: dark pixels, and none of them at its edges.
        dark = (tile < 150).all(axis=2)
        assert dark.sum() > 200 and not dark[:, -3:].any() and not dark[-3:].any()


def test_grid_marks_what_cannot_be_read():
    scores = random_table(50, ["a", "b"])
    rows = pick_suspects(scores, num=3)
    index = [int(value) for value in column_values(scores, "source_index")[rows]]
    white = PILImage.new("RGB", (144, 144), "white")
    whole = np.asarray(draw_grid(scores, rows, dict.fromkeys(index, white)))
    broken = np.asarray(draw_grid(scores, rows, {**dict.fromkeys(index, white), index[1]: None}))
    different = np.flatnonzero((whole != broken).any(axis=(0, 2)))
    assert different.min() > whole.shape[1] // 3 and different.max() < 2 * whole.shape[1] // 3
    assert (broken[:, different.min() : different.max()] < 150).all(axis=2).sum() > 30


@pytest.fixture(scope="module")
def noisy_run(tmp_path_factory):
    """The digits with a fifth of wrong labels as a folder, a run on it, and which labels are wrong."""
    folder = tmp_path_factory.mktemp("noisy")
    clean = read_images(*load_source("embedded/digits", split="train"))
    noisy = add_label_noise(clean.labels, 10, rate=0.2, seed=0)
    feature = clean.dataset.features["label"]
    clean.dataset.remove_columns("label").add_column("label", noisy, feature=feature).save_to_disk(folder / "data")
    dataset, _ = load_source(str(folder / "data"))
    select_dataset(
        dataset,
        model_name_or_path="embedded/tiny-clip",
        selection_ratio=[0.3, 0.8],
        output_dir=folder / "run",
        use_cpu=True,
    )
    return folder, noisy != clean.labels, clean.labels


@pytest.mark.slow
def test_recipe_lists_wrong_labels_with_the_right_ones(noisy_run, tmp_path):
    folder, wrong, clean = noisy_run
    flags = [folder / "run", "--dataset_name", folder / "data", "--num", 200]
    done = launch_recipe(RECIPE, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    table = pq.read_table(tmp_path / "suspects" / "suspects.parquet")
    rows = table["source_index"].to_numpy()
    names = SelectionResult.from_folder(folder / "run").scores.features["label"].names
    assert len(rows) == 200 and wrong[rows].mean() > 0.95
    proposed = np.array([names.index(name) for name in table["proposed_label"].to_pylist()])
    assert (proposed == clean[rows]).mean() > 0.9
    assert not any(table["selected_30"].to_pylist())
    with_csv = pyarrow.csv.read_csv(tmp_path / "suspects" / "suspects.csv")
    assert with_csv["source_index"].to_pylist() == rows.tolist() and with_csv.column_names == table.column_names
    assert done.stdout.count("\n") == 1 + 200 + 2
    assert done.stdout.splitlines()[1].split()[0] == str(rows[0])
    assert PILImage.open(tmp_path / "suspects" / "suspects.png").width > 1500


@pytest.mark.slow
def test_recipe_without_images_writes_the_tables_and_says_so(noisy_run, tmp_path):
    folder, _, _ = noisy_run
    done = run_recipe(
        RECIPE, folder / "run" / "subset", "--label", "three", "--num", 5, "--output_dir", "out", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "images: none. The selection in" in done.stdout and "--dataset_name" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["suspects.csv", "suspects.parquet"]
    assert set(pq.read_table(tmp_path / "out" / "suspects.parquet")["label"].to_pylist()) == {"three"}


@pytest.mark.slow
def test_recipe_takes_the_images_of_a_source_that_has_a_name(tmp_path):
    dataset, source = load_source("embedded/digits")
    result = make_result(dataset, name="embedded/digits", source=source, report=True)
    result.save(tmp_path / "saved")
    done = run_recipe(RECIPE, "saved", "--num", 3, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "suspects.png, 3 of them" in done.stdout and (tmp_path / "suspects" / "suspects.png").exists()


def test_recipe_tells_what_the_noise_model_says(images_dataset, tmp_path):
    result = make_result(images_dataset, report=True)
    replace(result, scores=with_random_noise(result.scores)).save(tmp_path / "saved")
    done = run_recipe(RECIPE, "saved", "--num", 3, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    table = pyarrow.csv.read_csv(tmp_path / "suspects" / "suspects.csv")
    assert table.column_names[:4] == ["source_index", "label", "proposed_label", "label_error_probability"]
    assert table["label_error_probability"].to_pylist() == sorted(table["label_error_probability"].to_pylist())[::-1]
    printed = [line for line in done.stdout.splitlines() if "looks like" in line]
    for line, row in zip(printed, table.to_pylist(), strict=True):
        assert f"{row['label_error_probability']:.2f} wrong, looks like {row['proposed_label']}" in line


@pytest.mark.slow
def test_recipe_takes_the_images_that_a_file_names(tmp_path):
    """Relative to the file, whose name is that of the dataset."""
    (tmp_path / "data" / "im").mkdir(parents=True)
    for row in range(8):
        (tmp_path / "data" / "im" / f"{row}.png").write_bytes(png((30 * row, 0, 0), folder=tmp_path))
    names = ["red", "black"] * 4
    Dataset.from_dict({"photo": [f"im/{row}.png" for row in range(8)], "label": names}).to_csv(
        str(tmp_path / "data" / "rows.csv")
    )
    flags = [
        "--model_name_or_path",
        "embedded/tiny-clip",
        "--adaptation",
        "off",
        "--use_cpu",
        "--selection_ratio",
        "0.5",
    ]
    # Eight rows have suspects by CLIP, and none by a noise model.
    flags += ["--dataset_name", str(tmp_path / "data" / "rows.csv"), "--image_column_name", "photo"]
    flags += ["--objective", "clean"]
    assert select([*flags, "--output_dir", str(tmp_path / "run")]) == 0
    done = run_recipe(RECIPE, tmp_path / "run", "--num", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "suspects.png, 1 of them" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere/at-all"], "nowhere/at-all"),
        (["RUN", "--label", "eleven"], "no class 'eleven'"),
        (["RUN", "--num", "0"], "at least 1, got 0"),
        (["RUN", "--revision", "v1"], "local folder, which has no --revision"),
        (["RUN", "--dataset_name", "embedded/digits"], "not the one that the selection was made from"),
    ],
)
def test_recipe_tells_what_is_wrong_in_one_line(noisy_run, flags, message, tmp_path):
    done = run_recipe(RECIPE, *(noisy_run[0] / "run" if flag == "RUN" else flag for flag in flags), cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.splitlines()[-1].startswith("error: ")


def test_texts_that_a_spreadsheet_would_run_are_only_shown(tmp_path):
    texts = [
        "=1+1",
        "+1",
        "-1",
        "@SUM(1)",
        "\tx",
        "\rx",
        "\nx",
        "  =1",
        "\u00a0=1",
        "\u202e=1",
        "\u200b\ufeff=1",
        "\uff1d1",
        " \uff0bx",
        "\x00@x",
    ]
    harmless = ["cat", "a=b", "1-1", "'=1", "", None, "\N{EN DASH}1", "n02123045"]
    table = pa.table({"label": texts + harmless, "margin": pa.array(np.arange(22) - 11.5, pa.float32())})
    shown = for_spreadsheets(table)
    assert shown.column("label").to_pylist() == [f"'{text}" for text in texts] + harmless
    assert shown.column("margin").equals(table.column("margin")) and shown.schema == table.schema
    pyarrow.csv.write_csv(shown, tmp_path / "x.csv")
    assert pyarrow.csv.read_csv(tmp_path / "x.csv").column("margin")[0].as_py() == -11.5
