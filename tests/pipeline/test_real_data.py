"""Real photographs through the same command, as local folders; skipped where the data are absent."""

import pytest
from conftest import REPOSITORY
from datasets import ClassLabel, Image, load_dataset
from preloaded import run_python


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "num_rows", "flags"), [("beans-160px", 1034, []), ("cifar10", 5000, ["--max_train_samples", "5000"])]
)
def test_a_local_folder_of_real_images_is_selected_from(real_data, tmp_path, name, num_rows, flags):
    command = [REPOSITORY / "recipes" / "select.py", "--dataset_name", real_data / name, "--output_dir", "run"]
    command += ["--model_name_or_path", "embedded/tiny-clip", "--selection_ratio", "0.3"]
    done = run_python(*command, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"on {name} its scores only show that the run works" in done.stderr
    source = load_dataset(str(real_data / name), split="train")
    subset = load_dataset(str(tmp_path / "run" / "subset"), "ratio_30", split="train")
    assert len(subset) == int(0.3 * num_rows + 0.5)
    assert subset.column_names[: len(source.column_names)] == source.column_names
    assert subset.features["img"] == Image() and isinstance(subset.features["label"], ClassLabel)
    rows = subset["source_index"][:]
    same = source.select(rows).cast_column("img", Image(decode=False))
    ours = subset.cast_column("img", Image(decode=False))
    assert [value["bytes"] for value in ours["img"]] == [value["bytes"] for value in same["img"]]
    card = (tmp_path / "run" / "subset" / "README.md").read_text()
    assert str(real_data) not in card
