"""A table as people read it, as Markdown for a page and as LaTeX for a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mac_ray.files import write

MARKDOWN_SPECIAL = re.compile(r"[\\|*_<`~&]|\](?=\()")
MINUS = re.compile(r"(?<!\w)-(?=\d)")
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "×": r"$\times$",
    "–": "--",
}


def write_typeset(
    folder: Path,
    name: str,
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    said: Sequence[str],
    first: str = "l",
    footnote: str = "",
) -> list[Path]:
    """`name`.md and .tex, whose columns but the first are aligned to the right.

    `footnote`: what stars and columns mean, below the table. `said` are sentences, below the table of Markdown and
    comments in LaTeX, where `first` is how the first column is set.
    """
    below = [footnote] if footnote else []
    header, *lines = ([" ".join(cell.split()) for cell in line] for line in (header, *lines))
    texts = {
        "md": _markdown(header, lines, [*below, *said]),
        "tex": _latex(header, lines, below, said, first),
    }
    paths = [folder / f"{name}.{ending}" for ending in texts]
    for path, content in zip(paths, texts.values(), strict=True):
        write(path, content)
    return paths


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]], said: Sequence[str]) -> str:
    cells = [[_escaped_markdown(cell) for cell in line] for line in (header, *lines)]
    ruler = ["---", *["--:"] * (len(header) - 1)]
    return "\n".join(
        [
            *(f"| {' | '.join(line)} |" for line in (cells[0], ruler, *cells[1:])),
            "",
            *(f"- {_escaped_markdown(sentence)}" for sentence in said),
            "",
        ]
    )


def _latex(
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    below: Sequence[str],
    said: Sequence[str],
    first: str,
) -> str:
    """A booktabs tabular, to be \\input into a table."""
    rows = [" & ".join(map(_escaped_latex, line)) + r" \\" for line in (header, *lines)]
    comments = [f"% {sentence}" for sentence in ("Needs the package booktabs.", *below, *said)]
    notes = [
        rf"\multicolumn{{{len(header)}}}{{p{{\linewidth}}}}{{\footnotesize {_escaped_latex(note)}}} \\"
        for note in below
    ]
    return "\n".join(
        [
            *comments,
            rf"\begin{{tabular}}{{{first}{'r' * (len(header) - 1)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            *notes,
            r"\end{tabular}",
            "",
        ]
    )


def _escaped_markdown(cell: str) -> str:
    return MARKDOWN_SPECIAL.sub(r"\\\g<0>", cell)


def _escaped_latex(cell: str) -> str:
    # a hyphen is shorter than a minus, and a star or a bracket after the end of a line would belong to that
    escaped = "".join(LATEX_SPECIAL.get(character, character) for character in MINUS.sub("−", cell))
    return ("{}" if cell.startswith(("*", "[")) else "") + escaped
