"""MLServer's codecs on our responses, and its types for a request."""

import json
import sys
from urllib.request import Request, urlopen

from mlserver.codecs import NumpyCodec, StringCodec, StringRequestCodec
from mlserver.types import InferenceResponse

address, texts = sys.argv[1], json.loads(sys.argv[2])
request = StringRequestCodec.encode_request(texts)
body = request.model_dump_json(exclude_none=True).encode()
url = f"{address}/v2/models/spam/infer"
with urlopen(Request(url, body, {"content-type": "application/json"}), timeout=10) as answer:
    found = InferenceResponse.model_validate_json(answer.read())
outputs = {one.name: one for one in found.outputs}
labels = StringCodec.decode_output(outputs["label"])
assert StringCodec.decode_output(outputs["decision"])
print(json.dumps([labels, NumpyCodec.decode_output(outputs["score"]).tolist()]))
