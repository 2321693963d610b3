"""A real browser for tests and benchmarks: headless Chromium, driven by Selenium."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: seconds within which a page shows what it has to; a busy machine needs many
PATIENCE = 180


class Browser:
    """Someone who looks at pages."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def log_in(self, address: str, user: str, password: str) -> None:
        """Give the login, which the browser then keeps for this address."""
        self.driver.get(address.replace("://", f"://{user}:{password}@"))

    def open(self, address: str) -> None:
        # another fragment of the same page is no page of its own to `get`
        self.driver.get("about:blank")
        self.driver.get(address)

    def text(self) -> str:
        return str(self.driver.find_element("css selector", "body").text)

    def find(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def wait(self, seen: Callable[[], Any]) -> Any:
        """What ``seen`` gives once that is true; elements that the page has just replaced are looked for again."""
        from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(self.driver, PATIENCE, ignored_exceptions=[StaleElementReferenceException])
        try:
            return waiting.until(lambda _: seen())
        except TimeoutException:
            self.shoot("timeout")
            raise AssertionError(f"not within {PATIENCE} s at {self.driver.current_url}:\n{self.text()}") from None

    def read(self, *texts: str) -> None:
        """Wait until the page holds all ``texts``."""
        self.wait(lambda: all(text in self.text() for text in texts))

    def link(self, text: str) -> str:
        """Where the link of this text leads to, once it is there; commas of a list do not count."""
        path = f"//a[translate(normalize-space(.), ',', '') = '{text}']"
        return str(self.wait(lambda: self.driver.find_elements("xpath", path))[0].get_attribute("href"))

    def shoot(self, name: str) -> None:
        """Keep a picture of the page in the folder that ``FIERCE_SCREENSHOTS`` names."""
        if folder := os.environ.get("FIERCE_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))

    def events(self, kind: str) -> list[Any]:
        """What the browser noted of its network since the last call, of one kind of its developer tools' protocol."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [message["params"] for message in messages if message["method"] == f"Network.{kind}"]


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium by its driver, which notes the network; the test is skipped where there is none."""
    selenium = pytest.importorskip("selenium.webdriver", reason="no selenium: install the extra `test`")
    program, control = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (program and control):
        pytest.skip("no chromium with chromedriver here")
    options = selenium.ChromeOptions()
    options.binary_location = program
    # root has no sandbox, and containers little shared memory
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=2200,1400"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(control))
    try:
        yield driver
    finally:
        driver.quit()
