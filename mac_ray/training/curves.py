"""Similarity of masked views over a run, drawn as in Figure 4 of MAC, with what other samples have beside it.

Figures are made without pyplot, which keeps state of its own and may look for a screen.
"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from mac_ray.training.masked_views import OTHERS, PREFIX, SPREAD
from mac_ray.training.plan import Leg

Points = Sequence[tuple[int, float]]  # (step, value)

# the paper's colours, and grey for what the figure does not have
COMPARED = {
    "video": ("tab:blue", "video: masked with full"),
    "text": ("tab:green", "text: masked with full"),
    "video_text": ("tab:red", "masked video with masked text"),
    "full_video_text": ("dimgray", "full video with full text"),
}


def masked_views_figure(metrics: Mapping[str, Points], plan: Sequence[Leg]) -> Figure:
    """`metrics` by the names they are tracked under; each line with a band of one deviation over the masks."""
    figure = Figure(figsize=(8.0, 4.8), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, (color, label) in COMPARED.items():
        steps, values = zip(*metrics[PREFIX + name], strict=True)
        axes.plot(steps, values, color=color, label=label, marker="o", markersize=3, clip_on=False)
        _, others = zip(*metrics[PREFIX + name + OTHERS], strict=True)
        axes.plot(steps, others, color=color, linestyle="dashed", linewidth=1)
        if PREFIX + name + SPREAD in metrics:
            spreads = [spread for _, spread in metrics[PREFIX + name + SPREAD]]
            low = [value - spread for value, spread in zip(values, spreads, strict=True)]
            high = [min(1.0, value + spread) for value, spread in zip(values, spreads, strict=True)]
            axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
    axes.plot([], [], color="black", linestyle="dashed", linewidth=1, label="the same with other samples")
    for leg in plan:
        axes.axvline(leg.first, color="lightgray", linewidth=1, zorder=0)
        axes.annotate(
            leg.stage.name,
            (leg.first, 1.0),
            (3, 3),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            color="gray",
        )
    axes.set(xlabel="step", ylabel="mean cosine", xlim=(0, plan[-1].last))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure
