#!/usr/bin/env bash
# Tests a TypeScript client that is generated from openapi.yaml, and the documentation page in a browser,
# against the development server.
#
# Usage: scripts/test-web.sh
#
#   CHROMIUM     path of Chromium or Chrome (default /usr/bin/chromium; installed when missing, as root on
#                Debian and Ubuntu)
#   SCREENSHOTS  folder in which to save screenshots of the page (default: none)
#
# Needs Node 20 or later.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

require npm "Install Node 20 or later: https://nodejs.org"
if [ -z "${CHROMIUM:-}" ] && [ ! -x /usr/bin/chromium ]; then
  [ "$(id -u)" = 0 ] || fail "Chromium is missing. Install it, or set CHROMIUM to its path."
  limit_time 900 "the installation of Chromium" \
    bash -c 'apt-get update -qq && apt-get install -y -qq chromium >/dev/null'
fi

# The lock file must work with every registry, so it may not name the one that it was made with.
if grep -q '"resolved"' tests/web/package-lock.json; then
  fail "tests/web/package-lock.json contains addresses of a registry. Run" \
    "\`npm config set omit-lockfile-registry-resolved true\` and then \`npm install\` in tests/web."
fi
limit_time 900 "building the client and the tests" bash -euc '
  cd tests/web
  npm ci --no-audit --no-fund --silent
  npm run --silent generate
  npm run --silent build'

. scripts/start-stack.sh
ANN=$(cargo run --quiet -- token 17)
BEN=$(cargo run --quiet -- token 42)
export ANN BEN
# In this order, because the page writes to the chat that the client creates.
for test in client page; do
  limit_time 600 "the test of the $test" node --test "tests/web/generated/$test.js"
done
