"""Takes a picture of every page of a running dashboard, with one prompt sent first so that there is an answer to see.

    python docs/screenshots.py --url http://head:8501 [--token TOKEN] --out docs/screenshots

Needs Chromium and its driver (Debian: chromium, chromium-driver) and selenium (`requirements/dev.lock`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

SEND = '[data-testid="stFormSubmitButton"] button'
PAGES = (
    *("overview", "workers", "models", "performance", "playground"),
    *("tasks", "rollouts", "configuration", "audit"),
)
ANSWER = 300  # seconds that a first answer may take: the model may have to be loaded, on a slow machine
DRAWN = 120  # seconds that a page may take on a slow machine
HIGHEST = 1800  # pixels of a picture


@contextmanager
def chromium(
    *, dark: bool = False, width: int = 1440, height: int = 900, frames: bool = False, any_ca: bool = False
) -> Iterator[WebDriver]:
    """A browser with an empty profile, removed afterwards. frames: it keeps a log of what goes over the network.

    any_ca: it believes every certificate.
    """
    profile = tempfile.mkdtemp(prefix="dashboard-chromium-")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
        f"--window-size={width},{height}",
    ):
        options.add_argument(flag)
    options.accept_insecure_certs = any_ca
    logs = {"browser": "ALL"} | ({"performance": "ALL"} if frames else {})
    options.set_capability("goog:loggingPrefs", logs)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
        )
        resize(driver, width, height)
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


def settled(driver: WebDriver) -> None:
    """Waits until the page has run to its end and nothing on it is a placeholder any more."""
    script = """
        const app = document.querySelector('[data-testid="stApp"]');
        const waits = '[data-testid="stSkeleton"], [data-testid="stAppSkeleton"]';
        if (!app || document.querySelector(waits)) return false;
        const charts = [...document.querySelectorAll('[data-testid="stVegaLiteChart"]')];
        return app.getAttribute('data-test-script-state') === 'notRunning'
            && document.querySelector('h1, h2, h3') !== null
            && charts.every(chart => chart.querySelector('canvas, svg') !== null);
    """
    seen = 0

    def quiet(d: WebDriver) -> bool:  # twice in a row: between two runs a page looks settled for a moment
        nonlocal seen
        seen = seen + 1 if d.execute_script(script) else 0
        return seen > 1

    WebDriverWait(driver, DRAWN, poll_frequency=0.4).until(quiet, "the page did not get ready")


def element(driver: WebDriver, selector: str) -> WebElement:
    """The first that fits the CSS selector; waits for it, for a page is drawn piece by piece."""
    return WebDriverWait(driver, DRAWN).until(
        lambda d: d.find_element(By.CSS_SELECTOR, selector), f"nothing on the page is {selector}"
    )


def sign_in(driver: WebDriver, url: str, token: str | None) -> None:
    driver.get(url)
    settled(driver)
    fields = driver.find_elements(By.CSS_SELECTOR, 'input[type="password"]')
    if not fields:
        return
    if token is None:
        sys.exit("the dashboard asks for a token: give --token")
    fields[0].send_keys(token, Keys.ENTER)
    WebDriverWait(driver, DRAWN).until(lambda d: d.find_elements(By.CSS_SELECTOR, '[data-testid="stSidebarNav"]'))
    settled(driver)


def go(driver: WebDriver, page: str) -> None:
    """By the navigation's link: a new address would be a new session, which would have to sign in again."""
    link = f'[data-testid="stSidebarNav"] a[href$="/{"" if page == "overview" else page}"]'
    element(driver, link).click()
    WebDriverWait(driver, DRAWN).until(
        lambda d: d.find_elements(By.XPATH, f"//h1[normalize-space()='{page.capitalize()}']"), f"no page {page}"
    )
    settled(driver)


def ask(driver: WebDriver) -> None:
    """Sends the playground's example prompt and waits for the whole answer."""
    go(driver, "playground")
    element(driver, SEND).click()
    WebDriverWait(driver, ANSWER).until(
        lambda d: "First token" in d.find_element(By.TAG_NAME, "body").text, "no answer came"
    )
    settled(driver)


def shoot(driver: WebDriver, path: Path, *, whole: bool = True) -> None:
    """whole: as high as the page is, up to a limit; else what fits the window."""
    width, height = driver.execute_script("return [window.innerWidth, window.innerHeight]")
    if whole:
        least = driver.execute_script("return document.querySelector('[data-testid=\"stMain\"]').scrollHeight")
        resize(driver, width, min(max(height, least), HIGHEST))
        settled(driver)
    path.parent.mkdir(parents=True, exist_ok=True)
    driver.save_screenshot(str(path))
    resize(driver, width, height)
    print(path)


def resize(driver: WebDriver, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", default=os.environ.get("CLUSTER_AI_TOKEN"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("screenshots"))
    args = parser.parse_args()
    with chromium() as driver:
        sign_in(driver, args.url, args.token)
        ask(driver)
        for page in PAGES:
            go(driver, page)
            shoot(driver, args.out / f"{page}.png")
    with chromium(dark=True) as driver:
        sign_in(driver, args.url, args.token)
        go(driver, "overview")
        shoot(driver, args.out / "overview-dark.png")
    with chromium(width=390, height=844) as driver:
        sign_in(driver, args.url, args.token)
        shoot(driver, args.out / "overview-phone.png", whole=False)


if __name__ == "__main__":
    main()
