"""The one canonical form of a text, used in training and in serving alike.

Knows characters; does not know words, features or models.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping

from tamis.markup import strip_html

CANONICAL_FORM = "nfkc-1"
"""Names the rules below; an artifact records it, so that a changed rule cannot meet an old model."""

_INVISIBLE = dict.fromkeys(
    code
    for first, last in [
        (0x00AD, 0x00AD),  # soft hyphen
        (0x034F, 0x034F),  # combining grapheme joiner
        (0x061C, 0x061C),  # Arabic letter mark
        (0x180E, 0x180E),  # Mongolian vowel separator
        (0x200B, 0x200F),  # zero-width space, joiners and direction marks
        (0x202A, 0x202E),  # direction embeddings
        (0x2060, 0x206F),  # word joiner, invisible operators, direction isolates
        (0xFEFF, 0xFEFF),  # byte-order mark
    ]
    for code in range(first, last + 1)
)


def canonical(text: str) -> str:
    """Return `text` in Unicode form NFKC, without invisible characters, its runs of blanks as one space.

    Two texts with the same canonical form get the same answer. Capitals are kept: they tell.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_INVISIBLE))
    return " ".join(text.split())


HTML_FORM = "html-1+nfkc-1"
"""Names the same rules after `tamis.markup.strip_html`, for models that were trained with `--strip-html`."""


def canonical_without_html(text: str) -> str:
    """Return the canonical form of the text without its HTML."""
    return canonical(strip_html(text))


AS_IT_IS = "as-it-is"
"""Names the form of models that were trained elsewhere, on texts as they came."""

TEXT_FORMS: Mapping[str, Callable[[str], str]] = {
    CANONICAL_FORM: canonical,
    HTML_FORM: canonical_without_html,
    AS_IT_IS: str,
}
"""What brings a text into the form that a model expects, by the name in its artifact."""
