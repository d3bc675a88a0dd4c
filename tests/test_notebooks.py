"""The notebooks run from top to bottom, in order and in one namespace, on a small sample of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.samples import messages, write_csv

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def cells(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]
    return found


def run(name: str) -> dict[str, Any]:
    """Execute a notebook's code cells; return the names that they leave behind."""
    names: dict[str, Any] = {}
    for cell in cells(name):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{name}, {cell['id']}", "exec"), names)
    return names


def test_the_preparation_gives_the_arrays_it_speaks_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "data").mkdir()
    write_csv(messages(300), tmp_path / "data" / "sms-spam.csv")
    monkeypatch.chdir(tmp_path)
    names = run("prepare_dataset.ipynb")
    assert names["X"].shape == (300, 300)
    assert names["X"].max() < 280
    assert names["y"].tolist()[:2] == [[1, 0], [0, 1]]
    assert len(names["X_train"]) + len(names["X_test"]) == 300
    assert not set(names["groups"][names["train"]]) & set(names["groups"][names["test"]])
    assert np.array_equal(names["X"][0][names["X"][0] > 0], names["sequences"][0])
    assert "0% of them with a twin" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_no_output_is_kept_in_a_notebook(path: Path):
    for cell in cells(path.name):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
