#!/usr/bin/env bash
# Installs the clients of other servers for `make test-clients`, each in an environment of its own under
# build/clients, pinned with hashes; one that cannot be installed is named, and its test skips.
set -uo pipefail
cd "$(dirname "$0")/.."
for pins in requirements/clients/*.txt; do
  name=$(basename "$pins" .txt); home=build/clients/$name
  sum=$(sha256sum "$pins" | cut -c1-16)
  [ "$(cat "$home/.pins" 2>/dev/null)" = "$sum" ] && continue
  rm -rf "$home"
  if "${PYTHON:-python3}" -m venv "$home" && "$home/bin/pip" install --quiet --no-compile --require-hashes -r "$pins"; then
    echo "$sum" > "$home/.pins"
  else
    rm -rf "$home"; echo "$name could not be installed: its test skips" >&2
  fi
done
node=build/clients/node
if cmp -s tests/clients/node/package-lock.json $node/package-lock.json && [ -d $node/node_modules ]; then
  exit 0
elif command -v npm >/dev/null; then
  mkdir -p $node && cp tests/clients/node/package*.json $node/
  npm ci --prefix $node --silent --no-audit --no-fund --ignore-scripts || { rm -rf $node; echo "@huggingface/inference could not be installed: its test skips" >&2; }
else
  echo "no npm: the test of @huggingface/inference skips" >&2
fi
