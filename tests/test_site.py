"""The documentation site: builds without a warning, needs no other site, and covers what the code has."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import tamis
from tamis import errors
from tamis.cli import COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PARENTS = (ROOT / "src/tamis", ROOT)
SOURCES = sorted((ROOT / "src/tamis").rglob("*.py"))
TROUBLESHOOTING = (DOCS / "troubleshooting.md").read_text("utf-8")
_ADDRESS = re.compile(r"(?:https?:)?//(?!127\.0\.0\.1|localhost)[\w.-]+\.\w+")


class _Addresses(HTMLParser):
    """Collects what a page links to or loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {"href", "src", "srcset", "action", "data", "content"}
        self.found += [value for name, value in attrs if name in names and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("no Sphinx here: make install")
    folder = tmp_path_factory.mktemp("site")
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "-d",
        folder / "doctrees",
    ]
    run = subprocess.run([*build, DOCS, folder / "html"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return folder / "html"


def test_site_loads_and_links_nothing_from_elsewhere(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        parser = _Addresses()
        parser.feed(page.read_text("utf-8"))
        assert [address for address in parser.found if _ADDRESS.match(address)] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import\s+['\"]https?:", sheet.read_text("utf-8")), (
            sheet
        )


def test_internal_links_of_the_site_lead_somewhere(site: Path):
    for page in site.rglob("*.html"):
        parser = _Addresses()
        parser.feed(page.read_text("utf-8"))
        for address in parser.found:
            target = address.partition("#")[0].partition("?")[0]
            if target.endswith(".html"):
                assert (page.parent / target).exists(), f"{page}: {address}"


def test_cli_reference_has_every_command(site: Path):
    text = (DOCS / "reference/cli.md").read_text("utf-8")
    assert re.findall(r"^## `tamis (.+)`$", text, re.MULTILINE) == list(COMMANDS)


def test_settings_reference_has_every_setting(site: Path):
    text = (DOCS / "reference/settings.md").read_text("utf-8")
    sample = (ROOT / ".env.sample").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)`", text, re.MULTILINE) == re.findall(
        r"^#(TAMIS_\w+)=", sample, re.MULTILINE
    )


def test_http_reference_has_the_hot_routes(site: Path):
    text = (DOCS / "reference/http.md").read_text("utf-8")
    routes = set(re.findall(r"^## `(.+)`$", text, re.MULTILINE))
    assert {
        "POST /prediction",
        "GET /prediction",
        "POST /predictions",
        "GET /recent_log",
        "GET /model",
    } <= routes


def test_python_reference_has_every_public_name(site: Path):
    text = (site / "reference/python.html").read_text("utf-8")
    for name in tamis.__all__:
        assert name.startswith("__") or f'id="tamis.{name}"' in text or f"<code>{name}" in text, name


def error_codes() -> set[str]:
    """Return the keys of STATUS_BY_CODE, wherever the source defines it."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            targets = node.targets if isinstance(node, ast.Assign) else []
            if any(isinstance(target, ast.Name) and target.id == "STATUS_BY_CODE" for target in targets):
                codes: dict[str, int] = ast.literal_eval(node.value)
                return set(codes)
    raise AssertionError("STATUS_BY_CODE not found")


def test_troubleshooting_has_every_http_error_code():
    section = TROUBLESHOOTING.partition("## Messages of commands")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == error_codes()


def test_troubleshooting_has_every_error_class():
    classes = {name for name, item in vars(errors).items() if isinstance(item, type) and name != "TamisError"}
    headings = " ".join(re.findall(r"^### (.+)$", TROUBLESHOOTING, re.MULTILINE))
    assert classes == set(re.findall(r"\w+Error", headings))


def test_troubleshooting_has_every_store_fault():
    section = TROUBLESHOOTING.partition("#### Store faults")[2].partition("\n### ")[0]
    assert tuple(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == errors.STORE_FAULTS


def test_troubleshooting_quotes_messages_of_the_source():
    section = TROUBLESHOOTING.partition("## Messages of commands")[2].partition("#### Store faults")[0]
    literals = "\n".join(
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    quoted = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert len(quoted) > 40
    assert not [message for message in quoted if message not in literals]


def test_architecture_names_files_that_exist():
    text = (DOCS / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"(?<![\w/.])((?:\w+/)+(?:\w+\.py)?|\w+\.py)(?=[\s`,:]|$)", text, re.MULTILINE))
    assert len(named) > 40
    assert sorted(path for path in named if not any((root / path).exists() for root in PARENTS)) == []
