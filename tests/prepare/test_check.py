"""The command `prepare check` as a whole: what it reports, and what is left of it when it is killed."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import psutil
import pyarrow as pa
import pytest
from PIL import Image

from mac_ray.data import tar
from mac_ray.data.manifest import Manifest, Row
from mac_ray.data.manifest_writer import write
from mac_ray.data.source import Source
from mac_ray.prepare.__main__ import main
from mac_ray.prepare.check import _is_known
from mac_ray.prepare.finding import SCHEMA, Asked, look_at
from tests.data.conftest import make_hanging
from tests.jobs import wait_for
from tests.parsed import Parsed
from tests.prepare.made import make_clip, make_manifest

WITHIN_S = 120
NUM_CLIPS, NUM_WINDOWS = 60, 300  # so many that a check is not done before it is disturbed


def check(manifest: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit code and the JSON report."""
    report = manifest.parent / "report.json"
    code = main(["check", str(manifest), "--json", str(report), "--without-ray", "--workers", "1", *more])
    return code, json.loads(report.read_text())


def start(manifest: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mac_ray.prepare", "check", str(manifest), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kept(manifest: Path) -> list[str]:
    """Lines of findings, without one that is not whole."""
    results = manifest.with_name(f"{manifest.name}.checked.jsonl")
    return results.read_bytes().decode().split("\n")[:-1] if results.exists() else []


def paths(entries: list[dict[str, str]]) -> list[str]:
    return [Path(entry["path"]).name for entry in entries]


def picture_of(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (8, 8), shade).save(content, "jpeg")
    return content.getvalue()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A manifest of media of which every other one has something wrong with it."""
    media = tmp_path / "media"
    media.mkdir()
    for name, seconds in {"a": 1, "long": 3, "grown": 1, "cut": 3}.items():
        make_clip(media / f"{name}.mp4", seconds, seed=seconds)
    # encoded again, the same frames are other bytes once in some thousand times
    shutil.copyfile(media / "a.mp4", media / "copy.mp4")
    Image.new("L", (6, 4)).save(media / "picture.png")
    (media / "empty.mp4").touch()
    (media / "text.mp4").write_text("no video")
    manifest = make_manifest(
        media,
        ("a.mp4", "train", ["a dog", "a dog runs"]),
        ("long.mp4", "train", ["a dog"]),
        ("gone.mp4", "train", ["gone"]),
        ("empty.mp4", "train", ["empty"]),
        ("picture.png", "val", ["a picture"]),
        ("text.mp4", "val", ["words"]),
        ("grown.mp4", "val", ["grown"]),
        ("cut.mp4", "test", ["cut"]),
        ("copy.mp4", "test", ["a dog"]),
    )
    make_clip(media / "grown.mp4", seconds=2, seed=9)
    (media / "cut.mp4").write_bytes(cut_short(media / "cut.mp4"))
    return manifest.path


def cut_short(clip: Path) -> bytes:
    """The header first, which promises all frames, and only some of them."""
    moved = clip.with_name("moved.mp4")
    with (
        av.open(str(clip)) as source,
        av.open(str(moved), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    content = moved.read_bytes()
    moved.unlink()
    return content[: len(content) // 2]


def test_report_tells_of_everything_that_is_wrong_and_what_the_media_are(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = check(broken)

    assert code == 1
    assert not report["ready"]
    assert paths(report["missing"]) == ["gone.mp4"]
    assert paths(report["empty"]) == ["empty.mp4"]
    assert paths(report["undecodable"]) == ["text.mp4"]
    assert paths(report["changed"]) == ["grown.mp4", "cut.mp4"]
    assert paths(report["cut_short"]) == ["cut.mp4"]
    counts = {
        name: [split[kind] for kind in ("samples", "found", "missing", "empty", "undecodable", "changed")]
        for name, split in report["splits"].items()
    }
    assert counts == {"train": [4, 2, 1, 1, 0, 0], "val": [3, 2, 0, 0, 1, 1], "test": [2, 2, 0, 0, 0, 1]}
    assert report["splits"]["train"]["seconds"] == pytest.approx(4.0, abs=1e-3)
    assert report["splits"]["train"]["frames"] == 40
    # a.mp4 says it too
    assert report["splits"]["train"]["captions"]["tied_texts"] == 1
    (leak,) = report["overlaps"]
    assert (leak["by"], leak["splits"], leak["count"]) == ("content", ["train", "test"], 1)
    assert [place["path"] for place in leak["examples"][0]] == ["a.mp4", "copy.mp4"]
    assert report["media"]["codec"] == {"h264": {"train": 2, "val": 1, "test": 2}, "png": {"val": 1}}
    assert report["media"]["resolution"] == {"32×32": {"train": 2, "val": 1, "test": 2}, "6×4": {"val": 1}}
    assert report["media"]["frame_rate"] == {"10": {"train": 2, "val": 1, "test": 2}}
    assert report["media"]["pixel_format"]["yuv420p"] == {"train": 2, "val": 1, "test": 2}
    assert report["effort"]["looked_at"] == 7
    shown = capsys.readouterr().out
    for name in ("gone", "empty", "text", "grown", "cut", "copy"):
        assert f"{name}.mp4" in shown


def test_second_check_looks_only_at_what_was_repaired(broken: Path) -> None:
    assert check(broken)[1]["effort"]["looked_at"] == 7
    media = broken.parent / "media"
    for name, seed in {"gone": 11, "empty": 12, "text": 13, "copy": 14}.items():
        make_clip(media / f"{name}.mp4", seed=seed)

    _, report = check(broken)
    assert (report["effort"]["looked_at"], report["effort"]["known"]) == (4, 5)
    assert report["missing"] == report["empty"] == report["undecodable"] == report["overlaps"] == []

    # what differs from the manifest is put right by writing that again, which makes nothing unknown
    rows = [(row["path"], row["split"], row["captions"]) for row in Manifest.open(broken).table.to_pylist()]
    (media / "cut.mp4").write_bytes((media / "long.mp4").read_bytes())
    again = make_manifest(media, *[row for row in rows if row[0] != "cut.mp4"]).path
    code, report = check(again)
    assert (code, report["ready"], report["problems"]) == (0, True, [])
    assert (report["effort"]["looked_at"], report["effort"]["known"]) == (0, 8)


def test_same_file_twice_is_looked_at_once_and_counts_twice(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    make_clip(media / "a.mp4")
    (media / "captions.csv").write_text("path,caption,split,id\na.mp4,c,train,one\na.mp4,d,test,two\n")
    out = tmp_path / "set.parquet"
    # the leak shows in the paths already
    assert main(["manifest", "folder", str(media), "--out", str(out)]) == 1
    code, report = check(out)
    assert (code, report["effort"]["looked_at"]) == (1, 1)
    assert [split["found"] for split in report["splits"].values()] == [1, 1]
    assert [(leak["by"], leak["count"]) for leak in report["overlaps"]] == [("path", 1)]


def test_split_of_another_size_than_expected_is_not_ready(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    make_clip(media / "a.mp4")
    manifest = make_manifest(media, ("a.mp4", "test", ["c"])).path
    assert check(manifest, "--expect", "test=1")[0] == 0
    code, report = check(manifest, "--expect", "train=2", "test=1")
    assert code == 1
    assert report["problems"] == ["train has 0 samples in the manifest; 2 are expected (--expect)"]
    with pytest.raises(SystemExit) as caught:
        check(manifest, "--expect", "test")
    assert caught.value.code == 2


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough of them that a check takes a while."""
    media = tmp_path_factory.mktemp("many") / "media"
    media.mkdir()
    for number in range(NUM_CLIPS):
        make_clip(media / f"{number}.mp4", seconds=1, size=96, seed=number)
    return media


@pytest.fixture
def many(clips: Path, tmp_path: Path) -> Path:
    """A manifest of windows of the clips, which nobody has looked at."""
    rows = [
        Row(str(n), clips / f"{n % NUM_CLIPS}.mp4", "video", "train", (f"caption {n}",), n // NUM_CLIPS / 10)
        for n in range(NUM_WINDOWS)
    ]
    return write(tmp_path / "many.parquet", rows, "many", clips).path


def test_known_benchmark_should_be_as_large_as_published_in_its_nearest_variant(tmp_path: Path) -> None:
    sizes = {"train": 6510, "val": 500, "test": 999}  # the 7k split of MSR-VTT, less one
    rows = [
        Row(f"{split}{n}", "gone.mp4", "video", split, (f"{n}",))
        for split, size in sizes.items()
        for n in range(size)
    ]
    manifest = write(tmp_path / "any.parquet", rows, "msrvtt", tmp_path).path
    code, report = check(manifest)
    assert code == 1
    assert {name: split["expected"] for name, split in report["splits"].items()} == sizes | {"test": 1000}
    assert report["problems"][0].startswith("test has 999 samples in the manifest; 1,000 are expected (")
    assert "; the nearest that is published, --expect takes others)" in report["problems"][0]
    assert check(manifest, "--expect", "test=999")[1]["problems"][0] == "8,009 samples are missing"


def test_check_killed_in_the_middle_goes_on_and_reports_as_if_untouched(many: Path) -> None:
    job = start(many, "--without-ray", "--workers", "1")
    wait_for(lambda: len(kept(many)) >= 8)
    job.kill()
    job.wait()
    before = kept(many)
    assert 8 <= len(before) < NUM_WINDOWS

    _, resumed = check(many)
    _, untouched = check(many, "--results", str(many.parent / "others.jsonl"))
    assert (resumed["effort"]["known"], resumed["effort"]["looked_at"]) == (
        len(before),
        NUM_WINDOWS - len(before),
    )
    assert untouched["effort"]["looked_at"] == NUM_WINDOWS
    assert max(Counter(json.loads(line)["key"] for line in kept(many)).values()) == 1
    for report in (resumed, untouched):
        del report["effort"]
    assert resumed == untouched


def signal_the_decoder(job: int, clips: Path, number: int) -> None:
    """Once it has looked at one more clip; until it is gone."""
    done = len(kept(clips))
    wait_for(lambda: len(kept(clips)) > done)
    (decoder,) = psutil.Process(job).children()
    os.kill(decoder.pid, number)
    wait_for(lambda: not decoder.is_running())


def test_hung_and_killed_decoders_are_named_and_the_rest_is_checked(many: Path) -> None:
    report_path = many.parent / "report.json"
    job = start(many, "--without-ray", "--workers", "1", "--timeout", "5", "--json", str(report_path))
    for signal_number in (signal.SIGSTOP, signal.SIGKILL):
        signal_the_decoder(job.pid, many, signal_number)
    assert job.wait(WITHIN_S) == 1

    report = json.loads(report_path.read_text())
    # the first was halted at any moment: before it had its file in memory, or after
    hung, killed = sorted(
        (entry["reason"] for entry in report["undecodable"]), key=lambda reason: "SIGKILL" in reason
    )
    assert hung in ("storage has not given it within 5 s", "took longer than 5 s and was stopped")
    assert killed == "took its decoder's process down (SIGKILL)"
    assert report["splits"]["train"]["found"] == NUM_WINDOWS - 2
    # neither need be the file's fault: with more time both are tried again
    code, report = check(many, "--timeout", "60")
    assert (code, report["effort"]["looked_at"]) == (0, 2)


def test_what_could_not_be_read_is_tried_again_by_the_next_check(tmp_path: Path) -> None:
    """A server that does not answer, a folder that is not mounted: nothing is known of the sample."""
    asked = Asked("gone.mp4", Source.of(tmp_path / "gone.mp4"), "video", None, None, 1, 1)
    gone = look_at(asked, "pyav")
    (tmp_path / "broken.mp4").write_text("no video")
    broken = look_at(replace(asked, source=Source.of(tmp_path / "broken.mp4")), "pyav")
    found = pa.Table.from_pylist([vars(gone), vars(broken)], schema=SCHEMA)
    assert all(found["reason"].to_pylist())
    assert _is_known(found, timeout_s=60.0).tolist() == [False, True]


def test_copies_among_the_frames_of_a_tar_are_found_under_any_name(tmp_path: Path) -> None:
    """They are in both splits of what `convert` makes of a leaking set, each under its own number."""
    pictures = [picture_of(shade) for shade in (10, 200)]
    digests = []
    for number, shown in enumerate((pictures, pictures, pictures[::-1])):
        place = tmp_path / f"{number}.tar"
        with place.open("wb") as file:
            for frame, content in enumerate(shown):
                tar.append(file, f"{number:09}.{frame:03}.jpg", content)
        source = Source(str(place), 0, place.stat().st_size)
        digests.append(look_at(Asked(place.name, source, "frames", None, None, 1, 1), "pyav").digest)
    assert digests[0] == digests[1] != digests[2]


def test_stopped_from_the_keyboard_it_ends_at_once(tmp_path: Path) -> None:
    pipe = make_hanging(tmp_path / "hangs.mp4")
    rows = [Row(str(copy), "hangs.mp4", "video", "train", ("c",), float(copy)) for copy in range(40)]
    write(tmp_path / "set.parquet", rows, "set", tmp_path)
    command = [
        sys.executable,
        "-m",
        "mac_ray.prepare",
        "check",
        str(tmp_path / "set.parquet"),
        "--without-ray",
    ]
    job = subprocess.Popen(
        [*command, "--workers", "1"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )

    opened: list[int] = []

    def hangs() -> bool:
        """The decoder has the pipe open; from now on it waits for what is never written."""
        assert job.poll() is None
        with suppress(OSError):
            opened.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(opened)

    wait_for(hangs)
    os.killpg(job.pid, signal.SIGINT)
    _, said = job.communicate(timeout=WITHIN_S / 4)
    assert job.returncode == 130
    assert said.strip().endswith("stopped; the same command goes on, or starts again")
    os.close(*opened)


def test_page_shows_what_is_wrong_and_needs_nothing_from_elsewhere(broken: Path) -> None:
    html = broken.parent / "report.html"
    check(broken, "--html", str(html))

    parsed = Parsed(html.read_text())
    assert not [
        tag for tag, attributes in parsed.tags if tag in ("link", "iframe", "img") or "src" in attributes
    ]
    places = {attributes.get("id") for _, attributes in parsed.tags}
    assert {"duration", "frames_per_video", "words_per_caption", "captions_per_sample"} <= places
    words = "".join(parsed.words)
    for said in (
        "made is not ready",
        "gone.mp4",
        "the file is empty",
        "leak: 1",
        "train: a.mp4 = test: copy.mp4",
    ):
        assert said in words


def test_results_go_elsewhere_and_a_place_that_cannot_be_written_is_told(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(broken, "--results", str(tmp_path / "new" / "found.jsonl"))[1]["effort"]["looked_at"] == 7
    assert not kept(broken)
    assert main(["check", str(broken), "--without-ray", "--results", str(tmp_path)]) == 2
    assert "give a place that can be written by --results" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        check(broken, "--html", str(tmp_path / "nowhere" / "report.html"))
    assert caught.value.code == 2
    assert f"there is no folder {tmp_path / 'nowhere'}" in capsys.readouterr().err
    before = broken.read_bytes()
    assert main(["check", str(broken), "--without-ray", "--results", str(broken)]) == 2
    assert broken.read_bytes() == before


@pytest.mark.ray
def test_check_on_ray_reports_as_processes_do(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    _, in_processes = check(broken, "--results", str(broken.parent / "others.jsonl"))
    report_path = broken.parent / "on_ray.json"
    assert main(["check", str(broken), "--workers", "2", "--json", str(report_path)]) == 1
    on_ray = json.loads(report_path.read_text())
    assert (on_ray["effort"]["where"], on_ray["effort"]["looked_at"]) == ("on Ray", 7)
    for report in (in_processes, on_ray):
        del report["effort"]
    assert on_ray == in_processes
