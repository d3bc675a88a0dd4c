"""One test for each way in which a model folder can be broken: refused clearly, before anything is parsed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tamis.artifact import list_versions, open_artifact, remove_version, set_alias
from tamis.errors import ArtifactError
from tamis.inference.classifier import Classifier
from tests.support.artifacts import save_model


def edit_manifest(version: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest, which has no checksum of its own: its digest is the identity."""
    path = version / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def replace_file(version: Path, name: str, data: bytes) -> None:
    """Replace a file and make the manifest agree, as somebody would who wants it to be parsed."""
    (version / name).write_bytes(data)
    facts = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    edit_manifest(version, lambda manifest: manifest["files"].update({name: facts}))


def refusal(folder: Path | str) -> str:
    with pytest.raises(ArtifactError) as refused:
        Classifier.load(folder)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_a_version_opens_as_it_was_saved(model_folder: Path):
    artifact = open_artifact(model_folder)
    assert (artifact.name, artifact.version) == ("spam", "1")
    assert artifact.manifest.labels == ("ham", "spam")
    assert artifact.identity == hashlib.sha256((model_folder / "1/manifest.json").read_bytes()).hexdigest()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    assert "there is no such model; train one" in refusal(tmp_path / "nothing")


def test_a_folder_without_versions_is_refused(tmp_path: Path):
    assert "no version of a model" in refusal(tmp_path)


def test_a_missing_manifest_is_refused(model_folder: Path):
    (model_folder / "1/manifest.json").unlink()
    assert "manifest.json is missing" in refusal(model_folder)


def test_a_missing_file_is_refused(model_folder: Path):
    (model_folder / "1/weights.safetensors").unlink()
    assert "weights.safetensors is missing" in refusal(model_folder)


@pytest.mark.parametrize("place", [0, 8, 100, -1])
def test_a_changed_byte_is_refused(model_folder: Path, place: int):
    weights = model_folder / "1/weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[place] ^= 1
    weights.write_bytes(data)
    assert "weights.safetensors was changed" in refusal(model_folder)


def test_a_truncated_file_is_refused(model_folder: Path):
    weights = model_folder / "1/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "weights.safetensors is cut short" in refusal(model_folder)


def test_a_longer_file_is_refused(model_folder: Path):
    with (model_folder / "1/weights.safetensors").open("ab") as file:
        file.write(b"more")
    assert "is longer than the" in refusal(model_folder)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused(model_folder: Path, version: object):
    edit_manifest(model_folder / "1", lambda manifest: manifest.update(format_version=version))
    assert f"format version {version!r}; this version of Tamis reads format 1" in refusal(model_folder)


def test_a_link_out_of_the_folder_is_refused(model_folder: Path, tmp_path: Path):
    weights = model_folder / "1/weights.safetensors"
    weights.rename(tmp_path / "outside")
    weights.symlink_to(tmp_path / "outside")
    assert "weights.safetensors is a symbolic link" in refusal(model_folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/b", "..", ""])
def test_a_file_name_that_leaves_the_folder_is_refused(model_folder: Path, name: str):
    facts = {"sha256": "0" * 64, "size_bytes": 3}
    edit_manifest(model_folder / "1", lambda manifest: manifest["files"].update({name: facts}))
    assert "a file name that is not plain" in refusal(model_folder)


def test_a_fifo_is_refused_and_not_read(model_folder: Path):
    weights = model_folder / "1/weights.safetensors"
    weights.unlink()
    os.mkfifo(weights)
    assert "weights.safetensors is missing" in refusal(model_folder)


@pytest.mark.parametrize("size", [-1, 1 << 60])
def test_an_impossible_size_is_refused(model_folder: Path, size: int):
    edit_manifest(
        model_folder / "1",
        lambda manifest: manifest["files"]["weights.safetensors"].update(size_bytes=size),
    )
    assert "an impossible size" in refusal(model_folder)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"format_version": 1}', b"[" * 100_000]
)
def test_a_manifest_that_is_no_manifest_is_refused(model_folder: Path, data: bytes):
    (model_folder / "1/manifest.json").write_bytes(data)
    assert "manifest.json cannot be read" in refusal(model_folder)


@pytest.mark.parametrize("labels", [["ham", "spam", "eggs"], ["ham"], ["ham", "ham"], []])
def test_labels_that_do_not_fit_are_refused(model_folder: Path, labels: list[str]):
    edit_manifest(model_folder / "1", lambda manifest: manifest.update(labels=labels))
    assert "label" in refusal(model_folder)


def test_labels_that_do_not_fit_the_weights_are_refused(model_folder: Path):
    edit_manifest(model_folder / "1", lambda m: m.update(labels=["a", "b", "c"], operating_point=None))
    assert "but 3 labels need float16" in refusal(model_folder)


@pytest.mark.parametrize("change", [{"positive": "eggs"}, {"threshold": 7.0}])
def test_an_operating_point_that_does_not_fit_is_refused(model_folder: Path, change: dict[str, object]):
    edit_manifest(model_folder / "1", lambda manifest: manifest["operating_point"].update(change))
    assert "the operating point" in refusal(model_folder)


def test_an_unknown_kind_is_refused(model_folder: Path):
    edit_manifest(model_folder / "1", lambda manifest: manifest.update(kind="oracle"))
    assert "no scorer for models of kind 'oracle'" in refusal(model_folder)


