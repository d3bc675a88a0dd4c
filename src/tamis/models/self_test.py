"""The self-test of a loaded model: probe texts with the probabilities that it gave them when it was saved.

The texts are the same for every model and come from no data set: an artifact holds no text that it learned.
"""

from __future__ import annotations

import math
import platform
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from tamis.errors import ArtifactError
from tamis.models.scorer import Scorer
from tamis.native import is_compiled

PROBES_FILE = "probes.json"
# what takes different paths: no token, few and many, digits, scripts with and without blanks, symbols,
# characters outside the basic plane
TEXTS = (
    "",
    "ok",
    "Are you coming to the library on Friday?",
    "WIN a FREE phone!!! Text YES to 80085 now, https://example.com/win",
    "The meeting has moved to 10:30; please bring the printed report and two copies of the plan.",
    "terrible quality, it broke after one day and nobody answers :(",
    "Great product, I would buy it again!",
    "How do I reset my password?",
    "12345 67890 3.14 -1",
    "¿Dónde está la estación? Ich weiß es nicht, désolé.",
    "今日は天気がいいですね。",
    "Привет, как дела?",
    "🙂🙂🙂",
    "a " * 200,
)
_TOLERANCE = 1e-12
"""Largest difference of a linear model if `exp` or `log` are rounded otherwise than when it was saved."""
_NETWORK_TOLERANCE = 1e-5
"""The same for a network where ONNX Runtime or the processor, which chooses its instructions, is another."""


class Probes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Canonical texts, and for each the probability of every label, in the order of the labels."""

    texts: list[str]
    scores: list[list[float]]
    arithmetic: str = ""
    """`arithmetic_of` the machine that recorded them; versions before have none."""


def record_probes(scorer: Scorer) -> Probes:
    """Return the probe texts with the probabilities of `scorer`."""
    texts = [" ".join(text.split()) for text in TEXTS]
    return Probes(texts, scorer.score(texts).tolist(), arithmetic_of(scorer))


def arithmetic_of(scorer: Scorer) -> str:
    """Return a digest of what, besides the files, decides the last digit of a probability.

    For every model the results of `exp`, as scoring calls it, and of `log`; for a network also the processor
    and the version of ONNX Runtime.
    """
    numbers = np.arange(1.0, 1_000.0)
    # 0 and less, as in softmax, which subtracts the largest logit
    exponents = numbers / -37
    # the compiled library calls the C library's `exp`; numpy has its own
    powers = np.array([*map(math.exp, exponents)]) if is_compiled() else np.exp(exponents)
    # the two also add up probabilities in another order, which shows from eight labels on
    parts = [b"compiled" if is_compiled() else b"numpy", powers.tobytes(), np.log(numbers).tobytes()]
    if scorer.is_heavy:
        # imported by the scorer already; its distribution has another name for some processors
        import onnxruntime

        parts += [_processor(), onnxruntime.__version__.encode()]
    return blake2b(b"".join(parts), digest_size=16).hexdigest()


def _processor() -> bytes:
    """Return the model of the processor and its instructions, as Linux lists those of the first core."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().partition(b"\n\n")[0].splitlines()
    except OSError:  # not Linux
        return platform.processor().encode()
    # the first two on x86, the last two on ARM; other lines, such as the clock rate, change all the time
    names = (b"model", b"flags", b"Features", b"CPU part")
    return b"\n".join(line for line in lines if line.startswith(names))


def check_probes(scorer: Scorer, probes: Probes, n_classes: int) -> None:
    """Raise ArtifactError unless `scorer` gives the recorded probabilities.

    They must be equal digit for digit if the arithmetic is that of the machine that recorded them.
    """
    expected = _scores(probes, n_classes)
    found = scorer.score(probes.texts)
    tolerance = _NETWORK_TOLERANCE if scorer.is_heavy else _TOLERANCE
    if probes.arithmetic and probes.arithmetic == arithmetic_of(scorer):
        tolerance = 0.0
    # "not at most" instead of "more than": NaN compares as neither, and must fail
    wrong = np.flatnonzero(~(np.abs(found - expected) <= tolerance).all(axis=1))
    if wrong.size:
        raise ArtifactError(
            f"self-test failed: {wrong.size} of {len(probes.texts)} predictions differ from those that "
            f"{PROBES_FILE} recorded when the model was saved; train it again"
        )


def decode_probes(data: bytes) -> Probes:
    """Read `probes.json`; raises ArtifactError for anything else."""
    try:
        return msgspec.json.decode(data, type=Probes)
    # msgspec leaves invalid UTF-8 and deep nesting to Python's own errors
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise ArtifactError(f"{PROBES_FILE} cannot be read ({wrong})") from None


def _scores(probes: Probes, n_classes: int) -> npt.NDArray[np.float64]:
    if not probes.texts or [len(row) for row in probes.scores] != [n_classes] * len(probes.texts):
        raise ArtifactError(f"{PROBES_FILE} does not have {n_classes} probabilities for each text")
    return np.array(probes.scores)
