"""The model card: what the model is for and how far to trust it, in Markdown, from the report's facts.

Source: Mitchell et al., "Model cards for model reporting", 2019.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tamis.data.labels import count_labels
from tamis.training.evaluation import Estimate, Evaluation, by_f1
from tamis.training.report.page import FIGURES, title_of
from tamis.training.report.report_data import Background, Facts

_WEAK_DROP = 0.05
_FEW_ROWS = 30
_LABELS_SHOWN = 20
_SPLITS = {
    "grouped": "near duplicates kept together",
    "random": "rows at random, near duplicates in both parts: flatters",
}


def model_card(facts: Facts) -> bytes:
    """Return the card as UTF-8."""
    return ("\n".join(_lines(facts)).rstrip() + "\n").encode("utf-8", "replace")


def _lines(facts: Facts) -> Iterator[str]:
    manifest, background = facts.manifest, facts.background or Background()
    yield f"# {_inline(title_of(facts))}\n"
    yield "Made by Tamis in training; `report.html` beside it has curves, errors and more.\n"
    yield from _section("Intended use", _intended_use(facts))
    yield from _section("Data", _data(facts))
    yield from _section("How well it does", _figures(facts, background))
    yield from _section("Limits", _limits(facts))
    yield from _section("How it was made", _making(facts))
    yield from _section("What the audit found", _findings(background))
    yield f"Format of the artifact: {manifest.format_version}. Checksums of all files are in `manifest.json`."


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    kept = list(lines)
    if kept:
        yield from (f"## {title}\n", *kept, "")


def _intended_use(facts: Facts) -> Iterator[str]:
    labels = ", ".join(_inline(label) for label in facts.manifest.labels[:_LABELS_SHOWN])
    yield f"Classify short texts like those it was trained on as one of: {labels}.\n"
    point = facts.measured.evaluation.operating_point
    if point is not None:
        positive = _inline(point.positive)
        yield (
            f"Its `decision` is {positive} from a probability of {point.threshold:.4f} on, which was chosen "
            f"for at most {point.max_false_positive_rate:.2%} false positives; `label` is simply the more "
            "probable one.\n"
        )
    yield "Not for other languages, other kinds of text, or decisions about people that nobody looks at."


def _data(facts: Facts) -> Iterator[str]:
    data = facts.manifest.data
    counted = sorted(data.train_classes.items(), key=lambda item: -item[1])[:_LABELS_SHOWN]
    classes = ", ".join(f"{_inline(label)} {count:,}" for label, count in counted)
    licence = facts.manifest.training.get("data_licence")
    yield f"- SHA-256 of the file: `{data.sha256}`"
    yield f"- Licence: {_inline(licence) if licence else 'not given'}"
    learned = data.learned_rows if data.learned_rows is not None else data.train_rows
    yield f"- Learned by the saved model: {learned:,} rows"
    yield f"- Learned by the measured model: {data.train_rows:,} of them ({classes})"
    yield f"- Measured on: {data.test_rows:,} others"
    if data.unmeasured:
        yield f"- Learned and not measured, too rare: {_inline(count_labels(data.unmeasured))}"
    yield f"- Split: {data.split} ({_SPLITS.get(data.split, '')}), seed {data.seed}"


def _figures(facts: Facts, background: Background) -> Iterator[str]:
    chosen, other = facts.measured.evaluation, background.other_split
    split = facts.manifest.data.split
    names, columns = [f"{split} split"], [chosen]
    if other is not None:
        names.append("random split" if split == "grouped" else "grouped split")
        columns.append(other)
    yield f"Measured on {_inline(facts.measured.part)}; 95 % intervals.\n"
    yield from _table(["", *names], _overall(columns))
    yield "\nrandom: near duplicates of test texts in the training part flatter. grouped: there are none.\n"
    yield from _table(
        ["label", "rows", "precision", "recall"],
        (
            [_inline(label), f"{one.support:,}", _interval(one.precision), _interval(one.recall)]
            for label, one in by_f1(chosen)[:_LABELS_SHOWN]
        ),
    )
    if chosen.sources:
        yield ""
        parts = [*chosen.sources.items()][:_LABELS_SHOWN]
        rows = ([_inline(name), f"{one.rows:,}", _interval(one.accuracy)] for name, one in parts)
        yield from _table(["source", "rows", "accuracy"], rows)


def _overall(columns: Sequence[Evaluation]) -> Iterator[list[str]]:
    yield ["rows", *(f"{one.rows:,}" for one in columns)]
    for name, field in FIGURES.items():
        yield [name, *(_interval(getattr(one, field)) for one in columns)]
    points = [one.operating_point for one in columns]
    if all(point is not None for point in points):
        yield ["recall, operating point", *(_interval(p.recall) for p in points if p)]
        yield ["false-positive rate there", *(_interval(p.false_positive_rate) for p in points if p)]


def _limits(facts: Facts) -> Iterator[str]:
    evaluation = facts.measured.evaluation
    for one in facts.measured.disguises:
        if one.drop >= _WEAK_DROP:
            yield (
                f"- Disguised texts ({one.name}): recall falls from {one.plain.value:.3f} to "
                f"{one.disguised.value:.3f}"
            )
    for name, part in evaluation.sources.items():
        if part.accuracy.high < evaluation.accuracy.low:
            yield f"- Worse on source {_inline(name)}: accuracy {_interval(part.accuracy)}"
    few = [label for label, one in evaluation.classes.items() if one.support < _FEW_ROWS]
    if few:
        named = ", ".join(_inline(label) for label in few[:_LABELS_SHOWN])
        yield f"- Fewer than {_FEW_ROWS} test rows of {named}: their figures say little"
    yield "- Texts of another time, place or channel than the data's may do worse than any figure here"


def _making(facts: Facts) -> Iterator[str]:
    manifest = facts.manifest
    yield f"- Kind: {manifest.kind}"
    overrides = manifest.training.get("overrides") or {}
    settings = ", ".join(f"{name}={value}" for name, value in overrides.items()) or "defaults"
    yield f"- Settings: {_inline(settings)}"
    yield from _searched(manifest.training.get("search", {}))
    fitted = manifest.calibration
    if "kept" in fitted:
        before, after = fitted["calibration_error"]
        what = "kept" if fitted["kept"] else "rolled back"
        if before is None or after is None:
            yield "- Calibration: none, for lack of distinct texts to hold out"
        else:
            yield f"- Calibration: {what}; calibration error {before:.4f} before, {after:.4f} after"
    libraries = ", ".join(f"{name} {version}" for name, version in manifest.libraries.items())
    yield f"- Libraries: {libraries}"


def _searched(search: Mapping[str, Any]) -> Iterator[str]:
    if not search:
        return
    line = f"- Search: the best of {search['tried']} trials, cross-validated on the training part alone"
    if search["gain"]:
        gain, error = search["gain"]
        line += f": {search['objective']} lower than the defaults' by {gain:.4f} (standard error {error:.4f})"
    yield line


def _findings(background: Background) -> Iterator[str]:
    for one in background.findings:
        yield f"- **{one.severity}** {_inline(one.what)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{estimate.value:.4f} ({estimate.low:.4f} – {estimate.high:.4f})"


def _inline(text: object) -> str:
    """Return text that Markdown and the HTML made of it show as it is, on one line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in line)
