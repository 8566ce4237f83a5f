"""`hf-clipselect explore`: what it refuses, in one line."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from made_results import make_result
from preloaded import run_python

from hf_clipselect.cli import main
from hf_clipselect.data.decisions import Decision, write_decisions
from hf_clipselect.results.explorer import launch_options


@pytest.fixture
def saved(images_dataset, tmp_path):
    make_result(images_dataset, report=True).save(tmp_path / "saved")
    return str(tmp_path / "saved")


def test_without_gradio_the_extra_is_named(saved, tmp_path):
    code = "import sys; sys.modules['gradio'] = None; from hf_clipselect.cli import main; sys.exit(main(sys.argv[1:]))"
    (tmp_path / "script.py").write_text(code)
    done = run_python(tmp_path / "script.py", "explore", saved)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: The explorer needs Gradio, which is not installed: pip install 'hf_clipselect[app]'"
    )


@pytest.mark.slow
def test_an_address_of_the_network_is_told_at_once_also_behind_a_proxy(saved, tmp_path):
    pytest.importorskip("gradio")
    proxies = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    env = {name: text for name, text in os.environ.items() if name.lower() != "no_proxy"} | proxies
    command = [sys.executable, "-m", "hf_clipselect", "explore", saved, "--host", "0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=env) as server:
        try:
            lines = [server.stdout.readline() for _ in range(3)]
        finally:
            server.terminate()
    assert " is shown at http://" in lines[0]
    assert lines[1].startswith("Anybody on the network who can reach this address can see the images and decide")
    # The images are looked for when the page is there.
    assert lines[2].startswith("images: ") and "Or name the dataset with --dataset_name." in lines[2]


def test_decisions_about_another_dataset_are_refused(saved, capsys, tmp_path):
    pytest.importorskip("gradio")
    write_decisions(tmp_path / "other.parquet", {3: Decision(3, "keep", given_label="wolf")})
    assert main(["explore", saved, "--decisions", str(tmp_path / "other.parquet")]) == 2
    assert "has row 3 as labelled 'wolf', and here it is" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere/at-all"], "nowhere/at-all"),
        (["nowhere"], "There is no folder nowhere; give the output folder of a run, or a repository such as"),
        (
            ["SAVED", "--decisions", "/proc/decisions.parquet"],
            "--decisions /proc/decisions.parquet can't be written: ",
        ),
        (
            ["SAVED", "--decisions", "x" * 300],
            "can't be written: File name too long. Name a file in a folder of yours",
        ),
        (["SAVED", "--host", "no such host"], "--host 'no such host' can't be served: "),
        (["SAVED", "--host", "a" * 70], "Give an address of this machine: 127.0.0.1 for this machine alone"),
        (["SAVED", "--host", "192.0.2.7"], "--host '192.0.2.7' can't be served: "),
        (["SAVED", "--revision", "v1"], "a local folder, which has no revision 'v1'"),
        (["SAVED", "--dataset_name", "embedded/digits"], "not the one that the selection was made from"),
        (["SAVED", "--decisions", "SAVED/selection.json"], "selection.json can't be read"),
        (["SAVED", "--port", "99999"], "argument --port: expected a whole number from 1 to 65535, got '99999'"),
        (["SAVED", "--port=-1"], "argument --port: expected a whole number from 1 to 65535, got '-1'"),
        (["SAVED", "--port", "TAKEN"], "can't be served: "),
    ],
)
def test_what_can_not_be_shown_is_told_in_one_line(saved, flags, message, capsys, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        values = {"SAVED": saved, "TAKEN": str(taken.getsockname()[1])}
        for name, value in values.items():
            flags = [flag.replace(name, value) for flag in flags]
        assert main(["explore", *flags]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error


def status(url, data=None, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_pages_of_the_web_read_nothing_and_leave_nothing_here(monkeypatch, tmp_path):
    gradio = pytest.importorskip("gradio")
    monkeypatch.setattr("gradio.networking.url_ok", lambda url: True)
    with gradio.Blocks(analytics_enabled=False) as app:
        gradio.HTML("page")
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    for own_name, of_others in ((None, 200), ("127.0.0.1", 400)):
        _, url, _ = app.launch(server_name="127.0.0.1", prevent_thread_lock=True, **launch_options(own_name=own_name))
        try:
            assert status(f"{url}config") == status(f"{url}config", Host="localhost:7860") == 200
            assert status(f"{url}config", Host="[::1]:7860") == 200
            assert status(f"{url}config", Host="evil.example:7860") == of_others
            assert status(f"{url}gradio_api/upload", body, **kind) == 413
        finally:
            app.close(verbose=False)
