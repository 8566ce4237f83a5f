"""YAML files of flags and of quotas: what stands in them is a value of its flag, and nothing else."""

import pytest
import yaml

from hf_clipselect.config.command_line import parse_arguments
from hf_clipselect.config.yaml_file import read_lines
from hf_clipselect.data.row_facts import read_class_quotas
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.classifier import parse_training_arguments as parse_training
from hf_clipselect.evaluation.comparison import parse_sweep_arguments as parse_sweep


def written(folder, text):
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_no_value_becomes_a_flag(tmp_path, capsys):
    text = f"selection_ratio: ['0.3', '--output_dir', '{tmp_path}/elsewhere']\n"
    for parse, told in ((parse_arguments, "must be a number or auto, got"), (parse_sweep, "invalid float value:")):
        with pytest.raises(SystemExit):
            parse(["--config", written(tmp_path, text)])
        assert f"{told} '--output_dir'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_training(["--config", written(tmp_path, "lr_milestones: [1, --push_to_hub]\n")])
    assert "invalid float value: '--push_to_hub'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-{}-", "--seed={}", "--", "-1 {}", "a\n{}", "= {}", "--output_dir", ""])
def test_values_that_look_like_flags_are_values(text, tmp_path):
    lines = written(tmp_path, yaml.safe_dump({"prompt_template": [text, "{}"], "dataset_name": text}))
    arguments = parse_arguments(["--config", lines])
    assert arguments.model.prompt_template == [text, "{}"]
    assert arguments.data.dataset_name == (text or "embedded/digits")
    assert arguments.run.seed == 42 and arguments.run.output_dir == "clipselect_output"


def test_the_command_line_wins_over_lists_of_the_file(tmp_path):
    lines = written(tmp_path, "selection_ratio: [0.2, 0.4]\nselection_count: 5\nuse_cpu: false\n")
    arguments = parse_arguments(["--config", lines, "--selection_ratio", "0.9", "--use_cpu"])
    assert arguments.selection.selection_ratio == [0.9] and arguments.selection.selection_count == [5]
    assert arguments.run.use_cpu is True


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 10_000, "nested too deeply"),
        ("seed: " + "{a: " * 10_000, "nested too deeply"),
        (LAUGHS, "unknown keys: a0"),
        (
            "selection_ratio: " + LAUGHS.replace("\n", "\n  ").replace("a0:", "\n  a0:", 1),
            "one value or a list of values",
        ),
        ("seed: 1\nseed: 2\n", "names seed more than once"),
        ("? [seed]\n: 1\n", "begins with a list, not with a name"),
        ("? {seed: 1}\n: 1\n", "begins with a mapping, not with a name"),
        ("selection_ratio: [[0.3]]\n", "selection_ratio must be one value or a list of values"),
        ("seed: {a: 1}\n", "seed must be one value or a list of values"),
        ("&a [*a]\n", "got a list"),
        ("seed: 1\n---\nseed: 2\n", "not YAML"),
        ('output_dir: "a\\0b"\n', "--output_dir holds a NUL character"),
        ('class_quotas_file: "a\\0b"\n', "--class_quotas_file holds a NUL character"),
        ("seed: 99999999999999999999\n", "--seed is too large"),
        ("output_dir: ''\nseed: 1\nseed: 1\n", "more than once"),
    ],
)
def test_files_that_can_not_be_meant(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        parse_arguments(["--config", written(tmp_path, text)])


def test_numbers_that_python_does_not_read(tmp_path, capsys):
    for name in ("seed", "selection_count", "num_neighbors"):
        with pytest.raises(SystemExit):
            parse_arguments(["--config", written(tmp_path, f"{name}: {'1' * 5000}\n")])
        told = capsys.readouterr().err
        assert told.startswith(f"error: argument --{name}") and told.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat: " + "1" * 5000, "line 1 is not a class and its rows"),
        ("cat: 1\ndog: -1", "line 2 is not a class and its rows"),
        ("cat: [1]", "line 1 is not a class"),
        ("cat: 1\ncat: 2", "names cat more than once"),
        ("[" * 10_000, "nested too deeply"),
        ("? [cat]\n: 1", "begins with a list"),
    ],
)
def test_quotas_that_can_not_be_meant(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_class_quotas(written(tmp_path, text))


def test_lines_keep_the_names_that_yaml_would_read_as_values(tmp_path):
    lines = read_lines(written(tmp_path, "no: 1\n1: 2\n~: 3\n2001-01-01: 4\n"), "class_quotas_file")
    assert [(name, node.value) for name, node in lines] == [("no", "1"), ("1", "2"), ("~", "3"), ("2001-01-01", "4")]
