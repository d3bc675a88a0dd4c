"""What is stored of texts and addresses: kept, hashed, left out, shortened, deleted; by real servers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tamis.service.security.api_keys import KeyFile, KeyRecord, hash_of, new_key
from tamis.service.security.client_identity import Caller, caller_in_network
from tests.support.command_server import tamis_command
from tests.support.processes import ENVIRON, Service, serving

MARKER = "quokka-7f3e marker of a private text"
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "privacy.md"
PROXY = {"TAMIS_TRUSTED_PROXIES": "127.0.0.1", "TAMIS_DRAIN_SECONDS": "0"}


def files_with_marker(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and b"quokka" in path.read_bytes()]


def sent(service: Service, method: str, path: str, caller: str = "192.0.2.7", **parts: Any) -> httpx.Response:
    """Send a request as the listed proxy does that passes on the request of `caller`."""
    return httpx.request(
        method, f"{service.address}{path}", headers={"x-forwarded-for": caller}, timeout=30, **parts
    )


def predicted(service: Service, text: str = MARKER, caller: str = "192.0.2.7") -> dict[str, Any]:
    response = sent(service, "POST", "/prediction", caller, json={"text": text})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def exercise(service: Service) -> None:
    """Leave the marker in everything that takes texts."""
    answer = predicted(service)
    sent(service, "POST", "/predictions", json={"texts": [MARKER, MARKER.upper()]}).raise_for_status()
    sent(service, "POST", "/explanation", json={"text": MARKER})
    sent(service, "GET", "/prediction", params={"text": MARKER}).raise_for_status()
    lines = {"content-type": "text/csv", "x-forwarded-for": "192.0.2.7"}
    csv = httpx.post(f"{service.address}/predictions", content=f"text\n{MARKER}\n", headers=lines, timeout=30)
    assert "quokka" in csv.text
    for body in ({"prediction_id": answer["id"]}, {"text": MARKER}):
        report = {**body, "label": "ham", "comment": MARKER}
        assert sent(service, "POST", "/feedback", json=report).status_code == 201
    sent(service, "POST", "/prediction", content=MARKER)  # a body that is no JSON


@pytest.fixture(params=["1", "2"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Serve in a folder of its own, with temporary files in it, by one or two workers."""

    def start(**environ: str) -> Any:
        (tmp_path / "tmp").mkdir(exist_ok=True)
        more = {
            "TMPDIR": str(tmp_path / "tmp"),
            "TAMIS_RATE_PER_MINUTE": "100000",
            "TAMIS_ACCESS_LOG": "true",
        }
        arguments = ["--mock", "--store", "sqlite:///tamis.db", "--workers", request.param]
        return serving(tmp_path, *arguments, **PROXY, **more, **environ)

    return start


def test_no_file_has_a_text_after_its_deletion(serve: Callable[..., Any], tmp_path: Path) -> None:
    with serve() as service:
        exercise(service)
        assert files_with_marker(tmp_path)
        deleted = sent(service, "DELETE", "/log")
        assert (deleted.status_code, deleted.json()["feedback"]) == (200, 2)
        assert deleted.json()["calls"] >= 4
        assert files_with_marker(tmp_path) == []
        assert sent(service, "GET", "/log").json()["calls"] == []
        assert sent(service, "GET", "/feedback").json()["feedback"] == []
        service.stop()
    assert files_with_marker(tmp_path) == []


def test_page_names_every_file_of_a_service(serve: Callable[..., Any], tmp_path: Path) -> None:
    with serve() as service:
        exercise(service)
        names = {path.name for path in tmp_path.rglob("*") if path.is_file()} - {"serve.log"}
    page = PAGE.read_text("utf-8")
    assert {"tamis.db", "tamis.db-wal"} <= names
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


@pytest.mark.parametrize("kept", ["hash", "none"])
def test_no_file_ever_has_a_text_that_is_not_kept(
    serve: Callable[..., Any], tmp_path: Path, kept: str
) -> None:
    with serve(TAMIS_LOG_TEXTS=kept) as service:
        answer = predicted(service)
        predicted(service)
        other = predicted(service, "another text")
        for body in ({"prediction_id": answer["id"]}, {"text": MARKER}):
            report = sent(service, "POST", "/feedback", json={**body, "label": "spam"})
            assert report.status_code == 201, report.text
        assert files_with_marker(tmp_path) == []
        inputs = [one["input"] for one in sent(service, "GET", "/recent_log").json()]
        logged = sent(service, "GET", "/log?order=oldest").json()["calls"]
        feedback = [one["input"] for one in sent(service, "GET", "/feedback").json()["feedback"]]
    assert [one["input"] for one in logged] == inputs
    assert [one["id"] for one in logged][-1] == other["id"]
    if kept == "none":
        assert {*inputs, *feedback} == {""}
    else:
        assert inputs[0] == inputs[1] != inputs[2]
        assert re.fullmatch("digest:[0-9a-f]{64}", inputs[2])
        assert feedback == [inputs[0]] * 2


