"""Walking tars: where members lie, by reading what is said to lie there; and what is refused."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mac_ray.data.source import Source
from mac_ray.data.tar import BLOCK, END, CutShortError, Member, TarError, append, contents_of, members

CONTENTS = {
    "plain.txt": b"a caption",
    f"{'long/' * 60}name.mp4": bytes(range(256)) * 40,
    "ünï.jpg": b"\xff\xd8" * 700,
    "empty.json": b"",
}
LARGE = 40 << 30


def write_tar(path: Path, contents: dict[str, bytes], format: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_lie_where_they_are_said_to(tmp_path: Path, format: int) -> None:
    path = write_tar(tmp_path / "a.tar", CONTENTS, format)

    found = list(members(str(path), (".txt",)))

    assert {m.name: Source(str(path), m.offset, m.length).read() for m in found} == CONTENTS
    assert [m.content for m in found] == [b"a caption", None, None, None]
    for member in found:  # from the start to the end it is a tar of its own
        run = io.BytesIO(Source(str(path), member.start, member.end - member.start).read())
        with tarfile.open(fileobj=run) as tar:
            assert tar.getnames() == [member.name]


def test_members_that_are_large_are_not_read(tmp_path: Path) -> None:
    """A tar of 40 GB of which only the headers are on the disk."""
    path = tmp_path / "large.tar"
    info = tarfile.TarInfo("large.mp4")
    info.size = LARGE
    with path.open("wb") as file:
        file.write(info.tobuf())
        file.seek(LARGE, io.SEEK_CUR)
        append(file, "after.txt", b"c")
        file.write(END)
    assert [(m.name, m.length) for m in members(str(path))] == [("large.mp4", LARGE), ("after.txt", 1)]


def test_folders_and_links_are_no_members(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.mp4").write_bytes(b"a")
    (tmp_path / "set" / "b.mp4").symlink_to("a.mp4")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "set", "./set")
    assert [member.name for member in members(str(tmp_path / "a.tar"))] == ["set/a.mp4"]


@pytest.mark.parametrize("name", ["../a.mp4", "/etc/a.mp4", "a/../../b.mp4", "..\\a.mp4"])
def test_name_that_leads_out_of_the_tar_is_refused(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / "a.tar", {"good.mp4": b"x", name: b"x"})
    with pytest.raises(TarError, match=r"leads out of it") as caught:
        list(members(str(path)))
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_tar_is_refused_with_the_remedy(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(pack(write_tar(path, CONTENTS).read_bytes()))
    with pytest.raises(TarError, match=r"compressed with \w+.*unpack"):
        list(members(str(path)))


def test_tar_cut_anywhere_gives_the_whole_members_before_and_says_so(tmp_path: Path) -> None:
    contents = {"a.mp4": bytes(1000), "b.mp4": bytes(BLOCK), "c.txt": b"c"}
    whole = write_tar(tmp_path / "whole.tar", contents).read_bytes()
    ends = [member.end for member in members(str(tmp_path / "whole.tar"))]
    for size in range(100, ends[-1] + 1, 100):
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        walked: list[Member] = []
        with pytest.raises(TarError) as caught:
            walked.extend(members(str(tmp_path / "cut.tar")))
        assert [member.name for member in walked] == list(contents)[: sum(end <= size for end in ends)]
        assert isinstance(caught.value, CutShortError) == (size >= BLOCK)  # else it is no tar at all


def test_tars_joined_by_cat_are_not_taken_for_the_first_alone(tmp_path: Path) -> None:
    first = write_tar(tmp_path / "a.tar", {"a.txt": b"a"})
    second = write_tar(tmp_path / "b.tar", {"b.txt": b"b"})
    joined = tmp_path / "ab.tar"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    found = members(str(joined))
    assert next(found).name == "a.txt"
    with pytest.raises(CutShortError, match=r"ab\.tar goes on after its end at byte 1024"):
        next(found)


def test_damaged_header_in_the_middle_is_no_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.mp4": bytes(100), "b.mp4": bytes(100)})
    content = bytearray(path.read_bytes())
    content[2 * BLOCK : 2 * BLOCK + 20] = b"x" * 20
    path.write_bytes(content)
    with pytest.raises(CutShortError, match=r"those after 1024"):
        list(members(str(path)))


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, bytes(100)])
def test_file_that_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(TarError, match="no tar"):
        list(members(str(tmp_path / "a.tar")))


def test_size_below_zero_is_refused(tmp_path: Path) -> None:
    """A reader that goes back by it would never end."""
    info = tarfile.TarInfo("a.mp4")
    info.size = -BLOCK
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + END)
    with pytest.raises(TarError, match=r"size of -512"):
        list(members(str(tmp_path / "a.tar")))


def test_appended_members_are_a_tar_to_others(tmp_path: Path) -> None:
    with (tmp_path / "a.tar").open("wb") as file:
        written = [append(file, name, content) for name, content in CONTENTS.items()]
        file.write(END)
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {info.name: tar.extractfile(info).read() for info in tar} == CONTENTS  # type: ignore[union-attr]
        assert [info.offset_data for info in tar] == [member.offset for member in written]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("folder", ["", "f" * 90 + "/"])
def test_contents_of_a_run_are_those_of_its_members(tmp_path: Path, format: int, folder: str) -> None:
    contents = {f"{folder}{number}.jpg": bytes([number]) * 600 for number in range(3)}
    whole = write_tar(tmp_path / "a.tar", contents, format).read_bytes()
    *_, last = members(str(tmp_path / "a.tar"))
    assert {name: bytes(content) for name, content in contents_of(whole[: last.end])} == contents


@pytest.mark.parametrize("run", [b"\xff\xd8" * 1000, b"x" * BLOCK])
def test_run_that_is_no_tar_is_refused(run: bytes) -> None:
    with pytest.raises(TarError):
        contents_of(run)
