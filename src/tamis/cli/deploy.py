"""`tamis deploy` and `tamis new`: files made from templates, for a model's surroundings or a new project."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import click

from tamis import __version__
from tamis.cli.terminal import echo


@dataclass(frozen=True)
class _Target:
    """The files of one kind of deployment, and the next step."""

    files: tuple[str, ...]
    next_step: str


TARGETS = {
    "nginx": _Target(("nginx.conf",), "copy it to /etc/nginx/conf.d/, then: nginx -t && nginx -s reload"),
    "systemd": _Target(
        ("tamis.service", "tamis.socket"),
        "copy both to /etc/systemd/system/, then: systemctl enable --now tamis.socket tamis.service",
    ),
    "docker": _Target(
        ("Dockerfile", ".dockerignore"),
        "docker build -t @@{name} . && docker run --read-only --tmpfs /tmp"
        " -v @@{name}:/var/lib/tamis -p 127.0.0.1:@@{port}:8000 @@{name}",
    ),
    "compose": _Target(("compose.yaml", "Dockerfile", ".dockerignore"), "docker compose up --build --wait"),
    "kubernetes": _Target(
        ("kubernetes.yaml",),
        "kubectl create secret generic @@{name}-store --from-literal=url=cassandra://HOST/KEYSPACE,"
        " then: kubectl apply -f kubernetes.yaml",
    ),
    "prometheus": _Target(
        ("prometheus.yml", "tamis.rules.yml"), "promtool check config prometheus.yml, then reload Prometheus"
    ),
    "env": _Target(("env.sample",), "copy it to .env, and uncomment what you change"),
    "grafana": _Target(("tamis-dashboard.json",), "Grafana: Dashboards, New, Import"),
}


_LISTEN_TLS = """listen 443 ssl http2;
    ssl_certificate /etc/letsencrypt/live/@@{host}/fullchain.pem;
    ssl_certificate_key /etc/letsencrypt/live/@@{host}/privkey.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tamis:1m;
    add_header Strict-Transport-Security "max-age=31536000" always;"""

_REDIRECT = """server {
    listen 80;
    server_name @@{host};
    return 301 https://$host$request_uri;
}

"""


class _Template(string.Template):
    """A template whose fields are `@@{name}`: nginx, systemd and shells have `$` for themselves."""

    delimiter = "@@"


@click.command(epilog="Example: tamis deploy nginx --host classify.example.org --tls > tamis.conf")
@click.argument("target", metavar="TARGET", type=click.Choice(list(TARGETS)))
@click.argument("model", default="models/spam")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER", help="Output folder.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--name", metavar="NAME", help="Name of the service.  [default: the model's name]")
@click.option(
    "--host", default="classify.example.org", show_default=True, metavar="NAME", help="Public host name."
)
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=8000, show_default=True, metavar="N", help="Local port."
)
@click.option(
    "--prefix",
    default="",
    metavar="PATH",
    help="Path under which the proxy serves all routes, such as /classify.",
)
@click.option("--tls", is_flag=True, help="nginx: listen on 443 with a certificate; redirect port 80.")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=2,
    show_default=True,
    metavar="N",
    help="Number of worker processes.",
)
def command(
    target: str, model: str, output: Path | None, *, force: bool, **options: str | int | bool | None
) -> None:
    """Print or write deployment files for MODEL (default: models/spam).

    TARGET is nginx, systemd, docker, compose, kubernetes, prometheus, grafana or env (all settings with
    their defaults). Without --output the files are printed one after the other.
    """
    values = _values(model, options)
    described = TARGETS[target]
    files = {name: render(name, values) for name in described.files}
    if output is None:
        for name, text in files.items():
            echo(f"# --- {name}\n{text}" if len(files) > 1 else text.rstrip("\n"))
        return
    _write(files, output, is_forced=force)
    echo(f"Next: {_Template(described.next_step).substitute(values)}", err=True)


def render(file: str, values: Mapping[str, str]) -> str:
    """Return one template with its fields filled in."""
    text = resources.files("tamis.cli").joinpath("deploy_templates", file.lstrip(".")).read_text("utf-8")
    return _Template(text).substitute(values)


def _values(model: str, options: Mapping[str, str | int | bool | None]) -> dict[str, str]:
    """Return the fields of the templates; an extra is named for a model that needs one."""
    from tamis.artifact import find_version, open_artifact

    # the version is pinned: a new one must not change what a restarted container serves
    folder, version = (path := find_version(model)).parent, path.name
    kind = open_artifact(path).manifest.kind
    name = str(options["name"] or folder.name).lower().replace("_", "-")
    prefix = str(options["prefix"]).rstrip("/")
    _check(name, prefix, str(options["host"]))
    # networks are served by ONNX Runtime
    extra = "" if kind == "linear" else "onnx"
    host = str(options["host"])
    # the folder as a path in the build context, where a model from elsewhere must be copied first
    here, inside = Path.cwd().resolve(), folder.resolve()
    in_context = inside.relative_to(here) if inside.is_relative_to(here) else Path("models") / folder.name
    return {
        "name": name,
        "model_name": folder.name,
        "model_folder": in_context.as_posix(),
        "model_version": version,
        "host": host,
        "port": str(options["port"]),
        "prefix": prefix,
        "listen": _LISTEN_TLS.replace("@@{host}", host) if options["tls"] else "listen 80;",
        "redirect": _REDIRECT.replace("@@{host}", host) if options["tls"] else "",
        "workers": str(options["workers"]),
        "tamis_version": __version__,
        "extras": f"[{extra}]" if extra else "",
        "store_extras": f"[cassandra,{extra}]" if extra else "[cassandra]",
    }


def _check(name: str, prefix: str, host: str) -> None:
    """Refuse what would break out of a template."""
    # names of Kubernetes, Docker and systemd, which all allow this
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", name):
        raise click.BadParameter("use at most 40 lower-case letters, digits and -", param_hint="--name")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", host):
        raise click.BadParameter("must be a host name", param_hint="--host")
    if prefix and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", prefix):
        raise click.BadParameter("must look like /classify", param_hint="--prefix")


def _write(files: Mapping[str, str], folder: Path, *, is_forced: bool) -> None:
    """Write all files, or none if one exists already."""
    # all or none: half of a set of files would not fit the other half
    existing = [name for name in files if (folder / name).exists()]
    if existing and not is_forced:
        raise click.ClickException(f"{folder / existing[0]} exists; use --force to replace it")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
        echo(folder / name)


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
def new(folder: Path) -> None:
    """Create a project in FOLDER, which must be new or empty; the model gets the folder's name.

    The project has 60 sample texts, a Makefile, a README, .env with the settings of the service, and a
    workflow for continuous integration.
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
