"""MLServer with the classifier of an artifact, for `benchmarks/dialects.py`: one process.

    build/clients/mlserver/bin/python benchmarks/mlserver_runtime.py MODEL --port PORT

It runs in MLServer's own environment (`scripts/clients.sh`); what loads the model comes from the directories
in LIBRARIES, after that environment's own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from mlserver import MLModel
from mlserver.cli.main import main
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class TextClassifier(MLModel):
    """Answers with the labels and scores of a text classifier, as Tamis's V2 route does; logs nothing."""

    async def load(self) -> bool:
        """Load the artifact."""
        sys.path += os.environ["LIBRARIES"].split(os.pathsep)
        from tamis import Classifier

        self._classifier = Classifier.load(os.environ["MODEL"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Classify the texts of the first input."""
        found = self._classifier.predict_many(StringCodec.decode_input(payload.inputs[0]))
        scores = [score for one in found for score in one.scores.values()]
        shape = [len(found), len(scores) // len(found)]
        outputs = [
            StringCodec.encode_output("label", [one.label for one in found]),
            ResponseOutput(name="score", datatype="FP64", shape=shape, data=scores),
            StringCodec.encode_output("decision", [one.decision for one in found]),
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def _serve(model: str, port: str) -> None:
    os.environ["MODEL"] = model
    with tempfile.TemporaryDirectory() as folder:
        server = {
            "host": "127.0.0.1",
            "http_port": int(port),
            "grpc_port": int(port) + 1,
            "metrics_port": int(port) + 2,
            "parallel_workers": 0,
            "debug": False,
        }
        named = {"name": Path(model).name, "implementation": "mlserver_runtime.TextClassifier"}
        Path(folder, "settings.json").write_text(json.dumps(server))
        Path(folder, "model-settings.json").write_text(json.dumps(named))
        sys.argv = ["mlserver", "start", folder]
        main()


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[3])
