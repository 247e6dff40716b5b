"""Batches: a function of the step, whoever makes them, on however many ranks."""

import pickle
import threading
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch.utils.data import Dataset

from mac_ray.config import Config, Data
from mac_ray.data import manifest_writer
from mac_ray.data.clips import ClipReader
from mac_ray.data.decode import AwayError
from mac_ray.data.frame_cache import ensure_cache
from mac_ray.data.loader import Batch, EvaluationClips, TrainingBatches, in_steps
from mac_ray.data.manifest import Manifest, Row
from mac_ray.data.patience import patiently
from mac_ray.data.pool import midpoints
from mac_ray.data.sizes import centre_crop
from mac_ray.data.source import Source
from mac_ray.data.text import CaptionTokenizer
from mac_ray.errors import StorageError, TooManyFailuresError
from tests.data.conftest import config_with, write_media, write_video

STEPS = 7  # of 4 of 9 samples: three epochs and a bit
VARIED = [
    "data.crop_scale=[0.3,1.0]",
    "data.horizontal_flip=true",
    "data.pool_frames=8",
    "data.short_side=20",
]


def batches_of(
    manifests: Sequence[Manifest],
    tokenizer_file: Path,
    config: Config,
    rank: int = 0,
    num_ranks: int = 1,
    stage: int = 0,
    cache: Path | None = None,
) -> TrainingBatches:
    readers = [ClipReader(each, config.data, "pyav", cache) for each in manifests]
    tokenizer = CaptionTokenizer(tokenizer_file, config.data.max_caption_tokens)
    return TrainingBatches(readers, tokenizer, config, stage, STEPS, rank, num_ranks)


