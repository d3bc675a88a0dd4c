"""A training that was killed goes on after its last whole epoch, to the very bits of one that was not."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tamis import train
from tamis.artifact import list_versions, open_artifact, reserve_version
from tamis.errors import TrainingError
from tamis.training.fit import TrainSettings
from tamis.training.trainers.lstm.trainer import LstmTrainer
from tamis.training.trainers.lstm.training_loop import read_checkpoint, write_checkpoint
from tests.support.networks import SMALL
from tests.support.processes import waiting_for
from tests.support.samples import messages, write_csv

ROOT = Path(__file__).parents[2]
SETTINGS = {**SMALL, "epochs": 3, "patience": 3, "validation": 0.2}
OVERRIDES = {name: str(value) for name, value in SETTINGS.items()}
TAMIS = [sys.executable, "-m", "tamis"]
COMMAND = ["train", "messages.csv", "--model", "lstm"]
COMMAND += [word for name, value in OVERRIDES.items() for word in ("--set", f"{name}={value}")]

# For each file that is named, a child trains and kills itself as soon as that file exists, in the middle of
# the next epoch. All are children of one process, for to import Keras takes longest; nothing runs in that.
KILLED = """
import os, signal, sys
from pathlib import Path
from tamis import train
from tamis.training.trainers.lstm import trainer
from tamis.training.fit import TrainSettings
from tests.training.test_resuming import OVERRIDES
data, output, *names = map(Path, sys.argv[1:])
for name in names:
    def progress(done, total):
        if any(output.glob(f".training-*/{name}")):
            os.kill(os.getpid(), signal.SIGKILL)
    if not (child := os.fork()):
        train(data, output, settings=TrainSettings(model="lstm", overrides=OVERRIDES), progress=progress)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, name
    assert any(output.glob(f".training-*/{name}")), f"{name} is still there"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(messages(300), tmp_path_factory.mktemp("data") / "messages.csv")


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The identity of the model that is trained in one go."""
    return trained(data, tmp_path_factory.mktemp("undisturbed") / "spam")


def trained(data: Path, output: Path, said: list[str] | None = None, **changes: str) -> str:
    settings = TrainSettings(model="lstm", overrides=OVERRIDES | changes)
    log = (lambda text: None) if said is None else said.append
    made = train(data, output, settings=settings, log=log)
    assert made.path is not None
    return open_artifact(made.path).identity


def without_rollback(said: list[str]) -> list[str]:
    """Return the lines that are not about a calibration that so small a model does not profit from."""
    return [line for line in said if not line.startswith("calibration rolled back")]


def killed_at(checkpoints: list[str], data: Path, output: Path) -> None:
    """Train again and again in processes that are killed, each once its checkpoint is on the disk."""
    subprocess.run([sys.executable, "-c", KILLED, data, output, *checkpoints], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def once_killed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder in which the command was killed after its first epoch, from outside."""
    folder = tmp_path_factory.mktemp("killed")
    with subprocess.Popen([*TAMIS, *COMMAND, "-o", folder / "spam"], cwd=data.parent) as process:
        for _ in waiting_for(process):
            if any(folder.glob("spam/.training-*/held-out/1.safetensors")):
                process.kill()
    assert process.returncode == -signal.SIGKILL, "it was killed before it had finished"
    return folder / "spam"


