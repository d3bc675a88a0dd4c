"""The jobs of the page beside classifying, in a real browser on a real service."""

from __future__ import annotations

import csv
import io
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tamis.artifact.traffic import set_canary
from tamis.service.call_log.formats import guarded
from tests.support.artifacts import save_model
from tests.support.chromium import Page
from tests.support.command_server import tamis_command
from tests.support.processes import ENVIRON, Service, waiting_for

pytestmark = pytest.mark.browser

Visit = Callable[[Service], Page]
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": False}
VIEWS = ("classify", "file", "calls", "charts", "models")


def _until_known(service: Service, key: str) -> None:
    """Wait for a key that was just created: the service looks at its file every half second."""
    for _ in waiting_for(service.process):
        if httpx.get(f"{service.address}/models", headers={"x-api-key": key}).status_code == 200:
            return


def test_an_explanation_colours_the_tokens(page: Page) -> None:
    text = "👍 WIN a FREE camera now! see you at the harbour"
    page.classify(text)
    page.find("#explain").click()
    page.until(lambda: page.text(".explained"))
    assert page.texts(".explained") == [text], "offsets are code points"
    marks = {mark.text: str(mark.get_attribute("class")) for mark in page.all(".explained mark")}
    label = page.text(".decision").removeprefix("Decision ")
    assert marks["WIN"].startswith("for" if label == "spam" else "against")
    page.find("#explanation summary").click()
    assert "Intercept" in page.texts("#explanation td.text")
    assert page.texts("#explanation td.text")[-1] == "Logit"


def test_an_answer_is_corrected(page: Page) -> None:
    if "/feedback" not in httpx.get(f"{page.address}/openapi.json").json()["paths"]:
        page.classify("to be corrected")
        assert page.all("#correct") == [], "a feature whose route is absent is hidden"
        return
    page.classify("to be corrected")
    page.fill("#true-label", "spam")
    page.find("#correct button").click()
    page.until(lambda: page.text("#correct") == "Feedback saved: spam.")
    stored = httpx.get(f"{page.address}/feedback").json()
    assert "spam" in str(stored)


def test_a_chosen_version_answers(page: Page, service: Service) -> None:
    choices = page.texts("#choice option")
    assert choices == ["spam (version 1)", "spam, version 1"]
    page.fill("#choice", '{"name":"spam","version":"1"}')
    page.run("document.getElementById('choice').dispatchEvent(new Event('change'))")
    page.until(lambda: page.text("#model"))
    page.classify("of a chosen version")
    assert page.texts("#status span")[-1] == "version 1"
    seen = httpx.get(f"{page.address}/metrics").text
    assert 'route="/models/{model}/versions/{version}/prediction",method="POST",status="200"' in seen


def downloaded(page: Page, folder: Path) -> str:
    """Click the link to the result, and return the file's text."""
    page.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
    )
    page.find("#download a").click()
    page.until(lambda: (folder / "in-scored.csv").exists())
    return (folder / "in-scored.csv").read_bytes().decode()


def test_a_file_is_scored_and_downloaded(page: Page, tmp_path: Path) -> None:
    rows = [[n, f'WIN "it" now,\n{n} 👍' if n % 2 else f"see you at {n}"] for n in range(450)]
    written = io.StringIO(newline="")
    csv.writer(written).writerows([["id", "Message"], *rows])
    (tmp_path / "in.csv").write_text(written.getvalue(), "utf-8", newline="")
    page.show("file")
    page.find("#file").send_keys(str(tmp_path / "in.csv"))
    page.until(lambda: "guessed text column: Message" in page.text("#file-facts"))
    page.find("#score button").click()
    page.until(lambda: page.text("#download") == "Download 450 scored rows")
    header, *scored = csv.reader(io.StringIO(downloaded(page, tmp_path / "downloads"), newline=""))
    assert header == ["id", "Message", "label", "decision", "score", "error"]
    assert [row[:2] for row in scored] == [[str(number), text] for number, text in rows]
    texts = [text for _, text in rows]
    answers = httpx.post(f"{page.address}/predictions", json={"texts": texts}).json()
    assert [(row[2], float(row[4])) for row in scored] == [
        (one["top"]["label"], one["top"]["value"]) for one in answers
    ]


