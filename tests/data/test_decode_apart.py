"""Decoders that hang and crash, for real: what is left of them, of the sample, and of the batch.

What hangs can also be killed like a decoder that crashes.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import torch

from mac_ray.data import manifest_writer
from mac_ray.data.clips import ClipReader
from mac_ray.data.decode import DECODERS, AwayError, DecodeError, DecoderDiedError, frames, probe
from mac_ray.data.decode.apart import KEPT_BYTES, waits_for_storage
from mac_ray.data.frame_cache import ensure_cache
from mac_ray.data.loader import Batch, EvaluationClips, TrainingBatches, in_steps
from mac_ray.data.manifest import Manifest, Row, Sample
from mac_ray.data.quarantine import Quarantine
from mac_ray.data.source import Source
from mac_ray.data.text import CaptionTokenizer
from tests.data.conftest import config_with, make_hanging, write_media, write_video

LONG_S = 60.0
SHORT_S = 2.0
STEPS = 7  # of 4 of 9 samples: three epochs and a bit


def decoding_processes() -> list[psutil.Process]:
    """Those of this process and its loader processes."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if any("decode.apart" in part for part in process.cmdline()):
                found.append(process)
    return found


@contextmanager
def crashing(pipe: Path) -> Iterator[None]:
    """The first process that opens a pipe dies of a segmentation fault while it reads."""
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.05):
            try:
                writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody waits for it
                continue
            while not (readers := readers_of(pipe)) and not ended.wait(0.05):
                pass
            for reader in readers:
                reader.send_signal(signal.SIGSEGV)
            os.close(writer)
            return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def readers_of(pipe: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(OSError):
            links = [
                link.readlink() for link in Path(f"/proc/{process.pid}/fd").iterdir() if link.is_symlink()
            ]
            if pipe in links:
                found.append(process)
    return found


def every_second(count: int) -> range:
    return range(0, count, 2)


# ---------------------------------------------------------------- one file


@pytest.mark.parametrize("decoder", DECODERS)
def test_frames_decoded_apart_are_those_decoded_here(tmp_path: Path, decoder: str) -> None:
    for num_frames, height, width in [(3, 32, 32), (30, 64, 80), (1, 16, 16), (9, 32, 48)]:
        source = Source.of(tmp_path / f"{num_frames}.mp4")
        write_video(tmp_path / f"{num_frames}.mp4", num_frames, height, width)
        for choose in (every_second, lambda count: [count - 1]):
            apart = frames(source, "video", choose, decoder, timeout_s=LONG_S)
            assert np.array_equal(apart, frames(source, "video", choose, decoder))


def test_frames_decoded_apart_stay_as_they_are_when_more_are_decoded(tmp_path: Path) -> None:
    """Those that are copied out of shared memory, and those too large for that."""
    with av.open(str(tmp_path / "large.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for number in range(30):
            frame = np.full((720, 1280, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    source = Source.of(tmp_path / "large.mp4")
    expected = frames(source, "video", range, "pyav")
    assert expected.nbytes > KEPT_BYTES
    wanted = [range(30), range(3), range(30), range(10, 12), range(4, 7)]
    found = [
        frames(source, "video", lambda _, numbers=numbers: numbers, "pyav", timeout_s=LONG_S)
        for numbers in wanted
    ]
    for numbers, pixels in zip(wanted, found, strict=True):
        assert np.array_equal(pixels, expected[list(numbers)])


def test_errors_of_decoding_apart_are_those_of_decoding_here(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 9, 32, 32)
    (tmp_path / "text.mp4").write_text("not media")
    for name, start in [("text.mp4", None), ("gone.mp4", None), ("clip.mp4", 4.5)]:
        said = []
        for timeout_s in (None, LONG_S):
            with pytest.raises(DecodeError) as caught:
                frames(Source.of(tmp_path / name), "video", range, "pyav", start, timeout_s=timeout_s)
            said.append((type(caught.value), str(caught.value)))
        assert said[0] == said[1]


def test_choosing_that_fails_leaves_a_process_that_decodes_the_next(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 9, 32, 32)

    def fail(count: int) -> list[int]:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            frames(Source.of(tmp_path / "clip.mp4"), "video", fail, "pyav", timeout_s=LONG_S)
        assert probe(Source.of(tmp_path / "clip.mp4"), "video", "pyav", timeout_s=LONG_S).num_frames == 9


def test_decoder_that_hangs_is_killed_and_the_sample_named(tmp_path: Path) -> None:
    make_hanging(tmp_path / "hangs.mp4")
    write_video(tmp_path / "clip.mp4", 9, 32, 32)
    frames(Source.of(tmp_path / "clip.mp4"), "video", range, "pyav", timeout_s=LONG_S)
    (process,) = decoding_processes()
    begun = time.monotonic()
    with pytest.raises(DecoderDiedError, match=r"hangs\.mp4: pyav: not done within 2 s"):
        frames(Source.of(tmp_path / "hangs.mp4"), "video", range, "pyav", timeout_s=SHORT_S)
    assert time.monotonic() - begun >= SHORT_S
    assert not process.is_running()
    assert len(frames(Source.of(tmp_path / "clip.mp4"), "video", range, "pyav", timeout_s=LONG_S)) == 9


# posix_spawn of glibc keeps its caller from being interrupted until the child has opened what it is told to
UNINTERRUPTIBLE = """
import os, sys
opened = [(os.POSIX_SPAWN_OPEN, 3, sys.argv[1], os.O_RDONLY, 0)]
print(flush=True)
os.posix_spawn("/bin/true", ["true"], os.environ, file_actions=opened)
"""
INTERRUPTIBLE = "import sys; print(flush=True); open(sys.argv[1])"


@pytest.mark.skipif(sys.platform != "linux", reason="states of processes are those of Linux")
@pytest.mark.parametrize(
    ("program", "state", "waits"),
    [(UNINTERRUPTIBLE, psutil.STATUS_DISK_SLEEP, True), (INTERRUPTIBLE, psutil.STATUS_SLEEPING, False)],
)
def test_process_that_a_system_call_keeps_is_told_from_one_that_waits(
    program: str, state: str, waits: bool, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    started = [sys.executable, "-c", program, str(pipe)]
    with subprocess.Popen(started, start_new_session=True, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            seen: list[str] = []
            deadline = time.monotonic() + LONG_S
            while seen[-5:] != [state] * 5:  # it may have to read a page of its own first
                assert time.monotonic() < deadline
                time.sleep(0.02)
                seen.append(psutil.Process(process.pid).status())
            assert waits_for_storage(process.pid) == waits
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_storage_that_hangs_is_waited_for_and_its_samples_are_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_hanging(tmp_path / "hangs.mp4")
    monkeypatch.setattr("mac_ray.data.decode.apart.waits_for_storage", lambda _: True)
    with pytest.raises(AwayError, match=r"hangs\.mp4: pyav: not done within 2 s, waiting for storage"):
        frames(Source.of(tmp_path / "hangs.mp4"), "video", range, "pyav", timeout_s=SHORT_S)


def test_server_that_says_nothing_is_waited_for_and_its_samples_are_not_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/clip.mp4"
        with pytest.raises(AwayError, match=r"clip\.mp4: pyav: not done within 2 s, waiting for storage"):
            frames(Source(url), "video", range, "pyav", timeout_s=SHORT_S)


def test_decoder_that_crashes_is_an_error_with_the_path(tmp_path: Path) -> None:
    pipe = make_hanging(tmp_path / "crashes.mp4")
    with (
        crashing(pipe),
        pytest.raises(DecoderDiedError, match=r"crashes\.mp4: pyav: its process died of SIGSEGV"),
    ):
        frames(Source.of(tmp_path / "crashes.mp4"), "video", range, "pyav", timeout_s=LONG_S)


def test_signal_to_the_whole_group_does_not_end_what_decodes(tmp_path: Path) -> None:
    """`timeout`, `scancel` and systemd send it to training and its decoders at once; training saves and stops."""
    write_video(tmp_path / "clip.mp4", 9, 32, 32)

    def terminated(count: int) -> range:
        for process in decoding_processes():
            process.terminate()
        return range(count)

    pixels = frames(Source.of(tmp_path / "clip.mp4"), "video", terminated, "pyav", timeout_s=LONG_S)
    assert np.array_equal(pixels, frames(Source.of(tmp_path / "clip.mp4"), "video", range, "pyav"))


def test_decoder_killed_for_lack_of_memory_is_given_a_second_try(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 9, 32, 32)
    asked = []

    def killed(count: int) -> range:
        asked.append(count)
        if len(asked) <= kills:
            for process in decoding_processes():
                process.kill()
                while process.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.01)
        return range(count)

    kills = 1
    source = Source.of(tmp_path / "clip.mp4")
    assert len(frames(source, "video", killed, "pyav", timeout_s=LONG_S)) == 9
    kills = 4
    with pytest.raises(DecoderDiedError, match="SIGKILL, perhaps for lack of memory"):
        frames(source, "video", killed, "pyav", timeout_s=LONG_S)


def test_decoding_process_ends_with_its_thread_though_its_error_is_kept(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    errors: list[DecodeError] = []
    processes: list[psutil.Process] = []
    before = decoding_processes()

    def decode() -> None:
        try:
            frames(Source.of(tmp_path / "broken.mp4"), "video", range, "pyav", timeout_s=LONG_S)
        except DecodeError as error:
            errors.append(error)
        processes.extend(process for process in decoding_processes() if process not in before)

    thread = threading.Thread(target=decode)
    thread.start()
    thread.join()
    assert errors
    (process,) = processes
    assert not process.is_running()


def test_decoding_processes_end_with_the_threads_that_use_them(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 9, 32, 32)
    before = len(decoding_processes())
    during: list[int] = []

    def decode() -> None:
        frames(Source.of(tmp_path / "clip.mp4"), "video", range, "pyav", timeout_s=LONG_S)
        during.append(len(decoding_processes()))

    thread = threading.Thread(target=decode)
    thread.start()
    thread.join()
    assert during == [before + 1]
    assert len(decoding_processes()) == before


# ---------------------------------------------------------------- batches


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    folder = tmp_path_factory.mktemp("media")
    return folder, write_media(folder)


def set_of(media: tuple[Path, list[Row]], folder: Path, content: str | None) -> Manifest:
    """A set with copies of media, because x264 does not make the same twice; video3 has this content, or hangs."""
    made, rows = media
    shutil.copytree(made, folder)
    (folder / "video3.mp4").unlink()
    if content is None:
        make_hanging(folder / "video3.mp4")
    else:
        (folder / "video3.mp4").write_text(content)
    return manifest_writer.write(folder / "set.parquet", rows, "set", folder).split("train")


@pytest.fixture
def hung(media: tuple[Path, list[Row]], tmp_path: Path) -> Manifest:
    return set_of(media, tmp_path / "hung", None)


@pytest.fixture
def batches_without(media: tuple[Path, list[Row]], tmp_path: Path, tokenizer_file: Path) -> list[Batch]:
    """Where the sample is no video at all."""
    found = batches_of(set_of(media, tmp_path / "text", "not media"), tokenizer_file)
    return [found[step] for step in range(STEPS)]


def batches_of(
    of: Manifest,
    tokenizer_file: Path,
    timeout_s: float | None = None,
    quarantine: Path | None = None,
) -> TrainingBatches:
    config = config_with(["data.horizontal_flip=true"])
    reader = ClipReader(
        of, config.data, "pyav", None, timeout_s, Quarantine(quarantine) if quarantine else None
    )
    tokenizer = CaptionTokenizer(tokenizer_file, config.data.max_caption_tokens)
    return TrainingBatches([reader], tokenizer, config, 0, STEPS, 0, 1)


def assert_same_but_for_reasons(one: Batch, other: Batch) -> None:
    named, expected = (
        [sentence.rpartition("/")[2].split(":")[0] for sentence in batch.failures] for batch in (one, other)
    )
    assert named == expected, one.failures
    for name in ("clips", "tokens", "samples"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("workers", [0, 1])
def test_sample_that_hangs_is_replaced_as_one_that_does_not_decode_and_not_tried_again(
    hung: Manifest, batches_without: list[Batch], tokenizer_file: Path, tmp_path: Path, workers: int
) -> None:
    assert sum(len(batch.failures) for batch in batches_without) >= 3
    batches = batches_of(hung, tokenizer_file, SHORT_S, tmp_path / "quarantine")
    found = list(in_steps(batches, 0, 4, workers, pinned=False))
    failures = [sentence for batch in found for sentence in batch.failures]
    assert failures
    assert all("video3.mp4: pyav: not done within 2 s" in sentence for sentence in failures)

    # it would decode now, but what comes in its place has to stay the same, also when the run is resumed
    write_video(hung.path.parent / "video3.mp4", 9, 40, 56)
    resumed = batches_of(hung, tokenizer_file, SHORT_S, tmp_path / "quarantine")
    found += in_steps(resumed, 4, STEPS, workers, pinned=False)
    for batch, expected in zip(found, batches_without, strict=True):
        assert_same_but_for_reasons(batch, expected)
    another_run = batches_of(hung, tokenizer_file, LONG_S, tmp_path / "another")
    assert not any(another_run[step].failures for step in range(STEPS))


@pytest.mark.parametrize("workers", [0, 1])
def test_sample_that_crashes_its_decoder_is_replaced_as_one_that_does_not_decode(
    hung: Manifest, batches_without: list[Batch], tokenizer_file: Path, tmp_path: Path, workers: int
) -> None:
    batches = batches_of(hung, tokenizer_file, LONG_S, tmp_path / "quarantine")
    with crashing(hung.path.parent / "video3.pipe"):
        found = list(in_steps(batches, 0, STEPS, workers, pinned=False))
    for batch, expected in zip(found, batches_without, strict=True):
        assert_same_but_for_reasons(batch, expected)
        assert all("its process died of SIGSEGV" in sentence for sentence in batch.failures)


def test_evaluation_leaves_out_what_hangs(hung: Manifest, tmp_path: Path) -> None:
    section = config_with([]).data
    reader = ClipReader(hung, section, "pyav", None, SHORT_S, Quarantine(tmp_path / "quarantine"))
    chunks = EvaluationClips(reader, section, 2, range(9), chunk=9)
    _, positions, failures, _ = chunks[0]
    assert positions == [0, 1, 2, 4, 5, 6, 7, 8]
    assert len(failures) == 1
    assert chunks[0][1:] == (positions, failures, [])


def test_only_the_window_that_hung_is_not_tried_again(tmp_path: Path) -> None:
    film, quarantine = Source.of("/films/long.mkv"), Quarantine(tmp_path)
    whole, one, other = (
        Sample(0, "a", film, "video", "train", start, end, ("said",))
        for start, end in ((None, None), (None, 5.0), (5.0, None))
    )
    quarantine.add(one, "not done within 120 s")
    assert [quarantine.reason(sample) for sample in (whole, one, other)] == [
        None,
        "not done within 120 s",
        None,
    ]


def test_cache_is_made_without_what_hangs(hung: Manifest, tmp_path: Path) -> None:
    section = config_with([]).data
    folder = ensure_cache(hung, "train", section, "pyav", tmp_path, 1.0, lambda *_: None, timeout_s=SHORT_S)
    reader = ClipReader(hung, section, "pyav", folder, timeout_s=SHORT_S)
    for sample in hung:
        if sample.index == 3:
            with pytest.raises(DecoderDiedError):
                reader.read(sample, range)
        else:
            assert len(reader.read(sample, range))


def test_loader_process_that_dies_is_an_error_with_a_remedy(hung: Manifest, tokenizer_file: Path) -> None:
    batches = batches_of(hung, tokenizer_file)  # the decoder has no process of its own
    with (
        crashing(hung.path.parent / "video3.pipe"),
        pytest.raises(RuntimeError, match=r"loader process died while .* batch \d.*cluster\.loader_workers"),
    ):
        list(in_steps(batches, 0, STEPS, 1, pinned=False))
