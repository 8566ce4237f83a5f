import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from email import message_from_string
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from loopback_hub.card import check
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub

import hf_clipselect
from hf_clipselect.hub.own_wheel import own_requirements, own_wheel


pytest.importorskip("gradio")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with LoopbackHub(tmp_path_factory.mktemp("spaces") / "hub") as running:
        yield running


@pytest.fixture(scope="module")
def pushed(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_client("space_clients", "push", tmp_path_factory.mktemp("work"), env=hub.environment("hf_me_write"))


@pytest.fixture(scope="module")
def space(hub: LoopbackHub, pushed: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the Space, fetched by a stranger."""
    folder = tmp_path_factory.mktemp("space")
    run_client("space_clients", "download", "me/explorer", folder, env=hub.environment())
    return folder


def test_the_same_push_makes_no_second_commit(hub: LoopbackHub, pushed: dict[str, Any]) -> None:
    first, second = pushed["pushed"]
    assert [first["is_new"], second["is_new"]] == [True, False] and first["commit"] == second["commit"]
    assert first["url"] == f"{hub.endpoint}/spaces/me/explorer/commit/{first['commit']}"
    assert pushed["told"] == []
    is_new, is_private, told = pushed["secret"]
    assert is_new and is_private and len(told) == 1 and "me/secret is private" in told[0] and "HF_TOKEN" in told[0]
    assert not hub.unknown


def test_what_people_wrote_stays_and_an_old_wheel_goes(hub: LoopbackHub, pushed: dict[str, Any]) -> None:
    wheel = f"hf_clipselect-{version('hf_clipselect')}-py3-none-any.whl"
    assert pushed["again"]
    assert pushed["files"] == [".gitattributes", "README.md", "app.py", wheel, "requirements.txt"]
    assert pushed["words"] == 1
    assert "revision='v1'" in pushed["app"] and "read_only=True" in pushed["app"]
    assert "datasets/me/pruned/tree/v1)" in pushed["card"]
    assert "`hf-clipselect explore me/pruned --revision v1`" in pushed["card"]
    # With a token the app of a public selection could show a private source.
    assert "DISABLE_IMPLICIT_TOKEN" in pushed["app"] and "DISABLE_IMPLICIT_TOKEN" not in pushed["secret app"]
    header = pushed["header"]
    assert header["pinned"] is True and header["emoji"] == "🐨"  # the Hub's own
    assert (header["sdk"], header["app_file"], header["license"]) == ("gradio", "app.py", "apache-2.0")
    assert header["sdk_version"] == version("gradio") and header["datasets"] == ["me/pruned"]
    assert header["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert not check(hub.read("spaces/me/explorer", "README.md").decode(), "space")["errors"]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("of another", "can't be created for bob"),
        ("no such repository", "The dataset repository me/nothing does not exist"),
        ("no selection", "The dataset repository me/explorer does not exist"),
        ("folder", "a Space shows what is on the Hub, and .* is a folder here. Publish it first"),
        ("another app", "--hub_space_id me/other has an app.py that hf_clipselect did not write"),
        ("another page", "--hub_space_id me/page holds index.html, which hf_clipselect did not write"),
        ("secret", "me/shown: me/secret is private, and a public Space would show it to everybody"),
        ("secret, in a public Space", "me/explorer: me/secret is private, .* make the one that is there private"),
        ("no id", "--hub_space_id 'explorer' is no id of a repository"),
        ("token", "--hub_space_id me/explorer: the token of alice may read but not write|alice may not write"),
    ],
)
def test_what_will_not_work_is_refused(pushed: dict[str, Any], case: str, words: str) -> None:
    assert re.search(words, pushed["refused"][case])


def test_the_command_pushes_and_ends(hub: LoopbackHub, pushed: dict[str, Any]) -> None:
    environment = hub.environment("hf_me_write")
    flags = ["me/pruned", "--hub_space_id", "me/by-command", "--hub_private_repo"]
    page = f"{hub.endpoint}/spaces/me/by-command"
    assert run_client("space_clients", "explore", *flags, env=environment) == [
        0,
        f"{page} shows me/pruned, once the Hub has built it\n",
        "",
    ]
    code, out, _ = run_client("space_clients", "explore", *flags, env=environment)
    assert (code, out) == (0, f"{page} already shows me/pruned, once the Hub has built it\n")
    assert hub.repository("spaces/me/by-command").settings["private"]
    code, out, err = run_client("space_clients", "explore", *flags, env=hub.environment())
    assert (code, out) == (2, "") and err.startswith("error: A push needs a token of the Hub and found none.")


def test_the_app_shows_the_selection(hub: LoopbackHub, space: Path, tmp_path: Path) -> None:
    """In a process of its own that has the Space's files alone, as in its container, and nobody is logged in."""
    site, port = tmp_path / "site", free_port()
    environment = hub.environment() | {"PIP_TARGET": str(site), "PYTHONPATH": str(site)}
    environment |= {"GRADIO_SERVER_PORT": str(port)}
    with (tmp_path / "log").open("w") as log:
        app = subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment, stdout=log, stderr=log)
    try:
        page = page_at(f"http://127.0.0.1:{port}/", app)
    finally:
        app.terminate()
        app.wait()
    assert page is not None, (tmp_path / "log").read_text()[-3000:]
    assert all(f'"{tab}"' in page for tab in ("Review", "Rows", "Map", "Sizes")) and "Forward" in page
    assert "Keep label" not in page and "Undo" not in page  # read-only
    [config] = re.findall(r"window\.gradio_config = (\{.*?\});</script>", page)
    config = json.loads(config)
    ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    targets = {target for event in config["dependencies"] for target, _ in event["targets"]}
    deciding = [f"review-{name}" for name in ("keep", "take", "drop", "unsure", "undo", "other")]
    assert ids["review-forward"] in targets and not any(ids.get(name, -1) in targets for name in deciding)
    assert (site / "hf_clipselect").is_dir()
    assert not list(space.glob("*.parquet"))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def page_at(url: str, process: subprocess.Popen[bytes]) -> str | None:
    """The page, once it is served; None where the process ended before."""
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url) as answer:
                return str(answer.read().decode())
        except OSError:
            time.sleep(0.2)
    return None


