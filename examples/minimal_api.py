"""The smallest useful API on a model: uvicorn --app-dir examples minimal_api:app"""

import os
from typing import Annotated

from fastapi import Body, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from tamis import Classifier, Prediction

classifier = Classifier.load(os.environ.get("MODEL_DIRECTORY", "models/spam"))
app = FastAPI(title="Minimal classifier API")


@app.get("/")
async def info() -> dict[str, str]:
    return {"model_name": classifier.name, "model_version": classifier.version}


@app.post("/prediction")
async def prediction(text: Annotated[str, Body(embed=True)]) -> dict[str, object]:
    return body(classifier.predict(text))


@app.post("/predictions")
async def predictions(texts: Annotated[list[str], Body(embed=True)]) -> list[dict[str, object]]:
    return [body(answer) for answer in classifier.predict_many(texts)]


def body(answer: Prediction) -> dict[str, object]:
    return {"prediction": answer.scores, "top": {"label": answer.label, "value": answer.score}}


@app.exception_handler(RequestValidationError)
async def refuse(*_: object) -> JSONResponse:  # FastAPI's own fails on a text that cannot be sent back
    return JSONResponse({"detail": "see /docs for what this route takes"}, 422)
