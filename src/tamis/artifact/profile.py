"""What a version keeps of the texts it was trained and tested on; no text can be read back.

`profile.json`: what the texts of the test part looked like to the model, against which drift is measured.
Every histogram is by predicted label, as a service sees its texts, which have no true label.

`learned.safetensors`: keyed digests of the texts that the model has learned, so that learned rows in later
data are recognised without the training file. The key is the training file's digest, so digests cannot be
looked up across models; a reader who has the artifact can test whether a text that they know was learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from tamis.artifact.manifest import decode_json
from tamis.errors import ArtifactError

PROFILE_FILE = "profile.json"
N_SHARE_BINS = 20
"""Bins of equal width from 0 to 1."""
N_LENGTH_BINS = 24
"""Bin k has lengths from 2**k - 1 characters, the last all longer ones."""

Counts = list[int]


class TrainingProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Histograms over held-out texts, and the labels of what was learned.

    learned:    rows of each label that the saved model has learned
    predicted:  held-out texts of each predicted label
    confidence: by predicted label, the probability of that label in bins of equal width
    length:     by predicted label, characters of the canonical text in bins that double
    unknown:    by predicted label, the share of a text's features that the model does not know, in bins of
                equal width; None for models that have no such share
    """

    learned: dict[str, int]
    predicted: dict[str, int]
    confidence: dict[str, Counts]
    length: dict[str, Counts]
    unknown: dict[str, Counts] | None = None

    def to_bytes(self) -> bytes:
        """Return the JSON text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=0) + b"\n"


def training_profile(
    labels: Sequence[str],
    texts: Sequence[str],
    probabilities: npt.NDArray[np.float64],
    *,
    learned: Mapping[str, int],
    unknown: npt.NDArray[np.float64] | None,
) -> TrainingProfile:
    """Return the profile of canonical held-out `texts` with their [texts, labels] probabilities.

    unknown: [texts] share of each text's features that the model does not know
    """
    top = probabilities.argmax(axis=1)
    lengths = np.fromiter(map(len, texts), np.intp, len(texts))

    def by_label(bins: npt.NDArray[np.intp], n_bins: int) -> dict[str, Counts]:
        return {
            label: np.bincount(bins[top == index], minlength=n_bins).tolist()
            for index, label in enumerate(labels)
        }

    return TrainingProfile(
        learned=dict(learned),
        predicted={label: int((top == index).sum()) for index, label in enumerate(labels)},
        confidence=by_label(share_bins(probabilities.max(axis=1)), N_SHARE_BINS),
        length=by_label(length_bins(lengths), N_LENGTH_BINS),
        unknown=None if unknown is None else by_label(share_bins(unknown), N_SHARE_BINS),
    )


def share_bins(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the bin of each number from 0 to 1."""
    # exactly 1.0 belongs to the last bin
    return np.minimum((shares * N_SHARE_BINS).astype(np.intp), N_SHARE_BINS - 1)


def length_bins(lengths: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the bin of each number of characters."""
    # + 1: an empty text has a bin, too
    return np.minimum(np.log2(lengths + 1).astype(np.intp), N_LENGTH_BINS - 1)


def decode_profile(data: bytes) -> TrainingProfile:
    """Read `profile.json`; raises ArtifactError for anything else."""
    return decode_json(data, TrainingProfile, PROFILE_FILE)


LEARNED_FILE = "learned.safetensors"
# one in 2**64: a collision only leaves out a row that could have been used
_DIGEST_BYTES = 8
# blake2b takes no longer key
_MAX_KEY_BYTES = 64

Digests = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LearnedTexts:
    """Digests of everything that a model has learned.

    texts: [distinct texts] ascending; of the texts in the form that the model reads
    forms: [distinct forms] ascending; of what near duplicates are compared by: letters and digits alone
    """

    key: str
    texts: Digests
    forms: Digests

    @classmethod
    def of(cls, texts: Sequence[str], *, key: str) -> Self:
        """Return the digests of canonical `texts`, keyed with the digest of the data they are from."""
        return cls(key, np.unique(_digests(texts, key)), np.unique(_form_digests(texts, key)))

    def contains(self, texts: Sequence[str]) -> Mask:
        """Return [texts] whether each canonical text was learned."""
        return np.isin(_digests(texts, self.key), self.texts)

    def contains_form(self, texts: Sequence[str]) -> Mask:
        """Return [texts] whether a text was learned that differs in case, numbers or punctuation at most."""
        return np.isin(_form_digests(texts, self.key), self.forms)

    def to_bytes(self) -> bytes:
        """Return the digests in safetensors format; the key is in the manifest."""
        return safetensors.numpy.save({"texts": self.texts, "forms": self.forms})

    @classmethod
    def from_bytes(cls, data: bytes, *, key: str) -> Self:
        """Read what `to_bytes` wrote; raises ArtifactError for anything else."""
        try:
            tensors = safetensors.numpy.load(data)
            texts, forms = tensors["texts"], tensors["forms"]
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as broken:
            raise ArtifactError(f"{LEARNED_FILE} cannot be read ({broken})") from None
        for digests in (texts, forms):
            if digests.dtype != np.uint64 or digests.ndim != 1:
                raise ArtifactError(f"{LEARNED_FILE} does not hold digests")
        return cls(key, texts, forms)


def _digests(texts: Iterable[str], key: str) -> Digests:
    keyed = hashlib.blake2b(digest_size=_DIGEST_BYTES, key=key.encode()[:_MAX_KEY_BYTES])

    def digest(text: str) -> bytes:
        # the key is hashed once, not once per text
        one = keyed.copy()
        one.update(text.encode("utf-8", "surrogatepass"))
        return one.digest()

    # read as little-endian on every machine, because the numbers are stored
    return np.frombuffer(b"".join(map(digest, texts)), "<u8").astype(np.uint64)


def _form_digests(texts: Iterable[str], key: str) -> Digests:
    from tamis.data.near_duplicates import form_of_canonical  # a server reads profiles only

    return _digests(map(form_of_canonical, texts), key)
