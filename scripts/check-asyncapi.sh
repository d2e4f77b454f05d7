#!/usr/bin/env bash
# Validates asyncapi.yaml with the parser of the AsyncAPI project, and its examples with their schemas.
#
# Usage: scripts/check-asyncapi.sh [ASYNCAPI_FILE]
#
# Needs Node 20 or later. The packages are installed into target/ci-asyncapi, with the versions in scripts/asyncapi.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

file=$(realpath "${1:-asyncapi.yaml}")
[ -f "$file" ] || fail "$file does not exist"
require npm "Install Node 20 or later: https://nodejs.org"

# The lock file must work with every registry, so it may not name the one that it was made with.
if grep -q '"resolved"' scripts/asyncapi/package-lock.json; then
  fail "scripts/asyncapi/package-lock.json contains addresses of a registry. Run" \
    "\`npm config set omit-lockfile-registry-resolved true\` and then \`npm install\` in scripts/asyncapi."
fi
tools=target/ci-asyncapi
mkdir -p "$tools"
cp scripts/asyncapi/check.mjs "$tools"
# Install only when the versions have changed.
if ! cmp -s scripts/asyncapi/package-lock.json "$tools/installed-package-lock.json"; then
  cp scripts/asyncapi/package.json scripts/asyncapi/package-lock.json "$tools"
  limit_time 600 "the installation of the parser" npm ci --prefix "$tools" --no-audit --no-fund --silent
  cp scripts/asyncapi/package-lock.json "$tools/installed-package-lock.json"
fi
limit_time 120 "the check of asyncapi.yaml" node "$tools/check.mjs" "$file"
