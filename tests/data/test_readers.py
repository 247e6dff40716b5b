"""Readers: official annotation files in, rows out, and a sentence for files of another form."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from mac_ray.data.decode import frames
from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.manifest_writer import write
from mac_ray.data.readers import READERS, flickr8k, folder, msrvtt
from mac_ray.data.readers.files import hashed
from mac_ray.data.readers.splits import VAL_SHARE
from mac_ray.data.source import Source


def by_id(rows: list[Row]) -> dict[str, Row]:
    assert len({row.id for row in rows}) == len(rows)
    return {row.id: row for row in rows}


# ---------------------------------------------------------------- folder


def captioned(path: Path, content: str | bytes, name: str = "captions.csv") -> Path:
    path.mkdir(exist_ok=True)
    (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_folder_rows_of_one_path_are_one_sample(tmp_path: Path) -> None:
    content = (
        'path,caption,split\na.mp4,first,train\nb/c.JPG,"two, with comma",validation\na.mp4,second,train\n'
    )
    rows = list(folder.read(captioned(tmp_path, content)))
    assert rows == [
        Row("a.mp4", Path("a.mp4"), "video", "train", ("first", "second")),
        Row("b/c.JPG", Path("b/c.JPG"), "image", "val", ("two, with comma",)),
    ]


def test_folder_table_of_a_spreadsheet_on_windows_reads_the_same(tmp_path: Path) -> None:
    plain = 'path,caption,split\na.mp4,"says ""hello"", twice",train\nb.mp4,two,test\n'
    windows = b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode()
    expected = list(folder.read(captioned(tmp_path / "plain", plain)))
    assert list(folder.read(captioned(tmp_path / "windows", windows))) == expected
    assert expected[0].captions == ('says "hello", twice',)


def test_folder_windows_of_one_file_are_samples_of_one_split(tmp_path: Path) -> None:
    lines = "".join(f"long.mp4,part {part},{part},{part + 1}\n" for part in range(50))
    rows = list(folder.read(captioned(tmp_path, "path,caption,start,end\n" + lines)))
    assert [(row.start, row.end) for row in rows] == [(part, part + 1) for part in range(50)]
    assert len(by_id(rows)) == 50
    assert len({row.split for row in rows}) == 1


def test_folder_windows_far_into_a_video_are_told_apart(tmp_path: Path) -> None:
    lines = "".join(
        f"long.mp4,c,{start},{end}\n" for start, end in ((1234.561, 1240.001), (1234.564, 1240.004))
    )
    rows = list(folder.read(captioned(tmp_path, "path,caption,start,end\n" + lines)))
    assert [row.id for row in rows] == ["long.mp4@1234.561-1240.001", "long.mp4@1234.564-1240.004"]


def test_folder_ids_and_empty_windows_are_taken_as_given(tmp_path: Path) -> None:
    rows = list(
        folder.read(captioned(tmp_path, "id,path,caption,start,end\nx,a.mp4,c,,2.5\ny,a.mp4,d,2.5,\n"))
    )
    assert [(row.id, row.start, row.end) for row in rows] == [("x", None, 2.5), ("y", 2.5, None)]


def test_folder_ids_and_splits_may_be_numbers_and_names_begin_with_a_tilde(tmp_path: Path) -> None:
    entries = [
        {"path": f"~{number}.mp4", "caption": "c", "id": number, "split": "train"} for number in (0, 1)
    ]
    content = "\n".join(map(json.dumps, entries))
    rows = list(folder.read(captioned(tmp_path, content, "captions.jsonl")))
    assert [row.id for row in rows] == ["0", "1"]
    found = write(tmp_path / "set.parquet", rows, "set", tmp_path)
    assert [Path(sample.source.place).name for sample in found] == ["~0.mp4", "~1.mp4"]


def test_folder_jsonl_takes_one_caption_or_several(tmp_path: Path) -> None:
    entries = [
        {"path": "a.mp4", "captions": ["one", "two"], "split": "train"},
        {"path": "b.png", "caption": "three", "split": "test"},
        {"path": "a.mp4", "caption": "four", "split": "train"},
    ]
    content = "\r\n".join(json.dumps(entry) for entry in entries) + "\r\n\r\n"
    rows = by_id(list(folder.read(captioned(tmp_path, content, "captions.jsonl"))))
    assert rows["a.mp4"].captions == ("one", "two", "four")
    assert (rows["b.png"].kind, rows["b.png"].split) == ("image", "test")


def test_folder_splits_by_hash_have_their_shares_and_stay_when_files_are_added(tmp_path: Path) -> None:
    def splits(count: int, **shares: float) -> dict[str, str]:
        content = "path,caption\n" + "".join(f"{number}.mp4,c\n" for number in range(count))
        return {row.id: row.split for row in folder.read(captioned(tmp_path, content), **shares)}

    few, many = splits(1000), splits(4000)
    assert few.items() <= many.items()
    counts = Counter(many.values())
    # three standard deviations of a binomial with 4,000 draws of 0.05
    assert abs(counts["val"] - 200) < 42
    assert abs(counts["test"] - 200) < 42
    assert set(splits(100, val=0.0, test=0.0).values()) == {"train"}


def test_folder_given_by_absolute_paths_has_the_same_ids_and_splits(tmp_path: Path) -> None:
    names = [f"{number}.mp4" for number in range(40)]
    relative = captioned(tmp_path / "one", "path,caption\n" + "".join(f"{name},c\n" for name in names))
    absolute = tmp_path / "two"
    captioned(absolute, "path,caption\n" + "".join(f"{absolute / name},c\n" for name in names))
    assert list(folder.read(relative)) == list(folder.read(absolute))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("captions.csv", "file,caption\na.mp4,c\n", r"lacks the column path; its columns are file, caption"),
        ("captions.csv", "path,caption\na.mp4,one, two\n", r"line 2.*2 fields"),
        ("captions.csv", "path,caption\na.mp4\n", r"line 2.*2 fields"),
        ("captions.csv", "path,caption,split\na.mp4,c,train\na.mp4,d,val\n", r"line 3: sample 'a\.mp4'"),
        (
            "captions.csv",
            "path,caption,split\na.mp4,c,held out\n",
            r"line 2: split is 'held out'.* train, val or test",
        ),
        ("captions.csv", "path,caption,start\na.mp4,c,soon\n", r"line 2: start is 'soon'.*seconds"),
        ("captions.csv", "path,caption\na.txt,c\n", r"a\.txt is neither"),
        ("captions.csv", b"path,caption\na.mp4,caf\xe9\n", r"not UTF-8"),
        ("captions.csv", "", r"lacks the column path, caption"),
        ("captions.jsonl", '{"path": "a.mp4"}\n', r"line 1.*found path"),
        ("captions.jsonl", '\n["a.mp4"]\n', r"line 2.*found a list"),
        ("captions.jsonl", "a.mp4,c\n", r"line 1 is not JSON"),
        ("captions.jsonl", '{"path": "a.mp4", "caption": 3}\n', r"line 1: captions must be text; found 3"),
        (
            "captions.jsonl",
            '{"path": "a.mp4", "caption": "c"}\n{"path": "b.mp4", "caption": "c", "split": "test"}\n',
            r"captions\.jsonl, line 2 has a split, and line 1 has none; give one to every line, or to none$",
        ),
        ("labels.csv", "path,caption\n", r"holds neither of captions\.csv and captions\.jsonl"),
    ],
)
def test_folder_of_another_form_says_where_and_why(
    tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    with pytest.raises(ManifestError, match=reason):
        list(folder.read(captioned(tmp_path, content, name)))


# ---------------------------------------------------------------- flickr8k


def flickr_files(path: Path, ending: str = "\n", **changes: str) -> Path:
    tokens = [f"{image}.jpg#{number}\t{image} {number} ." for image in "abcde" for number in range(5)]
    tokens += [f"f.jpg.1#{number}\tno image" for number in range(5)]
    contents = {
        "Flickr8k.token.txt": ending.join(tokens) + ending,
        "Flickr_8k.trainImages.txt": ending.join(["c.jpg", "a.jpg"]) + ending,
        "Flickr_8k.devImages.txt": "b.jpg",
        "Flickr_8k.testImages.txt": "d.jpg" + ending,
    }
    for name, content in (contents | changes).items():
        (path / name).write_bytes(content.encode())
    return path


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_flickr8k_follows_the_lists_and_leaves_out_the_rest(tmp_path: Path, ending: str) -> None:
    rows = list(flickr8k.read(flickr_files(tmp_path, ending), tmp_path / "images"))
    assert [(row.id, row.split) for row in rows] == [
        ("c.jpg", "train"),
        ("a.jpg", "train"),
        ("b.jpg", "val"),
        ("d.jpg", "test"),
    ]
    assert rows[0].captions == tuple(f"c {number} ." for number in range(5))
    assert (rows[0].path, rows[0].kind) == (tmp_path / "images/c.jpg", "image")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "Flickr8k.token.txt",
            "image,caption\na.jpg,c\n",
            r"has the line 'image,caption'; expected is .*name\.jpg#0<TAB>caption",
        ),
        ("Flickr_8k.devImages.txt", "z.jpg\n", r"'z\.jpg', which has no caption"),
        ("Flickr_8k.testImages.txt", "a.jpg\n", r"'a\.jpg', already listed under train"),
    ],
)
def test_flickr8k_of_another_form_says_what_was_found(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    with pytest.raises(ManifestError, match=reason):
        list(flickr8k.read(flickr_files(tmp_path, **{name: content}), tmp_path))


def test_flickr8k_without_its_lists_names_the_file(tmp_path: Path) -> None:
    (flickr_files(tmp_path) / "Flickr_8k.devImages.txt").unlink()
    with pytest.raises(ManifestError, match=r"no file .*Flickr_8k\.devImages\.txt"):
        list(flickr8k.read(tmp_path, tmp_path))


# ---------------------------------------------------------------- msrvtt

TRAIN = [f"video{number}" for number in range(600)]
HELD_OUT = sum(hashed(id) < VAL_SHARE for id in TRAIN)
SPLITS_OF_TRAIN = {"train": len(TRAIN) - HELD_OUT, "val": HELD_OUT}
TEST = ["video700", "video9000"]
FORMS = {
    "official": lambda captions: {
        "info": {},
        "videos": [{"video_id": video, "start time": 0.0} for video in captions],
        "sentences": [
            {"sen_id": 0, "video_id": video, "caption": text}
            for video, texts in captions.items()
            for text in texts
        ],
    },
    "annotations": lambda captions: {
        "annotations": [
            {"image_id": video, "caption": text} for video, texts in captions.items() for text in texts
        ]
    },
    "list": lambda captions: [
        {"video": f"{video}.mp4", "caption": texts} for video, texts in captions.items()
    ],
}


def msrvtt_files(path: Path, form: str = "official", ending: str = "\n") -> Path:
    path.mkdir(exist_ok=True)
    captions = {video: [f"{video} one", f"{video} two"] for video in TRAIN + TEST}
    test_rows = [f'ret{number},msr{number},{video},"asked, of {video}"' for number, video in enumerate(TEST)]
    contents = {
        "MSRVTT_data.json": json.dumps(FORMS[form](captions)),
        "MSRVTT_train.9k.csv": ending.join(["video_id", *TRAIN, ""]),
        "MSRVTT_train.7k.csv": ending.join(["video_id", *TRAIN[:550], ""]),
        "MSRVTT_JSFUSION_test.csv": ending.join(["key,vid_key,video_id,sentence", *test_rows, ""]),
        "train_list_full.txt": ending.join(TRAIN[:500]),
        "val_list_full.txt": ending.join(TRAIN[500:]),
        "test_list_full.txt": ending.join(TEST),
    }
    for name, content in contents.items():
        (path / name).write_bytes(content.encode())
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_msrvtt_9k_takes_test_text_from_the_csv_and_val_from_train(
    tmp_path: Path, form: str, ending: str
) -> None:
    rows = by_id(list(msrvtt.read(msrvtt_files(tmp_path, form, ending), tmp_path / "videos", "9k")))
    splits = Counter(row.split for row in rows.values())
    assert splits == SPLITS_OF_TRAIN | {"test": 2}
    assert {video for video, row in rows.items() if row.split != "test"} == set(TRAIN)
    assert rows["video9000"].captions == ("asked, of video9000",)
    assert rows["video5"].captions == ("video5 one", "video5 two")
    assert rows["video5"].path == tmp_path / "videos/video5.mp4"


def test_msrvtt_val_carved_from_a_shorter_list_shares_its_videos(tmp_path: Path) -> None:
    files = msrvtt_files(tmp_path)
    val_9k, val_7k = (set(msrvtt.split_ids(files, variant)["val"]) for variant in ("9k", "7k"))
    assert val_9k
    # a video held out of the longer list is held out of the shorter one too, if it is there at all
    assert val_9k & set(TRAIN[:550]) <= val_7k


def test_msrvtt_full_has_every_caption_of_its_test_videos(tmp_path: Path) -> None:
    rows = by_id(list(msrvtt.read(msrvtt_files(tmp_path), tmp_path, "full")))
    assert Counter(row.split for row in rows.values()) == {"train": 500, "val": 100, "test": 2}
    assert rows["video9000"].captions == ("video9000 one", "video9000 two")


def test_msrvtt_1k_b_goes_by_its_own_lists_and_keeps_every_caption(tmp_path: Path) -> None:
    files = msrvtt_files(tmp_path)
    (files / "train_list_miech.txt").write_text("\n".join(TRAIN))
    (files / "test_list_miech.txt").write_text("video700\n")
    rows = by_id(list(msrvtt.read(files, tmp_path, "1k-B")))
    assert Counter(row.split for row in rows.values()) == SPLITS_OF_TRAIN | {"test": 1}
    assert rows["video700"].captions == ("video700 one", "video700 two")
    (files / "train_list_miech.txt").write_text("\n".join([*TRAIN, "video700"]))
    with pytest.raises(ManifestError, match=r"video700 is in both \w+ and test of variant 1k-B"):
        list(msrvtt.read(files, tmp_path, "1k-B"))


def test_msrvtt_1k_b_without_its_lists_names_them(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no train_list_miech\.txt .*MSR-VTT's split lists"):
        list(msrvtt.read(msrvtt_files(tmp_path), tmp_path, "1k-B"))


def test_msrvtt_lavis_files_give_splits_and_captions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, content in {
        # an entry per caption in training, an entry per video with a list in evaluation
        "retrieval_train.json": [
            {"video": "video0.mp4", "caption": "zero"},
            {"video": "video1.mp4", "caption": "one"},
            {"video": "video0.mp4", "caption": "null"},
        ],
        "retrieval_val.json": [{"video": "video1.mp4", "caption": ["one", "uno"]}],
        "retrieval_test.json": [{"video": "video2.mp4", "caption": ["two"]}],
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
    rows = list(msrvtt.read(tmp_path, tmp_path, "lavis"))
    assert [(row.id, row.split, row.captions) for row in rows] == [
        ("video0", "train", ("zero", "null")),
        ("video1", "val", ("one", "uno")),
        ("video2", "test", ("two",)),
    ]
    assert "1 training videos are val videos and no longer in train: video1" in caplog.text
    (tmp_path / "retrieval_test.json").write_text('[{"video": "video0.mp4", "caption": "c"}]')
    with pytest.raises(ManifestError, match=r"video0 is in both train and test of variant lavis"):
        list(msrvtt.read(tmp_path, tmp_path, "lavis"))


def test_msrvtt_videos_are_found_in_usual_folders_mp4_before_webm(tmp_path: Path) -> None:
    videos = tmp_path / "media"
    for name in (
        "video0.mp4",
        "all/video1.mp4",
        "videos/all/video2.webm",
        "video3.webm",
        "TestVideo/video3.mp4",
    ):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).touch()
    rows = by_id(list(msrvtt.read(msrvtt_files(tmp_path / "text"), videos, "full")))
    found = [str(rows[f"video{number}"].path.relative_to(videos)) for number in range(5)]
    assert found == [
        "video0.mp4",
        "all/video1.mp4",
        "videos/all/video2.webm",
        "TestVideo/video3.mp4",
        "video4.mp4",
    ]


def test_msrvtt_lists_of_different_splits_are_refused(tmp_path: Path) -> None:
    files = msrvtt_files(tmp_path)
    (files / "MSRVTT_train.9k.csv").write_text("\n".join(["video_id", *TRAIN, "video9000"]))
    with pytest.raises(ManifestError, match=r"video9000 is in both \w+ and test of variant 9k"):
        list(msrvtt.read(files, tmp_path, "9k"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "MSRVTT_data.json",
            '{"images": [], "dataset": "flickr8k"}',
            r"has the keys images, dataset; expected",
        ),
        (
            "MSRVTT_data.json",
            '{"annotations": [{"id": 1, "caption": "c"}]}',
            r"has the entry .*'id': 1.*expected",
        ),
        ("MSRVTT_data.json", '[{"video": "3@N01_6.mov", "caption": "c"}]', r"'3@N01_6'.*video0 to video9999"),
        (
            "MSRVTT_data.json",
            '[{"num_segments": 6, "description": "a dog", "video": "3@N01_6_a.mov"}]',
            r"has the entry .*expected is .*it looks like a file of DiDeMo",
        ),
        ("MSRVTT_data.json", "video0 a caption", r"is not JSON"),
        ("MSRVTT_data.json", "[]", r"no caption for 600 of 602 videos of 9k, for instance video\d+"),
        (
            "MSRVTT_train.9k.csv",
            "videoid,name\n1,a\n",
            r"lacks the column video_id; its columns are videoid, name",
        ),
        ("MSRVTT_JSFUSION_test.csv", "video_id\nvideo1\n", r"lacks the column sentence"),
    ],
)
def test_msrvtt_of_another_form_says_what_was_found(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    files = msrvtt_files(tmp_path)
    (files / name).write_text(content)
    with pytest.raises(ManifestError, match=reason):
        list(msrvtt.read(files, tmp_path, "9k"))


# ---------------------------------------------------------------- real files


@pytest.fixture
def real() -> Path:
    return Path(os.environ["MAC_RAY_REAL_DATA"])


@pytest.mark.realdata
def test_real_flickr8k_has_its_official_sizes_and_every_image(tmp_path: Path, real: Path) -> None:
    source = real / "media/flickr8k"
    rows = READERS["flickr8k"](annotations=source, images=source / "Images")
    manifest = write(tmp_path / "flickr8k.parquet", rows, "flickr8k", source / "Images")
    assert manifest.split_sizes() == {"train": 6000, "val": 1000, "test": 1000}
    assert {len(sample.captions) for sample in manifest} == {5}
    assert min(manifest.table["num_bytes"].to_pylist()) > 0


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("variant", "sizes"), [("9k", (8500, 500, 1000)), ("7k", (6510, 500, 1000)), ("full", (6513, 497, 2990))]
)
def test_real_msrvtt_lists_have_their_official_sizes(
    real: Path, variant: msrvtt.Variant, sizes: tuple[int, int, int]
) -> None:
    splits = msrvtt.split_ids(real / "annotations/msrvtt", variant)
    assert tuple(len(splits[split]) for split in ("train", "val", "test")) == sizes


@pytest.mark.realdata
def test_real_msrvtt_list_with_windows_line_ends_is_the_same_list(tmp_path: Path, real: Path) -> None:
    source = real / "annotations/msrvtt"
    (tmp_path / "MSRVTT_train.7k.csv").symlink_to(source / "MSRVTT_train.7k.crlf.csv")
    (tmp_path / msrvtt.TEST_1KA).symlink_to(source / msrvtt.TEST_1KA)
    assert b"\r\n" in (tmp_path / "MSRVTT_train.7k.csv").read_bytes()
    assert msrvtt.split_ids(tmp_path, "7k") == msrvtt.split_ids(source, "7k")


@pytest.mark.realdata
def test_real_msrvtt_clips_have_captions_and_decode(tmp_path: Path, real: Path) -> None:
    source = real / "media/msrvtt-clips"
    clips = sorted(path.stem for path in (source / "videos").glob("*.mp4"))
    for split, ids in {"train": clips[:8], "val": clips[8:12], "test": clips[12:]}.items():
        (tmp_path / f"{split}_list_full.txt").write_text("\n".join(ids))
    (tmp_path / "captions.json").symlink_to(source / "msrvtt_caption_test.clips16.json")
    rows = list(msrvtt.read(tmp_path, source, "full"))
    assert len(rows) == 16
    for row in rows:
        assert len(row.captions) == 20
        assert (
            frames(Source.of(row.path), row.kind, lambda count: [0, count // 2, count - 1], "pyav").shape[0]
            == 3
        )
