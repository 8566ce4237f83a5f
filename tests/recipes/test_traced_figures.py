"""Every measured number of the two pages comes from a folder of results that names its command and commit.

What stands in a marked table or between two marks is filled from a folder by recipes/publish_results.py. What is left
must have no number that looks measured: none with a decimal point, none before a unit, and none in words before points
or percent, but for those in `NOT_MEASURED`.
"""

import re

import pytest
from conftest import REPOSITORY
from recipe_files import RECIPES, load_recipe


FOLDERS = sorted(path for path in (RECIPES / "results").iterdir() if path.is_dir())
_RATE = r"(?:0|5|10|20|30|40|50|60|70|80|90)"
_RATIO = r"0\.[1-9](?!\d)(?!\s?(?:%|points?\b|percent\b|s\b|seconds?\b|at\b))"
NOT_MEASURED = (
    # The sizes that were asked for.
    rf"\b(?:at|from|to|between|ratios?)\s{_RATIO}(?:(?:,|,?\s(?:and|or|to))\s{_RATIO})*",
    # What was done to the data, and shares of them that were asked for.
    rf"\b{_RATE}(?:(?:,|,?\s(?:and|or|to))\s{_RATE})*\s?%\s(?:symmetric\s|pairwise\s|class-dependent\s)?"
    r"(?:wrong\slabels|damaged\simages|label\snoise|noise|of\sthe\s(?:rows|labels|images|digits))\b",
    # Of the tests over seeds, and of what the package needs.
    r"\bp\s<\s0\.05\b",
    r"\bPython\s3\.\d+\b",
)
_UNIT = r"(?:%|(?:percent|points?|ms|s|seconds?|GB|MB|KB|kB|times|x(?!\s\d))\b)"
_WHOLE = r"\d+(?:,\d{3})*"
_WORDS = r"(?:half\san?|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty)"
# Not what is part of a name: CIFAR-10, ViT-B/32, Apache-2.0.
_LOOKS_MEASURED = re.compile(
    rf"(?<![\w.])(?<![A-Za-z\d]-)(?<![A-Za-z]/)(?:{_WHOLE}\.\d+(?:\s?{_UNIT})?|{_WHOLE}\s?{_UNIT})"
    rf"|\b{_WORDS}\s(?:points?|percent|tenths?)\b"
)


def untraced(page):
    """Numbers of a page that look measured and are not filled from results."""
    recipe = load_recipe("publish_results.py")
    text = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    for filled in (recipe.MARKER, recipe.FIGURE, re.compile(r"<!--.*?-->", re.DOTALL)):
        text = filled.sub(" ", text)
    text = re.sub(r"`[^`]+`|\]\([^)]*\)|https?://\S+", " ", text)
    for pattern in NOT_MEASURED:
        text = re.sub(pattern, " ", text)
    return [" ".join(found.split()) for found in _LOOKS_MEASURED.findall(text)]


@pytest.mark.parametrize("page", ["README.md", "recipes/README.md"])
def test_every_measured_number_of_a_page_is_filled_from_results(page):
    assert untraced((REPOSITORY / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_results_name_their_command_and_commit(folder):
    [page] = [path for path in sorted(folder.glob("*.md")) if path.name != "tsne.md"]
    assert names_its_origin(page.read_text(encoding="utf-8"))


def names_its_origin(text):
    """Whether a command and a commit without changes stand in the first lines."""
    origin = r"`(?:python recipes/\w+\.py|pytest )[^`]*`\n\nhf_clipselect \S+, commit [0-9a-f]{10}; "
    return re.match(origin, text) is not None


def test_an_origin_has_a_command_and_a_commit_without_changes():
    command, versions = (
        "`python recipes/compare.py --config a.yaml`",
        "hf_clipselect 0.1.0, commit 82a2b809b4; torch 2.",
    )
    assert names_its_origin(f"{command}\n\n{versions}\n\n## made\n")
    assert not names_its_origin(f"{versions}\n\n## made\n") and not names_its_origin(f"{command}\n\n## made\n")
    assert not names_its_origin(f"{command}\n\n{versions.replace('b4;', 'b4-dirty;')}\n")
    assert not names_its_origin(f"{command}\n\nhf_clipselect 0.1.0; torch 2.\n")  # not from a checkout


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("robust is best, 94.0 at 0.2", ["94.0"]),
        ("it keeps 12/79/97 % of the wrong rows", ["97 %"]),
        ("a point better, or\nup to eleven points", ["a point", "eleven points"]),
        (
            "better by 0.2 from 0.7 on, and by 1.3 points at 0.2, 0.7 at 0.3 and 0.2 at 0.5",
            ["0.2", "1.3 points", "0.7", "0.2"],
        ),
        ("takes 1.38 GB and 37.8 s, 2.57 times as much", ["1.38 GB", "37.8 s", "2.57 times"]),
        ("knows 66 % of the images by name, 20 % of the wrong ones", ["66 %", "20 %"]),
        ("-0.6 points, +0.6 points, 1,190 seconds", ["0.6 points", "0.6 points", "1,190 seconds"]),
        ("| `robust` | 94.0 ± 0.7 |", ["94.0", "0.7"]),
        ("<!-- results/run: Accuracy, %: -->\ntext 93.5", ["93.5"]),
        ("<!-- results/run: Accuracy: `robust` / 0.2 -->94.0<!-- / --> against 93.5", ["93.5"]),
    ],
)
def test_what_looks_measured_is_found(text, found):
    assert untraced(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "at 0.2, 0.3 and 0.5, and from 0.2 to 0.9; ratios 0.2 to 0.5",
        "20 % wrong labels, 5, 10 and 20 % damaged images, 30 % of the rows, 20 % class-dependent noise",
        "CIFAR-10, ViT-B/32, Apache-2.0, ResNet-20, Python 3.11, p < 0.05",
        "389 of 1,297 rows, three seeds, 224 x 224, section 3",
        "`--gate_floor 0.3` and [a page](results/a_0.5/tables.md), https://huggingface.co/papers/2410.11215",
        "```\nkept 99.5 % of them\n```",
        "it is <!-- results/run: Accuracy: `robust` / 0.2 -->94.0<!-- / --> %, and\n<!-- a note: 93.5 -->",
        "<!-- results/run: Accuracy, %: -->\n\n| method | 0.2 |\n|---|---|\n| `robust` | **94.0** ± 0.7 |\n",
    ],
)
def test_what_is_not_measured_or_is_filled_is_not(text):
    assert untraced(text) == []
