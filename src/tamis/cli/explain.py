"""`tamis explain`."""

from __future__ import annotations

import click
from rich import box
from rich.table import Table
from rich.text import Text

from tamis.cli.terminal import echo, make_console
from tamis.models.explanation import Explanation

_BAR_WIDTH = 24
_TOKENS_SHOWN = 20
_FAINT = 0.15  # of the strongest token: below this a token is left uncoloured
_FOR, _AGAINST = "green", "red"
_WHOLE = {"exact": "(length, capitals, digits)", "occlusion": "(tokens acting together)"}
_BASE = {"exact": "(intercept)", "occlusion": "(the empty text)"}


@click.command(epilog='Example: tamis explain models/spam "WIN a FREE phone, text NOW"')
@click.argument("model", metavar="MODEL[@VERSION]")
@click.argument("text", metavar='"A TEXT"')
@click.option("--label", metavar="LABEL", help="The label to explain.  [default: the most probable]")
@click.option("--json", "as_json", is_flag=True, help="Print the contributions as JSON.")
def command(model: str, text: str, *, label: str | None, as_json: bool) -> None:
    """Say what each token of TEXT contributes to MODEL's answer.

    For a linear model the contributions are exact: with the intercept they sum to the logit. Any
    other model is asked again without each token; such differences need not add up, and the line
    "tokens acting together" holds what is missing.
    """
    from tamis.cli.terminal import decoded_argument
    from tamis.inference.classifier import Classifier

    explanation = Classifier.load(model).explain(decoded_argument(text), label)
    if as_json:
        import msgspec

        echo(msgspec.json.format(msgspec.json.encode(explanation), indent=2).decode())
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
