"""How `make test` divides the tests: see conftest.py."""

from __future__ import annotations

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
