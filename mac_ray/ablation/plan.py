"""The runs of a sweep, laid out and checked before anything is started. Pure: no Ray, no MLflow, no data.

A row is one way to train; a point is a row with a seed, and becomes one run.
"""

import json
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from mac_ray.ablation.sweep import Sweep
from mac_ray.config import Config, ConfigError, require_stages
from mac_ray.config.file import changed, reads_as_itself
from mac_ray.passwords import without_passwords

ROOT = Path(__file__).parents[2]
LONGEST_NAME = 200  # bytes; a file system takes 255, and the name of a folder goes on with the identity
NOT_TRAINED = ("name", "cluster", "storage", "tracking")  # sections that make no other run
SHORT = {
    "strategy": 2,
    "ratio": 2,
    "order": 2,
    "weight": 2,
}  # last parts of a path that say too little alone, and how many to show


@dataclass(frozen=True)
class Row:
    """`values` are dotted paths of the config, what this row changes of the base."""

    label: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    row: Row
    seed: int
    config: Config

    @property
    def label(self) -> str:
        return f"{self.row.label} · seed {self.seed}"


def rows_of(sweep: Sweep) -> list[Row]:
    """Every crossing of the factors, under every variant if there are any, in the order given."""
    variants: Mapping[str, Mapping[str, Any]] = sweep.variants or {"": {}}
    short = short_names(sweep.factors)
    rows: list[Row] = []
    for name, bundle in variants.items():
        for values in product(*sweep.factors.values()):
            chosen = dict(zip(sweep.factors, values, strict=True))
            if both := sorted(bundle.keys() & chosen.keys()):
                raise ConfigError(
                    f"sweep {sweep.name}: variant {name!r} sets {both[0]}, which is a factor; set it in one of them"
                )
            _require_no_section_of_another(sweep, bundle.keys() | chosen.keys())
            said = [name] if name else []
            said += [f"{short[path]}={shown(value)}" for path, value in chosen.items()]
            rows.append(Row(", ".join(said), {**bundle, **chosen}))
    return rows


def _require_no_section_of_another(sweep: Sweep, paths: Collection[str]) -> None:
    """Of what a row sets, one value would replace another, or switch on what that switches off. Raises ConfigError."""
    for path in sorted(paths):
        for section in sorted(paths):
            if path.startswith(f"{section}."):
                raise ConfigError(
                    f"sweep {sweep.name}: a row sets both {section} and {path}, which is in it; give {section} once, "
                    "with all that is in it"
                )


def expand(sweep: Sweep) -> list[Point]:
    """One point per row and seed, each with its valid config.

    Raises ConfigError with a sentence per problem, which names the rows that have it, before anything is started.
    """
    rows = rows_of(sweep)
    base_path(sweep)  # which no row is to blame for
    _require_own_paths(sweep)
    _require_own_labels(sweep, rows)
    points: list[Point] = []
    problems: dict[str, list[str]] = {}  # and the rows that have each
    for row in rows:
        try:
            config = config_of(sweep, row.values, sweep.seeds[0])
        except ConfigError as error:
            problems.setdefault(str(error), []).append(repr(row.label))
            continue
        for seed in sweep.seeds:  # any is as valid
            own = {"seed": seed, "name": run_name(sweep, row, seed)}
            points.append(Point(row, seed, config.model_copy(update=own)))
    if problems:
        raise ConfigError("\n".join(_told(sweep, problem, of, len(rows)) for problem, of in problems.items()))
    baseline_of(sweep, rows)
    _require_one_protocol(sweep, points)
    return points


def _told(sweep: Sweep, problem: str, labels: Sequence[str], num_rows: int) -> str:
    """Once, however many rows have it; where all do, it is of none of them."""
    if len(labels) == num_rows:
        return f"sweep {sweep.name}: {problem}"
    return f"sweep {sweep.name}, row{'s' if labels[1:] else ''} {', '.join(labels)}: {problem}"


