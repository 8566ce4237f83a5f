import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from datasets import ClassLabel, Dataset, Features, Image, Value, load_dataset, load_from_disk
from limits import files_at_most
from preloaded import run_python
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from hf_clipselect.cli import main
from hf_clipselect.cli.command_table import COMMANDS
from hf_clipselect.encoder.precision import available_precisions
from hf_clipselect.hub import PREVIEW
from hf_clipselect.hub.noise_words import about_percent
from hf_clipselect.runtime.words import counted


# What makes a run of 60 small images quick.
QUICK = ["--adaptation", "off", "--dataloader_num_workers", "0"]
ENTRIES = {"config.yaml", "features", "scores.parquet", "subset", "report.json", "report.html"}


class Command:
    """`hf-clipselect` in this process, on the saved images with the small CLIP unless the flags say otherwise."""

    def __init__(self, folder: Path, clip_folder: Path, dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.clip_folder, self.capsys = folder, clip_folder, capsys
        self.out = folder / "out"
        self.data = self.save(dataset, "data")

    def save(self, dataset: Dataset, name: str) -> Path:
        dataset.save_to_disk(self.folder / name)
        return self.folder / name

    def write(self, name: str, content: str) -> Path:
        (self.folder / name).write_text(content, encoding="utf-8")
        return self.folder / name

    def select(self, *flags: Any, data: Path | None = None, out: Path | None = None) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        self.capsys.readouterr()
        defaults = ["--dataset_name", data or self.data, "--model_name_or_path", self.clip_folder]
        try:
            code = main(["select", *map(str, [*defaults, "--output_dir", out or self.out, *QUICK, *flags])])
        except SystemExit as stopped:
            code = stopped.code
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def refused(self, *flags: Any, **places: Path) -> str:
        """The one line on stderr that says what is wrong."""
        code, out, err = self.select(*flags, **places)
        assert (code, out) == (2, "")
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert err.endswith(line + "\n")
        assert "Traceback" not in err
        return line

    def selected(self, *flags: Any, **places: Path) -> str:
        """stdout of a run that must succeed."""
        code, out, err = self.select(*flags, **places)
        assert code == 0, err
        return out


@pytest.fixture
def command(tmp_path: Path, clip_folder: Path, images_dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, clip_folder, images_dataset, capsys)


def with_broken_images(dataset: Dataset, *rows: int) -> Dataset:
    cells = dataset.cast_column("image", Image(decode=False))["image"][:]
    for row in rows:
        cells[row] = {"bytes": cells[row]["bytes"][:60], "path": None}
    return Dataset.from_dict({"image": cells, "label": dataset["label"][:]}, features=dataset.features)


def with_labels(dataset: Dataset, change: Callable[[list[int]], list[Any]], feature: Any = None) -> Dataset:
    cells = dataset.cast_column("image", Image(decode=False))["image"][:]
    features = Features({"image": Image(), "label": feature or dataset.features["label"]})
    return Dataset.from_dict({"image": cells, "label": change(dataset["label"][:])}, features=features)


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


class TestMain:
    def test_without_arguments(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.startswith("usage: hf-clipselect COMMAND")

    @pytest.mark.parametrize("flag", ["-h", "--help"])
    def test_help(self, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([flag]) == 0
        captured = capsys.readouterr()
        assert captured.err == "" and "hf-clipselect select --help" in captured.out

    @pytest.mark.parametrize(
        ("argv", "meant"),
        [(["prune"], ""), (["--dataset_name", "x"], ""), (["Select"], "; did you mean select?")]
        + [(["suspect", "out"], "; did you mean suspects?"), (["psuh"], "; did you mean push?")],
    )
    def test_unknown_command(self, argv: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(argv) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        known = ", ".join(COMMANDS)
        assert captured.err == f"error: unknown command {argv[0]!r}; the commands are: {known}{meant}\n"

    def test_help_of_select(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["select", "--help"]) == 0
        text = capsys.readouterr().out
        assert text.startswith("usage: hf-clipselect select ")
        assert "--selection_ratio" in text and "--config FILE" in text

    def test_help_of_suspects(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["suspects", "--help"]) == 0
        text = capsys.readouterr().out
        assert text.startswith("usage: hf-clipselect suspects ") and "--label" in text
        assert main(["suspects"]) == 2  # of which selection?
        assert capsys.readouterr().err == (
            "error: the following arguments are required: OUTPUT_DIR_OR_REPO (all flags: --help)\n"
        )

    @pytest.mark.parametrize("name", COMMANDS)
    def test_help_of_every_command_names_it_and_no_default_that_is_none(
        self, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["--help"]) == 0
        assert f"\n  {name} " in capsys.readouterr().out
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: hf-clipselect {name} ") and re.search(rf"^ +hf-clipselect {name} ", text, re.M)
        assert "None" not in text

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"hf-clipselect {version('hf_clipselect')}\n"

    def test_arguments_of_the_process(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["hf-clipselect", "--help"])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            assert main() == 0
            assert all(signal.getsignal(number) is signal.SIG_IGN for number in handlers)  # the process is at its end
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        assert "usage" in capsys.readouterr().out

    def test_console_command_is_this_function(self) -> None:
        (script,) = entry_points(group="console_scripts", name="hf-clipselect")
        assert script.load() is main


class TestRun:
    def test_everything_is_there(self, command: Command, images_dataset: Dataset) -> None:
        summary = command.selected(
            "--selection_ratio",
            "0.3",
            "0.125",
            "--adaptation",
            "always",
            "--num_train_epochs",
            "2",
            "--min_train_steps",
            "4",
        ).splitlines()
        out = command.out
        report = json.loads((out / "report.json").read_text())
        assert re.fullmatch(
            re.escape(f"60 rows of {command.data}, scored with {command.clip_folder}") + r" in \d+ s", summary[0]
        )
        assert summary[1].startswith(f"{about_percent(report['noise']['estimated_share'])} of the labels look wrong (")
        assert summary[2].startswith("ratio_30: 18 rows; CLIP agrees with ")
        assert summary[3] == "ratio_12_5: 8 rows"
        assert re.fullmatch(
            r"adapters: kept, they agree with [\d.]+% of held-out rows, plain CLIP with [\d.]+%", summary[4]
        )
        assert f'load_dataset("{out / "subset"}", "ratio_30", split="train")' in summary[5]
        warned = len(report["warnings"])
        assert warned and summary[6] == f"report: {out / 'report.html'}, with {counted(warned, 'warning')}"
        assert summary[7:] == [
            f"is it worth it: python recipes/train_classifier.py --dataset_name {out} --selection_ratio 0.3 "
            "--compare_with random full",
            f"next: hf-clipselect explore {out}, or without a browser hf-clipselect suspects {out}",
        ]

        assert names(out) == ENTRIES | {"adapter"}
        assert names(out / "adapter") == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
        assert "manifest.json" in names(out / "features")
        assert names(out / "subset") == {"README.md", "selection.json", "ratio_30", "ratio_12_5", "scores", PREVIEW}
        assert names(out / "subset" / "ratio_30") == {"train-00000-of-00001.parquet"}
        assert json.loads((out / "report.json").read_text())["num_rows"] == 60
        config = yaml.safe_load((out / "config.yaml").read_text())
        assert config["arguments"]["selection_ratio"] == [0.3, 0.125]
        assert config["source"]["fingerprint"] == load_from_disk(command.data)._fingerprint

        scores = pq.read_table(out / "scores.parquet").to_pydict()
        assert scores["source_index"] == list(range(60))
        assert scores["label"] == images_dataset["label"][:]
        bytes_of = images_dataset.cast_column("image", Image(decode=False))["image"][:]
        for name, count in (("30", 18), ("12_5", 8)):
            subset = load_dataset(str(out / "subset"), f"ratio_{name}", split="train")
            assert subset.column_names == ["image", "label", "source_index", "sas", "sds", "selection_score"]
            assert subset.features["image"] == images_dataset.features["image"]
            assert subset.features["label"] == images_dataset.features["label"]
            rows = subset["source_index"][:]
            assert rows == [row for row, kept in enumerate(scores[f"selected_{name}"]) if kept]
            assert len(rows) == count
            undecoded = subset.cast_column("image", Image(decode=False))["image"][:]
            assert [image["bytes"] for image in undecoded] == [bytes_of[row]["bytes"] for row in rows]
            assert subset["label"][:] == [images_dataset["label"][row] for row in rows]
        assert len(load_dataset(str(out / "subset"), split="train")) == 18  # the first ratio is the default
        assert len(load_dataset(str(out / "subset"), "scores", split="train")) == 60

    def test_own_config_repeats_the_run(self, command: Command, caplog: pytest.LogCaptureFixture) -> None:
        command.selected("--adaptation", "always", "--min_train_steps", "4", "--num_train_epochs", "2", "--seed", "3")
        first = (command.out / "scores.parquet").read_bytes()
        caplog.clear()
        assert main(["select", "--config", str(command.out / "config.yaml")]) == 0
        assert "nothing to encode" in caplog.text and "nothing to train" in caplog.text
        assert (command.out / "scores.parquet").read_bytes() == first
        elsewhere = command.folder / "elsewhere"
        assert main(["select", "--config", str(command.out / "config.yaml"), "--output_dir", str(elsewhere)]) == 0
        assert (elsewhere / "scores.parquet").read_bytes() == first

    @pytest.mark.slow
    def test_own_config_repeats_the_run_from_another_directory(
        self, command: Command, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = command.write("peft.json", '{"peft_type": "LORA", "r": 2}')
        monkeypatch.chdir(command.folder)
        flags = ["--peft_config", config.name, "--adaptation", "always", "--num_train_epochs", "2"]
        command.selected(*flags, data=Path(command.data.name))
        (command.folder / "elsewhere").mkdir()
        monkeypatch.chdir(command.folder / "elsewhere")
        caplog.clear()
        assert main(["select", "--config", str(command.out / "config.yaml")]) == 0
        assert "nothing to encode" in caplog.text and "nothing to train" in caplog.text
        report = json.loads((command.out / "report.json").read_text())
        assert report["arguments"]["peft_config"] == str(config)
        assert report["source"]["name"] == report["arguments"]["dataset_name"] == str(command.data)

    def test_knobs_from_yaml_and_command_line(self, command: Command) -> None:
        recipe = command.write("recipe.yaml", "objective: released\nselection_ratio: 0.5\nalignment: margin\n")
        assert "ratio_20: 12 rows" in command.selected("--config", recipe, "--selection_ratio", "0.2")
        selection = json.loads((command.out / "subset" / "selection.json").read_text())
        assert selection["ratios"] == [0.2]
        assert selection["objective"] == {
            "name": "released",
            "alignment": "margin",
            "diversity_weight": 0.1,
            "normalization": "minmax_mean",
            "class_balance": "none",
            "gate": False,
            "spread": False,
            "solver": "exact",
            "gate_floor": 0.0,
            "redundancy_weight": 0.0,
            "min_per_class": 0,
            "class_quotas": None,
            "balance_by": "class",
            "ratio_weight": 2.0,
            "theta": 5e-4,
            "herding": False,
        }

    def test_everything_kept(self, command: Command) -> None:
        summary = command.selected("--selection_ratio", "1")
        assert "ratio_100: 60 rows" in summary and "nan" not in summary.lower()

    def test_max_train_samples(self, command: Command) -> None:
        command.selected("--max_train_samples", "30", "--selection_ratio", "0.5")
        assert pq.read_table(command.out / "scores.parquet")["source_index"].to_pylist() == [
            row for row in range(60) if row % 6 < 3
        ]
        subset = load_dataset(str(command.out / "subset"), split="train")
        assert len(subset) == 15 and all(row % 6 < 3 for row in subset["source_index"])

    def test_bad_images_are_dropped_when_asked(self, command: Command, images_dataset: Dataset) -> None:
        broken = [0, 7, 31]
        data = command.save(with_broken_images(images_dataset, *broken), "broken")
        summary = command.selected("--on_bad_image", "drop", "--selection_ratio", "1", "0.5", data=data)
        assert "ratio_100: 57 rows" in summary
        dropped = pq.read_table(command.out / "dropped.parquet").to_pydict()
        assert dropped["source_index"] == broken
        assert all(reason for reason in dropped["reason"])
        scores = pq.read_table(command.out / "scores.parquet").to_pydict()
        assert scores["source_index"] == list(range(60))
        for name in ("sas", "margin", "sds", "selection_score_100"):
            assert np.flatnonzero(np.isnan(scores[name])).tolist() == broken
        assert [row for row in range(60) if scores["predicted_label"][row] is None] == broken
        assert [row for row in range(60) if not scores["selected_100"][row]] == broken
        assert not any(scores["selected_50"][row] for row in broken)
        assert names(command.out) == ENTRIES | {"dropped.parquet"}
        # The report must be JSON for everyone, and JSON knows no NaN.
        json.loads((command.out / "report.json").read_text(), parse_constant=pytest.fail)


class TestBadInput:
    """Told in one line, with exit code 2, before anything is written."""

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["--image_column_name", "photo"], ["--image_column_name photo", "image, label"]),
            (["--label_column_name", "class"], ["--label_column_name class", "image, label"]),
            (["--train_split_name", "train", "--class_names_file", "none.txt"], ["--class_names_file", "none.txt"]),
            (["--prompt_template", "A photo."], ["--prompt_template", "{}"]),
            (["--selection_ratio", "0"], ["selection_ratio", "(0, 1]", "0.0"]),
            (["--selection_ratio", "1.5"], ["selection_ratio", "(0, 1]", "1.5"]),
            (["--selection_ratio", "-0.5"], ["selection_ratio", "(0, 1]", "-0.5"]),
            (["--selection_ratio", "nan"], ["selection_ratio", "(0, 1]", "nan"]),
            (["--selection_ratio", "0.3", "0.30"], ["selection_ratio", "0.3", "once"]),
            (["--selection_ratio", "0.001"], ["selection_ratio", "0.001", "60 rows"]),
            (["--selection_ratio", "most"], ["--selection_ratio", "most"]),
            (["--solver", "sgd"], ["class_balance", "none"]),  # the preset's quotas
            (["--diversity_weight", "nan"], ["diversity_weight", "nan"]),
            (["--ratio_weight", "0"], ["ratio_weight"]),
            (["--theta", "1"], ["theta", "(0, 1)"]),
            (["--peft_config", "none.json"], ["--peft_config none.json", "No such file"]),
            (["--model_name_or_path", ""], ["--model_name_or_path ''"]),
            (["--model_name_or_path", "./no/model"], ["--model_name_or_path ./no/model"]),
            (["--model_name_or_path", "embedded/clip"], ["--model_name_or_path embedded/clip", "embedded/tiny-clip"]),
            (["--dataset_name", "./no/data"], ["--dataset_name './no/data'"]),
            (["--dataset_name", "embedded/letters"], ["--dataset_name embedded/letters", "embedded/digits"]),
            (
                ["--dataset_name", "embedded/digits", "--train_split_name", "val"],
                ["--train_split_name", "train, test"],
            ),
            (["--config", "none.yaml"], ["--config none.yaml", "No such file"]),
            (["--report_to", "notebook"], ["--report_to notebook"]),
            (["--no_such_flag"], ["--no_such_flag"]),
        ],
        ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
    )
    def test_flags(self, command: Command, flags: list[str], words: list[str]) -> None:
        line = command.refused(*flags)
        assert all(word in line for word in words), line
        assert not command.out.exists()

    @pytest.mark.skipif("bfloat16" in available_precisions("cpu"), reason="this CPU has bfloat16")
    def test_a_precision_that_the_machine_lacks(self, command: Command) -> None:
        line = command.refused("--use_cpu", "--bf16")
        assert "--precision bfloat16" in line and "it has float32" in line
        assert not command.out.exists()

    @pytest.mark.parametrize(
        ("text", "words"),
        [("selection_ratios: 0.3\n", ["selection_ratios", "selection_ratio,"]), ("seed: [", ["not YAML"])],
    )
    def test_yaml(self, command: Command, text: str, words: list[str]) -> None:
        recipe = command.write("recipe.yaml", text)
        line = command.refused("--config", recipe)
        assert all(word in line for word in [f"--config {recipe}", *words]), line
        assert not command.out.exists()

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("{", "it is not JSON ("),
            ("[]", "it holds a list, not an object"),
            ('{"r": 4}', "peft_type"),
            ('{"peft_type": "NO_SUCH_METHOD"}', "NO_SUCH_METHOD"),
            ('{"peft_type": "LORA", "rank": 4}', "rank"),
        ],
    )
    def test_peft_config(self, command: Command, text: str, word: str) -> None:
        config = command.write("peft.json", text)
        line = command.refused("--peft_config", config, "--adaptation", "always")
        assert f"--peft_config {config}" in line and word in line, line
        assert not command.out.exists()

    def test_datasets(self, command: Command, images_dataset: Dataset) -> None:
        one_class = images_dataset.filter(lambda label: label == 1, input_columns="label")
        cases = {
            "empty": (images_dataset.select([]), ["without rows"]),
            "one_class": (one_class, ["1 class only", "'green_thing'", "--label_column_name"]),
            "unlabelled": (with_labels(images_dataset, lambda x: [None, *x[1:]]), ["no label", "source_index 0"]),
            "minus_one": (with_labels(images_dataset, lambda x: [*x[:-1], -1]), ["label -1", "source_index 59"]),
            "no_images": (images_dataset.remove_columns("image"), ["image column", "label (ClassLabel)"]),
            "no_labels": (images_dataset.remove_columns("label"), ["label column", "--label_column_name"]),
            "blank": (
                with_labels(images_dataset, lambda x: ["", *["a\nb"] * 59], Value("string")),
                ["class 0 is blank", "--class_names_file"],
            ),
        }
        for name, (dataset, words) in cases.items():
            line = command.refused(data=command.save(dataset, name))
            assert all(word in line for word in words), line
            assert not command.out.exists()

    def test_number_of_class_names(self, command: Command) -> None:
        file = command.write("names.txt", "red\ngreen\n")
        line = command.refused("--class_names_file", file)
        assert "2 class names" in line and "3 classes" in line
        assert not command.out.exists()

    def test_line_breaks_stay_out_of_the_line(self, command: Command, images_dataset: Dataset) -> None:
        assert "--config no such recipe.yaml" in command.refused("--config", "no such\nrecipe.yaml")
        dataset = with_labels(images_dataset, lambda x: [0] * 60, ClassLabel(names=["red\nor green", "blue"]))
        assert "1 class only" in command.refused(data=command.save(dataset, "names"))

    @pytest.mark.parametrize(
        ("model_type", "settings"),
        [
            ("bert", {"vocab_size": 20}),
            ("vit", {"image_size": 16, "patch_size": 8}),
        ],
    )
    def test_model_without_projections(self, command: Command, model_type: str, settings: dict[str, int]) -> None:
        config = AutoConfig.for_model(
            model_type, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, **settings
        )
        model = command.folder / model_type
        AutoModel.from_config(config).save_pretrained(model)
        line = command.refused("--model_name_or_path", model)
        assert f"--model_name_or_path {model} is a " in line and "visual_projection" in line
        assert not command.out.exists()

    def test_model_in_a_pickle_that_holds_more_than_tensors(self, command: Command) -> None:
        model = command.folder / "pickled"
        model.mkdir()
        for file in command.clip_folder.iterdir():
            if file.name != "model.safetensors":
                (model / file.name).write_bytes(file.read_bytes())
        torch.save(torch.nn.Linear(2, 2), model / "pytorch_model.bin")
        line = command.refused("--model_name_or_path", model)
        assert f"--model_name_or_path {model}" in line and "pytorch_model.bin is refused" in line
        assert not command.out.exists()


