"""The report's tables about data, mistakes and features. Whatever comes from data is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tamis.data.findings import Finding
from tamis.training.evaluation import Evaluation
from tamis.training.report.html import escape, interval, row_of, said, shortened, table
from tamis.training.report.report_data import Measured
from tamis.training.robustness import Perturbation
from tamis.training.trainers.base import TopFeature

_FEATURES_SHOWN = 15
_MOST_LABELS = 12  # with all their features; of more labels the page would grow without an end
_MOST_SOURCES = 50


def sources(evaluation: Evaluation) -> str:
    """Return each source's figures, where there are several."""
    rows = [
        [escape(name), f"{one.rows:,}", interval(one.accuracy), interval(one.matthews), interval(one.roc_auc)]
        for name, one in _largest(evaluation.sources)
    ]
    head = ["source", "rows", "accuracy", "Matthews correlation", "ROC AUC"]
    return "<h3>By source</h3>" + table(head, rows) if rows else ""


def _largest(parts: Mapping[str, Evaluation]) -> list[tuple[str, Evaluation]]:
    """Return the parts with most rows, in their order."""
    kept = sorted(parts, key=lambda name: -parts[name].rows)[:_MOST_SOURCES]
    return [(name, one) for name, one in parts.items() if name in kept]


def disguises(found: Sequence[Perturbation]) -> str:
    """Return what disguised texts cost in recall."""
    if not found:
        return ""
    rows = [[escape(one.name), interval(one.disguised, 3), f"{one.drop:+.3f}"] for one in found]
    return (
        f"<div><h3>Disguised: recall of {found[0].texts:,} texts</h3>"
        + table(["how", f"recall (as they are: {found[0].plain.value:.3f})", "drop"], rows)
        + said("Three in ten characters or words are changed, or all capitals; always the same ones.")
        + "</div>"
    )


def telling(features: Mapping[str, Sequence[TopFeature]]) -> str:
    """Return the heaviest features of each label as bars, the rest on demand."""
    if not any(features.values()):
        return ""
    heaviest = max(one.weight for found in features.values() for one in found)
    columns = [
        f"<div><h3>Evidence for {escape(label)}</h3>{_bars(found[:_FEATURES_SHOWN], heaviest)}"
        f"{_more(found[_FEATURES_SHOWN:], heaviest)}</div>"
        for label, found in [*features.items()][:_MOST_LABELS]
    ]
    words = (
        "Features of largest weight. ␣ is a blank, at the edge of a word; shapes write X for capitals, x for "
        "small letters, d for digits, runs cut at four."
    )
    return said(words) + row_of(*columns)


def _bars(features: Sequence[TopFeature], heaviest: float) -> str:
    rows = [
        [
            f"<code>{escape(one.name.replace(' ', '␣') if one.family == 'n-grams' else one.name)}</code>",
            escape(one.family),
            f"{one.weight:.2f}",
            f'<span class="bar" style="width:{max(1, round(80 * one.weight / heaviest))}px"></span>',
        ]
        for one in features
    ]
    return table(["feature", "kind", "weight", ""], rows, words=2)


def _more(features: Sequence[TopFeature], heaviest: float) -> str:
    if not features:
        return ""
    return f"<details><summary>{len(features)} more</summary>{_bars(features, heaviest)}</details>"


def findings(found: Sequence[Finding]) -> str:
    """Return what the audit has to say."""
    rows = [
        [
            f'<span class="{one.severity}">{one.severity}</span>',
            f'{escape(one.what)}<br><span class="faint">{escape(one.advice)}</span>',
        ]
        for one in found
    ]
    return table(["audit", "finding"], rows, words=2) if rows else ""


def tried(search: Mapping[str, Any]) -> str:
    """Return what a search for settings tried, the chosen settings in bold; nothing without a search."""
    if not search:
        return ""
    shown: list[Mapping[str, Any]] = search["trials"]
    rows = [
        [
            str(trial["number"]),
            escape(trial["kind"]),
            _settings(trial["settings"], best=trial["number"] == search["best"]),
            escape(trial["outcome"]),
            str(trial["folds"]),
            _or_dash(trial["log_loss"], ".4f") + (f" ± {trial['spread']:.4f}" if trial["spread"] else ""),
            _or_dash(trial["accuracy"], ".4f"),
            _or_dash(trial["size_bytes"], ",d"),
        ]
        for trial in shown
    ]
    words = (
        f"{search['tried']:,} trials, {len(shown)} of them below, each on folds of the training part: the "
        f"test part had no say. They are compared by the {search['objective']} of calibrated answers; ± is "
        "its spread over folds. A trial takes the lead where it is lower by more than two standard errors "
        "of the difference, text by text, and is given up where it is higher by as much. The best of many "
        "is flattered a little here, not in the figures above."
    )
    if search["gain"]:
        gain, error = search["gain"]
        words += f" The best is lower than the defaults by {gain:.4f}, with a standard error of {error:.4f}."
    elif search["best"] == 1:
        words += " No trial was so much lower than the defaults: they stand."
    head = ["trial", "kind", "settings", "outcome", "folds", search["objective"], "accuracy", "bytes"]
    return said(words) + table(head, rows, words=4)


def _settings(settings: Mapping[str, str], *, best: bool) -> str:
    named = escape(", ".join(f"{name}={value}" for name, value in settings.items()) or "defaults")
    return f"<b>{named}</b>" if best else named


def _or_dash(figure: float | None, form: str) -> str:
    return "–" if figure is None else format(figure, form)


def mistakes(measured: Measured) -> str:
    """Return the texts that the model was surest about and wrong."""
    if not measured.mistakes:
        return said("There is none.")
    shown = measured.mistakes
    all_wrong = sum(
        count
        for place, row in enumerate(measured.evaluation.confusion)
        for column, count in enumerate(row)
        if place != column
    )
    rows = [
        [
            str(one.row),
            escape(one.label),
            escape(one.predicted),
            f"{one.probability:.3f}",
            shortened(one.text) + (f' <span class="faint">{escape(one.source)}</span>' if one.source else ""),
        ]
        for one in shown
    ]
    words = (
        f"{len(shown)} of {all_wrong:,}, the most confident first. Some may be wrong labels: look them up."
    )
    return said(words) + table(["row", "label", "predicted", "by", "text"], rows, words=5, told=True)