def test_shortened_address_is_logged_as_its_network(serve: Callable[..., Any], tmp_path: Path) -> None:
    with serve(TAMIS_SHORTEN_ADDRESSES="true") as service:
        first, neighbour = predicted(service), predicted(service, caller="192.0.2.200")
        assert (first["from_cache"], neighbour["from_cache"]) == (False, False)
        assert predicted(service)["from_cache"]
        for method, path in [
            ("GET", "/log"),
            ("GET", "/recent_log"),
            ("GET", "/log/summary"),
            ("GET", "/feedback"),
            ("DELETE", "/log"),
        ]:
            refusal = sent(service, method, path)
            assert (refusal.status_code, refusal.json()["error"]["code"]) == (403, "callers_not_distinct")
        report = {"prediction_id": first["id"], "label": "ham"}
        assert sent(service, "POST", "/feedback", json=report).json()["caller"] == "192.0.2.0/24"
        service.stop()
    addresses = re.compile(rb"192\.0\.2\.(7|200)\b")
    found = [
        path.name for path in tmp_path.rglob("*") if path.is_file() and addresses.search(path.read_bytes())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("address", "network"),
    [("203.0.113.77", "203.0.113.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48"), ("unix:", "")],
)
def test_caller_in_network_has_the_network_of_its_address(address: str, network: str) -> None:
    caller: Caller = caller_in_network(address)
    assert (caller.name, caller.network) == (address, network)


class Keys:
    """Keys of some callers, written to a file."""

    def __init__(self, folder: Path):
        self.path, self._keys = folder / "keys.json", {}
        scopes = {"alice": ["predict"], "bob": ["predict"], "reporter": ["feedback"], "root": ["admin"]}
        for name, some in scopes.items():
            self._keys[name] = new_key()
            record = KeyRecord(name, hash_of(self._keys[name]), some, datetime.now(UTC), None)
            KeyFile(self.path).add(record, another=True)

    def send(self, service: Service, name: str, method: str, path: str, **parts: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._keys[name]}"}
        return httpx.request(method, f"{service.address}{path}", headers=headers, timeout=30, **parts)


def test_deletion_reaches_own_rows_and_an_admin_others(serve: Callable[..., Any], tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    with serve(TAMIS_REQUIRE_KEYS="true", TAMIS_KEYS_FILE=str(keys.path)) as service:
        for name in ("alice", "bob", "root"):
            keys.send(service, name, "POST", "/prediction", json={"text": f"hello of {name}"})

        def callers() -> set[str]:
            calls = keys.send(service, "root", "GET", "/log").json()["calls"]
            return {one["caller"] for one in calls}

        refused = keys.send(service, "alice", "DELETE", "/log?caller=bob")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_admin")
        refused = keys.send(service, "reporter", "DELETE", "/log")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "missing_scope")
        assert httpx.delete(f"{service.address}/log").status_code == 401
        assert keys.send(service, "alice", "DELETE", "/log?older=1d").status_code == 422
        assert callers() == {"alice", "bob", "root"}
        own = keys.send(service, "alice", "DELETE", "/log")
        assert own.json() == {"caller": "alice", "calls": 1, "feedback": 0}
        assert callers() == {"bob", "root"}
        assert keys.send(service, "root", "DELETE", "/log").json()["calls"] == 1
        assert callers() == {"bob"}
        assert keys.send(service, "root", "DELETE", "/log?caller=bob").json()["calls"] == 1
        assert callers() == set()


def test_spool_file_has_texts_and_deletion_waits_for_it(tmp_path: Path) -> None:
    settings = {
        "TAMIS_STORE": "cassandra://127.0.0.1:9/tamis?local_dc=datacenter1",
        "TAMIS_START_WITHOUT_STORE": "true",
        "TAMIS_STATE_DIRECTORY": str(tmp_path),
    }
    with serving(tmp_path, "--mock", **PROXY, **settings) as service:
        predicted(service)
        assert {Path(path).name for path in files_with_marker(tmp_path)} <= {
            "spool.tamis",
            "spool.tamis-wal",
        }
        refused = sent(service, "DELETE", "/log")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
        assert files_with_marker(tmp_path)


def test_start_says_what_is_kept_and_how_long(tmp_path: Path) -> None:
    arguments = ["--mock", "--store", "sqlite:///tamis.db"]
    with serving(tmp_path, *arguments) as service:
        assert re.search(r"^Log +texts, deleted after 90 days", service.said, re.MULTILINE), service.said
    with serving(tmp_path, *arguments, TAMIS_LOG_RETENTION_DAYS="0", TAMIS_LOG_TEXTS="hash") as service:
        assert re.search(r"^Log +keyed digests of texts, kept forever", service.said, re.MULTILINE)


def test_feedback_export_says_that_texts_are_not_kept(tmp_path: Path) -> None:
    store = "sqlite:///tamis.db"
    with serving(tmp_path, "--mock", "--store", store, TAMIS_LOG_TEXTS="hash") as service:
        report = {"text": MARKER, "label": "ham"}
        assert httpx.post(f"{service.address}/feedback", json=report).status_code == 201
        service.stop()
    export = tamis_command("feedback", "export", "--store", store)
    ran = subprocess.run(export, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, check=True)
    assert "1 rows have no text to train on: it is not kept (TAMIS_LOG_TEXTS)" in ran.stderr
    assert "quokka" not in ran.stdout
