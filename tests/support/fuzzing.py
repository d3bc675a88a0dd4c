"""How many requests are generated: enough in `make test`, a hundred thousand in `make fuzz`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest

CASES = int(os.environ.get("TAMIS_FUZZ_CASES", "250"))
"""For each test; a quarter for each operation by its schema, an eighth for each of a dialect."""

asked: Counter[str] = Counter()
"""How many generated requests each route has had, in this module's tests so far."""


@pytest.fixture(scope="module", autouse=True)
def figures() -> Iterator[None]:
    """Say at the end how many requests were generated: the figures of `make fuzz`."""
    asked.clear()
    yield
    most = ", ".join(f"{number:,} to {route}" for route, number in asked.most_common(5))
    print(f"\n{sum(asked.values()):,} generated requests, {most}")  # noqa: T201