def test_another_text_form_is_refused(model_folder: Path):
    edit_manifest(model_folder / "1", lambda manifest: manifest.update(text_form="rot13"))
    assert "expects texts in the form 'rot13'" in refusal(model_folder)


@pytest.mark.parametrize("features", [None, {"bits": 60}, {"bits": "many"}, []])
def test_feature_settings_that_make_no_sense_are_refused(model_folder: Path, features: object):
    edit_manifest(model_folder / "1", lambda manifest: manifest.update(model={"features": features}))
    assert "no usable feature settings" in refusal(model_folder)


def test_weights_of_absurd_shape_are_refused(model_folder: Path):
    header = json.dumps({"weights": {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 4]}})
    data = len(header).to_bytes(8, "little") + header.encode() + b"\0" * 4
    replace_file(model_folder / "1", "weights.safetensors", data)
    assert "weights.safetensors" in refusal(model_folder)


def test_weights_that_are_not_listed_are_refused(model_folder: Path):
    edit_manifest(model_folder / "1", lambda manifest: manifest.update(files={}))
    assert "lists no weights.safetensors" in refusal(model_folder)


class TestReferences:
    """`NAME`, `NAME@VERSION`, `NAME@alias` and the folder of a version."""

    @pytest.fixture
    def two_versions(self, model_folder: Path) -> Path:
        save_model(model_folder)
        return model_folder

    def test_the_newest_version_is_meant_when_none_is_named(self, two_versions: Path):
        assert open_artifact(two_versions).version == "2"

    @pytest.mark.parametrize("reference", ["spam@1", "spam/1"])
    def test_a_version_can_be_named(self, two_versions: Path, reference: str):
        assert open_artifact(two_versions.parent / reference).version == "1"

    def test_versions_are_ordered_as_numbers(self, model_folder: Path):
        for _ in range(10):
            version = save_model(model_folder)
        assert version.name == "11"
        assert open_artifact(model_folder).version == "11"

    def test_an_alias_can_be_named(self, two_versions: Path):
        set_alias(f"{two_versions}@1", "champion")
        assert open_artifact(f"{two_versions}@champion").version == "1"
        assert list_versions(two_versions) == {1: ["champion"], 2: []}

    def test_an_alias_moves_when_it_is_set_again(self, two_versions: Path):
        set_alias(f"{two_versions}@1", "champion")
        set_alias(f"{two_versions}@2", "champion")
        assert list_versions(two_versions) == {1: [], 2: ["champion"]}

    @pytest.mark.parametrize("selector", ["7", "nobody", "..", "1/../2"])
    def test_an_unknown_version_is_refused_with_those_there_are(self, two_versions: Path, selector: str):
        assert f"has no version {selector}; there are 1, 2" in refusal(f"{two_versions}@{selector}")

    @pytest.mark.parametrize("alias", ["7", "a b", "../x", ""])
    def test_alias_that_could_be_taken_for_something_else_is_refused(self, two_versions: Path, alias: str):
        with pytest.raises(ArtifactError, match=re.escape(f"{alias!r} is not a valid alias")):
            set_alias(f"{two_versions}@1", alias)

    def test_a_version_can_be_removed(self, two_versions: Path):
        remove_version(f"{two_versions}@1")
        assert list(list_versions(two_versions)) == [2]

    def test_a_version_with_an_alias_is_not_removed(self, two_versions: Path):
        set_alias(f"{two_versions}@1", "champion")
        with pytest.raises(ArtifactError, match="promote another version"):
            remove_version(f"{two_versions}@1")
        assert list(list_versions(two_versions)) == [1, 2]


@pytest.mark.parametrize("key", ["model", "training", "metrics", "unknown"])
@pytest.mark.parametrize("deep", ['{"a":', "["])
def test_a_manifest_nested_too_deep_is_refused(model_folder: Path, key: str, deep: str):
    path = model_folder / "1/manifest.json"
    end = "}" if deep == '{"a":' else "]"
    nested = deep * 100_000 + "1" + end * 100_000
    path.write_text(
        path.read_text().replace('"format_version": 1', f'"format_version": 1, "{key}": {nested}')
    )
    assert "manifest.json cannot be read" in refusal(model_folder)


def test_aliases_nested_too_deep_are_refused(model_folder: Path):
    (model_folder / "aliases.json").write_text('{"a":' * 100_000)
    assert "aliases.json cannot be read" in refusal(f"{model_folder}@champion")


def test_an_unknown_feature_setting_is_refused_by_name(model_folder: Path):
    edit_manifest(model_folder / "1", lambda manifest: manifest["model"]["features"].update(n_gram_max=9))
    assert "unknown setting 'n_gram_max'" in refusal(model_folder)


def test_an_unknown_key_beside_the_features_is_refused(model_folder: Path):
    edit_manifest(model_folder / "1", lambda manifest: manifest["model"].update(stemming=True))
    assert "stemming" in refusal(model_folder)


@pytest.mark.parametrize("name", ["2", "02", "٢", "9" * 30])
def test_a_stray_file_named_like_a_version_is_no_version(model_folder: Path, name: str):
    (model_folder / name).write_text("notes")
    assert open_artifact(model_folder).version == "1"
    assert list(list_versions(model_folder)) == [1]
    assert save_model(model_folder).name in ("2", "3")
    assert (model_folder / name).read_text() == "notes"
