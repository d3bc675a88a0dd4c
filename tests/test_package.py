"""The package as it is installed: light to import, typed, and able to predict with nothing but its base."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import tamis
from tests.support.artifacts import save_model
from tests.support.samples import messages, write_csv

ROOT = Path(__file__).parents[1]
HEAVY = {"numpy", "scipy", "sklearn", "pandas", "matplotlib", "keras", "jax", "onnxruntime"} | {
    "apsw",
    "msgspec",
    "rich",
    "safetensors",
    "starlette",
    "uvicorn",
}
TRAINING_ONLY = {"scipy", "sklearn", "pandas", "matplotlib", "keras", "jax"}


def test_the_public_names_are_these():
    assert sorted(tamis.__all__) == [
        "AsyncClient",
        "Classifier",
        "Client",
        "Example",
        "Prediction",
        "TamisError",
        "__version__",
        "train",
    ]
    assert all(getattr(tamis, name) is not None for name in tamis.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'nothing'"):
        tamis.nothing  # noqa: B018 - the access is the test


def test_the_version_is_the_projects():
    assert tamis.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
def test_help_loads_no_heavy_library(arguments: list[str]):
    program = f"""
import sys
sys.argv = ["tamis", *{arguments!r}]
import tamis.cli
try:
    if {arguments!r}: tamis.cli.main()
except SystemExit as done:
    assert not done.code
