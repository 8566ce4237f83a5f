import logging

import pytest

from hf_clipselect.data.prompts import class_prompts, clean_class_name, read_class_names
from hf_clipselect.errors import InputError


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("airplane", "airplane"),
        ("aquarium_fish", "aquarium fish"),
        ("  great__white \t shark ", "great white shark"),
        ("great_-_white-_shark", "great white shark"),
        ("T-shirt/top", "T-shirt/top"),
        ("Egyptian cat", "Egyptian cat"),
        ("n01440764 tench, Tinca tinca", "tench"),
        ("n01440764_tench", "tench"),
        ("n02086646-Blenheim_spaniel", "Blenheim spaniel"),
        ("tench, Tinca tinca", "tench"),
        ("tench,Tinca_tinca", "tench"),
        (", tench", "tench"),
        ("1,000_m, run", "1,000 m"),
        ("n01440764", "n01440764"),
        ("n01440764, ", "n01440764"),
        ("n014407645 tench", "n014407645 tench"),
        ("7", "7"),
        (",", ","),
        ("  ", ""),
    ],
)
def test_clean_class_name(name, cleaned):
    assert clean_class_name(name) == cleaned
    assert clean_class_name(cleaned) == cleaned


def test_class_prompts_are_templates_by_classes(caplog):
    prompts = class_prompts(["tench, Tinca tinca", "aquarium_fish"], ["A photo of a {}.", "{}, a fish {0}"])
    assert prompts == [
        ["A photo of a tench.", "A photo of a aquarium fish."],
        ["tench, a fish {0}", "aquarium fish, a fish {0}"],
    ]
    assert class_prompts(["cat"]) == class_prompts(["cat"], "A photo of a {}.") == [["A photo of a cat."]]
    assert not caplog.records


def test_a_name_may_hold_braces():
    assert class_prompts(["a{}b", "{0}"], ["<{}>"]) == [["<a{}b>", "<{0}>"]]


@pytest.mark.parametrize("template", ["A photo.", "{} and {}", "A photo of a {0}.", "A photo of a {c}.", ""])
def test_a_template_has_one_placeholder(template):
    with pytest.raises(InputError, match="--prompt_template .* exactly once"):
        class_prompts(["cat"], ["A photo of a {}.", template])


def test_there_must_be_a_template():
    with pytest.raises(InputError, match="--prompt_template is empty"):
        class_prompts(["cat"], [])


def test_a_blank_name_is_refused():
    with pytest.raises(InputError, match="class 1 is blank.*--class_names_file"):
        class_prompts(["cat", " _ "])


def test_half_signs_are_refused():
    with pytest.raises(InputError, match="The name of class 1, .* holds half of a sign"):
        class_prompts(["cat", "d\ud800g"])
    with pytest.raises(InputError, match="--prompt_template .* is no UTF-8 text"):
        class_prompts(["cat", "dog"], ["\udcff {}"])


def test_names_that_say_nothing_are_warned_about_once(caplog):
    with caplog.at_level(logging.WARNING):
        class_prompts(["cat", "7", "n01440764", "n01440764 tench"], ["{}.", "a {}"])
    (record,) = caplog.records
    assert record.getMessage().startswith("2 of 4 class names say nothing to CLIP: 1: '7', 2: 'n01440764'.")
    assert "--class_names_file" in record.getMessage()


def test_names_of_booleans_say_nothing(caplog):
    with caplog.at_level(logging.WARNING):
        class_prompts(["False", "True"])
    assert caplog.records[0].getMessage().startswith("2 of 2 class names say nothing to CLIP: 0: 'False', 1: 'True'.")


def test_names_with_digits_in_them_are_not(caplog):
    class_prompts(["Boeing 737", "3D shape", "zero"])
    assert not caplog.records


def test_classes_with_one_cleaned_name_get_their_full_names(caplog):
    names = ["n03710637 maillot", "n03710721 maillot, tank_suit", "tench, Tinca tinca"]
    assert class_prompts(names, ["{}"]) == [["maillot", "maillot, tank suit", "tench"]]
    assert not caplog.records


@pytest.mark.parametrize("content", ["cat\ndog\n", "cat\ndog", " cat \r\ndog\r\n\r\n  \n", "\ufeffcat\ndog\n"])
def test_read_class_names(tmp_path, content):
    path = tmp_path / "names.txt"
    path.write_bytes(content.encode("utf-8"))
    assert read_class_names(path) == read_class_names(str(path)) == ["cat", "dog"]


def test_read_class_names_beyond_ascii(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("blåhaj\n猫\n", encoding="utf-8")
    assert read_class_names(path) == ["blåhaj", "猫"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\n\ndog\n", "line 2 is blank"),
        ("\ncat\n", "line 1 is blank"),
        ("cat\ncat \n", "lines 1 and 2 both say 'cat'"),
        ("\n\n", "is empty"),
        ("", "is empty"),
        ("caf\xe9\ndog\n", "is not UTF-8"),
    ],
)
def test_read_class_names_refuses(tmp_path, content, message):
    path = tmp_path / "names.txt"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message) as error:
        read_class_names(path)
    assert "--class_names_file" in str(error.value) and "names.txt" in str(error.value)


def test_read_class_names_needs_a_file(tmp_path):
    with pytest.raises(InputError, match="--class_names_file .*nowhere.txt: No such file"):
        read_class_names(tmp_path / "nowhere.txt")
    with pytest.raises(InputError, match="--class_names_file .*directory"):
        read_class_names(tmp_path)
