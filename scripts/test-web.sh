#!/usr/bin/env bash
# Tests the documentation page of the development server in a browser.
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
limit_time 900 "building the tests" bash -euc '
  cd tests/web
  npm ci --no-audit --no-fund --silent
  npm run --silent build'

. scripts/start-stack.sh

# send USER METHOD PATH [BODY]: sends a request that must succeed.
send() {
  curl -sS --fail --max-time 30 -o /dev/null -X "$2" "$API_URL$3" \
    -H "Authorization: Bearer $(cargo run --quiet -- token "$1")" -H 'Content-Type: application/json' \
    ${4:+-d "$4"} || fail "could not prepare the chat: $2 $3 failed"
}

# The page sends a message to the chat of its two sample users.
send 17 POST /chats '{"userId": 42}'
send 42 PUT /chats/17-42/accept
limit_time 600 "the test of the page" node --test tests/web/generated/page.js
