"""Decoding: the frame asked for is the frame that comes, from every backend, or one error says why not.

Clips are made here, and each frame carries its number.
"""

import errno
import io
import os
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray
from PIL import Image

from mac_ray.data.decode import (
    DECODERS,
    AwayError,
    DecodeError,
    Probe,
    UnreadableError,
    frames,
    frames_of_windows,
    probe,
    unusable,
    video,
)
from mac_ray.data.decode.backends import decode
from mac_ray.data.pool import midpoints
from mac_ray.data.source import Source
from tests.data.numbered import BLOCK, numbered, numbers

BACKENDS = [decoder for decoder in DECODERS if not unusable(decoder)]
FPS = 10
RATE = 8000  # of sound
ONE_SENTENCE = r"^cannot decode [^\n]+: [^\n]+$"


def make_clip(
    path: Path,
    count: int = 40,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    rotation: int = 0,
    stamps: Sequence[int] | None = None,
    container_options: dict[str, str] | None = None,
    sound_s: float = 0.0,
) -> Path:
    """Frames 0..count-1; `stamps` are presentation times in tenths of a second."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=FPS, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 4 * BLOCK, 2 * BLOCK, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, FPS)
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono") if sound_s else None
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for second in range(int(sound_s)):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, RATE), np.int16), format="s16", layout="mono")
            silence.sample_rate, silence.pts, silence.time_base = RATE, RATE * second, Fraction(1, RATE)
            container.mux(sound.encode(silence))
    return path


def always(indices: list[int]) -> Callable[[int], list[int]]:
    return lambda _: indices


DRAWS = [[0], [39], [7, 7, 8], list(range(40))]
DRAWS += [sorted(random.Random(seed).choices(range(40), k=4)) for seed in range(8)]

X264 = {
    "one keyframe": {"g": "250", "bf": "0"},
    "short groups": {"g": "5", "bf": "0"},
    "B-frames": {"g": "12", "bf": "3", "x264-params": "b-adapt=0:scenecut=0"},
    "B-pyramid, open groups": {"g": "9", "bf": "3", "x264-params": "b-adapt=0:b-pyramid=normal:open-gop=1"},
    "only keyframes": {"g": "1", "bf": "0"},
}


@pytest.mark.parametrize("decoder", BACKENDS)
@pytest.mark.parametrize("options", X264.values(), ids=X264.keys())
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frames_of_h264_are_those_asked_for(
    tmp_path: Path, decoder: str, options: dict[str, str], suffix: str
) -> None:
    path = make_clip(tmp_path / f"clip.{suffix}", options=options)
    for wanted in DRAWS:
        assert numbers(frames(Source.of(path), "video", always(wanted), decoder)) == wanted


@pytest.mark.parametrize("options", X264.values(), ids=X264.keys())
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_frames_of_a_file_too_large_to_be_kept_are_those_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], suffix: str
) -> None:
    monkeypatch.setattr(video, "KEPT_BYTES", 100)
    path = make_clip(tmp_path / f"clip.{suffix}", options=options)
    for source in (Source.of(path), Source(str(path), 0, path.stat().st_size)):
        for wanted in DRAWS:
            assert numbers(frames(source, "video", always(wanted), "pyav")) == wanted


def test_file_whose_damage_a_decoder_remembers_gives_the_same_each_time(tmp_path: Path) -> None:
    """Decoded from its start a second time by the same MPEG-4 decoder, it has other frames than the first time."""
    whole = make_clip(tmp_path / "clip.avi", codec="mpeg4", options={"g": "10", "bf": "2"}).read_bytes()
    noise = random.Random(0).randbytes(512)
    broken = tmp_path / "broken.avi"
    outcomes = set()
    for place in range(5 * len(whole) // 8, 3 * len(whole) // 4, 16):
        broken.write_bytes(whole[:place] + noise + whole[place + len(noise) :])
        try:
            found = frames(Source.of(broken), "video", lambda count: [0, count - 1], "pyav")
            outcomes.add(len(found))
        except DecodeError as error:
            outcomes.add(error.reason)
    assert outcomes == {2, "no frame of it decodes"}


OTHERS = {
    "mpeg4 without times": ("clip.avi", "mpeg4", {"g": "10", "bf": "2"}),
    "hevc": ("clip.mp4", "libx265", {"x265-params": "keyint=10:bframes=3:log-level=none"}),
    "vp8 with hidden frames": ("clip.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    "vp9": ("clip.webm", "libvpx-vp9", {"g": "10"}),
    "av1": ("clip.mkv", "libsvtav1", {"g": "16"}),
    "mjpeg": ("clip.mov", "mjpeg", {"strict": "unofficial"}),
    "mpeg4 with B-frames": ("clip.mp4", "mpeg4", {"g": "10", "bf": "2"}),
    "h264 without times": ("clip.avi", "libx264", {"g": "12", "bf": "3"}),
    "mpeg2 program stream": ("clip.mpg", "mpeg2video", {"g": "12", "bf": "2"}),
    "transport stream": ("clip.ts", "libx264", {"g": "12", "bf": "3"}),
    "flash": ("clip.flv", "libx264", {"g": "12", "bf": "3"}),
}


@pytest.mark.parametrize(("name", "codec", "options"), OTHERS.values(), ids=OTHERS.keys())
@pytest.mark.parametrize("decoder", BACKENDS)
def test_frames_of_other_codecs_and_containers_are_those_asked_for(
    tmp_path: Path, decoder: str, name: str, codec: str, options: dict[str, str]
) -> None:
    path = make_clip(tmp_path / name, codec=codec, options=options)
    for wanted in DRAWS:
        assert numbers(frames(Source.of(path), "video", always(wanted), decoder)) == wanted


@pytest.mark.parametrize("decoder", BACKENDS)
def test_choose_is_told_the_number_of_frames(tmp_path: Path, decoder: str) -> None:
    path = make_clip(tmp_path / "clip.mkv", count=23)
    asked = []
    frames(Source.of(path), "video", lambda count: asked.append(count) or [0], decoder)
    assert asked == [23]


@pytest.mark.parametrize("decoder", BACKENDS)
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, range(40)),
        (1.0, 2.0, range(10, 20)),
        (0.95, 1.25, range(10, 13)),
        (3.5, None, range(35, 40)),
        (None, 0.3, range(3)),
        (3.5, 100.0, range(35, 40)),
        (1.0, 1.01, range(10, 11)),
    ],
)
def test_frames_within_a_window_are_those_shown_then(
    tmp_path: Path, decoder: str, start: float | None, end: float | None, expected: range
) -> None:
    path = make_clip(tmp_path / "clip.mp4", options=X264["B-frames"])
    assert numbers(frames(Source.of(path), "video", range, decoder, start, end)) == list(expected)


@pytest.mark.parametrize("decoder", BACKENDS)
def test_several_windows_in_one_pass_give_the_frames_of_each_by_itself(tmp_path: Path, decoder: str) -> None:
    path = make_clip(tmp_path / "clip.mp4", options=X264["B-frames"])
    windows = [(None, None), (0.5, 1.5), (1.0, 2.0), (1.0, 2.0), (3.0, None)]
    durations = []

    def plan(times: NDArray[np.float64], duration: float) -> list[tuple[float | None, float | None]]:
        durations.append(duration)
        return windows

    def spread(count: int) -> list[int]:
        return [0, count // 2, count - 1]

    together = frames_of_windows(Source.of(path), "video", plan, spread, decoder)
    alone = [frames(Source.of(path), "video", spread, decoder, start, end) for start, end in windows]
    assert np.array_equal(together, np.concatenate(alone))
    assert durations == [pytest.approx(4.0, abs=1e-3)]


@pytest.mark.parametrize("decoder", BACKENDS)
def test_window_beyond_the_end_is_refused(tmp_path: Path, decoder: str) -> None:
    path = make_clip(tmp_path / "clip.mp4")
    with pytest.raises(DecodeError, match=r"clip\.mp4.*starts at 4\.5 s.*ends at 4\.000 s"):
        frames(Source.of(path), "video", range, decoder, start=4.5)


@pytest.mark.parametrize("decoder", BACKENDS)
def test_window_of_variable_frame_rate_goes_by_time_not_by_count(tmp_path: Path, decoder: str) -> None:
    stamps = [0, 1, 2, 3, 20, 21, 22, 40, 41]  # tenths of a second
    path = make_clip(tmp_path / "clip.mp4", count=len(stamps), stamps=stamps)
    source = Source.of(path)
    assert numbers(frames(source, "video", range, decoder, 2.0, 4.0)) == [6, 6, 6]
    # the end of the window, not the next frame after it, ends what is seen
    assert numbers(frames(source, "video", range, decoder, 0.0, 0.4)) == [0, 1, 2, 3]
    # of a slide show, the slide that is on the screen, the last one too
    assert numbers(frames(source, "video", range, decoder, 1.0, 1.5)) == [3]
    assert numbers(frames(source, "video", range, decoder, 4.12, 4.2)) == [8]


@pytest.mark.parametrize("decoder", BACKENDS)
def test_frames_of_variable_frame_rate_are_chosen_evenly_in_time(tmp_path: Path, decoder: str) -> None:
    """Twelve frames in the first 1.2 s, one of 2.4 s, one of 1.2 s, and two more."""
    stamps = [*range(12), 12, 36, 48, 49]
    path = make_clip(tmp_path / "clip.mp4", count=len(stamps), stamps=stamps)
    duration = 4.9 + 4.9 / 15  # the last frame lasts as long as the mean one
    moments = [duration * (slot + 0.5) / 16 for slot in range(16)]
    shown = [max(frame for frame, stamp in enumerate(stamps) if stamp / 10 <= moment) for moment in moments]
    assert [shown.count(frame) for frame in (12, 13, 14, 15)] == [7, 4, 0, 1]
    assert numbers(frames(Source.of(path), "video", range, decoder)) == shown
    middle_of_each_half = numbers(frames(Source.of(path), "video", lambda size: midpoints(size, 2), decoder))
    assert middle_of_each_half == [shown[4], shown[12]] == [12, 13]


@pytest.mark.parametrize("decoder", BACKENDS)
def test_jitter_of_less_than_half_a_frame_does_not_change_what_is_chosen(
    tmp_path: Path, decoder: str
) -> None:
    """Ten times the frame rate, so that every tenth tick is a frame's own."""
    draw = random.Random(3)
    stamps = [10 * number + draw.randint(-4, 4) * (0 < number < 39) for number in range(40)]
    path = make_clip(tmp_path / "clip.mp4", stamps=stamps)
    for wanted in DRAWS:
        assert numbers(frames(Source.of(path), "video", always(wanted), decoder)) == wanted


