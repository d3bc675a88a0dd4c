"""Output that no text can use to control a terminal, in any encoding; progress bars on standard error.

Labels, texts and names of files come from anywhere. Every command prints through `echo` or
`make_console`: control characters and the marks that turn the direction of text are escaped as in
JSON, so JSON stays the same document; nothing is taken for markup; characters that the output's
encoding lacks are escaped, and no command fails for it.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from tamis.normalization import canonical

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


# harmless in a message of several lines
_LINE_ENDS = "\n\t"
# C1 controls are escape sequences of one character in some terminals
_C0, _C1, _DELETE = range(0x20), range(0x80, 0xA0), (0x7F,)
# embeddings and isolates can show a text in another order than it has
_LINE_SEPARATORS, _EMBEDDINGS, _ISOLATES = (0x2028, 0x2029), range(0x202A, 0x202F), range(0x2066, 0x206A)
_CONTROLS = [*_C0, *_DELETE, *_C1, *_LINE_SEPARATORS, *_EMBEDDINGS, *_ISOLATES]
_ESCAPED_IN_LINE = {code: f"\\u{code:04x}" for code in _CONTROLS}
_ESCAPED = {code: escape for code, escape in _ESCAPED_IN_LINE.items() if chr(code) not in _LINE_ENDS}
_REPLACED = dict.fromkeys(_ESCAPED, "�")


_HANDLER = "tamis.escape"
_ASCII = "tamis_ascii"
# bytes that Python could not decode
_UNDECODED = re.compile("[\udc80-\udcff]")


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


def print_json(value: Any) -> None:
    """Print any frozen record as indented JSON."""
    import msgspec

    echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def make_console(**settings: Any) -> Console:
    """Return a console of rich that prints texts as they are: no markup, no emoji, no control characters."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    # within the function, like every import of rich: most commands print plain lines
    class Plain(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                # rich adds its own colours later: what is in the text here came from outside
                yield Segment(text if control else text.translate(_REPLACED), style, control)

    return Plain(markup=False, emoji=False, highlight=False, **settings)


def shortened(text: str, width: int) -> str:
    """Return `text` on one line, cut to `width`, without control characters."""
    line = "".join(c if c.isprintable() else "�" for c in canonical(text))
    return line if len(line) <= width else f"{line[: width - 1]}…"


def escape_unencodable_output() -> None:
    r"""Write characters that standard output and error cannot encode as `\uXXXX`.

    In JSON that is the same text; elsewhere it can be read. UTF-8 lacks only unpaired surrogates.
    """
    codecs.register_error(_HANDLER, _escaped)
    codecs.register(_find_codec)
    for stream in (sys.stdout, sys.stderr):
        # tests and embedding programs may have replaced the stream
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=_ASCII if is_ascii else stream.encoding, errors=_HANDLER)


def _find_codec(name: str) -> codecs.CodecInfo | None:
    """Return ASCII under another name: click ignores the usual one and writes UTF-8."""
    if name != _ASCII:
        return None
    plain = codecs.lookup("ascii")
    return codecs.CodecInfo(*plain, plain.incrementalencoder, plain.incrementaldecoder, name=_ASCII)


def decoded_argument(text: str) -> str:
    """Return a command-line argument that is UTF-8 as text, also if the locale says it is not.

    Python keeps bytes that the locale cannot decode as unpaired surrogates.
    """
    try:
        return os.fsencode(text).decode("utf-8") if _UNDECODED.search(text) else text
    except UnicodeError:
        raise click.UsageError("a text is not valid UTF-8") from None


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    # by UTF-16 units, as JSON escapes characters beyond the BMP
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2)), error.end


_SPEED_OVER_SECONDS = 3_600
"""Seconds over which the speed is averaged: rich's default forgets steps slower than half a minute."""

_BAR_WIDTH = 20
_EPOCH = re.compile(r"(.*, )?epoch [0-9]+ of [0-9]+: ")


class ProgressBar:
    """Moves when it is called as `bar(done, total)`; `notice` writes beside its title."""

    def __init__(self, bars: Bars, title: str):
        self._bars = bars
        self._title = title
        self._task: TaskID = bars.add_task(title, total=None)
        self._shown = 0.0
        self._epoch = ""

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` parts are done."""
        share = done / total if total else 1.0  # of one whole: a total that changed would forget the speed
        # another pass begins, such as the next epoch: its speed starts anew
        if share < self._shown:
            self._bars.reset(self._task)
        self._shown = share
        self._bars.update(self._task, completed=share, total=1)

    def notice(self, text: str) -> None:
        """Show one line, such as the loss and the accuracy so far; the last line of each epoch stays."""
        # the line must fit beside the bar
        text = text.replace("validation ", "val_")
        # the last line of an epoch has its final metrics
        if _EPOCH.match(self._epoch) and self._epoch.partition(":")[0] != text.partition(":")[0]:
            self.say(self._epoch)
        self._epoch = text
        self._bars.update(self._task, description=f"{self._title}: {text}")

    def finish(self) -> None:
        """Print the last line of the last epoch."""
        if _EPOCH.match(self._epoch):
            self.say(self._epoch)
            self._epoch = ""

    def hide(self) -> None:
        """Stop drawing until `show`: another view uses the terminal."""
        self._bars.stop()

    def show(self) -> None:
        """Draw again."""
        self._bars.start()

    def say(self, text: str) -> None:
        """Print a line that stays, in a pipe as well."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(
    title: str, *, console: Console | None = None, seconds: Callable[[], float] | None = None
) -> Iterator[ProgressBar]:
    """Show a bar titled `title` and yield its callback; nothing is written to a pipe.

    By default it is shown on standard error and uses the monotonic clock.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = [
        # the description wraps, so that bar, share and remaining time are never cut off
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1)),
        BarColumn(bar_width=_BAR_WIDTH),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    ]
    console = console or make_console(stderr=True)
    with Progress(
        *columns,
        console=console,
        transient=True,
        expand=True,
        # a log file would fill with control characters
        disable=not console.is_terminal,
        speed_estimate_period=_SPEED_OVER_SECONDS,
        get_time=seconds,
    ) as bars:
        bar = ProgressBar(bars, title)
        try:
            yield bar
        finally:
            bar.finish()
