"""How `make` divides the tests: see conftest.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
    root = Path(__file__).parents[1]
    [line] = re.findall(rf"pytest -m '?{marker}\b.*", (root / "Makefile").read_text("utf-8"))
    named = [root / word for word in line.split() if word.startswith("tests/")]
    marked = [
        path
        for path in root.glob("tests/**/*.py")
        if re.search(rf"\bmark\.{marker}\b", path.read_text("utf-8"))
    ]
    marked = [
        path for path in marked if path.name not in ("test_suite.py", "test_benchmarks.py")
    ]  # soak as well
    assert named and marked
    assert [path for path in marked if not any(path.is_relative_to(folder) for folder in named)] == []
