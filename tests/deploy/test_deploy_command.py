"""`tamis deploy`: what it prints and writes, judged by the tools that will read it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tamis.cli.deploy import TARGETS
from tests.support.artifacts import save_model
from tests.support.command_server import tamis_command

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model at models/spam."""
    folder = tmp_path_factory.mktemp("workplace")
    save_model(folder / "models" / "spam")
    return folder


def deploy(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = tamis_command("deploy", *arguments)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def accepted(*command: str | Path, folder: Path) -> None:
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("target", list(TARGETS))
def test_deploy_writes_every_file_filled_in(workplace: Path, tmp_path: Path, target: str):
    run = deploy(workplace, target, "models/spam", "-o", str(tmp_path / "out"), "--name", "mail-filter")
    assert run.returncode == 0, run.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(TARGETS[target].files)
    for path in (tmp_path / "out").iterdir():
        assert "@@" not in path.read_text("utf-8")
    assert run.stderr.startswith("Next: ")


def test_deploy_prints_one_file_that_can_be_redirected(workplace: Path):
    run = deploy(workplace, "nginx", "models/spam", "--host", "api.example.org")
    assert run.stdout.startswith("# nginx in front of Tamis")
    assert "server_name api.example.org;" in run.stdout


def test_deploy_replaces_files_only_when_forced(workplace: Path, tmp_path: Path):
    (tmp_path / "tamis.rules.yml").write_text("mine")
    refused = deploy(workplace, "prometheus", "-o", str(tmp_path))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "prometheus.yml").exists()
    assert deploy(workplace, "prometheus", "-o", str(tmp_path), "--force").returncode == 0


@pytest.mark.parametrize(
    "wrong", [("--name", "a b"), ("--prefix", "x;"), ("--prefix", "/a b"), ("--host", "a;b"), ("--port", "0")]
)
def test_deploy_rejects_values_that_break_a_template(workplace: Path, wrong: tuple[str, str]):
    assert deploy(workplace, "nginx", "models/spam", *wrong).returncode == 2


def test_deploy_without_a_model_names_the_remedy(tmp_path: Path):
    run = deploy(tmp_path, "nginx", "models/nothing")
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert "tamis train" in run.stderr


def test_dockerfile_passes_hadolint(workplace: Path, tmp_path: Path):
    deploy(workplace, "docker", "-o", str(tmp_path))
    accepted(BIN / "hadolint", "--failure-threshold", "style", "Dockerfile", folder=tmp_path)


def test_compose_file_passes_its_schema(workplace: Path, tmp_path: Path):
    deploy(workplace, "compose", "-o", str(tmp_path))
    schema = ("--builtin-schema", "vendor.compose-spec")
    accepted(BIN / "check-jsonschema", *schema, "compose.yaml", folder=tmp_path)


@pytest.mark.parametrize("version", ["1.30", "1.33"])
def test_kubernetes_manifests_pass_their_schemas(workplace: Path, tmp_path: Path, version: str):
    deploy(workplace, "kubernetes", "-o", str(tmp_path))
    validate = (BIN / "kubernetes-validate", "--strict", "--kubernetes-version", version)
    accepted(*validate, "kubernetes.yaml", folder=tmp_path)


def test_kubernetes_manifests_refer_to_one_another(workplace: Path):
    text = deploy(workplace, "kubernetes").stdout
    items = {item["kind"]: item for item in yaml.safe_load_all(text)}
    deployment = items["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    for selector in (
        deployment["selector"]["matchLabels"],
        items["Service"]["spec"]["selector"],
        items["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert items["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "spam"
    [container] = deployment["template"]["spec"]["containers"]
    assert {"startupProbe", "livenessProbe", "readinessProbe", "lifecycle"} <= container.keys()
    grace = deployment["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > 5 + 1 + 10 + 10  # preStop, drain, stop, closing the store


def test_settings_of_the_templates_exist(workplace: Path, tmp_path: Path):
    sample = (Path(__file__).parents[2] / ".env.sample").read_text("utf-8")
    known = set(re.findall(r"^#(TAMIS_\w+)=", sample, re.MULTILINE))
    for target in TARGETS:
        text = deploy(workplace, target).stdout
        used = set(re.findall(r"TAMIS_[A-Z_]+[A-Z]", text))
        assert used <= known | {"TAMIS_STORE"}, target


def test_dashboard_is_a_grafana_document(workplace: Path):
    board = json.loads(deploy(workplace, "grafana").stdout)
    assert board["title"] == "Tamis: spam"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) >= 12
