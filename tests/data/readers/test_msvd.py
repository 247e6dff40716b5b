"""MSVD: one set of clips from each form its captions come in, and pickles that are more than captions."""

import collections
import json
import logging
import os
import pickle
from pathlib import Path

import pytest

from mac_ray.data.manifest import ManifestError
from mac_ray.data.manifest_writer import write
from mac_ray.data.readers import READERS, msvd
from mac_ray.data.readers.pickled import unpickled

# ids with `_` inside, at both ends, and with `-` in front
TRAIN, VAL, TEST = ["_a-b_c_d_e__10_20", "-a_b-c1D2e3_5_15"], ["0aB1cD2eF3g_248_265"], ["x_y_z_1_2_3_7_9"]
CAPTIONS = {
    TRAIN[0]: ["a man's dog, running", "a dog runs"],
    TRAIN[1]: ["a squirrel eats"],
    VAL[0]: ["someone cooks", "someone cooks", "an “onion”"],
    TEST[0]: ["a cat"],
}


def words(captions: dict[str, list[str]]) -> dict[str, list[list[str]]]:
    return {clip: [text.split(" ") for text in texts] for clip, texts in captions.items()}


def corpus(captions: dict[str, list[str]]) -> str:
    rows = ["VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description"]
    for clip, texts in captions.items():
        video, start, end = clip.rsplit("_", 2)
        rows += [f'{video},{start},{end},1,clean,12,English,"{text}"' for text in texts]
        rows += [
            f"{video},{start},{end},2,clean,12,German,ein Tier",
            f"{video},{start},{end},3,clean,1,English,",
        ]
    return "\n".join(rows) + "\n"


FORMS = {
    "raw-captions.pkl": lambda captions: pickle.dumps(words(captions), protocol=2),
    "captions_msvd.json": lambda captions: json.dumps(captions).encode(),
    "AllVideoDescriptions.txt": lambda captions: (
        "# Descriptions\n#\n\n" + "".join(f"{clip} {text}\n" for clip in captions for text in captions[clip])
    ).encode(),
    "video_corpus.csv": lambda captions: corpus(captions).encode(),
}


def msvd_files(folder: Path, form: str = "captions_msvd.json", ending: str = "\n") -> Path:
    for split, clips in {"train": TRAIN, "val": VAL, "test": TEST}.items():
        (folder / f"{split}_list.txt").write_bytes(ending.join([*clips, ""]).encode())
    (folder / form).write_bytes(FORMS[form](CAPTIONS))
    return folder


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("form", FORMS)
def test_msvd_reads_the_same_from_every_form_of_its_captions(tmp_path: Path, form: str, ending: str) -> None:
    rows = list(msvd.read(msvd_files(tmp_path, form, ending), tmp_path / "videos"))
    assert [(row.id, row.split) for row in rows] == [
        (TRAIN[0], "train"),
        (TRAIN[1], "train"),
        (VAL[0], "val"),
        (TEST[0], "test"),
    ]
    assert {row.id: list(row.captions) for row in rows} == CAPTIONS
    assert rows[0].path == tmp_path / "videos" / f"{TRAIN[0]}.avi"


def test_msvd_short_names_stand_for_clips_in_lists_captions_and_files(tmp_path: Path) -> None:
    annotations, videos = msvd_files(tmp_path), tmp_path / "videos"
    short = {clip: f"vid{number}" for number, clip in enumerate(CAPTIONS, 1)}
    (annotations / "youtube_mapping.txt").write_text(
        "".join(f"{clip} {name}\n" for clip, name in short.items())
    )
    (annotations / "train_list.txt").write_text("vid1\nvid2\n")
    (annotations / "captions_msvd.json").write_text(
        json.dumps({short[clip]: texts for clip, texts in CAPTIONS.items()})
    )
    (videos / "YouTubeClips").mkdir(parents=True)
    for name in ("vid1.avi", "-a_b-c1D2e3_5_15.mp4", "vid2.mp4"):
        (videos / "YouTubeClips" / name).touch()
    rows = list(msvd.read(annotations, videos))
    assert {row.id: list(row.captions) for row in rows} == CAPTIONS
    assert [Path(row.path).name for row in rows[:3]] == [
        "vid1.avi",
        "-a_b-c1D2e3_5_15.mp4",
        "0aB1cD2eF3g_248_265.avi",
    ]


