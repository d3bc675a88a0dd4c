"""`tamis predict`."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import msgspec

from tamis.cli.options import text_file_options
from tamis.cli.terminal import decoded_argument, echo, escaped_in_line
from tamis.types import Prediction

if TYPE_CHECKING:
    from tamis.inference.classifier import Classifier

_BATCH_TEXTS = 1024


@click.command(epilog='Example: tamis predict models/spam "WIN a FREE phone, text NOW"')
@click.argument("model", metavar="MODEL[@VERSION]")
@click.argument("texts", nargs=-1, metavar='"A TEXT" …')
@click.option(
    "--file",
    metavar="FILE",
    help="A table (.csv, .tsv, .jsonl, .xlsx, .parquet) with a text column, or one text per line; "
    "- is standard input.",
)
@click.option("--one-text", is_flag=True, help="Join the arguments with blanks to one text.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option("--echo-input", is_flag=True, help="Repeat each text after its prediction.")
@text_file_options
def command(
    model: str,
    texts: tuple[str, ...],
    file: str | None,
    *,
    one_text: bool,
    as_json: bool,
    echo_input: bool,
    **options: Any,
) -> None:
    """Classify TEXTS, or those of a file, with MODEL; a single - reads lines of standard input."""
    from tamis.inference.classifier import Classifier

    if (file is None) == (not texts):
        raise click.UsageError("give texts, or --file FILE, or - for standard input: one of them")
    if one_text and not texts:
        raise click.UsageError("--one-text joins texts that are given as arguments")
    classifier = Classifier.load(model)
    if file is not None:
        inputs = _from_file(Path(file), options, classifier)
    elif texts == ("-",):
        inputs = _lines(sys.stdin.buffer, "standard input", options["encoding"])
    else:
        arguments = [decoded_argument(text) for text in texts]
        inputs = iter([" ".join(arguments)] if one_text else arguments)
    form = _as_json if as_json else _as_line
    while batch := list(islice(inputs, _BATCH_TEXTS)):
        for text, prediction in zip(batch, classifier.predict_many(batch), strict=True):
            echo(form(text, prediction, echo_input))


def _from_file(path: Path, options: Mapping[str, Any], classifier: Classifier) -> Iterator[str]:
    """Yield the text column of a table, or the lines of any other file."""
    from tamis.cli.options import columns_of, read_options
    from tamis.data.reader import is_table, read_texts

    if str(path) == "-":
        yield from _lines(sys.stdin.buffer, "standard input", options["encoding"])
    elif is_table(path) or options["text_column"] or options["delimiter"]:
        found = read_options(options, remembered=columns_of(classifier))
        yield from read_texts(path, found, say=lambda line: echo(line, err=True))
    else:
        with path.open("rb") as file:
            yield from _lines(file, str(path), options["encoding"])


def _lines(file: BinaryIO, name: str, encoding: str | None) -> Iterator[str]:
    """Yield the lines as soon as they arrive, in UTF-8 unless another encoding is named."""
    number = 0
    try:
        if encoding is not None:
            yield from (line.rstrip("\r\n") for line in io.TextIOWrapper(file, encoding=encoding))
            return
        for number, line in enumerate(file, 1):
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except LookupError:
        raise click.BadParameter("not a known encoding", param_hint="--encoding") from None
    except UnicodeError as failed:
        place = f", line {number}" if number else ""
        actual = getattr(failed, "encoding", encoding)
        problem = f"{name}{place}: not valid {actual}; name the encoding with --encoding"
        raise click.ClickException(problem) from None


def _as_line(text: str, prediction: Prediction, echo_input: bool) -> str:
    cells = [escaped_in_line(prediction.label), f"{prediction.score:.4f}"]
    return "\t".join([*cells, " ".join(text.split())] if echo_input else cells)


def _as_json(text: str, prediction: Prediction, echo_input: bool) -> str:
    answer = {
        "input": text if echo_input else None,
        "prediction": prediction.scores,
        "top": {"label": prediction.label, "value": prediction.score},
        "decision": prediction.decision,
    }
    return msgspec.json.encode(answer).decode()
