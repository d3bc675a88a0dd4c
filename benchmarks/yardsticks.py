"""What Tamis is measured against: an empty FastAPI endpoint, and plain FastAPI calling the same model.

uvicorn yardsticks:empty
TAMIS_MODEL_DIRECTORY=models/spam uvicorn yardsticks:plain
"""

from __future__ import annotations

import os

from fastapi import FastAPI
from pydantic import BaseModel


class Query(BaseModel):
    """One text."""

    text: str
    echo_input: bool = False
    skip_cache: bool = False


class Queries(BaseModel):
    """Some texts."""

    texts: list[str]
    echo_input: bool = True
    skip_cache: bool = False


class Top(BaseModel):
    """The most probable label."""

    label: str
    value: float


class Answer(BaseModel):
    """One prediction."""

    input: str | None = None
    prediction: dict[str, float]
    top: Top
    from_cache: bool = False


def empty() -> FastAPI:
    """Answer always the same."""
    app = FastAPI()
    answer = Answer(prediction={"ham": 0.25, "spam": 0.75}, top=Top(label="spam", value=0.75))

    @app.get("/")
    async def info() -> dict[str, str]:
        return {"name": "empty"}

    @app.post("/prediction", response_model=Answer)
    async def prediction(query: Query) -> Answer:
        return answer

    @app.post("/predictions", response_model=list[Answer])
    async def predictions(queries: Queries) -> list[Answer]:
        return [answer for _ in queries.texts]

    return app


def plain() -> FastAPI:
    """Call the model in the handler, as one would write it first; nothing is logged or remembered."""
    from tamis import Classifier

    app = FastAPI()
    classifier = Classifier.load(os.environ["TAMIS_MODEL_DIRECTORY"])

    def answers(texts: list[str]) -> list[Answer]:
        return [
            Answer(prediction=dict(found.scores), top=Top(label=found.label, value=found.score))
            for found in classifier.predict_many(texts)
        ]

    @app.get("/")
    async def info() -> dict[str, str]:
        return {"name": "plain"}

    @app.post("/prediction", response_model=Answer)
    async def prediction(query: Query) -> Answer:
        return answers([query.text])[0]

    @app.post("/predictions", response_model=list[Answer])
    async def predictions(queries: Queries) -> list[Answer]:
        return answers(queries.texts)

    return app


class Inputs(BaseModel):
    """One text, or a list of lists of one text, as Text Embeddings Inference takes them."""

    inputs: str | list[list[str]]


class Score(BaseModel):
    """One label and its probability."""

    label: str
    score: float


def tei() -> FastAPI:
    """Call the model behind a route of TEI's shape; nothing is logged or remembered."""
    from tamis import Classifier

    app = FastAPI()
    classifier = Classifier.load(os.environ["TAMIS_MODEL_DIRECTORY"])

    def ranked(texts: list[str]) -> list[list[Score]]:
        return [
            sorted(
                (Score(label=label, score=score) for label, score in found.scores.items()),
                key=lambda one: -one.score,
            )
            for found in classifier.predict_many(texts)
        ]

    @app.get("/")
    async def info() -> dict[str, str]:
        return {"name": "tei"}

    @app.post("/predict", response_model=list[Score] | list[list[Score]])
    async def predict(query: Inputs) -> list[Score] | list[list[Score]]:
        if isinstance(query.inputs, str):
            return ranked([query.inputs])[0]
        return ranked([texts[0] for texts in query.inputs])

    return app
