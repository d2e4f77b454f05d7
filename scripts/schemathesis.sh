#!/usr/bin/env bash
# Tests the development server against openapi.yaml with requests that Schemathesis generates: valid ones,
# invalid ones, and sequences in which a request uses values of earlier responses.
#
# Usage: scripts/schemathesis.sh [OPTION OF `schemathesis run`]...
#
#   SCHEMATHESIS_EXAMPLES  requests per endpoint and phase (default 40)
#   SCHEMATHESIS_SEED      repeats a run (default 1)
#   SCHEMATHESIS_SECONDS   time limit of the test run (default 1800)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

tools=$(scripts/python-tools.sh schemathesis)
# User 17 sends chat requests all the time, and would reach the maximum of open requests within a second.
export MAX_OPEN_REQUESTS=0
. scripts/start-stack.sh

# send TOKEN METHOD PATH [BODY]: sends a request that must succeed.
send() {
  curl -sS --fail --max-time 30 -o /dev/null -X "$2" "$API_URL$3" -H "Authorization: Bearer $1" \
    -H 'Content-Type: application/json' ${4:+-d "$4"} || fail "could not prepare the chats: $2 $3 failed"
}

# Users 42 to 61 each send user 17 a chat request. 17 accepts the one of 42 and declines the one of 61. 17 and 42 each
# send a message and edit it.
ACCESS_TOKEN=$(cargo run --quiet -- token 17)
export ACCESS_TOKEN
for user in {42..61}; do
  token=$(cargo run --quiet -- token "$user")
  send "$token" POST /chats '{"userId": 17}'
  [ "$user" != 42 ] || token_of_42=$token
done
send "$ACCESS_TOKEN" PUT /chats/17-42/accept
send "$token_of_42" POST /chats/17-42/messages '{"text": "Hello"}'
send "$ACCESS_TOKEN" POST /chats/17-42/messages '{"text": "Hi"}'
send "$token_of_42" PATCH /chats/17-42/messages/1 '{"text": "Hello 17"}'
send "$ACCESS_TOKEN" PATCH /chats/17-42/messages/2 '{"text": "Hi 42"}'
send "$ACCESS_TOKEN" PUT /chats/17-61/decline

limit_time "${SCHEMATHESIS_SECONDS:-1800}" "Schemathesis" \
  "$tools/st" --config-file schemathesis.toml run openapi.yaml --url "$API_URL" \
  --max-examples "${SCHEMATHESIS_EXAMPLES:-40}" --seed "${SCHEMATHESIS_SEED:-1}" "$@"