def test_the_wheel_is_installed_by_pip_and_holds_the_whole_package(space: Path, tmp_path: Path) -> None:
    [wheel] = space.glob("*.whl")
    assert own_wheel() == (wheel.name, wheel.read_bytes())
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", tmp_path]
    subprocess.run([*install, wheel], check=True)
    here = Path(hf_clipselect.__file__).parent
    files = {path.relative_to(here) for path in here.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    there = tmp_path / "hf_clipselect"
    assert files == {path.relative_to(there) for path in there.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    code = "import hf_clipselect; print(hf_clipselect.__file__); hf_clipselect.load_pruned"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.splitlines() == [str(there / "__init__.py")]


def test_the_same_wheel_comes_out_of_an_installed_wheel(space: Path, tmp_path: Path) -> None:
    """As for somebody who installed the package from an index, not in place."""
    [wheel] = space.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path)
    # What a checkout may hold beside the package; none of it is to be published.
    package = tmp_path / "hf_clipselect"
    (package / ".hidden").mkdir()
    for name in (".env", ".hidden/x.py", "hub/space.py~", "hub/.#space.py", "notes.txt", "photo.png"):
        (package / name).write_text("secret")
    (package / "link.py").symlink_to(tmp_path / "elsewhere.py")
    (package / "linked").symlink_to(package / "hub")
    (tmp_path / "elsewhere.py").write_text("secret")
    code = "from hf_clipselect.hub.own_wheel import own_wheel; import sys; sys.stdout.buffer.write(own_wheel()[1])"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    made = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, cwd=tmp_path)
    assert made.stdout == wheel.read_bytes()


def test_requirements_are_those_of_the_package(space: Path) -> None:
    lines = (space / "requirements.txt").read_text().splitlines()
    assert lines == own_requirements() and any(line.startswith("torch>=") for line in lines)
    assert not any("extra" in line or "gradio" in line for line in lines)
    with zipfile.ZipFile(next(space.glob("*.whl"))) as wheel:
        info = f"hf_clipselect-{version('hf_clipselect')}.dist-info"
        metadata = message_from_string(wheel.read(f"{info}/METADATA").decode())
        assert metadata.get_all("Requires-Dist") == requires("hf_clipselect")
        assert wheel.read(f"{info}/licenses/LICENSE") == (REPOSITORY / "LICENSE").read_bytes()
        assert b"hf-clipselect = hf_clipselect.cli:main" in wheel.read(f"{info}/entry_points.txt")
