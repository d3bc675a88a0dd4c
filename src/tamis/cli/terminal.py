"""Safe output to a terminal of any encoding, and progress bars on standard error.

Labels, texts and file names are untrusted: they may contain escape sequences. Every command prints through
`echo` or `make_console`, which escape control characters and bidirectional marks as JSON does, so that
JSON stays the same document. Nothing is interpreted as markup. Characters that the output's encoding lacks
are escaped as well, so that no command fails because of them.
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
# some terminals take a C1 control for an escape sequence
_C0, _C1, _DELETE = range(0x20), range(0x80, 0xA0), (0x7F,)
# bidirectional embeddings and isolates can make a text appear in another order than it has
_LINE_SEPARATORS, _EMBEDDINGS, _ISOLATES = (0x2028, 0x2029), range(0x202A, 0x202F), range(0x2066, 0x206A)
_CONTROLS = [*_C0, *_DELETE, *_C1, *_LINE_SEPARATORS, *_EMBEDDINGS, *_ISOLATES]
_ESCAPED_IN_LINE = {code: f"\\u{code:04x}" for code in _CONTROLS}
_ESCAPED = {code: escape for code, escape in _ESCAPED_IN_LINE.items() if chr(code) not in _LINE_ENDS}
_REPLACED = dict.fromkeys(_ESCAPED, "�")

_ERROR_HANDLER = "tamis.escape"
_ASCII_CODEC = "tamis_ascii"
# how Python keeps bytes of an argument that it could not decode
_UNDECODED_BYTES = re.compile("[\udc80-\udcff]")

_SPEED_SECONDS = 3_600
"""Seconds over which the speed is averaged: rich's default forgets steps slower than half a minute."""
_BAR_WIDTH = 20
_EPOCH = re.compile(r"(.*, )?epoch [0-9]+ of [0-9]+: ")


def escaped(text: str) -> str:
    """Return `text` with its control characters as `\\uXXXX`, except line feeds and tabs."""
    return text.translate(_ESCAPED)


def escaped_in_line(text: str) -> str:
    """Return `text` with all control characters as `\\uXXXX`, for one cell of a line."""
    return text.translate(_ESCAPED_IN_LINE)


def escaped_bytes(output: bytes) -> bytes:
    """Return UTF-8 with its control characters escaped."""
    return escaped(output.decode()).encode()


def echo(message: object, *, err: bool = False) -> None:
    """Print a message and a line feed, on standard error with `err`."""
    click.echo(escaped(str(message)), err=err)


def echo_field(name: str, value: str, *, width: int) -> None:
    """Print a line of a name, bold and as wide as all names, and a value on standard error.

    Without rich, which takes long to import, and in one write, because other processes log there, too.
    """
    bold = os.environ.get("TERM") != "dumb"
    click.echo(click.style(escaped(name).ljust(width), bold=bold) + escaped(value), err=True)


def print_json(value: Any) -> None:
    """Print a record or a dictionary as indented JSON."""
    import msgspec

    echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def make_console(**settings: Any) -> Console:
    """Return a console of rich that prints texts as they are: no markup, no emoji, no control characters."""
    # here, like every import of rich: it takes long, and most commands print plain lines
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class PlainConsole(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                # rich adds its own escape sequences later: those in the text come from data
                yield Segment(text if control else text.translate(_REPLACED), style, control)

    return PlainConsole(markup=False, emoji=False, highlight=False, **settings)


def shortened(text: str, width: int) -> str:
    """Return `text` in canonical form, without control characters and cut to `width` characters."""
    return shortened_name(canonical(text), width)


def shortened_name(name: str, width: int) -> str:
    """Return a label or source on one line, without control characters and cut to `width` characters."""
    # not in canonical form, in which labels such as m² and m2 look the same
    line = "".join(c if c.isprintable() else "�" for c in " ".join(name.split()))
    return line if len(line) <= width else f"{line[: width - 1]}…"


def escape_unencodable_output() -> None:
    r"""Make standard output and error write characters that they cannot encode as `\uXXXX`.

    In JSON that is the same text. UTF-8 lacks only unpaired surrogates.
    """
    codecs.register_error(_ERROR_HANDLER, _escape_unencodable)
    codecs.register(_find_codec)
    for stream in (sys.stdout, sys.stderr):
        # tests and embedding programs may have replaced the stream
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=_ASCII_CODEC if is_ascii else stream.encoding, errors=_ERROR_HANDLER)


def _find_codec(name: str) -> codecs.CodecInfo | None:
    """Return ASCII under another name: to a stream with the usual one, click writes UTF-8."""
    if name != _ASCII_CODEC:
        return None
    plain = codecs.lookup("ascii")
    return codecs.CodecInfo(*plain, plain.incrementalencoder, plain.incrementaldecoder, name=_ASCII_CODEC)


def decoded_argument(text: str) -> str:
    """Return a command-line argument decoded as UTF-8, whatever the locale; raise UsageError if it is not."""
    try:
        return os.fsencode(text).decode("utf-8") if _UNDECODED_BYTES.search(text) else text
    except UnicodeError:
        raise click.UsageError("a text is not valid UTF-8") from None


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    # one escape for each UTF-16 unit, as JSON has it for characters beyond the BMP
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2)), error.end


class ProgressBar:
    """A progress bar: called as `bar(done, total)`; `notice` shows a status, `log` prints a line."""

    def __init__(self, bars: Bars, title: str):
        self._bars = bars
        self._title = title
        self._task: TaskID = bars.add_task(title, total=None)
        self._shown = 0.0
        self._epoch = ""

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` parts are done."""
        # as a share, because rich forgets the speed when the total changes
        share = done / total if total else 1.0
        # another pass begins, such as the next epoch, with a speed of its own
        if share < self._shown:
            self._bars.reset(self._task)
        self._shown = share
        self._bars.update(self._task, completed=share, total=1)

    def notice(self, text: str) -> None:
        """Show a status beside the title, such as loss and accuracy; print the last one of each epoch."""
        # shortened, because it must fit beside the bar
        text = text.replace("validation ", "val_")
        # another epoch begins: the last status of the one before has its final metrics
        if _EPOCH.match(self._epoch) and self._epoch.partition(":")[0] != text.partition(":")[0]:
            self.log(self._epoch)
        self._epoch = text
        self._bars.update(self._task, description=f"{self._title}: {text}")

    def finish(self) -> None:
        """Print the last status of the last epoch."""
        if _EPOCH.match(self._epoch):
            self.log(self._epoch)
            self._epoch = ""

    def hide(self) -> None:
        """Stop drawing until `show`, while another view uses the terminal."""
        self._bars.stop()

    def show(self) -> None:
        """Draw again."""
        self._bars.start()

    def log(self, text: str) -> None:
        """Print a line above the bar, which is also printed to a pipe."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(
    title: str, *, console: Console | None = None, seconds: Callable[[], float] | None = None
) -> Iterator[ProgressBar]:
    """Show a progress bar and yield it; it is not drawn to a pipe.

    By default it is on standard error and reads the monotonic clock; `seconds` replaces the clock.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = [
        # a long title wraps, so that bar, percentage and remaining time are never cut off
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
        # otherwise a log file would fill with escape sequences
        disable=not console.is_terminal,
        speed_estimate_period=_SPEED_SECONDS,
        get_time=seconds,
    ) as bars:
        bar = ProgressBar(bars, title)
        try:
            yield bar
        finally:
            bar.finish()
