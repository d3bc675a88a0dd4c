#!/usr/bin/env bash
# Style and lints of what is compiled; without Rust there is nothing to compile and nothing to look at.
set -euo pipefail
cd "$(dirname "$0")/../native"
command -v cargo >/dev/null || { echo 'no Rust here: native/ was not looked at' >&2; exit 0; }
cargo fmt --check
cargo clippy --quiet --offline --locked --target-dir ../build/native -- --deny warnings
