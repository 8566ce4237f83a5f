"""The flags of damage are declared once, and every recipe that damages data checks them alike."""

import dataclasses

import pytest
from recipe_files import run_recipe

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.comparison.sweep_arguments import SweepArguments
from hf_clipselect.evaluation.robustness.damage_arguments import DamageArguments


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"noise_rate": [1.0]}, r"--noise_rate is a share .* \[0, 1\), got 1.0"),
        ({"noise_rate": [0.1, -0.1]}, r"--noise_rate .* got -0.1"),
        ({"noise_rate": []}, r"--noise_rate must name at least one value, and each once, got \[\]"),
        ({"corruption_rate": [1.1]}, r"--corruption_rate is a share .* \[0, 1\], got 1.1"),
        ({"corruption_rate": [0.1, 0.1]}, r"--corruption_rate must name .* each once, got \[0.1, 0.1\]"),
        ({"corruption_severity": 6}, "--corruption_severity must be one of 1, 2, 3, 4, 5, got 6"),
    ],
)
@pytest.mark.parametrize("group", [DamageArguments, SweepArguments])
def test_what_is_no_share_is_refused(group, given, message):
    with pytest.raises(InputError, match=message):
        group(**given)


def test_all_images_may_be_damaged():
    assert DamageArguments(corruption_rate=[1.0], noise_rate=[0.0]).corruption_rate == [1.0]


def test_sweeps_declare_no_damage_of_their_own():
    damage = {field.name for field in dataclasses.fields(DamageArguments)}
    assert not damage & set(SweepArguments.__annotations__)
    assert damage < {field.name for field in dataclasses.fields(SweepArguments)}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--noise_rate", "1"), "--noise_rate is a share of the rows and must lie in [0, 1), got 1.0."),
        (("--noise_rate", "0.1", "0.2"), "--noise_rate takes one share here, got [0.1, 0.2]"),
    ],
)
@pytest.mark.slow
def test_label_noise_refuses_them_in_a_line(flags, words, tmp_path):
    done = run_recipe("label_noise.py", *flags, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
