"""Near-duplicate clusters of texts: one template with other names and numbers.

Two texts are near duplicates if the Jaccard similarity of their sets of character 5-grams reaches a
threshold, after case, accents, punctuation, blanks and the values of numbers are removed. Clusters are the
connected components of that relation.

A text is compared with at most 1,000 larger texts that share one of its rarest 5-grams, so that the time
for one large cluster is not quadratic in its size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.data.ngram_similarity import CHUNK, NGRAM, clusters_in_numpy
from tamis.native import Library, address_of, check, native_library
from tamis.ngrams import code_points
from tamis.normalization import canonical, decompose
from tamis.types import Progress, no_progress

Indices = npt.NDArray[np.intp]

NEAR_DUPLICATE_SIMILARITY = 0.8
"""Jaccard similarity of the 5-gram sets from which two texts are near duplicates."""

_NUMBER = re.compile(r"\d+")
_NO_LETTER = re.compile(r"[\W_]+")
_NO_LETTER_BEYOND_ASCII = re.compile(r"[^\w\x00-\x7f]+")
_ZEROS = re.compile(rb"00+")
# tables for bytes.translate: case and digits in one pass, then everything else is deleted
_ASCII_LOWER = bytes(ord("0") if chr(code).isdigit() else code for code in range(128)).lower() + bytes(128)
_ASCII_NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalnum())
_FILLER = "\u200b"  # in no canonical form, as every other invisible character


def near_duplicate_groups(
    texts: Sequence[str],
    *,
    threshold: float = NEAR_DUPLICATE_SIMILARITY,
    progress: Progress = no_progress,
) -> Indices:
    """Return [texts] the number of each text's group, counted from 0 in order of first appearance."""
    library = native_library()
    if library is None:
        return near_duplicate_groups_in_numpy(texts, threshold=threshold, progress=progress)
    # equal forms are compared once: many messages differ in their numbers only
    forms, form_of_text = _collapse(map(near_duplicate_form, texts))
    progress(0, len(texts))
    roots = _clusters_by_library(library, forms, threshold)
    progress(len(texts), len(texts))
    return _by_first_appearance(roots[form_of_text])


def near_duplicate_groups_in_numpy(
    texts: Sequence[str],
    *,
    threshold: float = NEAR_DUPLICATE_SIMILARITY,
    chunk: int = CHUNK,
    progress: Progress = no_progress,
) -> Indices:
    """Return the same as `near_duplicate_groups`, without the compiled library."""
    forms, form_of_text = _collapse(map(near_duplicate_form, texts))
    roots = clusters_in_numpy(_filled(forms), threshold=threshold, chunk=chunk, progress=progress)
    return _by_first_appearance(roots[form_of_text])


def near_duplicate_form(text: str) -> str:
    """Return what texts are compared by: lower-case letters without accents, every number as 0.

    A text without letters and digits is its own form, so that two different smileys are not near duplicates.
    """
    return form_of_canonical(canonical(text))


def form_of_canonical(plain: str) -> str:
    """Return the near-duplicate form of a text that is canonical already."""
    # accents and typographic signs are all that most texts have beyond ASCII, which takes a fifth of the time
    letters = plain if plain.isascii() else _NO_LETTER_BEYOND_ASCII.sub("-", decompose(plain).lower())
    if letters.isascii():
        zeros = _ZEROS.sub(b"0", letters.encode().translate(_ASCII_LOWER))
        return zeros.translate(None, _ASCII_NO_LETTERS).decode() or plain
    return _NO_LETTER.sub("", _NUMBER.sub("0", letters)) or plain


@dataclass(frozen=True)
class KnownShare:
    """The share of test texts with a near duplicate in the training part, in all and of each label."""

    overall: float
    by_label: Mapping[str, float]


def known_share(groups: Indices, labels: Sequence[str], *, train: Indices, test: Indices) -> KnownShare:
    """Return the share of `test` (indices of texts) with a near duplicate in `train`."""
    known = np.isin(groups[test], groups[train])
    test_labels = np.array([labels[i] for i in test], object)
    by_label = {label: float(known[test_labels == label].mean()) for label in sorted(set(test_labels))}
    return KnownShare(float(known.mean()) if known.size else 0.0, by_label)


def _collapse(forms: Iterable[str]) -> tuple[list[str], Indices]:
    """Return the distinct forms and [texts] the index of each text's form."""
    indices: dict[str, int] = {}
    index_of_text = np.array([indices.setdefault(form, len(indices)) for form in forms], np.intp)
    return list(indices), index_of_text


def _clusters_by_library(library: Library, forms: Sequence[str], threshold: float) -> Indices:
    filled = _filled(forms)
    # one buffer and lengths: the library gets no Python objects
    lengths = np.fromiter(map(len, filled), np.uint64, len(filled))
    roots = np.empty(len(filled), np.uint64)
    codes = code_points("".join(filled))
    status = library.near_duplicates(codes, address_of(lengths), len(filled), threshold, address_of(roots))
    check(status)
    return roots.astype(np.intp)


def _filled(forms: Sequence[str]) -> list[str]:
    """Pad forms that are shorter than a 5-gram to one."""
    return [form.ljust(NGRAM, _FILLER) for form in forms]


def _by_first_appearance(roots: Indices) -> Indices:
    _, first, inverse = np.unique(roots, return_index=True, return_inverse=True)
    # numpy numbers groups by root; callers rely on the order of first appearance
    number = np.empty(first.size, np.intp)
    number[np.argsort(first)] = np.arange(first.size)
    return number[inverse]
