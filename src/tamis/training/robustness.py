"""How much recall a model loses when texts are obfuscated the way senders of spam do it.

Each perturbation takes a text and a random generator and changes a part of the text that people can
still read. Handles a function from texts to probabilities; independent of models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.artifact import OperatingPoint
from tamis.training.metrics import Estimate, Floats, Indices, class_indices, proportion_of_some

# constant, as in `compare`: the same model and rows give the same metrics
_SEED = 42
_MAX_TEXTS = 2000
_MAX_LABELS = 5
# senders of such texts gain if the label is missed; for others the scoring is only time spent
_ADVERSARIAL = re.compile(
    r"\b(spam|phish|smish|scam|fraud|abus|toxi|hate|offens|insult|harass|threat|fake|malicious|malware|troll|"
    r"profan|obscen|nsfw|junk|cheat)",
    re.IGNORECASE,
)


Change = Callable[[str, np.random.Generator], str]
_SHARE = 0.3  # of the characters or words that a perturbation could change
_ZERO_WIDTH = "\u200b"
_HOMOGLYPHS = str.maketrans("acehiopsxyABCEHIKMOPSTXY", "асеһіорѕхуАВСЕНІКМОРЅТХУ")
"""Latin letters and the Cyrillic ones that look the same."""
_LEET = str.maketrans("aeiostAEIOST", "431057431057")


@dataclass(frozen=True)
class Perturbation:
    """Recall of the same texts as they are and perturbed (`disguised`); `drop` is what is lost."""

    name: str
    texts: int
    plain: Estimate
    disguised: Estimate

    @property
    def drop(self) -> float:
        """Recall that is lost; below 0 if the perturbation itself gives the label away."""
        return self.plain.value - self.disguised.value


def has_adversary(labels: Sequence[str]) -> bool:
    """Return whether senders gain when a label is missed: only then are texts obfuscated on purpose."""
    return len(labels) <= _MAX_LABELS and any(map(_ADVERSARIAL.search, labels))


def robustness(
    score: Callable[[Sequence[str]], Floats],
    texts: Sequence[str],
    labels: Sequence[str],
    classes: Sequence[str],
    *,
    operating_point: OperatingPoint | None,
) -> tuple[Perturbation, ...]:
    """Measure every perturbation: with two labels on texts of the positive one, at the operating point.

    With more labels, on all texts: the share whose own label stays the most probable. Of very many
    texts 2,000 are drawn.
    """
    # only texts of the positive label are obfuscated by their senders
    if operating_point is not None:
        kept = [i for i, label in enumerate(labels) if label == operating_point.positive]
    else:
        kept = list(range(len(labels)))
    if len(kept) > _MAX_TEXTS:
        drawn = np.random.default_rng(_SEED).choice(len(kept), _MAX_TEXTS, replace=False)
        kept = [kept[i] for i in sorted(drawn.tolist())]  # in the order of the rows, as without a draw
    if not kept:
        return ()
    chosen, true = [texts[i] for i in kept], class_indices([labels[i] for i in kept], classes)

    def recall(of: Sequence[str]) -> Estimate:
        return proportion_of_some(_found(score(of), true, operating_point).sum(), len(of))

    plain = recall(chosen)  # of the same texts, so that a drop is not one of other texts
    return tuple(
        Perturbation(name, len(chosen), plain, recall([change(text, random) for text in chosen]))
        for name, change in PERTURBATIONS.items()
        # a generator for each: another perturbation in the list must not change the metrics of the others
        for random in [np.random.default_rng(_SEED)]
    )


def _found(probabilities: Floats, true: Indices, point: OperatingPoint | None) -> npt.NDArray[np.bool_]:
    of_label = probabilities[np.arange(true.size), true]
    found: npt.NDArray[np.bool_]
    found = of_label >= point.threshold if point is not None else probabilities.argmax(axis=1) == true
    return found


def insert_zero_width(text: str, random: np.random.Generator) -> str:
    """Put zero-width spaces after some of the letters."""
    return _each_character(text, random, lambda c: c + _ZERO_WIDTH if c.isalnum() else c)


def swap_homoglyphs(text: str, random: np.random.Generator) -> str:
    """Replace some Latin letters by Cyrillic ones of the same look."""
    return _each_character(text, random, lambda c: c.translate(_HOMOGLYPHS))


def space_out(text: str, random: np.random.Generator) -> str:
    """W r i t e some words with a blank between letters."""
    words = text.split(" ")
    chosen = random.random(len(words)) < _SHARE
    return " ".join(" ".join(word) if yes else word for word, yes in zip(words, chosen, strict=True))


def write_leet(text: str, random: np.random.Generator) -> str:
    """Wr1t3 d1g1t5 for some letters."""
    return _each_character(text, random, lambda c: c.translate(_LEET))


def shout(text: str, random: np.random.Generator) -> str:
    """WRITE EVERYTHING IN CAPITALS."""
    return text.upper()


PERTURBATIONS: Mapping[str, Change] = {
    "zero-width characters": insert_zero_width,
    "homoglyphs": swap_homoglyphs,
    "spaced-out words": space_out,
    "leet": write_leet,
    "upper case": shout,
}


def _each_character(text: str, random: np.random.Generator, change: Callable[[str], str]) -> str:
    characters = list(text)
    # one draw for all characters, and only those that change are visited
    for index in (random.random(len(text)) < _SHARE).nonzero()[0].tolist():
        characters[index] = change(characters[index])
    return "".join(characters)
