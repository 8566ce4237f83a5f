import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hf_clipselect.config.arguments import (
    DEFAULT_MODEL,
    EMBEDDED_DATASET,
    EMBEDDED_MODEL,
    Arguments,
    DataArguments,
    RunArguments,
    SelectionArguments,
    default_model,
)
from hf_clipselect.config.command_line import parse_arguments
from hf_clipselect.errors import InputError
from hf_clipselect.selection import resolve_objective


GROUPS = [group.type for group in dataclasses.fields(Arguments)]
FLAGS = sorted(f.name for group in GROUPS for f in dataclasses.fields(group))

# A value for every flag that is not its default, as written on the command line and as it must arrive.
EXAMPLES = {
    "dataset_name": ("a/b", "a/b"),
    "dataset_config_name": ("plain", "plain"),
    "dataset_revision": ("v1", "v1"),
    "data_files": ("train-*.csv", ["train-*.csv"]),
    "data_dir": ("photos", "photos"),
    "storage_options": ('{"anon": true}', '{"anon": true}'),
    "allow_unread_files": ("true", True),
    "train_split_name": ("validation", "validation"),
    "image_column_name": ("img", "img"),
    "label_column_name": ("fine_label", "fine_label"),
    "caption_column": ("text", "text"),
    "num_clusters": ("20", 20),
    "class_names_file": ("names.txt", "names.txt"),
    "max_train_samples": ("100", 100),
    "reference_split": ("test", "test"),
    "reference_dataset_name": ("me/other", "me/other"),
    "on_bad_image": ("drop", "drop"),
    "model_name_or_path": ("some/clip", "some/clip"),
    "model_revision": ("v2", "v2"),
    "prompt_template": ("a drawing of a {}.", ["a drawing of a {}."]),
    "per_device_eval_batch_size": ("8", 8),
    "dataloader_num_workers": ("0", 0),
    "precision": ("bfloat16", "bfloat16"),
    "bf16": ("true", True),
    "adaptation": ("off", "off"),
    "adapter_name_or_path": ("me/adapters", "me/adapters"),
    "peft_config": ("lora.json", "lora.json"),
    "temperature": ("0.07", 0.07),
    "learning_rate": ("1e-4", 1e-4),
    "num_train_epochs": ("3", 3),
    "train_batch_size": ("32", 32),
    "max_train_steps": ("500", 500),
    "min_train_steps": ("10", 10),
    "selection_ratio": ("0.5", [0.5]),
    "selection_count": ("500", [500]),
    "balance_by": ("group", "group"),
    "min_per_class": ("5", 5),
    "class_quotas_file": ("quotas.yaml", "quotas.yaml"),
    "gate": ("false", False),
    "gate_floor": ("0.2", 0.2),
    "spread": ("true", True),
    "herding": ("true", True),
    "redundancy_weight": ("0.5", 0.5),
    "group_column": ("camera", "camera"),
    "id_column": ("uid", "uid"),
    "must_keep": ("keep.txt", "keep.txt"),
    "must_drop": ("is_bad", "is_bad"),
    "decisions": ("decisions.parquet", "decisions.parquet"),
    "drop_leaks": ("true", True),
    "quality_checks": ("report", "report"),
    "num_folds": ("5", 5),
    "strict": ("true", True),
    "streaming": ("true", True),
    "objective": ("paper", "paper"),
    "alignment": ("cosine", "cosine"),
    "diversity_weight": ("0.25", 0.25),
    "normalization": ("minmax_mean", "minmax_mean"),
    "class_balance": ("uniform", "uniform"),
    "solver": ("sgd", "sgd"),
    "ratio_weight": ("3", 3.0),
    "theta": ("5e-5", 5e-5),
    "neighbor_fraction": ("0.2", 0.2),
    "num_neighbors": ("5", 5),
    "output_dir": ("out", "out"),
    "overwrite_output_dir": ("true", True),
    "seed": ("7", 7),
    "map": ("true", True),
    "use_cpu": ("true", True),
    "allow_outside_files": ("true", True),
    "report_to": ("tensorboard", "tensorboard"),
    "push_to_hub": ("true", True),
    "hub_dataset_id": ("me/digits-pruned", "me/digits-pruned"),
    "hub_model_id": ("me/digits-clip-adapters", "me/digits-clip-adapters"),
    "hub_private_repo": ("true", True),
    "hub_revision": ("dev", "dev"),
    "hub_tag": ("v3", "v3"),
    "create_pr": ("true", True),
    "scores_only": ("true", True),
    "license": ("cc-by-4.0", "cc-by-4.0"),
}
# What makes no sense without it.
NEEDS = {
    "push_to_hub": ("hub_dataset_id", "me/digits-pruned"),
    "num_clusters": ("caption_column", "text"),
    "reference_dataset_name": ("reference_split", "test"),
}


