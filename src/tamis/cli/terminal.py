"""Output that no text can use to control a terminal: labels, texts and names of files come from anywhere.

Every command prints through `echo` or `make_console`. Control characters and the marks that turn the
direction of text are escaped as in JSON, so JSON stays the same document; nothing is taken for markup.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

_LINE_ENDS = "\n\t"
_C0, _C1, _DELETE = range(0x20), range(0x80, 0xA0), (0x7F,)
_LINE_SEPARATORS, _EMBEDDINGS, _ISOLATES = (0x2028, 0x2029), range(0x202A, 0x202F), range(0x2066, 0x206A)
_CONTROLS = [*_C0, *_DELETE, *_C1, *_LINE_SEPARATORS, *_EMBEDDINGS, *_ISOLATES]
_ESCAPED_IN_LINE = {code: f"\\u{code:04x}" for code in _CONTROLS}
_ESCAPED = {code: escape for code, escape in _ESCAPED_IN_LINE.items() if chr(code) not in _LINE_ENDS}
_REPLACED = dict.fromkeys(_ESCAPED, "�")


def escaped(text: str) -> str:
    """Return `text` with its control characters as `\\uXXXX`, line ends and tabs kept."""
    return text.translate(_ESCAPED)


def escaped_in_line(text: str) -> str:
    """Return `text` with all control characters as `\\uXXXX`: one cell of one line."""
    return text.translate(_ESCAPED_IN_LINE)


def escaped_bytes(output: bytes) -> bytes:
    """Return UTF-8 with its control characters escaped."""
    return escaped(output.decode()).encode()


def echo(message: object, *, err: bool = False) -> None:
    """Print one message, on standard error with `err`."""
    click.echo(escaped(str(message)), err=err)


def make_console(**settings: Any) -> Console:
    """Return a console of rich that prints texts as they are: no markup, no emoji, no control characters."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Plain(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                # rich adds its own colours later: what is in the text here came from outside
                yield Segment(text if control else text.translate(_REPLACED), style, control)

    return Plain(markup=False, emoji=False, highlight=False, **settings)
