"""The Python lines of docs/howto/score.md, run as they are written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tamis.inference.classifier import Classifier
from tests.support.samples import messages, write_csv
from tests.support.score_runs import assert_predictions

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "score.md"


def lines_of_howto() -> list[str]:
    found = re.search(r"^```python\n(.*?)^```", HOWTO.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1].splitlines()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("library", ["pyarrow", "pandas", "polars"])
def test_howto_line_classifies_a_frame(
    library: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"pyarrow": pytest.importorskip("pyarrow"), library: pytest.importorskip(library)}
    shutil.copytree(model, tmp_path / "models" / "spam")
    write_csv(messages(50), tmp_path / "mail.csv")
    monkeypatch.chdir(tmp_path)
    line = next(one for one in lines_of_howto() if f"{library}." in one)
    names |= {"Classifier": Classifier, "classifier": Classifier.load("models/spam")}
    exec(line, names)  # a line of docs/howto/score.md
    if library == "pyarrow":
        table = names["table"]
        assert table.column_names == ["text", "label", "decision", "score", "score_ham", "score_spam"]
        assert_predictions(table, table.column("text").to_pylist(), model)
    else:
        frame = names["frame"]
        expected = names["classifier"].predict_many(list(messages(50).texts))
        assert list(frame["text"]) == list(messages(50).texts)
        predicted = frame["predicted_label"]  # the file has a column `label` of its own
        assert list(predicted) == [one.label for one in expected]
        assert list(frame["score"]) == [one.score for one in expected]
