"""What a config costs: parameters and FLOPs by arithmetic; training steps and their data by the clock.

    python -m mac_ray.bench flops [CONFIG.yaml] [section.key=value …] [--ratio 0.3 0.6] [--json]
    python -m mac_ray.bench step [CONFIG.yaml] [section.key=value …] [--against masking.video.strategy=none]
    python -m mac_ray.bench step ONE.yaml --stage masked --against OTHER.yaml section.key=value --stage videos
    python -m mac_ray.bench data [CONFIG.yaml or MANIFEST.parquet] [section.key=value …]
    python -m mac_ray.bench engine [--points 1000] [--runs 12]

A bare GPU machine will do: nothing needs a network, only `engine` Ray and MLflow, and only `data` data.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from mac_ray.bench.costs import (
    PUBLISHED_OTHERS,
    RATIOS,
    cost_rows,
    parameter_counts,
    pretext_rows,
    published_parameters,
)
from mac_ray.bench.step import measure, stage_named
from mac_ray.bench.tables import (
    cost_table,
    data_table,
    engine_table,
    parameter_table,
    pretext_table,
    step_table,
)
from mac_ray.config import Config, ConfigError, require_stages
from mac_ray.config import file as config_file
from mac_ray.errors import EXIT_BAD_INPUT, EXIT_FAILED, RunError
from mac_ray.terminal import say, say_stopped
from mac_ray.training.first_weights import with_found_weights

Command = Callable[[Sequence[str], Console], None]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mac_ray.bench", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="see `flops --help`, …")
    given = parser.parse_args(arguments)
    console = Console()
    try:
        COMMANDS[given.command](given.rest, console)
    except ConfigError as error:
        say(console, f"error: {error}", "red")
        return EXIT_BAD_INPUT
    except RunError as error:
        say(console, f"error: {error}", "red")
        return EXIT_FAILED
    except (OSError, KeyboardInterrupt) as error:
        return say_stopped(error, console, "start it again")
    return 0


# ---------------------------------------------------------------- flops


def flops(arguments: Sequence[str], console: Console) -> None:
    """Parameters, and FLOPs of one sample's forward pass in the conventions of the literature."""
    parser = _parser("flops", flops.__doc__)
    parser.add_argument(
        "--text-tokens",
        type=_positive,
        help="length of the caption (default: data.max_caption_tokens)",
    )
    parser.add_argument(
        "--ratio",
        nargs="+",
        type=_ratio,
        default=RATIOS,
        help=f"shares of patches hidden (default: {' '.join(f'{ratio:g}' for ratio in RATIOS)})",
    )
    given = parser.parse_intermixed_args(arguments)
    path, overrides = config_file.path_and_overrides(given.config, given.overrides)
    config = _loaded(path, overrides)
    text_tokens = given.text_tokens or config.data.max_caption_tokens
    counts, rows = parameter_counts(config), cost_rows(config, text_tokens, given.ratio)
    pretext = pretext_rows(config, text_tokens)
    published = published_parameters(config)
    if given.json:
        found = {
            "config": config.name,
            "text_tokens": text_tokens,
            "parameters": {"total": sum(counts.values())} | counts,
            "published_parameters": asdict(published) if published else None,
            "rows": [asdict(row) for row in rows],
            "pretext": [asdict(row) for row in pretext],
        }
        print(json.dumps(found, indent=2))
    else:
        console.print(parameter_table(config, counts, published))
        console.print(cost_table(rows, text_tokens, len(given.ratio)))
        if pretext:
            console.print(pretext_table(pretext))
        console.print(
            "2 operations per multiply-accumulate. paper: its convention, linear layers only, all patches embedded "
            "and then masked. executed: as this code does it, only visible patches embedded, products of attention "
            "included. published: in the paper's convention, and how far from it this code is.",
            style="dim",
            highlight=False,
        )
        rows_published = {row.published for row in rows if row.published}
        for value in sorted(rows_published, key=lambda published: published.value):
            console.print(f"  {value.value / 1e9:.1f}: {value.source}", style="dim", highlight=False)
        if rows_published:
            others = (
                f"{row} {values['gflops']:g} with {values['parameters_m']:g} M parameters"
                for row, values in PUBLISHED_OTHERS.items()
            )
            console.print(f"  of other towers there: {', '.join(others)}", style="dim", highlight=False)


# ---------------------------------------------------------------- step


