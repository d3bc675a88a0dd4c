"""The search for settings: its options and its view, a live table or, in a pipe, one line per trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tamis.cli.options import option_group
from tamis.cli.parameter_types import budget_option, size_option
from tamis.cli.terminal import ProgressBar, echo, make_console

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

    from tamis.training.tuning import Autotune
    from tamis.training.tuning.trials import SearchState, Trial, Watch

_OBJECTIVE = "log loss"
# title, heading, best trial and progress; the table gets the other lines of the terminal
_LINES_AROUND_THE_TABLE = 8
_ENDS = {
    "trials": "all trials are done",
    "time": "the time is up",
    "space": "no untried settings are left",
    "stopped": "stopped; the best so far is kept",
}


autotune_options = option_group(
    click.option(
        "--autotune",
        "seconds",
        callback=budget_option,
        metavar="TIME",
        help="First search for better hyper-parameters, for 60s, 5m or 1h; keeps --model and --set.",
    ),
    click.option(
        "--autotune-trials",
        "trials",
        type=click.IntRange(min=1),
        metavar="N",
        help="End the search after N trials; unlike a time, this is reproducible.",
    ),
    click.option(
        "--max-size",
        "max_bytes",
        callback=size_option,
        metavar="SIZE",
        help="Maximum size of a model in the search, such as 500kB or 2MB.",
    ),
)


def autotune_limits(options: Mapping[str, Any], watch: Watch) -> Autotune | None:
    """Return the limits that `autotune_options` gave; None where no search is asked for."""
    from tamis.training.tuning import Autotune

    seconds, trials, max_bytes = options["seconds"], options["trials"], options["max_bytes"]
    if seconds is None and trials is None:
        if max_bytes is not None:
            raise click.UsageError("--max-size bounds a search: give --autotune too")
        return None
    # --model or --preset: only that kind is searched
    source = click.get_current_context().get_parameter_source("model")
    other_kinds = source is ParameterSource.DEFAULT and not options["preset"]
    return Autotune(seconds, trials, max_bytes, other_kinds=other_kinds, watch=watch)


@contextmanager
def tuning_view(bar: ProgressBar) -> Iterator[Watch]:
    """Give what shows a search on standard error; `bar` leaves it the terminal for as long as it lasts."""
    console = make_console(stderr=True)
    # a pipe or a log file keeps every line
    if not console.is_terminal:
        yield _Lines()
        return
    table = _LiveTable(console, bar)
    try:
        yield table
    finally:
        table.close()


class _Lines:
    """One line per trial."""

    def __init__(self) -> None:
        self._shown = 0

    def __call__(self, state: SearchState) -> None:
        for trial in state.trials[self._shown :]:
            best = ", the best so far" if trial is state.best else ""
            loss, accuracy, size, seconds = _cells(trial)
            loss = f"{_OBJECTIVE} {loss}" if trial.log_loss is not None else loss
            shown = filter(None, [loss, f"accuracy {accuracy}" if accuracy else "", size, seconds])
            echo(f"trial {trial.number}: {_name(trial)}: {', '.join(shown)}{best}", err=True)
        self._shown = len(state.trials)
        if state.ended:
            echo(_summary(state), err=True)


class _LiveTable:
    """The first, the best and the latest trials, and the remaining time."""

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
            # a function: the remaining time moves between two trials
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


def _cells(trial: Trial) -> tuple[str, str, str, str]:
    """Return log loss with its spread and outcome, accuracy, size and time."""
    outcome: str = "" if trial.outcome == "complete" else trial.outcome
    if trial.outcome == "given up":
        outcome = f"given up after {trial.folds} fold{'s' if trial.folds > 1 else ''}"
    elif trial.why:
        outcome = f"failed: {trial.why}"
    loss = "" if trial.log_loss is None else f"{trial.log_loss:.4f}"
    spread = "" if trial.spread is None else f"± {trial.spread:.4f}"
    accuracy = "" if trial.accuracy is None else f"{trial.accuracy:.4f}"
    size = "" if trial.size_bytes is None else f"{trial.size_bytes / 1000:,.0f} kB"
    return " ".join(filter(None, [loss, spread, outcome])), accuracy, size, f"{trial.seconds:.1f} s"


def _running(state: SearchState) -> str:
    left = "" if state.seconds_left is None else f"{max(0, state.seconds_left):.0f} s left; "
    ends = "Ctrl-C ends the search and trains with the best so far"
    if state.running is None:
        return left + ends
    step = f"fold {state.fold} of {state.folds}" if state.fold else "measuring its size"
    return f"{left}trying {state.running.kind}, {state.running} ({step}). {ends}"


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
