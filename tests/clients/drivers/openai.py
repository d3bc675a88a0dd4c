"""OpenAI's client: models and moderations."""

import json
import sys

import openai

address, texts = sys.argv[1], json.loads(sys.argv[2])
client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", timeout=10, max_retries=1)
assert [one.id for one in client.models.list()] == ["spam"]
assert client.models.retrieve("spam").object == "model"
found = client.moderations.create(input=texts, model="spam@1").results
categories = [one.categories.model_dump(exclude_none=True) for one in found]
scores = [one.category_scores.model_dump(exclude_none=True) for one in found]
assert [one.flagged for one in found] == [one["spam"] for one in categories]
single = client.moderations.create(input=texts[0]).results
assert single[0].flagged == found[0].flagged
try:
    client.moderations.create(input=texts, model="omni-moderation-latest")
except openai.NotFoundError as refused:
    assert refused.code == "unknown_model"
else:
    raise AssertionError("not refused")
labels = [max(one, key=one.get) for one in scores]
print(json.dumps([labels, [[one[label] for label in sorted(one)] for one in scores]]))
