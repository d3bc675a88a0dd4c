"""The self-test of a version: the answers to stored probe texts must be those recorded at training.

`probes.json` holds texts of ours, never of a user, with the scores of the finished model. JSON keeps a double
digit for digit, and a loaded model must give the same digits: another library, a damaged file that kept its
checksum, or labels in another order do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from tamis.artifact import Artifact
from tamis.artifact.manifest import decode_json
from tamis.errors import ArtifactError
from tamis.models.scorer import Scores

PROBES_FILE = "probes.json"

PROBE_TEXTS = (
    "",
    "WIN a FREE phone now, text CLAIM to 80080",
    "Are we still on for lunch tomorrow?",
    "Your parcel 4711 could not be delivered; choose a new date at http://example.org/p?id=4711",
    "The service was slow, but the food was worth the wait.",
    "¿Puedes llamarme cuando llegues a casa?",
    "Die Rechnung vom 3. Mai ist noch offen.",
    "会議は明日の午後三時からです。",
    "ok",
    "!!! $$$ 100% *** ???",
    "a much longer text that repeats itself, and " * 12,
)
"""Short and long, several scripts, digits, signs and nothing at all."""


class Probes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Probe texts, and their scores [texts, labels] in the order of the manifest's labels."""

    texts: list[str]
    scores: list[list[float]]


def record_probes(probabilities: Callable[[Sequence[str]], Scores]) -> bytes:
    """Return the contents of `probes.json` for a finished model."""
    scores = probabilities(PROBE_TEXTS)
    return msgspec.json.encode(Probes([*PROBE_TEXTS], np.asarray(scores, np.float64).tolist()))


def self_test(
    artifact: Artifact, probabilities: Callable[[Sequence[str]], Scores], *, tolerance: float = 0.0
) -> None:
    """Raise ArtifactError unless the model answers its probe texts as recorded; without probes do nothing.

    `tolerance` is the largest difference of a score: 0 for a model whose arithmetic is ours, a little more
    for a network, whose library may sum in another order on another processor.
    """
    if PROBES_FILE not in artifact.manifest.files:
        return
    probes = decode_json(artifact.read(PROBES_FILE), Probes, PROBES_FILE)
    found = np.asarray(probabilities(probes.texts), np.float64)
    expected = np.asarray(probes.scores, np.float64)
    if found.shape != expected.shape or not np.all(np.abs(found - expected) <= tolerance):
        raise ArtifactError(
            f"{artifact.path}: the self-test failed; the answers to the probe texts of {PROBES_FILE} are not "
            "those recorded at training; train or promote another version"
        )