def step(arguments: Sequence[str], console: Console) -> None:
    """Time of a training step on made-up batches, of the config and of what it is compared with."""
    parser = _parser("step", step.__doc__)
    parser.add_argument(
        "--against",
        nargs="+",
        action="append",
        default=[],
        metavar="[CONFIG.yaml] section.key=value",
        help="a config to compare with: further overrides, or a file with overrides of its own; may be repeated",
    )
    parser.add_argument(
        "--stage",
        action="append",
        default=[],
        help="name of the stage to take, for all configs or given once for each (default: the first)",
    )
    parser.add_argument(
        "--steps", type=_positive, default=20, help="timed steps of each (default: %(default)s)"
    )
    parser.add_argument(
        "--batch", type=_positive, help="samples (default: one worker's share of the stage's batch)"
    )
    parser.add_argument(
        "--text-tokens", type=_positive, help="caption length (default: data.max_caption_tokens)"
    )
    parser.add_argument("--compile", action="store_true", help="both towers by torch.compile")
    parser.add_argument(
        "--largest-batch",
        action="store_true",
        help="search the largest batch that fits in the GPU's memory, of each config alone",
    )
    given = parser.parse_intermixed_args(arguments)
    path, overrides = config_file.path_and_overrides(given.config, given.overrides)
    configs = {" ".join(overrides) or "as configured": _loaded(path, overrides)}
    for further in given.against:
        name = " ".join(further)
        # overrides go on from what they are compared with, a file starts anew
        from_path, given_before = (
            (path, overrides) if config_file.is_override(further[0]) else (further.pop(0), [])
        )
        # arms of the same words may be different stages of them
        same = sum(known == name or known.startswith(f"{name} (") for known in configs)
        configs[f"{name} ({same + 1})" if same else name] = _loaded(from_path, [*given_before, *further])
    report = measure(
        configs,
        given.stage,
        given.batch,
        given.text_tokens,
        given.steps,
        given.compile,
        given.largest_batch,
    )
    if given.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        console.print(step_table(report))
        for number, arm in enumerate(report.arms, start=1):
            line = f"  {number}  {arm.name}, stage {arm.stage}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        console.print(
            f"Medians of {report.steps} steps taken in turns; time is per sample; backward counted as twice the "
            "forward; peak is the most memory that each takes alone, with weights and moments.",
            style="dim",
        )


# ---------------------------------------------------------------- data


def data(arguments: Sequence[str], console: Console) -> None:
    """Clips per second of one core, by storage and decoder, against the bare decoder, and what limits them."""
    parser = _parser("data", data.__doc__)
    parser.add_argument("--stage", help="name of the stage to take (default: the first)")
    parser.add_argument("--samples", type=_positive, default=64, help="of its sets (default: %(default)s)")
    parser.add_argument("--rounds", type=_positive, default=4, help="over them (default: %(default)s)")
    given = parser.parse_intermixed_args(arguments)
    path, overrides = config_file.path_and_overrides(given.config, given.overrides)
    if path is not None and Path(path).suffix == ".parquet":
        config = _loaded(None, [*_training_on(path), *overrides])
    else:
        config = _loaded(path, overrides)
    # what reads data needs PyAV and pyarrow, without which a bare GPU machine counts and times steps
    from mac_ray.bench.data import measure as measure_data
    from mac_ray.data.manifest import ManifestError

    try:
        report = measure_data(
            config, stage_named(config.name, config, given.stage), given.samples, given.rounds
        )
    except ManifestError as error:
        raise ConfigError(str(error)) from error
    if given.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        console.print(data_table(report))
        console.print(
            "bare: a sample opened, the frames drawn decoded, resized and cropped. loader: whole batches, made where "
            "they are asked for, and the share of the bare rate. received: made by a loader process and sent from "
            "there; then what the time of both goes to, * most of it.",
            style="dim",
        )


def _training_on(manifest: str) -> list[str]:
    """The overrides with which the default trains on a manifest."""
    stages = [f"stages.{number}.data=[given]" for number in range(len(Config().stages))]
    return [
        "data.sets.given.kind=manifest",
        f"data.sets.given.path={manifest}",
        *stages,
        "evaluation.data=given",
    ]


# ---------------------------------------------------------------- engine


def engine(arguments: Sequence[str], console: Console) -> None:
    """Seconds that a sweep takes beside training: around each run, and by point of a large study."""
    parser = argparse.ArgumentParser(prog="python -m mac_ray.bench engine", description=engine.__doc__)
    parser.add_argument("--points", type=_positive, default=100, help="of the study (default: %(default)s)")
    parser.add_argument(
        "--runs",
        type=_count,
        default=12,
        help="small ones that a sweep trains on Ray; 0: none (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(arguments)
    from mac_ray.bench.engine import measure as measure_engine

    report = measure_engine(given.points, given.runs)
    if given.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        console.print(engine_table(report))


# ---------------------------------------------------------------- the command line


COMMANDS: dict[str, Command] = {"flops": flops, "step": step, "data": data, "engine": engine}


def _parser(command: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m mac_ray.bench {command}", description=description)
    parser.add_argument("config", nargs="?", help="YAML file; without one the embedded default")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _loaded(path: str | None, overrides: Sequence[str]) -> Config:
    """The config, which has steps to be counted or timed, with its weights found. Raises ConfigError."""
    config = config_file.load(path, overrides)
    if (source := config.model.pretrained) and Path(source).is_dir():
        config = with_found_weights(config)
    require_stages(config, "benchmarks are of training")
    return config


def _ratio(text: str) -> float:
    ratio = float(text)
    if not 0 <= ratio < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 0 and below 1")
    return ratio


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is below 0")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


if __name__ == "__main__":
    raise SystemExit(main())
