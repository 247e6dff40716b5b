"""The report in a headless Chromium: it draws, sorts and answers to the pointer, on wide and narrow screens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from mac_ray.ablation.record import SweepRecord
from mac_ray.ablation.report import write_report, write_search_report
from mac_ray.ablation.sweep import Search
from mac_ray.ablation.table import build_table
from tests import browser
from tests.ablation.search_made import made_search
from tests.ablation.trials import SPACE
from tests.browser import PATIENCE_S, drawn

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(study: SweepRecord, tmp_path_factory: pytest.TempPathFactory) -> str:
    outcomes = study.outcomes()
    table = build_table(study.sweep, study.rows, outcomes)
    written = write_report(tmp_path_factory.mktemp("page"), table, study.sweep, outcomes, study.context)
    return written[0].as_uri()


@pytest.fixture(scope="module")
def search_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    search = Search(space=SPACE, trials=24, prune="everywhere")
    report = made_search(tmp_path_factory.mktemp("searched") / "s", search)
    return write_search_report(tmp_path_factory.mktemp("search page"), report)[0].as_uri()


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    with browser.chromium() as started:
        yield started


@pytest.fixture
def opened(chromium: webdriver.Chrome, page: str) -> webdriver.Chrome:
    browser.open_page(chromium, page)
    return chromium


@pytest.fixture
def search(chromium: webdriver.Chrome, search_page: str) -> webdriver.Chrome:
    browser.open_page(chromium, search_page)
    return chromium


def column(opened: webdriver.Chrome, number: int) -> list[str]:
    """Words of a column of the first table, from the top."""
    cells = opened.find_elements(By.CSS_SELECTOR, f"section:first-of-type tbody tr > :nth-child({number})")
    return [cell.get_attribute("data-value") or "" for cell in cells]


def heading(opened: webdriver.Chrome, number: int) -> WebElement:
    return opened.find_element(By.CSS_SELECTOR, f"section:first-of-type thead th:nth-child({number}) button")


def test_page_draws_every_chart_without_an_error(opened: webdriver.Chrome) -> None:
    assert len(drawn(opened)) == 8
    assert opened.get_log("browser") == []
    for svg in drawn(opened):
        assert svg.find_elements(By.CSS_SELECTOR, ".mark-symbol path")


def test_click_sorts_by_a_column_and_puts_missing_values_last(opened: webdriver.Chrome) -> None:
    planned = column(opened, 3)
    numbers = sorted((float(value) for value in planned if value), reverse=True)
    assert planned[-1] == ""  # the failed row
    heading(opened, 3).click()
    assert [float(value) for value in column(opened, 3)[:-1]] == numbers
    assert heading(opened, 3).find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    heading(opened, 3).click()
    assert [float(value) for value in column(opened, 3)[:-1]] == numbers[::-1]
    assert column(opened, 3)[-1] == ""
    heading(opened, 3).click()
    assert column(opened, 3) == planned


def test_keyboard_sorts_as_well(opened: webdriver.Chrome) -> None:
    before = column(opened, 1)
    opened.execute_script("arguments[0].focus()", heading(opened, 1))
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    assert column(opened, 1) == sorted(before, reverse=True)


def test_numbers_in_labels_are_sorted_by_their_size(opened: webdriver.Chrome) -> None:
    labels = ["none", "text 0.15", "text 0.3", "video 0.6", "video 0.75", "video 0.9", "video 10"]
    mixed = [labels[place] for place in (5, 0, 3, 6, 4, 2, 1)]
    assert opened.execute_script("return arguments[0].sort(inOrder)", mixed) == labels
    rates = ["1e-05", "0.0005", "0.001"]
    assert opened.execute_script("return arguments[0].sort(inOrder)", rates[::-1]) == rates


def test_pointer_on_a_point_shows_its_numbers(opened: webdriver.Chrome) -> None:
    point = opened.find_element(By.CSS_SELECTOR, "#rows .mark-symbol path")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(opened).move_to_element(point).perform()
    shown = WebDriverWait(opened, PATIENCE_S).until(
        lambda _: opened.find_elements(By.CSS_SELECTOR, "#vg-tooltip-element.visible")
    )
    assert "video.ratio=0" in shown[0].text
    mean = float(column(opened, 3)[0])
    assert f"{mean:.1f}" in shown[0].text


def test_search_draws_its_charts_sorts_its_trials_and_fits_a_phone(search: webdriver.Chrome) -> None:
    assert len(drawn(search)) == 3
    assert search.get_log("browser") == []
    (trials,) = (
        found for found in search.find_elements(By.TAG_NAME, "section") if found.text.startswith("Trials")
    )

    def numbers() -> list[int]:
        cells = trials.find_elements(By.CSS_SELECTOR, "tbody tr > :first-child")
        return [int(cell.get_attribute("data-value") or "") for cell in cells]

    assert numbers() != sorted(numbers())  # the best first
    for _ in range(2):
        trials.find_element(By.CSS_SELECTOR, "thead th:first-child button").click()
    assert numbers() == list(range(24))
    for width in (1400, 390):
        browser.assert_fits(search, width)


@pytest.mark.parametrize(("width", "media"), [(1900, ""), (390, ""), (320, ""), (1000, "print")])
def test_nothing_is_wider_than_the_screen(opened: webdriver.Chrome, width: int, media: str) -> None:
    browser.assert_fits(opened, width, media)


@pytest.mark.parametrize("width", [390, 320])
def test_long_words_are_broken_where_they_would_widen_the_page(opened: webdriver.Chrome, width: int) -> None:
    opened.execute_script(
        """document.querySelector("section").insertAdjacentHTML("beforeend", "<ul class=notes><li></li></ul>");
        for (const place of [".verdict", "header li", ".notes li", ".legend li", "figcaption", ".dim", "dt", "h3"]) {
            const found = document.querySelectorAll(place);
            if (!found.length) throw new Error(place);
            found.forEach(element => element.append("w".repeat(200)));
        }"""
    )
    browser.assert_fits(opened, width)


def test_words_can_be_read_in_light_in_dark_and_on_paper(opened: webdriver.Chrome) -> None:
    browser.assert_readable(opened)
