"""Bytes of whole files and of parts, on disk and behind URLs that pyarrow or fsspec know."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from mac_ray.data.decode import AwayError, UnreadableError, decode
from mac_ray.data.kinds import kind_of
from mac_ray.data.source import Source, joined, local_copy, size_of
from tests.web_server import part_of, web_server


def test_part_behind_a_url_that_only_fsspec_knows_is_read() -> None:
    fsspec.filesystem("memory").pipe("/bucket/a.tar", b"0123456789")
    assert size_of("memory://bucket/a.tar") == 10
    assert size_of("memory://bucket/b.tar") is None
    assert Source("memory://bucket/a.tar").read() == b"0123456789"
    assert Source("memory://bucket/a.tar", 3, 4).read() == b"3456"
    assert Source("memory://bucket/a.tar", 8, 4).read() == b"89"


@pytest.fixture
def served() -> Iterator[str]:
    """The address of a server that has /get?id=1&size=2, /a.tar, whole or in parts, /whole.tar only whole, /locked.tar
    for nobody, no /none, and is away for anything else.
    """
    content = b"0123456789"
    known = {"/a.tar": 200, "/get?id=1&size=2": 200, "/whole.tar": 200, "/none": 404, "/locked.tar": 401}

    def answer(path: str, asked: str | None) -> tuple[int, bytes]:
        if asked and path == "/a.tar":
            part = part_of(content, asked)
            return (206 if part else 416), part
        return known.get(path, 503), content

    with web_server(answer) as address:
        yield address


def test_file_of_a_web_server_is_read_also_where_it_knows_no_parts(served: str) -> None:
    for name in ("a.tar", "whole.tar"):
        assert Source(f"{served}/{name}").read() == b"0123456789"
        assert Source(f"{served}/{name}", 3, 4).read() == b"3456"
    assert Source(f"{served}/a.tar", 20, 4).read() == b""  # which a sample of it is refused for


def test_what_follows_the_question_mark_is_asked_of_a_web_server(served: str) -> None:
    for url in (
        f"{served}/get?id=1&size=2",
        joined(served, "get?id=1&size=2"),
        joined(f"{served}?size=2", "get?id=1"),
    ):
        assert (size_of(url), Source(url, 3, 4).read()) == (10, b"3456")
    assert kind_of(f"{served}/a.JPG?width=640") == "image"


def test_web_server_that_is_away_is_told_from_one_that_has_no_such_file(served: str) -> None:
    with pytest.raises(FileNotFoundError):
        Source(f"{served}/none").read()
    with pytest.raises(OSError, match="503") as caught:
        Source(f"{served}/busy.tar").read()
    assert not isinstance(caught.value, FileNotFoundError)
    assert size_of(f"{served}/none") is None
    for name, answer in (("busy.tar", "503"), ("locked.tar", "401")):
        with pytest.raises(OSError, match=answer):  # and not that there is none
            size_of(f"{served}/{name}")
    for name, answer, kind in (("busy", "503", AwayError), ("locked", "401", UnreadableError)):
        with pytest.raises(UnreadableError, match=answer) as refused:
            decode(Source(f"{served}/{name}.tar"), "video", lambda *_: [0], "pyav")
        assert type(refused.value) is kind


@pytest.mark.parametrize("url", ["nowhere://bucket/a", "s3://bucket/a?port=1"])
def test_url_that_nobody_knows_is_an_error_that_names_it(url: str) -> None:
    with pytest.raises(OSError, match=r"cannot open") as caught:
        size_of(url)
    assert url in str(caught.value)


def test_local_copy_is_fetched_again_only_when_the_file_changed(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/set.parquet", b"first")
    copy = local_copy("memory://bucket/set.parquet", tmp_path)
    assert copy.read_bytes() == b"first"
    copy.write_bytes(b"kept")
    assert local_copy("memory://bucket/set.parquet", tmp_path).read_bytes() == b"kept"
    memory.pipe("/bucket/set.parquet", b"second")
    assert local_copy("memory://bucket/set.parquet", tmp_path).read_bytes() == b"second"
    assert local_copy(str(copy), tmp_path) == copy
    with pytest.raises(FileNotFoundError, match="memory://bucket/none"):
        local_copy("memory://bucket/none", tmp_path)
