"""Files are written whole or not at all."""

import pytest

from glowjax.files import write_whole


def test_a_file_is_replaced_whole(tmp_path):
    write_whole(tmp_path / "a", "ü")
    write_whole(str(tmp_path / "a"), b"\x00\xff")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"\x00\xff")]


def test_what_was_there_stays_where_writing_fails(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", "old")

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a", "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "old")]
