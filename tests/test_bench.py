"""The benchmark's figures where they can be known in advance, and that it runs on a bare machine."""

import contextlib
import io
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import DistilBertConfig

from mac_ray.bench import data as bench_data
from mac_ray.bench import step
from mac_ray.bench.__main__ import main
from mac_ray.bench.engine import beside_steps, gaps
from mac_ray.bench.memory import largest_batch
from mac_ray.config import Config
from mac_ray.config import file as config_file
from mac_ray.cores import usable_cores
from mac_ray.data import manifest_writer
from mac_ray.data.decode import DECODERS, frames
from mac_ray.data.decode.apart import seconds_apart
from mac_ray.data.source import Source
from tests.data.conftest import make_hanging, write_media
from tests.test_encoder import saved_run

MAC = str(Path(__file__).parents[1] / "configs" / "mac.yaml")
SMALL = [
    "data.image_size=32",
    "data.max_caption_tokens=12",
    "masking.video.ratio=0.9",
    "model.video.patch_size=8",
    "model.video.width=32",
    "model.video.depth=2",
    "model.text.width=32",
    "model.text.depth=1",
    "cluster.threads=1",
    "precision=fp32",
]


@pytest.fixture(autouse=True)
def same_threads_and_precision_afterwards(monkeypatch: pytest.MonkeyPatch):
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    monkeypatch.setitem(step.MATMUL_SIZE, "cpu", 256)  # as fast a product as any, but short
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# ---------------------------------------------------------------- flops


def test_flops_of_the_mac_recipe_are_those_of_its_table_4(capsys: pytest.CaptureFixture[str]):
    found = output(capsys, "flops", MAC)
    assert found["parameters"] == {
        "total": 180_925_184,
        "video": 114_168_576,
        "text": 66_362_880,
        "heads": 393_728,
    }
    assert found["published_parameters"]["value"] == 180.7e6
    by_name = {row["what"]: row for row in found["rows"]}
    assert [row["visible"] for row in found["rows"][:6]] == [196, 147, 98, 79, 49, 20]
    for name, linear, with_attention, published in [
        ("0% masked", 189.59, 195.79, 189.3),
        ("25% masked", 145.20, 148.86, None),
        ("60% masked", 83.60, 84.91, 83.3),
        ("90% masked", 30.14, 30.53, None),
        ("videos", 83.60, 84.91, 83.3),
        ("msrvtt", 189.59, 195.79, 189.3),
    ]:
        row = by_name[name]
        assert row["linear"] / 1e9 == pytest.approx(linear, abs=0.005)
        assert row["with_attention"] / 1e9 == pytest.approx(with_attention, abs=0.005)
        assert (row["published"] or {"value": None})["value"] == (published and published * 1e9)
    assert by_name["60% masked"]["executed"] == by_name["60% masked"]["with_attention"] - 2 * 4 * 117 * 768**2
    assert (by_name["images"]["frames"], by_name["images"]["visible"]) == (1, 79)


def test_flops_of_ratios_asked_for_are_those_of_the_conventions(capsys: pytest.CaptureFixture[str]):
    found = output(capsys, "flops", MAC, "--ratio", "0.65", "0", "0.335")
    assert [row["what"] for row in found["rows"]] == [
        *("65% masked", "0% masked", "33.5% masked"),
        *("images", "videos", "msrvtt"),
    ]
    assert [row["visible"] for row in found["rows"][:3]] == [69, 196, 131]
    assert found["rows"][0]["linear"] / 1e9 == pytest.approx(74.54, abs=0.005)
    assert found["rows"][0]["with_attention"] / 1e9 == pytest.approx(75.62, abs=0.005)


def test_flops_of_the_paper_embed_frames_that_are_hidden_too(capsys: pytest.CaptureFixture[str]):
    by_strategy = {
        strategy: output(
            capsys,
            "flops",
            MAC,
            "model.video.pretrained=null",
            "stages.1.frames=4",
            f"stages.1.masking.video.strategy={strategy}",
        )["rows"]
        for strategy in ("frame", "none")
    }
    hidden, shown = (next(row for row in rows if row["what"] == "videos") for rows in by_strategy.values())
    assert (hidden["frames"], shown["frames"], hidden["visible"]) == (2, 4, 196)
    # 2 operations, 2 frames, values of a patch of 16 x 16, width
    assert hidden["with_attention"] - hidden["executed"] == 2 * 2 * 196 * 768 * 768
    assert shown["with_attention"] == shown["executed"]


