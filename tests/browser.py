"""A headless Chromium, and what is asked of any page of ours in it: drawn, fitting and readable everywhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE_S = 30
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1400,1000",
)


@contextmanager
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
    try:
        yield opened
    finally:
        opened.quit()


def open_page(browser: webdriver.Chrome, page: str) -> None:
    """Wide and light, once all charts are drawn."""
    show(browser, 1400, "light")
    browser.get_log("browser")
    browser.get(page)
    WebDriverWait(browser, PATIENCE_S).until(lambda _: len(drawn(browser)) == len(places(browser)))


def show(browser: webdriver.Chrome, width: int, scheme: str, media: str = "") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def places(browser: webdriver.Chrome) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, ".chart")


def drawn(browser: webdriver.Chrome) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, ".chart svg")


def assert_fits(browser: webdriver.Chrome, width: int, media: str = "") -> None:
    """Neither the page nor a chart is wider than the screen, and no chart is squeezed."""
    show(browser, width, "light", media)
    WebDriverWait(browser, PATIENCE_S).until(
        lambda _: all(svg.rect["width"] <= width for svg in drawn(browser))
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert all(svg.rect["width"] > 150 for svg in drawn(browser))


def assert_readable(browser: webdriver.Chrome) -> None:
    """In light, in dark and on paper."""
    for scheme, media in (("light", ""), ("dark", ""), ("dark", "print")):
        show(browser, 1400, scheme, media)
        paper, words = browser.execute_script(
            """const colour = (element, property) => getComputedStyle(element)[property];
            const paper = colour(document.querySelector("section"), "backgroundColor");
            const words = [...document.querySelectorAll("td, th, .dim, figcaption")].map(e => colour(e, "color"));
            const labels = [...document.querySelectorAll(".chart svg text")].map(e => colour(e, "fill"));
            return [paper, [...new Set([...words, ...labels])]]"""
        )
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
