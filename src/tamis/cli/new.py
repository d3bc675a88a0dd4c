"""`tamis new`: a folder with sample data, a Makefile, settings and CI, that works at once."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import click

from tamis.cli.terminal import echo

_FILES = {
    "README.md": "README.md",
    "Makefile": "Makefile",
    "env": ".env",
    "gitignore": ".gitignore",
    "ci.yml": ".github/workflows/ci.yml",
    "messages.csv": "data/messages.csv",
}
"""The template's files, and where each goes: names with a dot would be lost in packaging."""

_PLACEHOLDER = "@@{name}"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@click.command(epilog="Example: tamis new my-project && cd my-project && make train")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """Start a project in FOLDER, which must be new or empty; the folder's name is the model's name.

    It gets 60 sample texts, a Makefile, a README, .env with the service's settings, and a workflow for
    continuous integration.
    """
    name = folder.resolve().name
    if not _NAME.fullmatch(name):
        raise click.BadParameter(
            f"{name!r} cannot name a model: use letters, digits, - and _", param_hint="FOLDER"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.ClickException(f"{folder} exists and is not an empty folder; name another")
    template = resources.files("tamis.cli").joinpath("project_template")
    for source, target in _FILES.items():
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        contents = template.joinpath(source).read_text(encoding="utf-8")
        path.write_text(contents.replace(_PLACEHOLDER, name), encoding="utf-8")
        echo(f"wrote {path}")
    echo(f"\nNext:\n  cd {folder}\n  make train\n  make serve")