def _require_own_paths(sweep: Sweep) -> None:
    """What rows set makes other runs of them. Raises ConfigError."""
    require_no_name(sweep)
    for path in sweep.factors:
        require_varied(sweep, "factors", path, NOT_TRAINED)
    for label, bundle in sweep.variants.items():
        for path in bundle:  # which may ask for the GPUs that a larger row needs
            require_varied(sweep, f"variants.{label}", path, ("name", "storage", "tracking"))
    sections = {path for bundle in sweep.variants.values() for path in bundle} | sweep.factors.keys()
    for path in sweep.overrides:
        for section in sections:
            if path.startswith(f"{section}."):  # rows that set it replace it, so others alone would follow
                raise ConfigError(
                    f"sweep {sweep.name}: an override sets {path}, which reaches only the rows that do not set "
                    f"{section} themselves, as the baseline may not; take it out, or write it into the rows"
                )


def _require_own_labels(sweep: Sweep, rows: Sequence[Row]) -> None:
    """Raises ConfigError for two rows of one label, whose runs would stand in one line of the table."""
    known: dict[str, Row] = {}
    for row in rows:
        other = known.setdefault(row.label, row)
        if other is not row:
            path = next(
                path for path, value in row.values.items() if repr(other.values.get(path)) != repr(value)
            )
            raise ConfigError(
                f"sweep {sweep.name}: two rows are called {row.label!r}, of {path} {other.values.get(path)!r} and "
                f"{row.values[path]!r}; give values that differ in six digits, or variants with names"
            )


def require_no_name(sweep: Sweep) -> None:
    """Raises ConfigError for an override of what a sweep gives to each run itself."""
    for path, instead in (("seed", "give --seeds"), ("name", "the sweep names its runs")):
        if path in sweep.overrides:
            raise ConfigError(
                f"sweep {sweep.name}: an override sets {path}, of which each run has its own; take it out, {instead}"
            )


def set_by_all(sweep: Sweep) -> set[str]:
    """Paths that every row sets, so that an override of one reaches no run."""
    return set(sweep.factors).union(
        *([set.intersection(*map(set, sweep.variants.values()))] if sweep.variants else [])
    )


def require_varied(sweep: Sweep, part: str, path: str, not_trained: Sequence[str]) -> None:
    """A path that makes another run of what sets it. Raises ConfigError."""
    place = f"sweep {sweep.name}: {part}.{path}"
    if path == "seed":
        raise ConfigError(
            f"{place} does not go here, everything is run with each of seeds; give those instead"
        )
    if path.partition(".")[0] in not_trained:
        raise ConfigError(f"{place} makes no other run, it says where a run takes place; take it out")


def _require_one_protocol(sweep: Sweep, points: list[Point]) -> None:
    """Their table would be refused, and only when all is trained; of other test samples it would even look sound."""
    of = {
        (point.config.evaluation.data, point.config.evaluation.protocol): point.row
        for point in reversed(points)
    }
    tested = {scored_samples(point.config, "test"): point.row for point in reversed(points)}
    if len(of) > 1:
        said = (f"row {row.label!r} on {data!r} by {protocol}" for (data, protocol), row in of.items())
        first, second, *_ = sorted(said)
        raise ConfigError(
            f"sweep {sweep.name}: {first} is scored differently from {second}, and their numbers cannot be compared; "
            "let all rows have the same evaluation.data and evaluation.protocol"
        )
    if len(tested) > 1:
        first, second, *_ = (repr(row.label) for row in tested.values())
        raise ConfigError(
            f"sweep {sweep.name}: rows {second} and {first} are scored on other samples, and their numbers cannot be "
            "compared; let a set vary in its train samples alone, or make a second one to train on"
        )


def scored_samples(config: Config, *splits: str) -> str:
    """What decides which they are, of these splits of the set that is scored."""
    section = config.data.sets[config.evaluation.data]
    others = {"train", "val", "test"} - set(splits)
    return section.model_dump_json(exclude=others if section.kind == "moving_shapes" else None)


