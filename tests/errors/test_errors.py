"""The errors of the package are those that callers catch by Python's own names, and long paths are told as input."""

import pytest

from hf_clipselect.errors import InputError, PushError, RunError, long_paths_refused


def test_wrong_input_is_a_value_error_and_a_failed_machine_a_runtime_error():
    assert issubclass(InputError, ValueError)
    assert issubclass(RunError, RuntimeError) and issubclass(PushError, RunError)
    assert not issubclass(InputError, RuntimeError) and not issubclass(RunError, ValueError)


@pytest.mark.parametrize("part", ["a" * 300, "/".join(["folder"] * 2000)], ids=["name", "path"])
def test_a_path_that_no_file_system_takes_is_wrong_input(part, tmp_path):
    with pytest.raises(InputError, match="is too long; give a shorter one.$") as caught, long_paths_refused():
        (tmp_path / part).stat()
    assert len(str(caught.value)) < 200  # a part of it is shown
    assert str(tmp_path)[:50] in str(caught.value)


def test_other_failures_of_a_path_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError), long_paths_refused():
        (tmp_path / "missing").stat()
    with long_paths_refused():
        assert tmp_path.is_dir()
