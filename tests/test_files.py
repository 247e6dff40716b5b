"""Files are written whole or not at all, also by several at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mac_ray import files


def write_half(path: Path) -> None:
    path.write_text("ha")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("on_disk", [False, True])
def test_file_whose_writing_fails_stays_as_it_was(on_disk: bool, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    files.write(path, "whole\n")
    with pytest.raises(OSError, match="No space left"), files.replaced(path, on_disk) as temporary:
        write_half(temporary)
    assert path.read_text() == "whole\n"
    with files.replaced(path, on_disk) as temporary:
        temporary.write_text("another")
        assert path.read_text() == "whole\n"
    assert path.read_text() == "another"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf_8_and_bytes_are_as_they_are(tmp_path: Path) -> None:
    for content, written in (("ä\r\n", b"\xc3\xa4\r\n"), (b"\xff\x00", b"\xff\x00")):
        files.write(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == written


def test_file_that_threads_write_at_once_is_of_one_of_them(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [str(number) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(lambda content: files.write(path, content), contents * 20):
            assert path.read_text() in contents
    assert list(tmp_path.iterdir()) == [path]
