"""YAML files and overrides: precedence, round trips, and what is said about mistakes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mac_ray.config import Config, ConfigError, Schedule, value_at
from mac_ray.config.file import load, path_and_overrides, to_yaml

CONFIGS = Path(__file__).parents[2] / "configs"
SET = "data.sets.new={kind: manifest, path: new.parquet}"


def written(folder: Path, text: str) -> Path:
    path = folder / "given.yaml"
    path.write_text(text)
    return path


def message(path: Path | None = None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(path, overrides)
    return str(raised.value)


# ---------------------------------------------------------------- what is loaded


def test_load_of_nothing_is_the_embedded_default() -> None:
    assert load() == Config()


def test_load_takes_overrides_over_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 1\nmasking: {video: {ratio: 0.3, order: sorted}}")
    config = load(path, ["masking.video.ratio=0.4", "masking.video.ratio=0.5"])
    assert config.seed == 1
    assert config.masking.video.ratio == 0.5  # the later override
    assert config.masking.video.order == "sorted"  # untouched by the overrides
    assert config.masking.text == Config().masking.text


def test_load_of_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert load(written(tmp_path, "# nothing yet\n")) == Config()


def test_override_into_a_default_stage_keeps_the_rest_of_the_stages() -> None:
    config = load(None, ["stages.0.epochs=2", "stages.1.masking.text.ratio=0.3"])
    first, second = Config().stages
    assert config.stages[0] == first.model_copy(update={"epochs": 2.0})
    assert config.stages[1].masking == {**second.masking, "text": {"strategy": "none", "ratio": 0.3}}


def test_override_into_a_stage_of_a_file_changes_that_stage(tmp_path: Path) -> None:
    path = written(tmp_path, "stages: [{name: only, data: [shapes], epochs: 5}]")
    config = load(path, ["stages.0.epochs=2", "stages.0.masking.video.ratio=0.5"])
    (stage,) = config.stages
    assert (stage.name, stage.epochs, stage.masking) == ("only", 2.0, {"video": {"ratio": 0.5}})


def test_override_into_a_set_keeps_the_rest_of_it(tmp_path: Path) -> None:
    path = written(tmp_path, "data: {sets: {shapes: {kind: moving_shapes, val: 33}}}")
    for source, val in ((None, 200), (path, 33)):
        shapes: Any = load(source, ["data.sets.shapes.train=100"]).data.sets["shapes"]
        assert (shapes.train, shapes.val) == (100, val)


@pytest.mark.parametrize(
    "text", ["", "data: {image_size: 32}", "data: {sets: {shapes: {kind: moving_shapes}}}"]
)
@pytest.mark.parametrize(
    "overrides", [["data.sets.new.kind=manifest", "data.sets.new.path=new.parquet"], [SET]]
)
def test_override_of_an_absent_set_adds_it(tmp_path: Path, text: str, overrides: list[str]) -> None:
    sets = load(written(tmp_path, text), overrides).data.sets
    assert set(sets) == {"shapes", "new"}
    assert sets["new"].model_dump() == {"kind": "manifest", "path": "new.parquet", "root": None}


@pytest.mark.parametrize("text", ["data:", "data: {sets: }", "stages:"])
def test_override_into_what_a_file_leaves_blank_starts_from_the_default(tmp_path: Path, text: str) -> None:
    config = load(written(tmp_path, text), ["data.sets.shapes.val=7", "stages.0.epochs=1"])
    assert config == load(None, ["data.sets.shapes.val=7", "stages.0.epochs=1"])


def test_override_with_null_switches_an_optional_value_off() -> None:
    assert load(None, ["optimizer.clip_norm=null"]).optimizer.clip_norm is None


def test_override_into_a_section_that_is_null_switches_it_on(tmp_path: Path) -> None:
    path = written(tmp_path, "objectives: {contrastive: null}")
    section = load(path, ["objectives.contrastive.temperature=0.1"]).objectives.contrastive
    assert section is not None
    assert section.temperature == 0.1


def test_override_holding_an_equals_sign_is_cut_at_the_first() -> None:
    assert load(None, ["tracking.uri=postgresql://u:p@h/db?a=b"]).tracking.uri == "postgresql://u:p@h/db?a=b"


@pytest.mark.parametrize("plain", ["1e-4", "1.e-4", "1.0e-4", ".0001", "0.0001", "1E-4"])
def test_load_reads_every_way_to_write_a_small_number(tmp_path: Path, plain: str) -> None:
    path = written(tmp_path, f"optimizer: {{learning_rate: {plain}}}\ntracking: {{uri: '{plain}'}}")
    config = load(path)
    assert config.optimizer.learning_rate == 1e-4
    assert config.tracking.uri == plain  # quoted, so text


@pytest.mark.parametrize("plain", ["no", "on", "Yes", "1:30", "2026-01-02", "0x10", "010", "1_000"])
def test_load_takes_what_only_old_yaml_reads_otherwise_as_text(tmp_path: Path, plain: str) -> None:
    assert load(written(tmp_path, f"tracking: {{experiment: {plain}}}")).tracking.experiment == plain
    assert load(None, [f"tracking.experiment={plain}"]).tracking.experiment == plain


def test_load_follows_anchors_and_merge_keys(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "stages:\n  - &first {name: a, data: [shapes], epochs: 3, frames: 2}\n  - {<<: *first, name: b, epochs: 1}\n",
    )
    assert [(s.name, s.epochs, s.frames) for s in load(path).stages] == [("a", 3, 2), ("b", 1, 2)]


# ---------------------------------------------------------------- the files of this repository


def test_shapes_config_is_the_embedded_default_in_full() -> None:
    assert load(CONFIGS / "shapes.yaml") == Config()
    assert yaml.safe_load((CONFIGS / "shapes.yaml").read_text()) == Config().model_dump(mode="json")


def test_every_config_written_out_loads_as_the_same(tmp_path: Path) -> None:
    paths = sorted(CONFIGS.glob("*.yaml"))
    assert {"shapes.yaml", "ablation.yaml"} <= {path.name for path in paths}
    for path in paths:
        config = load(path)
        again = load(written(tmp_path, to_yaml(config)))
        prints = dict.fromkeys(config.data.sets, "a fingerprint")
        assert again == config, path.name
        assert again.identity(prints) == config.identity(prints), path.name


def test_written_out_text_that_looks_like_another_type_stays_text(tmp_path: Path) -> None:
    for text in ("null", "true", "12", "1e-4", "no", "", "a: b", "ü"):
        config = Config.model_validate({"tracking": {"experiment": text}})
        assert load(written(tmp_path, to_yaml(config))) == config


def test_ablation_config_masks_every_stage_but_the_last_as_the_top_level_says() -> None:
    config = load(CONFIGS / "ablation.yaml", ["masking.video.ratio=0.35"])
    *masked, tail = [config.stage_masking(stage) for stage in config.stages]
    assert masked
    assert all((m.video.strategy, m.video.ratio) == ("random", 0.35) for m in masked)
    assert (tail.video.strategy, tail.text.strategy) == ("none", "none")


def test_mac_config_is_the_curriculum_of_the_paper() -> None:
    """MAC sections 3.3 and 4.1: one frame of two sets, four of one, fine-tuning unmasked, 4 and 8 frames."""
    config = load(CONFIGS / "mac.yaml")
    images, videos, tuned = config.stages
    assert [(stage.frames, stage.batch_size, stage.epochs) for stage in config.stages] == [
        (1, 2048, 20),
        (4, 1024, 2),
        (4, 128, 50),
    ]
    assert (set(images.data), images.mix) == ({"webvid2m", "cc3m"}, None)  # in proportion to their sizes
    assert (videos.data, tuned.data) == (("webvid2m",), (config.evaluation.data,))
    rates = [config.stage_optimizer(stage).learning_rate for stage in config.stages]
    assert rates == [1e-4, 3e-5, 3e-5]
    hidden = [config.stage_masking(stage) for stage in config.stages]
    assert [masking.video.strategy for masking in hidden] == ["random", "random", "none"]
    assert [masking.text.strategy for masking in hidden] == ["whole_word", "whole_word", "none"]
    ratios = [(masking.video.ratio, masking.text.ratio) for masking in hidden[:2]]
    assert ratios == [(0.6, 0.15)] * 2
    assert config.model.video.inflate == "zeros"
    assert {config.evaluation.sampling.frames, *(other.frames for other in config.evaluation.also)} == {4, 8}


def test_mac_config_leaves_nothing_of_the_recipe_to_defaults() -> None:
    """Frozen's and MCQ's where the paper is silent; another default may not change what is reproduced."""
    config = load(CONFIGS / "mac.yaml")
    contrast = config.objectives.contrastive
    assert contrast is not None
    assert (contrast.temperature, contrast.learn_temperature, contrast.directions) == (0.05, False, "sum")
    assert (config.data.crop_scale, config.data.horizontal_flip) == ((0.5, 1.0), True)
    for stage, schedule in zip(config.stages, ("step", "step", "constant"), strict=True):
        rates = config.stage_optimizer(stage)
        assert (rates.schedule, rates.milestones, rates.decay) == (schedule, (0.6, 0.8), 0.1)
        assert (rates.warmup, rates.weight_decay, rates.eps, rates.clip_norm) == (0.0, 0.0, 1e-6, None)
    assert [stage.fresh_optimizer for stage in config.stages] == [False, True, True]
    video = config.model.video
    assert (video.pixels, video.residual, video.temporal_init) == ("half", "frozen", "copy_spatial")


def test_mac_config_fine_tunes_on_eight_frames_by_what_its_header_says() -> None:
    header = (CONFIGS / "mac.yaml").read_text()
    given = ["stages.2.frames=8", "model.video.max_frames=8", "evaluation.frames=8", "evaluation.also=[]"]
    assert " ".join(given) in header
    config = load(CONFIGS / "mac.yaml", given)
    assert [stage.frames for stage in config.stages] == [1, 4, 8]
    assert config.evaluation.sampling.frames == 8


# ---------------------------------------------------------------- mistakes

RATIO = "give a number, at least 0 and below 1, or a section with any of shape, start, end, at"
MISTAKES = {
    "masking.video.rato=0.5": "unknown key masking.video.rato; did you mean 'ratio'?",
    "masking.ratio=0.5": (
        "unknown key masking.ratio; did you mean masking.video.ratio or masking.text.ratio?"
    ),
    "stages.0.masking.video.rtio=1": "unknown key stages.0.masking.video.rtio; did you mean 'ratio'?",
    "stages.0.masking.order=sorted": (
        "unknown key stages.0.masking.order; did you mean stages.0.masking.video.order?"
    ),
    "stages.0.optimizer.colour=red": (
        "unknown key stages.0.optimizer.colour; the keys here are learning_rate, schedule, warmup, "
        "milestones, decay, final, weight_decay, betas, eps, clip_norm, tower_rates"
    ),
    "stages.0.epoch=1": "unknown key stages.0.epoch; did you mean 'epochs'?",
    "data.sets.shapes.trian=9": "unknown key data.sets.shapes.trian; did you mean 'train'?",
    "masking.video.ratio=1": f"masking.video.ratio is 1; {RATIO}",
    "masking.video.ratio=half": f"masking.video.ratio is 'half'; {RATIO}",
    "stages.0.masking.video.ratio=2": f"stages.0.masking.video.ratio is 2; {RATIO}",
    "masking.text.ratio=null": f"masking.text.ratio is null; {RATIO}, or leave it out",
    "masking.video.ratio={shape: linear, start: 0.5}": (
        "masking.video.ratio.end is missing; give a number, at least 0"
    ),
    "masking.video.ratio={shape: ramp, start: 0, end: 0.5}": (
        "masking.video.ratio.shape is 'ramp'; give one of 'linear', 'cosine', 'step'"
    ),
    "masking.video.ratio={shape: linear, start: 0, end: 0.5, stop: 1}": (
        "unknown key masking.video.ratio.stop; the keys here are shape, start, end, at"
    ),
    "masking.text.ratio={shape: linear, start: 1.5, end: 0.5}": (
        "masking.text.ratio.start is 1.5; give a number, at least 0 and below 1"
    ),
    "stages.0.masking.video.ratio={shape: step, start: 0.9, end: 1}": (
        "stages.0.masking.video.ratio.end is 1; give a number, at least 0 and below 1"
    ),
    "masking.video.ratio=0.99999999999": (
        "stages.0.masking.video.ratio comes to 0.99999999999, which leaves none of the 16 patches of a frame; "
        "lower it"
    ),
    "masking.video.block_area=[0.7, 0.2]": (
        "masking.video.block_area is [0.7, 0.2]; give the least first: [0.2, 0.7]"
    ),
    "stages.1.optimizer.decay=0": "stages.1.optimizer.decay is 0; give a number, above 0 and at most 1",
    "stages.0.masking.video=2": (
        "stages.0.masking.video is 2; give a section with any of strategy, ratio, order, num_blocks"
    ),
    "stages.0.masking=2": "stages.0.masking is 2; give a section",
    "masking.video.strategy=tub": "masking.video.strategy is 'tub'; give one of 'none', 'random', 'tube', ",
    "masking=null": "masking is null; give a section with any of video, text, or leave it out",
    "seed=0.5": "seed is 0.5; give a whole number, at least 0 and below 2147483648",
    "seed=no": "seed is 'no'; give a whole number, at least 0 and below 2147483648",
    "seed.value=1": 'seed is {"value": 1}; give a whole number, at least 0 and below 2147483648',
    "optimizer.learning_rate=inf": "optimizer.learning_rate is 'inf'; give a number, above 0",
    "optimizer.clip_norm=0": "optimizer.clip_norm is 0; give a number, above 0, or null",
    "optimizer.betas=[0.9, 1]": "optimizer.betas.1 is 1; give a number, at least 0 and below 1",
    "optimizer.betas=[0.9]": "optimizer.betas.1 is missing; give a number, at least 0 and below 1",
    "data.horizontal_flip=maybe": "data.horizontal_flip is 'maybe'; give true or false",
    "data.crop_scale=[1, 0.5]": "data.crop_scale is [1, 0.5]; give the least and the most of the area",
    "data.crop_scale=[0, 1]": "data.crop_scale is [0, 1]; give the least and the most of the area",
    "data.crop_scale=[0.5, 1.5]": "data.crop_scale is [0.5, 1.5]; give the least and the most of the area",
    "cluster.workers=many": (
        "cluster.workers is 'many'; give a whole number, at least 1, or a list of 2 entries, "
        "each a whole number, at least 1"
    ),
    "cluster.workers=[1, 2, 3]": "cluster.workers is [1, 2, 3]; give a whole number, at least 1, or a list",
    "cluster={workers: 2, gpus_per_worker: 0.5}": "cluster.gpus_per_worker is 0.5 with workers 2, but NCCL",
    "cluster.workers=[4, 2]": "cluster.workers is [4, 2]; give the least number first: [2, 4]",
    "name=2026": "name is 2026; give text of letters, digits and _.,=+-, in quotes if it looks like a number",
    "name=a/b": "name is 'a/b'; give text of letters, digits and _.,=+-",
    "data.sets={a/(b): {kind: moving_shapes}}": (
        "data.sets has a set 'a/(b)'; name it with letters, digits, blanks and _.-"
    ),
    "data.sets.new={path: p}": "data.sets.new.kind is missing; give one of",
    "data.sets.new.kind=manifes": "data.sets.new.kind is 'manifes'; give one of",
    "data.sets.new.kind=manifest": "data.sets.new.path is missing; give text",
    "data.sets.new=file.parquet": "data.sets.new is 'file.parquet'; give a section with any of kind, ",
    "data.sets=[a]": 'data.sets is ["a"]; give a section with a name for each entry',
    "stages=[]": "stages is empty, so nothing is trained, and model.pretrained is null, so there is nothing to score",
    "stages=3": "stages is 3; give a list, each a section with any of name, data, mix",
    "stages=[{data: [shapes], epochs: 1}]": "stages.0.name is missing; give text",
    "stages.0.data=shapes": "stages.0.data is 'shapes'; give a list of 1 or more entries, each text",
    "stages.0.data=[]": "stages.0.data is []; give a list of 1 or more entries",
    "stages.0.data=[shape]": (
        "stages.0.data names 'shape', but data.sets has 'shapes'; name one of these or add it"
    ),
    "stages.0.mix={toys: 1}": (
        "stages.0.mix weighs 'toys', but data names 'shapes'; give each of these one weight and no other"
    ),
    "stages.0.mix={}": "stages.0.mix weighs none, but data names 'shapes'; give each of these one weight",
    "stages.0.mix.shapes=0": "stages.0.mix.shapes is 0; give a number, above 0",
    "stages.0.mix=0.5": "stages.0.mix is 0.5; give a section with a name for each entry, or null",
    "stages.1.name=masked": "stages.1.name 'masked' is already that of stages.0; give another",
    "stages.0.frames=8": (
        "stages.0.frames is 8, but model.video.max_frames is 4; lower the one or raise the other"
    ),
    "stages.2.epochs=1": "no entry '2' in stages; there are stages.0, stages.1",
    "stages.masked.epochs=1": "no entry 'masked' in stages; there are stages.0, stages.1",
    "stages.0.epochs.x=1": "stages.0.epochs is 8.0, a value and not a section",
    "evaluation.data=toys": (
        "evaluation.data names 'toys', but data.sets has 'shapes'; name one of these or add it"
    ),
    "evaluation.frames=5": "evaluation.frames is 5, but model.video.max_frames is 4",
    "evaluation.also=[{frames: 8}]": (
        "evaluation.also.0.frames is 8, but model.video.max_frames is 4; lower the one or raise the other, "
        "or say with model.video.inflate how the trained rows become so many"
    ),
    "evaluation.also=[{frames: 2}, {frames: 2, windows: 1}]": (
        "evaluation.also.1 scores frames 2 and windows 1 once more; change one of the two, or leave it out"
    ),
    "evaluation.also=[{frames: 4}]": "evaluation.also.0 scores frames 4 and windows 1 once more;",
    "evaluation.also=[{windows: 0, frames: 2}]": "evaluation.also.0.windows is 0; give a whole number, at least 1",
    "evaluation.also=[8]": "evaluation.also.0 is 8; give a section with any of frames, windows",
    "evaluation.protocol=paragraphs": "evaluation.protocol is 'paragraphs'; give one of",
    "model.video.inflate=bilinear": (
        "model.video.inflate is 'bilinear'; give one of 'keep', 'zeros', 'nearest', 'linear'"
    ),
    "data.captions=all": "data.captions is 'all'; give one of 'one', 'paragraph'",
    "model.video.num_heads=3": "model.video.width 128 is not a multiple of num_heads 3; change one of them",
    "data.image_size=60": (
        "data.image_size 60 is not a multiple of model.video.patch_size 16; the nearest is 64"
    ),
    "objectives.contrastive=null": "objectives.contrastive, like every objective, is null; give at least one",
    "stages.0.objectives.contrastive=null": (
        "stages.0.objectives.contrastive, like every objective, is null; give at least one"
    ),
    "stages.².epochs=1": "no entry '²' in stages; there are stages.0, stages.1",
    "cluster.gpus_per_worker=1.5": "cluster.gpus_per_worker is 1.5, but a worker trains on one GPU; give 1, and",
    "objectives.contrastive=3": "objectives.contrastive is 3; give a section with any of weight, temperature",
    "objectives.sigmoid={temprature: 1}": "unknown key objectives.sigmoid.temprature; did you mean 'temperature'?",
    "objectives.language={weight: 0}": "objectives.language.weight is 0; give a number, above 0, or a section",
    "objectives.language={weight: {shape: linear, start: 0, end: 0}}": (
        "objectives.language.weight is 0 throughout, so this objective would never count; set it to null"
    ),
    "objectives.language={weight: {shape: step, start: 1, end: 0, at: 0}}": (
        "objectives.language.weight is 0 throughout, so this objective would never count; set it to null"
    ),
    "objectives.reconstruction={teacher_momentum: {shape: linear, start: 0.9, end: 1.5}}": (
        "objectives.reconstruction.teacher_momentum goes up to 1.5; give a start and an end of at most 1"
    ),
    "stages.1.objectives.reconstruction={}": (
        "stages.1.objectives.reconstruction predicts what is hidden, but this stage hides nothing "
        "(masking.video: strategy none, ratio 0.6); mask, or set stages.1.objectives.reconstruction=null"
    ),
    "stages.1.objectives.masked_language={}": (
        "stages.1.objectives.masked_language predicts what is hidden, but this stage hides nothing "
        "(masking.text: strategy none, ratio 0.15); mask, or set stages.1.objectives.masked_language=null"
    ),
}


@pytest.mark.parametrize("override", MISTAKES)
def test_override_that_is_wrong_is_named_with_its_remedy(override: str) -> None:
    said = message(None, override)
    assert said.startswith(f"override {override!r}: {MISTAKES[override]}")
    assert "\n" not in said


def test_file_that_is_wrong_is_named_with_its_remedy(tmp_path: Path) -> None:
    path = written(tmp_path, "masking: {video: {ratoi: 0.5}}")
    assert message(path) == f"{path}: unknown key masking.video.ratoi; did you mean 'ratio'?"


def test_every_mistake_is_said_with_the_source_that_brought_it(tmp_path: Path) -> None:
    path = written(tmp_path, "sed: 1\nmodel: {video: {depth: 0}}")
    assert message(path, "masking.video.ratio=0.5", "masking.text.ratio=-1").splitlines() == [
        f"{path}: model.video.depth is 0; give a whole number, at least 1",
        f"override 'masking.text.ratio=-1': masking.text.ratio is -1; {RATIO}",
        f"{path}: unknown key sed; did you mean 'seed'?",
    ]


def test_every_mistake_in_a_stage_difference_is_said_with_its_source(tmp_path: Path) -> None:
    path = written(
        tmp_path, "stages: [{name: a, data: [shapes], epochs: 1, masking: {video: {ratio: 2, ordr: sorted}}}]"
    )
    assert message(path).splitlines() == [
        f"{path}: stages.0.masking.video.ratio is 2; {RATIO}",
        f"{path}: unknown key stages.0.masking.video.ordr; did you mean 'order'?",
    ]


@pytest.mark.parametrize("strategy", ["frame", "motion"])
def test_strategy_that_needs_more_frames_than_a_stage_has_is_refused(strategy: str) -> None:
    overrides = [f"masking.video.strategy={strategy}", "stages.0.frames=1"]
    said = message(None, *overrides)
    assert said.startswith(f"override 'stages.0.frames=1': stages.0.masking.video.strategy {strategy!r} ")
    assert said.endswith("but stages.0.frames is 1; give another strategy or more frames")
    load(None, [*overrides, "stages.0.masking.video.strategy=random"])


@pytest.mark.parametrize("strategy", ["drop", "truncate", "frequency", "word_class"])
def test_words_to_be_predicted_that_are_taken_out_are_refused(strategy: str) -> None:
    said = message(None, "objectives.masked_language={}", f"masking.text.strategy={strategy}")
    assert "stages.0.objectives.masked_language predicts words at their [MASK]" in said
    assert f"masking.text.strategy {strategy!r} takes them out" in said


@pytest.mark.parametrize("hidden", ["strategy=resize", "ratio={shape: linear, start: 0, end: 0}"])
def test_patches_to_be_predicted_where_none_is_hidden_are_refused(hidden: str) -> None:
    said = message(None, "objectives.reconstruction={}", f"masking.video.{hidden}")
    assert "stages.0.objectives.reconstruction predicts what is hidden, but this stage hides nothing" in said


def test_modality_that_is_null_is_not_masked() -> None:
    masking = load(None, ["masking.video=null", "stages.0.masking.text=null"])
    hidden = masking.stage_masking(masking.stages[0])
    assert (hidden.video.strategy, hidden.text.strategy) == ("none", "none")


def test_ratio_scheduled_at_the_top_gives_way_to_a_number_in_a_stage_and_the_reverse() -> None:
    schedule = "{shape: linear, start: 0.9, end: 0.3}"
    config = load(None, [f"masking.video.ratio={schedule}", "stages.0.masking.video.ratio=0.5"])
    assert config.stage_masking(config.stages[0]).video.ratio == 0.5
    config = load(None, [f"stages.0.masking.text.ratio={schedule}"])
    assert value_at(config.stage_masking(config.stages[0]).text.ratio, 0.5) == pytest.approx(0.6)
    assert load(
        None, [f"masking.video.ratio={schedule}", "masking.video.ratio.end=0.1"]
    ).masking.video.ratio == (Schedule(shape="linear", start=0.9, end=0.1))


def test_rule_between_two_values_blames_the_source_that_broke_it(tmp_path: Path) -> None:
    path = written(tmp_path, "stages: [{name: a, data: [shapes], epochs: 1, frames: 4}]")
    said = message(path, "seed=1", "model.video.max_frames=2", "seed=2")
    assert said.startswith("override 'model.video.max_frames=2': stages.0.frames is 4")


@pytest.mark.parametrize(
    ("objective", "modality"), [("reconstruction", "video"), ("masked_language", "text")]
)
@pytest.mark.parametrize("off", ["strategy=none", "ratio=0"])
def test_objective_whose_mask_is_turned_off_blames_that_override(
    objective: str, modality: str, off: str
) -> None:
    override = f"masking.{modality}.{off}"
    said = message(None, f"objectives.{objective}={{}}", override)
    assert said.startswith(f"override {override!r}: stages.0.objectives.{objective} predicts what is hidden")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("hidden", "sentence"),
    [
        ("{ratio: 0.06}", "comes to 0.06, which hides none of the 16 patches of a frame; raise it"),
        ("{strategy: frame, ratio: 0.2}", "comes to 0.2, which hides none of the 4 frames; raise it"),
        (
            "{ratio: {shape: linear, start: 0, end: 0.06}}",
            "comes to 0.06, which hides none of the 16 patches",
        ),
    ],
)
def test_ratio_too_low_to_hide_a_patch_is_refused_where_one_is_to_be_predicted(
    hidden: str, sentence: str
) -> None:
    override = f"masking.video={hidden}"
    assert load(None, [override])
    assert sentence in message(None, override, "objectives.reconstruction={}")
    schedule = "masking.video.ratio={shape: linear, start: 0, end: 0.5}"
    assert load(None, [schedule, "objectives.reconstruction={}"])


def test_mistake_that_a_later_override_mends_is_none(tmp_path: Path) -> None:
    path = written(tmp_path, "masking: {video: {ratio: 7}}")
    assert load(path, ["masking.video.ratio=0.5"]).masking.video.ratio == 0.5


def test_key_given_twice_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "masking:\n  video: {ratio: 0.3}\n  text: {ratio: 0.2}\n  video: {ratio: 0.4}\n")
    assert message(path) == f"{path}, line 4: 'video' is given twice in one section; keep one"


def test_key_that_is_no_text_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 1\n2: 3\n")
    assert message(path) == f"{path}, line 2: the key 2 is not text; put it in quotes"


def test_path_with_an_equals_sign_is_a_file_and_no_override(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders of runs of sweeps have one, and `bench step` is told to be given the config of one."""
    folder = tmp_path / "s.none.seed=0-0123456789"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("a=b.yaml").write_text("seed: 3\n")
    for path in (f"{folder}/config.yaml", "a=b.yaml"):
        assert path_and_overrides(path, ["seed=1"]) == (path, ["seed=1"])
    for override in ("seed=3", "storage.runs=/a/b=c"):
        assert path_and_overrides(override, ["seed=1"]) == (None, [override, "seed=1"])


@pytest.mark.parametrize("override", ["seed", "=1", "masking..ratio=1", "--seed"])
def test_override_of_another_form_is_an_error_that_shows_the_form(override: str) -> None:
    assert message(None, override) == (
        f"override {override!r} is not of the form section.key=value, such as seed=1"
    )


def test_file_that_is_not_there_is_an_error_with_what_to_give(tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"
    assert message(path) == (
        f"cannot read the config {path}: No such file or directory; "
        "give a YAML file, or section.key=value to override"
    )


def test_file_that_is_no_mapping_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, "- model\n")
    assert message(path) == f'{path} holds ["model"]; a config is a mapping of sections such as `model:`'


def test_file_that_is_no_yaml_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 1\nmodel: {video: [\n")
    assert message(path).startswith(f"{path}, line 3: ")
    path.write_bytes(b"\x89PNG\x00\xff")
    assert message(path).startswith(f"{path} is not YAML text: ")


def test_override_that_is_no_yaml_is_an_error() -> None:
    assert message(None, "seed=[1").startswith("override 'seed=[1', line 1: ")
    assert message(None, "seed=!!int abc").startswith("override 'seed=!!int abc' is not YAML text: ")
