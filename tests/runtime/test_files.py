import pytest

from hf_clipselect.runtime.files import write_atomically, write_text_atomically


def test_an_atomic_write_replaces_whole_files_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_atomically(tmp_path / "folder", b"a folder stands here")
    with pytest.raises(OSError):
        write_atomically(tmp_path / "absent" / "file", b"no folder stands here")
    with pytest.raises(TypeError):
        write_atomically(path, "text")
    assert path.read_bytes() == b"second"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def test_text_that_is_not_utf8_still_makes_a_file(tmp_path):
    write_text_atomically(tmp_path / "file", "caf\u00e9 \udcff")
    assert (tmp_path / "file").read_bytes() == "caf\u00e9 ?".encode()
