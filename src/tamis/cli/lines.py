"""A text of unknown origin on one line of a terminal."""

from __future__ import annotations

from tamis.normalization import canonical


def shortened(text: str, width: int) -> str:
    """Return `text` on one line, cut to `width`, with nothing in it that a terminal would obey."""
    line = "".join(c if c.isprintable() else "�" for c in canonical(text))
    return line if len(line) <= width else f"{line[: width - 1]}…"
