"""Aliases and their history: moved, rolled back, and what a killed process leaves."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tamis.artifact import history, read_aliases, rollback, set_alias
from tamis.errors import ArtifactError
from tests.support.artifacts import save_model
from tests.support.fakes import ManualClock


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "spam"
    for _ in range(3):
        save_model(folder)
    return folder


@pytest.fixture
def folder(versions: Path) -> Path:
    for name in ("aliases.json", "history.jsonl"):
        (versions / name).unlink(missing_ok=True)
    return versions


def test_promote_records_who_when_from_to_and_why(folder: Path) -> None:
    set_alias(f"{folder}@1", "champion", actor="anna", clock=ManualClock())
    set_alias(f"{folder}@3", "champion", actor="ben", reason="better recall", clock=ManualClock())
    first, second = history(folder)
    assert (first.actor, first.from_version, first.to_version) == ("anna", None, 1)
    assert (second.actor, second.from_version, second.to_version) == ("ben", 1, 3)
    assert second.reason == "better recall"
    assert len(second.digest) == 64
    assert second.time.endswith("+00:00")


def test_rollback_goes_back_one_version_each_time(folder: Path) -> None:
    for version in (1, 2, 3):
        set_alias(f"{folder}@{version}", "champion")
    assert [rollback(folder, "champion").name for _ in range(2)] == ["2", "1"]
    with pytest.raises(ArtifactError, match="no earlier version"):
        rollback(folder, "champion")
    assert read_aliases(folder) == {"champion": 1}


def test_rollback_of_an_unknown_alias_names_the_remedy(folder: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no alias 'stable'; see `tamis models list`"):
        rollback(folder, "stable")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["1", "2", "3", "back"]), max_size=8))
def test_rollback_undoes_the_last_move(folder: Path, moves: list[str]) -> None:
    for name in ("aliases.json", "history.jsonl"):
        (folder / name).unlink(missing_ok=True)
    expected: list[int] = []
    for move in moves:
        if move != "back":
            set_alias(f"{folder}@{move}", "champion")
            if not expected or expected[-1] != int(move):
                expected.append(int(move))
        elif len(expected) > 1:
            expected.pop()
            assert rollback(folder, "champion").name == str(expected[-1])
        else:
            with pytest.raises(ArtifactError):
                rollback(folder, "champion")
    assert read_aliases(folder) == ({"champion": expected[-1]} if expected else {})


def test_a_move_that_was_not_completed_is_not_rolled_back_to(folder: Path) -> None:
    set_alias(f"{folder}@1", "champion")
    set_alias(f"{folder}@2", "champion")
    lines = (folder / "history.jsonl").read_text().splitlines()
    torn = json.loads(lines[-1]) | {"from_version": 2, "to_version": 3}
    with (folder / "history.jsonl").open("a") as file:
        file.write(json.dumps(torn) + "\n" + lines[0][:20])  # killed before aliases.json was replaced
    assert read_aliases(folder) == {"champion": 2}
    assert rollback(folder, "champion").name == "1"
    assert len(history(folder)) == 4


def _promote_often(folder: str, alias: str) -> None:
    for version in (1, 2, 3) * 5:
        set_alias(f"{folder}@{version}", alias)


def test_aliases_moved_by_many_processes_are_all_kept(folder: Path) -> None:
    names = [f"alias-{number}" for number in range(4)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_promote_often, args=(str(folder), name)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert read_aliases(folder) == dict.fromkeys(names, 3)
    assert len(history(folder)) == 4 * 15
