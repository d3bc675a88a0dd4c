#!/usr/bin/env bash
# Pins requirements/*.txt with hashes from pyproject.toml, for every platform, without naming an index.
set -euo pipefail
cd "$(dirname "$0")/.."
pin() { uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
            --no-emit-find-links --no-strip-extras --no-header --no-annotate pyproject.toml "$@"; }
pin -o requirements/serve.txt
pin --extra train -c requirements/serve.txt -o requirements/train.txt
pin --extra dev -c requirements/train.txt -o requirements/dev.txt
