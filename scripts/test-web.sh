#!/usr/bin/env bash
# Tests the demo and the documentation page of the development server in a browser.
#
# Usage: scripts/test-web.sh
#
#   CHROMIUM     path of Chromium or Chrome (default /usr/bin/chromium; installed when missing, as root on
#                Debian and Ubuntu)
#   SCREENSHOTS  folder in which to save screenshots of the pages (default: none)
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
limit_time 900 "building the tests" bash -euc '
  cd tests/web
  npm ci --no-audit --no-fund --silent
  npm run --silent build'

. scripts/start-stack.sh

# The demo's tests begin without a chat. They leave an active one, to which the documentation page sends a message.
limit_time 600 "the test of the demo" node --test tests/web/generated/demo.js
limit_time 600 "the test of the page" node --test tests/web/generated/page.js
