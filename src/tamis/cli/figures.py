"""Figures for people, as tables, and for scripts, as JSON: both on standard output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from tamis.cli.terminal import echo, make_console
from tamis.training.compare import LEARNED_UNKNOWN, Comparison
from tamis.training.evaluate import Estimate, Evaluation

if TYPE_CHECKING:
    from tamis.training.protocols import ProtocolFigures
    from tamis.training.robustness import Disguise

_CONFUSION_LABELS_SHOWN = 12
_SIGNIFICANT = 0.05


def print_json(value: Any) -> None:
    """Print any frozen record as indented JSON."""
    echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def show_evaluation(evaluation: Evaluation, title: str) -> None:
    """Print an evaluation as tables: overall figures, operating point, classes, confusion, sources."""
    console = make_console()
    console.print(Text(title, "bold"), soft_wrap=True)
    console.print(_overall(evaluation))
    console.print(_classes(evaluation))
    if len(evaluation.labels) <= _CONFUSION_LABELS_SHOWN:
        console.print(_confusion(evaluation))
    if evaluation.sources:
        console.print(_sources(evaluation))


def show_robustness(disguises: Sequence[Disguise]) -> None:
    """Print what disguised texts cost in recall."""
    if not disguises:
        return
    title = f"Disguised: recall of {disguises[0].texts:,} texts"
    table = _table(title, "how", "as they are", "disguised", "95 % interval", "drop")
    for one in disguises:
        table.add_row(one.name, f"{one.plain.value:.4f}", *_cells(one.disguised), f"{one.drop:+.4f}")
    make_console().print(table)


def show_protocols(figures: Sequence[ProtocolFigures], title: str) -> None:
    """Print cross-validated figures, a column a protocol."""
    console = make_console()
    console.print(Text(title, "bold"), soft_wrap=True)
    table = _table("The mean over repeats, with 95 % intervals", "figure", *(one.protocol for one in figures))
    table.add_row("folds × repeats", *(f"{one.folds} × {one.repeats}" for one in figures))
    table.add_row("tested, of all texts", *(f"{one.tested:,} of {one.rows:,}" for one in figures))
    for name, field in {
        "accuracy": "accuracy",
        "Matthews correlation": "matthews",
        "macro F1": "macro_f1",
        "recall, op. point": "recall",
        "false positives": "false_positive_rate",
    }.items():
        estimates = [getattr(one, field) for one in figures]
        table.add_row(name, *("" if one is None else "{}  {}".format(*_cells(one)) for one in estimates))
    table.add_row("accuracy, worst fold", *(f"{min(one.accuracies):.4f}" for one in figures))
    console.print(table)


def show_comparison(
    comparison: Comparison, names: tuple[str, str], title: str, *, is_unseen: bool = True
) -> None:
    """Print the rows that one model alone has right, and how probable such a difference is by chance.

    Without `is_unseen`, a model may have learned these rows, and the p-value says so.
    """
    console = make_console()
    console.print(Text(title, "bold"), soft_wrap=True)
    table = _table(f"{comparison.rows:,} rows", "", "accuracy", "95 % interval", "right alone")
    table.add_row(names[0], *_cells(comparison.first), f"{comparison.only_first:,}")
    table.add_row(names[1], *_cells(comparison.second), f"{comparison.only_second:,}")
    table.add_row("difference (B − A)", *_cells(comparison.difference), "")
    console.print(table)
    verdict = "the models differ" if comparison.p_value < _SIGNIFICANT else "not statistically significant"
    caution = "" if is_unseen else f"; {LEARNED_UNKNOWN}"
    console.print(f"McNemar's exact test: p = {comparison.p_value:.4g}, {verdict}{caution}", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _overall(evaluation: Evaluation) -> Table:
    table = _table(f"{evaluation.rows:,} rows", "figure", "value", "95 % interval")
    for name, estimate in {
        "accuracy": evaluation.accuracy,
        "Matthews correlation": evaluation.matthews,
        "macro F1": evaluation.macro_f1,
        "ROC AUC": evaluation.roc_auc,
        "average precision": evaluation.average_precision,
        "calibration error": evaluation.calibration_error,
        "log loss": evaluation.log_loss,
    }.items():
        table.add_row(name, *_cells(estimate))
    point = evaluation.operating_point
    if point is not None:
        table.add_section()
        table.add_row(f"at the operating point ({point.positive} from {point.threshold:.3f})", "", "")
        table.add_row("  recall", *_cells(point.recall))
        table.add_row("  precision", *_cells(point.precision))
        table.add_row(
            f"  false-positive rate (cap {point.max_false_positive_rate:.1%})",
            *_cells(point.false_positive_rate),
        )
        table.add_row("  recall if the cap were met on these rows", f"{point.recall_at_cap:.4f}", "")
    return table


def _classes(evaluation: Evaluation) -> Table:
    table = _table("By label", "label", "rows", "precision", "recall", "F1", "F1 interval")
    for label, figures in evaluation.classes.items():
        table.add_row(
            label,
            f"{figures.support:,}",
            f"{figures.precision.value:.4f}",
            f"{figures.recall.value:.4f}",
            *_cells(figures.f1),
        )
    return table


def _confusion(evaluation: Evaluation) -> Table:
    table = _table("Confusion", "true label", *(f"as {label}" for label in evaluation.labels))
    for label, row in zip(evaluation.labels, evaluation.confusion, strict=True):
        table.add_row(label, *(f"{count:,}" for count in row))
    return table


def _sources(evaluation: Evaluation) -> Table:
    table = _table("By source", "source", "rows", "accuracy", "95 % interval", "Matthews")
    for source, part in evaluation.sources.items():
        table.add_row(source, f"{part.rows:,}", *_cells(part.accuracy), f"{part.matthews.value:.4f}")
    return table


def _cells(estimate: Estimate) -> tuple[str, str]:
    return f"{estimate.value:.4f}", f"{estimate.low:.4f} – {estimate.high:.4f}"