def assert_same(one: Batch, other: Batch) -> None:
    for name in ("clips", "tokens", "words", "attended", "samples"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert one.failures == other.failures


def test_batch_has_the_shapes_and_types_it_says(mixed: Manifest, tokenizer_file: Path) -> None:
    batch = batches_of([mixed], tokenizer_file, config_with(VARIED))[0]
    assert (batch.clips.shape, batch.clips.dtype) == ((4, 4, 3, 16, 16), torch.uint8)
    assert batch.tokens.shape == batch.words.shape == batch.attended.shape
    assert (batch.tokens.dtype, batch.words.dtype) == (torch.int64, torch.int64)
    assert batch.attended.dtype == torch.bool
    assert batch.failures == ()


def test_every_sample_is_seen_once_an_epoch_across_batches(mixed: Manifest, tokenizer_file: Path) -> None:
    batches = batches_of([mixed], tokenizer_file, config_with([]))
    seen = torch.cat([batches[step].samples for step in range(STEPS)]).tolist()
    assert len(mixed) == 9
    for epoch in range(3):
        assert sorted(seen[9 * epoch : 9 * epoch + 9]) == list(range(9))
    assert seen[:9] != seen[9:18]


def test_batch_is_the_same_in_any_sequence_fresh_or_pickled(mixed: Manifest, tokenizer_file: Path) -> None:
    config = config_with(VARIED)
    batches = batches_of([mixed], tokenizer_file, config)
    whole = [batches[step] for step in range(STEPS)]
    for step in (5, 0, 6, 2, 2):
        assert_same(batches[step], whole[step])
        assert_same(batches_of([mixed], tokenizer_file, config)[step], whole[step])
        assert_same(pickle.loads(pickle.dumps(batches))[step], whole[step])


@pytest.mark.parametrize("cached", [False, True])
def test_batches_of_loader_processes_are_those_made_here(
    mixed: Manifest, tokenizer_file: Path, tmp_path: Path, cached: bool
) -> None:
    config = config_with(VARIED)
    cache = (
        ensure_cache(mixed, "train", config.data, "pyav", tmp_path, 1.0, lambda *_: None) if cached else None
    )
    batches = batches_of([mixed], tokenizer_file, config, cache=cache)
    ahead = list(in_steps(batches, 2, STEPS, workers=2, pinned=False))
    here = list(in_steps(batches, 2, STEPS, workers=0, pinned=False))
    assert len(ahead) == len(here) == STEPS - 2
    for step, (one, other) in enumerate(zip(ahead, here, strict=True), start=2):
        assert_same(one, other)
        assert_same(one, batches_of([mixed], tokenizer_file, config)[step])


@pytest.mark.parametrize("num_ranks", [2, 3, 4])
def test_batches_of_all_ranks_are_the_batch_of_one_in_order(
    mixed: Manifest, tokenizer_file: Path, num_ranks: int
) -> None:
    config = config_with(VARIED)
    whole = batches_of([mixed], tokenizer_file, config)
    ranks = [batches_of([mixed], tokenizer_file, config, rank, num_ranks) for rank in range(num_ranks)]
    for step in range(STEPS):
        parts = [batches[step] for batches in ranks]
        expected = whole[step]
        assert torch.equal(torch.cat([part.clips for part in parts]), expected.clips)
        assert torch.equal(torch.cat([part.samples for part in parts]), expected.samples)
        # the padding is to each rank's own longest caption
        assert [row[row != 0].tolist() for part in parts for row in part.tokens] == [
            row[row != 0].tolist() for row in expected.tokens
        ]
    assert [part.rows for part in ranks][-1].stop == 4
    assert all(one.rows.stop == other.rows.start for one, other in pairwise(ranks))


def test_draws_differ_between_epochs_seeds_and_stages(mixed: Manifest, tokenizer_file: Path) -> None:
    """The same sample: another crop, other frames, and now and then another caption."""

    def draws(overrides: Sequence[str], stage: int) -> list[tuple[bytes, str]]:
        batches = batches_of([mixed], tokenizer_file, config_with([*VARIED, *overrides]), stage=stage)
        found = []
        for step in range(STEPS):
            batch = batches[step]
            for row in (batch.samples == 4).nonzero()[:, 0].tolist():
                found.append(
                    (batch.clips[row].numpy().tobytes(), str(batch.tokens[row][batch.attended[row]]))
                )
        return found

    found = draws([], 0) + draws(["seed=1"], 0) + draws([], 1)
    assert len(found) >= 9
    assert len({pixels for pixels, _ in found}) == len(found)
    assert len({caption for _, caption in found}) == 3


@pytest.mark.parametrize(
    "overrides", [[], ["data.pool_frames=1", "data.crop_scale=[0.3,1.0]"]], ids=["frames alone", "crop alone"]
)
def test_frames_and_crops_are_drawn_anew_each_by_itself(
    mixed: Manifest, tokenizer_file: Path, overrides: list[str]
) -> None:
    batches = batches_of([mixed], tokenizer_file, config_with(overrides))
    found = {
        batch.clips[row].numpy().tobytes()
        for batch in (batches[step] for step in range(STEPS))
        for row in (batch.samples == 3).nonzero()[:, 0].tolist()
    }
    assert len(found) >= 3


def test_sets_of_a_stage_are_numbered_one_after_the_other(
    mixed: Manifest, tokenizer_file: Path, tmp_path: Path
) -> None:
    other = manifest_writer.write(
        tmp_path / "other.parquet", write_media(tmp_path)[:3], "other", tmp_path
    ).split("train")
    config = config_with([])
    both = batches_of([mixed, other], tokenizer_file, config)
    seen = [both[step] for step in range(3)]
    assert sorted(torch.cat([batch.samples for batch in seen]).tolist()) == list(range(12))
    tokenizer = CaptionTokenizer(tokenizer_file, config.data.max_caption_tokens)
    for batch in seen:
        for row, number in enumerate(batch.samples.tolist()):
            sample = mixed[number] if number < 9 else other[number - 9]
            own = batch.tokens[row][batch.attended[row]].tolist()
            assert own in [tokenizer([caption]).ids[0].tolist() for caption in sample.captions]


@pytest.fixture
def second(tmp_path: Path) -> Manifest:
    """A set of its own, of the first three files."""
    folder = tmp_path / "second"
    folder.mkdir()
    return manifest_writer.write(folder / "set.parquet", write_media(folder)[:3], "second", folder).split(
        "train"
    )


def weighed(first: float, second: float, *overrides: str) -> Config:
    """A first stage of two sets; that they are moving shapes does not count, the test brings its own."""
    sets = ["data.sets.second.kind=moving_shapes", "stages.0.data=[shapes, second]"]
    return config_with([*sets, f"stages.0.mix={{shapes: {first}, second: {second}}}", *overrides])


@pytest.mark.parametrize("num_ranks", [1, 3])
def test_mixed_batches_have_each_set_in_its_share_and_walk_through_it(
    mixed: Manifest, second: Manifest, tokenizer_file: Path, num_ranks: int
) -> None:
    config = weighed(1, 1)
    ranks = [
        batches_of([mixed, second], tokenizer_file, config, rank, num_ranks) for rank in range(num_ranks)
    ]
    seen = [torch.cat([batches[step].samples for batches in ranks]).tolist() for step in range(6)]
    numbers = [number for batch in seen for number in batch]
    assert all(len(batch) == 4 for batch in seen)
    for epoch in range(2):  # of 12, half of each
        assert sum(number < 9 for number in numbers[12 * epoch : 12 * epoch + 12]) == 6
    large, small = ([n for n in numbers if n < 9], [n for n in numbers if n >= 9])
    assert sorted(large[:9]) == list(range(9))
    assert [sorted(small[first : first + 3]) for first in (0, 3, 6, 9)] == [[9, 10, 11]] * 4
    assert any(len({number < 9 for number in batch}) == 2 for batch in seen)


def test_substitutes_in_a_mixed_stage_come_from_the_same_set(
    faulty: Manifest, second: Manifest, tokenizer_file: Path
) -> None:
    batches = batches_of([faulty, second], tokenizer_file, weighed(1, 1))
    found = [batches[step] for step in range(6)]
    numbers = torch.cat([batch.samples for batch in found]).tolist()
    assert sum(len(batch.failures) for batch in found) >= 3
    assert [sum(number < 9 for number in numbers[start : start + 12]) for start in (0, 12)] == [6, 6]


def test_paragraph_batches_have_every_caption_of_a_sample_in_order(
    mixed: Manifest, tokenizer_file: Path
) -> None:
    config = config_with(["data.captions=paragraph"])
    tokenizer = CaptionTokenizer(tokenizer_file, config.data.max_caption_tokens)
    batch = batches_of([mixed], tokenizer_file, config)[0]
    for row, number in enumerate(batch.samples.tolist()):
        own = batch.tokens[row][batch.attended[row]].tolist()
        assert own == tokenizer([" ".join(mixed[number].captions)]).ids[0].tolist()
        assert len(mixed[number].captions) == 3


class Watched(Dataset[int]):
    """Items that say when they are made; the last cannot be."""

    def __init__(self) -> None:
        self.made = [threading.Event() for _ in range(4)]

    def __getitem__(self, number: int) -> int:
        self.made[number].set()
        if number == 3:
            raise TooManyFailuresError("of the last")
        return number


def test_next_item_is_made_while_the_one_before_is_in_use() -> None:
    watched = Watched()
    items = in_steps(watched, 0, 4, workers=0, pinned=False)
    for number in range(3):
        assert next(items) == number
        assert watched.made[number + 1].wait(timeout=20)
        assert not any(event.is_set() for event in watched.made[number + 2 :])
    with pytest.raises(TooManyFailuresError, match="of the last"):
        next(items)


def test_memory_stays_level_over_many_samples(mixed: Manifest, tokenizer_file: Path, tmp_path: Path) -> None:
    """A copy of what is decoded of a sample, kept, would be 60 MB here."""
    batches = batches_of([mixed], tokenizer_file, config_with(VARIED))
    for step in range(100):
        batches[step]
    before = psutil.Process().memory_info().rss
    for step in range(100, 400):
        batches[step]
    assert psutil.Process().memory_info().rss - before < 10e6


# ---------------------------------------------------------------- what does not decode


@pytest.fixture
def faulty(tmp_path: Path) -> Manifest:
    """Two of nine samples cannot be decoded, and a third is gone."""
    rows = write_media(tmp_path)
    (tmp_path / "video3.mp4").write_text("not media at all")
    (tmp_path / "image1.png").write_bytes((tmp_path / "image1.png").read_bytes()[:60])
    (tmp_path / "video5.mp4").unlink()
    return manifest_writer.write(tmp_path / "faulty.parquet", rows, "faulty", tmp_path).split("train")


def test_undecodable_samples_are_replaced_the_same_way_and_named(
    faulty: Manifest, tokenizer_file: Path, tmp_path: Path
) -> None:
    config = config_with(VARIED)
    cache = ensure_cache(faulty, "train", config.data, "pyav", tmp_path / "cache", 1.0, lambda *_: None)
    makers = [
        batches_of([faulty], tokenizer_file, config),
        batches_of([faulty], tokenizer_file, config, cache=cache),
    ]
    named: set[str] = set()
    for step in (3, 0, 1, 2):
        first, second = (batches[step] for batches in makers)
        assert_same(first, second)
        assert not {3, 5, 8} & set(first.samples.tolist())
        assert len(first.samples) == 4
        named.update(sentence.split(":")[0].rpartition("/")[2] for sentence in first.failures)
    assert named == {"video3.mp4", "image1.png", "video5.mp4"}


def test_substitutes_do_not_depend_on_the_number_of_ranks(faulty: Manifest, tokenizer_file: Path) -> None:
    config = config_with([])
    whole = batches_of([faulty], tokenizer_file, config)
    ranks = [batches_of([faulty], tokenizer_file, config, rank, 3) for rank in range(3)]
    failures = 0
    for step in range(STEPS):
        parts = [batches[step] for batches in ranks]
        assert torch.equal(torch.cat([part.clips for part in parts]), whole[step].clips)
        assert tuple(sentence for part in parts for sentence in part.failures) == whole[step].failures
        failures += len(whole[step].failures)
    assert failures >= 6


def test_set_of_which_nothing_decodes_stops_with_an_error(tokenizer_file: Path, tmp_path: Path) -> None:
    rows = [Row(f"{n}", Path(f"{n}.mp4"), "video", "train", ("c",)) for n in range(5)]
    gone = manifest_writer.write(tmp_path / "gone.parquet", rows, "gone", tmp_path).split("train")
    batches = batches_of([gone], tokenizer_file, config_with([]))
    with pytest.raises(TooManyFailuresError, match=r"20 samples .* the last is .*\d\.mp4 \(no such file\)"):
        batches[0]


# ---------------------------------------------------------------- evaluation


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_clips_are_middle_frames_cropped_at_the_centre(mixed: Manifest, workers: int) -> None:
    section = config_with(["data.short_side=20"]).data
    reader = ClipReader(mixed, section, "pyav", None)
    chunks = EvaluationClips(reader, section, 4, range(1, 8), chunk=3)
    found = list(in_steps(chunks, 0, len(chunks), workers, pinned=False))
    assert [list(chunk.positions) for chunk in found] == [[1, 2, 3], [4, 5, 6], [7]]
    for clips, positions, failures, shortened in found:
        assert not failures
        assert not shortened
        for clip, position in zip(clips, positions, strict=True):
            pixels = centre_crop(reader.read(mixed[position], lambda size: midpoints(size, 4)), 16)
            assert torch.equal(clip, torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2))


