"""The report as one HTML page: what is wrong first, then the splits, how the values are distributed, and examples."""

from __future__ import annotations

from collections.abc import Sequence

from mac_ray.page.document import charts_section, document, section
from mac_ray.page.markup import Cell, Heading, breakable, duration, facts, listed, number, sortable, text
from mac_ray.page.palette import IN_PAGE, Palette
from mac_ray.page.vega import Chart, Spec, colour_of, numbered, quantity
from mac_ray.prepare.captions import Spread
from mac_ray.prepare.histogram import Histogram
from mac_ray.prepare.overlap import Place
from mac_ray.prepare.report import Located, Report
from mac_ray.prepare.verdict import effort, notes, problems, verdict

LISTED = 20  # samples of a kind; the JSON report has them all


def page(report: Report) -> str:
    charts = [histogram_chart(histogram, IN_PAGE) for histogram in report.histograms]
    header = (
        f'<p class="dim name">readiness report</p><h1>{text(report.name)}</h1>\n'
        f'<p class="verdict {"better" if report.is_ready else "worse"}">{text(verdict(report))}</p>\n'
        f"{listed(problems(report))}{listed(notes(report), 'notes')}"
    )
    sections = [
        section("Samples", _samples(report)),
        section("Captions", _captions(report)),
        _broken(report),
        charts_section(charts),
        section("Media", _media(report)) if report.media else "",
        _same(report),
        section("How it was made", _made(report)),
    ]
    return document(f"{report.name}: readiness report", header, sections, charts)


def histogram_chart(histogram: Histogram, palette: Palette) -> Chart:
    """Bars of the splits stacked on each other."""
    data = [
        {"low": low, "high": high, "count": count, "series": split, "order": order}
        for order, (split, counts) in enumerate(histogram.counts.items())
        for low, high, count in zip(histogram.edges, histogram.edges[1:], counts, strict=False)
        if count
    ]
    series = numbered(histogram.counts)
    x = quantity("low", histogram.unit) | {"bin": {"binned": True}}
    if all(edge == int(edge) for edge in histogram.edges):
        x["axis"]["tickMinStep"] = 1
    spec: Spec = {
        "data": {"values": data},
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": x,
            "x2": {"field": "high"},
            "y": {
                "field": "count",
                "type": "quantitative",
                "title": histogram.counted,
                "axis": {"format": "~s"},
            },
            "color": colour_of(series, palette),
            "order": {"field": "order"},
            "tooltip": [
                {"field": "series", "title": "split"},
                {"field": "low", "title": f"{histogram.unit} from"},
                {"field": "high", "title": "below"},
                {"field": "count", "title": histogram.counted, "format": ","},
            ],
        },
    }
    beyond = f"The last bar holds everything from {histogram.edges[-2]:g} {histogram.unit} on."
    caption = beyond if histogram.is_open else ""
    title = histogram.of[0].upper() + histogram.of[1:]
    return Chart(histogram.of.replace(" ", "_"), title, caption, spec, height=240, series=series)


# ---------------------------------------------------------------- tables


def _samples(report: Report) -> str:
    headings = [
        Heading("split", numeric=False),
        Heading("expected", meaning=f"by {report.expected_by}"),
        Heading("found", meaning="there and, where they were looked at, decodable"),
        Heading("missing"),
        Heading("empty"),
        Heading("undecodable"),
        Heading("changed", meaning="not as large as when the manifest was written"),
        Heading("video", meaning="how long the whole files are"),
        Heading("frames"),
    ]
    lines = []
    for name, split in report.splits.items():
        wrong = [split.missing, split.empty, split.undecodable, split.changed]
        lines.append(
            [
                Cell(text(name), name),
                number(split.expected, ",", style="" if split.expected == split.samples else "failed"),
                number(split.found, ",", style="" if split.found == split.expected else "failed"),
                *(number(count, ",", style="failed" if count else "") for count in wrong),
                duration(split.seconds or None),
                number(split.frames, ","),
            ]
        )
    return sortable("Samples", headings, lines)


