"""`tamis explain`."""

from __future__ import annotations

import click

from tamis.cli.terminal import echo


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
    from tamis.cli.explanation_page import show_explanation
    from tamis.cli.streams import decoded_argument
    from tamis.inference.classifier import Classifier

    explanation = Classifier.load(model).explain(decoded_argument(text), label)
    if as_json:
        import msgspec

        echo(msgspec.json.format(msgspec.json.encode(explanation), indent=2).decode())
    else:
        show_explanation(explanation)
