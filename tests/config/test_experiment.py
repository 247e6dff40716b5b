"""The schema: its defaults, its identity, what it imports."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from mac_ray.config import Config, MovingShapes, Stage

FINGERPRINTS = {"shapes": "f0"}
UNIDENTIFYING = {("name",), ("cluster",), ("storage",), ("tracking",), ("data", "sets")}
# a set has to exist before it can be named; a test of their own changes these
NAMES_OF_SETS = {("stages", 0, "data", 0), ("stages", 1, "data", 0), ("evaluation", "data")}


def identity(raw: dict[str, Any] | None = None) -> str:
    return Config.model_validate(raw or {}).identity(FINGERPRINTS)


def leaves(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if path in UNIDENTIFYING or path in NAMES_OF_SETS or path[-1:] == ("name",):
        return
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if children is None:
        yield path, tree
    else:
        for name, child in children:
            yield from leaves(child, (*path, name))


def replaced(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """All of a config, one value apart."""
    raw = BASE.model_dump(mode="json")
    node: Any = raw
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    return raw


def other_values(schema_words: list[str], value: Any) -> list[Any]:
    """Candidates, of which a field takes those that are valid for it."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value * 2, value / 2, value + 1, value - 1, 0.5]
    return [word for word in schema_words if word != value] + [1, 0.5, "text", {}, {"shapes": 1.0}]


