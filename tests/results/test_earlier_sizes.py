"""A run with other sizes keeps those that are in its folder, unless something else changed: then it says which go."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset, get_dataset_config_names, load_dataset
from interrupted import content
from made_results import make_result

from hf_clipselect import SelectionResult, load_pruned, select_dataset
from hf_clipselect.results.earlier_sizes import with_earlier_sizes
from hf_clipselect.results.scores_table import column_values
from hf_clipselect.runtime.processes import Processes


@pytest.fixture
def run(images_dataset, clip_folder, tmp_path):
    def select(*ratios: float, folder: str = "out", dataset: Dataset = images_dataset, **settings) -> SelectionResult:
        return select_dataset(
            dataset,
            model_name_or_path=clip_folder,
            adaptation="off",
            dataloader_num_workers=0,
            selection_ratio=list(ratios) or None,
            output_dir=tmp_path / folder,
            **settings,
        )

    return select


def subset_rows(folder: Path) -> dict[str, list[int]]:
    configs = get_dataset_config_names(str(folder / "subset"))
    return {
        name: load_dataset(str(folder / "subset"), name, split="train")["source_index"][:]
        for name in configs
        if name != "scores"
    }


def test_another_size_is_added(run, tmp_path):
    first = run(0.3)
    second = run(0.5, selection_count=7)
    assert second.ratios == (0.5, 7, 0.3)
    rows = subset_rows(tmp_path / "out")
    assert list(rows) == ["ratio_50", "count_7", "ratio_30"]
    assert rows["ratio_30"] == first.selected.tolist() and rows["ratio_50"] == second.selected.tolist()
    table = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert table.column_names[-7:] == [
        "selection_score_50",
        "selected_50",
        "selection_score_count_7",
        "selected_count_7",
        "selection_score_30",
        "selected_30",
        "reason",
    ]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [subset["name"] for subset in report["subsets"]] == ["ratio_50", "count_7", "ratio_30"]
    assert report["arguments"]["selection_ratio"] == [0.5, 0.3] and report["arguments"]["selection_count"] == [7]
    # --config asks for what was asked for.
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert config["arguments"]["selection_ratio"] == [0.5] and config["arguments"]["selection_count"] == [7]
    back = SelectionResult.from_folder(tmp_path / "out")
    assert back.ratios == second.ratios and back.scores[:] == second.scores[:]
    assert back.report["subsets"] == report["subsets"]
    assert load_pruned(tmp_path / "out", ratio=0.3)["source_index"][:] == first.selected.tolist()
    card = (tmp_path / "out" / "subset" / "README.md").read_text()
    assert "default: true" in card.split("config_name: ratio_50")[1].split("config_name")[0]
    # Alone, the new sizes would be the same.
    alone = run(0.5, selection_count=7, folder="alone")
    assert alone.selected.tolist() == second.selected.tolist()


def test_counts_alone_stay_the_first(run, tmp_path):
    run(0.3)
    result = run(selection_count=7)
    assert result.ratios == (7, 0.3)
    assert SelectionResult.from_folder(tmp_path / "out").ratios == (7, 0.3)
    assert get_dataset_config_names(str(tmp_path / "out" / "subset")) == ["count_7", "ratio_30", "scores"]


@pytest.mark.slow
def test_the_same_commands_end_the_same_however_often(run, tmp_path):
    run(0.3)
    run(0.5)
    both = content(tmp_path / "out")
    run(0.5)
    assert content(tmp_path / "out") == both
    run(0.3)
    assert list(subset_rows(tmp_path / "out")) == ["ratio_30", "ratio_50"]
    run(0.5)
    assert content(tmp_path / "out") == both


@pytest.mark.slow
def test_what_changed_is_told_and_goes(run, images_dataset, tmp_path, caplog):
    run(0.3, 0.2)
    result = run(0.2, 0.5, objective="clean")
    assert result.ratios == (0.2, 0.5)
    assert "Subsets of an earlier run go from" in caplog.text
    assert "the scores or the settings of the selection are others now: ratio_30." in caplog.text
    assert not any("earlier run" in warning for warning in result.report["warnings"])
    assert set(subset_rows(tmp_path / "out")) == {"ratio_20", "ratio_50"}
    run(0.2, 0.5, objective="clean", folder="alone")
    assert content(tmp_path / "out") == content(tmp_path / "alone")
    caplog.clear()
    run(0.2, 0.5, objective="clean", prompt_template="{}")  # other scores, but no other size
    assert "earlier run" not in caplog.text
    run(0.3, objective="clean")
    assert "are others now: ratio_20, ratio_50." in caplog.text
    caplog.clear()
    run(0.4, dataset=images_dataset.select(range(45)), overwrite_output_dir=True)
    assert list(subset_rows(tmp_path / "out")) == ["ratio_40"] and "earlier run" not in caplog.text


def test_a_selection_that_cannot_be_read_is_told_and_replaced(run, tmp_path, caplog):
    run(0.3)
    (tmp_path / "out" / "subset" / "selection.json").write_text("{")
    run(0.5)
    assert "What an earlier run left is replaced." in caplog.text
    assert list(subset_rows(tmp_path / "out")) == ["ratio_50"]


@pytest.mark.parametrize("objective", ["clean", "released", "diverse", "paper", "robust"])
def test_earlier_rows_stay_what_they_were(images_dataset, tmp_path, objective):
    """Also where the sizes together would be held nested, and with rows that could not be read."""
    settings = {"objective": objective, "unreadable": [3], "report": True, "noise": objective == "robust"}
    make_result(images_dataset, (0.1, 0.25), **settings).save(tmp_path)
    new = make_result(images_dataset, (0.15,), **settings)
    merged = with_earlier_sizes(new, tmp_path, Processes())
    earlier = SelectionResult.from_folder(tmp_path)
    assert merged.ratios == (0.15, 0.1, 0.25)
    for source, suffixes in ((new, ["15"]), (earlier, ["10", "25"])):
        for name in [f"{kind}_{suffix}" for kind in ("selected", "selection_score") for suffix in suffixes]:
            np.testing.assert_array_equal(column_values(merged.scores, name), column_values(source.scores, name))
    assert column_values(merged.scores, "reason").tolist() == column_values(new.scores, "reason").tolist()
    assert merged.at(0.25).selected.tolist() == earlier.at(0.25).selected.tolist()


def test_auto_stays_beside_other_sizes_and_they_beside_it(images_dataset, tmp_path):
    settings = {"objective": "robust", "noise": True, "report": True}
    first, then = (make_result(images_dataset, sizes, **settings) for sizes in (("auto", 0.2), (0.5,)))
    first.save(tmp_path)
    merged = with_earlier_sizes(then, tmp_path, Processes())
    assert merged.ratios == (0.5, "auto", 0.2)
    assert merged.at("auto").selected.tolist() == first.selected.tolist()
    merged.save(tmp_path)
    again = with_earlier_sizes(make_result(images_dataset, ("auto",), **settings), tmp_path, Processes())
    assert again.ratios == ("auto", 0.5, 0.2)


@pytest.mark.parametrize("sizes", [((0.3,), ("auto",)), (("auto", 0.3), (0.5,))], ids=["auto now", "auto then"])
def test_only_auto_needs_the_noise_model_where_the_objective_does_not(images_dataset, tmp_path, sizes):
    then, now = (
        make_result(images_dataset, of_run, objective="diverse", noise="auto" in of_run, report=True)
        for of_run in sizes
    )
    then.save(tmp_path, images_dataset)
    merged = with_earlier_sizes(now, tmp_path, Processes())
    assert merged.ratios == (*sizes[1], *sizes[0])
    for ratio in sizes[0]:
        assert merged.at(ratio).selected.tolist() == then.at(ratio).selected.tolist()
    merged.save(tmp_path / "both")
    assert SelectionResult.from_folder(tmp_path / "both").ratios == merged.ratios


@pytest.mark.parametrize("change", [{"seed": 1}, {"objective": "released"}, {"unreadable": [3]}])
def test_anything_but_the_sizes_counts(images_dataset, tmp_path, change):
    make_result(images_dataset, (0.3,), report=True).save(tmp_path)
    new = make_result(images_dataset, (0.5,), report=True, **change)
    assert with_earlier_sizes(new, tmp_path, Processes()) is new