def test_flops_of_the_mac_recipe_stand_beside_those_of_other_towers_of_the_table(
    capsys: pytest.CaptureFixture[str],
):
    assert main(["flops", MAC, "--ratio", "0"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "BridgeFormer 286.1 with 266 M parameters, MILES 367.5 with 295.5 M parameters" in said


def test_flops_of_a_ratio_that_hides_everything_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["flops", MAC, "--ratio", "1.0"])
    assert "1.0 is not at least 0 and below 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [["--text-tokens", "64"], ["model.video.depth=6"], ["data.image_size=112"], ["model.text.depth=3"]],
)
def test_flops_of_another_model_stand_beside_no_published_value(
    capsys: pytest.CaptureFixture[str], change: list[str]
):
    rows = output(capsys, "flops", MAC, *change)["rows"]
    assert [row["published"] for row in rows] == [None] * len(rows)


def test_stage_whose_masks_cost_something_to_choose_stands_beside_no_published_value(
    capsys: pytest.CaptureFixture[str],
):
    found = output(capsys, "flops", MAC, "masking.video.strategy=attention_keep_high")
    rows = {row["what"]: row for row in found["rows"]}
    assert rows["60% masked"]["published"]["value"] == 83.3e9
    assert rows["videos"]["published"] is None
    assert rows["videos"]["executed"] > 2 * rows["60% masked"]["executed"]


def test_parameters_are_those_of_the_model_that_would_be_trained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    counts = output(capsys, "flops", *SMALL, "model.text.vocabulary_size=70")["parameters"]
    assert counts["heads"] == 2 * (32 * 256 + 256)
    more = output(capsys, "flops", *SMALL, "model.text.vocabulary_size=71")["parameters"]
    assert more["text"] - counts["text"] == 32
    # a local checkpoint says how many it embeds
    DistilBertConfig(vocab_size=170, max_position_embeddings=12).save_pretrained(tmp_path)
    pretrained = output(capsys, "flops", *SMALL, f"model.text.pretrained={tmp_path}")["parameters"]
    assert pretrained["text"] - counts["text"] == 100 * 32


