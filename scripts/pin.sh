#!/usr/bin/env bash
# Pins requirements/*.txt with hashes from pyproject.toml, for every platform, without naming an index.
set -euo pipefail
cd "$(dirname "$0")/.."
pin() { uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
            --no-emit-find-links --no-strip-extras --no-header --no-annotate "$@"; }
pin pyproject.toml -o requirements/serve.txt
pin pyproject.toml --extra train -c requirements/serve.txt -o requirements/train.txt
pin pyproject.toml --extra dev -c requirements/train.txt -o requirements/dev.txt
pin pyproject.toml --extra docs -c requirements/dev.txt -o requirements/docs.txt
# The Ray engine of `tamis score` and its tests, beside the environment of the others.
pin pyproject.toml --extra ray -c requirements/dev.txt -o requirements/ray.txt
# The S3 server of the tests, in an environment of its own: moto (Apache-2.0), 82 MB.
printf 'moto[s3]\nflask\nflask-cors\n' | pin - -c requirements/dev.txt -o requirements/s3.txt
# What benchmarks/training.py compares with lives in an environment of its own.
echo tensorflow-cpu | pin - -c requirements/dev.txt -o requirements/bench-tensorflow.txt
