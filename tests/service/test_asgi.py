"""`uvicorn tamis.service.asgi:app` in a real process: the settings decide what it serves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.processes import ENVIRON


def test_uvicorn_serves_what_the_settings_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_NAME=From the file\n")
    settings = {"TAMIS_MOCK_MODEL_CLASS": "true", "TAMIS_STORE": f"sqlite:///{tmp_path}/calls.db"}
    command = [sys.executable, "-m", "uvicorn", "tamis.service.asgi:app", "--port", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRON | settings, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            base = next(
                found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
            )
            body = json.dumps({"text": "hello"}).encode()
            request = urllib.request.Request(f"{base}/prediction", body, {"content-type": "application/json"})
            assert "top" in json.load(urllib.request.urlopen(request, timeout=10))
            assert json.load(urllib.request.urlopen(f"{base}/", timeout=10))["api_name"] == "From the file"
            log = json.load(urllib.request.urlopen(f"{base}/recent_log", timeout=10))
            assert [row["input"] for row in log] == ["hello"]
        finally:
            process.terminate()
    assert (tmp_path / "calls.db").exists()


@pytest.mark.parametrize("name", ["TAMIS_PORT", "TAMIS_REQUIRE_KEY"])
def test_uvicorn_fails_when_a_setting_is_invalid(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-m", "uvicorn", "tamis.service.asgi:app", "--port", "0"]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRON | {name: "x"}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"SettingsError: {name}" in done.stderr
