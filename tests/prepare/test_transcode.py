"""One sample to its members: which frames, how large, in which form."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mac_ray.data.decode import DecodeError
from mac_ray.data.manifest import Sample
from mac_ray.data.pool import midpoints
from mac_ray.data.source import Source
from mac_ray.prepare import transcode as module
from mac_ray.prepare.transcode import Options, Transcoded, transcode

NUM_FRAMES = 50
RATE = 10
HEIGHT, WIDTH = 48, 64


def write_clip(path: Path, greys: Sequence[int]) -> Path:
    """A frame of each grey, with the same noise."""
    noise = np.random.default_rng(0).integers(-10, 11, (HEIGHT, WIDTH, 3))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "1", "g": "25", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, grey in enumerate(greys):
            pixels = np.clip(grey + noise, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame n is of the grey 5 n, so that a picture says which it is."""
    greys = [5 * number for number in range(NUM_FRAMES)]
    return write_clip(tmp_path_factory.mktemp("clip") / "grey.mp4", greys)


def made(
    path: Path,
    kind: str = "video",
    window: tuple[float | None, float | None] = (None, None),
    **options: object,
) -> Transcoded:
    asked = {
        "form": "jpeg",
        "frames": None,
        "rate": None,
        "short_side": None,
        "quality": 95,
        "decoder": "pyav",
    }
    sample = Sample(0, "a", Source.of(path), kind, "train", *window, ("c",))
    return transcode(sample, Options(**(asked | options)))  # type: ignore[arg-type]


def pictures(transcoded: Transcoded) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(content))) for _, content in transcoded.members]


def numbers(transcoded: Transcoded) -> list[int]:
    return [round(picture.mean() / 5 - 0.1) for picture in pictures(transcoded)]


def test_frames_asked_for_are_the_middles_of_equal_intervals(clip: Path) -> None:
    four = made(clip, frames=4)
    assert numbers(four) == midpoints(NUM_FRAMES, 4).tolist() == [6, 18, 31, 43]
    assert [ending for ending, _ in four.members] == ["000.jpg", "001.jpg", "002.jpg", "003.jpg"]
    assert (four.kind, four.num_frames, four.height, four.width) == ("frames", 4, HEIGHT, WIDTH)


def test_frames_are_no_more_than_there_are_and_of_the_window_alone(clip: Path) -> None:
    assert numbers(made(clip, frames=1000)) == list(range(NUM_FRAMES))
    assert numbers(made(clip, frames=1000, window=(1.0, 1.3))) == [10, 11, 12]
    assert numbers(made(clip, frames=2, window=(4.0, None))) == [42, 47]


@pytest.mark.parametrize(("rate", "count"), [(2, 10), (0.1, 1), (1000, NUM_FRAMES)])
def test_rate_gives_as_many_frames_as_the_seconds_say(clip: Path, rate: float, count: int) -> None:
    assert numbers(made(clip, rate=rate)) == midpoints(NUM_FRAMES, count).tolist()


def test_rate_counts_the_seconds_of_the_window_and_of_the_file(clip: Path) -> None:
    assert made(clip, rate=2, window=(1.0, 3.0)).num_frames == 4
    assert made(clip, rate=2, window=(4.0, 60.0)).num_frames == 2


@pytest.mark.parametrize(
    ("short_side", "size"), [(24, (24, 32)), (None, (HEIGHT, WIDTH)), (480, (HEIGHT, WIDTH))]
)
def test_short_side_makes_smaller_and_never_larger(
    clip: Path, short_side: int | None, size: tuple[int, int]
) -> None:
    made_so = made(clip, frames=2, short_side=short_side)
    assert {picture.shape[:2] for picture in pictures(made_so)} == {size}
    assert (made_so.height, made_so.width) == size


def test_quality_costs_bytes_and_colour_is_stored_for_squares(clip: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(noise)
    ((_, low),), ((_, high),) = (made(noise, "image", quality=quality).members for quality in (50, 95))
    assert len(low) < len(high) / 2
    with Image.open(io.BytesIO(low)) as picture:
        assert [layer[1:3] for layer in picture.layer] == [(2, 2), (1, 1), (1, 1)]


def test_image_stays_one_picture(tmp_path: Path) -> None:
    Image.new("RGBA", (60, 40), (250, 10, 10, 255)).save(tmp_path / "a.png")
    for form in ("jpeg", "h264"):
        image = made(tmp_path / "a.png", "image", form=form, frames=8, short_side=20)
        assert (image.kind, image.num_frames, image.height, image.width) == ("image", 1, 20, 30)
        assert [ending for ending, _ in image.members] == ["jpg"]


def test_clip_keeps_its_time_and_window(clip: Path, tmp_path: Path) -> None:
    short = made(clip, form="h264", window=(1.0, 5.0), short_side=31)
    ((ending, content),) = short.members
    assert (ending, short.kind, short.num_frames, short.height, short.width) == ("mp4", "video", 40, 30, 40)
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == RATE
        assert float(stream.duration * stream.time_base) == pytest.approx(4.0)
    (tmp_path / "short.mp4").write_bytes(content)
    assert numbers(made(tmp_path / "short.mp4", frames=4)) == pytest.approx([15, 25, 35, 45], abs=1)
    assert made(clip, form="h264", rate=2).num_frames == 10


def test_clip_can_be_entered_every_twelve_frames_and_has_none_out_of_order(tmp_path: Path) -> None:
    still = made(write_clip(tmp_path / "still.mp4", [100] * 40), form="h264")
    with av.open(io.BytesIO(still.members[0][1])) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [number for number, packet in enumerate(packets) if packet.is_keyframe] == [0, 12, 24, 36]
    assert [packet.pts for packet in packets] == sorted(packet.pts for packet in packets)


def test_clip_decoded_in_parts_is_that_decoded_at_once(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({"frames": 40}, {"form": "h264"}):
        monkeypatch.setattr(module, "AT_ONCE", 1000)
        at_once = made(clip, **options)
        monkeypatch.setattr(module, "AT_ONCE", 7)
        assert made(clip, **options) == at_once


def test_same_sample_gives_the_same_bytes(clip: Path) -> None:
    for options in ({"frames": 8}, {"form": "h264"}):
        first = made(clip, **options)
        assert all(made(clip, **options) == first for _ in range(20))


def test_file_cut_short_gives_what_is_there_however_it_is_decoded(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header, in front, promises frames whose bytes are not there any more."""
    with (
        av.open(str(clip)) as source,
        av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    content = (tmp_path / "front.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) * 2 // 3])
    at_once = numbers(made(tmp_path / "cut.mp4"))
    monkeypatch.setattr(module, "AT_ONCE", 7)
    assert numbers(made(tmp_path / "cut.mp4")) == at_once
    assert 10 < len(at_once) < NUM_FRAMES


def test_what_decodes_and_cannot_be_stored_says_why(tmp_path: Path) -> None:
    """Or one picture would end a conversion each time it is started again."""
    Image.new("RGB", (66_000, 4)).save(tmp_path / "wide.png")
    with pytest.raises(DecodeError, match=r"wide\.png.*cannot be stored as jpeg \(66000 x 4 pixels: "):
        made(tmp_path / "wide.png", kind="image")


def test_file_whose_size_nobody_can_tell_is_one_that_does_not_decode(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="File name too long"):
        made(tmp_path / f"{300 * 'a'}.mp4")


def test_what_does_not_decode_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(DecodeError, match=r"a\.mp4"):
        made(tmp_path / "a.mp4")
