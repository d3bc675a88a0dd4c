"""The client that the Open Inference Protocol's own project generates."""

import json
import sys

from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError
from open_inference.openapi.types import InferenceRequest

address, texts = sys.argv[1], json.loads(sys.argv[2])
client = OpenInferenceClient(base_url=address, timeout=10)
client.check_server_liveness()
client.check_server_readiness()
client.check_model_readiness("spam")
client.check_model_version_readiness("spam", "1")
assert client.read_server_metadata().name == "tamis"
assert client.read_model_metadata("spam").versions == ["1"]
assert client.read_model_version_metadata("spam", "1").inputs[0].datatype == "BYTES"
tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
request = InferenceRequest.parse_obj({"id": "42", "inputs": [tensor]})
answers = []
for found in (
    client.model_infer("spam", request=request),
    client.model_version_infer("spam", "1", request=request),
):
    assert found.id == "42"
    outputs = {one.name: json.loads(one.json())["data"] for one in found.outputs}
    pairs = [outputs["score"][start : start + 2] for start in range(0, 2 * len(texts), 2)]
    answers.append([outputs["label"], pairs])
assert answers[0] == answers[1]
try:
    client.model_infer("ham", request=request)
except ApiError as refused:
    assert refused.status_code == 404
else:
    raise AssertionError("not refused")
print(json.dumps(answers[0]))
