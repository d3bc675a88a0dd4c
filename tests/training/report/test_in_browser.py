"""The report in a real Chromium: at the width of a phone and of a desk, in light and in dark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver

from tamis import train
from tamis.training.fit import TrainSettings
from tamis.types import Dataset
from tests.support.chromium import start_chromium
from tests.support.samples import messages, write_csv

pytestmark = pytest.mark.browser

_BEYOND_THE_EDGE = """
return [...document.querySelectorAll("body *")]
    .filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80))
"""
_OVERLAPPING = """
const found = [];
for (const chart of document.querySelectorAll("figure > svg")) {
    const words = [...chart.querySelectorAll("text")]
        .map(one => [one.textContent, one.getBoundingClientRect()]);
    words.forEach(([first, a], place) => words.slice(place + 1).forEach(([second, b]) => {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 4) found.push(`${first} and ${second}`);
    }));
}
return found;
"""
_CONTRASTS = """
const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(part => part / 255)
        .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
};
const paper = light(getComputedStyle(document.body).backgroundColor);
return [...document.querySelectorAll("td, th, p, h1, h2, h3, text, .faint, summary, .tile span")].map(one => {
    const style = getComputedStyle(one);
    const ink = light(one.tagName === "text" ? style.fill : style.color);
    return Math.max(ink, paper) / Math.min(ink, paper);
});
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    folder = tmp_path_factory.mktemp("report")
    data = write_csv(messages(300, labels=("ham", "spam")), folder / "messages.csv")
    path = train(data, folder / "spam", settings=TrainSettings(folds=3, overrides={"bits": "14"})).path
    assert path is not None
    driver = start_chromium(tmp_path_factory.mktemp("profile"))
    driver.get((path / "report.html").as_uri())
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def many_labels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """The report of 300 labels, each of which is told by one word of its own."""
    folder = tmp_path_factory.mktemp("many")
    rows = [(f"label_{n}", f"please look at topic{n} {word} {n}") for n in range(300) for word in "abcd"]
    texts, labels = [text for _, text in rows], [label for label, _ in rows]
    data = write_csv(Dataset(texts, labels, range(1, len(rows) + 1)), folder / "topics.csv")
    path = train(data, folder / "topics", settings=TrainSettings(folds=2, overrides={"bits": "14"})).path
    assert path is not None
    driver = start_chromium(tmp_path_factory.mktemp("profile"))
    driver.get((path / "report.html").as_uri())
    yield driver
    driver.quit()


@pytest.mark.parametrize("width", [360, 1200])
def test_report_of_300_labels_is_readable(many_labels: webdriver.Chrome, width: int):
    assert shown(many_labels, width=width, scheme="light", script=_BEYOND_THE_EDGE) == []
    assert shown(many_labels, width=width, scheme="light", script=_OVERLAPPING) == []
    height = shown(many_labels, width=width, scheme="light", script="return document.body.scrollHeight")
    assert height < 30_000, "the rest is folded"
    folded = many_labels.find_elements("css selector", "details > summary")
    assert {"The 280 labels between them", "288 more labels"} <= {one.text for one in folded}


def shown(driver: webdriver.Chrome, *, width: int, scheme: str, script: str) -> Any:
    """Return what a script finds on the page in a window of this width, in light or dark colours."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    return driver.execute_script(script)


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_reaches_beyond_the_edge(opened: webdriver.Chrome, width: int):
    assert shown(opened, width=width, scheme="light", script=_BEYOND_THE_EDGE) == []


@pytest.mark.parametrize("width", [360, 1200])
def test_no_words_of_a_chart_overlap(opened: webdriver.Chrome, width: int):
    assert shown(opened, width=width, scheme="light", script=_OVERLAPPING) == []
    assert len(opened.find_elements("css selector", "figure > svg")) == 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_paper(opened: webdriver.Chrome, scheme: str):
    contrasts = shown(opened, width=1200, scheme=scheme, script=_CONTRASTS)
    assert len(contrasts) > 100
    assert min(contrasts) >= 4.5  # what the Web Content Accessibility Guidelines ask for
