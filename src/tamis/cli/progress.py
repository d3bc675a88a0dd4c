"""Progress bars with the time left, on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class ProgressBar:
    """Moves when it is called as `bar(done, total)`; `notice` writes beside its title."""

    def __init__(self, bars: Bars, title: str):
        self._bars = bars
        self._title = title
        self._task: TaskID = bars.add_task(title, total=None)

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` parts are done."""
        self._bars.update(self._task, completed=done, total=total)

    def notice(self, text: str) -> None:
        """Show one line, such as the loss and the accuracy so far."""
        self._bars.update(self._task, description=f"{self._title}: {text}")

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
def progress_bar(title: str) -> Iterator[ProgressBar]:
    """Show a bar titled `title` and give what moves it; a pipe sees nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    ]
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield ProgressBar(bars, title)
