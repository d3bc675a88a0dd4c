"""A small trained model, as a folder that a test may break."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.artifacts import save_model


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with one version; not to be changed."""
    folder = tmp_path_factory.mktemp("pristine") / "spam"
    save_model(folder)
    return folder


@pytest.fixture
def model_folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the model folder, with version 1, to do with as one likes."""
    return Path(shutil.copytree(pristine, tmp_path / "spam"))