def write_yaml(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def one_line_of(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line


def test_every_flag_has_an_example() -> None:
    assert sorted(EXAMPLES) == FLAGS


@pytest.mark.parametrize("flag", FLAGS)
def test_flag_with_underscores_dashes_and_yaml(flag: str, tmp_path: Path) -> None:
    text, value = EXAMPLES[flag]
    needed = [f"--{NEEDS[flag][0]}={NEEDS[flag][1]}"] if flag in NEEDS else []
    assert parse_arguments([]).to_dict()[flag] != value
    assert parse_arguments([*needed, f"--{flag}", text]).to_dict()[flag] == value
    assert parse_arguments([*needed, f"--{flag.replace('_', '-')}={text}"]).to_dict()[flag] == value
    written = write_yaml(tmp_path, yaml.safe_dump({flag: value}))
    assert parse_arguments([*needed, "--config", written]).to_dict()[flag] == value


def help_of(capsys: pytest.CaptureFixture[str], flag: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        parse_arguments([flag], prog="the-program")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: the-program [flags]\n")
    return text


def test_help_of_all_flags_mentions_each_once_under_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "--help_all")
    # One spelling, without dashes and --no_x; the order is that of the dataclasses, which is that of a run.
    assert re.findall(r"^  (?:-h, )?--([\w-]+)", text, re.MULTILINE) == [
        *(f.name for group in GROUPS for f in dataclasses.fields(group)),
        *("help", "help_all", "config"),
    ]
    titles = ["data", "model", "adapters", "selection", "output", "Hub", "options"]
    assert re.findall(r"^(\w+):$", text, re.MULTILINE) == titles
    # What every dataclass says about itself and its flags reaches the reader, percent signs included.
    words = " ".join(text.split())
    for f in (f for group in GROUPS for f in dataclasses.fields(group)):
        assert f.metadata["help"].split(";")[0].split(",")[0].replace("%%", "%")[:25] in words, f.name


def test_help_tells_real_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    words = " ".join(help_of(capsys, "--help_all").split())
    assert "None" not in words and "False" not in words
    assert "Temperature of the InfoNCE loss. (default: 0.1)" in words
    assert "several are averaged. (default: A photo of a {}.)" in words
    assert "Fixed number of neighbours of the diversity score. --must_keep" in words  # it has none


def test_short_help_fits_on_a_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of(capsys, "--help")
    flags = re.findall(r"^  (?:-h, )?--(\w+)", text, re.MULTILINE)
    assert len(flags) == 10 + 3 and flags[-3:] == ["help", "help_all", "config"]
    assert {"dataset_name", "model_name_or_path", "selection_ratio", "output_dir", "push_to_hub"} < set(flags)
    assert text.count("\n  hf-clipselect select ") == 3
    lines = text.splitlines()
    assert len(lines) <= 52 and max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["--selection_raito", "0.3"], "; did you mean --selection_ratio?"),
        (["--selection-raito=0.3"], "; did you mean --selection_ratio?"),
        (["--objective", "robsut"], "; did you mean robust?"),
        (["--zzz"], ""),
    ],
)
def test_a_mistyped_flag_or_choice(argv: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_arguments(argv)
    assert stopped.value.code == 2
    line = one_line_of(capsys)
    assert line.endswith(f"{meant} (all flags: --help_all)") and ("did you mean" in line) == bool(meant)


@pytest.mark.parametrize(
    ("flags", "names"),
    [([], "none"), (["tensorboard"], "tensorboard"), (["all"], "all"), (["wandb", "aim"], ["wandb", "aim"])],
)
def test_trackers(flags: list[str], names: Any) -> None:
    assert parse_arguments(["--report_to", *flags] if flags else []).run.report_to == names
    assert RunArguments(report_to=flags or "none").report_to == names


@pytest.mark.parametrize("word", ["none", "all"])
def test_words_that_stand_alone_among_trackers(word: str) -> None:
    with pytest.raises(InputError, match=f"--report_to {word} stands alone, got wandb {word}"):
        parse_arguments(["--report_to", "wandb", word])


def test_defaults_of_the_contract() -> None:
    defaults = parse_arguments([])
    assert defaults.to_dict() == {**Arguments().to_dict(), "model_name_or_path": EMBEDDED_MODEL}
    assert defaults.run.output_dir == "clipselect_output"
    assert defaults.run.seed == 42
    assert defaults.adaptation.temperature == 0.1
    assert (defaults.adaptation.num_train_epochs, defaults.adaptation.train_batch_size) == (30, 256)
    assert (defaults.selection.selection_ratio, defaults.selection.selection_count) == (None, None)
    assert defaults.model.prompt_template == ["A photo of a {}."]


def test_lists() -> None:
    arguments = parse_arguments(["--selection_ratio", "0.3", "0.125", "1", "--prompt_template", "a {}", "one {}."])
    assert arguments.selection.selection_ratio == [0.3, 0.125, 1.0]
    assert arguments.model.prompt_template == ["a {}", "one {}."]
    assert parse_arguments(["--selection_count", "5", "7"]).selection.selection_count == [5, 7]
    assert parse_arguments(["--selection_ratio", "auto"]).selection.selection_ratio == ["auto"]
    assert parse_arguments(["--selection_ratio", "0.3", "auto", "1"]).selection.selection_ratio == [0.3, "auto", 1.0]
    # A list of one run is not the list of the next.
    assert parse_arguments([]).selection.selection_ratio is None


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], False),
        (["--use_cpu"], True),
        (["--use_cpu", "true"], True),
        (["--use_cpu", "false"], False),
        (["--use_cpu=False"], False),
        (["--use-cpu", "--seed", "1"], True),
    ],
)
def test_switches(argv: list[str], expected: bool) -> None:
    assert parse_arguments(argv).run.use_cpu is expected


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--bogus", "1"], ["--bogus"]),
        (["--see", "1"], ["--see"]),  # no abbreviations: a new flag must not change an old command
        (["stray"], ["stray"]),
        (["--objective", "best"], ["--objective", "best", "robust", "clean", "paper", "released"]),
        (["--seed", "one"], ["--seed", "one"]),
        (["--selection_ratio", "0.3", "all"], ["--selection_ratio", "must be a number or auto, got 'all'"]),
        (["--alignment", "noise"], ["--alignment", "noise_model"]),
        (["--use_cpu", "maybe"], ["--use_cpu", "maybe"]),
        (["--prompt_template"], ["--prompt_template"]),
        (["--output_dir"], ["--output_dir"]),
    ],
)
def test_bad_command_line_is_one_line_and_exit_code_2(
    argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_arguments(argv)
    assert stopped.value.code == 2
    line = one_line_of(capsys)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("max_train_samples", "0"),
        ("per_device_eval_batch_size", "0"),
        ("per_device_eval_batch_size", "all"),
        ("dataloader_num_workers", "-1"),
        ("temperature", "0"),
        ("temperature", "nan"),
        ("learning_rate", "inf"),
        ("learning_rate", "-1"),
        ("num_train_epochs", "0"),
        ("train_batch_size", "1"),
        ("max_train_steps", "0"),
        ("min_train_steps", "0"),
        ("diversity_weight", "much"),
        ("neighbor_fraction", "0"),
        ("neighbor_fraction", "1.5"),
        ("neighbor_fraction", "nan"),
        ("num_neighbors", "0"),
        ("seed", "-1"),
        ("seed", str(2**32)),
    ],
)
def test_value_out_of_range_names_flag_and_value(flag: str, value: str) -> None:
    with pytest.raises(InputError) as error:
        parse_arguments([f"--{flag}={value}"])
    assert f"--{flag}" in str(error.value)
    assert value in str(error.value)


