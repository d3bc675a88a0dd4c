"""Small pieces of HTML. Whatever comes from data goes through `escape`: a text is never HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape as _escape

from tamis.normalization import canonical
from tamis.training.evaluation import Estimate

_LONGEST_TEXT = 280


def escape(value: object) -> str:
    """Return anything as text that a browser shows as it is."""
    return _escape("".join(c if c.isprintable() or c == " " else "\ufffd" for c in str(value)))


def shortened(text: str) -> str:
    """Return a text in canonical form, as the model reads it, cut to a length that a table can bear."""
    line = canonical(text)
    return escape(line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1, told: bool = False) -> str:
    """Return a table of cells that are HTML already; the first `words` columns stand left, figures right.

    Where what is `told` in the last column is long, it gets a line of its own on a narrow screen.
    """

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{'' if place < words else ' class=n'}>{cell}</{tag}>" for place, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    titles, kind = cells([escape(name) for name in head], "th"), "scroll told" if told else "scroll"
    return f'<div class="{kind}"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def section(title: str, *parts: str) -> str:
    """Return a section, or nothing where there is nothing to say."""
    filled = [part for part in parts if part]
    return f"<section><h2>{escape(title)}</h2>{''.join(filled)}</section>" if filled else ""


def said(text: str) -> str:
    """Return a paragraph of our own words, escaped."""
    return f"<p>{escape(text)}</p>"


def row_of(*parts: str) -> str:
    """Return figures side by side where there is room."""
    return f'<div class="row">{"".join(parts)}</div>'


def folded(title: str, *parts: str) -> str:
    """Return a part that is shown when its title is clicked, or nothing if it is empty."""
    filled = "".join(parts)
    return f"<details><summary>{escape(title)}</summary>{filled}</details>" if filled else ""


def interval(estimate: Estimate | None, digits: int = 4) -> str:
    """Return a metric with its interval, the interval fainter; a dash if it is undefined."""
    if estimate is None:
        return "–"
    low, high = f"{estimate.low:.{digits}f}", f"{estimate.high:.{digits}f}"
    return f'{estimate.value:.{digits}f} <span class="faint">{low} – {high}</span>'
