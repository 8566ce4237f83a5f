"""What is written to a terminal does nothing but show."""

import logging

import pytest

from hf_clipselect.cli import main
from hf_clipselect.pipeline.run_log import logged_to_stderr
from hf_clipselect.runtime.terminal import error_line, printable


def test_control_characters_and_direction_marks_show():
    assert printable("\x1b[31m\x07\x9b2J\u202egpj\u2066\u200f\u061c\u2028\ufeff\r\n\t\udcff") == (
        r"\x1b[31m\x07\x9b2J\u202egpj\u2066\u200f\u061c\u2028\ufeff\r\n\t\udcff"
    )
    for plain in ("Zürich", "日本 語", "שלום", "\N{FAMILY}\N{ZERO WIDTH JOINER}", "back\\slash"):
        assert printable(plain) == plain


def test_an_error_is_one_line():
    assert error_line(ValueError("a\n b\x1b[2J")) == "error: a b\\x1b[2J\n"


def test_the_log_of_a_command_shows_them(capsys):
    with logged_to_stderr(logging.INFO):
        logging.getLogger("hf_clipselect.scores.trust").warning("class %s of --seed", "\x1b]0;owned\x07")
    assert capsys.readouterr().err == "class \\x1b]0;owned\\x07 of --seed\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["\x1b[31m"],
        ["select", "--seed", "\x1b[31m"],
        ["select", "--class_names_file", "x\x1b\u202e", "--dataset_name", "\x07"],
    ],
)
def test_errors_of_the_command_line_show_them(argv, capsys):
    try:
        code = main(argv)
    except SystemExit as stopped:
        code = stopped.code
    told = capsys.readouterr().err
    assert code == 2 and told.startswith("error: ") and told.count("\n") == 1
    assert not {"\x1b", "\x07", "\u202e"} & set(told)
