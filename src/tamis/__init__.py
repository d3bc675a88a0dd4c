"""A labelled CSV goes in, a production text-classification API comes out.

>>> from tamis import Classifier
>>> Classifier.load("models/spam").predict("WIN a FREE phone")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tamis.errors import TamisError
from tamis.types import Example, Prediction

if TYPE_CHECKING:
    from tamis.client.clients import AsyncClient, Client
    from tamis.inference.classifier import Classifier
    from tamis.training.train import train

__version__ = "0.2.0"
__all__ = [
    "AsyncClient",
    "Classifier",
    "Client",
    "Example",
    "Prediction",
    "TamisError",
    "__version__",
    "train",
]

# `tamis --help` and programs that only catch TamisError start without numpy
_LAZY = {
    "AsyncClient": "tamis.client.clients",
    "Classifier": "tamis.inference.classifier",
    "Client": "tamis.client.clients",
    "train": "tamis.training.train",
}


def __getattr__(name: str) -> Any:
    """Import the names that need numpy, scikit-learn or httpx when they are first used."""
    if name not in _LAZY:
        raise AttributeError(f"module 'tamis' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