def test_msvd_clips_without_captions_and_unlisted_ones_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    annotations = msvd_files(tmp_path)
    lacking = {clip: texts for clip, texts in CAPTIONS.items() if clip != VAL[0]} | {"other_1_2": ["c"]}
    (annotations / "captions_msvd.json").write_text(json.dumps(lacking))
    with caplog.at_level(logging.INFO):
        rows = list(msvd.read(annotations, tmp_path))
    assert [row.split for row in rows] == ["train", "train", "test"]
    assert f"1 listed clips have no caption and are left out: {VAL[0]}" in caplog.text
    assert "1 clips with captions are in no list: other_1_2" in caplog.text
    assert "msvd: val has 0 samples; published are 100" in caplog.text
    assert "msvd: test has 1 captions; published are 27,763" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("captions_msvd.json", '{"v_aB0cD1eF2gH": {"timestamps": [[0, 1]]}}', r"'v_aB.*looks like .*ActivityNet"),
        ("captions_msvd.json", '[{"video": "video7010.mp4", "caption": ["c"]}]', r"a list.*looks like .*MSR-VTT"),
        ("captions_msvd.json", '{"a_1_2": ["c", 3]}', r"the entry 'a_1_2'.*expected is captions by clip"),
        ("captions_msvd.json", '{"a_1_2": ["c"]}', r"none of the 4 clips listed .*has a caption.*youtube_mapping"),
        ("train_list.txt", "0aB1cD2eF3g_248_265\n", r"0aB1cD2eF3g_248_265 is in both train and val of MSVD"),
        ("train_list.txt", "a_1_2\na_1_2\n", r"a_1_2 is twice in train of MSVD"),
        ("youtube_mapping.txt", "vid1 a_1_2\n", r"has the line 'vid1 a_1_2'"),
    ],
)  # fmt: skip
def test_msvd_of_another_form_says_what_was_found(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    (msvd_files(tmp_path) / name).write_text(content)
    with pytest.raises(ManifestError, match=reason):
        list(msvd.read(tmp_path, tmp_path))


def test_msvd_without_captions_says_which_files_would_do(tmp_path: Path) -> None:
    (msvd_files(tmp_path) / "captions_msvd.json").unlink()
    with pytest.raises(ManifestError, match=r"one of raw-captions\.pkl, .*video_corpus\.csv is needed"):
        list(msvd.read(tmp_path, tmp_path))


# ---------------------------------------------------------------- pickles


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_of_plain_containers_is_read_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    content = {"a_1_2": [["ein", "Häuschen"], ("x", None, 1.5, True)], "b_1_2": []}
    path = tmp_path / "p.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    assert unpickled(path, "captions") == content


def test_pickle_of_python_2_gives_its_bytes_as_text(tmp_path: Path) -> None:
    path = tmp_path / "p.pkl"
    # {'a': ['caf\xc3\xa9']} by the opcodes that Python 2 writes a str with
    path.write_bytes(b"\x80\x02}q\x00U\x01aq\x01]q\x02U\x05caf\xc3\xa9q\x03as.")
    assert unpickled(path, "captions") == {"a": ["café"]}


class Intruder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_that_calls_a_function_is_refused_and_nothing_is_called(tmp_path: Path, protocol: int) -> None:
    path, made = tmp_path / "raw-captions.pkl", tmp_path / "made"
    path.write_bytes(pickle.dumps({"a_1_2": [["a", Intruder(made)]]}, protocol))
    with pytest.raises(ManifestError, match=r"raw-captions\.pkl is no pickle of plain.*posix\.mkdir"):
        unpickled(path, "captions")
    assert not made.exists()
    pickle.loads(path.read_bytes())
    assert made.exists()  # so the file would have done it


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(collections.OrderedDict(a=[])),
        pickle.dumps(collections.Counter),
        pickle.dumps({"a": [["b"]]})[:-6],
        b"",
        b"\x80",
        b"not a pickle",
        b"\x80\x05" + bytes(range(256)),
        json.dumps({"a_1_2": ["c"]}).encode(),
    ],
)
def test_pickle_of_anything_else_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "raw-captions.pkl"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"raw-captions\.pkl is no pickle of plain containers and text"):
        unpickled(path, "captions")


# ---------------------------------------------------------------- real files


@pytest.mark.realdata
def test_real_msvd_lists_are_complete_and_captions_of_50_clips_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Path(os.environ["MAC_RAY_REAL_DATA"]) / "annotations/msvd"
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}_list.txt").symlink_to(source / f"{split}_list.txt")
    # the lists are complete, the captions are those of 30 train, 5 val and 15 test clips
    (tmp_path / "captions_msvd.json").symlink_to(source / "captions_msvd.head50.json")
    manifest = write(
        tmp_path / "msvd.parquet", READERS["msvd"](annotations=tmp_path, videos=tmp_path), "msvd", "/"
    )
    assert manifest.split_sizes() == {"train": 30, "val": 5, "test": 15}
    assert "msvd: 1,920 listed clips have no caption" in caplog.text
    assert min(len(sample.captions) for sample in manifest) >= 18
