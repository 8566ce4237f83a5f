from hf_clipselect.runtime.words import are, counted, listed, there_are, with_article


def test_counts_and_lists_are_grammatical():
    assert [counted(number, "row") for number in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert counted(1, "class", "classes") == "1 class" and counted(3, "class", "classes") == "3 classes"
    assert (are(1), are(0), are(2)) == ("is", "are", "are")
    assert there_are([]) == "there are none"
    assert there_are(["label"]) == "there is one: label"
    assert there_are(["a", "b"]) == "there are a, b"
    assert there_are("abcde", limit=3) == "there are a, b, c and 2 more"
    assert listed([]) == "none" and listed([1, 2]) == "1, 2"
    assert with_article("IterableDataset") == "an IterableDataset" and with_article("DatasetDict") == "a DatasetDict"
