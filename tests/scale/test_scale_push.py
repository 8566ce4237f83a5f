"""Files of a selection from shards reach the Hub in several commits, and a push goes on where one failed."""

import pytest
from loopback_hub.processes import run_client


@pytest.mark.slow
def test_a_push_in_parts_goes_on_where_it_failed(tmp_path):
    found = run_client("scale_clients", "pushed_in_parts", tmp_path)
    assert set(found["first"]) == {".gitattributes", "README.md", "scores/a.parquet", "scores/b.parquet"}
    assert set(found["second"]) - set(found["first"]) == {
        "lists/ratio_30.npy",
        "masks/a.parquet",
        "masks/b.parquet",
        "masks/c.parquet",
        "scores/c.parquet",
    }
    parts = [title for title in found["history"] if title.startswith("Selection by hf_clipselect (part")]
    assert [title[-7:] for title in parts] == ["4 of 4)", "3 of 4)", "2 of 4)", "1 of 4)"]
    assert found["new"] == [True, False, True]
    assert found["fewer"] == [
        ".gitattributes",
        "README.md",
        "lists/count_9.npy",
        "masks/a.parquet",
        "scores/a.parquet",
    ]
