"""Tables of metrics for a terminal; long names of labels and sources are cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from tamis.cli.terminal import make_console, shortened_name
from tamis.training.evaluation import (
    ClassMetrics,
    Evaluation,
    by_f1,
    cap_verdict,
    operating_point_metrics,
    overall_metrics,
)
from tamis.training.metrics import Estimate
from tamis.training.robustness import Perturbation, has_adversary

_MAX_MATRIX_LABELS = 5
_MAX_LABELS = 20  # of more labels, only the best and the worst are shown
_EXTREMES = 10
_NAME_WIDTH = 22


def show_evaluation(evaluation: Evaluation, title: str) -> None:
    """Print the tables of an evaluation: overall metrics, operating point, labels, confusion, sources."""
    console = make_console()
    console.print(Text(title, "bold"), soft_wrap=True)
    console.print(_overall(evaluation))
    for table in _classes(evaluation):
        console.print(table)
    if len(evaluation.labels) <= _MAX_MATRIX_LABELS or evaluation.confused:
        console.print(_confusion(evaluation))
    if evaluation.sources:
        console.print(_sources(evaluation))


def show_robustness(perturbations: Sequence[Perturbation], labels: Sequence[str]) -> None:
    """Print the recall that obfuscated texts cost, for labels such as spam."""
    # authors have no reason to hide a topic or a language from the model
    if not perturbations or not has_adversary(labels):
        return
    title = f"Obfuscated texts: recall of {perturbations[0].texts:,} texts"
    table = metric_table(title, "change", "unchanged", "changed", "95 % interval", "drop")
    for change in perturbations:
        recall = f"{change.plain.value:.4f}"
        table.add_row(change.name, recall, *cells(change.disguised), f"{change.drop:+.4f}")
    make_console().print(table)


def metric_table(title: str, *columns: str) -> Table:
    """Return an empty table: the first column holds names, the others numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def _overall(evaluation: Evaluation) -> Table:
    table = metric_table(f"{evaluation.rows:,} rows", "metric", "value", "95 % interval")
    for name, estimate in overall_metrics(evaluation):
        table.add_row(name, *cells(estimate))
    point = evaluation.operating_point
    if point is not None:
        table.add_section()
        table.add_row(f"operating point: {_shortened(point.positive)} from {point.threshold:.3f}", "", "")
        for name, estimate in operating_point_metrics(point):
            table.add_row(f"  {name}", *cells(estimate))
        at_cap = "–" if point.recall_at_cap is None else f"{point.recall_at_cap:.4f}"
        table.add_row("  recall if the cap were met on these rows", at_cap, "")
        table.caption, table.caption_justify = cap_verdict(point) or None, "left"
    return table


def _classes(evaluation: Evaluation) -> Iterator[Table]:
    """Yield a table of all labels; for many, one of the lowest and one of the highest F1."""
    if len(evaluation.labels) <= _MAX_LABELS:
        yield _class_table(
            "By label",
            # a label without rows and predictions has no metric
            [
                (label, found)
                for label, found in evaluation.classes.items()
                if found.support or found.precision
            ],
        )
        return
    measured = by_f1(evaluation)
    yield _class_table(f"The {_EXTREMES} labels of lowest F1", measured[:_EXTREMES])
    rest = max(0, len(measured) - 2 * _EXTREMES)
    best = _class_table(f"The {_EXTREMES} of highest F1", measured[-_EXTREMES:][::-1])
    best.caption = f"{rest:,} more between them: see the report, or --json" if rest else None
    best.caption_justify = "left"
    yield best


def _class_table(title: str, classes: Sequence[tuple[str, ClassMetrics]]) -> Table:
    table = metric_table(title, "label", "rows", "precision", "recall", "F1", "95 % interval of F1")
    for label, metrics in classes:
        precision, recall = cells(metrics.precision)[0], cells(metrics.recall)[0]
        table.add_row(_shortened(label), f"{metrics.support:,}", precision, recall, *cells(metrics.f1))
    return table


def _confusion(evaluation: Evaluation) -> Table:
    # a larger matrix does not fit the terminal: the most frequent pairs instead
    if len(evaluation.labels) > _MAX_MATRIX_LABELS:
        table = metric_table("Labels most often confused", "label", "predicted", "rows")
        for pair in evaluation.confused[:_EXTREMES]:
            table.add_row(_shortened(pair.label), _shortened(pair.predicted), f"{pair.rows:,}")
        return table
    table = metric_table("Confusion", "label", *(f"as {_shortened(label)}" for label in evaluation.labels))
    for label, row in zip(evaluation.labels, evaluation.confusion, strict=True):
        # a label may have no rows in this part of the data
        if any(row):
            table.add_row(_shortened(label), *(f"{count:,}" for count in row))
    return table


def _sources(evaluation: Evaluation) -> Table:
    table = metric_table("By source", "source", "rows", "accuracy", "95 % interval", "Matthews")
    for source, metrics in evaluation.sources.items():
        table.add_row(
            _shortened(source), f"{metrics.rows:,}", *cells(metrics.accuracy), cells(metrics.matthews)[0]
        )
    return table


def cells(estimate: Estimate | None) -> tuple[str, str]:
    """Return the cells of a metric and its interval; dashes if it is undefined."""
    if estimate is None:
        return "–", "–"
    return f"{estimate.value:.4f}", f"{estimate.low:.4f} – {estimate.high:.4f}"


def _shortened(name: str) -> str:
    """Return the name of a label or source, cut to the width of its column."""
    return shortened_name(name, _NAME_WIDTH)
