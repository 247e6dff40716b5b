"""What the driver makes and refuses before workers are taken."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from transformers import DistilBertTokenizerFast

from mac_ray.config import Config, ConfigError
from mac_ray.config import file as config_file
from mac_ray.data import manifest, manifest_writer
from mac_ray.data.manifest import Row
from mac_ray.training import start
from mac_ray.training.start import PreparedRun, git_state, parameters, prepare, tags, with_absolute_folders

CopiedSet = Callable[[Path], Config]


def prepared(config: Config, working_directory: Path = Path("/")) -> PreparedRun:
    return prepare(config, working_directory, working_directory, lambda *_: None)


def test_prepared_run_has_its_folder_tokeniser_and_config(tiny: Config, tmp_path: Path) -> None:
    run = prepared(tiny)
    assert run.folder.path.parent == tmp_path / "runs"
    assert run.name == f"tiny-{run.identity[:10]}"
    assert run.folder.tokenizer.is_file()
    assert config_file.load(run.folder.config) == run.config
    assert [leg.num_samples for leg in run.plan] == [26, 26]


def test_prepare_again_finds_the_same_run_and_tokeniser(tiny: Config, tmp_path: Path) -> None:
    first = prepared(tiny)
    tokenizer = first.folder.tokenizer.read_bytes()
    assert prepared(tiny).folder == first.folder
    shutil.rmtree(tmp_path / "runs")
    assert prepared(tiny).folder.tokenizer.read_bytes() == tokenizer


def test_benchmark_takes_no_other_gallery_but_a_part_of_its_own_where_samples_may_miss(
    tiny_overrides: Sequence[str],
) -> None:
    benchmark = [*tiny_overrides, "evaluation.protocol=moving_shapes"]
    with pytest.raises(
        ConfigError,
        match=r"moving_shapes, but data\.sets\.shapes is another gallery: .*500 samples, and .* split 8",
    ):
        prepared(config_file.load(None, benchmark))
    run = prepared(config_file.load(None, [*benchmark, "evaluation.allow_missing=true"]))
    assert run.folder.tokenizer.is_file()
    more = [*benchmark, "evaluation.allow_missing=true", "data.sets.shapes.test=501"]
    with pytest.raises(ConfigError, match=r"500 samples, and this test split 501; score it by one_caption"):
        prepared(config_file.load(None, more))


@pytest.mark.parametrize("split", ["val", "test"])
def test_split_among_which_nothing_can_be_searched_is_refused_before_training(
    tiny_overrides: Sequence[str], split: str
) -> None:
    config = config_file.load(None, [*tiny_overrides, f"data.sets.shapes.{split}=1"])
    with pytest.raises(ConfigError, match=rf"has 1 {split} sample, among which nothing can be searched"):
        prepared(config)


def test_captions_of_a_very_large_set_are_those_of_samples_evenly_spaced(
    tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(tiny)
    samples = list(run.data.train["shapes"])
    assert len(samples) == 26
    for most, numbers in [(26, range(26)), (10, range(0, 26, 3))]:
        monkeypatch.setattr(start, "MOST_SAMPLES", most)
        expected = [caption for number in numbers for caption in samples[number].captions]
        assert list(start.captions_of_training(run.data)) == expected


# ---------------------------------------------------------------- identity


def test_identity_is_of_what_is_trained_and_not_where(
    tiny_overrides: Sequence[str], tiny: Config, tmp_path: Path
) -> None:
    elsewhere = [
        "name=other",
        f"storage.cache={tmp_path / 'another cache'}",
        f"storage.runs={tmp_path / 'other runs'}",
        "storage.keep_checkpoints=7",
        "cluster.workers=2",
        "cluster.loader_workers=1",
        "cluster.cache_budget_gb=0",
        "tracking.log_every=5",
    ]
    here = prepared(tiny).identity
    assert prepared(config_file.load(None, [*tiny_overrides, *elsewhere])).identity == here
    for change in ("seed=1", "masking.video.ratio=0.5", "data.sets.shapes.seed=1", "precision=bf16"):
        assert prepared(config_file.load(None, [*tiny_overrides, change])).identity != here, change


def test_identity_of_data_that_moved_is_the_same(copied_set: CopiedSet, tmp_path: Path) -> None:
    identities = {prepared(copied_set(tmp_path / name)).identity for name in ("one", "two")}
    assert len(identities) == 1


# ---------------------------------------------------------------- paths


def test_relative_paths_are_taken_from_the_working_directory(tiny: Config, tmp_path: Path) -> None:
    (tmp_path / "tokeniser").mkdir()
    config = Config.model_validate(
        tiny.model_dump()
        | {
            "data": {"sets": {"shapes": {"kind": "manifest", "path": "a/set.parquet", "root": "../media"}}},
            "storage": {"runs": "runs", "cache": "~/cache"},
            "model": {"text": {"tokenizer": "tokeniser", "pretrained": "some-org/some-model"}},
            "evaluation": {"data": "shapes"},
        }
    )
    resolved = with_absolute_folders(config, tmp_path, tmp_path)
    own = resolved.data.sets["shapes"]
    assert own.kind == "manifest"
    assert (own.path, own.root) == (str(tmp_path / "a/set.parquet"), str(tmp_path.parent / "media"))
    assert (resolved.storage.runs, resolved.storage.cache) == (
        str(tmp_path / "runs"),
        str(Path.home() / "cache"),
    )
    assert resolved.model.text.tokenizer == str(tmp_path / "tokeniser")
    assert resolved.model.text.pretrained == "some-org/some-model"


def test_run_given_by_relative_paths_is_the_run_given_by_absolute_ones(
    copied_set: CopiedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absolute = copied_set(tmp_path / "own")
    sets = absolute.model_dump()["data"]["sets"]
    sets["own"] |= {"path": "own/manifest.parquet", "root": "own"}
    relative = absolute.model_copy(
        update={"data": type(absolute.data).model_validate(absolute.data.model_dump() | {"sets": sets})}
    )
    monkeypatch.chdir("/")  # where a Ray worker is, say
    run = prepared(relative, tmp_path)
    assert run.identity == prepared(absolute).identity
    assert run.data.train["own"][0].source.file.is_relative_to(tmp_path / "own")


def test_local_tokeniser_keeps_the_identity_when_it_moves(
    tiny_overrides: Sequence[str], tmp_path: Path
) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red"]))
    identities = set()
    for place in ("one", "two"):
        DistilBertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / place / "tokeniser")
        config = config_file.load(None, [*tiny_overrides, "model.text.tokenizer=tokeniser"])
        identities.add(prepared(config, tmp_path / place).identity)
    assert len(identities) == 1


def test_config_that_others_may_read_has_no_password(tiny_overrides: Sequence[str]) -> None:
    secret = "tracking.uri=postgresql://somebody:sesame@host:5432/runs?sslpassword=sesame"
    run = prepared(config_file.load(None, [*tiny_overrides, secret]))
    assert "sesame" not in run.folder.config.read_text()
    assert config_file.load(run.folder.config).tracking.uri == "postgresql://host:5432/runs"
    assert "sesame" in str(run.config.tracking.uri)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("folder", ["runs", "cache"])
def test_storage_that_cannot_be_written_is_named(
    tiny_overrides: Sequence[str], tmp_path: Path, folder: str
) -> None:
    (tmp_path / "file").write_text("")
    config = config_file.load(None, [*tiny_overrides, f"storage.{folder}={tmp_path / 'file' / 'below'}"])
    with pytest.raises(ConfigError, match=rf"storage\.{folder} is .*file/below.*cannot be written"):
        prepared(config)


@pytest.mark.parametrize("missing", ["train", "val", "test"])
def test_set_without_a_split_it_needs_is_named(copied_set: CopiedSet, tmp_path: Path, missing: str) -> None:
    config = copied_set(tmp_path / "own")
    path = tmp_path / "own/manifest.parquet"
    rows = [
        Row(sample.id, sample.source.place, sample.kind, sample.split, sample.captions)
        for sample in manifest.Manifest.open(path, tmp_path / "own")
        if sample.split != missing
    ]
    manifest_writer.write(path, rows, "own", tmp_path / "own")
    with pytest.raises(ConfigError, match=rf"data\.sets\.own: .*manifest\.parquet has no {missing} samples"):
        prepared(config)


def test_set_whose_media_are_elsewhere_is_named_with_the_remedy(
    copied_set: CopiedSet, tmp_path: Path
) -> None:
    config = copied_set(tmp_path / "own")
    storage = config.storage.model_copy(update={"cache": str(tmp_path / "cache without these frames")})
    config = config.model_copy(update={"storage": storage})
    shutil.rmtree(tmp_path / "own/val")
    with pytest.raises(ConfigError, match=r"none of the 8 val samples.*no such file.*root"):
        prepared(config)


def test_tokeniser_that_cannot_be_used_is_refused(tiny_overrides: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red"]))
    DistilBertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(file.read_text().replace('"[MASK]"', '"[OTHER]"'))
    config = config_file.load(None, [*tiny_overrides, f"model.text.tokenizer={file}"])
    with pytest.raises(ConfigError, match=r"no \[MASK\] token.*model\.text\.tokenizer"):
        prepared(config)


def test_decord_where_it_is_not_installed_is_refused(tmp_path: Path) -> None:
    # None in sys.modules is how Python marks a module that cannot be found
    script = (
        "import sys; sys.modules['decord'] = None\n"
        "from pathlib import Path; from mac_ray.config import Config, ConfigError\n"
        "from mac_ray.training.start import prepare\n"
        "config = Config.model_validate({'cluster': {'decoder': 'decord'}})\n"
        "try: prepare(config, Path.cwd(), Path.cwd(), lambda *_: None)\n"
        "except ConfigError as error: print(error)"
    )
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith("cluster.decoder is decord, which is not installed")
    assert "set cluster.decoder=pyav" in ended.stdout
    assert not list(tmp_path.rglob("*.mp4"))


def test_passes_that_cut_groups_of_neighbours_are_told_of(tiny_overrides: Sequence[str]) -> None:
    def notes(*overrides: str) -> list[str]:
        given = ["stages.0.objectives={matching: {group_size: 4}}", *overrides]
        return [
            note
            for note in prepared(config_file.load(None, [*tiny_overrides, *given])).notes
            if "groups" in note
        ]

    assert notes() == notes("stages.0.accumulate=2") == notes("cluster.workers=2") == []
    assert notes("stages.1.accumulate=4") == []  # which matches nothing
    for overrides in (["stages.0.accumulate=4"], ["cluster.workers=2", "stages.0.accumulate=2"]):
        (note,) = notes(*overrides)
        assert note.startswith("stages.0: 4 passes")
        assert note.endswith("let objectives.matching.group_size divide 2")


# ---------------------------------------------------------------- what is recorded


def test_parameters_hold_what_is_trained_and_what_follows(tiny: Config) -> None:
    run = prepared(tiny)
    found = parameters(run)
    assert found["seed"] == "0"
    assert found["data.sets.shapes"] == run.data.fingerprints["shapes"]
    assert found["derived.masked.steps"] == str(int(2.5 * 26 / 8))
    assert found["derived.masked.visible_patches_per_frame"] == "7 of 16"
    assert found["derived.unmasked.visible_patches_per_frame"] == "16 of 16"
    assert not any(name.startswith(("cluster", "storage", "tracking")) for name in found)


def test_parameters_hold_what_each_pretext_task_costs(tiny_overrides: Sequence[str]) -> None:
    given = ["objectives.reconstruction={target: latent}", "objectives.matching={}"]
    found = parameters(prepared(config_file.load(None, [*tiny_overrides, *given])))
    costs = {name: value for name, value in found.items() if name.startswith("derived.masked.re")}
    assert costs.keys() == {
        f"derived.masked.reconstruction.{name}"
        for name in ("parameters", "teacher_parameters", "training_gflops")
    }
    assert all(float(value) > 0 for value in costs.values())
    assert found["derived.masked.matching.teacher_parameters"] == "0"
    assert not any(name.startswith("derived.unmasked.matching") for name in found)


ABLATION = Path(__file__).parents[2] / "configs" / "ablation.yaml"
TABLE_5 = {  # of MAC: which pretext tasks beside the contrast
    "VTC": [],
    "VTC + MVM": ["objectives.reconstruction={}"],
    "VTC + MLM": ["objectives.masked_language={}"],
    "VTC + LM": ["objectives.language={}"],
    "VTC + MVM + LM": ["objectives.reconstruction={}", "objectives.language={}"],
}
TABLE_7 = {  # which modality is masked
    "neither": ["masking.video.strategy=none", "masking.text.strategy=none"],
    "video": ["masking.text.strategy=none"],
    "text": ["masking.video.strategy=none"],
    "both": [],
}


def rows_of(table: Mapping[str, list[str]], small: Sequence[str]) -> dict[str, PreparedRun]:
    small = [given for given in small if not given.startswith("name=")]
    return {row: prepared(config_file.load(ABLATION, [*small, *given])) for row, given in table.items()}


def test_rows_of_table_5_are_overrides_of_the_ablation_recipe(tiny_overrides: Sequence[str]) -> None:
    runs = rows_of(TABLE_5, tiny_overrides)
    assert len({run.identity for run in runs.values()}) == 5
    tasks = {"MVM": "reconstruction", "MLM": "masked_language", "LM": "language"}
    for row, run in runs.items():
        masked, tail = (run.config.stage_objectives(leg.stage) for leg in run.plan)
        for name, section in masked:
            expected = name == "contrastive" or name in {tasks.get(task) for task in row.split(" + ")}
            assert (section is not None) == expected, (row, name)
            assert (getattr(tail, name) is not None) == (name == "contrastive")
        weights = [section.weight for _, section in masked if section is not None]
        assert weights == [1.0] * len(weights)
    assert {run.plan[-1].last for run in runs.values()} == {runs["VTC"].plan[-1].last}


def test_rows_of_table_7_are_overrides_of_the_ablation_recipe(tiny_overrides: Sequence[str]) -> None:
    runs = rows_of(TABLE_7, tiny_overrides)
    assert len({run.identity for run in runs.values()}) == 4
    for row, run in runs.items():
        hidden = run.config.stage_masking(run.plan[0].stage)
        assert (hidden.video.strategy != "none") == (row in ("video", "both"))
        assert (hidden.text.strategy != "none") == (row in ("text", "both"))


def test_ratio_of_a_masking_that_hides_nothing_is_no_parameter(tiny_overrides: list[str]) -> None:
    """Runs that hide nothing would stand at that ratio wherever MLflow compares."""
    hidden = {
        strategy: parameters(
            prepared(config_file.load(None, [*tiny_overrides, f"masking.video.strategy={strategy}"]))
        )
        for strategy in ("none", "tube")
    }
    ratio = "stages.0.masking.video.ratio"
    assert ratio in hidden["tube"]
    assert ratio not in hidden["none"]
    assert hidden["none"]["stages.0.masking.video.strategy"] == "none"
    assert "stages.0.masking.text.ratio" in hidden["none"]


def test_tags_hold_fingerprints_and_versions(tiny: Config) -> None:
    run = prepared(tiny)
    found = tags(run)
    assert found["data.shapes"] == run.data.fingerprints["shapes"]
    assert found["version.python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["version.torch"][0].isdigit()
    assert {"git.commit", "git.code", "git.dirty"} <= found.keys()


def test_code_that_is_not_committed_is_said_and_what_else_is_in_the_checkout_is_not_code(
    tmp_path: Path,
) -> None:
    def git(*arguments: str) -> None:
        own = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", *own, "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    package = tmp_path / "mac_ray"
    package.mkdir()
    code = package / "code.py"
    code.write_text("a = 1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "sweep.py").write_text("a = 1\n")
    first = git_state(package)["git.commit"]
    git("add", ".")
    git("commit", "-m", "second")
    state = git_state(package)
    assert state["git.code"] == first != state["git.commit"]
    (tmp_path / "my_videos.parquet").write_text("")
    assert git_state(package)["git.dirty"] == "false"
    (tmp_path / "my_sweep.py").write_text("")
    assert git_state(package)["git.dirty"] == "true"
    assert git_state(package)["git.changes"] == ""
    (tmp_path / "my_sweep.py").unlink()
    assert git_state(package)["git.changes"] == ""
    seen = set()
    for content in ("a = 2\n", "a = 3\n"):
        code.write_text(content)
        state = git_state(package)
        assert state["git.dirty"] == "true"
        seen.add(state["git.changes"])
        (package / "more.py").write_text("")
        seen.add(git_state(package)["git.changes"])
        (package / "more.py").unlink()
    assert len(seen) == 4
    assert "" not in seen
