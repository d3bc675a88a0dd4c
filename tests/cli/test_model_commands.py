"""`tamis train`, `evaluate`, `predict` and `models`, as a user calls them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tamis.artifact import reserve_version
from tests.support.artifacts import save_model
from tests.support.command_server import tamis_command
from tests.support.samples import messages, write_csv


def tamis(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run the command line; return its exit code, standard output and standard error."""
    command = tamis_command(*arguments)
    run = subprocess.run(command, input=stdin, capture_output=True)
    return run.returncode, run.stdout.decode(), run.stderr.decode()


def refused(*arguments: object, stdin: bytes = b"") -> str:
    """Run a command that must fail with one line and exit code 1; return the line."""
    code, output, error = tamis(*arguments, stdin=stdin)
    assert (code, output) == (1, "")
    assert error.count("\n") == 1
    assert error.startswith("tamis: ")
    return error


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(messages(300), tmp_path_factory.mktemp("data") / "messages.csv")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "spam").parent


class TestTrain:
    def test_figures_are_shown_and_the_version_is_named(self, data: Path, tmp_path: Path):
        code, output, error = tamis("train", data, "-o", tmp_path / "spam")
        assert (code, error) == (0, "")
        for words in ("spam/1", "accuracy", "95 % interval", "operating point", "By source", "phone"):
            assert words in output

    def test_figures_are_json_when_asked(self, data: Path, tmp_path: Path):
        code, output, _ = tamis("train", data, "-o", tmp_path / "spam", "--json", "--set", "c=2", "--seed", 7)
        told = json.loads(output)
        assert code == 0
        assert told["path"].endswith("spam/1")
        manifest = json.loads((tmp_path / "spam/1/manifest.json").read_text())
        assert (manifest["training"]["overrides"], manifest["data"]["seed"]) == ({"c": "2"}, 7)

    def test_a_dry_run_saves_nothing(self, data: Path, tmp_path: Path):
        code, output, _ = tamis("train", data, "-o", tmp_path / "spam", "--dry")
        assert code == 0
        assert "nothing was saved" in output
        assert not (tmp_path / "spam").exists()

    def test_a_folder_in_use_is_refused(self, data: Path, tmp_path: Path):
        with reserve_version(tmp_path / "spam"):
            assert "another process is writing this model" in refused("train", data, "-o", tmp_path / "spam")

    def test_path_that_is_not_there_is_refused_and_leaves_no_folder(self, tmp_path: Path):
        assert "nothing.csv" in refused("train", tmp_path / "nothing.csv", "-o", tmp_path / "spam")
        assert not (tmp_path / "spam").exists()

    def test_a_file_in_place_of_the_folder_is_refused(self, data: Path, tmp_path: Path):
        (tmp_path / "spam").write_text("")
        assert "spam" in refused("train", data, "-o", tmp_path / "spam")

    @pytest.mark.parametrize("arguments", [["--set", "c"], ["--max-fpr", "2"], ["--test-size", "0"]])
    def test_wrong_use_exits_with_2(self, data: Path, tmp_path: Path, arguments: list[str]):
        code, _, error = tamis("train", data, "-o", tmp_path / "spam", *arguments)
        assert code == 2
        assert arguments[0] in error

    def test_an_interruption_says_so_and_leaves_nothing(self, tmp_path: Path):
        data = write_csv(messages(20_000), tmp_path / "many.csv")
        # a shell's background jobs ignore Ctrl-C, and these tests may be one
        program = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from tamis.cli import main; main()"
        )
        command = [sys.executable, "-c", program, "train", str(data), "-o", str(tmp_path / "spam")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as training:
            while not (tmp_path / "spam/.being-written").exists():
                assert training.poll() is None
            training.send_signal(signal.SIGINT)
            output, error = training.communicate()
        assert (training.returncode, output) == (1, b"")
        assert error.decode().strip() == "tamis: stopped; no partial output was written"
        assert not (tmp_path / "spam").exists()


class TestEvaluate:
    def test_the_training_file_is_measured_on_its_test_part_only(self, data: Path, tmp_path: Path):
        _, trained, _ = tamis("train", data, "-o", tmp_path / "spam", "--json")
        code, output, error = tamis("evaluate", tmp_path / "spam", data, "--json")
        told = json.loads(output)
        assert code == 0
        assert "measuring on its test part only" in error
        assert told["part"] == "the test part"
        assert told["evaluation"]["rows"] == json.loads(trained)["evaluation"]["rows"] < 300
        assert told["evaluation"]["accuracy"] == json.loads(trained)["evaluation"]["accuracy"]

    def test_another_file_is_measured_whole(self, model: Path, tmp_path: Path):
        other = write_csv(messages(50, seed=3), tmp_path / "other.csv")
        _, output, error = tamis("evaluate", model, other)
        assert "on all rows (cannot know whether these rows were learned) of" in output
        assert "50 rows" in output
        assert error.count("\n") == 1

    def test_a_prepared_folder_is_measured_on_its_test_part(self, model: Path, data: Path, tmp_path: Path):
        assert tamis("prepare", data, "-o", tmp_path / "prepared")[0] == 0
        code, output, _ = tamis("evaluate", model, tmp_path / "prepared")
        assert code == 0
        assert "on the test part (cannot know whether these rows were learned) of" in output

    def test_a_label_that_the_model_does_not_know_is_refused(self, model: Path, tmp_path: Path):
        other = write_csv(messages(9, labels=("ham", "question")), tmp_path / "other.csv")
        code, output, error = tamis("evaluate", model, other)
        assert (code, output) == (1, "")
        line = "tamis: labels that the model does not have: 'question' (4 rows); it has ham, spam"
        assert error.splitlines()[-1] == line


class TestPredict:
    def test_each_text_has_a_line(self, model: Path):
        code, output, _ = tamis("predict", model, "WIN a camera now", "see you at the gym on friday")
        assert code == 0
        assert [line.split("\t")[0] for line in output.splitlines()] == ["spam", "ham"]

    def test_json_holds_what_the_api_answers(self, model: Path):
        _, output, _ = tamis("predict", model, "WIN a camera now", "--json", "--echo-input")
        told = json.loads(output)
        assert told["input"] == "WIN a camera now"
        assert told["top"] == {"label": "spam", "value": told["prediction"]["spam"]}

    @pytest.mark.parametrize("arguments", [["-"], ["--file", "-"]])
    def test_standard_input_is_read_line_by_line(self, model: Path, arguments: list[str]):
        text = "WIN a camera now\nsee you – at the gym\n\n".encode()
        code, output, _ = tamis("predict", model, *arguments, "--echo-input", stdin=text)
        assert code == 0
        assert [line.split("\t")[2] for line in output.splitlines()] == [
            "WIN a camera now",
            "see you – at the gym",
            "",
        ]

    def test_a_file_is_read(self, model: Path, tmp_path: Path):
        (tmp_path / "texts.txt").write_text("WIN a camera now\n" * 1500)
        _, output, _ = tamis("predict", model, "--file", tmp_path / "texts.txt")
        assert output.count("spam") == 1500

    def test_bytes_that_are_not_utf8_are_refused_with_the_line(self, model: Path):
        code, _, error = tamis("predict", model, "-", stdin=b"fine\n\xff\n")
        assert code == 1
        assert error == "tamis: standard input, line 2: not valid utf-8; name the encoding with --encoding\n"

    @pytest.mark.parametrize("arguments", [[], ["text", "--file", "-"]])
    def test_nothing_or_both_is_wrong_use(self, model: Path, arguments: list[str]):
        assert tamis("predict", model, *arguments)[0] == 2

    def test_no_model_is_refused(self, tmp_path: Path):
        assert "there is no such model" in refused("predict", tmp_path / "none", "text")


class TestModels:
    def test_versions_are_listed_with_their_aliases(self, tmp_path: Path):
        for _ in range(2):
            save_model(tmp_path / "spam")
        assert (
            tamis("models", "promote", f"{tmp_path}/spam@1", "champion")[1] == "spam@champion is version 1\n"
        )
        assert tamis("models", "list", tmp_path / "spam")[1].splitlines() == [
            "1\tlinear\taccuracy 0.9900\tchampion",
            "2\tlinear\taccuracy 0.9900",
        ]
        assert [
            row["aliases"] for row in json.loads(tamis("models", "list", tmp_path / "spam", "--json")[1])
        ] == [
            ["champion"],
            [],
        ]
        assert "promote another version" in refused("models", "remove", f"{tmp_path}/spam@1")
        assert tamis("models", "remove", f"{tmp_path}/spam@2")[1] == "removed spam@2\n"

    def test_a_version_is_shown_with_its_identity(self, model: Path):
        told = json.loads(tamis("models", "show", f"{model}@1")[1])
        assert len(told["identity"]) == 64
        assert told["labels"] == ["ham", "spam"]

    def test_removing_needs_a_version(self, model: Path):
        assert tamis("models", "remove", model)[0] == 2


class TestHelp:
    @pytest.mark.parametrize(
        "command", ["", "fetch", "audit", "prepare", "train", "evaluate", "predict", "serve", "models"]
    )
    def test_help_has_an_example(self, command: str):
        code, output, _ = tamis(*command.split(), "--help")
        assert code == 0
        assert "Example: tamis" in output

    def test_the_nearest_command_is_named(self):
        code, _, error = tamis("pedict")
        assert code == 2
        assert "Did you mean 'predict'?" in error

    def test_the_list_of_commands_says_what_each_command_says(self):
        import click

        from tamis.cli import COMMANDS, cli

        context = click.Context(cli)
        for name in COMMANDS:
            command = cli.get_command(context, name)
            assert command is not None and command.help, f"{name} has no help"


@pytest.mark.parametrize("accuracy", [5, None, {"value": "high"}, []])
def test_models_list_odd_metrics_count_as_not_measured(tmp_path: Path, accuracy: object):
    save_model(tmp_path / "spam", metrics={"accuracy": accuracy})
    assert tamis("models", "list", tmp_path / "spam")[:2] == (0, "1\tlinear\tnot measured\n")


_SERVICE_FILES = (
    "tamis.db", "tamis.db-wal", "tamis.db-shm", "tamis.db-cache128",
    "keys.json", "rates.tamis", "spool.tamis", "spool-1.tamis",
)  # fmt: skip


def test_models_commands_tolerate_the_services_files(tmp_path: Path):
    for _ in range(2):
        save_model(tmp_path / "spam")
    for name in _SERVICE_FILES:
        (tmp_path / "spam" / name).write_bytes(b"of the service")
    assert len(tamis("models", "list", tmp_path / "spam")[1].splitlines()) == 2
    assert tamis("models", "promote", f"{tmp_path}/spam@2", "champion")[0] == 0
    assert json.loads(tamis("models", "show", f"{tmp_path}/spam")[1])["version"] == "2"
    assert tamis("models", "remove", f"{tmp_path}/spam@1")[0] == 0
    assert save_model(tmp_path / "spam").name == "3"
    for name in _SERVICE_FILES:
        assert (tmp_path / "spam" / name).read_bytes() == b"of the service"
