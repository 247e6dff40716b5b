"""Similarities of masked views against plain loops, and what decides which views there are."""

import math
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.multiprocessing import start_processes

from mac_ray.config import Config, ConfigError
from mac_ray.config import file as config_file
from mac_ray.data.text import CaptionTokenizer
from mac_ray.model.dual import DualEncoder, build_model
from mac_ray.training.distributed import Worker
from mac_ray.training.evaluation import embed_split
from mac_ray.training.hiding import open_lexicon
from mac_ray.training.inputs import reader
from mac_ray.training.masked_views import (
    PREFIX,
    ViewEmbeddings,
    embed_views,
    masked_view_metrics,
    similarities,
)
from mac_ray.training.start import PreparedRun, prepare

VIEWS = "evaluation.masked_views={videos: 7, masks: 5}"


def units(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator) + 0.3, dim=-1)


def test_similarities_are_those_of_plain_loops() -> None:
    samples, masks, size = 4, 3, 5
    views = ViewEmbeddings(
        units(samples, size),
        units(samples, size) * -1,
        units(samples, masks, size),
        units(samples, masks, size),
    )
    # every comparison as a function of (sample, other sample, mask)
    compared = {
        "video": lambda one, other, mask: views.masked_video[one, mask] @ views.video[other],
        "text": lambda one, other, mask: views.masked_text[one, mask] @ views.text[other],
        "video_text": lambda one, other, mask: views.masked_video[one, mask] @ views.masked_text[other, mask],
        "full_video_text": lambda one, other, mask: views.video[one] @ views.text[other],
    }
    found = similarities(views)
    for name, cosine in compared.items():
        same, others, spreads = [], [], []
        for one in range(samples):
            own = [float(cosine(one, one, mask)) for mask in range(masks)]
            mean = sum(own) / masks
            same += own
            spreads.append(math.sqrt(sum((value - mean) ** 2 for value in own) / masks))
            for other in range(samples):
                if other != one:
                    others += [float(cosine(one, other, mask)) for mask in range(masks)]
        assert found.pop(name) == pytest.approx(sum(same) / len(same), abs=1e-6)
        assert found.pop(f"{name}_others") == pytest.approx(sum(others) / len(others), abs=1e-6)
        if name != "full_video_text":  # which no mask touches
            assert found.pop(f"{name}_spread") == pytest.approx(sum(spreads) / samples, abs=1e-6)
    assert not found


# ---------------------------------------------------------------- which views


def prepared(overrides: list[str]) -> PreparedRun:
    return prepare(config_file.load(None, [VIEWS, *overrides]), Path.cwd(), Path.cwd(), lambda *_: None)


def opened(config: Config, run: PreparedRun) -> tuple[DualEncoder, CaptionTokenizer]:
    tokenizer = CaptionTokenizer(run.folder.tokenizer, config.data.max_caption_tokens)
    model = build_model(
        config.model, config.data, tokenizer.vocabulary_size, tokenizer.pad_token, config.seed
    )
    return model.train(), tokenizer


def measured(
    run: PreparedRun, stage: int = 0, step: int = 0, worker: Worker | None = None
) -> dict[str, float]:
    config = run.config
    model, tokenizer = opened(config, run)
    val = reader(run.data.val, "val", config, lambda *_: None)
    lexicon = open_lexicon(config, run.folder, tokenizer)
    values = masked_view_metrics(
        model, val, tokenizer, lexicon, config, run.plan[stage], step, worker or Worker()
    )
    assert model.training
    return {name.removeprefix(PREFIX): value for name, value in values.items()}


def test_views_are_a_function_of_seed_and_step(tiny_overrides: list[str]) -> None:
    run = prepared(tiny_overrides)
    assert measured(run, step=3) == measured(run, step=3)
    assert measured(run, step=3)["video_text"] != measured(run, step=4)["video_text"]
    other = prepared([*tiny_overrides, "seed=1"])
    assert measured(other, step=3)["video_text"] != measured(run, step=3)["video_text"]


def test_views_of_what_is_not_hidden_are_the_full_view(tiny_overrides: list[str]) -> None:
    run = prepared([*tiny_overrides, "masking.video.strategy=none", "masking.text.ratio=0.5"])
    found = measured(run)
    assert (found["video"], found["video_spread"]) == (pytest.approx(1), pytest.approx(0, abs=1e-6))
    assert found["text"] < 0.999
    assert found["text_spread"] > 1e-4


