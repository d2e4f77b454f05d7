#!/usr/bin/env bash
# Runs the README's tutorial as it is written, against the development server on port 3000. Then it stops
# the server with Ctrl-C (SIGINT) and checks that no process of a function is left.
#
# Usage: scripts/test-tutorial.sh
#
# Port 3000 must be free. Needs curl 7.82 or later.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"
. scripts/tutorial.sh

STACK_PORT=3000
. scripts/start-stack.sh
run_tutorial "$(tutorial_commands)"

# Prints the processes of the functions. The development server runs them from Cargo's target folder.
function_processes() {
  pgrep -f "^${CARGO_TARGET_DIR:-$PWD/target}/debug/($(function_names | paste -sd '|'))( |$)"
}
function_processes >/dev/null || fail "no process of a function is running, so the tutorial proves nothing"

kill -INT "$stack_pid"
wait_until 60 "the development server did not stop after Ctrl-C" stack_has_ended || exit 1
status=0
wait "$stack_pid" || status=$?
[ "$status" = 0 ] || fail "after Ctrl-C the development server ended with status $status instead of 0"
if function_processes; then
  fail "after Ctrl-C the function processes above are still running"
fi
echo "The tutorial works as the README describes it."
