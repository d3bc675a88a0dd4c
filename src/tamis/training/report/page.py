"""The report as one HTML file that needs nothing else: no network, no script.

Nothing in it tells when or where it was made, so the same model has the same report. Knows the
facts and how they read; `charts` draws, `html` escapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

from tamis.data.labels import count_labels
from tamis.training.evaluation import Evaluation, by_f1, cap_verdict
from tamis.training.report.charts import (
    calibration_chart,
    learning_chart,
    length_chart,
    precision_recall_chart,
    roc_chart,
    threshold_chart,
)
from tamis.training.report.html import escape, folded, interval, row_of, said, section, table
from tamis.training.report.report_data import Background, Facts
from tamis.training.report.tables import disguises, findings, mistakes, sources, telling, tried

_CONFUSION_LABELS_SHOWN = 20
_EXTREMES = 10
_SPLITS = {
    "grouped": "near duplicates kept together",
    "random": "rows at random, near duplicates in both parts",
}


def report_page(facts: Facts) -> bytes:
    """Return the report as UTF-8; a lone surrogate in a text becomes a question mark."""
    style = files("tamis.training.report").joinpath("page.css").read_text(encoding="utf-8")
    title = escape(title_of(facts))
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{style}</style></head><body>"
        f'<h1>{title}</h1><p class="sub">{escape(facts.measured.part)}</p>'
        f"{''.join(_sections(facts))}</body></html>\n"
    )
    return page.encode("utf-8", "replace")


def title_of(facts: Facts) -> str:
    """Return the kind of model and its labels."""
    labels = facts.manifest.labels
    named = ", ".join(labels) if len(labels) <= 6 else f"{len(labels)} labels"
    return f"{facts.manifest.kind} model: {named}"


def _sections(facts: Facts) -> Iterator[str]:
    measured, background = facts.measured, facts.background or Background()
    yield _tiles(measured.evaluation)
    yield section("Figures", _figures(facts, background), _by_label(measured.evaluation))
    yield section(
        "Ranking and thresholds",
        row_of(roc_chart(measured), precision_recall_chart(measured)),
        row_of(threshold_chart(measured), _operating_point(facts)),
    )
    yield section("Confusion", _confusion(measured.evaluation))
    yield section("Calibration", row_of(calibration_chart(measured), _calibration(facts)))
    curve = learning_chart(background.curve)
    yield section("Learning curve", row_of(curve, _curve_words(background))) if curve else ""
    yield section(
        "By source, length and obfuscation",
        sources(measured.evaluation),
        row_of(length_chart(measured), disguises(measured.disguises)),
    )
    yield section("Top features", telling(background.telling))
    yield section("The data", findings(background.findings), _data(facts))
    yield section("Most confident errors", mistakes(measured))
    yield section("Search for settings", tried(facts.manifest.training.get("search", {})))
    yield section("How it was made", _settings(facts))


def _tiles(evaluation: Evaluation) -> str:
    point = evaluation.operating_point
    metrics = [
        ("accuracy", evaluation.accuracy),
        ("Matthews correlation", evaluation.matthews),
        ("average precision", evaluation.average_precision),
    ]
    if point is not None:
        metrics.append((f"recall of {point.positive} at the operating point", point.recall))
        metrics.append(("false-positive rate there", point.false_positive_rate))
    tiles = "".join(
        f'<div class="tile"><b>{metric.value:.4f}</b><span>{escape(name)}</span>'
        f"<span>95 %: {metric.low:.4f} – {metric.high:.4f}</span></div>"
        for name, metric in metrics
        if metric is not None
    )
    return f'<div class="tiles">{tiles}</div>'


def _figures(facts: Facts, background: Background) -> str:
    """Return the overall figures, those of the other split beside them where it was tried."""
    chosen, other = facts.measured.evaluation, background.other_split
    split = facts.manifest.data.split
    head, columns = ["metric", "value and 95 % interval"], [chosen]
    words = (
        "Proportions have Wilson's interval, the others one from resampling whole near-duplicate clusters, "
        "label by label."
    )
    if other is not None:
        second = "random" if split == "grouped" else "grouped"
        head, columns = ["metric", f"{split} split", f"{second} split"], [chosen, other]
        words += (
            f" The {split} split ({_SPLITS[split]}) is the one of this model. The {second} split "
            f"({_SPLITS[second]}) trained the same settings once more, for comparison."
        )
    rows = [
        [escape(name), *(interval(getattr(one, field)) for one in columns)] for name, field in FIGURES.items()
    ]
    return table(head, [["rows", *(f"{one.rows:,}" for one in columns)], *rows]) + said(words)


FIGURES = {
    "accuracy": "accuracy",
    "Matthews correlation": "matthews",
    "macro F1": "macro_f1",
    "ROC AUC": "roc_auc",
    "average precision": "average_precision",
    "calibration error": "calibration_error",
    "log loss": "log_loss",
}
"""Names of the overall figures, and where an evaluation has them."""


def _by_label(evaluation: Evaluation) -> str:
    """Return the metrics of each label; of many, the worst and the best, the rest folded."""
    rows = [
        [escape(label), f"{one.support:,}", interval(one.precision), interval(one.recall), interval(one.f1)]
        for label, one in by_f1(evaluation)
    ]
    unmeasured = [escape(label) for label, one in evaluation.classes.items() if not one.support]
    absent = f"<p>Not measured, without a row here: {', '.join(unmeasured)}.</p>" if unmeasured else ""
    if len(rows) <= 2 * _EXTREMES:
        return "<h3>By label, lowest F1 first</h3>" + _label_table(rows) + absent
    rest = rows[_EXTREMES:-_EXTREMES]
    return (
        f"<h3>By label: the {_EXTREMES} of lowest F1</h3>"
        + _label_table(rows[:_EXTREMES])
        + f"<h3>The {_EXTREMES} of highest F1</h3>"
        + _label_table(rows[: -_EXTREMES - 1 : -1])
        + folded(f"The {len(rest):,} labels between them", _label_table(rest))
        + absent
    )


def _label_table(rows: Sequence[Sequence[str]]) -> str:
    return table(["label", "rows", "precision", "recall", "F1"], rows)


def _operating_point(facts: Facts) -> str:
    point, chosen = facts.measured.evaluation.operating_point, facts.manifest.operating_point
    if point is None or chosen is None:
        return ""
    words = (
        f"The operating point flags {point.positive} from a probability of {point.threshold:.4f}. It was "
        f"chosen on {chosen.chosen_on}, for the highest recall at a false-positive rate of at most "
        f"{point.max_false_positive_rate:.2%}."
    )
    if point.recall is not None and point.false_positive_rate is not None:
        words += (
            f" Here: recall {point.recall.value:.2%}, false positives {point.false_positive_rate.value:.2%}."
        )
    if point.recall_at_cap is not None:
        words += f" A threshold fitted to these very rows would have reached {point.recall_at_cap:.2%}."
    return said(f"{words} {cap_verdict(point)}")


def _confusion(evaluation: Evaluation) -> str:
    labels = evaluation.labels
    if len(labels) > _CONFUSION_LABELS_SHOWN:
        pairs = [[escape(one.label), escape(one.predicted), f"{one.rows:,}"] for one in evaluation.confused]
        return table(["label", "predicted as", "rows"], pairs, words=2) if pairs else said("No confusion.")
    head = "".join(f"<th>as {escape(label)}</th>" for label in labels)
    body = "".join(
        f"<tr><th>{escape(label)}</th>{''.join(_cell(place, column, n) for column, n in enumerate(row))}</tr>"
        for place, (label, row) in enumerate(zip(labels, evaluation.confusion, strict=True))
    )
    return (
        said("Rows are true labels, columns are the most probable ones.")
        + f'<div class="scroll"><table class="confusion"><tr><th></th>{head}</tr>{body}</table></div>'
    )


def _cell(row: int, column: int, count: int) -> str:
    kind = "hit" if row == column else "miss" if count else ""
    return f'<td class="{kind}">{count:,}</td>'


def _calibration(facts: Facts) -> str:
    fitted: dict[str, Any] = facts.manifest.calibration
    if "calibration_error" not in fitted:
        return ""
    rows = [
        [name, *("–" if value is None else f"{value:.4f}" for value in fitted[field])]
        for name, field in (("calibration error", "calibration_error"), ("log loss", "log_loss"))
    ]
    words = (
        "The calibration helped on texts that it was not fitted on, and is kept."
        if fitted["kept"]
        else "The calibration did not help on texts that it was not fitted on: rolled back."
    )
    return "<div>" + said(words) + table(["cross-validated in training", "before", "after"], rows) + "</div>"


def _curve_words(background: Background) -> str:
    rows = [
        [
            f"{point.rows:,}",
            interval(point.accuracy),
            "–" if point.matthews is None else f"{point.matthews:.4f}",
        ]
        for point in background.curve
    ]
    return (
        "<div>"
        + table(["texts", "accuracy", "Matthews"], rows, words=0)
        + said("Smaller parts lie within larger ones; all are measured on the same test part.")
        + "</div>"
    )


def _data(facts: Facts) -> str:
    data = facts.manifest.data
    largest = sorted(data.train_classes.items(), key=lambda item: -item[1])
    rows = [[escape(label), f"{count:,}"] for label, count in largest]
    learned = data.learned_rows if data.learned_rows is not None else data.train_rows
    words = f"The saved model has learned {learned:,} rows. "
    if data.has_learned_all_rows:
        words += (
            f"Every metric here is of a model that had learned only the {data.train_rows:,} rows of the "
            f"training part, measured on the other {data.test_rows:,}; the saved one was then fitted on all."
        )
    else:
        words += f"It was measured on {data.test_rows:,} others."
    if data.unmeasured:
        words += " Learned and not measured, too rare: " + count_labels(data.unmeasured) + "."
    head = "<h3>Training part</h3>"
    shown, rest = rows[: 2 * _EXTREMES], rows[2 * _EXTREMES :]
    more = folded(f"{len(rest):,} more labels", table(["label", "rows"], rest)) if rest else ""
    return head + said(words) + table(["label", "rows"], shown) + more


def _settings(facts: Facts) -> str:
    manifest = facts.manifest
    rows = [
        ("data, SHA-256", manifest.data.sha256),
        ("licence of the data", manifest.training.get("data_licence") or "not given"),
        ("split", f"{manifest.data.split}, test part {manifest.data.test_size:g}, seed {manifest.data.seed}"),
        ("rows to learn from, to test", f"{manifest.data.train_rows:,}, {manifest.data.test_rows:,}"),
        *((f"setting {name}", value) for name, value in manifest.training.get("overrides", {}).items()),
        *manifest.libraries.items(),
    ]
    return table(["", ""], [[escape(name), f"<code>{escape(value)}</code>"] for name, value in rows], words=2)