def literals(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [word for word in schema.get("enum", []) if isinstance(word, str)]
        return own + [word for child in schema.values() for word in literals(child)]
    return [word for child in schema for word in literals(child)] if isinstance(schema, list) else []


def is_valid(raw: dict[str, Any]) -> bool:
    try:
        Config.model_validate(raw)
    except ValidationError:
        return False
    return True


WORDS = literals(Config.model_json_schema())
# the default, but for a crop that leaves room to change either end, and a masked tail, where any objective can be
TAIL = Config().stages[1].model_dump() | {"masking": {"video": {"strategy": "tube"}}}
BASE = Config.model_validate(
    {"data": {"crop_scale": [0.3, 0.9]}, "stages": [Config().stages[0].model_dump(), TAIL]}
)
IDENTIFYING = list(leaves(BASE.model_dump(mode="json")))


@pytest.mark.parametrize(("path", "value"), IDENTIFYING, ids=lambda part: str(part))
def test_identity_with_one_value_changed_is_another(path: tuple[str | int, ...], value: Any) -> None:
    changed = [raw for other in other_values(WORDS, value) if is_valid(raw := replaced(path, other))]
    # 0.5 for 0, say, is another value; 1 for 1.0 is not
    changed = [raw for raw in changed if Config.model_validate(raw) != BASE]
    assert changed, f"no other valid value found for {path}"
    assert identity(changed[0]) != BASE.identity(FINGERPRINTS)


def test_identity_walk_reaches_every_identifying_section() -> None:
    reached = {str(path[0]) for path, _ in IDENTIFYING}
    assert reached == set(Config.model_fields) - {"name", "cluster", "storage", "tracking"}


def test_identity_with_other_machines_folders_and_names_is_the_same() -> None:
    stages = [stage.model_dump() | {"name": f"leg {n}"} for n, stage in enumerate(Config().stages)]
    elsewhere = {
        "name": "another",
        "cluster": {"workers": [2, 8], "gpus_per_worker": 1, "loader_workers": 4},
        "storage": {"runs": "/mnt/runs", "keep_checkpoints": 9},
        "tracking": {"enabled": False, "experiment": "another"},
        "stages": stages,
    }
    assert identity(elsewhere) == identity()


def test_identity_with_a_default_said_again_is_the_same() -> None:
    stages = [stage.model_dump() for stage in Config().stages]
    stages[0]["masking"] = {"video": {"ratio": 0.6, "strategy": "random"}, "text": {"ratio": 0.15}}
    stages[1]["objectives"] = {"contrastive": {"temperature": 0.05}}
    assert identity({"masking": {"video": {"ratio": 0.6}}, "stages": stages}) == identity()


def test_identity_with_a_stage_difference_at_the_top_instead_is_the_same() -> None:
    in_stage = [{"name": "a", "data": ["shapes"], "epochs": 1, "masking": {"video": {"ratio": 0.75}}}]
    at_top = [{"name": "a", "data": ["shapes"], "epochs": 1}]
    assert identity({"stages": in_stage}) == identity(
        {"stages": at_top, "masking": {"video": {"ratio": 0.75}}}
    )


@pytest.mark.parametrize("place", ["stage", "evaluation"])
def test_identity_with_another_set_drawn_from_or_scored_is_another(place: str) -> None:
    raw = Config().model_dump()
    raw["data"]["sets"]["toys"] = raw["data"]["sets"]["shapes"]
    both = FINGERPRINTS | {"toys": "f1"}
    before = Config.model_validate(raw).identity(both)
    if place == "stage":
        raw["stages"][0]["data"] = ["shapes", "toys"]
    else:
        raw["evaluation"]["data"] = "toys"
    assert Config.model_validate(raw).identity(both) != before


def test_identity_with_other_content_of_a_set_is_another() -> None:
    assert Config().identity({"shapes": "f1"}) != Config().identity({"shapes": "f0"})


def test_identity_with_a_set_made_or_stored_elsewhere_is_that_of_its_content() -> None:
    stored = {"data": {"sets": {"shapes": {"kind": "manifest", "path": "anywhere.parquet"}}}}
    assert identity(stored) == identity()


def test_stage_sections_merge_differences_over_the_top_level() -> None:
    config = Config.model_validate(
        {
            "masking": {"video": {"order": "sorted"}},
            "optimizer": {"betas": [0.8, 0.9], "tower_rates": {"text": 0.1}},
            "stages": [
                {
                    "name": "a",
                    "data": ["shapes"],
                    "epochs": 1,
                    "masking": {"video": {"ratio": 0.75}},
                    "optimizer": {"tower_rates": {"video": 0.5}, "clip_norm": None},
                }
            ],
        }
    )
    (stage,) = config.stages
    masking, optimizer = config.stage_masking(stage), config.stage_optimizer(stage)
    assert (masking.video.ratio, masking.video.order, masking.text.ratio) == (0.75, "sorted", 0.15)
    assert (optimizer.tower_rates.video, optimizer.tower_rates.text) == (0.5, 0.1)
    assert (optimizer.betas, optimizer.clip_norm) == ((0.8, 0.9), None)
    assert config.stage_objectives(stage) == config.objectives


def test_identity_with_a_further_evaluation_is_another() -> None:
    assert identity({"evaluation": {"also": [{"frames": 2, "windows": 3}]}}) != identity()


def test_config_assigned_to_refuses() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 1  # type: ignore[misc]


def test_configs_share_no_mapping_that_could_be_changed() -> None:
    changed: Any = Config()
    changed.data.sets["another"] = MovingShapes()
    changed.stages[1].masking["video"]["strategy"] = "tube"
    changed.stages[0].optimizer["eps"] = 1.0
    lone: Any = Stage(name="a", data=("shapes",), epochs=1)
    lone.masking["video"] = {}
    fresh = Config()
    assert set(fresh.data.sets) == {"shapes"}
    assert fresh.stages[1].masking == {"video": {"strategy": "none"}, "text": {"strategy": "none"}}
    assert fresh.stages[0].optimizer == {"schedule": "constant"}
    assert Stage(name="a", data=("shapes",), epochs=1).masking == {}


def test_config_sent_to_another_process_is_the_same() -> None:
    assert pickle.loads(pickle.dumps(Config())) == Config()


@pytest.mark.parametrize("module", ["mac_ray.config", "mac_ray.config.file"])
def test_config_modules_import_none_of_the_heavy_packages(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in printed.stdout.split()}
    assert "pydantic" in packages
    assert packages.isdisjoint({"torch", "ray", "mlflow", "transformers", "numpy"})
