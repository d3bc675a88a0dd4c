"""The use case: texts in, answers out, in the same order.

The one place where the model meets whatever remembers its answers. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tamis.inference.classifier import Classifier
from tamis.records import Prediction


@dataclass(frozen=True, slots=True)
class Classified:
    """The answer to one text, and whether it was known before."""

    prediction: Prediction
    from_cache: bool


class Classification:
    """Classifies the texts of one call."""

    def __init__(self, classifier: Classifier):
        self._classifier = classifier

    async def classify(self, texts: Sequence[str]) -> list[Classified]:
        """Answer every text; the model runs on the event loop's own thread, once for the whole call."""
        return [
            Classified(prediction, from_cache=False) for prediction in self._classifier.predict_many(texts)
        ]
