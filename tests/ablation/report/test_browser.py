"""The report in a headless Chromium: it draws, sorts and answers to the pointer, on wide and narrow screens."""

from __future__ import annotations

import shutil
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
from tests.ablation.search_made import made_search
from tests.ablation.trials import SPACE

pytestmark = pytest.mark.browser
PATIENCE_S = 30
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1400,1000",
)


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
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert browser, "no chromium on the path; apt-get install chromium"
    assert driver, "no chromedriver on the path; apt-get install chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture
def opened(chromium: webdriver.Chrome, page: str) -> webdriver.Chrome:
    return loaded(chromium, page)


@pytest.fixture
def search(chromium: webdriver.Chrome, search_page: str) -> webdriver.Chrome:
    return loaded(chromium, search_page)


def loaded(chromium: webdriver.Chrome, page: str) -> webdriver.Chrome:
    """With every chart drawn."""
    show(chromium, 1400, "light")
    chromium.get_log("browser")
    chromium.get(page)
    WebDriverWait(chromium, PATIENCE_S).until(lambda _: len(drawn(chromium)) == len(places(chromium)))
    return chromium


def show(browser: webdriver.Chrome, width: int, scheme: str, media: str = "") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def places(browser: webdriver.Chrome) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, ".chart")


def drawn(browser: webdriver.Chrome) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, ".chart svg")


def column(browser: webdriver.Chrome, number: int) -> list[str]:
    """Words of a column of the first table, from the top."""
    cells = browser.find_elements(By.CSS_SELECTOR, f"section:first-of-type tbody tr > :nth-child({number})")
    return [cell.get_attribute("data-value") or "" for cell in cells]


def heading(browser: webdriver.Chrome, number: int) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, f"section:first-of-type thead th:nth-child({number}) button")


def test_page_draws_every_chart_without_an_error(opened: webdriver.Chrome) -> None:
    assert len(drawn(opened)) == 7
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


def test_pointer_on_a_point_shows_its_numbers(opened: webdriver.Chrome) -> None:
    point = opened.find_element(By.CSS_SELECTOR, "#rows .mark-symbol path")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(opened).move_to_element(point).perform()
    shown = WebDriverWait(opened, PATIENCE_S).until(
        lambda browser: browser.find_elements(By.CSS_SELECTOR, "#vg-tooltip-element.visible")
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
        show(search, width, "dark")
        WebDriverWait(search, PATIENCE_S).until(
            lambda _, width=width: all(svg.rect["width"] <= width for svg in drawn(search))
        )
        assert search.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "media"), [(1900, ""), (390, ""), (320, ""), (1000, "print")])
def test_nothing_is_wider_than_the_screen(opened: webdriver.Chrome, width: int, media: str) -> None:
    show(opened, width, "light", media)
    WebDriverWait(opened, PATIENCE_S).until(
        lambda _: all(svg.rect["width"] <= width for svg in drawn(opened))
    )
    wide = "return document.documentElement.scrollWidth"
    assert opened.execute_script(wide) <= width
    assert all(svg.rect["width"] > 150 for svg in drawn(opened))


def test_words_can_be_read_in_light_in_dark_and_on_paper(opened: webdriver.Chrome) -> None:
    for scheme, media in (("light", ""), ("dark", ""), ("dark", "print")):
        show(opened, 1400, scheme, media)
        pairs = opened.execute_script(
            """const colour = (element, property) => getComputedStyle(element)[property];
            const paper = colour(document.querySelector("section"), "backgroundColor");
            const words = [...document.querySelectorAll("td, th, .dim, figcaption")].map(e => colour(e, "color"));
            const labels = [...document.querySelectorAll(".chart svg text")].map(e => colour(e, "fill"));
            return [paper, [...new Set([...words, ...labels])]]"""
        )
        paper, words = pairs
        assert words
        for word in words:
            assert contrast(word, paper) >= 4.5, (scheme, media, word, paper)
        assert (luminance(paper) > 0.5) == (scheme == "light" or media == "print")


def contrast(first: str, second: str) -> float:
    """As the Web Content Accessibility Guidelines define it."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    channels = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
