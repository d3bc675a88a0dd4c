"""HTML in texts: whether there is any, and the text without it.

Every function takes time linear in the length of the text. Handles characters; independent of files.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

# known names only: texts have <3, <me@example.org> and a < b
_TAG = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|body|br|center|code|dd|del|div|dl|dt|em|font|form|h[1-6]|head|hr|html|i|"
    r"iframe|img|input|ins|li|link|meta|ol|p|pre|s|script|section|small|span|strike|strong|style|sub|sup|"
    r"table|tbody|td|th|thead|title|tr|tt|u|ul)(?=[\s/>])[^<>]*>",
    re.IGNORECASE,
)
# with a semicolon and of limited length: prose has R&D and &c
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|nbsp|apos|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")
_BEGIN = re.compile(r"<!--|<(script|style)(?=[\s/>])|</?[a-zA-Z][^<>]*>|<![a-zA-Z][^<>]*>", re.IGNORECASE)
# within a word these divide nothing: <b>W</b>IN is WIN
_INLINE = re.compile(
    r"</?(?:a|abbr|b|big|code|em|font|i|ins|del|mark|s|small|span|strong|sub|sup|tt|u)(?=[\s/>])",
    re.IGNORECASE,
)
_END_OF = {
    "script": re.compile(r"</script[^<>]*>", re.IGNORECASE),
    "style": re.compile(r"</style[^<>]*>", re.IGNORECASE),
}


def has_html(text: str) -> bool:
    """Return whether the text has a known HTML tag or a character reference."""
    # `in` first: most texts have neither character, and it is many times faster than a pattern
    return ("<" in text and _TAG.search(text) is not None) or (
        "&" in text and _ENTITY.search(text) is not None
    )


def strip_html(text: str) -> str:
    """Return the text without comments, scripts, styles and tags, its character references resolved.

    A tag between blocks of text becomes a blank, one inside a line of text (`<b>`, `<a>`) nothing.
    """
    if "<" in text:
        text = "".join(_without_tags(text))
    return html.unescape(text) if "&" in text else text


def _without_tags(text: str) -> Iterator[str]:
    position = 0
    missing: set[str] = set()  # what has no end any more: not to be looked for again
    for found in _BEGIN.finditer(text):
        # inside of a comment, script or style that was skipped
        if found.start() < position:
            continue
        yield text[position : found.start()]
        element = (found[1] or "").lower()
        if element in missing or (found[0] == "<!--" and "-->" in missing):
            position = found.start()
            continue
        end = found.end()
        if found[0] == "<!--":
            end = text.find("-->", found.end()) + 3
        elif element:
            closing = _END_OF[element].search(text, found.end())
            end = closing.end() if closing is not None else 2
        # find() gave -1, plus 3: never closed
        if end == 2:
            missing.add(element or "-->")
            position = found.start()
            continue
        if not _INLINE.match(found[0]):
            yield " "
        position = end
    yield text[position:]