print(sorted({HEAVY!r} & sys.modules.keys()), file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stderr == "[]\n"


def test_serving_loads_no_training_library(tmp_path: Path):
    folder = save_model(tmp_path / "spam").parent
    program = f"""
import sys
from tamis import Classifier
import tamis.service.app, tamis.storage
Classifier.load({str(folder)!r}).predict("hello")
print(sorted({TRAINING_ONLY!r} & sys.modules.keys()))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_requirements_name_no_index():
    for path in (ROOT / "requirements").glob("*.txt"):
        assert "://" not in path.read_text()
        assert "--hash=sha256:" in path.read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT]
    subprocess.run([sys.executable, "-m", *build], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_its_type_marker(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert "tamis/py.typed" in names
    files = [path for path in (ROOT / "src/tamis").rglob("*.*") if path.suffix not in {".pyc", ".pyo"}]
    assert {"index.html", "page.js", "page.css"} < {path.name for path in files}
    assert {str(path.relative_to(ROOT / "src")) for path in files} <= set(names)


def test_the_wheel_alone_predicts_in_an_empty_environment(wheel: Path, tmp_path: Path):
    folder = save_model(tmp_path / "models" / "spam").parent
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty/bin/python"
    pip = [python, "-m", "pip", "--quiet", "install"]
    pinned = subprocess.run(
        [*pip, "--require-hashes", "-r", ROOT / "requirements/serve.txt"], capture_output=True, text=True
    )
    if "No matching distribution" in pinned.stderr or "ConnectionError" in pinned.stderr:
        pytest.skip("no package index can be reached")
    assert pinned.returncode == 0, pinned.stderr
    subprocess.run([*pip, "--no-deps", wheel], check=True)
    told = [tmp_path / "empty/bin/tamis", "predict", folder, "WIN a camera now", "--json"]
    answer = json.loads(subprocess.run(told, capture_output=True, check=True, cwd=tmp_path).stdout)
    assert answer["top"]["label"] == "spam"
    listed = json.loads(
        subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True).stdout
    )
    assert not {"keras", "scikit-learn", "scipy", "pandas", "matplotlib", "jinja2"} & {
        item["name"] for item in listed
    }
    write_csv(messages(60), tmp_path / "x.csv")
    trained = [tmp_path / "empty/bin/tamis", "train", "x.csv", "-o", "m"]  # natively: without scikit-learn
    ran = subprocess.run(trained, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert (
        "report.html and MODEL_CARD.md are not written: that needs pip install 'tamis[train]'" in ran.stderr
    )
    assert not (tmp_path / "m/1/report.html").exists()
    for arguments, extra in (
        (["train", "x.csv", "-o", "m", "--model", "lstm"], "lstm"),
        (["migrate", "--store", "cassandra://127.0.0.1/keyspace"], "cassandra"),
    ):
        refused = subprocess.run(
            [tmp_path / "empty/bin/tamis", *arguments], capture_output=True, text=True, cwd=tmp_path
        )
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert f"pip install 'tamis[{extra}]'" in refused.stderr


def test_a_wheel_that_is_built_without_rust_answers_the_same(tmp_path: Path):
    folder = save_model(tmp_path / "models" / "spam").parent
    build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT]
    subprocess.run([sys.executable, "-m", *build], check=True, env=os.environ | {"TAMIS_COMPILED": "0"})
    (built,) = tmp_path.glob("*-none-any.whl")
    zipfile.ZipFile(built).extractall(tmp_path / "site")
    program = f"""
import json, tamis
from tamis import Classifier
from tamis.native import is_compiled
texts = ["WIN a camera now", "see you at the library", "", "☃ Émile"]
answers = [found.scores["spam"] for found in Classifier.load({str(folder)!r}).predict_many(texts)]
print(json.dumps([tamis.__file__, is_compiled(), answers]))
"""
    here, there = (
        json.loads(
            subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=env).stdout
        )
        for env in (os.environ, os.environ | {"PYTHONPATH": str(tmp_path / "site")})
    )
    assert there[0].startswith(str(tmp_path)) and not there[1]
    assert there[2] == pytest.approx(here[2], abs=1e-15)


BROKEN = "echo 'error: rustup could not choose a version of cargo to run' >&2; exit 1"
TOO_OLD = "echo 'error: lock file version 4 requires `-Znext-lockfile-bump`' >&2; exit 101"


@pytest.mark.parametrize("script", [BROKEN, TOO_OLD, "exit 7"])
def test_wheel_is_built_with_a_warning_when_cargo_fails(tmp_path: Path, script: str):
    environ = fake_cargo(tmp_path / "bin", script)
    run = build_wheel(tmp_path / "out", environ)
    assert run.returncode == 0, run.stdout + run.stderr
    said = run.stdout + run.stderr
    assert "cargo failed: " + (script.split("'")[1] if "'" in script else "exit code 7") in said
    assert "installing without the native library" in said
    assert "Traceback" not in said
    (built,) = (tmp_path / "out").glob("*-none-any.whl")
    assert not any(name.endswith(".so") for name in zipfile.ZipFile(built).namelist())


def test_wheel_is_refused_in_one_line_when_it_must_be_compiled(tmp_path: Path):
    environ = fake_cargo(tmp_path / "bin", BROKEN) | {"TAMIS_COMPILED": "1"}
    run = build_wheel(tmp_path / "out", environ)
    assert run.returncode != 0
    assert "TAMIS_COMPILED=1, but cargo failed: error: rustup could not choose" in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr


def test_lock_file_is_of_a_version_that_distributions_read():
    lock = tomllib.loads((ROOT / "native/Cargo.lock").read_text())
    assert lock["version"] == 3, "cargo older than 1.78 reads no version 4"


def fake_cargo(folder: Path, script: str) -> dict[str, str]:
    """Return an environment whose first cargo is a shell script."""
    folder.mkdir()
    (folder / "cargo").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "cargo").chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if name != "TAMIS_COMPILED"}
    return environ | {"PATH": f"{folder}{os.pathsep}{environ['PATH']}"}


def build_wheel(folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What scripts/wheels.sh builds; it runs `twine check --strict` itself."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    environ = os.environ | {"DIST": str(folder), "BIN": str(Path(sys.executable).parent)}
    run = subprocess.run(
        [ROOT / "scripts/wheels.sh"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def test_release_has_an_sdist_and_a_pure_wheel(release: Path):
    assert len(list(release.glob("*.tar.gz"))) == 1
    [pure] = release.glob("*-none-any.whl")
    assert not any(name.endswith(".so") for name in zipfile.ZipFile(pure).namelist())


def test_release_names_the_oldest_linux_of_the_native_library(release: Path):
    if shutil.which("cargo") is None:
        pytest.skip("no Rust here")
    [linux] = release.glob("*manylinux*.whl")
    assert "tamis/native_library.so" in zipfile.ZipFile(linux).namelist()


def test_wheels_hold_licence_notice_and_settings_sample(release: Path):
    for wheel in release.glob("*.whl"):
        archive = zipfile.ZipFile(wheel)
        names = {name.rpartition("/")[2]: name for name in archive.namelist()}
        for name in ("LICENSE", "NOTICE"):
            assert archive.read(names[name]) == (ROOT / name).read_bytes()
        assert archive.read(names["env.sample"]) == (ROOT / ".env.sample").read_bytes()


def test_changelog_has_the_version_in_the_common_form():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)
    assert [name for name, _ in versions][:1] == ["Unreleased"]
    assert {"0.1.0", tamis.__version__} <= {name for name, date in versions if date}
    headings = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
