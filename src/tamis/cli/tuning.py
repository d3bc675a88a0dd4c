"""The search for settings: its options and its view, a live table or, in a pipe, one line per trial."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tamis.cli.options import size_option
from tamis.cli.terminal import ProgressBar, echo, make_console

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

    from tamis.training.tuning import Autotune
    from tamis.training.tuning.trials import SearchState, Trial, Watch

Command = Callable[..., Any]

_OBJECTIVE = "log loss"
# title, heading, best trial and progress: the table takes what the terminal has left
_LINES_AROUND_THE_TABLE = 8
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_ENDS = {
    "trials": "all trials are done",
    "time": "the time is over",
    "space": "there is nothing new to try",
    "stopped": "stopped; the best so far is kept",
}


def autotune_options(command: Command) -> Command:
    """Add the options that let settings be searched for."""
    for option in (
        click.option(
            "--max-size",
            "max_bytes",
            callback=size_option,
            metavar="SIZE",
            help="Maximum model size for the search: 500kB, 2MB.",
        ),
        click.option(
            "--autotune-trials",
            "trials",
            type=click.IntRange(min=1),
            help="End the search after this number of trials, for the same result on any machine.",
        ),
        click.option(
            "--autotune",
            "seconds",
            callback=_budget,
            metavar="TIME",
            help="First search for better settings, for 60s, 5m, 1h; what --model and --set give stays.",
        ),
    ):
        command = option(command)
    return command


def _budget(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smh])", value, re.ASCII)
    if found is None:
        raise click.BadParameter("must be a whole number and s, m or h, such as 60s, 5m or 1h")
    return float(found[1]) * _SECONDS[found[2]]


def autotune_limits(options: Mapping[str, Any], watch: Watch) -> Autotune | None:
    """Return the limits that `autotune_options` gave; None where no search is asked for."""
    from tamis.training.tuning import Autotune

    seconds, trials, max_bytes = options["seconds"], options["trials"], options["max_bytes"]
    if seconds is None and trials is None:
        if max_bytes is not None:
            raise click.UsageError("--max-size bounds a search: give --autotune too")
        return None
    source = click.get_current_context().get_parameter_source("model")
    other_kinds = source is ParameterSource.DEFAULT and not options["preset"]
    return Autotune(seconds, trials, max_bytes, other_kinds=other_kinds, watch=watch)


@contextmanager
def tuning_view(bar: ProgressBar) -> Iterator[Watch]:
    """Give what shows a search on standard error; `bar` leaves it the terminal for as long as it lasts."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    table = _LiveTable(console, bar)
    try:
        yield table
    finally:
        table.close()


class _Lines:
    """One line a trial."""

    def __init__(self) -> None:
        self._shown = 0

    def __call__(self, state: SearchState) -> None:
        for trial in state.trials[self._shown :]:
            best = ", the best so far" if trial is state.best else ""
            said = [cell for cell in _named_cells(trial) if cell]
            echo(f"trial {trial.number}: {_name(trial)}: {', '.join(said)}{best}", err=True)
        self._shown = len(state.trials)
        if state.ended:
            echo(_summary(state), err=True)


class _LiveTable:
    """The first, the best and the latest trials, and how long it will go on."""

    def __init__(self, console: Console, bar: ProgressBar):
        self._console = console
        self._bar = bar
        self._live: Live | None = None
        self._state: SearchState | None = None

    def __call__(self, state: SearchState) -> None:
        self._state = state
        if self._live is None:
            from rich.live import Live

            self._bar.hide()
            self._live = Live(get_renderable=self._page, console=self._console, refresh_per_second=4)
            self._live.start(refresh=True)
        if state.ended:
            self.close()
            self._bar.show()

    def close(self) -> None:
        """Keep the last state on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _page(self) -> Group:
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        assert self._state is not None
        state = self._state
        table = Table(box=box.SIMPLE_HEAD, title="Search for settings", title_justify="left")
        for column in ("trial", "kind", "settings", _OBJECTIVE, "accuracy", "size", "time", ""):
            table.add_column(column, overflow="fold" if column == "settings" else "ellipsis")
        for trial in self._shown_trials(state):
            best = trial is state.best
            cells = [str(trial.number), trial.candidate.kind, str(trial.candidate), *_cells(trial)]
            table.add_row(*map(Text, [*cells, "best" if best else ""]), style="bold" if best else "")
        return Group(table, Text(_summary(state) if state.ended else _running(state)))

    def _shown_trials(self, state: SearchState) -> list[Trial]:
        """Return as many trials as the terminal has lines for: the first, the best, and the latest."""
        latest = state.trials[-max(1, self._console.height - _LINES_AROUND_THE_TABLE - 2) :]
        kept = {trial.number for trial in (*state.trials[:1], *latest)}
        if state.best is not None:
            kept.add(state.best.number)
        return [trial for trial in state.trials if trial.number in kept]


def _name(trial: Trial) -> str:
    return f"{trial.candidate.kind}, {trial.candidate}"


def _named_cells(trial: Trial) -> tuple[str, ...]:
    """Return a trial's metrics with their names."""
    loss, accuracy, size, seconds = _cells(trial)
    named = f"{_OBJECTIVE} {loss}" if trial.log_loss is not None else loss
    return named, f"accuracy {accuracy}" if accuracy else "", size, seconds


def _cells(trial: Trial) -> tuple[str, str, str, str]:
    """Return log loss with its spread and what came of it, accuracy, size and time."""
    said: str = "" if trial.outcome == "complete" else trial.outcome
    if trial.outcome == "given up":
        said = f"given up after {trial.folds} fold{'s' if trial.folds > 1 else ''}"
    elif trial.why:
        said = f"failed: {trial.why}"
    figure = "" if trial.log_loss is None else f"{trial.log_loss:.4f}"
    spread = "" if trial.spread is None else f"± {trial.spread:.4f}"
    accuracy = "" if trial.accuracy is None else f"{trial.accuracy:.4f}"
    size = "" if trial.size_bytes is None else f"{trial.size_bytes / 1000:,.0f} kB"
    return " ".join(filter(None, [figure, spread, said])), accuracy, size, f"{trial.seconds:.1f} s"


def _running(state: SearchState) -> str:
    left = "" if state.seconds_left is None else f"{max(0, state.seconds_left):.0f} s left; "
    ends = "Ctrl-C ends the search and trains with the best so far"
    if state.running is None:
        return left + ends
    where = f"fold {state.fold} of {state.folds}" if state.fold else "measuring its size"
    return f"{left}trying {state.running.kind}, {state.running} ({where}). {ends}"


def _summary(state: SearchState) -> str:
    assert state.ended is not None
    number = len(state.trials)
    end = f"{number} trial{'' if number == 1 else 's'}, {_ENDS[state.ended]}"
    if state.best is None:
        return f"{end}; none is complete"
    best = f"{end}; the best is number {state.best.number}: {_name(state.best)}"
    if state.gain is None:
        return best
    gain, error = state.gain
    return f"{best}; its {_OBJECTIVE} is lower than that of the defaults by {gain:.4f} ± {error:.4f}"
