"""The page's list of recent calls, in a real browser on a real service."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

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


def test_a_long_text_is_cut_between_characters_where_it_is_only_listed(page: Page) -> None:
    page.classify("👍" * 2_000)
    page.refresh()
    assert page.texts("#recent .text")[0] == "👍" * 200 + "…"


def test_the_last_fifty_of_thousands_of_calls_are_shown(page: Page) -> None:
    hour = datetime.now(UTC).hour
    for part in range(3):
        texts = [f"call {1_000 * part + index} of many" for index in range(1_000)]
        httpx.post(f"{page.address}/predictions", json={"texts": texts}).raise_for_status()
    page.refresh()
    if datetime.now(UTC).hour != hour:
        pytest.skip("the hour has ended meanwhile")
    assert re.fullmatch(r"3,\d{3} calls, the last 50", page.text("#recent-count"))
    assert page.texts("#recent .text") == [f"call {number} of many" for number in range(2_999, 2_949, -1)]


@pytest.mark.parametrize("characters", [1, 2, 7, 1_000])
def test_the_last_calls_are_found_however_the_list_is_cut_into_parts(page: Page, characters: int) -> None:
    script = """
        const [parts, done] = arguments;
        import(new URL("ui/service.js", location)).then(async ({ lastOf }) => {
          const stream = new ReadableStream({
            pull(controller) { parts.length ? controller.enqueue(parts.shift()) : controller.close(); },
          });
          done(await lastOf(stream.getReader(), 2));
        });"""
    calls = [{"index": n, "input": text} for n, text in enumerate(["a", '\\"},{"', "[{]}\\\\", "👍\n", ""])]
    for count in range(len(calls) + 1):
        told = json.dumps(calls[:count], ensure_ascii=False)
        parts = [told[start : start + characters] for start in range(0, len(told), characters)]
        found = page.driver.execute_async_script(script, parts)
        assert found == {"total": count, "calls": calls[:count][-2:]}
