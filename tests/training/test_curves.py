"""The picture of masked views shows the numbers that were measured."""

import numpy as np

from mac_ray.config import Config
from mac_ray.training.curves import COMPARED, masked_views_figure
from mac_ray.training.masked_views import PREFIX
from mac_ray.training.plan import legs

STEPS = [0, 5, 9]


def test_figure_has_each_comparison_beside_that_with_other_samples() -> None:
    metrics = {}
    for number, name in enumerate(COMPARED):
        for shift, suffix in ((0.0, ""), (-0.3, "_others")):
            values = [0.5 + 0.1 * number + shift + step / 100 for step in STEPS]
            metrics[f"{PREFIX}{name}{suffix}"] = list(zip(STEPS, values, strict=True))
        if name != "full_video_text":
            metrics[f"{PREFIX}{name}_spread"] = [(step, 0.3) for step in STEPS]
    figure = masked_views_figure(metrics, legs(Config(), {"shapes": 640}))
    (axes,) = figure.axes
    drawn = [list(map(tuple, line.get_xydata())) for line in axes.lines]
    for name, points in metrics.items():
        if not name.endswith("_spread"):
            assert points in drawn, name
    labelled = {line.get_label() for line in axes.lines}
    assert {label for _, label in COMPARED.values()} <= labelled
    tops = [np.max(band.get_paths()[0].vertices[:, 1]) for band in axes.collections]
    assert tops[0] == 0.5 + 0.09 + 0.3
    assert max(tops) == 1.0  # no cosine is above
