#!/usr/bin/env bash
# Checks the dependencies against deny.toml with cargo-deny.
#
# Usage: scripts/check-dependencies.sh [CHECK]...
#
# A check is licenses, bans, sources or advisories. The default is the first three. `advisories` downloads the
# RustSec database from GitHub, and also checks bench/baselines.
#
# If cargo-deny is not installed in this version, the script builds it into target/ci-tools. That takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

version=0.20.2
[ $# -gt 0 ] || set -- licenses bans sources
deny=cargo-deny
if [ "$("$deny" --version 2>/dev/null)" != "cargo-deny $version" ]; then
  deny=target/ci-tools/bin/cargo-deny
  # Does nothing if this version is already there.
  limit_time 1200 "the installation of cargo-deny" \
    cargo install cargo-deny --version "$version" --locked --quiet --root target/ci-tools ||
    fail "cargo-deny could not be installed. Its output is above."
fi
limit_time 600 "cargo-deny" "$deny" --locked check "$@" ||
  fail "the dependencies do not match deny.toml. Each finding above has a code, and deny.toml says what to do."
case " $* " in
  *' advisories '*)
    limit_time 600 "cargo-deny" "$deny" --locked --manifest-path bench/baselines/Cargo.toml \
      --config deny.toml check advisories ||
      fail "bench/baselines has dependencies with an advisory. Update them: cargo update in that folder."
    ;;
esac
