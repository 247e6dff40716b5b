"""What is told of captions, against counts made by hand."""

from pathlib import Path

from mac_ray.prepare.captions import Spread, captions_of, num_words
from tests.prepare.made import make_manifest


def test_captions_of_several_samples_are_ties_and_repeats_within_one_are_not(tmp_path: Path) -> None:
    manifest = make_manifest(
        tmp_path / "media",
        ("a.mp4", "train", ["a dog runs", "a dog runs", "he said"]),
        ("b.mp4", "train", ["a dog runs", "snow"]),
        ("c.mp4", "train", ["snow", "Snow"]),
        ("d.mp4", "train", ["alone", "alone"]),
    )
    told = captions_of(manifest.table)
    assert told.count == 9
    assert told.per_sample == Spread(2, 9 / 4, 3)
    assert told.words == Spread(1, (3 * 3 + 2 + 5) / 9, 3)
    # "a dog runs" thrice, of two samples; "snow" twice
    assert (told.tied, told.tied_texts) == (5, 2)
    assert {tie.caption: (tie.samples, tie.ids) for tie in told.tied_examples} == {
        "a dog runs": (2, ["a", "b"]),
        "snow": (2, ["b", "c"]),
    }


def test_words_are_what_splitting_at_blanks_gives(tmp_path: Path) -> None:
    said = ["one", "two\n words", "  three of  them ", "a, comma . and — dash"]
    manifest = make_manifest(tmp_path / "media", ("a.mp4", "train", said))
    assert num_words(manifest.table).tolist() == [len(caption.split()) for caption in said]
