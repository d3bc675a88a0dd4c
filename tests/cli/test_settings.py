"""`tamis settings` in a real process: values, sources, no secrets, and names that are no settings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.command_server import tamis_command
from tests.support.processes import ENVIRON


def _run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = tamis_command(*arguments)
    return subprocess.run(
        command, cwd=folder, env=ENVIRON | environ, capture_output=True, text=True, check=False, timeout=60
    )


def test_settings_show_values_and_their_sources(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TAMIS_PORT=8080\nAPI_NAME=Spam\nASTRA_DB_CLIENT_SECRET=hunter2\n")
    done = _run(tmp_path, "settings", "--json", TAMIS_PORT="9000")
    rows = {row["name"]: (row["value"], row["source"]) for row in json.loads(done.stdout)}
    assert rows["TAMIS_PORT"] == (9000, "TAMIS_PORT")
    assert rows["TAMIS_API_NAME"] == ("Spam", "API_NAME (in .env)")
    assert rows["TAMIS_WORKERS"] == (1, "default")
    assert rows["TAMIS_ASTRA_DB_CLIENT_SECRET"][0] == "(hidden)"
    assert "hunter2" not in done.stdout + done.stderr
    text = _run(tmp_path, "settings")
    assert "TAMIS_API_NAME=Spam\n    from API_NAME (in .env)" in text.stdout
    assert "hunter2" not in text.stdout + text.stderr


@pytest.mark.parametrize("arguments", [("settings",), ("serve", "--mock")])
@pytest.mark.parametrize("is_in_file", [False, True])
def test_unknown_setting_is_refused_with_the_nearest(
    tmp_path: Path, arguments: tuple[str, ...], is_in_file: bool
) -> None:
    if is_in_file:
        (tmp_path / ".env").write_text("TAMIS_REQUIRE_KEY=true\n")
    done = _run(tmp_path, *arguments, **({} if is_in_file else {"TAMIS_REQUIRE_KEY": "true"}))
    assert done.returncode == 1
    place = " (in .env)" if is_in_file else ""
    assert f"TAMIS_REQUIRE_KEY{place} is not a setting; the nearest is TAMIS_REQUIRE_KEYS" in done.stderr
