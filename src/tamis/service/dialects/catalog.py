"""The list of dialects, and the selection by TAMIS_DIALECTS."""

from __future__ import annotations

from collections.abc import Sequence

from tamis.service.dialects.base import Dialect
from tamis.service.dialects.hugging_face import HuggingFace, TextEmbeddings
from tamis.service.dialects.kserve_v1 import KServeV1
from tamis.service.dialects.mlflow import Mlflow
from tamis.service.dialects.open_inference import OpenInference
from tamis.service.dialects.openai import OpenAi

# in the order of the documentation; a path of two dialects (/v1/models) belongs to the first
DIALECTS: Sequence[Dialect] = (
    OpenInference(),
    KServeV1(),
    TextEmbeddings(),
    HuggingFace(),
    Mlflow(),
    OpenAi(),
)


def chosen_dialects(names: str) -> Sequence[Dialect]:
    """Return the dialects that a value of TAMIS_DIALECTS selects: `all`, `none` or comma-separated names."""
    if names == "all":
        return DIALECTS
    chosen = {name.strip() for name in names.split(",")}
    return [dialect for dialect in DIALECTS if dialect.name in chosen]
