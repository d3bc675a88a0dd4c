"""The page's list of recent calls, in a real browser on a real service."""

from __future__ import annotations

import httpx
import pytest

from tests.support.chromium import Page

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    "text",
    [
        'a"},{"index":7,"input":"b',
        'a\\" } , {\\',
        "[{}]",
        "\u202eright to left\u202c \u2028 \x01 \x85",
        "👍🏽 é ñ 字",
        "  blanks  ",
    ],
)
def test_any_text_is_shown_as_it_was_logged(page: Page, text: str) -> None:
    page.classify(text)
    page.refresh()
    assert page.texts("#recent .text")[0] == text


def test_page_long_listed_text_is_cut_between_characters(page: Page) -> None:
    page.classify("👍" * 2_000)
    page.refresh()
    assert page.texts("#recent .text")[0] == "👍" * 200 + "…"


def test_older_calls_follow_page_by_page(page: Page) -> None:
    texts = [f"call {index} of many" for index in range(120)]
    httpx.post(f"{page.address}/predictions", json={"texts": texts}).raise_for_status()
    page.show("calls")
    page.fill("#filter-contains", "of many")
    page.refresh()
    assert page.text("#recent-count") == "The newest 50 calls"
    for shown in (100, 120):
        page.find("#more").click()
        page.until(lambda shown=shown: len(page.all("#recent tr")) == shown)
    assert page.texts("#recent .text") == texts[::-1]
    assert not page.find("#more").is_displayed()


def test_filters_restrict_the_list(page: Page) -> None:
    texts = ["WIN a voucher now, filtered", "see you at the harbour, filtered"]
    httpx.post(f"{page.address}/predictions", json={"texts": texts}).raise_for_status()
    page.show("calls")
    page.fill("#filter-contains", "FILTERED")
    page.fill("#filter-label", "spam")
    page.refresh()
    assert page.texts("#recent .text") == texts[:1]


def test_live_list_shows_a_new_call_by_itself(page: Page) -> None:
    page.refresh()
    page.find("#live").click()
    httpx.post(f"{page.address}/prediction", json={"text": "arrived while live"}).raise_for_status()
    page.until(lambda: page.texts("#recent .text")[0] == "arrived while live")