@pytest.mark.parametrize("decoder", BACKENDS)
def test_of_several_streams_the_one_marked_as_default_is_decoded(tmp_path: Path, decoder: str) -> None:
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=FPS) for _ in range(3)]
        streams[0].disposition, streams[1].disposition = Disposition(0), Disposition.default
        for stream, scale in zip(streams, (1, 2, 1), strict=True):
            stream.width, stream.height, stream.pix_fmt = scale * 4 * BLOCK, scale * 2 * BLOCK, "yuv420p"
        for number in range(12):
            for stream, scale, shift in zip(streams, (1, 2, 1), (100, 0, 200), strict=True):
                pixels = numbered(number + shift).repeat(scale, 0).repeat(scale, 1)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    assert numbers(frames(Source.of(path), "video", range, decoder)[:, ::2, ::2]) == list(range(12))


@pytest.mark.parametrize("decoder", BACKENDS)
@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_in_the_container_is_applied(tmp_path: Path, decoder: str, rotation: int) -> None:
    path = make_clip(tmp_path / "clip.mp4", rotation=rotation)
    pictures = frames(Source.of(path), "video", always([5, 6]), decoder)
    upright = np.rot90(pictures, -rotation // 90, axes=(1, 2))
    assert numbers(upright) == [5, 6]


@pytest.mark.parametrize("decoder", BACKENDS)
def test_probe_tells_frames_duration_and_upright_size(tmp_path: Path, decoder: str) -> None:
    found = probe(Source.of(make_clip(tmp_path / "clip.mp4", rotation=90)), "video", decoder)
    assert found == Probe(40, pytest.approx(4.0, abs=1e-3), width=2 * BLOCK, height=4 * BLOCK)


def test_storage_that_fails_in_the_midst_of_a_file_is_told_from_broken_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are an error of the system to Pillow."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    content = (tmp_path / "image.png").read_bytes()
    (tmp_path / "image.png").write_bytes(content[: len(content) // 2])
    source = Source.of(tmp_path / "image.png")
    with pytest.raises(DecodeError, match="truncated") as broken:
        decode(source, "image", range, "pyav")
    assert not isinstance(broken.value, UnreadableError)

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return super().read(size)

    monkeypatch.setattr(Path, "open", lambda path, mode: Failing(path.read_bytes()))
    monkeypatch.setattr(Path, "read_bytes", lambda path: content)
    with pytest.raises(AwayError, match="Stale file handle"):
        decode(source, "image", range, "pyav")


@pytest.mark.parametrize("decoder", BACKENDS)
def test_truncated_file_gives_the_frames_before_the_break_and_says_so(tmp_path: Path, decoder: str) -> None:
    whole = make_clip(tmp_path / "whole.mp4", options={"g": "10", "bf": "0"})
    content = whole.read_bytes()
    # the index comes last in this file: the media data before it is damaged, the index kept
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    middle = (start + end) // 2
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(content[:middle] + b"\xff" * (end - middle) + content[end:])
    counts, told = [], []

    def every(count: int) -> range:
        counts.append(count)
        return range(count)

    pictures = frames(Source.of(broken), "video", every, decoder, shortened=told.append)
    assert told == [f"{broken}: only {counts[-1]} of the 40 frames that it promises decode"]
    assert counts[0] == 40
    assert 1 <= counts[-1] < 40
    sound = counts[-1] - 2  # the packet at the break may be half sound
    assert numbers(pictures)[:sound] == list(range(sound))


@pytest.mark.parametrize("decoder", BACKENDS)
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "clip.mp4",
            {"movflags": "faststart"},
            r"only \d+ of the 40 frames that it promises decode",
        ),
        ("clip.mkv", {}, r"only \d\.\d of the 4\.0 s that it promises are there"),
    ],
)
def test_download_that_broke_off_gives_what_is_there_and_says_so(
    tmp_path: Path, decoder: str, name: str, options: dict[str, str], said: str
) -> None:
    whole = make_clip(tmp_path / name, options=X264["short groups"], container_options=options)
    told: list[str] = []
    assert numbers(frames(Source.of(whole), "video", range, decoder, shortened=told.append)) == list(
        range(40)
    )
    assert not told
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(whole.read_bytes()[: int(0.8 * whole.stat().st_size)])
    found = numbers(frames(Source.of(cut), "video", range, decoder, shortened=told.append))
    assert 10 < len(found) < 39
    assert found[:-2] == list(range(len(found) - 2))  # the last packet may be half there
    (sentence,) = told
    assert re.fullmatch(f"{re.escape(str(cut))}: {said}", sentence)


