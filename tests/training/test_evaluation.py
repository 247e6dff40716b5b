"""Embeddings of a split, against one clip at a time and its frames by hand."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from mac_ray.config import ClipSampling, Config
from mac_ray.config import file as config_file
from mac_ray.data.clips import ClipReader
from mac_ray.data.manifest import Manifest
from mac_ray.data.sizes import centre_crop
from mac_ray.data.text import CaptionTokenizer
from mac_ray.model.dual import DualEncoder, build_model
from mac_ray.retrieval.protocols import PROTOCOLS
from mac_ray.training.distributed import Worker
from mac_ray.training.evaluation import captions_of, embed_split, sampled_anew, score_test, score_val
from mac_ray.training.inputs import open_data
from mac_ray.training.results import named, scored_set
from mac_ray.training.start import prepare


@pytest.fixture
def config(tiny_overrides: list[str]) -> Config:
    # batches that do not come out even, and clips longer than what is taken of them
    return config_file.load(
        None, [*tiny_overrides, "evaluation.batch_size=3", "data.sets.shapes.frames=7", "model.video.depth=1"]
    )


@pytest.fixture
def test_split(config: Config) -> Manifest:
    return open_data(config, lambda *_: None).test


@pytest.fixture
def tokenizer(config: Config) -> CaptionTokenizer:
    run = prepare(config, Path.cwd(), Path.cwd(), lambda *_: None)
    return CaptionTokenizer(run.folder.tokenizer, config.data.max_caption_tokens)


@pytest.fixture
def model(config: Config, tokenizer: CaptionTokenizer) -> DualEncoder:
    return build_model(config.model, config.data, tokenizer.vocabulary_size, tokenizer.pad_token, seed=0)


def reader_of(manifest: Manifest, config: Config) -> ClipReader:
    return ClipReader(manifest, config.data, "pyav", None)


@pytest.mark.parametrize(("frames", "windows"), [(2, 1), (2, 2), (4, 3), (1, 4), (3, 5)])
def test_windows_are_shifted_over_the_whole_clip_and_averaged(
    config: Config,
    test_split: Manifest,
    tokenizer: CaptionTokenizer,
    model: DualEncoder,
    frames: int,
    windows: int,
) -> None:
    reader = reader_of(test_split, config)
    main = embed_split(model, reader, tokenizer, config, Worker())
    found = sampled_anew(main, ClipSampling(frames=frames, windows=windows), model, reader, config, Worker())
    assert found.video_ids == main.video_ids
    assert torch.equal(found.text, main.text)
    model.eval()
    for row, sample in enumerate(test_split):
        whole = reader.read(sample, lambda size: range(size))
        total = torch.zeros(config.model.embedding_size)
        for window in range(windows):
            # the window's place within every interval, as a share of the clip
            shares = [(frame + (window + 0.5) / windows) / frames for frame in range(frames)]
            pixels = centre_crop(whole[[int(share * len(whole)) for share in shares]], config.data.image_size)
            clip = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2)[None]
            with torch.no_grad():
                total += model.encode_video(clip)[0]
        torch.testing.assert_close(found.video[row], F.normalize(total, dim=0), rtol=1e-4, atol=1e-5)


def test_one_window_of_the_usual_frames_is_the_usual_embedding(
    config: Config, test_split: Manifest, tokenizer: CaptionTokenizer, model: DualEncoder
) -> None:
    reader = reader_of(test_split, config)
    main = embed_split(model, reader, tokenizer, config, Worker())
    again = sampled_anew(main, ClipSampling(frames=4), model, reader, config, Worker())
    assert torch.equal(again.video, main.video)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_texts_of_a_protocol_are_those_it_scores(test_split: Manifest, protocol: str) -> None:
    texts, owners = captions_of(test_split, PROTOCOLS[protocol])
    expected = []
    for position, sample in enumerate(test_split):
        assert len(sample.captions) > 1
        if protocol in ("one_caption", "msrvtt_1ka", "msrvtt_1kb", "lsmdc_1k", "moving_shapes"):
            expected.append((sample.captions[0], position))
        elif "paragraph" in protocol:
            expected.append((" ".join(sample.captions), position))
        elif protocol in ("flickr30k_1k", "coco_5k"):
            expected += [(caption, position) for caption in sample.captions[:5]]
        else:
            expected += [(caption, position) for caption in sample.captions]
    assert list(zip(texts, owners, strict=True)) == expected


def test_truncated_texts_are_counted_over_the_split(
    config: Config, test_split: Manifest, tokenizer: CaptionTokenizer, model: DualEncoder, tmp_path: Path
) -> None:
    reader = reader_of(test_split, config)
    lengths = [len(tokenizer([text]).ids[0]) for text in captions_of(test_split, PROTOCOLS["one_caption"])[0]]
    limit = sorted(lengths)[len(lengths) // 2]
    path = Path(config.storage.runs)
    (file,) = path.glob("*/tokenizer.json")
    for most, expected in ((limit, sum(length > limit for length in lengths) / len(lengths)), (64, 0.0)):
        short = CaptionTokenizer(file, most)
        assert embed_split(model, reader, short, config, Worker()).truncated == expected


def test_part_of_a_benchmark_is_scored_under_its_name_with_its_coverage(
    config: Config, test_split: Manifest, tokenizer: CaptionTokenizer, model: DualEncoder
) -> None:
    section = config.evaluation.model_copy(update={"protocol": "moving_shapes", "allow_missing": True})
    config = config.model_copy(update={"evaluation": section})
    embeddings = embed_split(model, reader_of(test_split, config), tokenizer, config, Worker())
    scores = score_test(embeddings, config)
    assert (scores.decoded, scores.expected) == (len(test_split), 500)
    # the val split has no size of its own to be
    assert score_val(embeddings, config).coverage == 1.0
    name = scored_set(config, config.evaluation.sampling)
    assert named(name, scores, 0.0)["moving_shapes/coverage"] == len(test_split) / 500
    assert scored_set(config, ClipSampling(frames=1, windows=3)) == "moving_shapes-1x3"