class TestFailureOnTheWay:
    """What fails after the folder was opened leaves nothing that the next run in it would trust."""

    def check_that_a_good_run_is_not_misled(self, command: Command, *flags: Any, **places: Path) -> None:
        command.selected(*flags, **places)
        command.selected(*flags, **{**places, "out": command.folder / "fresh"})
        assert names(command.out) == names(command.folder / "fresh")
        for file in ("scores.parquet", "subset/ratio_30/train-00000-of-00001.parquet", "subset/selection.json"):
            assert (command.out / file).read_bytes() == (command.folder / "fresh" / file).read_bytes()

    def test_undecodable_image(self, command: Command, images_dataset: Dataset) -> None:
        data = command.save(with_broken_images(images_dataset, 7, 31), "broken")
        line = command.refused(data=data)
        assert "source_index 7 " in line and "--on_bad_image drop" in line
        assert names(command.out) <= {"config.yaml", "features"}
        self.check_that_a_good_run_is_not_misled(command, "--on_bad_image", "drop", data=data)
        # What was dropped once is not forgotten when the next run is strict.
        assert "source_index 7 " in command.refused(data=data)

    def test_too_few_readable_images(self, command: Command, images_dataset: Dataset) -> None:
        rows = [row for row in range(60) if row % 3]
        data = command.save(with_broken_images(images_dataset, *rows), "broken")
        assert "at least two classes" in command.refused("--on_bad_image", "drop", data=data)
        assert names(command.out) <= {"config.yaml", "features"}

    def test_features_that_are_not_finite(self, command: Command) -> None:
        model = command.folder / "nan"
        model.mkdir()
        for file in command.clip_folder.iterdir():
            (model / file.name).write_bytes(file.read_bytes())
        weights = load_file(model / "model.safetensors")
        weights["vision_model.post_layernorm.weight"][0] = float("nan")
        save_file(weights, model / "model.safetensors", {"format": "pt"})
        line = command.refused("--model_name_or_path", model)
        assert "not finite" in line and "source_index 0" in line and str(model) in line
        assert names(command.out) <= {"config.yaml", "features"}
        assert "images" not in "".join(names(command.out / "features"))

    def test_peft_config_that_does_not_fit(self, command: Command) -> None:
        config = command.write("peft.json", '{"peft_type": "LORA", "target_modules": ["no_such_layer"]}')
        line = command.refused("--peft_config", config, "--adaptation", "always")
        assert "no_such_layer" in line
        assert not command.out.exists()

    def test_solver_that_does_not_converge(self, command: Command) -> None:
        flags = ["--objective", "paper", "--solver", "sgd", "--max_train_samples", "12"]
        line = command.refused(*flags)
        assert "sgd" in line
        assert not names(command.out) & {"scores.parquet", "subset", "report.json", "report.html"}
        self.check_that_a_good_run_is_not_misled(command, "--max_train_samples", "12")

    def test_failed_run_leaves_the_results_of_the_last_one(self, command: Command) -> None:
        command.selected()
        before = {path: path.read_bytes() for path in sorted((command.out / "subset").rglob("*.parquet"))}
        assert "none.json" in command.refused("--peft_config", "none.json", "--adaptation", "always")
        assert names(command.out) == ENTRIES
        assert {path: path.read_bytes() for path in sorted((command.out / "subset").rglob("*.parquet"))} == before


