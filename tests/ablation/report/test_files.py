"""Table files as other programs read them."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from mac_ray.ablation.record import SweepRecord
from mac_ray.ablation.report.files import write_tables
from mac_ray.ablation.report.typeset import _escaped_latex, write_typeset
from mac_ray.ablation.statistics import Agreement
from mac_ray.ablation.table import Problem, Table, build_table
from tests.parsed import Parsed


@pytest.fixture(scope="module")
def table(study: SweepRecord) -> Table:
    built = build_table(study.sweep, study.rows, study.outcomes())
    first, *others = built.rows
    rows = (replace(first, label="50% & a_b | $"), *others)
    tied = Agreement(2, 0, 0, math.nan, 1.0, 1.0)  # JSON knows no NaN
    return replace(built, rows=rows, baseline="50% & a_b | $", agreement=tied)


@pytest.fixture(scope="module")
def folder(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    assert sorted(path.name for path in write_tables(folder, table)) == sorted(
        path.name for path in folder.iterdir()
    )
    return folder


def test_csv_has_a_line_per_row_in_full_precision(table: Table, folder: Path) -> None:
    with (folder / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == [row.label for row in table.rows]
    assert float(lines[1]["t2v/R1/low"]) == table.rows[1].metrics["t2v/R1"].low
    assert [line["masking.video.ratio"] for line in lines] == ["0.0", "0.6", "0.9"]
    assert lines[2]["t2v/R1"] == ""
    assert "seed 0 failed: step 7" in lines[2]["problems"]


def test_csv_tells_a_factor_that_is_none_from_one_that_is_not_set(table: Table, tmp_path: Path) -> None:
    path, value = "objectives.reconstruction", {"weight": 0.1, "target": "pixels", "normed": True}
    rows = [
        replace(row, values=values)
        for row, values in zip(table.rows, ({path: None}, {}, {path: value}), strict=True)
    ]
    write_tables(tmp_path, replace(table, rows=tuple(rows)))
    with (tmp_path / "table.csv").open(newline="") as file:
        cells = [line[path] for line in csv.DictReader(file)]
    assert cells[:2] == ["null", ""]
    assert json.loads(cells[2]) == value


def test_json_is_valid_and_holds_the_verdict(table: Table, folder: Path) -> None:
    content = json.loads((folder / "table.json").read_text(), parse_constant=pytest.fail)
    assert content["rows"][1]["comparison"]["adjusted"] == table.rows[1].comparison.adjusted
    assert "the best, 'video.ratio=0.6', has text-to-video R@1" in content["verdict"][0]


def test_markdown_lines_have_equally_many_cells(folder: Path) -> None:
    lines = [line for line in (folder / "table.md").read_text().splitlines() if line.startswith("|")]
    assert len(lines) == 5
    assert {line.replace("\\|", "").count("|") for line in lines} == {8}


@pytest.mark.parametrize(
    "label",
    [
        r"a\|b",
        "*a* b*c*",
        "_a_ __b__",
        "<b>a</b> < &lt;",
        "`a` ``",
        "~~a~~",
        "a\\\\b",
        "[a](b)",
        "[a][b] [c]",
    ],
)
def test_markdown_shows_a_label_as_it_is(label: str, table: Table, tmp_path: Path) -> None:
    rows = (replace(table.rows[0], label=label), *table.rows[1:])
    write_tables(tmp_path, replace(table, rows=rows, baseline=label))
    shown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    parsed = Parsed(shown.render((tmp_path / "table.md").read_text()))
    assert label in parsed.words
    assert any(f"from the baseline {label!r} that is" in words for words in parsed.words)


def test_label_of_two_lines_is_one_in_a_table(table: Table, tmp_path: Path) -> None:
    write_tables(tmp_path, replace(table, rows=(replace(table.rows[0], label="two\nlines"), *table.rows[1:])))
    assert "| two lines |" in (tmp_path / "table.md").read_text()


def test_password_in_where_data_are_stays_out_of_tables(table: Table, tmp_path: Path) -> None:
    values = {"data.sets.shapes.root": "s3://key:sesame@bucket/clips"}
    write_tables(tmp_path, replace(table, rows=(replace(table.rows[0], values=values), *table.rows[1:])))
    for path in tmp_path.iterdir():
        assert "sesame" not in path.read_text(), path.name
    assert "s3://***@bucket/clips" in (tmp_path / "table.csv").read_text()


def test_json_is_valid_whatever_an_error_quotes(table: Table, tmp_path: Path) -> None:
    reason = 'cannot open "https://h/x?v=1" for reading,\nsee https://h/y?z\nand mend that'
    first = replace(table.rows[0], problems=(Problem(0, "failed", reason),))
    write_tables(tmp_path, replace(table, rows=(first, *table.rows[1:])))
    (found,) = json.loads((tmp_path / "table.json").read_text())["rows"][0]["problems"]
    assert found["reason"] == 'cannot open "https://h/x" for reading,\nsee https://h/y\nand mend that'


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("< 0.001", "$<$ 0.001"),
        ("a|b > c", r"a\textbar{}b $>$ c"),
        ("-1.7 [-3.0, +0.2]", "$-$1.7 [$-$3.0, +0.2]"),
        ("[latent] MVM-2", "{}[latent] MVM-2"),
        ("*latent", "{}*latent"),
        ("frames 1–8", "frames 1--8"),
    ],
)
def test_latex_sets_what_other_fonts_would_set_as_something_else(cell: str, written: str) -> None:
    assert _escaped_latex(cell) == written


def test_latex_escapes_what_is_special(folder: Path) -> None:
    lines = (folder / "table.tex").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("50"))
    assert line.startswith(r"50\% \& a\_b \textbar{} \$ & 2 & ")
    rows = [line for line in lines if line.endswith(r"\\") and not line.startswith(r"\multicolumn")]
    assert {row.replace(r"\&", "").count("&") for row in rows} == {6}
    assert all(line.startswith("%") for line in lines[: lines.index(r"\begin{tabular}{lrrrrrr}")])
    (note,) = (line for line in lines if line.startswith(r"\multicolumn"))
    assert "p is after Holm's correction for all comparisons, the interval beside it of one by itself" in note


def test_star_is_explained_below_the_table_in_paper_too(tmp_path: Path) -> None:
    star = "* p below 0.05, a_b"
    markdown, latex = write_typeset(tmp_path, "t", ["", "x"], [["a", "1*"]], ["It is so."], footnote=star)
    assert markdown.read_text().endswith("\n\n- \\* p below 0.05, a\\_b\n- It is so.\n")
    lines = latex.read_text().splitlines()
    note = lines[lines.index(r"\bottomrule") + 1]
    assert note == r"\multicolumn{2}{p{\linewidth}}{\footnotesize {}* p below 0.05, a\_b} \\"
    assert lines[0] == "% Needs the package booktabs."
