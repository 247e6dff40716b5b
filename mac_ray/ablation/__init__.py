"""Studies: a sweep says what is asked, the plan lays out its runs, Ray Tune executes them, the table answers."""

from collections.abc import Sequence

from mac_ray.ablation.script import say_mistakes
from mac_ray.ablation.sweep import Budget, Choice, Conditional, Knob, Range, Search, Sweep

__all__ = ["Budget", "Choice", "Conditional", "Knob", "Range", "Search", "Sweep", "main"]

say_mistakes()


def main(sweep: Sweep, arguments: Sequence[str] | None = None) -> int:
    """The command of a sweep's file, of these arguments or those that Python was given; its exit code."""
    from mac_ray.ablation.command import (
        main as command,  # with Ray, which a sweep that is only read does not need
    )

    return command(sweep, arguments)
