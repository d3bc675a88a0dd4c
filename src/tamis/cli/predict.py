"""`tamis predict` and `tamis explain`: texts in, labels and the contributions of tokens out."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from tamis.cli.options import columns_of, read_options, text_file_options
from tamis.cli.terminal import decoded_argument, echo, escaped_in_line, make_console, print_json
from tamis.types import Prediction

if TYPE_CHECKING:
    from tamis.inference.classifier import Classifier
    from tamis.models.scorer import Explanation


# predictions are printed while later lines are still being read
_BATCH_TEXTS = 1024


@click.command(epilog='Example: tamis predict models/spam "WIN a FREE phone, text NOW"')
@click.argument("model", metavar="MODEL[@VERSION]")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "--file",
    metavar="FILE",
    help="Table with a text column (.csv, .tsv, .jsonl, .xlsx, .parquet), or one text per line; - is "
    "standard input.",
)
@click.option("--one-text", is_flag=True, help="Join the arguments with spaces to one text.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--echo-input", is_flag=True, help="Print each text after its prediction.")
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
    """Classify each TEXT with MODEL, or the texts of a file.

    A single - reads one text per line from standard input.
    """
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
    while batch := list(islice(inputs, _BATCH_TEXTS)):
        for text, prediction in zip(batch, classifier.predict_many(batch), strict=True):
            if as_json:
                echo(_as_json(text, prediction, echo_input))
            else:
                line = f"{escaped_in_line(prediction.label)}\t{prediction.score:.4f}"
                echo(f"{line}\t{' '.join(text.split())}" if echo_input else line)


def _from_file(path: Path, options: Mapping[str, Any], classifier: Classifier) -> Iterator[str]:
    """Yield the text column of a table, or the lines of any other file."""
    from tamis.data.reader import is_table, read_texts

    # standard input has no name that would show its format
    if str(path) == "-":
        yield from _lines(sys.stdin.buffer, "standard input", options["encoding"])
    elif is_table(path) or options["text_column"] or options["delimiter"]:
        found = read_options(options, remembered=columns_of(classifier))
        yield from read_texts(path, found, log=lambda line: echo(line, err=True))
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
            # a byte-order mark is only at the start of a file
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except LookupError:
        raise click.BadParameter("not a known encoding", param_hint="--encoding") from None
    except UnicodeError as failed:
        place = f", line {number}" if number else ""
        actual = getattr(failed, "encoding", encoding)
        problem = f"{name}{place}: not valid {actual}; name the encoding with --encoding"
        raise click.ClickException(problem) from None


def _as_json(text: str, prediction: Prediction, echo_input: bool) -> str:
    answer = {
        "input": text if echo_input else None,
        "prediction": prediction.scores,
        "top": {"label": prediction.label, "value": prediction.score},
        "decision": prediction.decision,
    }
    return msgspec.json.encode(answer).decode()


_BAR_WIDTH = 24
_TOKENS_SHOWN = 20
_FAINT = 0.15  # of the strongest token: below this a token is left uncoloured
_FOR, _AGAINST = "green", "red"
_WHOLE = {"exact": "(length, capitals, digits)", "occlusion": "(tokens acting together)"}
_BASE = {"exact": "(intercept)", "occlusion": "(the empty text)"}


@click.command(epilog='Example: tamis explain models/spam "WIN a FREE phone, text NOW"')
@click.argument("model", metavar="MODEL[@VERSION]")
@click.argument("text", metavar="TEXT")
@click.option("--label", metavar="LABEL", help="Label to explain.  [default: the most probable]")
@click.option("--json", "as_json", is_flag=True, help="Print the contributions as JSON.")
def explain(model: str, text: str, *, label: str | None, as_json: bool) -> None:
    """Show what each token of TEXT contributes to its label.

    For a linear model the contributions are exact: with the intercept they sum to the logit. Other models
    score the text again without each token; these differences need not add up, and the line "tokens acting
    together" has the remainder.
    """
    from tamis.inference.classifier import Classifier

    explanation = Classifier.load(model).explain(decoded_argument(text), label)
    if as_json:
        print_json(explanation)
    else:
        show_explanation(explanation)


def show_explanation(explanation: Explanation) -> None:
    """Print the coloured text, then a bar for each of the strongest tokens, then the sum."""
    console = make_console()
    console.print(
        Text(f"{explanation.label} {explanation.probability:.1%}", "bold"),
        Text(f"logit {explanation.logit:+.3f}, {explanation.method}", "dim"),
    )
    console.print(_coloured(explanation))
    console.print(_bars(explanation))
    if explanation.families:
        console.print(_families(explanation))


def _coloured(explanation: Explanation) -> Text:
    strongest = max((abs(token.contribution) for token in explanation.tokens), default=0.0)
    text = Text(_printable(explanation.text))
    for token in explanation.tokens:
        if abs(token.contribution) > _FAINT * strongest:
            text.stylize(_colour(token.contribution), token.start, token.end)
    return text


def _bars(explanation: Explanation) -> Table:
    shown = sorted(explanation.tokens, key=lambda token: -abs(token.contribution))[:_TOKENS_SHOWN]
    # shown as one row, so that the rows add up to the logit
    rest = sum(token.contribution for token in explanation.tokens) - sum(t.contribution for t in shown)
    rows = [(token.text, token.contribution) for token in sorted(shown, key=lambda token: token.start)]
    if len(shown) < len(explanation.tokens):
        rows.append((f"({len(explanation.tokens) - len(shown)} weaker tokens)", rest))
    rows += [(_WHOLE[explanation.method], explanation.whole), (_BASE[explanation.method], explanation.base)]
    table = _table("token", f"evidence for {explanation.label}")
    largest = max(abs(value) for _, value in rows) or 1.0
    for name, value in rows:
        table.add_row(Text(_printable(name)), f"{value:+.4f}", _bar(value / largest))
    table.add_section()
    table.add_row("sum: the logit", f"{explanation.logit:+.4f}", "")
    return table


def _families(explanation: Explanation) -> Table:
    table = _table("features", "contribution")
    largest = max(abs(value) for value in explanation.families.values()) or 1.0
    for name, value in explanation.families.items():
        table.add_row(name, f"{value:+.4f}", _bar(value / largest))
    return table


def _table(first: str, second: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(first, max_width=40, no_wrap=True)
    table.add_column(second, justify="right")
    table.add_column("")
    return table


def _bar(share: float) -> Text:
    """Return a bar that grows from the middle: to the right for the label, to the left against it."""
    length = round(abs(share) * _BAR_WIDTH / 2)
    half = _BAR_WIDTH // 2
    drawn = f"{'':{half}}│{'█' * length}" if share >= 0 else f"{'█' * length:>{half}}│"
    return Text(drawn, _colour(share))


def _colour(contribution: float) -> str:
    return _FOR if contribution > 0 else _AGAINST


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text)
