#!/usr/bin/env bash
# Tests the JavaScript client (clients/javascript): its types, its size, its rules with a clock that the tests move,
# random runs with faults, and a story of two users against the development server.
#
# Usage: scripts/test-javascript-client.sh
#
#   CLIENT_RUNS  number of random runs with faults (default 100)
#   CLIENT_SEED  seed of the first one (default 1)
#   API_URL      a service to use instead of the development server; then also set ANN and BEN to access tokens of the
#                users 17 and 42, who have no chat yet, and LIVE_URL if live events have another address
#
# Needs Node 20 or later.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

client=clients/javascript

require npm "Install Node 20 or later: https://nodejs.org"
# The lock file must work with every registry, so it may not name the one that it was made with.
if grep -q '"resolved"' "$client/package-lock.json"; then
  fail "$client/package-lock.json contains addresses of a registry. Run" \
    "\`npm config set omit-lockfile-registry-resolved true\` and then \`npm install\` in $client."
fi
limit_time 300 "the installation of the tools" npm ci --prefix "$client" --no-audit --no-fund --silent
limit_time 120 "the check of the types" npm run --prefix "$client" --silent check-types
limit_time 600 "the tests of the client" npm test --prefix "$client" --silent

if [ -z "${API_URL:-}" ]; then
  . scripts/start-stack.sh
  ANN=$(cargo run --quiet -- token 17)
  BEN=$(cargo run --quiet -- token 42)
  export ANN BEN
fi
limit_time 180 "the story of two users" npm run --prefix "$client" --silent story