def test_batch_size_that_is_too_large_is_refused() -> None:
    with pytest.raises(InputError, match="--per_device_eval_batch_size is too large"):
        parse_arguments(["--per_device_eval_batch_size", str(2**63)])
    assert parse_arguments(["--per_device_eval_batch_size", "64"]).model.per_device_eval_batch_size == 64


def test_diversity_weight_is_a_number_or_the_word_ratio() -> None:
    assert parse_arguments(["--diversity_weight", "ratio"]).selection.diversity_weight == "ratio"
    assert parse_arguments(["--diversity_weight", "1e-1"]).selection.diversity_weight == 0.1


def test_ratios_are_numbers_or_the_word_auto(tmp_path: Path) -> None:
    for text, value in (("auto", ["auto"]), ("[0.3, auto]", [0.3, "auto"]), ("\n- auto\n- 1e-1", ["auto", 0.1])):
        written = write_yaml(tmp_path, f"selection_ratio: {text}\n")
        assert parse_arguments(["--config", written]).selection.selection_ratio == value
    assert SelectionArguments(selection_ratio=["auto", np.float32(0.3)]).selection_ratio == ["auto", 0.3]
    for wrong in ("auto", ["all"], [0.3, True]):
        with pytest.raises(InputError, match='--selection_ratio must be a list of numbers and "auto" or None, got'):
            SelectionArguments(selection_ratio=wrong)


