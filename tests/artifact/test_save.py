"""Saving: all of a version or nothing, never two writers, the same bytes for the same model."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tamis.artifact import open_artifact, reserve_version
from tamis.errors import ArtifactError
from tests.support.artifacts import manifest_of, save_model


def test_versions_count_up(tmp_path: Path):
    assert [save_model(tmp_path / "spam").name for _ in range(3)] == ["1", "2", "3"]


def test_removed_version_number_not_used_again_when_later_exists(tmp_path: Path):
    for _ in range(2):
        save_model(tmp_path / "spam")
    (tmp_path / "spam" / "1").rename(tmp_path / "elsewhere")
    assert save_model(tmp_path / "spam").name == "3"


def test_the_same_model_has_the_same_identity(tmp_path: Path):
    first, second = (open_artifact(save_model(tmp_path / name)) for name in ("one", "two"))
    assert first.identity == second.identity
    assert first.path != second.path


def test_nothing_is_left_when_the_writer_fails(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), reserve_version(tmp_path / "spam") as reservation:
        (reservation.folder / "weights.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt
    assert _visible(tmp_path / "spam") == []


def test_a_second_writer_is_refused_in_one_line(tmp_path: Path):
    with (
        reserve_version(tmp_path / "spam"),
        pytest.raises(ArtifactError, match="another process is writing this model"),
        reserve_version(tmp_path / "spam"),
    ):
        pass


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path):
    program = (
        "import sys, pathlib; from tamis.artifact import reserve_version\n"
        "with reserve_version(pathlib.Path(sys.argv[1])) as r:\n"
        "    (r.folder / 'weights.safetensors').write_bytes(b'half')\n"
        "    print('writing', flush=True); sys.stdin.read()"
    )
    folder = tmp_path / "spam"
    with subprocess.Popen(
        [sys.executable, "-c", program, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        with pytest.raises(ArtifactError, match="another process"), reserve_version(folder):
            pass
        writer.send_signal(signal.SIGKILL)
    with pytest.raises(ArtifactError, match="no version"):
        open_artifact(folder)
    assert save_model(folder).name == "1"
    assert _visible(folder) == ["1"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")
def test_a_full_disk_leaves_no_version(tmp_path: Path):
    with pytest.raises(OSError) as failed, reserve_version(tmp_path / "spam") as reservation:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"weights")
        reservation.commit(manifest_of(("ham", "spam"), {}))
    assert failed.value.errno == errno.ENOSPC
    assert _visible(tmp_path / "spam") == []


def _visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if path.name != ".lock")


def test_reserve_version_failure_removes_the_folders_it_made(tmp_path: Path):
    with pytest.raises(RuntimeError), reserve_version(tmp_path / "models/spam") as reservation:
        (reservation.folder / "weights").write_bytes(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_reserve_version_failure_keeps_a_folder_that_was_there(tmp_path: Path):
    (tmp_path / "models").mkdir()
    with pytest.raises(RuntimeError), reserve_version(tmp_path / "models/spam"):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    assert list((tmp_path / "models").iterdir()) == []


def test_reserve_version_failure_keeps_checkpoints(tmp_path: Path):
    with pytest.raises(RuntimeError), reserve_version(tmp_path / "spam") as reservation:
        reservation.checkpoints("0123").mkdir()
        raise RuntimeError
    assert (tmp_path / "spam/.training-0123").is_dir()


def test_commit_of_an_unreadable_manifest_is_refused(tmp_path: Path):
    with (
        pytest.raises(ArtifactError, match="two different labels"),
        reserve_version(tmp_path / "spam") as one,
    ):
        one.commit(manifest_of(("ham",), {}))
    assert list(tmp_path.iterdir()) == []
