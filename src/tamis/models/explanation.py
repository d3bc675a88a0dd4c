"""Why a model gave a text its label, token by token.

Knows characters and probabilities; does not know features: a scorer that does (the linear one) says
what each character adds, any other is asked again without each token.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_TOKEN = re.compile(r"\S+")
_LEAST_PROBABILITY = 1e-15


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


def tokens_of(text: str, characters: Floats) -> tuple[Token, ...]:
    """Return the tokens of a text with the sum of what their characters contribute."""
    return tuple(
        Token(found[0], found.start(), found.end(), float(characters[found.start() : found.end()].sum()))
        for found in _TOKEN.finditer(text)
    )


def explain_by_occlusion(
    score: Callable[[Sequence[str]], Floats], text: str, label: str, column: int
) -> Explanation:
    """Score the text without each of its tokens, and without any."""
    found = list(_TOKEN.finditer(text))
    without = [text[: token.start()] + text[token.end() :].lstrip() for token in found]
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
        whole=logit - base - math.fsum(token.contribution for token in tokens),
    )


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, _LEAST_PROBABILITY), 1 - _LEAST_PROBABILITY)
    return math.log(clipped / (1 - clipped))
