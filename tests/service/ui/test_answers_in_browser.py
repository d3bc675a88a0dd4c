"""What the page shows of a model's answers, in a real browser on a real service.

Behind every test stands the check of its fixture: the browser asked no other host and its console
said nothing.
"""

from __future__ import annotations

import re

import pytest
from selenium.common.exceptions import JavascriptException

from tests.support.chromium import Page

pytestmark = pytest.mark.browser


def test_the_page_names_the_service_the_caller_and_the_model(page: Page) -> None:
    assert (page.driver.title, page.text("h1")) == ("Tamis", "Tamis")
    assert page.text("#caller") == "You are 127.0.0.1."
    card = page.text("#model").split("\n")
    assert card[:8] == [
        *("Name", "spam, version 1"),
        *("Kind", "linear"),
        *("Labels", "ham, spam"),
        *("Accuracy", "97.5 % on 40 held-out texts"),
    ]
    assert "95 % interval: 87.1 % to 99.6 %" in card
    assert "spam at 75.0 % or more" in card


def test_page_answer_shows_scores_decision_source_and_time(page: Page) -> None:
    page.classify("WIN a camera now! Text WIN to 80080")
    assert page.text(".decision") == "Decision spam"
    assert "the decision is spam at 75.0 % or more" in page.text("#result")
    assert page.texts(".bars .label") == ["spam", "ham"]
    numbers = [float(number.removesuffix("\u00a0%")) for number in page.texts(".bars .number")]
    assert sum(numbers) == pytest.approx(100, abs=0.2)
    track, filled = (page.find(f".bars {css}").size["width"] for css in (".bar", ".filled"))
    assert filled / track == pytest.approx(numbers[0] / 100, abs=0.02), (
        "the bar is as long as the number says"
    )
    origin, time, version = page.texts("#status span")
    assert (origin, version) == ("computed", "version 1")
    assert re.fullmatch(r"\d+ ms", time)


def test_decision_may_differ_from_the_most_probable_label(
    page: Page,
) -> None:
    page.classify("URGENT! Your camera is waiting at the station")
    assert (page.text(".decision"), page.texts(".bars .label")[0]) == ("Decision ham", "spam")


def test_cache_hits_are_named_unless_the_cache_is_skipped(page: Page) -> None:
    origins = []
    for _ in range(2):
        page.classify("asked for twice")
        origins.append(page.texts("#status span")[0])
    page.find("#skip-cache").click()
    page.classify("asked for twice")
    assert [*origins, page.texts("#status span")[0]] == [
        "computed",
        "cache hit",
        "computed",
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
    assert page.texts("#status span")[:2] == ["3 texts", "0 cache hits"]


def test_page_text_of_several_lines_is_one_text(page: Page) -> None:
    page.classify("one\ntwo\nthree")
    assert page.all("#result table") == []
    page.refresh()
    assert page.texts("#recent .text")[0] == "one\ntwo\nthree"


def test_an_example_is_classified_with_one_click(page: Page) -> None:
    example = page.all("#examples button")[0]
    example.click()
    page.until(lambda: page.text(".decision"))
    assert page.find("#text").get_property("value") == example.get_property("textContent")


def test_only_the_most_probable_of_many_labels_are_drawn(page: Page) -> None:
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
    assert page.texts("#result .text") == [markup]
    assert page.texts("#recent .text")[:2] == [markup, markup]
    assert page.all("body img, body script") == []
    assert page.driver.title == "Tamis"


def test_page_policy_forbids_markup_from_a_text(page: Page) -> None:
    page.is_attacked = True
    with pytest.raises(JavascriptException, match="TrustedHTML"):
        page.run("document.getElementById('result').innerHTML = '<b>x</b>'")
