#!/usr/bin/env bash
# Builds what a release uploads, into dist/ or the folder in DIST: the sdist, a wheel for this Linux under a tag that
# PyPI accepts, and the pure wheel for every other platform. Both wheels are built from the sdist.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(cd "${BIN:-.venv/bin}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dist=${DIST:-dist}
rm -rf "$dist"
"$bin/hatchling" build --target sdist --directory "$work/sdist"
tar -xzf "$work"/sdist/*.tar.gz -C "$work"
source=$(echo "$work"/tamis-*/)
build() { "$bin/python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$1" "$source"; }
TAMIS_COMPILED=0 build "$work/pure"
if command -v cargo >/dev/null; then
  TAMIS_COMPILED=1 build "$work/linux"
  # auditwheel finds the oldest glibc that the library runs on, and names the wheel after it.
  PATH="$bin:$PATH" "$bin/auditwheel" repair --wheel-dir "$dist" "$work"/linux/*.whl
fi
mkdir -p "$dist"
cp "$work"/pure/*.whl "$work"/sdist/*.tar.gz "$dist"/
"$bin/twine" check --strict "$dist"/*
ls -l "$dist"