def test_failure_of_the_machine(command: Command) -> None:
    command.selected(out=command.folder / "fresh")
    with files_at_most(2000):
        code, out, err = command.select()
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    line = err.splitlines()[-1]
    assert line.startswith("error: ") and "File too large" in line and f"from what is in {command.out}" in line
    assert names(command.out) <= {"config.yaml", "features"}
    command.selected()
    assert (command.out / "scores.parquet").read_bytes() == (command.folder / "fresh" / "scores.parquet").read_bytes()


class TestOutputFolder:
    def test_of_another_run(self, command: Command, images_dataset: Dataset) -> None:
        command.selected()
        other = command.save(images_dataset.select(range(30)), "other")
        line = command.refused(data=other)
        assert f"--output_dir {command.out} holds another run" in line and "--overwrite_output_dir" in line
        assert pq.read_metadata(command.out / "scores.parquet").num_rows == 60
        command.selected("--overwrite_output_dir", data=other)
        assert pq.read_metadata(command.out / "scores.parquet").num_rows == 30
        assert names(command.out) == ENTRIES

    def test_with_foreign_files(self, command: Command) -> None:
        command.out.mkdir()
        (command.out / "thesis.txt").write_text("mine")
        line = command.refused()
        assert f"--output_dir {command.out} is not empty" in line
        assert names(command.out) == {"thesis.txt"}
        command.selected("--overwrite_output_dir")
        assert names(command.out) == ENTRIES | {"thesis.txt"}
        assert (command.out / "thesis.txt").read_text() == "mine"

    @pytest.mark.parametrize("name", ["file", "file/out"])
    def test_that_is_a_file(self, command: Command, name: str) -> None:
        command.write("file", "mine")
        line = command.refused("--overwrite_output_dir", out=command.folder / name)
        assert f"--output_dir {command.folder / name}" in line
        assert (command.folder / "file").read_text() == "mine"


@pytest.mark.slow
def test_as_a_process(command: Command) -> None:
    flags = ["--dataset_name", str(command.data), "--model_name_or_path", str(command.clip_folder)]
    flags += ["--output_dir", str(command.out), "--use_cpu", *QUICK]
    bad = run_python("-m", "hf_clipselect", "select", *flags, "--selection_ratio", "2")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: --selection_ratio ") and bad.stderr.count("\n") == 1
    assert not command.out.exists()
    script = "import sys; from hf_clipselect.cli.commands import main; sys.exit(main())"
    good = subprocess.run([sys.executable, "-c", script, "select", *flags], capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    assert good.stdout.count("\n") == 8  # the summary alone; all else goes to stderr
    assert "Traceback" not in good.stderr and "Warning" not in good.stderr, good.stderr
