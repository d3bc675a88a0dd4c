"""KServe's REST client, protocols V1 and V2."""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

address, texts = sys.argv[1], json.loads(sys.argv[2])


async def main():
    v2 = InferenceRESTClient(RESTConfig(protocol="v2", timeout=10, retries=1))
    assert await v2.is_server_live(address) and await v2.is_server_ready(address)
    assert await v2.is_model_ready(address, "spam")
    answers = []
    for binary in (False, True):
        tensor = InferInput("text", [len(texts)], "BYTES")
        tensor.set_data_from_numpy(np.array(texts, dtype=np.object_), binary_data=binary)
        request = InferRequest("spam", [tensor], request_id="42")
        found = await v2.infer(address, request, model_name="spam")
        outputs = {one.name: one.as_numpy().tolist() for one in found.outputs}
        labels = [one.decode() if isinstance(one, bytes) else one for one in outputs["label"]]
        assert found.id == "42"
        answers.append([labels, outputs["score"]])
    assert answers[0] == answers[1]
    v1 = InferenceRESTClient(RESTConfig(protocol="v1", timeout=10, retries=1))
    assert await v1.is_server_live(address) and await v1.is_model_ready(address, "spam")
    predictions = (await v1.infer(address, {"instances": texts}, model_name="spam"))["predictions"]
    assert [one["label"] for one in predictions] == answers[0][0]
    try:
        await v1.infer(address, {"instances": texts}, model_name="ham")
    except httpx.HTTPStatusError as refused:
        assert refused.response.status_code == 404
    else:
        raise AssertionError("not refused")
    print(json.dumps(answers[0]))


asyncio.run(main())