def _captions(report: Report) -> str:
    headings = [
        Heading("split", numeric=False),
        Heading("captions"),
        Heading("per sample"),
        Heading("words"),
        Heading("ties", meaning="captions that another sample of the split has too"),
    ]
    lines = [
        [
            Cell(text(name), name),
            number(split.captions.count, ","),
            _spread(split.captions.per_sample),
            _spread(split.captions.words),
            number(split.captions.tied, ","),
        ]
        for name, split in report.splits.items()
        if split.captions is not None
    ]
    return sortable("Captions", headings, lines)


def _spread(told: Spread) -> Cell:
    return Cell(f'{told.mean:.1f}<span class="range">[{told.least:.0f}, {told.most:.0f}]</span>', told.mean)


def _broken(report: Report) -> str:
    kinds = {
        "Missing": report.missing,
        "Empty": report.empty,
        "Undecodable": report.undecodable,
        "Changed since the manifest was written": report.changed,
        "Shorter than the file says": report.cut_short,
    }
    content = "".join(
        f"<h3>{text(title)}: {len(entries):,}</h3>\n{_located(title, entries)}"
        for title, entries in kinds.items()
        if entries
    )
    return section("Files to look at", content) if content else ""


def _located(title: str, entries: Sequence[Located]) -> str:
    headings = [Heading(name, numeric=False) for name in ("file", "split", "what is wrong")]
    lines = [
        [
            Cell(breakable(entry.path), entry.path),
            Cell(text(entry.split), entry.split),
            Cell(text(entry.reason), entry.reason, "text"),
        ]
        for entry in entries[:LISTED]
    ]
    return sortable(title, headings, lines) + _rest(len(entries), len(lines), ", which the JSON report has")


def _rest(count: int, shown: int, where: str = "") -> str:
    return f'<p class="dim">and {count - shown:,} more{where}</p>\n' if count > shown else ""


def _media(report: Report) -> str:
    parts = []
    for name, values in report.media.items():
        title = name.replace("_", " ").capitalize()
        headings = [Heading(title, numeric=False), *map(Heading, report.splits)]
        lines = [
            [Cell(text(value), value), *(number(counts.get(split, 0), ",") for split in report.splits)]
            for value, counts in values.items()
        ]
        parts.append(f"<div>{sortable(title, headings, lines)}</div>")
    return f'<div class="charts">\n{"".join(parts)}</div>\n'


def _same(report: Report) -> str:
    """Leaks, copies and captions that tie."""
    content = ""
    for overlap in report.overlaps:
        first, second = overlap.splits
        title = f"The same {overlap.by} in {first} and {second}: {overlap.count:,}"
        content += f"<h3>{text(title)}</h3>\n{_groups(overlap.examples, overlap.count)}"
    for entry in report.copies:
        title = f"The same bytes in several files of {entry.split}: {entry.count:,}"
        content += f"<h3>{text(title)}</h3>\n{_groups(entry.examples, entry.count)}"
    for name, split in report.splits.items():
        if split.captions is not None and split.captions.tied:
            content += (
                f"<h3>Captions of several samples of {text(name)}: {split.captions.tied_texts:,}</h3>\n"
            )
            headings = [
                Heading("caption", numeric=False),
                Heading("samples"),
                Heading("for instance", numeric=False),
            ]
            lines = [
                [
                    Cell(text(tie.caption), tie.caption),
                    number(tie.samples, ","),
                    Cell(breakable(", ".join(tie.ids)), None, "text"),
                ]
                for tie in split.captions.tied_examples
            ]
            content += sortable("Captions of several samples", headings, lines)
            content += _rest(split.captions.tied_texts, len(lines))
    return section("The same more than once", content) if content else ""


def _groups(groups: Sequence[Sequence[Place]], count: int) -> str:
    sentences = [" = ".join(f"{place.split}: {place.path}" for place in group) for group in groups]
    items = "".join(f"<li>{breakable(sentence)}</li>" for sentence in sentences)
    return f'<ul class="notes">{items}</ul>\n' + _rest(count, len(groups))


def _made(report: Report) -> str:
    made = {"manifest": report.manifest, "fingerprint": report.fingerprint, "check": effort(report)}
    made["expected by"] = report.expected_by
    return facts({name: value for name, value in made.items() if value})
