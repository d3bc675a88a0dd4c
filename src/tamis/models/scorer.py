"""The interface between a model's files and its answers; each kind of model has its own scorer.

Does not know what labels mean, where files are, caches or HTTP.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tamis.models.explanation import Explanation, explain_by_occlusion

Scores = npt.NDArray[np.float64]


def softmax(logits: Scores) -> Scores:
    """Return [texts, classes] probabilities that sum to 1 in every row."""
    # ufuncs in place and no methods, which look at their arguments first: for one text that is half the time
    result: Scores = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    np.exp(result, out=result)
    result /= np.add.reduce(result, axis=1, keepdims=True)
    return result


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a scorer is loaded from.

    settings:  what the manifest records about a model of this kind
    n_classes: the number of labels
    read:      return a verified file's bytes by name; raises ArtifactError if the artifact has no such file
    """

    settings: Mapping[str, Any]
    n_classes: int
    read: Callable[[str], bytes]


class Scorer(ABC):
    """Turns canonical texts into probabilities; safe to call from several threads."""

    is_heavy: ClassVar[bool] = False
    """Whether a single text takes so long that an event loop should leave it to another thread."""

    @abstractmethod
    def score(self, texts: Sequence[str]) -> Scores:
        """Return [texts, classes] probabilities, rows summing to 1; the same alone or in a batch."""

    def score_utf8(
        self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
    ) -> tuple[Scores, npt.NDArray[np.bool_]] | None:
        """Return [texts, classes] probabilities of texts in UTF-8, and which of them it did not score.

        The text at i is `data[offsets[i]:offsets[i + 1]]`, in any form; those that normalisation may change
        are not scored. None, the default, if the scorer reads no such arrays.
        """
        return None

    def unknown_shares(self, texts: Sequence[str]) -> Scores | None:
        """Return [texts] the share of each canonical text's features that the model does not know.

        None, the default, if the model has no such features.
        """
        return None

    def explain(self, text: str, label: str, column: int) -> Explanation:
        """Say where the logit of `label`, in `column`, comes from; by occlusion unless overridden."""
        return explain_by_occlusion(self.score, text, label, column)


class MockScorer(Scorer):
    """Answers by the length of the text, as the workshop's mock does: an even one is ham, an odd one spam."""

    def __init__(self, n_classes: int):
        self._n_classes = n_classes

    def score(self, texts: Sequence[str]) -> Scores:
        """Return [texts, classes] 1 for the label whose place is the length modulo their number, else 0."""
        scores: Scores = np.eye(self._n_classes)[[len(text) % self._n_classes for text in texts]]
        return scores.reshape(len(texts), self._n_classes)
