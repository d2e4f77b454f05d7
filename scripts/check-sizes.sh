#!/usr/bin/env bash
# Builds functions as they are deployed, and fails when one is over its budget of size, memory, or instructions for a
# warm request. Instructions are counted with valgrind, if it is installed.
#
# Usage: scripts/check-sizes.sh [FUNCTION]...
#
# Without arguments it checks get-totals, send-message and push-events: one that reads, one that writes, and one with
# the client of the @connections API. The functions share nearly all of their code, so these represent the others.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

[ $# -gt 0 ] || set -- get-totals send-message push-events
cargo run --quiet --locked --bin chat-bench -- sizes "${@/#/--function=}"