def test_evaluation_leaves_out_and_names_what_does_not_decode(faulty: Manifest) -> None:
    section = config_with([]).data
    chunks = EvaluationClips(ClipReader(faulty, section, "pyav", None), section, 2, range(9), chunk=4)
    found = [chunks[number] for number in range(len(chunks))]
    assert [chunk.positions for chunk in found] == [[0, 1, 2], [4, 6, 7], []]
    assert [len(chunk.failures) for chunk in found] == [1, 1, 1]
    assert [len(chunk.clips) for chunk in found] == [3, 3, 0]


def unreadable(folder: Path) -> Manifest:
    """Of clips that give an error of input and output, as on a mount whose server does not answer."""
    (folder / "clip.mp4").symlink_to("/proc/self/mem")
    rows = [Row(str(number), Path("clip.mp4"), "video", "train", ("c",)) for number in range(2)]
    return manifest_writer.write(folder / "set.parquet", rows, "set", folder).split("train")


def test_storage_that_is_away_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    manifest = unreadable(tmp_path)
    write_video(tmp_path / "sound.mp4", 5, 32, 32)
    back = threading.Timer(0.5, (tmp_path / "sound.mp4").replace, [tmp_path / "clip.mp4"])
    back.start()
    reader = ClipReader(manifest, Data(), "pyav", None)
    assert len(patiently(partial(reader.read, manifest[0], range))) == 5
    back.join()


