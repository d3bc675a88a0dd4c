"""The interface between a model's files and its probabilities, and the explanation of a prediction by token.

Each kind of model has its own scorer. A scorer that knows its features (the linear one) gives the
contribution of each character; any other scores the text again without each token. Independent of what
labels mean, of where files are, of caches and HTTP.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]

_TOKEN = re.compile(r"\S+")
# 0 and 1 have no finite logit
_MIN_PROBABILITY = 1e-15


class Token(NamedTuple):
    """What blanks divide a text into: characters `[start, end)` of it."""

    text: str
    start: int
    end: int
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where the logit of one label comes from: `base + Σ tokens + whole = logit`, to 1e-9.

    text:        the text in the form the model reads
    probability: of `label`
    logit:       with two labels the log-odds of `label`, whose logistic function is the probability;
                 with more, `label`'s input to the softmax (exact) or its log-odds (occlusion)
    method:      "exact": each token's own share of the sum that the model computes.
                 "occlusion": how much the logit falls when the token alone is taken out
    base:        exact: the intercept. occlusion: the logit of the empty text
    whole:       exact: what the text's length, capitals and digits add, which is no token's own.
                 occlusion: what differences of single tokens leave out, because tokens act together
    families:    exact: the same sum by kind of feature, `base + Σ families = logit`; else empty
    """

    text: str
    label: str
    probability: float
    logit: float
    method: Literal["exact", "occlusion"]
    base: float
    tokens: Sequence[Token]
    whole: float
    families: Mapping[str, float] = field(default_factory=dict)


def tokens_of(text: str, characters: Scores) -> tuple[Token, ...]:
    """Return the tokens of a text, each with the sum of its [characters] contributions."""
    return tuple(
        Token(found[0], found.start(), found.end(), float(characters[found.start() : found.end()].sum()))
        for found in _TOKEN.finditer(text)
    )


def explain_by_occlusion(
    score: Callable[[Sequence[str]], Scores], text: str, label: str, column: int
) -> Explanation:
    """Explain a logit by scoring the text without each of its tokens, and without any."""
    found = list(_TOKEN.finditer(text))
    # the blank after a token goes with it: canonical texts have no two in a row
    without = [text[: token.start()] + text[token.end() :].lstrip() for token in found]
    # one call for all: a network scores a batch much sooner than its texts one by one
    probabilities = score([text, "", *without])[:, column]
    logit, base, *others = (_log_odds(probability) for probability in probabilities.tolist())
    tokens = tuple(
        Token(token[0], token.start(), token.end(), logit - other)
        for token, other in zip(found, others, strict=True)
    )
    return Explanation(
        text=text,
        label=label,
        probability=float(probabilities[0]),
        logit=logit,
        method="occlusion",
        base=base,
        tokens=tokens,
        # differences need not add up; distributed over the tokens, the remainder would be invented evidence
        whole=logit - base - math.fsum(token.contribution for token in tokens),
    )


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, _MIN_PROBABILITY), 1 - _MIN_PROBABILITY)
    return math.log(clipped / (1 - clipped))


def softmax(logits: Scores) -> Scores:
    """Return [texts, classes] probabilities that sum to 1 in every row."""
    # the largest logit becomes 0, because exp of a large one would overflow; ufuncs in place and no methods,
    # which look at their arguments first: for one text that is half the time
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
        """Return where the logit of `label`, in `column`, comes from; by occlusion unless overridden."""
        return explain_by_occlusion(self.score, text, label, column)


class MockScorer(Scorer):
    """Scores by the length of the text, as the workshop's mock does: an even one is ham, an odd one spam."""

    def __init__(self, n_classes: int):
        self._n_classes = n_classes

    def score(self, texts: Sequence[str]) -> Scores:
        """Return [texts, classes] 1 for the label whose index is the length modulo their number, else 0."""
        scores: Scores = np.eye(self._n_classes)[[len(text) % self._n_classes for text in texts]]
        # an empty list of indices gives one dimension too few
        return scores.reshape(len(texts), self._n_classes)
