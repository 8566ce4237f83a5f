"""Pushes with the real client to a Hub on this machine: one commit, nothing twice, what people wrote stays, what can't
work is refused early.
"""

import json

import pytest
from loopback_hub.processes import run_clients


pytestmark = pytest.mark.slow

SHARD = "ratio_30/train-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the clients found, each with a Hub of its own; they run at once."""
    calls = [(name, tmp_path_factory.mktemp(name)) for name in ("pushes", "troubles", "access")]
    return run_clients("push_clients", calls)


@pytest.fixture(scope="module")
def pushes(found):
    return found[0]


@pytest.fixture(scope="module")
def troubles(found):
    return found[1]


@pytest.fixture(scope="module")
def access(found):
    return found[2]


def test_one_commit_and_none_for_the_same_files(pushes):
    assert pushes["first"] == [True, False, True]
    assert pushes["private"] is True
    assert pushes["history"] == ["publish", "initial commit"]
    assert pushes["unknown"] == []


def test_what_people_wrote_stays_and_our_stale_shards_go(pushes):
    assert pushes["second"] == [
        ".gitattributes",
        "README.md",
        "notes/ratio.txt",
        "ratio_50/train-00000-of-00001.parquet",
        "selection.json",
    ]
    assert pushes["their card"] == [True, True, True]
    assert pushes["not UTF-8"].startswith("InputError") and "UTF-8" in pushes["not UTF-8"]


def test_a_push_that_changes_nothing_is_the_earlier_one(pushes):
    """Whatever people committed since: the card of the subset goes on naming the same commit of the adapters."""
    assert pushes["after a person's commits"] == [False, True, "v1"]


def test_content_is_compared_not_sizes(pushes):
    assert pushes["as long as before"] == [True, "PAR1 2"]


def test_tags(pushes):
    assert pushes["tags"] == ["v1", "v1", ["refs/heads/main", "refs/tags/v1"]]
    assert pushes["next tag"] == "v2"
    assert pushes["named tag"] == ["best", "best", "v2"]
    before, after = pushes["taken tag"]
    assert before == after and "--hub_tag v1: that tag of alice/d names another commit" in before
    assert pushes["nothing was committed"]
    assert pushes["tag beside a branch of that name"] == "v2"


def test_branches(pushes):
    assert pushes["branch"] == [True, True]
    assert pushes["branch of a new repository"] is True


def test_pull_requests(pushes):
    assert pushes["pull request"] == [True, False, True, "/datasets/alice/d/discussions/1"]
    assert pushes["pull requests"] == ["refs/pr/1"] and pushes["main after it"]
    assert pushes["merged"] == [False, True, True]


@pytest.mark.parametrize("case", ["lost commit", "lost creation"])
def test_lost_answers_are_recognised(troubles, case):
    expected = {"is_new": True, "commits sent": 1, "commits": 1, "pull requests": 0}
    assert {key: troubles[case][key] for key in expected} == expected


def test_a_lost_answer_makes_no_second_pull_request(troubles):
    expected = {"is_new": True, "commits sent": 1, "commits": 0, "pull requests": 1}
    assert {key: troubles["lost pull request"][key] for key in expected} == expected


def test_a_rate_limit_is_waited_for(troubles):
    assert troubles["rate limit"]["commits"] == 1 and "Trying again in 3 s" in troubles["rate limit"]["log"]


def test_a_commit_of_somebody_else_in_between_stays(troubles):
    assert troubles["somebody in between"] == ["theirs", "PAR1 new", 4]
    assert troubles["a shard changed twice"] == ["PAR1 ours", "{1}"]
    assert troubles["nothing left to commit"] == ["PAR1 ours", "{2}"]


def test_refusals_are_told_at_once_and_without_secrets(troubles):
    for case, words in {"refused upload": "HTTP 400", "refused commit": "HTTP 403"}.items():
        assert words in troubles[case]["error"] and troubles[case]["commits"] == 0
        assert troubles[case]["commits sent"] == (case == "refused commit")
    assert "signature" not in json.dumps(troubles) and "hf_alice" not in json.dumps(troubles)
    assert "bob/theirs" in troubles["not mine"] and "403" in troubles["not mine"]
    assert "license" in troubles["bad card"]


def test_what_will_work_passes(access):
    assert access["fine"] == [None] * 12
    assert access["a server that recovers"] is None
    assert access["created nothing"]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no token", "found none. Run `hf auth login`, or set HF_TOKEN"),
        ("wrong token", "does not accept the token"),
        ("commit as branch", "is a commit; give the name of a branch"),
        ("read token for a pull request", "may read but not write"),
        ("data without configs", "holds data that its README.md names no config for (data.csv)"),
        ("tag as branch", "--hub_revision old is a tag"),
        ("model flag", "--hub_model_id 'digits'"),
        ("server gone", "Connection refused"),
    ],
)
def test_what_will_not_work_is_refused(access, case, words):
    assert words in access[case]
    assert access[case].startswith("PushError" if case == "server gone" else "InputError")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("malformed", "is no id of a repository; give one such as user/name"),
        ("read token", "may read but not write"),
        ("fine-grained token", "may read but not write|museum/new: there is no such"),
        ("tag of a branch", "would hide the tag"),
        ("not a token", "no token has"),
        ("bad names", "is no name of a branch or tag"),
        ("somebody's", "bob/|nobody/|museum/"),
    ],
)
def test_every_one_of_these_is_refused(access, case, words):
    assert access[case]
    for message in access[case]:
        assert message.startswith("InputError") and any(word in message for word in words.split("|"))
    assert "hf_alice" not in json.dumps(access) and "hf_wrong" not in json.dumps(access)
