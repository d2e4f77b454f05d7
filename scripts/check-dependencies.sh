#!/usr/bin/env bash
# Checks the dependencies against deny.toml with cargo-deny.
#
# Usage: scripts/check-dependencies.sh [CHECK]...
#
# A check is licenses, bans, sources or advisories. The default is the first three. `advisories` downloads the
# RustSec database from GitHub, and also checks bench/baselines.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

[ $# -gt 0 ] || set -- licenses bans sources
deny=$(scripts/python-tools.sh deny)/cargo-deny
limit_time 600 "cargo-deny" "$deny" --locked check "$@" ||
  fail "the dependencies do not match deny.toml. Each finding above has a code, and deny.toml says what to do."
case " $* " in
  *' advisories '*)
    limit_time 600 "cargo-deny" "$deny" --locked --manifest-path bench/baselines/Cargo.toml \
      --config deny.toml check advisories ||
      fail "bench/baselines has dependencies with an advisory. Update them: cargo update in that folder."
    ;;
esac
