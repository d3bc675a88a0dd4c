"""Renders the report as one HTML file and the model card as Markdown, from templates.

Whatever comes from data is escaped by the environment, not by the templates: a text is never HTML and
never Markdown. Nothing depends on the clock, so the same model and data give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tamis.data.labels import count_labels
from tamis.normalization import canonical
from tamis.training.evaluation import Evaluation, by_f1, cap_verdict, operating_point_metrics, overall_metrics
from tamis.training.metrics import Estimate
from tamis.training.report.charts import (
    calibration_chart,
    learning_chart,
    length_chart,
    precision_recall_chart,
    roc_chart,
    threshold_chart,
)
from tamis.training.report.report_data import Diagnostics, ReportData
from tamis.training.report.svg import Chart
from tamis.training.robustness import has_adversary

_MAX_TEXT_CHARACTERS = 280
_MAX_MATRIX_LABELS = 20  # a wider table does not fit a page; beyond, the largest confusions are listed
_MAX_TITLE_LABELS = 6
_EXTREMES = 10
_MAX_SOURCES = 50
_FEW_ROWS = 30  # below it the interval of a share may be a third of the scale wide
_MARKDOWN = frozenset("\\`*_[]<>|#")


def render_report(data: ReportData) -> bytes:
    """Return the report as UTF-8; an unpaired surrogate in a text becomes a question mark."""
    return _render(_html(), "report.html.j2", data)


def render_card(data: ReportData) -> bytes:
    """Return the model card as UTF-8 (Mitchell et al., "Model cards for model reporting", 2019)."""
    return _render(_markdown(), "model_card.md.j2", data)


def figure(chart: Chart) -> str:
    """Return one chart as HTML."""
    module: Any = _html().get_template("chart.svg.j2").module
    return str(module.figure(chart)).strip()


def _render(environment: Environment, template: str, data: ReportData) -> bytes:
    return environment.get_template(template).render(_view(data)).encode("utf-8", "replace")


# once per process: an environment keeps the templates that it has compiled, .1 s for both pages
@cache
def _html() -> Environment:
    return _environment(autoescape=True, finalize=_printable)


@cache
def _markdown() -> Environment:
    # HTML escapes would be shown as they are in Markdown; `finalize` escapes what Markdown gives a meaning
    environment = _environment(autoescape=False, finalize=_plain_markdown)
    environment.filters["code"] = lambda text: Markup(f"`{str(text).replace('`', chr(39))}`")
    return environment


def _environment(**options: Any) -> Environment:
    environment = Environment(
        loader=PackageLoader("tamis.training.report"),
        undefined=StrictUndefined,  # a name that the view lacks is an error, not an empty cell
        optimized=False,  # folding constants is a sixth of the time to compile what is rendered once
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters |= {
        "count": lambda number: f"{number:,}",
        "decimal": lambda number, digits=4: "–" if number is None else f"{number:.{digits}f}",
        "interval": _interval,
        "excerpt": _excerpt,
        "named": count_labels,
    }
    return environment


def _printable(value: object) -> object:
    """Replace characters that no browser shows; autoescape handles the others."""
    # Markup was escaped before, by a macro or a filter
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "".join(c if c.isprintable() or c in " \n" else "\ufffd" for c in value)


def _plain_markdown(value: object) -> object:
    """Return text on one line that Markdown, and the HTML made of it, show as it is."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    line = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return "".join(f"\\{c}" if c in _MARKDOWN else c for c in line)


def _interval(estimate: Estimate | None) -> str:
    """Return a metric with its interval, a dash if it is undefined: `0.9812 (0.9741 – 0.9865)`."""
    if estimate is None:
        return "–"
    return f"{estimate.value:.4f} ({estimate.low:.4f} – {estimate.high:.4f})"


def _excerpt(text: str) -> str:
    """Return a text in canonical form, as the model reads it, cut to a length that a table can bear."""
    line = canonical(text)
    return line if len(line) <= _MAX_TEXT_CHARACTERS else f"{line[: _MAX_TEXT_CHARACTERS - 1]}…"


def _view(data: ReportData) -> Mapping[str, Any]:
    """Return what the templates show, computed once for both."""
    manifest, measured = data.manifest, data.measured
    evaluation, diagnostics = measured.evaluation, data.diagnostics or Diagnostics()
    largest = sorted(evaluation.sources, key=lambda name: -evaluation.sources[name].rows)[:_MAX_SOURCES]
    return {
        "data": data,
        "manifest": manifest,
        "measured": measured,
        "evaluation": evaluation,
        "diagnostics": diagnostics,
        "title": _title(data),
        "overall": _overall(evaluation, diagnostics.other_split),
        "splits": _split_names(data, diagnostics.other_split),
        "point_metrics": _point_metrics(evaluation),
        "other_point_metrics": _point_metrics(diagnostics.other_split),
        "cap_verdict": cap_verdict(evaluation.operating_point) if evaluation.operating_point else "",
        "labels": by_f1(evaluation),
        "extremes": _EXTREMES,
        "unmeasured": [label for label, one in evaluation.classes.items() if not one.support],
        "few_rows": [label for label, one in evaluation.classes.items() if one.support < _FEW_ROWS],
        "has_matrix": len(evaluation.labels) <= _MAX_MATRIX_LABELS,
        # those with most rows, in their order: a column named as the source may have a value for each row
        "sources": [(name, one) for name, one in evaluation.sources.items() if name in largest],
        "perturbations": measured.perturbations if has_adversary(evaluation.labels) else (),
        # all rows less the diagonal: the listed errors are only the most confident ones
        "errors": sum(map(sum, evaluation.confusion)) - sum(r[i] for i, r in enumerate(evaluation.confusion)),
        "training_classes": Counter(manifest.data.train_classes).most_common(),
        "learned_rows": manifest.data.learned_rows or manifest.data.train_rows,
        "search": manifest.training.get("search") or None,
        "overrides": manifest.training.get("overrides") or {},
        "choice": manifest.training.get("choice") or None,
        "licence": manifest.training.get("data_licence") or "not given",
        "charts": {
            "roc": roc_chart(measured),
            "precision_recall": precision_recall_chart(measured),
            "thresholds": threshold_chart(measured),
            "calibration": calibration_chart(measured),
            "learning": learning_chart(diagnostics.curve),
            "length": length_chart(measured),
        },
    }


def _title(data: ReportData) -> str:
    """Return the model, its version, its kind and its labels."""
    labels = data.manifest.labels
    named = ", ".join(labels) if len(labels) <= _MAX_TITLE_LABELS else f"{len(labels)} labels"
    model = f"{data.model_name}: " if data.model_name else ""
    return f"{model}{data.manifest.kind} model for {named}"


def _point_metrics(evaluation: Evaluation | None) -> list[tuple[str, Estimate | None]]:
    point = evaluation.operating_point if evaluation is not None else None
    return [] if point is None else [*operating_point_metrics(point)]


def _split_names(data: ReportData, other: Evaluation | None) -> list[str]:
    split = data.manifest.data.split
    return [split] if other is None else [split, "random" if split == "grouped" else "grouped"]


def _overall(evaluation: Evaluation, other: Evaluation | None) -> list[tuple[str, list[Estimate | None]]]:
    """Return each overall metric, and beside it that of the other split if it was tried."""
    columns = [evaluation] if other is None else [evaluation, other]
    rows = zip(*(overall_metrics(one) for one in columns), strict=True)
    return [(cells[0][0], [estimate for _, estimate in cells]) for cells in rows]
