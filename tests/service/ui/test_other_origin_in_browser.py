"""A page on another origin calls the service with `fetch`, in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.chromium import start_chromium
from tests.support.processes import serving

pytestmark = pytest.mark.browser

_FETCH = """
const [url, options, done] = arguments;
fetch(url, options)
  .then(async (found) => done([found.status, await found.json(), found.headers.get("x-request-id")]))
  .catch((error) => done([0, error.name, null]));
"""
_JSON = {"method": "POST", "headers": {"content-type": "application/json"}, "body": '{"text": "win"}'}
_LINES = {"method": "POST", "headers": {"content-type": "application/x-ndjson"}, "body": '"win"'}


class _EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another origin</title>")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def other_origin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _EmptyPage) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_fetch_works_from_a_listed_origin_only(tmp_path: Path, other_origin: str) -> None:
    arguments = ("--mock", "--store", "memory:")
    browser = start_chromium(tmp_path / "profile")
    try:
        browser.get(other_origin)
        folders = [tmp_path / "listed", tmp_path / "unlisted"]
        for folder, origins in zip(folders, (other_origin, "https://app.example.org"), strict=True):
            folder.mkdir()
            with serving(
                folder, *arguments, is_program=True, TAMIS_CORS_ORIGINS=origins, TAMIS_DRAIN_SECONDS="0"
            ) as service:

                def fetched(path: str, options: Any, address: str = service.address) -> Any:
                    return browser.execute_async_script(_FETCH, f"{address}{path}", options)

                found = [fetched("/prediction", _JSON), fetched("/predictions", _LINES)]
                found.append(fetched("/prediction?text=win", {}))
                found.append(fetched("/prediction", _JSON | {"body": "{}"}))
            if origins == other_origin:
                assert [status for status, _, _ in found] == [200, 200, 200, 422]
                assert found[0][1]["top"] == found[1][1]["top"] == found[2][1]["top"]
                assert all(request_id for _, _, request_id in found)
            else:
                assert [one[:2] for one in found] == [[0, "TypeError"]] * 4
    finally:
        browser.quit()
