#!/usr/bin/env bash
# Builds functions as they are deployed, and fails when one is over its budget of size or memory.
#
# Usage: scripts/check-sizes.sh [FUNCTION]...
#
# Without arguments it checks get-totals and send-message: one that reads and one that writes. The functions
# share nearly all of their code, so these two represent the others.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

[ $# -gt 0 ] || set -- get-totals send-message
cargo run --quiet --locked --bin chat-bench -- sizes "${@/#/--function=}"
