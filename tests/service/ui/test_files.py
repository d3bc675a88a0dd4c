"""The page's files need nothing from elsewhere, their policy forbids it, and all of them are served."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files

import httpx
import pytest

Ask = Callable[..., httpx.Response]

FILES = {
    file.name for file in files("tamis.service.ui").iterdir() if file.name.endswith((".js", ".css", ".svg"))
}


def test_every_file_the_page_names_is_served_here(ask: Ask) -> None:
    page = ask("GET", "/ui")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:src|href)="(ui/[^"]+)"', page.text))
    scripts = [ask("GET", f"/ui/{name}").text for name in FILES if name.endswith(".js")]
    imported = {f"ui/{name}" for script in scripts for name in re.findall(r'from "\./([^"]+)"', script)}
    assert named | imported == {f"ui/{name}" for name in FILES}, "relative: it holds behind a proxy's prefix"
    assert all(ask("GET", f"/{path}").status_code == 200 for path in named | imported)


def test_the_page_itself_holds_no_script_style_or_handler(ask: Ask) -> None:
    text = ask("GET", "/ui").text
    assert set(re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)) == {""}
    assert not re.search(r"<style|\sstyle=|\son\w+=", text)


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_file_names_another_host(ask: Ask, name: str) -> None:
    text = ask("GET", f"/ui/{name}").text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//\w+\.\w|url\(|@import", text)


@pytest.mark.parametrize("path", ["/ui", *(f"/ui/{name}" for name in sorted(FILES))])
def test_page_files_are_sent_with_a_strict_policy(ask: Ask, path: str) -> None:
    headers = ask("GET", path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy.pop("default-src") == "'none'"
    assert set(policy.values()) == {"'self'", "'none'", "'script'"}
    assert (policy["script-src"], policy["require-trusted-types-for"]) == ("'self'", "'script'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_page_is_open_but_for_get_and_head(ask: Ask) -> None:
    assert ask("HEAD", "/ui").status_code == 200
    assert ask("POST", "/ui").status_code == 405
    assert ask("GET", "/ui/files.py").status_code == 404
    assert ask("GET", "/ui/../page.js").status_code == 404


def test_the_service_names_its_page(ask: Ask) -> None:
    assert ask("GET", ask("GET", "/").json()["page"]).headers["content-type"].startswith("text/html")
