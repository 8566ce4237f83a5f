from typing import Any

import pytest
from loopback_hub.processes import run_client
from loopback_hub.server import LoopbackHub


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process finds in which nobody is logged in."""
    folder = tmp_path_factory.mktemp("tokens")
    with LoopbackHub(folder / "hub") as hub:
        (folder / "work").mkdir()
        found = run_client("token_clients", "everything", folder / "work", env=hub.environment())
        assert not hub.unknown
        kinds = ("datasets/me/source", "datasets/me/pruned", "me/adapters", "me/tiny-clip")
        found["private"] = [hub.repository(repo).settings["private"] for repo in kinds]
        found["tags"] = [sorted(hub.refs(repo)) for repo in ("datasets/me/pruned", "me/adapters")]
    return found


def test_a_passed_token_opens_private_repositories(found: dict[str, Any]) -> None:
    assert found["private"] == [True] * 4
    assert found["new"] == [True, True, False, False]
    assert found["tags"] == [["refs/heads/main", "refs/tags/v1"]] * 2
    assert found["read"] and found["images"] and found["source"]
    assert found["base"] == "me/tiny-clip"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("push", "A push needs a token of the Hub and found none. Run `hf auth login`, or set HF_TOKEN"),
        ("from_hub", "does not exist, or it is private and nobody is logged in."),
        ("load_pruned", "does not exist, or it is private and nobody is logged in."),
        ("load_adapters", "does not exist, or it is private and nobody is logged in."),
        ("of another", "does not exist, or it is private and the token in use may not read it."),
        ("push of another", "there is no such repository that bob can see"),
        ("wrong", "The Hub does not accept the token"),
        ("odd", "The token holds characters that no token has"),
        ("odd push", "The token holds characters that no token has"),
        ("empty", "token must be a token of the Hub"),
    ],
)
def test_without_the_right_token_the_usual_sentence_says_so(found: dict[str, Any], what: str, words: str) -> None:
    assert words in found["refused"][what]


def test_no_file_and_no_text_has_the_token(found: dict[str, Any]) -> None:
    assert found["token in"] == []
