"""The report and the card that training leaves: complete, escaped, deterministic, and one file each."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from tamis import train
from tamis.artifact import CARD_FILE, REPORT_FILE, open_artifact
from tamis.cli import cli
from tamis.training.evaluation import METRIC_NAMES
from tamis.training.fit import TrainSettings
from tamis.training.prepare import PrepareSettings
from tamis.types import Dataset
from tests.support.samples import messages, write_csv

VOID = {"meta", "br", "line", "circle", "polyline", "path"}
QUICK = TrainSettings(folds=3, overrides={"bits": "14"}, data_licence="CC BY 4.0")


class Page(HTMLParser):
    """Collects what a browser would: tags, headings, the text, and whether every tag is closed."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.headings: list[str] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data
        if self._open and self._open[-1] in {"h2", "figcaption"}:
            self.headings.append(data)


def trained(data: Dataset, folder: Path, settings: TrainSettings = QUICK) -> Path:
    path = train(
        write_csv(data, folder / "messages.csv"), folder / "spam", settings=settings, full_report=True
    ).path
    assert path is not None
    return path


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(messages(300), tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def page(version: Path) -> Page:
    return Page((version / "report.html").read_text())


def test_every_section_and_chart_is_there(page: Page):
    for title in (
        "Metrics",
        "ROC curve",
        "Precision and recall",
        "Threshold analysis",
        "Confusion",
        "Calibration curve",
        "Learning curve",
        "Accuracy by length",
        "Obfuscated texts",
        "Top features",
        "Data",
        "Most confident errors",
        "Training settings",
    ):
        assert title in page.headings
    for words in ("grouped split", "random split", "By source", "homoglyphs", "Evidence for spam"):
        assert words in page.words


def test_the_page_needs_nothing_else(version: Path, page: Page):
    html = (version / "report.html").read_text()
    assert len(html.encode()) < 2_000_000
    assert not page.tags & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert not {name for name, _ in page.attributes} & {"src", "onclick", "onload"}
    assert all(value.startswith("#") for name, value in page.attributes if name == "href" and value)
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_report_contents_link_to_every_section(page: Page):
    links = [value for name, value in page.attributes if name == "href"]
    assert links == [f"#{value}" for name, value in page.attributes if name == "id"]
    assert len(links) == 11


def test_report_title_names_model_version_and_data(version: Path, page: Page):
    named = Page(open_artifact(version).document(REPORT_FILE).decode())
    title = "spam, version 1: linear model for ham, spam"
    assert named.words.count(title) == 2, "in the head and as the heading"
    assert title in open_artifact(version).document(CARD_FILE).decode().splitlines()[0]
    assert "Data: messages.csv. Measured on the test part" in page.words


def test_report_curves_have_a_sentence_each(version: Path):
    html = (version / "report.html").read_text()
    sentences = re.findall(r'<p class="meaning">([^<]+)</p>', html)
    assert len(sentences) == 6
    assert all(one.endswith(".") and len(one) > 60 for one in sentences)


def test_every_axis_is_labelled(version: Path):
    html = (version / "report.html").read_text()
    charts = re.findall(r"<svg viewBox=\"0 0 440 310\".*?</svg>", html, re.DOTALL)
    assert len(charts) == 6
    for chart in charts:
        assert chart.count('class="axis"') == 2
        assert len(re.findall(r"<text x", chart)) >= 6


def test_both_files_are_in_the_manifest_and_verified(version: Path):
    artifact = open_artifact(version)
    assert {"report.html", "MODEL_CARD.md"} <= artifact.manifest.files.keys()


def test_the_same_input_gives_the_same_pages(version: Path, tmp_path: Path):
    again = trained(messages(300), tmp_path)
    for name in ("report.html", "MODEL_CARD.md"):
        assert (again / name).read_bytes() == (version / name).read_bytes()


def test_the_card_names_use_data_figures_and_limits(version: Path):
    card = (version / "MODEL_CARD.md").read_text()
    for words in (
        "# linear model for ham, spam",
        "## Intended use",
        "Licence: CC BY 4.0",
        f"`{open_artifact(version).manifest.data.sha256}`",
        "| grouped split | random split |",
        "| accuracy | ",
        "## Limits",
    ):
        assert words in card, words
    assert "None" not in card


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;\x1b[31m\u200b\ufeff"


def hostile(n: int = 200) -> Dataset:
    """Label a tenth of the spam as ham, so that hostile texts are among the mistakes."""
    data = messages(n)
    return Dataset(
        texts=[f"{text} {HOSTILE}" for text in data.texts],
        labels=["<b>" if label == "ham" or i % 20 == 1 else "*s|pam*" for i, label in enumerate(data.labels)],
        rows=data.rows,
        sources=["<i>one</i>" if i % 2 else "two" for i in range(n)],
    )


def test_a_text_is_never_html(tmp_path: Path):
    version = trained(hostile(), tmp_path)
    html = (version / "report.html").read_text()
    page = Page(html)
    assert not page.tags & {"script", "img", "i"}
    assert "<script>alert(1)</script>" in page.words, "shown as it is"
    assert "<i>one</i>" in page.words
    assert "\x1b" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;amp;\ufffd[31m</" in html.replace(" <span", "</"), (
        "invisible ends are left out"
    )


def test_markdown_in_labels_is_escaped_in_the_card(tmp_path: Path):
    card = (trained(hostile(), tmp_path) / "MODEL_CARD.md").read_text()
    assert "\\*s\\|pam\\*" in card
    assert "\\<b\\>" in card


def test_three_labels_have_a_report(tmp_path: Path):
    version = trained(messages(300, labels=("ham", "spam", "question")), tmp_path)
    page = Page((version / "report.html").read_text())
    assert "Evidence for question" in page.words
    assert re.search(
        r"<td>web</td>.*?<td class=n>–</td><td class=n>–</td>", (version / "report.html").read_text()
    )
    assert "Threshold analysis" not in page.headings
    assert "ham, question, spam" in (version / "MODEL_CARD.md").read_text()


def test_the_random_split_is_compared_with_the_grouped_one(tmp_path: Path):
    data = write_csv(messages(200), tmp_path / "messages.csv")
    path = train(
        data, tmp_path / "spam", settings=QUICK, prepare=PrepareSettings(split="random"), full_report=True
    ).path
    assert path is not None
    assert "| random split | grouped split |" in (path / "MODEL_CARD.md").read_text()


def test_a_prepared_folder_brings_its_audit(tmp_path: Path):
    data = write_csv(messages(200), tmp_path / "messages.csv")
    prepared = tmp_path / "prepared"
    assert CliRunner().invoke(cli, ["prepare", str(data), "-o", str(prepared)]).exit_code == 0
    from_folder = train(prepared, tmp_path / "one", settings=QUICK).path
    from_file = train(data, tmp_path / "two", settings=QUICK).path
    assert from_folder is not None
    assert from_file is not None
    assert _unnamed(from_folder) == _unnamed(from_file)


def _unnamed(version: Path) -> str:
    """Return a report without the name of its data."""
    html = (version / "report.html").read_text()
    return html.replace("Data: messages.csv.", "").replace("Data: prepared.", "")


def test_topics_have_no_section_on_obfuscation(tmp_path: Path):
    rows = messages(300, labels=("ham", "question"))
    version = trained(rows, tmp_path)
    assert "Obfuscated texts" not in Page((version / "report.html").read_text()).headings
    assert "Obfuscated" not in (version / "MODEL_CARD.md").read_text()


def test_report_terminal_and_card_show_the_same_metrics(version: Path, tmp_path: Path):
    ran = CliRunner().invoke(cli, ["evaluate", str(version), str(version.parents[1] / "messages.csv")])
    assert ran.exit_code == 0, ran.output
    html, card = (version / "report.html").read_text(), (version / "MODEL_CARD.md").read_text()
    metrics = open_artifact(version).manifest.metrics
    for name, label in METRIC_NAMES.items():
        value = f"{metrics[name]['value']:.4f}"
        assert re.search(rf"<td>{label}</td><td class=n>{value} ", html), label
        assert f"| {label} | {value} (" in card, label
        assert re.search(rf"{label} +{value} ", ran.stdout), label


def test_an_evaluation_writes_a_report_of_its_own(version: Path, tmp_path: Path):
    data, file = write_csv(messages(80, seed=11), tmp_path / "other.csv"), tmp_path / "report.html"
    ran = CliRunner().invoke(cli, ["evaluate", str(version), str(data), "--report", str(file)])
    assert ran.exit_code == 0
    page = Page(file.read_text())
    assert re.search(r"of other\.csv: [0-9]+ texts", page.words), "without those that were learned"
    assert "Confusion" in page.headings
    assert "Learning curve" not in page.headings, "only training knows it"
