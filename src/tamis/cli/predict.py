"""`tamis predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice

import click
import msgspec

from tamis.records import Prediction

_BATCH_TEXTS = 1024


@click.command(epilog='Example: tamis predict models/spam "WIN a FREE phone, text NOW"')
@click.argument("model", metavar="MODEL[@VERSION]")
@click.argument("texts", nargs=-1, metavar='"A TEXT" …')
@click.option(
    "--file", "file", type=click.File("rb"), metavar="TEXTS.txt", help="One text a line; - is standard input."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--echo-input", is_flag=True, help="Repeat each text beside its answer.")
def command(
    model: str, texts: tuple[str, ...], file: Iterable[bytes] | None, *, as_json: bool, echo_input: bool
) -> None:
    """Classify TEXTS, or the lines of a file, with MODEL; a single - reads standard input."""
    from tamis.inference.classifier import Classifier

    if (file is None) == (not texts):
        raise click.UsageError("give texts, or --file TEXTS.txt, or - for standard input: one of them")
    if texts == ("-",):
        texts, file = (), sys.stdin.buffer
    classifier = Classifier.load(model)
    inputs = iter(texts) if file is None else _lines(file)
    while batch := list(islice(inputs, _BATCH_TEXTS)):
        for text, prediction in zip(batch, classifier.predict_many(batch), strict=True):
            click.echo(
                _as_json(text, prediction, echo_input) if as_json else _as_line(text, prediction, echo_input)
            )


def _lines(file: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            name = getattr(file, "name", "input")
            raise click.ClickException(f"{name}, line {number}: not UTF-8; convert it with iconv") from None


def _as_line(text: str, prediction: Prediction, echo_input: bool) -> str:
    cells = [prediction.label, f"{prediction.score:.4f}"]
    return "\t".join([*cells, " ".join(text.split())] if echo_input else cells)


def _as_json(text: str, prediction: Prediction, echo_input: bool) -> str:
    answer = {
        "input": text if echo_input else None,
        "prediction": prediction.scores,
        "top": {"label": prediction.label, "value": prediction.score},
        "decision": prediction.decision,
    }
    return msgspec.json.encode(answer).decode()
