"""Bars of long stages."""

from hf_clipselect.runtime import progress
from hf_clipselect.runtime.progress import Progress


def show_two_stages(**options):
    with Progress(**options) as told:
        for stage in ("First", "Second"):
            for part in (0.25, 0.5, 1.0):
                told(stage, part)


def test_every_stage_has_a_bar_up_to_its_end(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_DELAY", 0)
    show_two_stages()
    shown = capsys.readouterr().err
    assert "First: 100%" in shown and "Second: 100%" in shown and shown.index("First") < shown.index("Second")


def test_short_stages_and_other_processes_show_nothing(monkeypatch, capsys):
    show_two_stages()
    monkeypatch.setattr(progress, "_DELAY", 0)
    show_two_stages(is_shown=False)
    assert capsys.readouterr().err == ""
