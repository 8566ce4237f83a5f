"""From Python messages name arguments, on the command line flags; both are written once."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest

from hf_clipselect import InputError, load_adapters, load_pruned, select_dataset, select_embeddings
from hf_clipselect.config.arguments import Arguments
from hf_clipselect.config.python_calls import python_door, with_arguments
from hf_clipselect.errors import RunError


@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        ("pass --on_bad_image drop to leave", 'pass on_bad_image="drop" to leave'),
        ("--adaptation always keeps them.", 'adaptation="always" keeps them.'),
        ("--adaptation is", "adaptation is"),
        ("or pass --overwrite_output_dir to remove", "or pass overwrite_output_dir=True to remove"),
        ("pass --gate true too, --spread false.", "pass gate=True too, spread=False."),
        ("(--use_cpu False)", "(use_cpu=False)"),
        ("--num_folds 1 leaves", "num_folds=1 leaves"),
        ("--seed must be", "seed must be"),
        ("lower --learning_rate 1e-4.", "lower learning_rate=1e-4."),
        ("the nearest is --selection_ratio 0.6.", "the nearest is selection_ratio=0.6."),
        ("--selection_ratio auto keeps", 'selection_ratio="auto" keeps'),
        ("--selection_count 7 is, --diversity_weight ratio", "selection_count=7 is, diversity_weight ratio"),
        ("--output_dir a/b is a file", "output_dir a/b is a file"),
        ("with --class_names_file, or --class_quotas_file q.yaml", "with class_names, or class_quotas q.yaml"),
        ("--hub_tag --hub_revision x", "hub_tag hub_revision x"),
        ("--unknown_flag, a--seed, x/--seed, --seeds", "--unknown_flag, a--seed, x/--seed, --seeds"),
    ],
)
def test_flags_become_arguments(flags, arguments):
    assert with_arguments(flags) == arguments


def test_every_flag_becomes_an_argument():
    for group in dataclasses.fields(Arguments):
        for field in dataclasses.fields(group.type):
            assert "--" not in with_arguments(f"change --{field.name}, or leave --{field.name} out; --{field.name}.")


def test_an_error_keeps_its_kind_its_cause_and_its_notes():
    @python_door(dataset_name="repo")
    def fails(kind: str, number: int = 0) -> None:
        cause = OSError("the disk")
        error = {"input": InputError, "run": RunError}[kind](f"--dataset_name {number}: lower \x1b[31m --seed 3")
        error.add_note("a note")
        raise error from cause

    for kind, expected in (("input", InputError), ("run", RunError)):
        with pytest.raises(expected) as raised:
            fails(kind, np.int64(5))
        assert raised.value.args == ("repo 5: lower \\x1b[31m seed=3",)
        assert isinstance(raised.value.__cause__, OSError) and raised.value.__notes__ == ["a note"]
    with pytest.raises(TypeError, match="fails.* unexpected keyword argument 'colour'"):
        fails("input", colour=1)
    with pytest.raises(TypeError, match="fails.* missing 1 required"):
        fails()


def test_warnings_name_arguments_and_show_what_can_not_be_seen(caplog):
    embeds, labels, names = np.eye(4)[np.arange(200) % 4], np.arange(200) % 4, ["a\x1b[2J", "b\u202e", "c", "d"]
    select_embeddings(embeds, np.eye(4)[[1, 0, 2, 3]], labels, class_names=names, selection_ratio=0.5)
    [told] = [record.getMessage() for record in caplog.records if "less often than chance" in record.getMessage()]
    assert (
        "(class_names, prompt_template)" in told and "\x1b" not in told and "\u202e" not in told and "\\u202e" in told
    )
    logging.getLogger("hf_clipselect.scores.trust").warning("--seed %d \x07", 3)  # after the call all is as it was
    assert caplog.records[-1].getMessage() == "--seed 3 \x07"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt_template": 3}, "prompt_template must be a text, a list of texts or None, got 3."),
        (
            {"class_quotas": 3},
            "class_quotas must be a mapping from texts to whole numbers, a text, a path or None, got 3.",
        ),
        ({"strict": "x"}, "strict must be True or False, got 'x'."),
        ({"gate": 1}, "gate must be True or False or None, got 1."),
        ({"seed": True}, "seed must be a whole number, got True."),
        ({"seed": 10**5000}, "seed is too large; give a number below 2^63."),
        (
            {"selection_ratio": "0.3"},
            'selection_ratio must be a number, "auto", a list of numbers and "auto" or None, got \'0.3\'.',
        ),
        (
            {"selection_ratio": [0.3, "all"]},
            'selection_ratio must be a number, "auto", a list of numbers and "auto" or None, got [0.3, \'all\'].',
        ),
        ({"selection_ratio": ["auto", "auto"]}, "selection_ratio names auto more than once"),
        ({"output_dir": "a\0b"}, "output_dir holds a NUL character, which no name or path can have: 'a\\x00b'."),
        ({"output_dir": b"x"}, "output_dir must be a text, a path or None, got b'x'."),
        ({"output_dir": ""}, "output_dir is empty; name a folder."),
        ({"on_bad_image": "skip"}, "on_bad_image must be one of error, drop, got 'skip'."),
        ({"must_keep": "a\0"}, "must_keep holds a NUL character, which no name or path can have: 'a\\x00'."),
        ({"dataloader_num_workers": 10**6}, "dataloader_num_workers=1000000 is more processes"),
        ({"temperature": float("nan")}, "temperature must be a number above 0, got nan."),
    ],
)
def test_wrong_types_are_told_in_a_sentence(images_dataset, arguments, message):
    with pytest.raises(InputError) as raised:
        select_dataset(images_dataset, **arguments)
    assert str(raised.value).startswith(message)


def test_numbers_of_numpy_and_paths_are_taken(images_dataset, tmp_path):
    result = select_dataset(
        images_dataset,
        model_name_or_path="embedded/tiny-clip",
        selection_ratio=np.float32(0.3),
        seed=np.int64(3),
        adaptation="off",
        num_neighbors=np.uint8(2),
        gate=np.bool_(True),
        class_names=np.array(["red", "green", "blue"]),
        output_dir=tmp_path / "out",
        prompt_template=("a {}", "the {}"),
        dataloader_num_workers=0,
        selection_count=[np.int32(7)],
    )
    assert result.ratios == (0.3, 7) and len(result.selected) == 18 and result.seed == 3
    assert (tmp_path / "out" / "subset" / "ratio_30").is_dir()


@pytest.mark.parametrize("long", ["x" * 300, "x/" * 3000, str(Path("/") / ("y" * 5000))])
def test_paths_that_are_too_long(images_dataset, long):
    calls = [
        lambda: select_dataset(images_dataset, output_dir=long),
        lambda: select_dataset(images_dataset, model_name_or_path=long),
        lambda: select_dataset(images_dataset, must_keep=long),
        lambda: select_dataset(images_dataset, class_quotas=long),
        lambda: load_pruned(long, ratio=0.3),
        lambda: load_adapters(long),
    ]
    for call in calls:
        with pytest.raises(InputError) as raised:
            call()
        assert "\n" not in str(raised.value).partition("\nStage of the run")[0] and "--" not in str(raised.value)
