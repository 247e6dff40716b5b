"""Media found by whole names in the folders they were unpacked to."""

from pathlib import Path

from mac_ray.data.readers.media import MediaFolder

DOTTED = "1001_Movie_00.01.02.345-00.01.06.789"


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_name_with_dots_is_looked_up_whole(tmp_path: Path) -> None:
    media = MediaFolder(made(tmp_path, f"{DOTTED}.avi", f"{DOTTED[:-4]}.avi"))
    assert media.find([DOTTED], [".avi"]) == tmp_path / f"{DOTTED}.avi"


def test_of_equal_names_the_nearest_to_the_folder_counts(tmp_path: Path) -> None:
    media = MediaFolder(made(tmp_path, "a/b/clip.mp4", "z/clip.mp4", "b/n/other.mp4", "a/n/other.mp4"))
    assert media.find(["clip"]) == tmp_path / "z/clip.mp4"
    assert media.find(["other"]) == tmp_path / "a/n/other.mp4"
    assert MediaFolder(made(tmp_path, "clip.mp4")).find(["clip"]) == tmp_path / "clip.mp4"


def test_endings_of_any_kind_and_case_are_found(tmp_path: Path) -> None:
    media = MediaFolder(made(tmp_path, "a.MP4", "b.flv", "c.mpeg"))
    assert [media.find([stem]).name for stem in "abc"] == ["a.MP4", "b.flv", "c.mpeg"]


def test_endings_count_before_stems(tmp_path: Path) -> None:
    media = MediaFolder(made(tmp_path, "long.webm", "short.mp4"))
    assert media.find(["long", "short"], [".mp4", ".webm"]) == tmp_path / "short.mp4"


def test_links_to_folders_are_followed_and_a_link_upwards_ends(tmp_path: Path) -> None:
    folder, elsewhere = made(tmp_path / "videos", "x.mp4"), made(tmp_path / "disk", "deep/y.mp4")
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "up").symlink_to(folder)
    media = MediaFolder(folder)
    assert media.find(["y"]) == folder / "linked/deep/y.mp4"


def test_file_that_is_nowhere_has_its_usual_place(tmp_path: Path) -> None:
    assert MediaFolder(tmp_path).find(["a", "b"], [".avi", ".mp4"], usual="movie") == tmp_path / "movie/a.avi"