def test_parameters_of_a_run_that_is_trained_further_are_its_own(
    capsys: pytest.CaptureFixture[str], tiny: Config, tmp_path: Path
):
    run, model = saved_run(tiny, tmp_path / "run", steps=(3,))
    found = output(capsys, "flops", str(run.config), f"model.pretrained={run.path}")["parameters"]
    assert found["total"] == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["stages.0.data=[mine]"], "'mine'"),
        (["model.pretrained={folder}/tower.safetensors"], "so it is no dual encoder"),
    ],
)
def test_flops_of_what_cannot_be_trained_are_refused_with_the_value(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    save_file({"patch_embed.weight": torch.zeros(1)}, tmp_path / "tower.safetensors")
    given = [argument.format(folder=tmp_path) for argument in arguments]
    assert main(["flops", *SMALL, "objectives.language={}", *given]) == 2
    assert sentence in capsys.readouterr().out


def test_flops_as_tables_show_what_json_says(capsys: pytest.CaptureFixture[str]):
    assert main(["flops", MAC]) == 0
    shown = capsys.readouterr().out
    for figure in ("180,925,184", "189.6", "83.6", "84.91", "84.36", "189.3", "83.3"):
        assert figure in shown


TASKS = [
    "objectives.reconstruction={target: latent}",
    "objectives.masked_language={context: video}",
    "objectives.language={}",
    "objectives.matching={}",
]


def test_flops_of_pretext_tasks_have_a_row_each_in_the_stages_that_have_them(
    capsys: pytest.CaptureFixture[str],
):
    found = output(capsys, "flops", *SMALL, *TASKS, "--text-tokens", "12")
    rows = {(row["stage"], row["objective"]): row for row in found["pretext"]}
    names = ["reconstruction", "masked_language", "language", "matching"]
    assert list(rows) == [("masked", name) for name in names]
    executed = {row["what"]: row["executed"] for row in found["rows"]}
    for row in rows.values():
        assert row["towers_training_flops"] == 3 * executed["masked"]
    # the teacher is a whole video tower, and encodes the whole clip
    assert rows["masked", "reconstruction"]["cost"]["teacher_parameters"] == found["parameters"]["video"]
    assert output(capsys, "flops", *SMALL)["pretext"] == []


def test_flops_of_pretext_tasks_stand_in_a_table_of_their_own(capsys: pytest.CaptureFixture[str]):
    assert main(["flops", *SMALL, *TASKS]) == 0
    shown = capsys.readouterr().out
    for name in ("reconstruction", "masked_language", "language", "matching"):
        assert name in shown
    assert main(["flops", *SMALL]) == 0
    assert "pretext" not in capsys.readouterr().out


# ---------------------------------------------------------------- step


def test_step_with_pretext_tasks_counts_their_operations(capsys: pytest.CaptureFixture[str]):
    against = ["--against", *TASKS, "--steps", "1", "--batch", "4"]
    plain, tasks = output(capsys, "step", *SMALL, *against)["arms"]
    assert (
        tasks["flops_per_second"] * tasks["milliseconds"] > plain["flops_per_second"] * plain["milliseconds"]
    )


def test_step_of_two_arms_adds_up(capsys: pytest.CaptureFixture[str]):
    arguments = ["step", *SMALL, "--against", "masking.video.strategy=none", "--steps", "2", "--batch", "4"]
    report = output(capsys, *arguments)
    masked, unmasked = report["arms"]
    assert (masked["visible"], unmasked["visible"]) == (2, 16)  # 90% of 16 hidden in the first stage
    assert unmasked["name"] == "masking.video.strategy=none"
    for arm in report["arms"]:
        seconds = arm["milliseconds"] / 1e3
        assert (arm["batch"], arm["frames"], arm["text_tokens"], arm["dtype"]) == (4, 4, 12, "fp32")
        assert arm["largest_batch"] is None
        assert arm["samples_per_second"] == pytest.approx(4 / seconds)
        assert arm["relative_time"] == pytest.approx(arm["milliseconds"] / masked["milliseconds"])
        assert arm["matmul_share"] == pytest.approx(arm["flops_per_second"] / arm["matmul_flops_per_second"])
    ratio = unmasked["flops_per_second"] * unmasked["milliseconds"]
    ratio /= masked["flops_per_second"] * masked["milliseconds"]
    rows = output(capsys, "flops", *SMALL, "--text-tokens", "12")["rows"]
    executed = {row["visible"]: row["executed"] for row in rows}
    assert ratio == pytest.approx(executed[16] / executed[2])


def test_step_takes_every_arm_also_where_they_have_the_same_words(capsys: pytest.CaptureFixture[str]):
    same = ["--against", "seed=1", "--against", "seed=1"]
    report = output(capsys, "step", *SMALL, *same, "--steps", "1", "--batch", "2")
    assert [arm["name"] for arm in report["arms"][1:]] == ["seed=1", "seed=1 (2)"]


@pytest.fixture(scope="module")
def of_two_files(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The arms of a small batch, and of another file with a larger one and pretext tasks."""
    other = tmp_path_factory.mktemp("configs") / "other.yaml"
    pretext = ["objectives.reconstruction={}", "objectives.masked_language={}", "objectives.matching={}"]
    config = config_file.load(None, [*SMALL, *pretext, "stages.0.name=start"])
    other.write_text(config_file.to_yaml(config))
    files = [*SMALL, "stages.0.batch_size=2", "--against", str(other), "stages.0.batch_size=512"]
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert main(["step", *files, "--stage", "masked", "--stage", "start", "--steps", "1", "--json"]) == 0
    arms: list[dict[str, Any]] = json.loads(shown.getvalue())["arms"]
    return arms


def test_step_against_a_file_takes_nothing_from_what_it_is_compared_with(of_two_files: list[dict[str, Any]]):
    assert [arm["stage"] for arm in of_two_files] == ["masked", "start"]
    assert [arm["batch"] for arm in of_two_files] == [2, 512]
    # batches differ, so what is compared is a sample
    one, two = (arm["milliseconds"] / arm["batch"] for arm in of_two_files)
    assert of_two_files[1]["relative_time"] == pytest.approx(two / one)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no system tells a process's peak")
def test_step_of_a_larger_batch_takes_more_memory(of_two_files: list[dict[str, Any]]):
    few, many = (arm["peak_bytes"] for arm in of_two_files)
    clips = 512 * 4 * 3 * 32 * 32  # bytes, and four times that as floats
    assert many - few > 5 * clips


@pytest.mark.parametrize(("room", "start", "found"), [(100, 8, 64), (100, 100, 100), (5, 64, 4), (0, 64, 0)])
def test_largest_batch_fits_and_twice_as_many_do_not(room: int, start: int, found: int):
    assert largest_batch(lambda batch: batch <= room, start) == found


def test_step_takes_the_stage_the_share_of_a_worker_and_the_precision_asked_for(
    capsys: pytest.CaptureFixture[str],
):
    overrides = [*SMALL, "cluster.workers=3", "stages.1.batch_size=7", "stages.1.accumulate=2"]
    report = output(
        capsys, "step", *overrides, "--stage", "unmasked", "--steps", "1", "--against", "precision=bf16"
    )
    assert [arm["batch"] for arm in report["arms"]] == [3, 3]  # of 3, 2 and 2
    assert [arm["visible"] for arm in report["arms"]] == [16, 16]
    assert [arm["dtype"] for arm in report["arms"]] == ["fp32", "bf16"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--stage", "third"], "--stage is 'third'; the config has 'masked', 'unmasked'"),
        (["--stage", "masked", "--stage", "unmasked"], "--stage is given 2 times for 1 configs"),
        (["--text-tokens", "13"], "--text-tokens is 13, but data.max_caption_tokens is 12"),
        (["--against", "masking.video.ratio=2"], "masking.video.ratio"),
    ],
)
def test_step_that_cannot_be_taken_is_refused_in_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
):
    assert main(["step", *SMALL, *arguments]) == 2
    assert sentence in " ".join(capsys.readouterr().out.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_step_searching_for_the_largest_batch_without_a_gpu_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["step", *SMALL, "--largest-batch"]) == 2
    assert "--largest-batch fills the memory of a GPU" in " ".join(capsys.readouterr().out.split())


# ---------------------------------------------------------------- a bare machine


def test_bench_runs_without_ray_mlflow_or_any_decoder():
    program = f"""
import sys
from mac_ray.bench import step
from mac_ray.bench.__main__ import main
step.MATMUL_SIZE["cpu"] = 256
assert main(["flops", {MAC!r}, "--json"]) == 0
assert main(["step", *{SMALL!r}, "--steps", "1", "--batch", "2"]) == 0
found = {{"ray", "mlflow", "decord", "av", "pyarrow", "optuna"}} & set(sys.modules)
assert not found, found
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_mac_recipe_is_a_valid_config_of_three_stages():
    config = config_file.load(MAC)
    assert [(stage.name, stage.frames, stage.epochs, stage.batch_size) for stage in config.stages] == [
        ("images", 1, 20, 2048),
        ("videos", 4, 2, 1024),
        ("msrvtt", 4, 50, 128),
    ]
    rates = [config.stage_optimizer(stage).learning_rate for stage in config.stages]
    assert rates == [1e-4, 3e-5, 3e-5]
    hidden = [config.stage_masking(stage) for stage in config.stages]
    assert [(mask.video.strategy, mask.text.strategy) for mask in hidden] == [
        ("random", "whole_word"),
        ("random", "whole_word"),
        ("none", "none"),
    ]


# ---------------------------------------------------------------- data


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    """Videos and images, as a manifest."""
    manifest_writer.write(tmp_path / "set.parquet", write_media(tmp_path), "small", tmp_path)
    return tmp_path / "set.parquet"


def test_data_rates_of_every_storage_add_up_and_name_what_limits(
    small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    given = ["--samples", "9", "--rounds", "2", f"storage.cache={tmp_path / 'cache'}", *SMALL]
    found = output(capsys, "data", str(small_set), *given)
    assert (found["samples"], found["frames"], found["image_size"], found["batch"]) == (9, 4, 32, 9)
    stored = [(row["storage"], row["decoder"]) for row in found["rows"]]
    assert stored == [
        *(("files", decoder) for decoder in DECODERS),
        ("tar of frames", None),
        ("frame cache", None),
    ]
    for row in found["rows"]:
        parts = row["parts"]
        if all(parts.values()):  # what took no longer than the parts it is made of is left as 0
            assert row["received"] == pytest.approx(1 / sum(parts.values()))
        assert row["received"] >= (1 - 1e-9) / sum(parts.values())
        assert parts[row["limit"]] == max(parts.values())
        if row["storage"] != "frame cache":
            assert row["bare"] == pytest.approx(1 / (parts["decode"] + parts["resize"]))
            assert row["share"] == pytest.approx(row["loader"] / row["bare"])
    assert [row["bare"] is None for row in found["rows"]] == [False] * (len(stored) - 1) + [True]
    assert found["rows"][-1]["share"] is None


def test_data_with_a_file_that_hangs_its_decoder_are_measured_without_it(
    small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "video3.mp4").unlink()
    make_hanging(tmp_path / "video3.mp4")
    given = ["--samples", "9", "--rounds", "1", f"storage.cache={tmp_path / 'cache'}", *SMALL]
    found = output(capsys, "data", str(small_set), *given, "cluster.decode_timeout_s=3")
    assert found["samples"] == 8


def test_decoding_in_another_process_counts(small_set: Path):
    before, before_apart = bench_data._worked(), seconds_apart()
    for _ in range(20):
        frames(Source.of(small_set.parent / "video5.mp4"), "video", range, "pyav", timeout_s=60)
    spent = seconds_apart() - before_apart
    assert 0.0 < spent < bench_data._worked() - before


def test_data_of_which_nothing_decodes_says_where(
    small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for path in [*tmp_path.glob("*.mp4"), *tmp_path.glob("*.png")]:
        path.unlink()
    assert main(["data", str(small_set), f"storage.cache={tmp_path / 'cache'}"]) == 2
    assert "none of the 9 train samples tried can be decoded" in " ".join(capsys.readouterr().out.split())


def test_data_of_a_manifest_without_training_samples_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = [replace(row, split="test") for row in write_media(tmp_path)]
    manifest_writer.write(tmp_path / "set.parquet", rows, "small", tmp_path)
    assert main(["data", str(tmp_path / "set.parquet"), f"storage.cache={tmp_path / 'cache'}"]) == 2
    assert "has no split 'train'; it has test" in " ".join(capsys.readouterr().out.split())


def test_data_of_no_manifest_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", str(tmp_path / "gone.parquet")]) == 2
    assert "there is no manifest at" in " ".join(capsys.readouterr().out.split())


# ---------------------------------------------------------------- engine


def test_engine_without_runs_is_timed_by_point_alone(capsys: pytest.CaptureFixture[str]):
    assert main(["engine", "--points", "5", "--runs", "0"]) == 0
    said = capsys.readouterr().out
    assert all(f"5 points {what}" in said for what in ("planned", "found", "sent", "asked", "results"))
    assert "of a run" not in said


@pytest.mark.ray
def test_engine_is_timed_around_the_runs_of_a_sweep_and_by_point(capsys: pytest.CaptureFixture[str]):
    begun = time.monotonic()
    runs = usable_cores() + 1  # so that one begins in the place of another
    found = output(capsys, "engine", "--points", str(runs), "--runs", str(runs))
    elapsed = time.monotonic() - begun
    assert (found.pop("points"), found.pop("runs")) == (runs, runs)
    assert all(value > 0 for value in found.values())
    assert sum(found.values()) < elapsed


def test_places_stand_empty_from_the_end_of_a_run_to_the_next_that_begins_there():
    # two places: the third run follows the first, the fourth the second
    assert gaps([(0, 10), (1, 14), (12, 20), (15, 30)]) == [2, 1]
    assert gaps([(0, 10), (1, 14)]) == []


def test_seconds_of_a_run_beside_its_steps_are_those_that_no_cost_has():
    journal = [
        {"kind": "status", "status": "RUNNING", "time": 1_000},
        {"kind": "metrics", "step": 5, "values": {"cost/seconds": 2.0}, "time": 5_000},
        {"kind": "metrics", "step": 9, "values": {"cost/seconds": 4.5}, "time": 8_000},
        {"kind": "status", "status": "FINISHED", "time": 11_000},
    ]
    assert beside_steps(journal) == 5.5
