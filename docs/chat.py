"""Takes a picture of Open WebUI with an answer of the cluster: signs up as its first person, chooses a model, asks.

    python docs/chat.py --url http://127.0.0.1:8502 --model smollm2:135m --out docs/screenshots/open-webui.png

Needs what docs/screenshots.py needs, and an Open WebUI that nobody has signed up at yet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

DRAWN, ANSWER = 120, 300  # seconds that a page, and an answer, may take on a slow machine
ANSWERED = '[aria-label="Good Response"]'  # a button that appears below an answer when it is whole


def shown(driver: WebDriver, what: Callable[[], list[WebElement]], name: str, within: float = DRAWN) -> WebElement:
    """The first of those that can be seen; waits for one."""
    return WebDriverWait(driver, within).until(
        lambda _: next((it for it in what() if it.is_displayed()), None), f"nothing on the page is {name}"
    )


def one(driver: WebDriver, selector: str, within: float = DRAWN) -> WebElement:
    return shown(driver, lambda: driver.find_elements(By.CSS_SELECTOR, selector), selector, within)


def button(driver: WebDriver, text: str) -> WebElement:
    path = f'//button[contains(normalize-space(), "{text}")]'
    return shown(driver, lambda: driver.find_elements(By.XPATH, path), text)


def sign_up(driver: WebDriver, url: str, name: str, email: str, password: str) -> None:
    """As the first, who is its administrator; reads the news that it begins with."""
    driver.get(url)
    begin = button(driver, "Get started")
    WebDriverWait(driver, DRAWN).until(lambda d: begin.click() or d.find_elements(By.NAME, "email"))
    for field, value in (("name", name), ("email", email), ("password", password)):
        one(driver, f"input#{field}").send_keys(value)
    button(driver, "Create Admin Account").click()
    button(driver, "Let's Go").click()


def ask(driver: WebDriver, model: str, prompt: str) -> None:
    """Until the answer is whole."""
    one(driver, "#model-selector-model-button").click()
    path = f'//*[@role="option"]//*[text()="{model}"]'
    shown(driver, lambda: driver.find_elements(By.XPATH, path), model).click()
    field = one(driver, "#chat-input")
    field.click()
    field.send_keys(prompt, Keys.ENTER)
    one(driver, ANSWERED, ANSWER)


def browser(*, any_ca: bool = False) -> AbstractContextManager[WebDriver]:
    """That of docs/screenshots.py, which stands beside this."""
    sys.path.insert(0, str(Path(__file__).parent))
    from screenshots import chromium

    return chromium(height=720, any_ca=any_ca)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--url", "--model", "--out"):
        parser.add_argument(option, required=True)
    parser.add_argument("--email", default="anna@example.org")
    given = parser.parse_args()
    Path(given.out).parent.mkdir(parents=True, exist_ok=True)
    with browser() as driver:
        try:
            sign_up(driver, given.url, "Anna", given.email, "correct horse battery")
            ask(driver, given.model, "Name three rivers of Europe.")
        finally:
            driver.save_screenshot(given.out)


if __name__ == "__main__":
    main()
