"""Annotation files are told apart by how they start, whatever they are called."""

import json
import os
import pickle
from pathlib import Path

import pytest

from mac_ray.data.manifest import ManifestError
from mac_ray.data.readers import READERS
from mac_ray.data.readers.recognise import HEAD, dataset_of, resemblance

LSMDC_ID = "3001_TWO_DOGS_00.12.34.000-00.12.38.765"
KARPATHY = {"imgid": 0, "sentids": [0], "sentences": [{"raw": "A dog ."}], "split": "train"}
FORMS = [
    ("WebVid", "videoid,name,page_idx,page_dir,duration,contentUrl\n12,a dog,1,000001_000050,PT00H00M17S,u\n"),
    ("WebVid", "videoid,contentUrl,duration,page_dir,name\n"),
    ("CC3M or CC12M", "a red station\thttp://host/a.jpg\na dog\thttps://host/b\n"),
    ("CC3M or CC12M", "http://host/a.jpg\ta red station\n"),
    ("CC3M or CC12M", "caption,thumbnailUrl\na dog,http://host/a.jpg\n"),
    ("Flickr8k", "1234567890_0123456789.jpg#0\tA dog in a hat .\n"),
    ("Flickr8k", "3456789012_0a1b2c3d4e.jpg.1#0\tPeople .\n"),
    ("Flickr8k", "2345678901_abcdef0123.jpg\n"),
    ("Flickr8k", json.dumps({"images": [KARPATHY | {"filename": "2345678901_abcdef0123.jpg"}]})),
    ("Flickr30k", "1234567890.jpg#0\tTwo dogs .\n"),
    ("Flickr30k", json.dumps({"images": [KARPATHY | {"filename": "1234567890.jpg"}]})),
    ("Flickr30k", json.dumps([{"image": "flickr30k-images/1234567890.jpg", "caption": ["c"]}])),
    ("COCO", json.dumps({"images": [{"filepath": "val2014", "cocoid": 123456} | KARPATHY]})),
    ("COCO", json.dumps([{"image": "val2014/COCO_val2014_000000123456.jpg", "caption": ["c"]}])),
    ("MSR-VTT", json.dumps({"videos": [{"video_id": "video0", "start time": 1.0}], "sentences": []})),
    ("MSR-VTT", json.dumps({"annotations": [{"image_id": "video6513", "caption": "c"}]})),
    ("MSR-VTT", json.dumps([{"video": "video7010.mp4", "caption": ["c"]}])),
    ("MSR-VTT", "key,vid_key,video_id,sentence\nret0,msr9770,video9770,a person\n"),
    ("MSR-VTT", "video_id\nvideo0\n"),
    ("MSR-VTT", "video0\nvideo1\n"),
    ("MSVD", json.dumps({"-a_b-c1D2e3_5_15": ["a squirrel"]})),
    ("MSVD", "# a header\n#\n-a_b-c1D2e3_5_15 a squirrel\n"),
    ("MSVD", "VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description\n"),
    ("MSVD", "-a_b-c1D2e3_5_15\n"),
    ("MSVD", pickle.dumps({"-a_b-c1D2e3_5_15": [["a", "squirrel"]]})),
    ("DiDeMo", json.dumps([{"num_segments": 6, "description": "a dog", "times": [[0, 0]]}])),
    ("DiDeMo", "12345678901@N01_7000000007_ab12cd34ef.mov\n"),
    ("DiDeMo", "12345678901@N01_7000000007_ab12cd34ef.\n"),
    ("ActivityNet Captions", json.dumps({"v_-0aBcD1eF2g": {"duration": 1, "timestamps": [[0, 1]]}})),
    ("ActivityNet Captions", json.dumps(["v_aB0cD1eF2gH"])),
    ("LSMDC", f"{LSMDC_ID}\t00.23.23.000\t00.23.28.886\t00.23.23.0\t00.23.28.8\tHe \"smiles.\n"),
    (None, "path,caption\na.mp4,a dog\n"),
    (None, json.dumps({"a": 1})),
    (None, ""),
]  # fmt: skip


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(("dataset", "content"), FORMS)
def test_dataset_of_a_file_is_told_by_its_start(
    tmp_path: Path, dataset: str | None, content: str | bytes, ending: str
) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(content.replace("\n", ending).encode() if isinstance(content, str) else content)
    assert dataset_of(path) == dataset


def test_dataset_of_a_long_file_reads_its_start_alone(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"\xef\xbb\xbfvideo_id\nvideo0\n" + b"video1\n" * HEAD)
        file.truncate(1 << 40)
    assert dataset_of(path) == "MSR-VTT"


def test_folder_of_another_dataset_is_recognised_by_one_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("notes")
    assert resemblance(tmp_path) == ""
    (tmp_path / "b.json").write_text('[{"dl_link": "u"}]')
    assert resemblance(tmp_path) == "; the folder has files of DiDeMo"
    with pytest.raises(
        ManifestError, match=r"no file .*Flickr8k\.token\.txt.*the folder has files of DiDeMo"
    ):
        list(READERS["flickr8k"](annotations=tmp_path, images=tmp_path))


@pytest.mark.realdata
def test_real_annotation_files_are_recognised() -> None:
    names = {
        "activitynet": "ActivityNet Captions",
        "cc3m": "CC3M or CC12M",
        "didemo": "DiDeMo",
        "flickr8k": "Flickr8k",
        "msrvtt": "MSR-VTT",
        "msvd": "MSVD",
        "webvid": "WebVid",
    }
    annotations = Path(os.environ["MAC_RAY_REAL_DATA"]) / "annotations"
    files = [path for path in annotations.rglob("*") if path.is_file()]
    assert len(files) >= len(names)
    for path in files:
        assert dataset_of(path) == names[path.parent.name], path
