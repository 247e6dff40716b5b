"""What is said about sizes, and that readers and benchmarks mean the same test splits."""

import logging
from pathlib import Path

import pytest

from mac_ray.data.manifest import Row
from mac_ray.data.readers import activitynet, didemo, lsmdc, msrvtt, msvd
from mac_ray.data.readers.published import NAMED, Published, left_out
from mac_ray.retrieval.benchmarks import BENCHMARKS

ROWS = [
    Row(f"{number}", Path("a.mp4"), "video", "train" if number else "test", ("c", "d")) for number in range(4)
]


@pytest.mark.parametrize(
    ("published", "said"),
    [
        (
            Published({"train": 3, "test": 1}, "a paper"),
            ["set: as large as published: 3 train, 1 test (a paper)"],
        ),
        (
            Published({"train": 5, "test": 1}, "a paper"),
            ["set: train has 3 samples; published are 5 (a paper)"],
        ),
        (Published({"val": 1}, "a paper"), ["set: val has 0 samples; published are 1 (a paper)"]),
        (
            Published({"train": 3}, "a paper", captions={"train": 6, "test": 1}),
            ["set: test has 2 captions; published are 1 (a paper)"],
        ),
    ],
)
def test_rows_pass_through_and_their_numbers_are_compared(
    published: Published, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert list(published.compared("set", ROWS)) == ROWS
    assert caplog.messages == said


def test_left_out_ids_are_named_up_to_a_number_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    left_out("set", "ids are gone", [])
    assert not caplog.messages
    left_out("set", "ids are gone", [f"id{number}" for number in range(1000 + NAMED)])
    (said,) = caplog.messages
    assert said.startswith("set: 1,020 ids are gone: id0, id1, ")
    assert said.endswith(f"id{NAMED - 1} and 1,000 more")


def test_readers_and_benchmarks_have_the_same_test_splits() -> None:
    published = {
        "msrvtt_1ka": msrvtt.PUBLISHED["9k"],
        "msrvtt_1kb": msrvtt.PUBLISHED["1k-B"],
        "msrvtt_full": msrvtt.PUBLISHED["full"],
        "msvd": msvd.PUBLISHED,
        "msvd_every_caption": msvd.PUBLISHED,
        "didemo_paragraph": didemo.PUBLISHED,
        "activitynet_paragraph": activitynet.PUBLISHED["val_1"],
        "lsmdc_1k": lsmdc.PUBLISHED,
    }
    for name, of_reader in published.items():
        benchmark = BENCHMARKS[name]
        assert benchmark.samples == of_reader.sizes["test"], name
        assert of_reader.captions.get("test", benchmark.captions) == benchmark.captions, name
    assert msrvtt.PUBLISHED["7k"].sizes["test"] == 1000
