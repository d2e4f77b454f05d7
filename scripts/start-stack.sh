# shellcheck shell=bash
# Starts the development server and stops it when the script ends. Source this file after common.sh.
#
# Reads:
#   STACK_PORT           port of the API; by default any free port
#   STACK_START_SECONDS  time limit to build and start, 1200 by default: the first build takes minutes
# Sets:
#   API_URL    base URL of the API, exported
#   stack_pid  process id of the server
#   stack_log  file with the server's output

stack_log=$(mktemp)
# Cargo replaces itself with the server, so the process id stays the same.
cargo run --quiet -- --port "${STACK_PORT:-0}" >"$stack_log" 2>&1 &
stack_pid=$!

stack_has_ended() { ! kill -0 "$stack_pid" 2>/dev/null; }

stop_stack() {
  kill "$stack_pid" 2>/dev/null || true
  wait_until 30 "the development server did not stop; it is killed" stack_has_ended ||
    kill -KILL "$stack_pid" 2>/dev/null || true
  wait "$stack_pid" 2>/dev/null || true
  rm -f "$stack_log"
}
trap stop_stack EXIT

stack_is_ready() {
  grep -q '^Press Ctrl-C to stop' "$stack_log" && return
  if stack_has_ended; then
    cat "$stack_log" >&2
    fail "the development server ended before it was ready. Its output is above."
  fi
  return 1
}

wait_until "${STACK_START_SECONDS:-1200}" "the development server did not become ready" stack_is_ready || {
  cat "$stack_log" >&2
  fail "the development server's output is above. STACK_START_SECONDS raises the limit."
}
API_URL=$(sed -n 's/^The chat API is at //p' "$stack_log")
[ -n "$API_URL" ] || fail "the development server did not print 'The chat API is at URL'"
export API_URL