def config_of(sweep: Sweep, values: Mapping[str, Any], seed: int) -> Config:
    """The config of one run. Raises ConfigError."""
    changes = {**sweep.overrides, **values, "seed": seed}
    sources = ["" if path in values else f"override '{path}={shown(changes[path])}'" for path in changes]
    config = changed(base_path(sweep), list(changes.items()), sources)
    require_stages(config, "a sweep compares what is")
    cluster = config.cluster  # by itself a run takes the whole machine, here it has others beside it
    if cluster.threads is None:
        cluster = cluster.model_copy(update={"threads": cluster.cpus_per_worker})
    if cluster.workers == "auto":
        cluster = cluster.model_copy(update={"workers": cluster.most_workers})
    return config.model_copy(update={"cluster": cluster})


def command_of(sweep: Sweep, point: Point) -> str:
    """What trains the run of a point by itself; it is the same run, with the same identity."""
    unscaled = config_of(sweep, point.row.values, point.seed)
    changes = {**sweep.overrides, **point.row.values, "seed": point.seed}
    pairs = zip(point.config.stages, unscaled.stages, strict=True)
    changes |= {
        f"stages.{number}.epochs": scaled.epochs
        for number, (scaled, given) in enumerate(pairs)
        if scaled.epochs != given.epochs
    }
    if point.config.evaluation.every_epochs != unscaled.evaluation.every_epochs:
        changes["evaluation.every_epochs"] = point.config.evaluation.every_epochs
    overrides = [f"{path}={written(value)}" for path, value in changes.items()]
    # as given where that is found from here; a run started by hand does not look in the project's root
    base = sweep.base if Path(sweep.base).is_file() else str(base_path(sweep))
    return shlex.join(["python", "-m", "mac_ray.pretrain", base, *overrides])


def written(value: Any) -> str:
    """As an override gives it."""
    return value if isinstance(value, str) and reads_as_itself(value) else json.dumps(value)


def base_path(sweep: Sweep) -> Path:
    """As given, from where the command runs or from the project's root. Raises ConfigError."""
    for path in (Path(sweep.base), ROOT / sweep.base):
        if path.is_file():
            return path
    raise ConfigError(
        f"sweep {sweep.name}: there is no base config {sweep.base}, neither here nor in {ROOT}; name a YAML file"
    )


def baseline_of(sweep: Sweep, rows: list[Row]) -> Row:
    """The row that others are compared with. Raises ConfigError when there is none of that name."""
    if sweep.baseline is None:
        return rows[0]
    for row in rows:
        if row.label == sweep.baseline:
            return row
    raise ConfigError(
        f"sweep {sweep.name}: baseline is {sweep.baseline!r}, but the rows are "
        f"{', '.join(repr(row.label) for row in rows)}; name one of these"
    )


def run_name(sweep: Sweep, row: Row, seed: int) -> str:
    """What the run of a point is called where people look for it; it is no part of what identifies the run."""
    label = re.sub(r"[^\w.,=+-]+", "_", row.label).strip("_")
    room = LONGEST_NAME - len(f"{sweep.name}..seed={seed}".encode())
    cut = label.encode()[: max(room, 0)].decode(errors="ignore")  # never in the midst of a letter
    return f"{sweep.name}.{cut}.seed={seed}"


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """The end of each dotted path that tells it from the others: video.depth and text.depth, depth alone."""
    paths = list(dict.fromkeys(paths))
    names = {path: short_name(path) for path in paths}
    while len(set(names.values())) < len(paths):
        twice = {name for name, count in Counter(names.values()).items() if count > 1}
        for path, name in names.items():
            if name in twice:
                names[path] = ".".join(path.split(".")[-(name.count(".") + 2) :])
    return names


def short_name(path: str) -> str:
    """The end of a dotted path that says enough by itself: video.ratio, temporal_init, stages.0.epochs."""
    parts = path.split(".")
    told = SHORT.get(parts[-1], 1)
    if len(parts) > 2 and parts[-2].isdigit():  # of one stage among several
        told = max(told, 3)
    return ".".join(parts[-told:])


def shown(value: Any) -> str:
    """As labels say it, which everybody sees."""
    return f"{value:g}" if isinstance(value, float) else without_passwords(str(value))