@pytest.mark.parametrize("cut", [False, True])
def test_sound_that_outlasts_the_picture_breaks_no_promise(tmp_path: Path, cut: bool) -> None:
    path = make_clip(tmp_path / "clip.mkv", options=X264["short groups"], sound_s=8.0)
    if cut:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    told: list[str] = []
    frames(Source.of(path), "video", range, "pyav", shortened=told.append)
    assert bool(told) == cut


@pytest.mark.parametrize("decoder", BACKENDS)
@pytest.mark.parametrize("kind", ["video", "image"])
def test_files_without_frames_give_one_sentence(tmp_path: Path, decoder: str, kind: str) -> None:
    contents = {"text.mp4": b"not media at all\n" * 100, "empty.mp4": b"", "cut.mp4": None}
    contents["cut.mp4"] = make_clip(tmp_path / "whole.mp4").read_bytes()[:500]
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in (*contents, "gone.mp4", "."):
        with pytest.raises(DecodeError, match=ONE_SENTENCE) as caught:
            frames(Source.of(tmp_path / name), kind, range, decoder)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("decoder", BACKENDS)
def test_sound_without_pictures_is_refused(tmp_path: Path, decoder: str) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(DecodeError, match="video stream"):
        frames(Source.of(path), "video", range, decoder)


