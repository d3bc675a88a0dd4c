"""A HDF5 file is read as plain arrays: whatever leads elsewhere, or asks for too much, is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tamis.artifact.keras_import.extract import extract
from tamis.errors import ArtifactError
from tests.support import keras_files as old

PLACE = "model_weights/dense_2/dense_2"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = old.write_old_model(tmp_path / "old", [old.embedding(), old.lstm(), old.dense()])
    return folder / "spam_model.h5"


def refusal(file: Path) -> str:
    with pytest.raises(ArtifactError) as refused:
        extract(file)
    message = str(refused.value)
    assert "\n" not in message and str(file) in message
    return message


def replace_bias(file: Path, **creation: object) -> None:
    with h5py.File(file, "r+") as opened:
        group = opened[PLACE]
        del group["bias:0"]
        group.create_dataset("bias:0", **creation)


def test_arrays_are_found_by_layer_and_name(file: Path):
    extracted = extract(file)
    weights = extracted.weights
    assert extracted.config["class_name"] == "Sequential"
    assert {layer: sorted(arrays) for layer, arrays in weights.items()} == {
        "embedding_0": ["embedding_0/embeddings"],
        "lstm_1": [f"lstm_1/lstm_cell/{name}" for name in ("bias", "kernel", "recurrent_kernel")],
        "dense_2": ["dense_2/bias", "dense_2/kernel"],
    }
    with h5py.File(file) as opened:
        assert np.array_equal(opened[f"{PLACE}/kernel:0"][()], weights["dense_2"]["dense_2/kernel"])


def test_compressed_arrays_are_read(file: Path):
    replace_bias(file, data=np.ones(2, np.float32), chunks=(2,), compression="gzip", shuffle=True)
    assert extract(file).weights["dense_2"]["dense_2/bias"].tolist() == [1, 1]


def test_an_external_link_is_refused(file: Path, tmp_path: Path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as opened:
        opened["bias"] = np.ones(2, np.float32)
    with h5py.File(file, "r+") as opened:
        del opened[PLACE]["bias:0"]
        opened[PLACE]["bias:0"] = h5py.ExternalLink(str(other), "bias")
    assert "'bias:0' is an ExternalLink" in refusal(file)


@pytest.mark.parametrize("place", [PLACE, "model_weights"])
def test_a_soft_link_is_refused(file: Path, place: str):
    with h5py.File(file, "r+") as opened:
        opened.move(place, "moved")
        opened[place] = h5py.SoftLink("/moved")
    assert "is an SoftLink" in refusal(file)


def test_a_virtual_data_set_is_refused(file: Path, tmp_path: Path):
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "bias", shape=(2,))
    with h5py.File(file, "r+") as opened:
        del opened[PLACE]["bias:0"]
        opened[PLACE].create_virtual_dataset("bias:0", layout)
    assert "virtual data set" in refusal(file)


def test_numbers_in_another_file_are_refused(file: Path, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"12345678")
    replace_bias(file, shape=(2,), dtype="f4", external=[(str(secret), 0, 8)])
    assert "in another file" in refusal(file)


@pytest.mark.parametrize(
    ("creation", "message"),
    [
        ({"shape": (2**40,), "dtype": "f4", "chunks": (1024,)}, "absurd shape"),
        ({"shape": (2,) * 5, "dtype": "f4"}, "shape that no layer has"),
        ({"shape": (0,), "dtype": "f4"}, "shape that no layer has"),
        ({"data": np.float32(3)}, "shape that no layer has"),
        ({"data": h5py.Empty("f4")}, "shape that no layer has"),
        ({"data": np.arange(2)}, "not floating-point"),
        ({"data": [b"ab", b"c"]}, "not floating-point"),
        ({"data": np.array([1, np.nan], np.float32)}, "not finite"),
        ({"data": np.ones(2, np.float32), "chunks": (2,), "compression": "lzf"}, "filter other than gzip"),
    ],
)
def test_arrays_that_are_no_weights_are_refused(file: Path, creation: dict[str, object], message: str):
    replace_bias(file, **creation)
    assert message in refusal(file)


@pytest.mark.parametrize("name", ["/optimizer_weights", "../bias:0", "dense_2//bias:0", "dense_2/none:0", ""])
def test_names_that_lead_elsewhere_are_refused(file: Path, name: str):
    with h5py.File(file, "r+") as opened:
        opened.create_group("optimizer_weights")
        opened["model_weights/dense_2"].attrs["weight_names"] = [name]
    refusal(file)


def test_a_group_where_an_array_should_be_is_refused(file: Path):
    with h5py.File(file, "r+") as opened:
        opened["model_weights/dense_2"].attrs["weight_names"] = ["dense_2"]
    assert "is no array" in refusal(file)


@pytest.mark.parametrize(
    ("place", "attribute", "message"),
    [
        ("/", "model_config", "without the network's configuration"),
        ("model_weights", "layer_names", "'layer_names' is missing"),
        ("model_weights/lstm_1", "weight_names", "'weight_names' is missing"),
    ],
)
def test_a_missing_attribute_is_refused(file: Path, place: str, attribute: str, message: str):
    with h5py.File(file, "r+") as opened:
        del opened[place].attrs[attribute]
    assert message in refusal(file)


def test_a_configuration_that_is_no_json_is_refused(file: Path):
    with h5py.File(file, "r+") as opened:
        opened.attrs["model_config"] = "{"
    assert "no HDF5 file that Keras wrote" in refusal(file)


def test_too_many_layers_are_refused(file: Path):
    with h5py.File(file, "r+") as opened:
        opened["model_weights"].attrs["layer_names"] = ["dense_2"] * 101
    assert "lists 101 names" in refusal(file)


@pytest.mark.parametrize("keep", [0, 8, 2000])
def test_a_file_that_is_cut_short_is_refused(file: Path, keep: int):
    file.write_bytes(file.read_bytes()[:keep])
    assert "no HDF5 file that Keras wrote" in refusal(file)


def test_more_memory_than_allowed_is_refused(file: Path):
    replace_bias(file, shape=(2**28 - 1,), dtype="f4", chunks=(2**20,), compression="gzip")
    with h5py.File(file, "r+") as opened:
        group = opened["model_weights/dense_2"]
        names = [f"dense_2/more_{k}:0" for k in range(8)]
        for name in names:
            group.create_dataset(name, shape=(2**28 - 1,), dtype="f4", chunks=(2**20,), compression="gzip")
        group.attrs["weight_names"] = names
    assert "memory" in refusal(file)
