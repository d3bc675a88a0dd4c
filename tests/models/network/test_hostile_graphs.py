"""A network's graph that reads other files, loops or takes for ever is refused when it is loaded."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tamis.artifact import open_artifact
from tamis.errors import ArtifactError
from tamis.models.network.scorer import OnnxScorer, check_structure
from tests.support.networks import save_network, small_lstm

Change = Callable[[onnx.ModelProto], object]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_network(small_lstm(epochs=1), tmp_path_factory.mktemp("saved") / "spam")


@pytest.fixture
def path(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "spam" / "1"))


def put_graph(path: Path, data: bytes) -> None:
    """Replace the graph, with the checksum that belongs to it."""
    (path / "model.onnx").write_bytes(data)
    manifest = json.loads((path / "manifest.json").read_bytes())
    manifest["files"]["model.onnx"] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    (path / "manifest.json").write_text(json.dumps(manifest))


def predict(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `tamis predict` in `folder`."""
    command = [sys.executable, "-m", "tamis", "predict", str(path), "win a prize"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def outside(model: onnx.ModelProto) -> None:
    """Keep the first tensor in a file of the working directory."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="outside.bin")


def outside_attribute(model: onnx.ModelProto) -> None:
    """Keep a node's tensor in a file of the working directory."""
    value = numpy_helper.from_array(np.zeros(2, np.float32))
    value.ClearField("raw_data")
    value.external_data.add(key="location", value="outside.bin")
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=value))


def endless_loop(model: onnx.ModelProto) -> None:
    """Let a loop without an end stand before the answer."""
    signal = helper.make_tensor_value_info("signal", TensorProto.FLOAT, None)
    proceed = helper.make_tensor_value_info("proceed", TensorProto.BOOL, [])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["proceed"], ["on"]),
            helper.make_node("Identity", ["signal"], ["out"]),
        ],
        "body",
        [helper.make_tensor_value_info("index", TensorProto.INT64, []), proceed, signal],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("out", TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    last = model.graph.node[-1]
    last.output[0] = "before"
    model.graph.node.append(helper.make_node("Loop", ["", "always", "before"], ["probabilities"], body=body))


def function(model: onnx.ModelProto) -> None:
    """Define a function, whose nodes the graph's own do not show."""
    node = helper.make_node("Identity", ["x"], ["y"])
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], [node], model.opset_import))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (outside, "keeps tensors in another file"),
        (outside_attribute, "keeps tensors in another file"),
        (endless_loop, "has a loop or a branch"),
        (function, "defines functions"),
    ],
)
def test_hostile_graph_is_one_line_of_the_command(path: Path, tmp_path: Path, change: Change, message: str):
    model = onnx.load(path / "model.onnx")
    change(model)
    put_graph(path, model.SerializeToString())
    (tmp_path / "outside.bin").write_bytes(b"\0" * 100_000)
    ran = predict(path, tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert message in ran.stderr and len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("of_input", [True, False], ids=["in the run", "in the optimiser"])
def test_graph_that_takes_too_long_is_refused(path: Path, of_input: bool):
    size, steps = 1_500, 2_000
    nodes = [
        helper.make_node(
            "ConstantOfShape", ["shape"], ["w"], value=numpy_helper.from_array(np.ones(1, np.float32))
        ),
        helper.make_node("Cast", ["tokens"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers"], ["sum"], keepdims=0),
        helper.make_node("Add", ["w", "sum"] if of_input else ["w", "w"], ["y0"]),
        *(helper.make_node("MatMul", [f"y{i}", "w"], [f"y{i + 1}"]) for i in range(steps)),
        helper.make_node("Add", [f"y{steps}", "sum"], ["probabilities"]),
    ]
    graph = onnx.load(path / "model.onnx").graph
    shape = numpy_helper.from_array(np.array([size, size], np.int64), "shape")
    made = helper.make_graph(nodes, "slow", graph.input, graph.output, [shape])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    put_graph(path, model.SerializeToString())
    program = (
        "from tamis.artifact import open_artifact; from tamis.models.network.scorer import OnnxScorer\n"
        f"OnnxScorer.load(open_artifact({str(path)!r}).model_files, deadline_seconds=3)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ArtifactError: model.onnx was not ready within 3 seconds" in ran.stderr


def test_graph_of_this_version_loads_in_its_deadline(path: Path):
    assert OnnxScorer.load(open_artifact(path).model_files).score(["win a prize"]).shape == (1, 2)


@given(st.data())
def test_check_structure_any_bytes_are_read_or_refused(saved: Path, data: st.DataObject):
    graph = bytearray((saved / "model.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        graph[data.draw(st.integers(0, len(graph) - 1))] = data.draw(st.integers(0, 255))
    cut = graph[: data.draw(st.integers(0, len(graph)))]
    try:
        check_structure(bytes(data.draw(st.sampled_from([cut, data.draw(st.binary(max_size=200))]))))
    except ArtifactError as refused:
        assert str(refused).startswith("model.onnx")
