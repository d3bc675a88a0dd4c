"""What the page says when the service refuses, and how it keeps a key, in a real browser."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support.chromium import Page
from tests.support.processes import Service

pytestmark = pytest.mark.browser

Visit = Callable[[Service], Page]


def test_the_services_words_are_shown_when_a_text_is_too_long(visit: Visit, strict_service: Service) -> None:
    page = visit(strict_service)
    page.expected_statuses = {422}
    page.open()
    page.classify("x" * 1_001)
    assert page.text("#problem") == "`text` is longer than 1000 characters\n422 text_too_long"
    assert page.find("#problem").get_attribute("role") == "alert"


def test_page_of_a_limited_caller_counts_the_wait_down(visit: Visit, strict_service: Service) -> None:
    page = visit(strict_service)
    page.expected_statuses = {429}
    page.open()
    for number in range(20):
        page.classify(f"text {number}")
        if page.text("#problem"):
            break
    assert not page.find("#answer").is_displayed(), "an old answer must not be taken for this one"
    told = re.fullmatch(
        r"too many texts from one caller; try again in (\d+) s\n429 rate_limited\n(\d+) s to wait",
        page.text("#problem"),
    )
    assert told and 1 <= int(told[2]) <= int(told[1]) <= 4
    page.until(lambda: page.text("#problem").endswith("You can try again now."))
    page.classify("and again")
    assert (page.text("#problem"), page.text(".decision")) == ("", "Decision ham")


def test_a_problem_goes_when_the_next_text_is_answered(visit: Visit, service: Service) -> None:
    page = visit(service)
    page.expected_statuses = {422}
    page.open()
    page.find("#as-list").click()
    page.classify("")
    assert page.text("#problem").startswith("`texts` must contain at least one text")
    page.classify("hello")
    assert page.text("#problem") == ""


def test_the_page_says_so_when_the_service_is_gone(visit: Visit, serve: Callable[..., Service]) -> None:
    mock = serve("--mock")
    page = visit(mock)
    page.open()
    assert "not measured" in page.text("#model")
    page.classify("hi")
    assert "The decision is the most probable label." in page.text("#result")
    mock.stop(signal.SIGTERM)
    page.classify("hello")
    assert page.text("#problem") == "The service cannot be reached."
    [complaint] = page.complaints()
    assert "ERR_CONNECTION_REFUSED" in complaint


def test_page_key_is_kept_for_the_tab_until_forgotten(
    visit: Visit, locked_service: Service, key: str
) -> None:
    page = visit(locked_service)
    page.expected_statuses = {401}
    page.open()
    assert page.text("#problem").endswith("401 missing_key")
    assert page.driver.switch_to.active_element == page.find("#key")
    page.press("tamis_wrong", Keys.ENTER)
    page.until(lambda: page.text("#problem").endswith("401 wrong_key"))
    page.press(f" {key} ", Keys.ENTER)
    page.until(lambda: page.text("#model"))
    assert (page.text("#caller"), page.text("#problem")) == ("You are ada.", "")
    page.classify("hello")
    assert page.text(".decision")
    page.refresh()
    assert page.text("#recent-count") == "1 call"
    assert key not in page.driver.page_source
    kept = "return [Object.values(sessionStorage), localStorage.length, document.cookie]"
    assert page.run(kept) == [[key], 0, ""]
    page.open()
    assert page.text("#caller") == "You are ada.", "the key lasts as long as the tab"
    page.find("#forget-key").click()
    page.until(lambda: page.text("#problem").endswith("401 missing_key"))
    assert page.run(kept) == [[], 0, ""]


def test_another_tab_knows_no_key(visit: Visit, locked_service: Service, key: str) -> None:
    page = visit(locked_service)
    page.expected_statuses = {401}
    page.open()
    page.fill("#key", key)
    page.find("#key-form button").click()
    page.until(lambda: page.text("#model"))
    page.driver.switch_to.new_window("tab")
    page.open()
    assert page.find("#key-form").is_displayed()
