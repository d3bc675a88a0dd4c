"""Benchmarks run: those that docs/scale.md names, with its options on little data, and that of the LSTM."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_LITTLE = {
    "benchmarks/scale.py": ["--kinds", "linear", "--seconds", "0.001"],
    "benchmarks/scoring.py": ["--rows", "2000", "--rounds", "1"],
    "benchmarks/ray_nodes.py": ["--rows", "2000", "--nodes", "1"],
}
_IN_A_CLUSTER_OF_THEIR_OWN = {"benchmarks/cassandra_nodes.py": "tests/cassandra/test_capacity.py"}


def commands() -> list[list[str]]:
    """Return the words of each command of the page, without those that another test runs."""
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    found = dict.fromkeys(re.findall(r"`python (benchmarks/[^`]+)`", page))
    return [words for words in map(str.split, found) if words[0] not in _IN_A_CLUSTER_OF_THEIR_OWN]


def on_little_data(words: list[str]) -> list[str]:
    """Return the words with options after them that take their place."""
    return [*words, *(["--full", "1000", "2000"] if "--full" in words else _LITTLE[words[0]])]


def marked(words: list[str]) -> object:
    marks = [pytest.mark.ray, pytest.mark.soak] if "ray" in " ".join(words) else []
    return pytest.param(words, marks=marks, id=" ".join(words).removeprefix("benchmarks/"))


@pytest.mark.parametrize("words", [*map(marked, commands())])
def test_benchmark_of_the_page_prints_its_figures(words: list[str]):
    if "ray" in " ".join(words):
        pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
    run = subprocess.run(
        [sys.executable, *on_little_data(words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert re.search(r"[1-9].*(CPU second|rows/s|predicted)", run.stdout)


def test_page_names_every_benchmark_of_scale():
    assert {words[0] for words in commands()} == set(_LITTLE)


@pytest.mark.soak
def test_lstm_gradients_of_both_sides_are_equal():
    pytest.importorskip("jax", reason="the extra `lstm` is not installed")
    words = ["benchmarks/lstm_gradient.py", "--steps", "12", "--texts", "4", "--rounds", "1"]
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr  # it compares the two gradients before it measures
    assert re.search(r"^ +12 +[\d.]+ ms +[\d.]+ ms +[\d.]+ +[\d.]+-[\d.]+$", run.stdout, re.MULTILINE)