@pytest.fixture
def unfinished(once_killed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(once_killed, tmp_path / "spam")


def left_in(folder: Path) -> list[Path]:
    return [*folder.glob(".training-*")]


def test_it_goes_on_to_same_bits_in_whichever_fit_it_was_killed(
    data: Path, undisturbed: str, unfinished: Path
):
    killed_at(
        [f"{fit}.safetensors" for fit in ("held-out/2", "measured/1", "measured/2", "all/1", "all/2")],
        data,
        unfinished,
    )
    said: list[str] = []
    assert trained(data, unfinished, said) == undisturbed
    (line,) = without_rollback(said)
    assert line.startswith("resuming an unfinished training of the same")
    assert list_versions(unfinished).keys() == {1}
    assert left_in(unfinished) == [], "it goes when it has served"


def test_the_command_goes_on_and_says_so_in_one_line(data: Path, undisturbed: str, unfinished: Path):
    listed = subprocess.run([*TAMIS, "models", "list", unfinished], capture_output=True, text=True)
    assert (listed.returncode, listed.stdout) == (1, "")
    again = [*TAMIS, *COMMAND, "-o", unfinished]
    run = subprocess.run(again, cwd=data.parent, capture_output=True, text=True)
    assert run.returncode == 0
    resuming = [
        line for line in run.stderr.splitlines() if line.startswith("resuming an unfinished training")
    ]
    assert len(resuming) == 1 and run.stderr.startswith(resuming[0])
    assert open_artifact(unfinished).identity == undisturbed


def test_ctrl_c_keeps_best_epoch_and_leaves_nothing_go_on_from(data: Path, tmp_path: Path):
    command = [*TAMIS, *COMMAND, "-o", tmp_path / "spam"]
    with subprocess.Popen(
        command, cwd=data.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        for _ in waiting_for(process):
            if any(tmp_path.glob("spam/.training-*/held-out/1.safetensors")):
                process.send_signal(signal.SIGINT)
                break
        output, error = process.communicate()
    assert process.returncode == 0
    assert error.endswith(b"stopped early: the best epoch so far is kept\n")
    assert b"spam/1: lstm" in output
    assert list_versions(tmp_path / "spam").keys() == {1} and left_in(tmp_path / "spam") == []


def test_other_settings_start_afresh_and_remove_what_was_kept(data: Path, unfinished: Path):
    said: list[str] = []
    trained(data, unfinished, said, learning_rate="0.03")
    assert without_rollback(said) == [] and left_in(unfinished) == []


def test_other_data_start_afresh(data: Path, unfinished: Path, tmp_path: Path):
    (other := tmp_path / "other.csv").write_bytes(data.read_bytes() + b"ham,one more,\nspam,and another,\n")
    said: list[str] = []
    trained(other, unfinished, said)
    assert without_rollback(said) == [] and left_in(unfinished) == []


def test_a_dry_run_keeps_nothing_and_leaves_what_was_kept(data: Path, unfinished: Path):
    before = left_in(unfinished)
    train(data, None, settings=TrainSettings(model="lstm", overrides=OVERRIDES))
    assert left_in(unfinished) == before


def test_a_broken_checkpoint_is_one_line_that_says_what_to_do(data: Path, unfinished: Path):
    (kept,) = unfinished.glob(".training-*/held-out/1.safetensors")
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(TrainingError, match="cannot be read; remove it to start training again"):
        trained(data, unfinished)


def test_another_writer_folder_does_not_take_for_rubbish_version(tmp_path: Path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), reserve_version(tmp_path / "spam") as reservation:
            folder = reservation.checkpoints("0123456789abcdef" * 4)
            folder.mkdir(exist_ok=True)
            raise KeyboardInterrupt
        assert left_in(tmp_path / "spam") == [folder]


class TestFit:
    """One fit of the network, without the training around it."""

    @staticmethod
    def fit(checkpoints: Path | None, stop_after: float = 2.0) -> LstmTrainer:
        """Fit, and fail at this share of the way, as if the machine went down."""
        data = messages(120)

        def progress(done: int, total: int) -> None:
            if done / total > stop_after:
                raise ConnectionAbortedError

        model = LstmTrainer(**{**SETTINGS, "epochs": 4, "learning_rate": 0.3, "patience": 1})
        return model.fit(data.texts, data.labels, progress=progress, checkpoints=checkpoints)

    def test_history_and_best_epoch_are_those_of_one_go(self, tmp_path: Path):
        for share in (0.2, 0.3, 0.4):
            with pytest.raises(ConnectionAbortedError):
                self.fit(tmp_path, share)
        resumed, whole = self.fit(tmp_path), self.fit(None)
        assert resumed.history_ == whole.history_
        assert all(np.array_equal(a, b) for a, b in zip(resumed.weights_, whole.weights_, strict=True))

    def test_a_finished_fit_is_not_run_again(self, tmp_path: Path):
        whole, steps = self.fit(tmp_path), []
        data = messages(120)
        again = LstmTrainer(**{**SETTINGS, "epochs": 4, "learning_rate": 0.3, "patience": 1}).fit(
            data.texts, data.labels, progress=lambda *step: steps.append(step), checkpoints=tmp_path
        )
        assert {done / total for done, total in steps} == {0.5, 1.0}, "only the ends of its two parts"
        assert all(np.array_equal(a, b) for a, b in zip(again.weights_, whole.weights_, strict=True))


def test_checkpoint_is_read_as_it_was_written_and_replaced_whole(tmp_path: Path):
    path = tmp_path / "new" / "1.safetensors"
    assert read_checkpoint(path) is None
    for number in (1, 2):
        written = {"a": np.full((2, 3), number, np.float32), "seed": np.array([number, 7], np.uint32)}
        write_checkpoint(path, written, {"random": {"state": 2**120 + number}, "loss": 0.1})
    found = read_checkpoint(path)
    assert found is not None
    arrays, facts = found
    assert facts == {"random": {"state": 2**120 + 2}, "loss": 0.1}
    assert {name: array.dtype for name, array in arrays.items()} == {"a": np.float32, "seed": np.uint32}
    assert all(np.array_equal(arrays[name], written[name]) for name in written)
    assert [file.name for file in path.parent.iterdir()] == ["1.safetensors"]


@pytest.mark.parametrize("metadata", [{"facts": "{}"}, {"facts": "{}", "layout": "1"}, {"layout": "2"}, {}])
def test_a_checkpoint_of_another_tamis_is_refused_in_one_line(tmp_path: Path, metadata: dict[str, str]):
    path = tmp_path / "1.safetensors"
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(3, np.float32)}, metadata))
    with pytest.raises(TrainingError, match="1.safetensors: cannot be read; remove it"):
        read_checkpoint(path)