def test_choices_are_checked_without_the_parser_too() -> None:
    with pytest.raises(InputError, match="--on_bad_image must be one of error, drop, got 'skip'"):
        DataArguments(on_bad_image="skip")
    with pytest.raises(InputError, match="--adaptation must be one of auto, always, off"):
        Arguments.from_dict({"adaptation": "maybe"})


def test_command_line_over_yaml_over_defaults(tmp_path: Path) -> None:
    written = write_yaml(tmp_path, "seed: 1\nselection_ratio: [0.2, 0.4]\ntemperature: 0.5\nuse_cpu: true\n")
    arguments = parse_arguments(["--seed", "2", "--config", written, "--selection_ratio", "0.9", "--use_cpu", "false"])
    assert arguments.run.seed == 2
    assert arguments.selection.selection_ratio == [0.9]
    assert arguments.run.use_cpu is False
    assert arguments.adaptation.temperature == 0.5
    assert arguments.adaptation.num_train_epochs == 30


def test_yaml_over_preset(tmp_path: Path) -> None:
    written = write_yaml(tmp_path, "objective: released\nalignment: margin\n")
    knobs = parse_arguments(["--config", written, "--diversity_weight", "0.7"]).selection
    objective = resolve_objective(
        knobs.objective,
        {
            "alignment": knobs.alignment,
            "diversity_weight": knobs.diversity_weight,
            "normalization": knobs.normalization,
            "class_balance": knobs.class_balance,
            "solver": knobs.solver,
        },
    )
    assert (objective.name, objective.alignment, objective.diversity_weight) == ("released", "margin", 0.7)
    assert objective.normalization == "minmax_mean"  # left to the preset


def test_yaml_values_arrive_with_their_types(tmp_path: Path) -> None:
    text = """
# a comment
dataset_name: folder with spaces/data
selection_ratio: 0.5
prompt_template:
  - "a photo: {}"
  - 'it''s a {}'
learning_rate: 1e-3
bf16: false
use_cpu: yes
num_neighbors: null
class_names_file:
dataset_config_name: 2024
report_to: none
"""
    arguments = parse_arguments(["--config", write_yaml(tmp_path, text)]).to_dict()
    assert arguments["dataset_name"] == "folder with spaces/data"
    assert arguments["selection_ratio"] == [0.5]
    assert arguments["prompt_template"] == ["a photo: {}", "it's a {}"]
    assert arguments["learning_rate"] == 1e-3  # a string to YAML, which wants 1.0e-3
    assert arguments["bf16"] is False
    assert arguments["use_cpu"] is True
    assert arguments["num_neighbors"] is None
    assert arguments["class_names_file"] is None
    assert arguments["dataset_config_name"] == "2024"
    assert arguments["report_to"] == "none"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("selection_ratios: 0.3\nsed: 1\n", ["unknown keys", "sed", "selection_ratios", "selection_ratio,", "seed,"]),
        ("config: other.yaml\n", ["unknown keys", "config"]),
        ("3: x\n", ["unknown keys", "3"]),
        ("seed: [1, 2\n", ["not YAML"]),
        ("seed: 1\n\tratio: 2\n", ["not YAML"]),
        ("- seed\n", ["list"]),
        ("just words\n", ["a text"]),
        ("", ["nothing"]),
    ],
)
def test_bad_yaml_is_told_in_one_line(text: str, words: list[str], tmp_path: Path) -> None:
    path = write_yaml(tmp_path, text)
    with pytest.raises(InputError) as error:
        parse_arguments(["--config", path])
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"--config {path}")
    assert all(word in message for word in words), message


