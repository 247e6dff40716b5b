"""A whole page as one file: style, charts' data and the library that draws them are inside."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import vl_convert

from mac_ray.page.markup import figure, text
from mac_ray.page.palette import IN_PAGE, css_variables
from mac_ray.page.vega import Chart, themed

HERE = Path(__file__).parent


def document(title: str, header: str, sections: Sequence[str], charts: Sequence[Chart]) -> str:
    """`header` and `sections` are HTML; every chart has its place in one of the sections."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n"
        f"<style>\n:root {{ {css_variables()} }}\n{(HERE / 'page.css').read_text()}</style>\n</head>\n<body>\n"
        f"<header>{header}</header>\n<main>\n{''.join(sections)}</main>\n"
        f'<script type="application/json" id="charts">{_specifications(charts)}</script>\n'
        f"<script>{_library()}</script>\n<script>\n{(HERE / 'page.js').read_text()}</script>\n</body>\n</html>\n"
    )


def section(title: str, content: str) -> str:
    return f"<section><h2>{text(title)}</h2>\n{content}</section>\n"


def charts_section(charts: Sequence[Chart]) -> str:
    """The places of the charts; nothing where there are none."""
    if not charts:
        return ""
    return section("Charts", f'<div class="charts">\n{"".join(map(figure, charts))}</div>\n')


def _specifications(charts: Sequence[Chart]) -> str:
    specs = {
        chart.name: themed(chart.spec, IN_PAGE) | {"width": "container", "height": chart.height}
        for chart in charts
    }
    return json.dumps(specs).replace("<", "\\u003c")  # so that no text in it ends or opens the script


@functools.cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed, which defines vegaEmbed; made by vl-convert in seconds."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace(
        "</script", "<\\/script"
    )
