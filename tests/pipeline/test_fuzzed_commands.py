"""Command lines and YAML files of every kind: a right result, or one sentence and the exit code of wrong input."""

import contextlib
import io
import re

import numpy as np
import pytest
import yaml
from fuzzed import ANYTHING, OF_DATASETS, RIGHT, UNPRINTABLE, few_digits, fuzz
from hypothesis import given
from hypothesis import strategies as st

from hf_clipselect.cli import main


@pytest.fixture(scope="module")
def digits():
    return few_digits()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Relative names of files and folders are ones of a folder of the test."""
    folder = tmp_path_factory.mktemp("place")
    with contextlib.chdir(folder):
        yield folder


def words(value):
    """A value as a word of a command line."""
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def command_lines(folder):
    """A command line, and the lines of a YAML file."""
    right = {
        name: values for name, values in (RIGHT | OF_DATASETS).items() if name not in ("class_quotas", "class_names")
    }
    right |= {
        "class_quotas_file": ["quotas.yaml"],
        "class_names_file": ["names.txt"],
        "train_split_name": ["train"],
        "dataset_name": [str(folder / "digits")],
        "max_train_samples": [20],
        "must_keep": ["rows.txt"],
        "must_drop": [],
    }
    plain = [
        value for value in ANYTHING if isinstance(value, (str, int, float, list, type(None))) and value != 10**400
    ]

    def value(name):
        return st.sampled_from([*right[name] * (200 // max(len(right[name]), 1)), *plain])

    some = st.lists(st.sampled_from(sorted(right)), max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: value(name) for name in names})
    )
    return st.tuples(some, some)


@pytest.mark.slow
def test_command_line(digits, place):
    digits.save_to_disk(place / "digits")
    (place / "quotas.yaml").write_text("zero: 2\n")
    (place / "names.txt").write_text("\n".join(map(str, range(10))))
    (place / "rows.txt").write_text("0\n5\n")
    outcomes = {0: 0, 2: 0}
    usual = [
        "--dataset_name",
        "digits",
        "--model_name_or_path",
        "embedded/tiny-clip",
        "--adaptation",
        "off",
        "--use_cpu",
    ]
    usual += ["--dataloader_num_workers", "0", "--overwrite_output_dir"]

    @fuzz(80)
    @given(command_lines(place))
    def call(given):
        flags, lines = given
        (place / "run.yaml").write_text(yaml.safe_dump({name: _plain(value) for name, value in lines.items()}))
        flags = [part for name, value in flags.items() for part in (f"--{name}", words(value))]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(["select", *usual, "--config", "run.yaml", *flags])
            except SystemExit as stopped:
                code = stopped.code
        said = [line for line in err.getvalue().replace("\r", "\n").split("\n") if line.startswith("error: ")]
        assert code in outcomes and len(said) == (code == 2), (code, err.getvalue()[-2000:])
        assert "Traceback" not in err.getvalue()
        assert not any(UNPRINTABLE.search(line) for line in [*said, *out.getvalue().splitlines()])
        assert code == 2 or re.search(r"rows?; CLIP agrees", out.getvalue())
        outcomes[code] += 1

    call()
    assert min(outcomes.values()) > 20


def _plain(value):
    return value.item() if isinstance(value, np.generic) else list(value) if isinstance(value, tuple) else value
