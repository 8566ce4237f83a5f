"""Warnings of a run reach whoever would see those of any library, once, and stay in its report."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hf_clipselect import select_dataset
from hf_clipselect.pipeline.run_log import collected_warnings, logged_to_stderr, timed
from hf_clipselect.runtime.notices import NOT_IN_REPORT


PACKAGE = logging.getLogger("hf_clipselect")
LOGGER = logging.getLogger("hf_clipselect.somewhere.deep")


@contextmanager
def no_setup() -> Iterator[None]:
    """Nobody has set up logging: pytest's own handlers, which come after all fixtures, would count as the user's."""
    loggers = (logging.getLogger(), PACKAGE, LOGGER)
    before = [(list(it.handlers), it.level, it.propagate) for it in loggers]
    for logger in loggers:
        logger.handlers[:] = []
    try:
        yield
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate


class Seen(logging.Handler):
    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def warn_in_a_run() -> None:
    before = list(PACKAGE.handlers)
    with collected_warnings() as warnings:
        LOGGER.info("a step")
        LOGGER.warning("odd %s", "labels")
        LOGGER.warning("a slow disk", extra=NOT_IN_REPORT)
    assert PACKAGE.handlers == before
    assert warnings == ["odd labels"]


@no_setup()
def test_without_any_setup_warnings_go_to_stderr_once(capfd):
    warn_in_a_run()
    assert capfd.readouterr().err == "odd labels\na slow disk\n"
    with collected_warnings():  # within another run's, say of a comparison
        warn_in_a_run()
    assert capfd.readouterr().err == "odd labels\na slow disk\n"


@pytest.mark.parametrize("place", ["root", "package", "module"])
@pytest.mark.parametrize("level", [logging.NOTSET, logging.ERROR])
@no_setup()
def test_handlers_of_the_user_decide(capfd, place, level):
    handler = Seen(level)
    {"root": logging.getLogger(), "package": PACKAGE, "module": LOGGER}[place].addHandler(handler)
    warn_in_a_run()
    assert handler.texts == ([] if level else ["odd labels", "a slow disk"])
    assert capfd.readouterr().err == ""


@no_setup()
def test_a_null_handler_silences(capfd):
    PACKAGE.addHandler(logging.NullHandler())
    with collected_warnings() as warnings:
        LOGGER.warning("odd")
    assert warnings == ["odd"] and capfd.readouterr().err == ""


@no_setup()
def test_a_package_that_does_not_propagate_has_the_last_resort_alone(capfd):
    handler, PACKAGE.propagate = Seen(), False
    logging.getLogger().addHandler(handler)
    warn_in_a_run()
    assert handler.texts == [] and capfd.readouterr().err == "odd labels\na slow disk\n"


@no_setup()
def test_on_the_command_line_everything_is_printed_once(capfd):
    with logged_to_stderr(logging.INFO):
        with collected_warnings():
            LOGGER.info("a step")
            LOGGER.warning("odd labels")
    assert capfd.readouterr().err == "a step\nodd labels\n"


@no_setup()
def test_runs_of_two_threads_keep_their_warnings_apart(capfd):
    meet, found = threading.Barrier(2), {}

    def run(name: str) -> None:
        with collected_warnings() as warnings:
            meet.wait()
            LOGGER.warning("of %s", name)
            helper = threading.Thread(target=LOGGER.warning, args=(f"of a helper of {name}",))
            helper.start()
            helper.join()
            meet.wait()
        found[name] = warnings

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, other in (("one", "two"), ("two", "one")):
        assert f"of {name}" in found[name] and f"of {other}" not in found[name]
        assert f"of a helper of {name}" in found[name]
    assert sorted(capfd.readouterr().err.splitlines()) == [
        "of a helper of one",
        "of a helper of two",
        "of one",
        "of two",
    ]


@no_setup()
def test_a_run_from_python_warns_on_stderr_and_in_its_report(images_dataset, clip_folder, capfd):
    result = select_dataset(
        images_dataset, model_name_or_path=clip_folder, objective="paper", adaptation="off", dataloader_num_workers=0
    )
    told = capfd.readouterr().err
    assert result.report["warnings"]
    assert all(told.count(warning) == 1 for warning in result.report["warnings"])
    assert PACKAGE.handlers == []


def test_a_stage_in_two_parts_takes_as_long_as_both():
    seconds = {"load": 5.0}
    with timed(seconds, "load"), timed(seconds, "encode"):
        pass
    assert seconds["load"] > 5 and 0 < seconds["encode"] < 5
