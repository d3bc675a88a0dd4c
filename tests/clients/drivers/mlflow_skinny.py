"""MLflow's scoring server client with a data frame."""

import json
import sys
from urllib.parse import urlsplit

import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

parts, texts = urlsplit(sys.argv[1]), json.loads(sys.argv[2])
client = ScoringServerClient(parts.hostname, parts.port)
client.ping()
assert client.get_version() == sys.argv[3]
frame = client.invoke(pd.DataFrame({"text": texts})).get_predictions()
scores = [[row[label] for label in sorted(row)] for row in frame["scores"]]
try:
    client.invoke(pd.DataFrame({"a": texts, "b": texts}))
except Exception as refused:  # noqa: BLE001 - the client raises this class
    assert "error code 400" in str(refused) and "`text`" in str(refused)
else:
    raise AssertionError("not refused")
print(json.dumps([frame["label"].tolist(), scores]))
