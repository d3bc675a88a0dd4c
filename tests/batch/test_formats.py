"""Every format in and out: the predictions are those of `predict_many`, the other columns come through."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import ipc, parquet

from tests.support.samples import messages
from tests.support.score_runs import SMALL, assert_predictions, read_output, score, scored

TEXTS = [
    *messages(300, seed=5).texts,
    'a "quoted" text, with a comma',
    "two\nlines",
    "carriage\r\nreturn",
    "Émile: 中文 かな ☃ 𝒳",
    "  blanks   around  ",
    "semi;colon|pipe\ttab",
    "it's; 5\" disk",
]
IDS = list(range(1, len(TEXTS) + 1))


def csv_bytes(delimiter: str = ",", encoding: str = "utf-8", texts: list[str] = TEXTS) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["id", "text"])
    writer.writerows(zip(IDS, texts, strict=False))
    return file.getvalue().encode(encoding)


def table() -> pyarrow.Table:
    return pyarrow.table({"id": pyarrow.array(IDS, pyarrow.int64()), "text": TEXTS})


def write_parquet(path: Path) -> None:
    parquet.write_table(table(), path, row_group_size=40)


def write_arrow(path: Path) -> None:
    with ipc.new_file(path, table().schema) as writer:
        writer.write_table(table(), max_chunksize=50)


LATIN = [text for text in TEXTS if "中" not in text]
INPUTS = {
    "comma.csv": lambda path: path.write_bytes(csv_bytes()),
    "bom.csv": lambda path: path.write_bytes(csv_bytes(encoding="utf-8-sig")),
    "semicolon.csv": lambda path: path.write_bytes(csv_bytes(";")),
    "tab.tsv": lambda path: path.write_bytes(csv_bytes("\t")),
    "pipe.txt": lambda path: path.write_bytes(csv_bytes("|")),
    "sep.csv": lambda path: path.write_bytes(b"sep=;\n" + csv_bytes(";")),
    "utf16.csv": lambda path: path.write_bytes(csv_bytes(encoding="utf-16")),
    "packed.csv.gz": lambda path: path.write_bytes(gzip.compress(csv_bytes())),
    "packed.csv.zst": lambda path: path.write_bytes(pyarrow.compress(csv_bytes(), "zstd", asbytes=True)),
    "lines.jsonl": lambda path: path.write_text(
        "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in zip(IDS, TEXTS, strict=True))
    ),
    "no_newline.csv": lambda path: path.write_bytes(csv_bytes().removesuffix(b"\n")),
    "table.parquet": write_parquet,
    "table.arrow": write_arrow,
}


@pytest.mark.parametrize("name", INPUTS)
def test_score_any_input_equals_predict_many(name: str, model: Path, tmp_path: Path) -> None:
    INPUTS[name](tmp_path / name)
    scored(str(model), name, "-o", "out.parquet", *SMALL, folder=tmp_path)
    found = read_output(tmp_path / "out.parquet")
    assert found.column("text").to_pylist() == TEXTS
    assert [int(n) for n in found.column("id").to_pylist()] == IDS
    assert_predictions(found, TEXTS, model)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "mac_roman"])
def test_score_legacy_encoding_equals_predict_many(encoding: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_bytes(csv_bytes(encoding=encoding, texts=LATIN))
    scored(str(model), "old.csv", "-o", "out.parquet", "--encoding", encoding, *SMALL, folder=tmp_path)
    found = read_output(tmp_path / "out.parquet")
    assert found.column("text").to_pylist() == LATIN
    assert_predictions(found, LATIN, model)


OUTPUTS = [f"{name}{end}" for name in ("csv", "tsv", "jsonl") for end in ("", ".gz", ".zst")]


@pytest.mark.parametrize("ending", [*OUTPUTS, "parquet", "arrow"])
def test_score_any_output_can_be_read_elsewhere(ending: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(csv_bytes())
    scored(str(model), "in.csv", "-o", f"out.{ending}", "--scores", *SMALL, folder=tmp_path)
    found = read_output(tmp_path / f"out.{ending}")
    assert found.column_names == ["id", "text", "label", "decision", "score", "score_ham", "score_spam"]
    assert found.column("text").to_pylist() == TEXTS
    assert_predictions(found, TEXTS, model)
    record = [] if ending in ("parquet", "arrow") else [f"out.{ending}.run.json"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.csv", f"out.{ending}", *record]


def test_score_metadata_names_the_model(model: Path, tmp_path: Path) -> None:
    from tamis import Classifier

    (tmp_path / "in.csv").write_bytes(csv_bytes())
    scored(str(model), "in.csv", "-o", "out.parquet", folder=tmp_path)
    metadata = parquet.read_schema(tmp_path / "out.parquet").metadata
    assert metadata[b"tamis.model"] == b"m"
    assert metadata[b"tamis.model_version"] == b"1"
    assert metadata[b"tamis.model_digest"].decode() == Classifier.load(model).identity


@pytest.mark.parametrize("output", ["out.csv", "out.jsonl.gz", "out/"])
def test_score_record_names_model_inputs_and_settings(output: str, model: Path, tmp_path: Path) -> None:
    from tamis import Classifier

    (tmp_path / "in.csv").write_bytes(csv_bytes())
    scored(str(model), "in.csv", "-o", output, "--format", "csv", "--keep", "id", folder=tmp_path)
    name = "out/_run.json" if output == "out/" else f"{output}.run.json"
    record = json.loads((tmp_path / name).read_bytes())
    identity = Classifier.load(model).identity
    assert record["model"] == {"name": "m", "version": "1", "digest": identity}
    digest = hashlib.sha256(csv_bytes()).hexdigest()
    assert record["inputs"] == [{"name": "in.csv", "sha256": digest, "size_bytes": len(csv_bytes())}]
    assert record["settings"]["keep"] == ["id"]


def test_score_folder_output_is_one_dataset(model: Path, tmp_path: Path) -> None:
    from pyarrow import dataset

    (tmp_path / "in.csv").write_bytes(csv_bytes())
    scored(str(model), "in.csv", "-o", "out/", *SMALL, folder=tmp_path)
    files = sorted((tmp_path / "out").glob("part-*.parquet"))
    assert len(files) > 3
    found = dataset.dataset(tmp_path / "out").to_table()
    assert found.column("text").to_pylist() == TEXTS
    assert_predictions(found, TEXTS, model)


def test_score_keeps_named_columns_only(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(csv_bytes())
    scored(str(model), "in.csv", "-o", "none.csv", "--keep", "none", folder=tmp_path)
    scored(str(model), "in.csv", "-o", "id.csv", "--keep", "id", folder=tmp_path)
    assert read_output(tmp_path / "none.csv").column_names == ["label", "decision", "score"]
    assert read_output(tmp_path / "id.csv").column_names == ["id", "label", "decision", "score"]


@pytest.mark.parametrize("output", ["out.parquet", "out.arrow", "out.csv", "out.tsv", "out.jsonl"])
def test_score_explains_with_tokens_of_the_text(output: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(csv_bytes(texts=TEXTS[:20]))
    scored(str(model), "in.csv", "-o", output, "--explain", folder=tmp_path)
    found = read_output(tmp_path / output)
    assert found.num_rows == 20
    for text, explained in zip(
        found.column("text").to_pylist(), found.column("explanation").to_pylist(), strict=True
    ):
        tokens = json.loads(explained)
        assert 1 <= len(tokens) <= 5
        assert {token for token, _ in tokens} <= set(text.split())


def test_score_guesses_the_only_text_column(model: Path, tmp_path: Path) -> None:
    body = csv_bytes().replace(b"id,text", b"id,body", 1)
    (tmp_path / "in.csv").write_bytes(body)
    said = scored(str(model), "in.csv", "-o", "out.parquet", folder=tmp_path)
    assert "in.csv: assumed text column 'body'" in said
    found = read_output(tmp_path / "out.parquet")
    assert_predictions(found, TEXTS, model)


def test_score_standard_streams_pass_a_csv(model: Path, tmp_path: Path) -> None:
    run = score(str(model), "-", "-o", "-", folder=tmp_path, stdin=csv_bytes())
    assert run.returncode == 0, run.stderr
    (tmp_path / "out.csv").write_bytes(run.stdout)
    found = read_output(tmp_path / "out.csv")
    assert found.column("text").to_pylist() == TEXTS
    assert_predictions(found, TEXTS, model)
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


def test_score_folders_and_globs_name_files_once(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "in" / ".hidden").mkdir()
    for name, texts in (
        ("b.csv", TEXTS[:30]),
        ("deep/a.csv.gz", TEXTS[30:60]),
        ("deep/deeper/c.csv", TEXTS[60:90]),
    ):
        data = csv_bytes(texts=texts)
        (tmp_path / "in" / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    (tmp_path / "in" / ".hidden" / "no.csv").write_bytes(csv_bytes())
    (tmp_path / "in" / "readme.md").write_text("no data")
    scored(str(model), "in", "in/*.csv", "-o", "in/out.parquet", folder=tmp_path)
    found = read_output(tmp_path / "in" / "out.parquet")
    assert found.column("text").to_pylist() == TEXTS[:90]
    assert_predictions(found, TEXTS[:90], model)


def test_score_json_columns_keep_their_types(model: Path, tmp_path: Path) -> None:
    rows = [
        {
            "text": text,
            "n": i,
            "x": i / 2,
            "ok": i % 2 == 0,
            "tags": ["a", i],
            "note": None if i % 3 else "no",
        }
        for i, text in enumerate(TEXTS[:50])
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored(str(model), "in.jsonl", "-o", "out.parquet", folder=tmp_path)
    found = read_output(tmp_path / "out.parquet")
    assert [str(field.type) for field in found.schema][:6] == [
        "string", "int64", "double", "bool", "string", "string"
    ]  # fmt: skip
    for row, expected in zip(found.to_pylist(), rows, strict=True):
        assert {**row, "tags": json.loads(row["tags"])}.items() >= expected.items()