def test_yaml_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--config .*none.yaml can't be read: No such file"):
        parse_arguments(["--config", str(tmp_path / "none.yaml")])
    with pytest.raises(InputError, match="--config .* can't be read: Is a directory"):
        parse_arguments(["--config", str(tmp_path)])
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"seed: \xff\xfe\n")
    with pytest.raises(InputError, match="--config .*binary.yaml is not YAML"):
        parse_arguments(["--config", str(binary)])


@pytest.mark.parametrize(
    "text", ["seed: one\n", "objective: best\n", "seed: [1, 2]\n", "selection_ratio: []\n", "selection_ratio: all\n"]
)
def test_bad_value_in_yaml_reads_like_one_on_the_command_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_arguments(["--config", write_yaml(tmp_path, text)])
    assert stopped.value.code == 2
    one_line_of(capsys)


def test_config_of_a_run_is_taken_back(tmp_path: Path) -> None:
    first = parse_arguments(["--dataset_name", "a/b", "--selection_ratio", "0.3", "0.5", "--seed", "5"])
    flags = {name: value for name, value in first.to_dict().items() if value is not None}
    written = write_yaml(tmp_path, yaml.safe_dump({"arguments": flags, "versions": {"torch": "2"}, "seed": 5}))
    assert parse_arguments(["--config", written]) == first
    assert parse_arguments(["--config", written, "--seed", "6"]).run.seed == 6


def test_default_model_goes_with_the_dataset() -> None:
    assert default_model(EMBEDDED_DATASET) == EMBEDDED_MODEL
    assert default_model("uoft-cs/cifar10") == DEFAULT_MODEL == "openai/clip-vit-base-patch32"
    assert parse_arguments([]).model.model_name_or_path == EMBEDDED_MODEL
    assert parse_arguments(["--dataset_name", "a/b"]).model.model_name_or_path == DEFAULT_MODEL
    given = parse_arguments(["--model_name_or_path", "some/clip"])
    assert (given.data.dataset_name, given.model.model_name_or_path) == (EMBEDDED_DATASET, "some/clip")


def test_arguments_from_a_flat_dictionary() -> None:
    arguments = Arguments.from_dict({"seed": 3, "selection_ratio": None, "not_a_flag": 1})
    assert arguments.run.seed == 3
    assert arguments.selection.selection_ratio is None
    assert Arguments.from_dict(arguments.to_dict()) == arguments
    assert sorted(arguments.to_dict()) == FLAGS


def test_yaml_words_that_yaml_itself_would_read_as_booleans_keep_their_meaning(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("adaptation: off\nuse_cpu: yes\nmax_train_samples:\nselection_ratio: [0.5, 1e-1]\n")
    arguments = parse_arguments(["--config", str(path)])
    assert arguments.adaptation.adaptation == "off" and arguments.run.use_cpu is True
    assert arguments.data.max_train_samples is None and arguments.selection.selection_ratio == [0.5, 0.1]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--push_to_hub"], "--hub_dataset_id"),
        (["--bf16", "--precision", "float32"], "old name of --precision bfloat16 and contradicts"),
        (["--create_pr", "--hub_tag", "v1"], "leave --hub_tag out"),
        (["--license", "MIT License"], "mit or cc-by-4.0, or other; got 'MIT License'"),
        (["--create_pr", "--hub_revision", "dev"], "leave --hub_revision out"),
        (["--adapter_name_or_path", "me/a", "--adaptation", "off"], "--adaptation off"),
        (["--adapter_name_or_path", "me/a", "--peft_config", "lora.json"], "--peft_config lora.json"),
    ],
)
def test_flags_that_contradict_each_other(argv: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_arguments(argv)


def test_the_old_name_of_bfloat16(tmp_path: Path) -> None:
    assert parse_arguments(["--bf16"]).model.precision == "bfloat16"
    old = ["--config", write_yaml(tmp_path, "bf16: true\nper_device_eval_batch_size: 32\n")]
    assert parse_arguments(old).model.precision == "bfloat16"
    assert parse_arguments(old).model.per_device_eval_batch_size == 32
    assert parse_arguments([*old, "--per_device_eval_batch_size", "auto"]).model.per_device_eval_batch_size == "auto"
    with pytest.raises(InputError, match="contradicts --precision float32"):
        parse_arguments([*old, "--precision", "float32"])
    assert parse_arguments(["--config", write_yaml(tmp_path, "bf16: false\n")]).model.precision == "auto"


def test_committed_recipes_may_name_repositories_without_pushing() -> None:
    assert not parse_arguments(["--hub_dataset_id", "me/d", "--push_to_hub", "false"]).hub.push_to_hub
