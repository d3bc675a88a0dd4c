"""The page for everybody: by keyboard, by ear, with weak eyes, in a narrow window; in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support.chromium import Page

pytestmark = pytest.mark.browser

NARROW = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": False}
_USABLE_ROLES = {"button", "link", "textbox", "checkbox"}

CONTRASTS = """
const channel = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) =>
  0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const [r, g, b, alpha = 1] = parse(getComputedStyle(at).backgroundColor);
    if (alpha === 1) return [r, g, b];
  }
  throw new Error("no ground");
};
const contrast = (one, other) => {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
};
const found = {};
for (const element of document.body.querySelectorAll("*:not(script)")) {
  const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const name = `${element.tagName} ${element.className} ${element.textContent.slice(0, 20)}`;
  if ((says || element.matches("textarea")) && element.checkVisibility())
    found[name] = contrast(parse(getComputedStyle(element).color), ground(element)) / 4.5;
  if (element.matches(".filled"))
    found[`bar ${name}`] = contrast(ground(element), ground(element.parentElement)) / 3;
  if (element.matches("textarea, button.quiet"))
    found[`border ${name}`] = contrast(parse(getComputedStyle(element).borderTopColor), ground(element)) / 3;
}
return found;
"""
"""Every contrast on the page as a multiple of what WCAG's level AA asks for."""


def _stops(page: Page) -> Iterator[str]:
    """Press the tabulator through the page and yield the id or the words of what has the focus."""
    while True:
        page.press(Keys.TAB)
        focused = page.driver.switch_to.active_element
        if focused.tag_name == "body":
            return
        assert focused.value_of_css_property("outline-style") == "solid", "the focus can be seen"
        yield focused.get_attribute("id") or focused.text


def test_everything_can_be_reached_and_done_by_keyboard(page: Page) -> None:
    stops = list(_stops(page))
    views = ["Classify", "Score a CSV", "Recent calls", "Charts", "Models"]
    assert stops[:11] == ["API documentation", *views, "choice", "text", "Classify", "as-list", "skip-cache"]
    assert stops[11:], "the examples"
    page.find("#choice").send_keys("")
    assert page.driver.switch_to.active_element == page.find("#choice")
    page.press(Keys.TAB, "WIN a voucher", Keys.ENTER, "see you", Keys.TAB, Keys.TAB, Keys.SPACE)
    page.chord(Keys.SHIFT, Keys.TAB)
    page.press(Keys.ENTER)
    page.until(lambda: page.text("#status"))
    assert page.texts("#result .text") == ["WIN a voucher", "see you"]


def test_control_and_enter_classify_from_within_the_text(page: Page) -> None:
    page.find("#text").send_keys("by shortcut")
    page.chord(Keys.CONTROL, Keys.ENTER)
    page.until(lambda: page.text(".decision"))
    assert page.find("#text").get_property("value") == "by shortcut"
    assert page.driver.switch_to.active_element == page.find("#text"), "the focus stays where it was"


def test_an_answer_is_read_out_in_one_sentence(page: Page) -> None:
    assert page.find("#news").get_attribute("role") == "status"
    page.classify("WIN a ticket now, reply WIN")
    [news] = page.texts("#news")
    assert re.fullmatch(r"spam, .+%: computed, \d+ ms, version 1", news)


def test_whatever_can_be_used_has_a_name(page: Page) -> None:
    page.run("document.getElementById('key-form').hidden = false")
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    usable = [node for node in nodes if node.get("role", {}).get("value") in _USABLE_ROLES]
    assert len(usable) >= 12
    assert [node for node in usable if not node["name"]["value"]] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_told_from_its_ground(page: Page, scheme: str) -> None:
    preference = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)
    page.open()
    page.classify("WIN a voucher now")
    page.refresh()
    page.run("document.getElementById('key-form').hidden = false")
    contrasts = page.run(CONTRASTS)
    assert len(contrasts) > 40
    assert {name: times for name, times in contrasts.items() if times < 1} == {}
    grounds = page.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(grounds) < 60) is (scheme == "dark")


@pytest.mark.parametrize("is_list", [False, True])
def test_nothing_is_wider_than_a_narrow_window(page: Page, is_list: bool) -> None:
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", NARROW)
    page.run("document.getElementById('key-form').hidden = false")
    if is_list:
        page.find("#as-list").click()
    page.classify("W" * 300)
    page.refresh()
    assert page.run("return [innerWidth, document.documentElement.scrollWidth <= 360]") == [360, True]
    assert page.run("return document.documentElement.scrollWidth === document.documentElement.clientWidth")
