import os
import re
import subprocess
import sys
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
        ("no id", "--hub_space_id 'explorer' is no id of a repository"),
        ("token", "--hub_space_id me/explorer: the token of alice may read but not write|alice may not write"),
    ],
)
def test_what_will_not_work_is_refused(pushed: dict[str, Any], case: str, words: str) -> None:
    assert re.search(words, pushed["refused"][case])


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
