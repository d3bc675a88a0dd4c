"""Progress bars with the time left, on standard error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tamis.cli.terminal import make_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

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
        if share < self._shown:
            self._bars.reset(self._task)
        self._shown = share
        self._bars.update(self._task, completed=share, total=1)

    def notice(self, text: str) -> None:
        """Show one line, such as the loss and the accuracy so far; the last line of each epoch stays."""
        text = text.replace("validation ", "val_")
        if _EPOCH.match(self._epoch) and self._epoch.partition(":")[0] != text.partition(":")[0]:
            self.say(self._epoch)
        self._epoch = text
        self._bars.update(self._task, description=f"{self._title}: {text}")

    def finish(self) -> None:
        """Let the last epoch's line stay, too."""
        if _EPOCH.match(self._epoch):
            self.say(self._epoch)
            self._epoch = ""

    def hide(self) -> None:
        """Leave the terminal to something else, until `show`."""
        self._bars.stop()

    def show(self) -> None:
        """Come back."""
        self._bars.start()

    def say(self, text: str) -> None:
        """Write a line that stays, and that a pipe sees too."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(
    title: str, *, console: Console | None = None, seconds: Callable[[], float] | None = None
) -> Iterator[ProgressBar]:
    """Show a bar titled `title` and give what moves it; a pipe sees nothing.

    By default it is shown on standard error and uses the monotonic clock.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = [
        # what is said wraps, so that bar, share and time left are never cut off
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
        disable=not console.is_terminal,
        speed_estimate_period=_SPEED_OVER_SECONDS,
        get_time=seconds,
    ) as bars:
        bar = ProgressBar(bars, title)
        try:
            yield bar
        finally:
            bar.finish()
