"""What papers have published, as data: a table is named by its paper and its place, such as mac/table6.

Values are of one run each, as no paper gives a variance; on 1,000 queries a difference of a point in R@1 is
inside the sampling error of one run. Metric names are those of mac_ray.retrieval.metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from mac_ray.ablation.plan import Row
from mac_ray.ablation.sweep import Sweep
from mac_ray.config import ConfigError

Values = Mapping[str, float]


@dataclass(frozen=True)
class PublishedTable:
    paper: str
    place: str  # in the paper
    scored: str  # set and split
    rows: Mapping[str, Values]  # by metric

    @property
    def source(self) -> str:
        return f"{self.paper}, {self.place}"


def published_rows(sweep: Sweep, rows: list[Row]) -> dict[str, Values]:
    """The published values of those rows of a sweep that have any, by label.

    A row is found by its label, or by the one that `published` gives for it. Raises ConfigError for a table, a row
    of it or a row of the sweep that does not exist, and for a table no row of which is in the sweep.
    """
    if sweep.reference is None:
        if sweep.published:
            raise ConfigError(
                f"sweep {sweep.name}: published names rows, but reference is None; name the table they are of"
            )
        return {}
    table = published_table(sweep)
    labels = [row.label for row in rows]
    for label, name in sweep.published.items():
        if label not in labels:
            raise ConfigError(
                f"sweep {sweep.name}: published has the row {label!r}, which the sweep does not; {_near(label, labels)}"
            )
        if name not in table.rows:
            raise ConfigError(
                f"sweep {sweep.name}: published.{label} is {name!r}, which is no row of {sweep.reference}; "
                f"{_near(name, list(table.rows))}"
            )
    found = {label: table.rows.get(sweep.published.get(label, label)) for label in labels}
    values = {label: row for label, row in found.items() if row is not None}
    if not values:
        raise ConfigError(
            f"sweep {sweep.name}: no row of the sweep is one of {sweep.reference}, which has "
            f"{', '.join(map(repr, table.rows))}; say in published which is which"
        )
    return values


def unmatched(sweep: Sweep, rows: Sequence[Row]) -> str:
    """A sentence about published rows that no row of the sweep stands for, as one of another name would; empty where
    there are none.
    """
    if sweep.reference is None:
        return ""
    stood_for = {sweep.published.get(row.label, row.label) for row in rows}
    left = [name for name in published_table(sweep).rows if name not in stood_for]
    if not left:
        return ""
    return (
        f"{sweep.reference} also has {', '.join(map(repr, left))}, beside which this study has no row; if it should, "
        "say in published which"
    )


def published_table(sweep: Sweep) -> PublishedTable:
    """Raises ConfigError when there is none of the name in `reference`."""
    assert sweep.reference is not None
    if sweep.reference not in TABLES:
        raise ConfigError(
            f"sweep {sweep.name}: reference is {sweep.reference!r}, which is no published table; "
            f"{_near(sweep.reference, list(TABLES))}"
        )
    return TABLES[sweep.reference]


def _near(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=3, cutoff=0.5) or names
    return f"there {'is' if len(close) == 1 else 'are'} {', '.join(map(repr, close))}"


# ---------------------------------------------------------------- the tables

R = tuple[float, float, float]  # R@1, R@5, R@10


def _recalls(t2v: R, v2t: R | None = None, **others: float) -> Values:
    """With both directions, their sum too. `others` by metric, / as __."""
    values = dict(zip(("t2v/R1", "t2v/R5", "t2v/R10"), t2v, strict=True))
    if v2t is not None:
        values |= dict(zip(("v2t/R1", "v2t/R5", "v2t/R10"), v2t, strict=True))
        values["Rsum"] = round(sum(t2v) + sum(v2t), 1)
    return values | {name.replace("__", "/"): value for name, value in others.items()}


def _first(t2v: float | None, v2t: float | None) -> Values:
    """R@1 alone."""
    given = {"t2v/R1": t2v, "v2t/R1": v2t}
    return {name: value for name, value in given.items() if value is not None}


def _cost(parameters: float, gflops: float) -> Values:
    """Million parameters; GFLOPs of a forward pass of both towers, without the products of attention."""
    return {"parameters_m": parameters, "gflops": gflops}


MAC, MASCOT, DRL, GLSCL = (
    "MAC (arXiv 2212.00986)",
    "MASCOT (arXiv 2305.07910)",
    "DRL (README)",
    "GLSCL (README)",
)
MSRVTT = "MSR-VTT 1k-A"

TABLES: Mapping[str, PublishedTable] = {
    "mac/table1": PublishedTable(
        MAC,
        "Table 1",
        MSRVTT,
        {
            "MAC": _recalls((38.9, 63.1, 73.9), t2v__MdR=3),
            "Frozen, re-trained": _recalls((34.2, 61.1, 71.6), t2v__MdR=3),
            "BridgeFormer": _recalls((37.6, 64.8, 75.1)),
            "MILES": _recalls((37.7, 63.6, 73.8)),
            "VIOLET": _recalls((34.5, 63.0, 73.2)),
            "ALPRO": _recalls((33.9, 60.7, 73.2)),
            "All-in-one": _recalls((37.9, 68.1, 77.1)),
        },
    ),
    "mac/table2-activitynet": PublishedTable(
        MAC,
        "Table 2",
        "ActivityNet",
        {
            "MAC, 4 frames": _recalls((30.6, 60.5, 74.7)),
            "MAC, 8 frames": _recalls((34.4, 64.8, 78.3)),
            "Frozen, 4 frames": _recalls((27.6, 57.4, 71.9)),
        },
    ),
    "mac/table2-didemo": PublishedTable(
        MAC,
        "Table 2",
        "DiDeMo",
        {
            "MAC, 4 frames": _recalls((36.7, 64.5, 75.3)),
            "MAC, 8 frames": _recalls((38.1, 65.7, 76.8)),
            "Frozen": _recalls((31.0, 59.8, 72.4)),
        },
    ),
    "mac/table2-msvd": PublishedTable(
        MAC,
        "Table 2",
        "MSVD",
        {
            "MAC, 4 frames": _recalls((36.9, 65.1, 75.7)),
            "MAC, 8 frames": _recalls((39.3, 67.5, 79.4)),
            "Frozen": _recalls((33.7, 64.7, 76.3)),
        },
    ),
    "mac/table3": PublishedTable(MAC, "Table 3", "Flickr30k", {"MAC": _recalls((79.3, 94.7, 97.2))}),
    "mac/table4": PublishedTable(
        MAC,
        "Table 4",
        "4 frames of 224 × 224, no training",
        {
            "Frozen": _cost(180.7, 189.3),
            "VIOLET": _cost(196.7, 191.1),
            "BridgeFormer": _cost(266.0, 286.1),
            "MILES": _cost(295.5, 367.5),
            "MAC": _cost(180.7, 83.3),
        },
    ),
    "mac/table5": PublishedTable(
        MAC,
        "Table 5",
        MSRVTT,
        {
            "VTC": _recalls((36.4, 63.8, 73.0)),
            "VTC + MVM": _recalls((34.4, 60.0, 71.1)),
            "VTC + MLM": _recalls((32.1, 58.5, 69.4)),
            "VTC + LM": _recalls((27.2, 51.3, 63.9)),
            "VTC + MVM + LM": _recalls((26.3, 51.3, 64.0)),
        },
    ),
    "mac/table6": PublishedTable(
        MAC,
        "Table 6",
        MSRVTT,
        {
            "no mask": _recalls((34.0, 61.7, 71.9)),
            "tube": _recalls((35.7, 62.1, 71.2)),
            "random": _recalls((36.4, 63.8, 73.0)),
        },
    ),
    "mac/table7": PublishedTable(
        MAC,
        "Table 7",
        MSRVTT,
        {
            "neither masked": _recalls((34.0, 61.7, 71.9)),
            "video only": _recalls((35.8, 62.2, 72.2)),
            "text only": _recalls((35.6, 60.0, 72.0)),
            "both": _recalls((36.4, 63.8, 73.0)),
        },
    ),
    "mascot/table1": PublishedTable(
        MASCOT,
        "Table 1",
        MSRVTT,
        {
            "none": _recalls((46.6, 73.4, 83.5), (45.4, 73.4, 81.9)),
            "random 50%": _recalls((45.8, 74.9, 83.3), (45.0, 72.9, 83.8)),
            "random 70%": _recalls((46.2, 75.5, 83.6), (44.6, 73.4, 83.7)),
            "random + tube 50%": _recalls((47.6, 73.3, 83.3), (45.3, 75.2, 83.3)),
            "random + tube 70%": _recalls((47.1, 75.4, 84.3), (44.5, 74.7, 83.2)),
            "low-informed 50%": _recalls((47.9, 75.5, 83.7), (46.0, 74.3, 84.4)),
            "low-informed 70%": _recalls((47.3, 74.7, 83.5), (45.2, 73.6, 83.9)),
            "high-informed 50%": _recalls((47.8, 75.5, 84.1), (46.2, 74.5, 83.3)),
            "high-informed 70%": _recalls((48.0, 75.7, 84.0), (46.2, 74.7, 84.5)),
        },
    ),
    # V co-encoder, T text, R reconstructor, D discriminator, u unidirectional; H and L high- and low-informed
    "mascot/table2": PublishedTable(
        MASCOT,
        "Table 2",
        MSRVTT,
        {
            "H: T+V": _recalls((47.1, 75.0, 83.2), (45.5, 73.9, 83.2)),
            "H: T+V+R": _recalls((47.5, 75.5, 83.6), (46.2, 74.5, 83.8)),
            "H: T+V+R_u": _recalls((47.8, 75.7, 83.5), (46.1, 74.6, 84.0)),
            "H: T+V_u+R": _recalls((47.9, 75.5, 83.8), (46.0, 74.7, 84.3)),
            "H: T+V_u+R_u": _recalls((48.0, 75.7, 84.0), (46.2, 74.7, 84.5)),
            "L: T+V": _recalls((47.6, 75.0, 83.4), (45.7, 73.4, 83.4)),
            "L: T+V+R_u": _recalls((47.2, 74.4, 83.6), (45.0, 73.1, 83.5)),
            "L: T+V_u": _recalls((47.5, 75.1, 83.5), (45.6, 73.7, 83.9)),
            "L: T+V+D": _recalls((47.4, 75.3, 83.7), (45.8, 74.2, 84.0)),
            "L: T+V_u+D": _recalls((47.9, 75.5, 83.7), (46.0, 74.3, 84.4)),
            "H+L": _recalls((48.3, 75.8, 84.4), (46.6, 74.4, 85.0)),
        },
    ),
    "drl/readme": PublishedTable(
        DRL,
        "results",
        MSRVTT,
        {
            "zero-shot CLIP": _recalls((31.1, 53.7, 63.4)),
            "DP + none": _recalls((42.9, 70.6, 81.4)),
            "DP + seqTransf": _recalls((42.8, 71.1, 81.1)),
            "XTI + none": _recalls((40.5, 71.1, 82.6)),
            "XTI + seqTransf": _recalls((42.4, 71.3, 80.9)),
            "TI + seqTransf": _recalls((44.8, 73.0, 82.2)),
            "WTI + seqTransf": _recalls((46.6, 73.4, 83.5), (45.4, 73.4, 81.9)),
            "DP + CDCR": _recalls((43.9, 71.1, 81.2)),
            "TI + CDCR": _recalls((45.8, 73.0, 81.9)),
            "WTI + CDCR": _recalls((47.6, 73.4, 83.3), (45.1, 72.9, 83.5)),
        },
    ),
    "glscl/msrvtt": PublishedTable(
        GLSCL,
        "Table I",
        MSRVTT,
        {
            "B/32": _recalls((48.1, 73.9, 82.3), (47.1, 73.0, 83.2), t2v__MnR=13.8, v2t__MnR=10.3),
            "B/32 + QB-Norm": _recalls((50.0, 73.7, 82.8), (49.4, 74.5, 83.9), t2v__MnR=14.2, v2t__MnR=9.6),
            "B/16": _recalls((49.5, 75.1, 83.9), (48.9, 76.3, 85.8), t2v__MnR=12.6, v2t__MnR=8.4),
            "B/16 + QB-Norm": _recalls((50.5, 75.2, 83.8), (49.2, 76.1, 86.2), t2v__MnR=12.8, v2t__MnR=8.5),
            "CLIP4Clip": _first(44.5, 42.7),
            "X-CLIP": _first(46.1, 46.8),
            "TS2-Net": _first(47.0, 45.3),
            "X-Pool": _first(46.9, 44.4),
            "DiCoSA": _first(46.7, 44.1),
            "Prompt Switch": _first(47.8, 46.0),
        },
    ),
    "glscl/msvd": PublishedTable(
        GLSCL,
        "Table II",
        "MSVD",
        {
            "B/32": _recalls((47.5, 76.3, 86.1), (69.1, 91.5, 94.8), t2v__MnR=9.8, v2t__MnR=3.2),
            "CLIP4Clip": _first(45.2, 62.0),
            "CenterCLIP": _first(47.3, 63.5),
            "X-CLIP": _first(47.1, 60.9),
            "X-Pool": _first(47.2, 66.4),
            "DiCoSA": _first(43.4, 61.7),
        },
    ),
    "glscl/didemo": PublishedTable(
        GLSCL,
        "Table II",
        "DiDeMo",
        {
            "B/32": _recalls((46.7, 75.0, 82.9), (45.9, 74.5, 83.1), t2v__MnR=13.0, v2t__MnR=9.5),
            "CLIP4Clip": _first(42.8, 41.4),
            "X-CLIP": _first(45.2, 43.1),
            "TS2-Net": _first(41.8, None),
            "DiCoSA": _first(41.8, 44.0),
        },
    ),
    "glscl/lsmdc": PublishedTable(
        GLSCL,
        "Table II",
        "LSMDC",
        {
            "B/32": _recalls((23.4, 42.4, 49.8), (22.2, 41.4, 50.0), t2v__MnR=56.2, v2t__MnR=50.3),
            "CLIP4Clip": _first(22.6, 20.8),
            "X-CLIP": _first(23.3, 22.5),
            "X-Pool": _first(25.2, 22.7),
        },
    ),
    "glscl/activitynet": PublishedTable(
        GLSCL,
        "Table II",
        "ActivityNet",
        {
            "B/32": _recalls((41.4, 72.1, 83.9), (40.6, 71.8, 84.1), t2v__MnR=7.5, v2t__MnR=7.1),
            "CLIP4Clip": _first(40.5, 41.4),
            "CenterCLIP": _first(43.9, 44.5),
            "X-CLIP": _first(44.3, 43.9),
            "TS2-Net": _first(41.0, None),
            "DiCoSA": _first(37.8, 36.5),
        },
    ),
    "anchors/msrvtt": PublishedTable(
        "several",
        "papers, READMEs and issues",
        "MSR-VTT",
        {
            "Frozen, fine-tuned": _recalls((31.0, 59.5, 70.5), t2v__MdR=3),
            "Frozen, zero-shot": _recalls((21.7, 43.4, 53.4)),
            "Frozen, ImageNet only": _recalls((17.8, 40.6, 55.1)),
            "BridgeFormer, zero-shot": _recalls((26.0, 46.4, 56.4)),
            "MILES, zero-shot": _recalls((26.1, 47.2, 56.9)),
            "UMT B/16, zero-shot": _first(35.2, None),
            "UMT L/16, zero-shot": _first(40.7, None),
            "HMMC": _recalls((46.7, 73.9, 83.3)),
            "HMMC, pretrained": _recalls((47.8, 74.1, 83.7)),
            "SimVTP": _first(43.8, None),
        },
    ),
    "a-clip/imagenet": PublishedTable(
        "A-CLIP (README)",
        "results",
        "ImageNet, zero-shot",
        {
            "full image": {"top1": 37.6},
            "random 1 × 50%": {"top1": 35.0},
            "random 2 × 50%": {"top1": 38.0},
            "attentive 1 × 50%": {"top1": 39.5},
            "attentive 2 × 50%": {"top1": 41.3},
            "most relevant hidden": {"top1": 28.5},
        },
    ),
    "flip/imagenet": PublishedTable(
        "FLIP (arXiv 2212.00794)",
        "ablations of ratio and batch",
        "ImageNet, zero-shot",
        {  # what a ratio saves in memory may go into the batch; at equal batch masking gains nothing
            "0%, batch 16k": {"top1": 68.6},
            "50%, batch 16k": {"top1": 68.5},
            "50%, batch 32k": {"top1": 69.6},
            "50%, batch 64k": {"top1": 70.4},
            "75%, batch 16k": {"top1": 65.8},
            "75%, batch 32k": {"top1": 67.3},
            "75%, batch 64k": {"top1": 68.2},
        },
    ),
}
