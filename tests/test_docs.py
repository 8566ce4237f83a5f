"""The README's commands and examples are what is run, and show what they print; what the repository's papers name is
there.
"""

import ast
import importlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import fields

import pytest
import yaml
from conftest import REPOSITORY
from loopback_hub.server import LoopbackHub

from hf_clipselect.cli.command_parsers import parser_of
from hf_clipselect.cli.command_table import COMMANDS
from hf_clipselect.evaluation.classifier.training_arguments import ClassifierArguments


README = (REPOSITORY / "README.md").read_text()
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```\n(.*?)```", flags=re.DOTALL)
PUBLISHING = re.search(r"## Publish and load\n.*?(?=\n## )", README, flags=re.DOTALL)[0]
EXAMPLES = EXAMPLE.findall(README.replace(PUBLISHING, ""))

CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()
CI_LINES = (REPOSITORY / ".ci" / "run").read_text().splitlines()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PACKAGE = REPOSITORY / "hf_clipselect"
# Not those in recipes/results and tests/fixtures, which say of what commit they are.
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("recipes/*.md"), *PACKAGE.rglob("*.md")])
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())


@pytest.mark.slow
@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_python_examples_print_what_the_readme_shows(code, output, tmp_path):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == output


def test_every_python_block_of_the_readme_is_one_of_the_examples_that_run():
    assert len(EXAMPLES) == len(EXAMPLE.findall(PUBLISHING)) == 1 and README.count("```python") == 2


@pytest.mark.slow
def test_publishing_and_loading_as_in_the_readme(tmp_path):
    """The command of the README pushes in one process, its lines load in another that starts with an empty cache."""
    [command] = re.findall(r"```bash\n(.*?)```", PUBLISHING, flags=re.DOTALL)
    [(code, output)] = EXAMPLE.findall(PUBLISHING)
    with LoopbackHub(tmp_path / "hub") as hub:
        environment = hub.environment("hf_me_write")
        environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), environment["PATH"]])
        pushed = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert pushed.returncode == 0, pushed.stderr[-2000:]
        loaded = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=hub.environment()
        )
        assert loaded.returncode == 0, loaded.stderr[-2000:]
        assert loaded.stdout == output
        assert hub.unknown == []


