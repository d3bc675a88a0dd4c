"""The OpenAPI 3.1 document: made from the schemas, the limits and the model that is served.

Knows what every route takes and gives; a test holds it and the routes together.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from tamis import __version__
from tamis.inference.classifier import Classifier
from tamis.service import schemas
from tamis.service.answers import STATUS_BY_CODE
from tamis.service.call_log.document import LOG_BODIES, LOG_TAG, log_paths
from tamis.service.classify import Classified
from tamis.service.observing.route import metrics_paths
from tamis.service.openapi_parts import Json, content, head, ref, responses
from tamis.service.requests import Limits
from tamis.service.routes import model_info, prediction_body

_EXAMPLE_TEXTS = ["WIN a FREE phone now, text CLAIM to 80080", "Are we still on for lunch tomorrow?"]
_BODIES = (
    schemas.SingleQuery,
    schemas.ManyQuery,
    schemas.PredictionBody,
    schemas.ServiceInfo,
    schemas.ModelInfo,
    schemas.Health,
    schemas.ErrorBody,
    *LOG_BODIES,
)
_TAGS = [
    {"name": "classification", "description": "Classify texts."},
    LOG_TAG,
    {"name": "info", "description": "What is served, and to whom."},
    {"name": "health", "description": "For load balancers and orchestrators."},
]


def openapi_document(classifier: Classifier, *, api_name: str, limits: Limits) -> Json:
    """Return the document; its examples are the model's own answers."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": api_name,
            "version": __version__,
            "description": f"Classifies texts as {_listed(classifier.labels)}.",
        },
        "tags": _TAGS,
        "paths": {
            **_prediction_paths(classifier, limits),
            **_info_paths(classifier),
            **log_paths(),
            **metrics_paths(),
        },
        "components": {"schemas": _components(classifier.labels, limits)},
    }


def _listed(labels: Sequence[str]) -> str:
    shown = [*labels[:10], *([f"{len(labels) - 10} more labels"] if len(labels) > 10 else [])]
    return f"{', '.join(shown[:-1])} or {shown[-1]}"


def _components(labels: Sequence[str], limits: Limits) -> Json:
    """Return the schemas of all bodies, with the model's labels and this service's limits put in."""
    _, components = msgspec.json.schema_components(_BODIES, ref_template="#/components/schemas/{name}")
    prediction, single, many = (components[name] for name in ("PredictionBody", "SingleQuery", "ManyQuery"))
    prediction["properties"]["prediction"] |= {
        "properties": {label: {"type": "number", "minimum": 0, "maximum": 1} for label in labels},
        "required": list(labels),
        "additionalProperties": False,
    }
    label = {"type": "string", "enum": list(labels)}
    prediction["properties"]["decision"] |= label
    components["Top"]["properties"]["label"] |= label
    components["ErrorDetail"]["properties"]["code"]["enum"] = list(STATUS_BY_CODE)
    components["Health"]["properties"]["status"]["enum"] = ["live", "ready", "degraded", "stopping"]
    single["properties"]["text"]["maxLength"] = limits.max_text_chars
    many["properties"]["texts"]["maxItems"] = limits.max_texts
    many["properties"]["texts"]["items"]["maxLength"] = limits.max_text_chars
    return components


def _prediction_paths(classifier: Classifier, limits: Limits) -> Json:
    single, many = schemas.SingleQuery(_EXAMPLE_TEXTS[0], echo_input=True), schemas.ManyQuery(_EXAMPLE_TEXTS)
    answers = [
        prediction_body(text, Classified(prediction, from_cache=False), model_version=classifier.version)
        for text, prediction in zip(_EXAMPLE_TEXTS, classifier.predict_many(_EXAMPLE_TEXTS), strict=True)
    ]
    one_answer, many_answers = ref("PredictionBody"), {"type": "array", "items": ref("PredictionBody")}
    errors_of_a_body = (400, 413, 415, 422, 503)
    return {
        "/prediction": {
            "post": {
                **head("classification", "classify_text", "Classify one text"),
                "requestBody": content(ref("SingleQuery"), single) | {"required": True},
                "responses": responses(one_answer, answers[0], errors_of_a_body),
            },
            "get": {
                **head("classification", "classify_text_of_query", "Classify one text given in the address"),
                "parameters": _parameters(limits),
                "responses": responses(one_answer, answers[0], (400, 422, 503)),
            },
        },
        "/predictions": {
            "post": {
                **head("classification", "classify_texts", "Classify many texts"),
                "requestBody": content(ref("ManyQuery"), many) | {"required": True},
                "responses": responses(many_answers, answers, errors_of_a_body),
            }
        },
    }


def _info_paths(classifier: Classifier) -> Json:
    loaded = f"model {classifier.name}@{classifier.version} is loaded"
    described = [
        ("/", "info", "service_info", "What answers here, and who asks", "ServiceInfo", UNSET),
        ("/model", "info", "model_info", "What is served", "ModelInfo", model_info(classifier)),
        ("/health/live", "health", "live", "Whether the process answers", "Health", UNSET),
        (
            "/health/ready",
            "health",
            "ready",
            "Whether it can classify",
            "Health",
            schemas.Health("ready", loaded),
        ),
    ]
    paths: Json = {
        path: {"get": {**head(tag, operation, summary), "responses": responses(ref(schema), example, ())}}
        for path, tag, operation, summary, schema, example in described
    }
    paths["/health/ready"]["get"]["responses"]["503"] = {
        "description": "The service is about to stop.",
        **content(ref("Health"), schemas.Health("stopping", "the service has been told to stop")),
    }
    return paths


def _parameters(limits: Limits) -> list[Json]:
    schema = msgspec.json.schema(schemas.SingleQuery)["$defs"]["SingleQuery"]
    schema["properties"]["text"]["maxLength"] = limits.max_text_chars
    return [
        {"name": name, "in": "query", "required": name in schema["required"], "schema": properties}
        | ({"example": _EXAMPLE_TEXTS[0]} if name == "text" else {})
        for name, properties in schema["properties"].items()
    ]
