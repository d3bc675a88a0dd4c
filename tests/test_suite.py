"""How `make` and `.ci/run` divide the tests: see conftest.py."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import waiting_for

_ROOT = Path(__file__).parents[1]
_ALONE = "tests/service/http/test_supervisor.py::test_the_first_worker_that_cannot_start_ends_the_service"
_SAMPLE = """
import os, pytest
from pathlib import Path

def note(request):
    with Path("order").open("a") as file:
        file.write(f"{request.node.name} {os.getpid()}\\n")

@pytest.mark.alone
def test_alone(request):
    note(request)

def test_with_others(request):
    note(request)
"""
_NUMBERS = range(6)
_seen: list[int] = []


@pytest.mark.parametrize("number", _NUMBERS)
def test_file_runs_in_one_process_and_in_order(number: int, request: pytest.FixtureRequest) -> None:
    selected = [item.name for item in request.session.items if item.path == request.path]
    if len(selected) < len(_NUMBERS):
        pytest.skip("needs all tests of this file")
    _seen.append(number)
    assert _seen == [*range(number + 1)]


def test_every_collected_test_has_an_id_of_its_own(request: pytest.FixtureRequest) -> None:
    ids = [item.nodeid for item in request.session.items]
    assert len(ids) == len({*ids}), "the scheduler would run only one of those with equal ids"


@pytest.mark.parametrize("marker", ["browser", "cassandra", "clients", "ray", "s3"])
def test_make_collects_every_folder_with_a_marked_test(marker: str) -> None:
    """Collecting all tests takes 17 s of processor time and more."""
    [line] = re.findall(rf"pytest -m '?{marker}\b.*", (_ROOT / "Makefile").read_text("utf-8"))
    named = [_ROOT / word for word in line.split() if word.startswith("tests/")]
    marked = [
        path
        for path in _ROOT.glob("tests/**/*.py")
        if re.search(rf"\bmark\.{marker}\b", path.read_text("utf-8"))
    ]
    marked = [
        path for path in marked if path.name not in ("test_suite.py", "test_benchmarks.py")
    ]  # soak as well
    assert named and marked
    assert [path for path in marked if not any(path.is_relative_to(folder) for folder in named)] == []


def test_test_marked_alone_waits_for_those_of_another_run(tmp_path: Path) -> None:
    with (tmp_path / "turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_SH)  # as a test of another run does
        run = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", _ALONE],
            cwd=_ROOT,
            env=os.environ | {"PYTEST_TURN_FILE": turn.name},
            stdout=subprocess.DEVNULL,
        )
        inode = os.fstat(turn.fileno()).st_ino
        for _ in waiting_for(run):
            if re.search(rf"-> FLOCK .* WRITE {run.pid} \S+:{inode} ", Path("/proc/locks").read_text()):
                break
        assert run.poll() is None, "it did not wait"
        fcntl.flock(turn, fcntl.LOCK_UN)
        assert run.wait(timeout=120) == 0


def test_tests_marked_alone_run_in_one_process(tmp_path: Path) -> None:
    shutil.copy(_ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = alone\naddopts = -p no:cacheprovider\n")
    for name in "abc":
        (tmp_path / f"test_{name}.py").write_text(_SAMPLE)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2"]
    # of its own turn: this test has that of its run until it ends
    environ = {name: value for name, value in os.environ.items() if name != "PYTEST_TURN_FILE"}
    subprocess.run(command, cwd=tmp_path, env=environ, check=True, stdout=subprocess.DEVNULL, timeout=120)
    order = [line.split() for line in (tmp_path / "order").read_text().splitlines()]
    assert len(order) == 6
    assert len({process for name, process in order if name == "test_alone"}) == 1


def test_closing_line_adds_up_runs_and_counts_broken_ones(tmp_path: Path) -> None:
    closing = [
        "=== 1 failed, 4139 passed, 3 skipped in 1423.77s (0:23:43) ===\nmake: *** [test] Error 1",
        "=== 97 passed, 467 deselected, 2 warnings, 1 error in 39.70s ===",
        "== make test-ray\nKilled",
    ]
    logs = [tmp_path / str(number) for number in range(len(closing))]
    for log, text in zip(logs, closing, strict=True):
        log.write_text(f"collected 97 items\n{text}\n")
    command = [sys.executable, _ROOT / "scripts/closing_line.py", "--seconds", "3661", *logs]
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert line.strip("=\n") == " 1 failed, 4236 passed, 3 skipped, 2 errors in 3661.00s (1:01:01) "
