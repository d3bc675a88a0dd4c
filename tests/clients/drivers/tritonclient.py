"""Triton's HTTP client: binary tensors both ways, classification, repository, statistics."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

host, texts = sys.argv[1].removeprefix("http://"), json.loads(sys.argv[2])
client = triton.InferenceServerClient(host, connection_timeout=10, network_timeout=10)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("spam")
assert client.get_server_metadata()["name"] == "tamis"
metadata = client.get_model_metadata("spam")
assert [one["name"] for one in metadata["outputs"]] == ["label", "score", "decision"]


def tensor(values, binary):
    made = triton.InferInput("text", [len(values)], "BYTES")
    made.set_data_from_numpy(np.array([value.encode() for value in values], dtype=object), binary_data=binary)
    return made


answers = []
for binary in (True, False):
    for version in ("", "1"):
        found = client.infer("spam", [tensor(texts, binary)], model_version=version, request_id="42")
        assert found.get_response()["id"] == "42"
        labels = [label.decode() for label in found.as_numpy("label")]
        answers.append([labels, found.as_numpy("score").tolist()])
assert all(answer == answers[0] for answer in answers)
asynchronous = client.async_infer("spam", [tensor(texts, True)]).get_result()
assert asynchronous.as_numpy("score").tolist() == answers[0][1]
requested = [triton.InferRequestedOutput("score", class_count=2), triton.InferRequestedOutput("label", False)]
ranked = client.infer("spam", [tensor(texts, True)], outputs=requested)
top = ranked.as_numpy("score")[0][0].decode().split(":")
assert top[2] == answers[0][0][0], top
for compression in ("gzip", "deflate"):
    packed = client.infer("spam", [tensor(texts, True)], request_compression_algorithm=compression)
    assert packed.as_numpy("score").tolist() == answers[0][1]
[entry] = client.get_model_repository_index()
assert (entry["name"], entry["version"], entry["state"]) == ("spam", "1", "READY")
[stats] = client.get_inference_statistics("spam")["model_stats"]
assert stats["inference_count"] == len(texts), "the cache answered the rest"
for call in (
    lambda: client.infer("ham", [tensor(texts, True)]),
    lambda: client.infer("spam", [tensor(texts, True)], model_version="7"),
    lambda: client.infer("spam", [tensor(["x" * 10_001], True)]),
    lambda: client.load_model("spam"),
    lambda: client.unload_model("spam"),
):
    try:
        call()
    except InferenceServerException as refused:
        assert refused.status() in {"400", "403", "404"}, refused
        continue
    raise AssertionError("not refused")
print(json.dumps(answers[0]))
