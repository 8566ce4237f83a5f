import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hf_clipselect.data.row_facts import (
    checked_class_quotas,
    facts_of,
    listed_rows,
    read_class_quotas,
    read_facts,
    read_groups,
)
from hf_clipselect.errors import InputError


@pytest.fixture
def dataset():
    features = Features(
        {
            "good": Value("bool"),
            "camera": Value("string"),
            "kind": ClassLabel(names=["a", "b"]),
            "number": Value("int32"),
            "size": Value("float32"),
        }
    )
    rows = {
        "good": [True, None, False, True],
        "camera": ["x", "y", None, "x"],
        "kind": [0, 1, 1, None],
        "number": [3, 3, 4, 5],
        "size": [0.1, 0.2, 0.3, 0.4],
    }
    return Dataset.from_dict(rows, features=features)


SOURCE_INDEX = np.array([2, 3, 5, 9])


def listed(listing, dataset):
    return listed_rows(listing, "must_keep", dataset=dataset, source_index=SOURCE_INDEX).tolist()


def test_rows_by_number_by_file_and_by_column(dataset, tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("9\n3\n\n9\n")
    assert listed([9, 3], dataset) == listed(path, dataset) == listed(str(path), dataset) == [False, True, False, True]
    assert listed("good", dataset) == [True, False, False, True]
    assert listed([], dataset) == [False] * 4


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (
            [4],
            "lists 1 number that is no source_index of the rows considered, the lowest 4; there are 4 rows, from 2 "
            "to 9",
        ),
        ([10, -1], "lists 2 numbers .* the lowest -1"),
        ([10**19], "lists 1 number .* the lowest 10000000000000000000"),
        ([0.5], r"must be row numbers of the source, got float64 of shape \(1,\)\."),
        ([True, False, True, True], r"got bool of shape \(4,\); of a mask give np.flatnonzero\(mask\)"),
        ("camera", "is a column of Value.*; name a boolean column, or a file"),
        ("nowhere", "is no column of the dataset.* there is one: good"),
    ],
)
def test_rows_that_are_none(listing, message, dataset):
    with pytest.raises(InputError, match=message):
        listed(listing, dataset)


def test_a_file_of_something_else(dataset, tmp_path):
    for text in ("five", "-5", "99999999999999999999"):
        (tmp_path / "rows.txt").write_text(f"3\n{text}\n")
        with pytest.raises(InputError, match=f"holds '{text}', which is no row number"):
            listed(tmp_path / "rows.txt", dataset)


def test_a_byte_order_mark_is_no_part_of_the_first_number(dataset, tmp_path):
    (tmp_path / "rows.txt").write_text("3\n", encoding="utf-8-sig")
    assert listed(tmp_path / "rows.txt", dataset) == [False, True, False, False]


def test_groups_are_text(dataset):
    assert read_groups(dataset, "camera").tolist() == ["x", "y", "none", "x"]
    assert read_groups(dataset, "kind").tolist() == ["a", "b", "b", "none"]
    assert read_groups(dataset, "number").tolist() == ["3", "3", "4", "5"]
    with pytest.raises(InputError, match="group_column lens is no column .* there are camera, good, kind, number"):
        read_groups(dataset, "lens")
    with pytest.raises(InputError, match="group_column size is a column of Value"):
        read_groups(dataset, "size")
    many = Dataset.from_dict({"id": list(range(1001))})
    with pytest.raises(InputError, match="holds 1001 different values; name a column of at most 1000"):
        read_groups(many, "id")


def test_facts(dataset):
    facts = read_facts(dataset, SOURCE_INDEX, group_column="camera", must_keep=[3], must_drop="good")
    assert list(facts.columns()) == ["group", "must_keep", "must_drop"]
    assert read_facts(dataset, SOURCE_INDEX).columns() == {}
    with pytest.raises(InputError, match="1 row is in --must_keep and --must_drop, first 9; leave each in one"):
        read_facts(dataset, SOURCE_INDEX, must_keep=[3, 9], must_drop="good")


def test_facts_of_rows_without_a_dataset():
    facts = facts_of(3, groups=[1, 2, 1], must_drop=np.array([2]))
    assert facts.group.tolist() == ["1", "2", "1"]
    assert facts.must_drop.tolist() == [False, False, True]
    with pytest.raises(InputError, match="Expected 3 groups, one per row, got an array of shape"):
        facts_of(3, groups=["a"])
    for num_rows in (3, 0):
        with pytest.raises(InputError, match=f"must_keep lists 1 number .* there are {num_rows} rows"):
            facts_of(num_rows, must_keep=[3])


def test_class_quotas(tmp_path):
    path = tmp_path / "quotas.yaml"
    path.write_text("cat: 20\n'3: odd': 0\n7: 5\n")
    assert read_class_quotas(path) == {"cat": 20, "3: odd": 0, "7": 5}
    assert checked_class_quotas(path) == checked_class_quotas(str(path)) == read_class_quotas(path)
    assert checked_class_quotas({"cat": 1}) == {"cat": 1}
    assert checked_class_quotas(None) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold lines `name: value`, got nothing"),
        ("- cat", "got a list"),
        ("cat: many", "line 1 is not a class and its rows"),
        ("cat: 3\ndog: -1", "line 2 is not a class and its rows"),
        ("cat: 0.5", "line 1 is not a class and its rows"),
        ("cat: 3\ncat: 4", "names cat more than once"),
        ("cat: [", "is not YAML"),
    ],
)
def test_class_quotas_of_something_else(text, message, tmp_path):
    path = tmp_path / "quotas.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_class_quotas(path)
    with pytest.raises(InputError, match="can't be read"):
        read_class_quotas(tmp_path / "nowhere.yaml")
