"""No cell of the log's CSV is a formula: LibreOffice opens the file and computes nothing."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.clock import SystemClock
from tamis.service.call_log.formats import CALL_FORMATS, guarded
from tamis.storage import CallRecord, TimeIds

_FORMULA = "40+2"
_BEFORE = ["", "\0", "\ufeff", "\u200b", " ", "\t", "\r\n", "\x01\x02", "\u00a0", "\u2028", "\0\ufeff ", "'"]
_STARTS = ["=", "+", "-", "@", "＝", "＋", "－", "＠"]


@given(st.sampled_from(_BEFORE), st.sampled_from(_STARTS), st.text(max_size=5))
def test_guarded_text_starts_with_an_apostrophe(before: str, start: str, rest: str) -> None:
    text = before + start + rest
    assert guarded(text).startswith(f"'{before}") or not before
    assert guarded(text).startswith("'")


@given(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1))
def test_guarded_word_is_unchanged(text: str) -> None:
    assert guarded(text) == text


@given(st.text(max_size=8) | st.text(alphabet=";\t\r\n'=-)a\0", max_size=8))
def test_guarded_text_can_be_read_back(text: str) -> None:
    assert re.sub(r"(^|[;\t\r\n])'", r"\1", guarded(text)) == text


def test_guarded_text_keeps_its_smileys() -> None:
    assert guarded("see you ;-) soon") == "see you ;-) soon"


_SEPARATORS = {"comma": "44", "comma, tab, semicolon": "44/9/59", "semicolon": "59", "tab": "9"}
"""As an import dialog offers them: the second by default in LibreOffice, the third Excel in Germany."""


@pytest.mark.parametrize("separators", _SEPARATORS.values(), ids=_SEPARATORS)
def test_libreoffice_computes_no_cell_of_the_log(tmp_path: Path, separators: str) -> None:
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        pytest.skip("LibreOffice is not installed: run scripts/tools.sh office")
    before = [*_BEFORE, *(f"a{separator}{hidden}" for separator in ";\t\r\n" for hidden in _BEFORE)]
    texts = [f"{one}{start}{_FORMULA}{end}" for one in before for start in _STARTS for end in ("", ";b")]
    source = tmp_path / "log.csv"
    source.write_bytes(_as_csv(texts))
    profile = f"-env:UserInstallation=file://{tmp_path}/profile"
    read = f"--infilter=Text - txt - csv (StarCalc):{separators},34,76"
    command = [
        office,
        profile,
        "--headless",
        read,
        "--convert-to",
        "csv:Text - txt - csv (StarCalc):44,34,76",
    ]
    subprocess.run(
        [*command, "--outdir", tmp_path / "out", source], check=True, timeout=180, capture_output=True
    )
    with (tmp_path / "out" / "log.csv").open(newline="", encoding="utf-8") as file:
        cells = {cell for row in csv.reader(file) for cell in row}
    assert not {"42", "-38", "38"} & cells
    assert sum(_FORMULA in cell for cell in cells) >= len(_STARTS)


def _as_csv(texts: list[str]) -> bytes:
    ids, form = TimeIds(SystemClock()), CALL_FORMATS["csv"]()
    calls = [CallRecord(ids.next(), "192.0.2.7", text, "ham", 0.9, "m" * 64, False) for text in texts]
    return form.head + form.rows(calls)
