#!/usr/bin/env bash
# Installs the programs that some tests use and skip without: gcc, nginx, wrk, systemd-analyze, Prometheus; with the
# word `browser`, Chromium and its driver and, if there is npm, axe-core in build/axe; with `office`, LibreOffice Calc.
set -euo pipefail
AXE=4.11.1
if [ "${1:-}" = browser ] && [ ! -e build/axe/package/axe.min.js ] && command -v npm >/dev/null; then
  # one file of rules, read by the tests; nothing of it runs here
  mkdir -p build/axe
  (cd build/axe && npm pack --silent "axe-core@$AXE" >/dev/null && tar xzf "axe-core-$AXE.tgz") ||
    echo "no axe-core: the tests of accessibility skip" >&2
fi
export PATH="$PATH:/usr/sbin"
missing=()
want() { command -v "$1" >/dev/null || missing+=("$2"); }
if [ "${1:-}" = office ]; then
  want soffice libreoffice-calc-nogui
elif [ "${1:-}" = browser ]; then
  want chromium chromium
  want chromedriver chromium-driver
else
  want gcc gcc
  [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
  want nginx nginx-light
  want wrk wrk
  want systemd-analyze systemd
  want prometheus prometheus
  want openssl openssl
fi
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "not here: ${missing[*]}; the tests that need them will skip" >&2
  exit 0
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
# Debian starts what it installs, on every network; the tests start their own.
if [[ " ${missing[*]} " == *" prometheus "* ]] && [ -d /run/systemd/system ]; then
  systemctl disable --now --quiet prometheus || true
fi
