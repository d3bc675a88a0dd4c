"""The command line: parse options, call the code of the other packages, print.

Progress goes to standard error, results to standard output. Exit codes: 0 success, 1 failure (one line on
standard error), 2 usage error. A command's module is imported when the command is called, and imports what
takes long (storage, service, training) inside its functions, so that every `--help` takes .2 s.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys

import click

from tamis import __version__
from tamis.cli.terminal import echo, escape_unencodable_output
from tamis.errors import TamisError

COMMANDS = {
    "new": "Start a project: sample data, Makefile, settings, CI.",
    "fetch": "Fetch a public data set.",
    "audit": "Report problems in labelled data; write a repaired copy.",
    "prepare": "Split labelled data into a training and a test part.",
    "train": "Train a model and save it as the next version.",
    "evaluate": "Evaluate a model on labelled texts.",
    "cross-validate": "Cross-validate hyper-parameters, grouped and at random.",
    "retrain": "Train the next version on data and feedback; compare.",
    "compare": "Test whether two models differ significantly.",
    "predict": "Classify texts.",
    "score": "Classify whole files: CSV, JSON lines, Parquet, Arrow.",
    "explain": "Show what each token of a text contributes to its label.",
    "serve": "Serve a model over HTTP.",
    "deploy": "Write files for nginx, systemd, Docker, Kubernetes, Grafana.",
    "import-keras": "Import a Keras 2 model (HDF5, tokenizer, metadata).",
    "models": "List, show, export, promote or remove model versions.",
    "keys": "Create, list or revoke API keys.",
    "log": "Query, count or delete logged calls.",
    "feedback": "Import, export and list true labels from callers.",
    "settings": "Show the settings in force and where each comes from.",
    "migrate": "Create or upgrade a store's tables.",
}

_SHARED_MODULES = {
    "new": "deploy",
    "fetch": "prepare",
    "cross-validate": "evaluate",
    "compare": "evaluate",
    "explain": "predict",
    "import-keras": "models",
    "migrate": "settings",
}
"""Commands that live in another command's module, as a function of their own name."""


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is called, not when help is shown."""

    # in the order of the work, which click would sort by name
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f"tamis.cli.{_SHARED_MODULES.get(cmd_name, name)}")
        command = getattr(module, name if cmd_name in _SHARED_MODULES else "command")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # with a suggestion, from the table: no command is imported for it
        if args and args[0] not in COMMANDS:
            import difflib

            nearest = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    # from the table: click would import every command for the first line of its help
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Example: tamis train data/sms-spam.csv -o models/spam",
)
@click.version_option(__version__, prog_name="tamis")
def cli() -> None:
    """Turn a labelled CSV into a production text-classification API."""


def main() -> None:
    """Run the command line; turn each expected error into one line and an exit code."""
    # first of all: an error message may need it, too
    escape_unencodable_output()
    # all matrices are small: OpenBLAS's threads would wait for one another longer than they compute
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    atexit.register(gc.freeze)  # else Python collects all objects at exit: half a second after a network
    try:
        cli.main(standalone_mode=False)
    # standalone_mode=False: otherwise click handles its own errors, and those of Tamis end in a traceback
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.UsageError as misuse:
        misuse.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_failed("stopped; no partial output was written"))
    except click.ClickException as failed:
        sys.exit(_failed(failed.format_message()))
    except TamisError as failed:
        sys.exit(_failed(str(failed)))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the output has exited: there is nothing to report
        sys.exit(1)
    except OSError as failed:
        sys.exit(_failed(f"{failed.filename or 'input or output'}: {failed.strerror or failed}"))


def _failed(message: str) -> int:
    echo(f"tamis: {message}", err=True)
    return 1
