"""Hugging Face's `InferenceClient`, against the nested route and TEI's flat one."""

import json
import sys

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

address, texts = sys.argv[1], json.loads(sys.argv[2])
answers = [[], []]
client = InferenceClient(model=f"{address}/hf", provider="hf-inference", timeout=10)
assert client.health_check()
assert client.get_endpoint_info()["model_id"] == "spam"
for text in texts:
    found = client.text_classification(text)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    answers[0].append(found[0].label)
    scores = {one.label: one.score for one in found}
    answers[1].append([scores[label] for label in sorted(scores)])
    [top] = client.text_classification(text, top_k=1, function_to_apply="softmax")
    assert top.label == found[0].label
    flat = InferenceClient(model=f"{address}/predict", timeout=10).text_classification(text)
    assert flat["label"] == found[0].label, "of a flat list the client keeps the top label only"
try:
    client.text_classification("x" * 10_001)
except HfHubHTTPError as refused:
    assert refused.response.status_code == 422
else:
    raise AssertionError("not refused")
print(json.dumps(answers))
