"""The file of keys: what is kept, how it is replaced, and when it is refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tamis.errors import SettingsError
from tamis.service.security.api_keys import KeyFile, KeyRecord, hash_of, new_key

NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "models" / "keys.json"


def _record(name: str, *scopes: str) -> KeyRecord:
    return KeyRecord(name, hash_of(new_key()), list(scopes or ["predict"]), NOW)


def test_keys_come_back_in_the_order_they_were_added(path: Path) -> None:
    first, second = _record("a"), _record("b", "log", "admin")
    KeyFile(path).add(first)
    KeyFile(path).add(second)
    assert list(KeyFile(path).read()) == [first, second]


def test_the_file_is_its_owners_alone_and_nothing_else_is_left(path: Path) -> None:
    KeyFile(path).add(_record("a"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["keys.json"]


def test_a_second_key_of_a_name_is_added_only_when_asked_for(path: Path) -> None:
    file = KeyFile(path)
    file.add(_record("a"))
    with pytest.raises(SettingsError, match="a has a key already"):
        file.add(_record("a"))
    assert len(file.read()) == 1
    file.add(_record("a"), another=True)
    assert len(file.read()) == 2


def test_remove_takes_all_keys_of_a_name_or_all_but_the_newest(path: Path) -> None:
    file, newest, other = KeyFile(path), _record("a"), _record("b")
    for record in (_record("a"), other, _record("a"), newest):
        file.add(record, another=True)
    assert file.remove("a", keep_newest=True) == 2
    assert list(file.read()) == [other, newest]
    assert file.remove("a") == 1
    assert list(file.read()) == [other]
    with pytest.raises(SettingsError, match="no key has the name 'a'"):
        file.remove("a")


def test_the_stamp_changes_with_every_change(path: Path) -> None:
    file = KeyFile(path)
    stamps = [file.stamp()]
    for name in ("a", "b", "c"):
        file.add(_record(name))
        stamps.append(file.stamp())
    file.remove("c")
    stamps.append(file.stamp())
    assert stamps[0] is None
    assert len(set(stamps)) == len(stamps)


def test_a_failed_change_leaves_the_file_as_it_was(path: Path) -> None:
    file = KeyFile(path)
    file.add(_record("a"))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        file.add(KeyRecord("b", "x", [object()], NOW))  # type: ignore[list-item]
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


def test_no_key_is_lost_when_processes_add_at_the_same_time(path: Path) -> None:
    commands = [[sys.executable, "-c", _ADD_FIVE, str(path), f"p{number}"] for number in range(4)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert sorted(key.name for key in KeyFile(path).read()) == sorted(
        f"p{process}-{key}" for process in range(4) for key in range(5)
    )


_ADD_FIVE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from tamis.service.security.api_keys import KeyRecord, hash_of, new_key
from tamis.service.security.api_keys import KeyFile
for number in range(5):
    KeyFile(Path(sys.argv[1])).add(
        KeyRecord(f"{sys.argv[2]}-{number}", hash_of(new_key()), ["predict"], datetime.now(UTC))
    )
"""

_KEY = '{"name": "%s", "sha256": "ab", "scopes": ["%s"], "created_at": "%s"}'
_FILE = '{"format_version": %d, "keys": [%s]}'


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format_version": 1}', "damaged"),
        ("\xff", "damaged"),
        (_FILE % (2, ""), "its format is 2, this Tamis reads 1"),
        (_FILE % (1, _KEY % ("a", "root", "2026-01-01T00:00:00Z")), "invalid name, scope or time at 'a'"),
        (_FILE % (1, _KEY % ("127.0.0.1", "log", "2026-01-01T00:00:00Z")), "invalid name, scope or time"),
        (_FILE % (1, _KEY % ("a", "log", "2026-01-01T00:00:00")), "invalid name, scope or time"),
    ],
)
def test_a_file_that_cannot_be_understood_is_one_line(path: Path, contents: str, words: str) -> None:
    path.parent.mkdir()
    path.write_bytes(contents.encode("latin-1"))
    with pytest.raises(SettingsError) as refused:
        KeyFile(path).read()
    assert words in str(refused.value) and str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(SettingsError):
        KeyFile(path).add(_record("b"))


def test_a_file_that_others_may_write_is_refused(path: Path) -> None:
    KeyFile(path).add(_record("a"))
    path.chmod(0o620)
    with pytest.raises(SettingsError, match="chmod 600"):
        KeyFile(path).read()


def test_a_missing_file_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(SettingsError, match="tamis keys create NAME"):
        KeyFile(path).read()


def test_a_folder_in_its_place_is_one_line(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(SettingsError, match="cannot be used"):
        KeyFile(path).read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_owner_stays_when_root_makes_a_change(path: Path) -> None:
    path.parent.mkdir()
    os.chown(path.parent, 4_242, 4_243)
    KeyFile(path).add(_record("a"))
    assert (path.stat().st_uid, path.stat().st_gid) == (4_242, 4_243)
    os.chown(path, 4_444, 4_445)
    KeyFile(path).add(_record("b"))
    assert (path.stat().st_uid, path.stat().st_gid) == (4_444, 4_445)
