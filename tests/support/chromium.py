"""A real Chromium without a window, and what a test does on a page: type, press, look, wait.

It remembers every request the browser made and everything its console said.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1200,900",
)
_PATIENCE_SECONDS = 30
_AXE = Path(__file__).parents[2] / "build/axe/package/axe.min.js"
_RUN_AXE = """
const done = arguments[0];
axe.run(document, {resultTypes: ["violations"]}).then(({ violations, passes }) => done([
  violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`), passes.length]));
"""
_CHECK_SECONDS = 0.05


def start_chromium(profile: Path) -> webdriver.Chrome:
    """Start the browser with a new profile in `profile`; skip where there is none."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("no chromium with its driver here: scripts/tools.sh browser")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


class Page:
    """The web page of a service, in a tab of its own."""

    def __init__(self, driver: webdriver.Chrome, address: str):
        self.driver, self.address = driver, address
        self.expected_statuses: set[int] = set()
        """Refusals that a test provokes: the console names them, too."""
        self.is_attacked = False
        """Whether the test does what the policy forbids, which the console then says."""

    def open(self) -> None:
        """Load the page and wait until it knows its model or has a problem."""
        self.driver.get(f"{self.address}/ui")
        self.until(lambda: self.text("#model") or self.text("#problem"))

    def find(self, css: str) -> WebElement:
        """Return the first element that matches."""
        return self.driver.find_element("css selector", css)

    def text(self, css: str) -> str:
        """Return the words that can be seen in an element, an empty string where it is hidden."""
        return self.find(css).text

    def texts(self, css: str) -> list[str]:
        """Return the exact words of every element that matches."""
        script = "return Array.from(document.querySelectorAll(arguments[0]), (found) => found.textContent)"
        return list(self.run(script, css))  # at once: the page may draw anew in between

    def all(self, css: str) -> list[WebElement]:
        """Return every element that matches."""
        return self.driver.find_elements("css selector", css)

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def chord(self, modifier: str, key: str) -> None:
        """Press a key while a modifier is held."""
        ActionChains(self.driver, duration=0).key_down(modifier).send_keys(key).key_up(modifier).perform()

    def fill(self, css: str, text: str) -> None:
        """Put a text into a field as pasting does, which takes any character."""
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        self.run(script, self.find(css), text)

    def classify(self, text: str) -> None:
        """Classify what is in a text field and wait for an answer or a problem."""
        self.show("classify")
        self.fill("#text", text)
        self.run("document.getElementById('news').textContent = ''")
        self.find("#ask button[type=submit]").click()
        self.until(lambda: self.find("#news").get_property("textContent") or self.text("#problem"))

    def refresh(self) -> None:
        """Show the recent calls and wait for them."""
        self.show("calls")
        self.run("document.getElementById('recent-count').textContent = ''")
        self.find("#refresh").click()
        self.until(lambda: self.text("#recent-count"))

    def show(self, view: str) -> None:
        """Show one of the page's views: classify, file, calls, charts or models."""
        self.run("location.hash = arguments[0]", view)
        self.until(lambda: self.find(f"#view-{view}").is_displayed())

    def until(self, condition: Callable[[], T]) -> T:
        """Wait until a condition holds and return what it returns."""
        wait = WebDriverWait(
            self.driver,
            _PATIENCE_SECONDS,
            poll_frequency=_CHECK_SECONDS,
            ignored_exceptions=[StaleElementReferenceException],
        )
        return wait.until(lambda _: condition())

    def violations(self) -> list[str]:
        """Return the violations of axe-core's rules; skip if axe-core is not installed."""
        if not _AXE.exists():
            pytest.skip("no axe-core in build/axe: scripts/tools.sh browser")
        self.run(_AXE.read_text("utf-8"))
        found, passed = self.driver.execute_async_script(_RUN_AXE)
        assert passed > 10, "the rules ran"
        return list(found)

    def complaints(self) -> list[str]:
        """Return what the console has said but for the refusals that the test expects."""
        return [entry["message"] for entry in self.driver.get_log("browser") if not self._is_expected(entry)]

    def hosts(self) -> set[str]:
        """Return the hosts that the browser has asked since the last time."""
        messages = [json.loads(line["message"])["message"] for line in self.driver.get_log("performance")]
        addresses = [
            urlsplit(message["params"]["request"]["url"])
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        return {address.netloc for address in addresses if address.scheme not in {"data", "about", "chrome"}}

    def _is_expected(self, entry: dict[str, Any]) -> bool:
        if entry["source"] == "network":
            return any(f"status of {status} " in entry["message"] for status in self.expected_statuses)
        return self.is_attacked and "Trusted" in entry["message"]
