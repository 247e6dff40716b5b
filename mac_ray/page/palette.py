"""Colours of the pages, light and dark: told apart by people who see fewer, and on paper.

A chart in the page names CSS variables, so it follows the reader's setting, also while printing, without being
drawn again; a chart in a file has the light colours in it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    ink: str
    dim: str  # axes, captions
    grid: str
    paper: str
    accent: str
    series: tuple[str, ...]


LIGHT = Palette(
    ink="#15181d",
    dim="#5a626e",
    grid="#dfe2e7",
    paper="#ffffff",
    accent="#0b62a8",
    series=("#0072b2", "#d55e00", "#00855f", "#b0508a", "#5b4b8a", "#a67c00", "#3a9bd0", "#6b6b6b"),
)
DARK = Palette(
    ink="#e9ebee",
    dim="#9aa3b0",
    grid="#363b44",
    paper="#1d2026",
    accent="#6db8f2",
    series=("#5cb3ec", "#ff9248", "#35c99b", "#ec9ccb", "#b3a4ee", "#e8bd3f", "#9fd8f7", "#b8b8b8"),
)
IN_PAGE = Palette(
    ink="var(--ink)",
    dim="var(--dim)",
    grid="var(--grid)",
    paper="var(--paper)",
    accent="var(--accent)",
    series=tuple(f"var(--series-{number})" for number in range(len(LIGHT.series))),
)

# Shapes of points, so that colour is never alone; SVG paths around the origin, within 1 in each direction.
SHAPES = (
    "M-.85,0A.85,.85,0,1,1,.85,0A.85,.85,0,1,1,-.85,0Z",
    "M-.75,-.75L.75,-.75L.75,.75L-.75,.75Z",
    "M0,-1L.95,.75L-.95,.75Z",
    "M0,-1L.9,0L0,1L-.9,0Z",
    "M0,1L.95,-.75L-.95,-.75Z",
    "M-.35,-1L.35,-1L.35,-.35L1,-.35L1,.35L.35,.35L.35,1L-.35,1L-.35,.35L-1,.35L-1,-.35L-.35,-.35Z",
    "M-1,-.4L1,-.4L1,.4L-1,.4Z",
    "M-.4,-1L.4,-1L.4,1L-.4,1Z",
)
MOST_SERIES = len(SHAPES)


def css_variables() -> str:
    """Declarations for :root; the page's style says `color-scheme: light dark`."""
    pairs = {
        name: (getattr(LIGHT, name), getattr(DARK, name))
        for name in ("ink", "dim", "grid", "paper", "accent")
    }
    pairs |= {
        f"series-{number}": pair for number, pair in enumerate(zip(LIGHT.series, DARK.series, strict=True))
    }
    return " ".join(f"--{name}: light-dark({light}, {dark});" for name, (light, dark) in pairs.items())
