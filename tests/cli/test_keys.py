"""`tamis keys` in this process, and against two real servers that share its file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from tamis.cli.keys import command
from tamis.service.security.api_keys import is_well_formed

ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("TAMIS_")}
TAMIS = [sys.executable, "-m", "tamis"]
NOTICE_SECONDS = 1.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def _keys(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, "--file", str(path)])


def _listed(path: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(_keys(path, "list", "--json").stdout)
    return rows


def test_create_prints_the_key_alone_on_standard_output(path: Path) -> None:
    done = _keys(path, "create", "newsroom")
    [key] = done.stdout.splitlines()
    assert is_well_formed(key)
    assert "shown once" in done.stderr and key not in done.stderr
    assert key not in path.read_text()
    [row] = _listed(path)
    assert (row["name"], row["scopes"], row["expires_at"]) == ("newsroom", ["predict"], None)


def test_create_takes_scopes_and_a_lifetime(path: Path) -> None:
    _keys(path, "create", "ops", "--scope", "metrics", "--scope", "log", "--expires", "90d")
    [row] = _listed(path)
    assert row["scopes"] == ["log", "metrics"]
    assert str(row["created_at"])[:10] < str(row["expires_at"])[:10]
    assert not row["is_expired"]


def test_list_shows_a_line_for_each_key(path: Path) -> None:
    _keys(path, "create", "a")
    _keys(path, "create", "b", "--scope", "admin", "--expires", "1y")
    first, second = _keys(path, "list").stdout.splitlines()
    assert re.fullmatch(r"a\tpredict\tcreated \d{4}-.*Z\tnever expires", first)
    assert re.fullmatch(r"b\tadmin\tcreated \d{4}-.*Z\texpires \d{4}-.*Z", second)


def test_keys_are_changed_without_a_gap_when_another_is_made(path: Path) -> None:
    _keys(path, "create", "a")
    assert _keys(path, "create", "a").exit_code == 1
    _keys(path, "create", "a", "--another", "--scope", "log")
    assert _keys(path, "revoke", "a", "--older").stdout == "revoked 1 key of a\n"
    assert [row["scopes"] for row in _listed(path)] == [["log"]]
    assert _keys(path, "revoke", "a").stdout == "revoked 1 key of a\n"
    assert _listed(path) == []


@pytest.mark.parametrize("name", ["", "1a", "127.0.0.1", "::1", "unix:", "a b", "é", "a\n", "x" * 65, "-a"])
def test_a_name_that_could_be_mistaken_is_refused(path: Path, name: str) -> None:
    assert _keys(path, "create", "--", name).exit_code == 2 or not path.exists()
    assert not path.exists()


@pytest.mark.parametrize(
    "lifetime", ["", "90", "0d", "-1d", "90m", "d", "1.5d", "090d", "99999y", "9999999y", "٣d"]
)
def test_a_lifetime_that_is_none_is_refused(path: Path, lifetime: str) -> None:
    assert _keys(path, "create", "a", "--expires", lifetime).exit_code == 2
    assert not path.exists()


def test_a_failure_is_one_line_when_run_as_a_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [*TAMIS, "keys", "revoke", "nobody"], cwd=tmp_path, env=ENVIRON, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "tamis: no key has the name 'nobody'; see: tamis keys list\n"


@contextmanager
def _server(folder: Path) -> Iterator[httpx.Client]:
    """Run a server that asks for the keys in `folder`, on a port of its own."""
    environ = ENVIRON | {"TAMIS_REQUIRE_KEYS": "1", "TAMIS_KEYS_FILE": "keys.json"}
    arguments = [*TAMIS, "serve", "--mock", "--port", "0"]
    process = subprocess.Popen(arguments, cwd=folder, env=environ, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stderr is not None
            found = next(filter(None, (re.match(r"Address +(\S+)", line) for line in process.stderr)))
            with httpx.Client(base_url=found[1]) as client:
                yield client
        finally:
            process.kill()


def _status_until(client: httpx.Client, key: str, status: int) -> float:
    """Ask until the answer has this status; return how many seconds that took."""
    start = time.monotonic()
    while client.get("/model", headers={"x-api-key": key}).status_code != status:
        assert time.monotonic() - start < 10 * NOTICE_SECONDS
    return time.monotonic() - start


def test_a_key_is_revoked_within_a_second_on_two_real_processes(tmp_path: Path, path: Path) -> None:
    key = _keys(path, "create", "newsroom").stdout.strip()
    spare = _keys(path, "create", "spare").stdout.strip()
    with ExitStack() as stack:
        servers = [stack.enter_context(_server(tmp_path)) for _ in range(2)]
        for server in servers:
            assert server.get("/", headers={"x-api-key": key}).json()["caller_id"] == "newsroom"
        _keys(path, "revoke", "newsroom")
        for server in servers:  # the second is asked when the first has noticed: both within one second
            assert _status_until(server, key, 401) < NOTICE_SECONDS
            assert server.get("/model", headers={"x-api-key": spare}).status_code == 200
        newcomer = _keys(path, "create", "newcomer").stdout.strip()
        assert all(_status_until(server, newcomer, 200) < NOTICE_SECONDS for server in servers)
