#!/usr/bin/env bash
# Generates clients from openapi.yaml and compiles them. Each client then sends requests to the development
# server, and reads responses of a later version (tests/clients/later-service.js).
#
# Usage: scripts/test-generated-clients.sh [OPENAPI_FILE]
#
# The generators are @hey-api/openapi-ts (without options, and with bigint, zod and valibot), openapi-typescript
# with openapi-fetch, openapi-generator for Java and Python, and openapi-python-client.
#
# Needs Node 20.19 or later, Python 3.11 or later, and a JDK (17 or later; installed when missing, as root on
# Debian and Ubuntu). The Java client needs Jackson; the openapi-generator package contains it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

OPENAPI=$(realpath "${1:-openapi.yaml}")
export OPENAPI
[ -f "$OPENAPI" ] || fail "$OPENAPI does not exist"
clients=tests/clients
generated=$clients/generated

progress() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }

# quietly WHAT COMMAND...: runs a command and prints its output only when it fails.
quietly() {
  local what=$1 status=0
  shift
  progress "$what"
  limit_time 300 "$what" "$@" >"$generated/output" 2>&1 || status=$?
  [ "$status" = 0 ] || {
    cat "$generated/output" >&2
    fail "this step failed with status $status: $what. Its output is above."
  }
}

require npm "Install Node 20.19 or later: https://nodejs.org"
if ! command -v java >/dev/null || ! command -v javac >/dev/null; then
  [ "$(id -u)" = 0 ] || fail "The JDK is missing. Install it, so that the commands java and javac exist."
  progress "install the JDK"
  limit_time 900 "the installation of the JDK" \
    bash -c 'apt-get update -qq && apt-get install -y -qq default-jdk-headless >/dev/null'
fi
# The lock file must work with every registry, so it may not name the one that it was made with.
if grep -q '"resolved"' "$clients/package-lock.json"; then
  fail "$clients/package-lock.json contains addresses of a registry. Run" \
    "\`npm config set omit-lockfile-registry-resolved true\` and then \`npm install\` in $clients."
fi
rm -rf "$generated"
mkdir -p "$generated"
quietly "install the generators for TypeScript" npm ci --prefix "$clients" --no-audit --no-fund --silent
progress "install the generators for Java and Python"
tools=$(scripts/python-tools.sh clients)
# openapi-python-client formats its code with a program from this folder.
PATH="$PWD/$tools:$PATH"
generator=$(find "$tools/.." -name openapi-generator.jar)
[ -f "$generator" ] || fail "$tools contains no openapi-generator.jar"

# openapi_generator FOLDER OPTION...: generates a client with openapi-generator.
openapi_generator() {
  local folder=$1
  shift
  java -jar "$generator" generate --input-spec "$OPENAPI" --output "$generated/$folder" \
    --global-property apis,models,supportingFiles,apiTests=false,modelTests=false,apiDocs=false,modelDocs=false \
    "$@"
}
# limit_time starts a program, so it needs the function in a shell of its own.
export generator generated
export -f openapi_generator

quietly "generate: @hey-api/openapi-ts and openapi-typescript" npm run --prefix "$clients" --silent generate
quietly "generate: openapi-generator for Python" bash -euc \
  'openapi_generator openapi-generator-python --generator-name python --additional-properties packageName=chat_client'
# The type mapping: ids and sequence numbers have more than 32 bits.
quietly "generate: openapi-generator for Java" bash -euc \
  'openapi_generator openapi-generator-java --generator-name java --library native --type-mappings integer=Long \
    --additional-properties openApiNullable=false'
quietly "generate: openapi-python-client" openapi-python-client generate --path "$OPENAPI" --meta none \
  --output-path "$generated/openapi-python-client/chat" --fail-on-warning

quietly "compile: TypeScript" npm run --prefix "$clients" --silent build
quietly "compile: Python" "$tools/python" -m compileall -q "$generated"
classes=$generated/classes
mkdir -p "$classes"
find "$clients/java" "$generated/openapi-generator-java/src/main" -name '*.java' >"$generated/java-files"
quietly "compile: Java" javac -cp "$generator" -d "$classes" "@$generated/java-files"

progress "start the development server"
. scripts/start-stack.sh
node "$clients/later-service.js" >"$generated/later-url" &
later_pid=$!
stop_servers() {
  kill "$later_pid" 2>/dev/null || true
  stop_stack
}
trap stop_servers EXIT
wait_until 30 "the service of a later version did not start" test -s "$generated/later-url" || exit 1
LATER_API_URL=$(cat "$generated/later-url")
ANN=$(cargo run --quiet -- token 17)
BEN=$(cargo run --quiet -- token 42)
export LATER_API_URL ANN BEN

# One after the other, because all clients use the same chat.
progress "run: TypeScript"
limit_time 300 "the test of the clients in TypeScript" node --test --test-concurrency=1 --test-reporter=spec \
  "$generated"/js/{hey-api,hey-api-bigint,openapi-fetch}.js
progress "run: openapi-generator for Python"
limit_time 300 "the test of openapi-generator for Python" \
  "$tools/python" "$clients/openapi_generator.py" "$generated/openapi-generator-python"
progress "run: openapi-python-client"
limit_time 300 "the test of openapi-python-client" \
  "$tools/python" "$clients/openapi_python_client.py" "$generated/openapi-python-client"
progress "run: openapi-generator for Java"
limit_time 300 "the test of openapi-generator for Java" java -cp "$classes:$generator" GeneratedClientTest
progress "all generated clients work"
