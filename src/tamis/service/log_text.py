"""What the log and feedback store of a text: the text, its keyed digest, or nothing (TAMIS_LOG_TEXTS)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from tamis.storage.rows import hidden_text

LogText = Callable[[str, bytes], str]
"""Returns what is stored of a text; the second argument is the store's key."""


def full_text(text: str, secret: bytes) -> str:
    """Return the text."""
    return text


def _no_text(text: str, secret: bytes) -> str:
    return ""  # not NULL: the column and the response's field stay strings


LOG_TEXTS: Final[dict[Literal["keep", "hash", "none"], LogText]] = {
    "keep": full_text,
    "hash": hidden_text,
    "none": _no_text,
}