def test_views_hide_as_the_stage_does_and_as_the_top_level_where_that_hides_nothing(
    tiny_overrides: list[str],
) -> None:
    run = prepared([*tiny_overrides, "stages.0.masking={video: {ratio: 0.95}, text: {strategy: none}}"])
    top = prepared([*tiny_overrides, "masking.video.ratio=0.6"])
    first, tail = measured(run, stage=0), measured(run, stage=1)
    assert tail == measured(top, stage=0)  # the tail hides nothing
    assert first["video"] < tail["video"]
    assert first["text"] == pytest.approx(1)
    assert tail["text"] < 0.9999


@pytest.mark.parametrize("strategy", ["frame", "attention_hide_high", "resize"])
def test_views_hide_by_any_strategy_at_the_ratio_of_the_moment(
    tiny_overrides: list[str], strategy: str
) -> None:
    masking = [
        f"masking.video.strategy={strategy}",
        "masking.video.ratio={shape: linear, start: 0.0, end: 0.75}",
        "masking.text={strategy: span, ratio: 0.5}",
    ]
    run = prepared([*tiny_overrides, *masking])
    first, last = measured(run, step=0), measured(run, step=run.plan[0].last)
    assert first["video"] == pytest.approx(1)
    assert last["video"] < 0.9999
    assert last["text_spread"] > 1e-4


def test_views_of_the_tail_hide_words_by_how_frequent_they_are(tiny_overrides: list[str]) -> None:
    stages = ["stages.0.masking.text={strategy: whole_word, ratio: 0}"]
    masking = ["masking.text={strategy: frequency, ratio: 0.5}"]
    found = measured(prepared([*tiny_overrides, *stages, *masking]), stage=1)
    assert found["text"] < 0.999
    assert found["text_spread"] > 1e-4


def test_full_views_are_the_embeddings_that_are_scored(tiny_overrides: list[str]) -> None:
    run = prepared(tiny_overrides)
    config, section = run.config, run.config.evaluation.masked_views
    assert section is not None
    model, tokenizer = opened(config, run)
    val = reader(run.data.val, "val", config, lambda *_: None)
    lexicon = open_lexicon(config, run.folder, tokenizer)
    views = embed_views(model, val, tokenizer, lexicon, section, config, run.plan[0], 0, Worker())
    scored = embed_split(model, val, tokenizer, config, Worker())
    assert views.masked_video.shape == views.masked_text.shape == (7, 5, config.model.embedding_size)
    torch.testing.assert_close(views.video, scored.video[:7])
    torch.testing.assert_close(views.text, scored.text[:7])  # one caption of each is scored


def _rank(rank: int, overrides: list[str], folder: Path, num_ranks: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=num_ranks
    )
    torch.save(measured(prepared(overrides), step=3, worker=Worker(rank, num_ranks)), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_views_of_two_ranks_in_chunks_are_those_of_one(tiny_overrides: list[str], tmp_path: Path) -> None:
    alone = measured(prepared(tiny_overrides), step=3)
    # 4 and 3 samples, in chunks of 2
    in_chunks = [*tiny_overrides, "evaluation.batch_size=2"]
    start_processes(_rank, (in_chunks, tmp_path, 2), 2, start_method="forkserver")
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(alone, abs=1e-5)


# ---------------------------------------------------------------- bad input


def test_views_when_nothing_is_ever_hidden_are_refused(tiny_overrides: list[str]) -> None:
    hiding_nothing = ["masking.video.strategy=none", "masking.text.ratio=0"]
    with pytest.raises(ConfigError, match=r"evaluation\.masked_views compares .* stages\.0"):
        prepared([*tiny_overrides, *hiding_nothing])
    config_file.load(
        None, [*tiny_overrides, *hiding_nothing]
    )  # without views it is an experiment like others


def test_views_of_more_videos_than_there_are_are_refused(tiny_overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"masked_views\.videos is 9, .* shapes has only 8 samples"):
        prepared([*tiny_overrides, "evaluation.masked_views.videos=9"])


def test_views_of_frames_that_evaluation_does_not_have_are_refused(tiny_overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"masking\.video\.strategy 'motion' .* evaluation\.frames is 1"):
        prepared([*tiny_overrides, "masking.video.strategy=motion", "evaluation.frames=1"])


def test_identity_of_a_run_knows_what_its_views_hide(tiny_overrides: list[str]) -> None:
    # so that the top level is for the tail's views alone
    fixed = ["stages.0.masking.video.ratio=0.5", "stages.1.masking.video.ratio=0.5"]
    runs = [[VIEWS, *tiny_overrides, *fixed, f"masking.video.ratio={ratio}"] for ratio in (0.6, 0.9)]
    one, other = (config_file.load(None, overrides) for overrides in runs)
    assert one.identity({"shapes": "0"}) != other.identity({"shapes": "0"})
    plain = (config_file.load(None, overrides[1:]) for overrides in runs)
    assert len({config.identity({"shapes": "0"}) for config in plain}) == 1
