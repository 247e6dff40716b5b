"""Bytes of whole files and of parts, on disk and behind URLs that pyarrow or fsspec know."""

from pathlib import Path

import fsspec
import pytest

from mac_ray.data.source import Source, local_copy, size_of


def test_part_behind_a_url_that_only_fsspec_knows_is_read() -> None:
    fsspec.filesystem("memory").pipe("/bucket/a.tar", b"0123456789")
    assert size_of("memory://bucket/a.tar") == 10
    assert size_of("memory://bucket/b.tar") is None
    assert Source("memory://bucket/a.tar").read() == b"0123456789"
    assert Source("memory://bucket/a.tar", 3, 4).read() == b"3456"
    assert Source("memory://bucket/a.tar", 8, 4).read() == b"89"


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
