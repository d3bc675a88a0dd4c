"""Fixtures that every step's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout, or the one `TAMIS_SHARED` names; skip without it."""
    shared = os.environ.get("TAMIS_SHARED") or Path(__file__).parents[2] / "shared"
    folder = Path(shared) / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}: set TAMIS_SHARED")
    return folder
