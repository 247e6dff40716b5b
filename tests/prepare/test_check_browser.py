"""The readiness report in a headless Chromium, on wide and narrow screens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver

from mac_ray.prepare.__main__ import main
from tests import browser
from tests.prepare.made import make_clip, make_manifest

pytestmark = pytest.mark.browser
LONG = "a_name_without_any_place_to_break_it_that_goes_on_and_on_and_on_" * 3


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    folder = tmp_path_factory.mktemp("page")
    media = folder / "media"
    media.mkdir()
    for name, seconds in {"short": 1, "long": 3, "copy": 3}.items():
        make_clip(media / f"{name}.mp4", seconds)
    manifest = make_manifest(
        media,
        ("short.mp4", "train", ["a dog", "a dog runs"]),
        ("long.mp4", "train", ["a dog"]),
        (f"{LONG}.mp4", "train", ["gone"]),
        ("copy.mp4", "test", [LONG]),
    ).path
    page = folder / "report.html"
    assert main(["check", str(manifest), "--without-ray", "--html", str(page)]) == 1
    with browser.chromium() as started:
        browser.open_page(started, page.as_uri())
        yield started


def test_page_draws_every_chart_without_an_error(opened: webdriver.Chrome) -> None:
    assert len(browser.drawn(opened)) == 4
    assert opened.get_log("browser") == []
    for svg in browser.drawn(opened):
        assert svg.find_elements("css selector", ".mark-rect path")


@pytest.mark.parametrize(("width", "media"), [(1900, ""), (390, ""), (320, ""), (1000, "print")])
def test_nothing_is_wider_than_the_screen(opened: webdriver.Chrome, width: int, media: str) -> None:
    browser.assert_fits(opened, width, media)


def test_words_can_be_read_in_light_in_dark_and_on_paper(opened: webdriver.Chrome) -> None:
    browser.assert_readable(opened)
