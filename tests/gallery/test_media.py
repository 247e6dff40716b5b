"""What counts as a video or an image below a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mac_ray.gallery.media import SearchError, media_below, readable

NOBODY = 65534  # the user of that name on Linux and most others


def names(folder: Path) -> list[str]:
    return [media.path for media in media_below(folder)[0]]


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_videos_and_images_of_every_depth_are_found_by_path(tmp_path: Path) -> None:
    for name in ("b.MP4", "a/deep/er/c.webm", "a/x.jpeg", "z.png", "notes.txt", "captions.csv"):
        touch(tmp_path / name)
    found, refused = media_below(tmp_path)
    assert [(media.path, media.kind) for media in found] == [
        ("a/deep/er/c.webm", "video"),
        ("a/x.jpeg", "image"),
        ("b.MP4", "video"),
        ("z.png", "image"),
    ]
    assert {media.size for media in found} == {1}
    assert refused == []


def test_hidden_files_folders_and_pipes_are_passed_over(tmp_path: Path) -> None:
    for name in ("clip.mp4", "._clip.mp4", ".thumbnails/clip.mp4"):
        touch(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.mp4")
    assert names(tmp_path) == ["clip.mp4"]


def test_links_are_followed_and_rings_of_them_end(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "far.mp4")
    folder = tmp_path / "folder"
    touch(folder / "near.mp4")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "linked.mp4").symlink_to(folder / "near.mp4")
    (folder / "ring").symlink_to(folder)
    assert names(folder) == ["linked.mp4", "linked/far.mp4", "near.mp4"]


def test_dangling_link_is_listed_with_its_reason(tmp_path: Path) -> None:
    touch(tmp_path / "clip.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    found, refused = media_below(tmp_path)
    assert [media.path for media in found] == ["clip.mp4"]
    assert [(entry.path, entry.reason) for entry in refused] == [("gone.mp4", "no such file or directory")]


def test_names_are_shown_as_one_line_of_text() -> None:
    name = "caf\u00e9 \x1b]0;owned\x07\n\udcff.mp4"
    assert readable(name) == "caf\u00e9 ?]0;owned???.mp4"


@contextmanager
def nobody_in_particular() -> Iterator[None]:
    """Root may read everything, so whoever runs the tests as root is somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)  # the real user too: that is whom access(2) asks about
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_files_and_folders_that_may_not_be_read_are_listed() -> None:
    # pytest's own folders are closed to others
    with nobody_in_particular(), TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("clip.mp4", "secret.mp4", "locked/clip.mp4"):
            touch(folder / name)
        (folder / "secret.mp4").chmod(0)
        (folder / "locked").chmod(0)
        found, refused = media_below(folder)
        (folder / "locked").chmod(0o700)
    assert [media.path for media in found] == ["clip.mp4"]
    assert {entry.path: entry.reason for entry in refused} == dict.fromkeys(
        ("secret.mp4", "locked"), "permission denied"
    )


def test_folder_that_is_not_there_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"there is no folder .*nowhere; give one"):
        media_below(tmp_path / "nowhere")
    touch(tmp_path / "notes.txt")
    with pytest.raises(SearchError, match=r"no video or image to read below .*; known endings are .*\.mp4"):
        media_below(tmp_path)