def test_scored_file_has_no_formula_and_names_errors(
    visit: Visit, serve: Callable[..., Service], tmp_path: Path
) -> None:
    cells = ["=1+1", "@SUM(A1)", "\u00a0-2", "a;+3", "'quoted", "smile ;-)", "", "x" * 2_000, "last"]
    lines = ["text", *(f'"{one}"' for one in cells), ""]
    (tmp_path / "in.csv").write_text("\n".join(lines), "utf-8")
    page = visit(serve(TAMIS_MAX_TEXT_CHARS="1000", TAMIS_MAX_TEXTS="4"))
    page.open()
    page.show("file")
    page.find("#file").send_keys(str(tmp_path / "in.csv"))
    page.until(lambda: page.find("#score").is_displayed())
    page.find("#score button").click()
    page.until(lambda: page.text("#download") == f"Download {len(cells)} scored rows")
    rows = list(csv.DictReader(io.StringIO(downloaded(page, tmp_path / "downloads"), newline="")))
    assert [row["text"] for row in rows] == [guarded(one) for one in cells]
    assert [row["error"] for row in rows] == [""] * 7 + ["text_too_long", ""]
    assert [row["label"] != "" for row in rows] == [True] * 7 + [False, True]


def test_page_loads_without_the_openapi_document(page: Page) -> None:
    for view in VIEWS:
        page.show(view)
    names = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert names and not [name for name in names if "openapi" in name]


def test_call_without_its_text_is_listed_as_not_kept(visit: Visit, serve: Callable[..., Service]) -> None:
    page = visit(serve(TAMIS_LOG_TEXTS="none"))
    page.open()
    page.classify("WIN a voucher now")
    page.show("calls")
    page.until(lambda: page.text("#recent td.text") == "not kept")


def test_page_classifies_when_the_log_is_closed(visit: Visit, serve: Callable[..., Service]) -> None:
    page = visit(serve(TAMIS_SHORTEN_ADDRESSES="true"))
    page.expected_statuses = {403}
    page.open()
    page.classify("WIN a voucher now")
    assert page.text("#problem") == ""


def test_drift_of_a_model_is_shown(page: Page) -> None:
    page.show("charts")
    page.until(lambda: page.text("#drift-chart").startswith("spam, version 1: "))


def test_canary_is_shown_beside_the_served_version(visit: Visit, serve: Callable[..., Service]) -> None:
    service = serve()
    folder = service.log.parent / "spam"
    save_model(folder)
    set_canary(f"{folder}@2", 1.0, max_disagreement=1.0)
    page = visit(service)
    page.open()

    def is_compared() -> bool:
        httpx.post(f"{service.address}/prediction", json={"text": "WIN", "skip_cache": True})
        seen = httpx.get(f"{service.address}/metrics").text
        return re.search(r'tamis_comparisons_total\{[^}]*result="(dis)?agreed"\} [1-9]', seen) is not None

    page.until(is_compared)
    page.show("charts")
    page.until(lambda: page.find("#comparison").is_displayed())
    assert page.texts("#comparison thead th") == ["Metric (95 % interval)", "Served", "Canary"]
    figures = ["Requests", "Errors", "Mean time", "Label ham", "Label spam", "Accuracy on feedback"]
    assert page.texts("#comparison tbody th") == figures
    assert re.search(
        r"[1-9]\d* texts? scored by both versions: 0.0.% \(0.0.% to .* with another",
        page.text("#comparison-chart"),
    )
    assert page.violations() == []