@pytest.mark.parametrize(
    ("decoder", "said"),
    [("decord", "decord, which is not installed"), ("ffmpeg", "ffmpeg is none of pyav, decord, torchcodec")],
)
def test_decoder_that_is_not_there_is_refused_with_the_reason(decoder: str, said: str) -> None:
    # None in sys.modules is how Python marks a module that cannot be found
    script = (
        "import sys; sys.modules['decord'] = None; from mac_ray.prepare import __main__ as prepare; "
        f"prepare.main(['check', 'any.parquet', '--decoder', {decoder!r}])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr


@pytest.mark.parametrize("decoder", BACKENDS)
def test_part_of_a_file_is_decoded_as_the_file_itself(tmp_path: Path, decoder: str) -> None:
    content = make_clip(tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "shard.tar").write_bytes(b"before" + content + b"after")
    part = Source(str(tmp_path / "shard.tar"), 6, len(content))
    assert numbers(frames(part, "video", always([3, 17, 39]), decoder)) == [3, 17, 39]


# ---------------------------------------------------------------- real files


def real_files(folder: str) -> list[Path]:
    found = sorted(Path(os.environ["MAC_RAY_REAL_DATA"], "media", folder).iterdir())
    assert found
    return found


def spread(count: int) -> list[int]:
    return [*sorted(random.Random(count).choices(range(count), k=5)), count - 1]


# who decodes which of the difficult files, when decord or torchcodec is asked: the table in mac_ray.data.decode
DIFFICULT = {
    "av1_video.mkv": {"torchcodec"},
    "bt709_full_range.mp4": {"decord", "torchcodec"},
    "corrupted.mp4": set(),
    "fire2.mp4": {"decord", "torchcodec"},
    "flipping_a_pancake.mkv": {"decord", "torchcodec"},
    "h264_10bits.mp4": set(),
    "h265_10bits.mp4": set(),
    "h265_video.mp4": {"torchcodec"},
    "nasa_13013.mp4": {"torchcodec"},
    "no_duration.webm": {"torchcodec"},
    "part_0.mp4": {"decord", "torchcodec"},
    "pigs_in_a_polka.gif": {"torchcodec"},
    "test.avi": set(),
    "test_video.mp4": {"torchcodec"},
    "transparent.webm": {"decord", "torchcodec"},
    "unordered.mov": {"decord", "torchcodec"},
    "video_0.mov": {"decord", "torchcodec"},
    "video_180.mov": {"decord", "torchcodec"},
    "video_270.mov": {"decord", "torchcodec"},
    "video_90.mov": {"decord", "torchcodec"},
    "video_with_failing_audio.mp4": {"decord", "torchcodec"},
}
NOT_MEDIA = {"empty_0_bytes_result.webm", "return_all_test.tar"}


@pytest.mark.realdata
@pytest.mark.parametrize("decoder", BACKENDS)
def test_difficult_files_are_decoded_by_whom_the_table_says_with_the_frames_there_are(decoder: str) -> None:
    """The oracle is decoding from the start, every frame, up to the first error."""
    files = {path.name: path for path in real_files("faults")}
    assert files.keys() == DIFFICULT.keys() | NOT_MEDIA
    for name, suited in DIFFICULT.items():
        with av.open(str(files[name]), metadata_errors="ignore") as container:
            stream = container.streams.best("video")
            stream.codec_context.thread_count = 1  # how a broken picture is mended depends on it
            pictures = []
            try:
                for packet in container.demux(stream):
                    pictures += packet.decode()
            except av.error.InvalidDataError:
                pictures += stream.codec_context.decode(None)  # those before it that wait for their turn
            shown = [
                np.rot90(picture.to_ndarray(format="rgb24"), round(picture.rotation / 90))
                for picture in pictures
            ]
        counts: list[int] = []

        def select(times: NDArray[np.float64], _: float, counts: list[int] = counts) -> list[int]:
            counts.append(len(times))
            return spread(len(times))

        found = decode(Source.of(files[name]), "video", select, decoder)
        assert counts[-1] == len(shown), name
        assert np.array_equal(found.frames, np.stack([shown[index] for index in spread(len(shown))])), name
        assert found.decoder == (decoder if decoder in suited else "pyav"), name
        assert (found.shortened is not None) == (name == "corrupted.mp4"), found.shortened


@pytest.mark.realdata
def test_files_that_are_no_media_are_one_error_the_same_from_all_decoders() -> None:
    for name in NOT_MEDIA:
        said = set()
        for decoder in BACKENDS:
            with pytest.raises(DecodeError, match=ONE_SENTENCE) as caught:
                frames(
                    Source.of(Path(os.environ["MAC_RAY_REAL_DATA"], "media/faults", name)),
                    "video",
                    range,
                    decoder,
                )
            said.add(str(caught.value))
        assert len(said) == 1


@pytest.mark.realdata
@pytest.mark.parametrize("decoder", [decoder for decoder in BACKENDS if decoder != "pyav"])
def test_web_clips_are_the_same_by_another_decoder(decoder: str) -> None:
    for path in real_files("msrvtt-clips/videos"):
        asked: list[int] = []
        found = decode(
            Source.of(path),
            "video",
            lambda times, _, asked=asked: asked.append(len(times)) or spread(len(times)),
            decoder,
        )
        assert (found.decoder, len(asked)) == (decoder, 1), path.name
        assert np.array_equal(found.frames, frames(Source.of(path), "video", spread, "pyav")), path.name
