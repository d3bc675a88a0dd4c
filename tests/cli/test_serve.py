"""`tamis serve` as a real process on a free port."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tamis.settings import Settings
from tamis.settings_source import variables
from tests.support.artifacts import save_model
from tests.support.command_server import tamis_command
from tests.support.processes import serving

_SERVE = [sys.executable, "-m", "tamis", "serve"]
_SETTINGS = {name for item in Settings.model_fields.items() for name in variables(*item)}
_ENVIRON = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
"""The environment of these tests, which may measure coverage, without anything that is set for Tamis."""


@contextmanager
def _serving(folder: Path, *arguments: str, dotenv: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the server in `folder`; give the process and its address as soon as it says it listens."""
    (folder / ".env").write_text(dotenv)
    command = [*_SERVE, "--port", "0", *arguments]
    process = subprocess.Popen(
        command, cwd=folder, env=_ENVIRON, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process, _address(process)
    finally:
        process.kill()
        process.communicate()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:  # ends when the process does
        lines.append(line)
        if found := re.match(r"Address +(http://\S+)", line):
            return found[1]
    raise AssertionError("".join(lines))


def _run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_SERVE, *arguments],
        cwd=folder,
        env=_ENVIRON | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _assert_one_line(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("tamis: ")
    assert words in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_and_ends_with_success_when_told_to_stop(
    tmp_path: Path, number: signal.Signals
) -> None:
    with _serving(tmp_path, "--mock") as (process, address), httpx.Client(base_url=address) as client:
        assert client.get("/health/ready").status_code == 200
        response = client.post("/prediction", json={"text": "hello", "echo_input": True})
        assert response.json()["input"] == "hello"
        assert "server" not in response.headers
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err and "Error" not in err


@pytest.mark.parametrize(("options", "workers"), [((), "1"), (("--workers", "2"), "2 + supervisor")])
def test_serve_begins_with_one_screen_that_says_what_is_where(
    tmp_path: Path, options: tuple[str, ...], workers: str
) -> None:
    save_model(tmp_path / "models" / "spam")
    with serving(tmp_path, "models/spam", *options, is_program=True) as service:
        port, lines = service.port, service.said.splitlines()
    screen = lines.index("Model    spam@1 (ham, spam)")
    assert screen == 0 or options, "only workers may say first that they have started"
    assert lines[screen : screen + 8] == [
        "Model    spam@1 (ham, spam)",
        "Store    sqlite:///models/spam/tamis.db",
        "Log      texts, deleted after 90 days (TAMIS_LOG_RETENTION_DAYS)",
        f"Address  http://127.0.0.1:{port}",
        f"Page     http://127.0.0.1:{port}/ui",
        f"Docs     http://127.0.0.1:{port}/docs",
        f"Workers  {workers}",
        "Stop     Ctrl+C",
    ]


def test_serve_stops_when_told_so_at_its_first_word(tmp_path: Path) -> None:
    with _serving(tmp_path, "--mock") as (process, _):
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_serve_takes_the_workshops_settings_from_dotenv(tmp_path: Path) -> None:
    dotenv = (
        'API_NAME="Spam Classifier"\nMODEL_DIRECTORY="nowhere"\nMODEL_VERSION="v1"\nMOCK_MODEL_CLASS="1"\n'
    )
    with _serving(tmp_path, dotenv=dotenv) as (_, address):
        info = httpx.get(address).json()
    assert (info["api_name"], info["model_name"], info["caller_id"]) == (
        "Spam Classifier",
        "mock",
        "127.0.0.1",
    )


def test_serve_believes_no_forwarded_address(tmp_path: Path) -> None:
    with _serving(tmp_path, "--mock") as (_, address):
        info = httpx.get(address, headers={"x-forwarded-for": "203.0.113.9"}).json()
    assert info["caller_id"] == "127.0.0.1"


def test_serve_answers_413_to_a_client_that_goes_on_sending(tmp_path: Path) -> None:
    with _serving(tmp_path, "--mock", dotenv="TAMIS_MAX_BODY_BYTES=1000000\n") as (_, address):
        headers = {"content-type": "application/json"}
        for megabytes in (2, 3):
            body = b"x" * megabytes * 1_000_000
            assert httpx.post(f"{address}/prediction", content=body, headers=headers).status_code == 413


def test_serve_fails_with_one_line_when_the_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _run(tmp_path, "--mock", "--port", str(port))
    _assert_one_line(done, f"cannot listen on 127.0.0.1 port {port}: Address already in use")


def test_serve_fails_with_one_line_when_the_host_is_not_ours(tmp_path: Path) -> None:
    done = _run(tmp_path, "--mock", "--host", "192.0.2.1")
    assert done.returncode == 1
    assert (
        "cannot listen on 192.0.2.1 port 8000: Cannot assign requested address; choose another"
        in done.stderr.splitlines()[-1]
    )


def test_serve_fails_with_one_line_when_the_model_is_broken(tmp_path: Path) -> None:
    version = tmp_path / "spam" / "1"
    version.mkdir(parents=True)
    (version / "manifest.json").write_text("{")
    _assert_one_line(_run(tmp_path, "spam"), "manifest.json")


def test_serve_fails_with_one_line_when_a_setting_is_wrong(tmp_path: Path) -> None:
    _assert_one_line(_run(tmp_path, TAMIS_PORT="eighty"), "TAMIS_PORT must be a whole number")


def test_model_on_command_line_replaces_directory_and_version(tmp_path: Path) -> None:
    done = _run(tmp_path, "other/model", MODEL_DIRECTORY="models/spam", MODEL_VERSION="v7")
    _assert_one_line(done, "other/model: there is no such model")


def test_serve_names_the_variable_of_each_option_in_its_help(tmp_path: Path) -> None:
    text = _run(tmp_path, "--help").stdout
    for name in ("HOST", "PORT", "MOCK_MODEL_CLASS", "MODEL_DIRECTORY", "MODEL_VERSION"):
        assert f"TAMIS_{name}" in text


def test_models_of_one_folder_share_no_log(tmp_path: Path) -> None:
    for name in ("spam", "support"):
        save_model(tmp_path / "models" / name)
    old = tmp_path / "models" / "tamis.db"
    old.write_bytes(b"")
    for name in ("spam", "support"):
        with serving(tmp_path, f"models/{name}", TAMIS_DRAIN_SECONDS="0") as service:
            text = f"sent to {name}"
            assert httpx.get(f"{service.address}/prediction", params={"text": text}).status_code == 200
            calls = httpx.get(f"{service.address}/log").json()["calls"]
            assert [call["input"] for call in calls] == [text]
            lines = [line for line in service.said.splitlines() if "models/tamis.db" in line]
            assert len(lines) == 1
            assert f"models/{name}/tamis.db is used instead" in lines[0]
            assert "set TAMIS_STORE=sqlite:///models/tamis.db" in lines[0]
            assert service.stop() == 0
        done = subprocess.run(
            tamis_command("models", "list", f"models/{name}"),
            cwd=tmp_path, env=_ENVIRON, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert len(done.stdout.splitlines()) == 1
    assert old.read_bytes() == b""
