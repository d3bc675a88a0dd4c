"""Which texts a model has learned, as keyed digests: `learned.safetensors`.

Learned rows in later data are recognised without the training file, and no text can be read back. The
digests are keyed with the training file's digest, so they cannot be looked up across models; a reader who has
the artifact can test whether a text that they know was learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from tamis.data.near_duplicates import form_of_canonical
from tamis.errors import ArtifactError

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
        one = keyed.copy()
        one.update(text.encode("utf-8", "surrogatepass"))
        return one.digest()

    return np.frombuffer(b"".join(map(digest, texts)), "<u8").astype(np.uint64)


def _form_digests(texts: Iterable[str], key: str) -> Digests:
    return _digests(map(form_of_canonical, texts), key)