def test_an_admin_lists_and_revokes_keys(visit: Visit, locked_service: Service, key_file: Path) -> None:
    made = {}
    for name, scope in (("boss", "admin"), ("guest", "predict")):
        create = ["keys", "create", name, "--scope", scope, "--file", str(key_file)]
        ran = subprocess.run(tamis_command(*create), env=ENVIRON, capture_output=True, text=True)
        made[name] = ran.stdout.strip()
    _until_known(locked_service, made["boss"])
    page = visit(locked_service)
    page.expected_statuses = {401}
    page.open()
    page.fill("#key", made["boss"])
    page.find("#key-form button").click()
    page.until(lambda: page.text("#model"))
    page.show("models")
    page.until(lambda: "guest" in page.text("#keys-table"))
    assert page.violations() == []
    button = page.find("[aria-label='Revoke the keys of guest']")
    button.click()
    assert button.text == "Confirm"
    button.click()
    page.until(lambda: page.texts("#news") == ["The keys of guest are revoked."])
    assert "guest" not in page.text("#keys-table")
    assert "boss" not in [one.get_attribute("aria-label") for one in page.all("#keys-table button")]
    assert "guest" not in key_file.read_text()


def test_a_file_without_rows_is_refused(page: Page) -> None:
    page.show("file")
    page.run("document.querySelector('#view-file details').open = true")
    page.fill("#csv-text", "only,a header\n")
    page.until(lambda: "no row after its header" in page.text("#problem"))
    assert not page.find("#score").is_displayed()


def test_charts_show_the_services_own_figures(page: Page) -> None:
    for _ in range(2):
        httpx.post(f"{page.address}/prediction", json={"text": "asked twice for the chart"})
    page.show("charts")
    page.until(lambda: page.all("#cache-chart svg"))
    counts = httpx.get(f"{page.address}/log/summary").json()["counts"]
    total = sum(one["count"] for one in counts)
    assert page.text("#calls-chart p").startswith(f"{total:,} calls in the last 24 hours")
    assert page.texts("#calls-chart .legend li") == sorted({one["label"] for one in counts})
    assert page.text("#latency-chart p").startswith("p50 ≤ ")
    assert "cache hits" in page.text("#cache-chart p")


def test_charts_of_metrics_are_hidden_without_the_scope(
    visit: Visit, locked_service: Service, key: str
) -> None:
    page = visit(locked_service)
    page.expected_statuses = {401, 403}
    page.open()
    page.fill("#key", key)
    page.find("#key-form button").click()
    page.until(lambda: page.text("#model"))
    page.show("charts")
    page.until(lambda: page.text("#calls-chart p"))
    page.until(lambda: page.texts("#news") == ["Charts updated."])
    assert not page.find("#latency").is_displayed()
    assert page.text("#problem") == ""


def test_only_an_admin_moves_aliases(visit: Visit, locked_service: Service, key: str, key_file: Path) -> None:
    create = tamis_command("keys", "create", "root", "--scope", "admin")
    made = subprocess.run([*create, "--file", str(key_file)], env=ENVIRON, capture_output=True, text=True)
    _until_known(locked_service, made.stdout.strip())
    for one, may in ((key, False), (made.stdout.strip(), True)):
        page = visit(locked_service)
        page.expected_statuses = {401}
        page.open()
        page.fill("#key", one)
        page.find("#key-form button").click()
        page.until(lambda page=page: page.text("#model"))
        page.show("models")
        page.until(lambda page=page: page.text("#versions"))
        assert bool(page.all(".aliases")) is may
    page.find(".aliases button").click()
    page.until(lambda: "champion now names version 1" in page.texts("#news")[0])
    state = httpx.get(f"{page.address}/models/spam", headers={"x-api-key": one}).json()
    assert state["aliases"] == {"champion": "1"}


def test_health_is_shown(page: Page) -> None:
    assert page.text("#health") == "ready"


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_no_view_violates_a_rule_of_axe(page: Page, look: str) -> None:
    scheme = "dark" if look == "dark" else "light"
    preferences = {
        "features": [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
    }
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preferences)
    if look == "phone":
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    page.open()
    page.classify("WIN a voucher now, see you at the harbour")
    page.find("#explain").click()
    page.until(lambda: page.text(".explained"))
    for view in VIEWS:
        page.show(view)
        page.run("for (const one of document.querySelectorAll('details')) one.open = true")
        assert page.violations() == [], view
        width = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert page.run(width), f"{view} is wider than the window"