def test_storage_that_stays_away_is_no_fault_of_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mac_ray.data.patience.PAUSES_S", (0.01, 0.01))
    manifest = unreadable(tmp_path)
    reader = ClipReader(manifest, Data(), "pyav", None)
    with pytest.raises(
        StorageError, match=r"clip\.mp4 cannot be read \(Input/output error\), tried for .*storage"
    ):
        patiently(partial(reader.read, manifest[0], range))


def test_storage_that_hangs_is_not_asked_longer_than_one_that_says_that_it_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mac_ray.data.patience.PAUSES_S", (0.01,) * 100)
    monkeypatch.setattr("mac_ray.data.patience.LONGEST_S", 0.3)
    waited = [0.0]
    clock = SimpleNamespace(monotonic=lambda: sum(waited), sleep=waited.append)
    monkeypatch.setattr("mac_ray.data.patience.time", clock)
    tries = []

    def hangs() -> None:
        tries.append(clock.monotonic())
        clock.sleep(0.2)
        raise AwayError(Source("/clip.mp4"), "cannot be read")

    with pytest.raises(StorageError, match="tried for"):
        patiently(hangs)
    assert tries == pytest.approx([0.0, 0.21])


class Away(Dataset[int]):
    def __getitem__(self, number: int) -> int:
        raise StorageError("the bucket gives nothing")


@pytest.mark.parametrize("workers", [0, 1])
def test_storage_that_stays_away_is_told_in_its_sentence_also_from_a_loader_process(workers: int) -> None:
    with pytest.raises(StorageError, match=r"^the bucket gives nothing$"):
        next(in_steps(Away(), 0, 4, workers=workers, pinned=False))
