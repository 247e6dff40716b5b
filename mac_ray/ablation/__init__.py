"""Studies: a sweep says what is asked, the plan lays out its runs, Ray Tune executes them, the table answers."""

from mac_ray.ablation.main import main
from mac_ray.ablation.script import say_mistakes
from mac_ray.ablation.sweep import Budget, Choice, Conditional, Knob, Range, Search, Sweep

__all__ = ["Budget", "Choice", "Conditional", "Knob", "Range", "Search", "Sweep", "main"]

say_mistakes()
