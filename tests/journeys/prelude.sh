# What the four journeys share: each is run after this in one shell, in an empty folder, with only the wheel's programs.
set -euo pipefail
trap 'echo "failed: line $LINENO of the journey" >&2; stop' ERR
SERVICE=

# Start `tamis serve` with these arguments on a free port, and wait until it prints its address.
serve() {
  : > serve.log
  TAMIS_PORT=0 TAMIS_DRAIN_SECONDS=0.1 tamis serve "$@" 2> serve.log &
  SERVICE=$!
  ADDRESS=$( (tail -f --pid=$SERVICE -n +1 serve.log || true) | grep -m 1 -o 'http://127.0.0.1:[0-9]*')
}

# End the service as Ctrl+C does; it must end with 0.
stop() {
  [ -n "$SERVICE" ] || return 0
  local pid=$SERVICE
  SERVICE=
  kill -TERM "$pid"
  wait "$pid"
}

# Open an address in Chromium, if there is one, and check that the rendered page has a text.
look() {
  command -v chromium > /dev/null || { echo "no Chromium: not looking at $1" >&2; return 0; }
  chromium --headless=new --no-sandbox --disable-gpu --user-data-dir="$PWD/profile" \
    --virtual-time-budget=8000 --dump-dom "$1" 2> chromium.log > page.html
  grep -q "$2" page.html
}

# Check that standard input has a text. Unlike grep -q it reads to the end, so nothing upstream gets a broken pipe.
has() { grep "$@" > /dev/null; }

# Run a command until it succeeds, for half a minute at most.
eventually() {
  local deadline=$((SECONDS + 30))
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}
