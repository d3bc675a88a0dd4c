"""Small networks that learn in seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tamis.models.lstm.classifier import LstmClassifier
from tests.networks import small_lstm


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep JAX's compilation cache away from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def model() -> LstmClassifier:
    return small_lstm()