@pytest.mark.slow
def test_the_main_job_prints_what_the_readme_shows(tmp_path):
    command = [sys.executable, str(REPOSITORY / "recipes" / "select.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    [shown] = re.findall(r"```\n(\d+ rows of embedded/digits.*?)```", README, flags=re.DOTALL)
    printed, shown = (re.sub(r"(?<= in )\d+ s$", "", text, flags=re.MULTILINE) for text in (done.stdout, shown))
    percent = re.compile(r"[\d.]+(?=%)")  # another processor may move a row
    assert percent.sub("", printed) == percent.sub("", shown)
    ours, theirs = ([float(share) for share in percent.findall(text)] for text in (printed, shown))
    assert ours == pytest.approx(theirs, abs=0.5)


def test_the_readme_is_one_page():
    assert len(README) <= 9_000


def test_ci_runs_the_readme_test_command():
    [command] = [line for line in README.splitlines() if line.endswith("&& .venv/bin/pytest")]
    assert command in CI_LINES


def test_ci_runs_the_quality_command_of_contributing_and_so_do_the_hooks():
    [command] = re.findall(r"^(\S.*?) +# quality$", CONTRIBUTING, flags=re.MULTILINE)
    parts = command.split(" && ")
    assert len(parts) == 3 and set(parts) <= set(CI_LINES)
    [repository] = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local" and {hook["language"] for hook in repository["hooks"]} == {"system"}
    assert [hook["entry"] for hook in repository["hooks"]] == [part.removesuffix(" .") for part in parts]


def test_the_workflow_calls_ci_run_with_every_python_that_the_package_names():
    [job] = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text())["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert job["strategy"]["matrix"]["python-version"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_citation_and_changelog_are_of_this_version_and_of_the_paper():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    paper = citation["preferred-citation"]
    assert citation["version"] == PROJECT["version"]
    versions = re.findall(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert versions[0] == PROJECT["version"]
    card = (REPOSITORY / "model_card.md").read_text()
    cited = {name: re.sub(r"[{}]", "", text) for name, text in re.findall(r"^  (\w+) += \{(.*)\}", card, re.MULTILINE)}
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert (authors, paper["title"], str(paper["year"])) == (cited["author"], cited["title"], cited["year"])
    assert paper["collection-title"] == cited["booktitle"]
    assert paper["url"] == cited["url"] == PROJECT["urls"]["Paper"]


def test_the_source_distribution_holds_what_the_tests_read(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    papers = {"CITATION.cff", "constraints.txt", "pyproject.toml", ".pre-commit-config.yaml", ".ci/run"}
    papers |= {path.relative_to(REPOSITORY).as_posix() for path in [*PAGES, *(REPOSITORY / "tests").rglob("*.py")]}
    assert papers | {".github/workflows/ci.yml"} <= names


@each_page
def test_every_path_and_link_of_a_page_is_there(page):
    text = page.read_text()
    paths = set(re.findall(r"(?<![\w/.*-])(?:hf_clipselect|recipes|tests|\.ci|\.github)/[\w./*-]*[\w*/]", text))
    links = set(re.findall(r"\]\(([^)#:{}]+)(?:#[^)]*)?\)", text))
    missing = {path for path in paths if not any(REPOSITORY.glob(path))}
    missing |= {link for link in links if not (page.parent / link).exists()}
    assert missing == set()


@each_page
def test_every_name_that_a_page_imports_or_spells_out_is_there(page):
    text = page.read_text()
    names = set(re.findall(r"\b(hf_clipselect(?:\.\w+)+)", text))
    for module, imported in re.findall(r"^from (hf_clipselect[\w.]*) import (.+)$", text, flags=re.MULTILINE):
        names |= {f"{module}.{name.strip()}" for name in imported.split(",")}
    assert {name for name in names if not can_be_imported(name)} == set()


def can_be_imported(name):
    module, _, attribute = name.rpartition(".")
    try:
        if hasattr(importlib.import_module(module), attribute):
            return True
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def test_what_can_be_imported():
    assert can_be_imported("hf_clipselect.select_dataset") and can_be_imported("hf_clipselect.evaluation.metrics")
    assert not can_be_imported("hf_clipselect.nothing") and not can_be_imported("hf_clipselect.nothing.more")


@each_page
def test_every_extra_that_a_page_installs_exists(page):
    extras = re.findall(r"(?:hf_clipselect|\.)\[([\w,]+)\]", page.read_text())
    assert {extra for given in extras for extra in given.split(",")} <= set(PROJECT["optional-dependencies"])


def test_every_name_in_what_contributing_says_of_the_code_is_defined():
    """Names in backticks after the list of rooms: functions, classes, constants, rooms and files of the package."""
    defined, files = set(), {path.name for path in PACKAGE.rglob("*.py")}
    for path in PACKAGE.rglob("*.py"):
        defined.add(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
    text = re.search(r"^## One run\n.*?(?=^## Style)", CONTRIBUTING, flags=re.MULTILINE | re.DOTALL)[0]
    assert set(re.findall(r"`(\w+\.py)`", text)) <= files
    assert set(re.findall(r"`([A-Za-z_]+)`", text)) - defined == set()


def test_every_flag_that_the_readme_names_exists():
    flags = {
        option for name in COMMANDS for action in parser_of(name, name)._actions for option in action.option_strings
    }
    launchers = {"--num_processes", "--multi_gpu", "--config_file", "--version"}
    benchmark = (REPOSITORY / "recipes" / "benchmark.py").read_text(encoding="utf-8")
    recipes = {*re.findall(r'"(--\w+)"', benchmark), *(f"--{field.name}" for field in fields(ClassifierArguments))}
    assert set(re.findall(r"--\w+", README)) - launchers - recipes <= flags
