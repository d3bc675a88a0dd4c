"""The web page in a real browser on a real service.

Behind every test stands the check of its fixture: the browser asked no other host and its console
said nothing, no broken policy among it.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest
from selenium.common.exceptions import JavascriptException
from selenium.webdriver.common.keys import Keys

from tests.processes import Service
from tests.service.page.chromium import Page

pytestmark = pytest.mark.browser

Visit = Callable[[Service], Page]

NARROW = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": False}

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


def test_the_page_names_the_service_the_caller_and_the_model(page: Page) -> None:
    assert (page.driver.title, page.text("h1")) == ("Tamis", "Tamis")
    assert page.text("#caller") == "You are 127.0.0.1."
    card = page.text("#model").split("\n")
    assert card[:8] == [
        *("Name", "spam, version 1"),
        *("Kind", "linear"),
        *("Labels", "ham, spam"),
        *("Accuracy", "97.5 % of 40 texts kept apart"),
    ]
    assert "95 % interval: 87.1 % to 99.6 %" in card
    assert "spam from 75.0 % on" in card


def test_a_text_shows_bars_decision_operating_point_origin_and_time(page: Page) -> None:
    page.classify("WIN a camera now! Text WIN to 80080")
    assert page.text(".decision") == "Decision spam"
    assert "spam is decided from 75.0 % on" in page.text("#result")
    assert page.texts(".bars .label") == ["spam", "ham"]
    numbers = [float(number.removesuffix("\u00a0%")) for number in page.texts(".bars .number")]
    assert sum(numbers) == pytest.approx(100, abs=0.2)
    track, filled = (page.find(f".bars {css}").size["width"] for css in (".bar", ".filled"))
    assert filled / track == pytest.approx(numbers[0] / 100, abs=0.02), (
        "the bar is as long as the number says"
    )
    origin, time, version = page.texts("#status span")
    assert (origin, version) == ("computed afresh", "version 1")
    assert re.fullmatch(r"\d+ ms", time)


def test_the_decision_differs_from_the_likeliest_label_when_the_operating_point_asks_for_more(
    page: Page,
) -> None:
    page.classify("URGENT! Your camera is waiting at the station")
    assert (page.text(".decision"), page.texts(".bars .label")[0]) == ("Decision ham", "spam")


def test_an_answer_says_that_it_comes_from_the_cache_unless_it_is_to_be_computed_afresh(page: Page) -> None:
    origins = []
    for _ in range(2):
        page.classify("asked for twice")
        origins.append(page.texts("#status span")[0])
    page.find("#skip-cache").click()
    page.classify("asked for twice")
    assert [*origins, page.texts("#status span")[0]] == [
        "computed afresh",
        "from the cache",
        "computed afresh",
    ]


def test_a_list_is_classified_line_by_line(page: Page) -> None:
    page.find("#as-list").click()
    page.classify("WIN a gold watch now!\n\nsee you at the harbour, Ben\n  \nWIN a gold watch now!")
    assert page.texts("tbody .text") == [
        "WIN a gold watch now!",
        "see you at the harbour, Ben",
        "WIN a gold watch now!",
    ]
    assert page.texts("tbody .label") == ["spam", "ham", "spam"]
    assert page.texts("#status span")[:2] == ["3 texts", "0 from the cache"]


def test_a_text_of_several_lines_is_one_text_when_no_list_is_asked_for(page: Page) -> None:
    page.classify("one\ntwo\nthree")
    assert page.all("table") == []
    page.refresh()
    assert page.texts("#recent .text")[0] == "one\ntwo\nthree"


def test_an_example_is_classified_with_one_click(page: Page) -> None:
    example = page.all("#examples button")[0]
    example.click()
    page.until(lambda: page.text(".decision"))
    assert page.find("#text").get_property("value") == example.text


def test_only_the_likeliest_of_many_labels_are_drawn(page: Page) -> None:
    labels = {f"label {number}": 0.1 - 0.004 * number for number in range(13)}
    script = """
        const [answer, done] = arguments;
        import(new URL("ui/drawing.js", location)).then(({ drawPrediction }) => {
          document.getElementById("result").replaceChildren(...drawPrediction(answer, null));
          done();
        });"""
    page.driver.execute_async_script(script, {"prediction": labels, "decision": "label 0"})
    assert page.texts(".bars .label") == [f"label {number}" for number in range(10)]
    assert page.texts("#result p")[-1] == "3 more labels: 16.8\u00a0% together"


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0, "0.0 %"), (1e-9, "< 0.1 %"), (0.125, "12.5 %"), (0.9999, "> 99.9 %"), (1, "100.0 %")],
)
def test_only_what_is_certain_is_shown_as_certain(page: Page, probability: float, words: str) -> None:
    script = """
        const [probability, done] = arguments;
        import(new URL("ui/drawing.js", location)).then(({ percent }) => done(percent(probability)));"""
    assert page.driver.execute_async_script(script, probability).replace("\u00a0", " ") == words


def test_markup_in_a_text_stays_text(page: Page) -> None:
    markup = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>&lt;"
    page.classify(markup)
    page.find("#as-list").click()
    page.classify(markup)
    page.refresh()
    assert page.texts("tbody .text") == [markup]
    assert page.texts("#recent .text")[:2] == [markup, markup]
    assert page.all("body img, body script") == []
    assert page.driver.title == "Tamis"


def test_a_mistake_in_the_scripts_could_not_make_markup_of_a_text(page: Page) -> None:
    page.is_attacked = True
    with pytest.raises(JavascriptException, match="TrustedHTML"):
        page.run("document.getElementById('result').innerHTML = '<b>x</b>'")


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
    hour, long = datetime.now(UTC).hour, "." * 800  # longer than what a browser reads at once
    for part in range(3):
        texts = [f"call {1_000 * part + index} of many {{[,]}} {long}" for index in range(1_000)]
        httpx.post(f"{page.address}/predictions", json={"texts": texts}).raise_for_status()
    page.refresh()
    if datetime.now(UTC).hour != hour:
        pytest.skip("the hour has ended meanwhile")
    assert re.fullmatch(r"3,\d{3} calls, the last 50", page.text("#recent-count"))
    expected = [f"call {number} of many {{[,]}} {long}" for number in range(2_999, 2_949, -1)]
    assert page.texts("#recent .text") == [f"{text[:200]}…" for text in expected]


def test_the_services_words_are_shown_when_a_text_is_too_long(visit: Visit, strict_service: Service) -> None:
    page = visit(strict_service)
    page.expected_statuses = {422}
    page.open()
    page.classify("x" * 1_001)
    assert page.text("#problem") == "`text` is longer than 1000 characters\n422 text_too_long"
    assert page.find("#problem").get_attribute("role") == "alert"


def test_the_time_to_wait_is_shown_and_counted_down_when_the_caller_is_limited(
    visit: Visit, strict_service: Service
) -> None:
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
    assert page.text("#problem").startswith("`texts` must hold at least one text")
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


def test_a_key_is_asked_for_kept_for_the_tab_only_and_forgotten_when_told_to(
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
    assert stops[:5] == ["API documentation", "text", "Classify", "as-list", "skip-cache"]
    assert stops[-1] == "refresh"
    assert len(stops) == 5 + 4 + 1
    page.press(Keys.TAB, Keys.TAB, "WIN a voucher", Keys.ENTER, "see you", Keys.TAB, Keys.TAB, Keys.SPACE)
    page.chord(Keys.SHIFT, Keys.TAB)
    page.press(Keys.ENTER)
    page.until(lambda: page.text("#status"))
    assert page.texts("tbody .text") == ["WIN a voucher", "see you"]


def test_control_and_enter_classify_from_within_the_text(page: Page) -> None:
    page.press(Keys.TAB, Keys.TAB, "by shortcut")
    page.chord(Keys.CONTROL, Keys.ENTER)
    page.until(lambda: page.text(".decision"))
    assert page.find("#text").get_property("value") == "by shortcut"
    assert page.driver.switch_to.active_element == page.find("#text"), "the focus stays where it was"


def test_an_answer_is_read_out_in_one_sentence(page: Page) -> None:
    assert page.find("#news").get_attribute("role") == "status"
    page.classify("WIN a ticket now, reply WIN")
    [news] = page.texts("#news")
    assert re.fullmatch(r"spam, .+%: computed afresh, \d+ ms, version 1", news)


def test_whatever_can_be_used_has_a_name(page: Page) -> None:
    page.refresh()
    page.run("document.getElementById('key-form').hidden = false")
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    usable = [node for node in nodes if node.get("role", {}).get("value") in _USABLE_ROLES]
    assert len(usable) >= 12
    assert [node for node in usable if not node["name"]["value"]] == []


_USABLE_ROLES = {"button", "link", "textbox", "checkbox"}


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
