#!/usr/bin/env bash
# Runs the functions as `sam build` builds them, in Lambda's own container: each sample event with
# `sam local invoke`, then the contract tests against `sam local start-api`, which has no WebSockets. Takes about twelve
# minutes with the build.
#
# Usage: scripts/test-sam-local.sh
#
#   SAM_FLAGS   more options for `sam local`, such as --skip-pull-image
#   SKIP_BUILD  set it to use what an earlier `sam build` has built
#
# Needs Docker, the SAM CLI, cargo-lambda and Zig. Ports 3999 and 8000 must be free.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

for command in docker sam cargo-lambda; do
  require "$command" "See docs/deploy.md."
done
flags=(--env-vars events/env.json --parameter-overrides Architecture=x86_64)
read -ra more_flags <<<"${SAM_FLAGS:-}"
flags+=("${more_flags[@]}")
step() { printf '\n=== %s\n' "$*"; }

# Contract tests that `sam local start-api` cannot pass, because it differs from API Gateway there. None of
# them says anything about the functions.
skipped=(
  # 502: it does not forward a body that is not UTF-8.
  a_body_that_is_not_utf_8
  the_size_limit_applies_to_the_decoded_body
  a_compressed_body_is_rejected_with_the_name_of_the_header
  # 201: it passes on only one of two Content-Type headers.
  a_header_that_describes_the_body_and_is_sent_twice_is_rejected
  # 403: it decodes the path before it looks for a route.
  an_encoded_slash_is_part_of_the_chat_id
  an_encoded_slash_is_part_of_the_seq
  an_encoded_slash_is_part_of_the_user_id
  # 403 "Missing Authentication Token" for a path that is not a route.
  an_unknown_path_returns_404_with_only_a_message
  # 200 to a preflight request, and no CORS headers on responses.
  cors_
  # 200: it responds to every OPTIONS itself, without Allow.
  options_returns_the_allowed_methods_without_a_token
  # It has no such limits.
  headers_over_10_kb
  a_body_that_makes_the_event_larger_than_lambda_allows
)

step "Build"
[ -n "${SKIP_BUILD:-}" ] || limit_time 3600 "sam build" sam build --parameter-overrides Architecture=x86_64
cargo build --quiet --locked --bin chat-local
# A skipped test that was renamed would fail after the build.
tests=$(cargo test --quiet --locked --test contract -- --list)
skip=()
for name in "${skipped[@]}"; do
  grep -q "$name" <<<"$tests" || fail "no contract test is called $name. Correct the list in $0."
  skip+=(--skip "$name")
done

logs=$(mktemp -d)
processes=()
trap 'kill "${processes[@]}" 2>/dev/null || true; rm -rf "$logs"' EXIT

# A DynamoDB with the table, at the address in events/env.json. It is an address of this machine that
# containers can reach, and other machines cannot.
address=$(sed -n 's|.*"AWS_ENDPOINT_URL_DYNAMODB": "http://\([^"/]*\)".*|\1|p' events/env.json)
[ -n "$address" ] || fail "events/env.json does not set AWS_ENDPOINT_URL_DYNAMODB to http://ADDRESS:PORT"
target/debug/chat-local table --listen "$address" >"$logs/table" 2>&1 &
table=$!
processes+=("$table")
table_is_ready() {
  grep -q 'ChatTable' "$logs/table" && return
  kill -0 "$table" 2>/dev/null || { cat "$logs/table" >&2; fail "chat-local table ended. Its output is above."; }
  return 1
}
wait_until 60 "chat-local table did not create the table" table_is_ready || exit 1

step "Sample events"
# The functions of the WebSocket API in an order in which their events work, each with what its response must contain. No
# event makes a function send to a connection, because `sam local` has none.
live_events='authorize-connection "Effect": *"Allow"
open-connection "statusCode": *200
receive-frame synced
close-connection "statusCode": *200
push-events "batchItemFailures": *\[\]'
events=$(target/debug/chat-local events)
[ "$(cat <(cut -d ' ' -f 1 <<<"$events") <(cut -d ' ' -f 1 <<<"$live_events") | sort)" = "$(function_names)" ] ||
  fail "the sample events are not of each function of functions/src/bin once"
# invoke FUNCTION PATTERN: invokes a function with the event on standard input. Its response must match the pattern.
invoke() {
  local response
  response=$(limit_time 300 "$1" sam local invoke "$(function_id "$1")" --event - "${flags[@]}" 2>"$logs/invoke" |
    tail -n 1) || { cat "$logs/invoke" >&2; fail "sam local invoke failed"; }
  printf '%-24s %s\n' "$1" "$(cut -c 1-100 <<<"$response")"
  grep -q -e "$2" <<<"$response" ||
    { cat "$logs/invoke" >&2; fail "the response of $1 does not match $2: $response. Its log is above."; }
}
while read -r function status; do
  event=$(target/debug/chat-local event "$function")
  invoke "$function" "\"statusCode\": *$status" <<<"$event"
done <<<"$events"
# The time in the events is long ago, so a connection that was opened then would be ignored.
while read -r function pattern; do
  event=$(target/debug/chat-local event "$function")
  invoke "$function" "$pattern" <<<"${event//1767225600000/$(date +%s)000}"
done <<<"$live_events"

step "Contract tests against sam local start-api"
token=$(target/debug/chat-local token 17)
# responds METHOD PATH PATTERN [OPTION OF curl]...: whether body and status of the response match the pattern.
responds() {
  local method=$1 path=$2 pattern=$3 response
  shift 3
  response=$(curl -s --max-time 60 -w ' %{http_code}' -X "$method" "http://localhost:3999$path" \
    -H "Authorization: Bearer $token" "$@") || true
  grep -q -e "$pattern" <<<"$response"
}
# Whether requests reach the function of their method, not the one of ANY, which would respond as said here.
routes_by_method() {
  local invalid=(-H 'Content-Type: application/json' -d '{}')
  responds POST /chats ' 400$' "${invalid[@]}" &&                 # 200: the list of chats
    responds POST /chats/17-42/messages ' 400$' "${invalid[@]}" && # 200: the list of messages
    responds DELETE /chats/0-0/messages/1 ' 404$' &&               # 400: the body of an edit is missing
    responds DELETE /blocks/1 '"success":true'                     # the time of a block
}
api_is_ready() {
  curl -s --max-time 30 -o /dev/null http://localhost:3999/totals && return
  kill -0 "$api" 2>/dev/null || { cat "$logs/api" >&2; fail "sam local start-api ended. Its output is above."; }
  return 1
}
# Where a path has a route for one method and one for ANY, `sam local` chooses at random, by the hash seed of Python.
# API Gateway chooses the specific route. So look for a seed with which `sam local` does, too.
for seed in {1..100}; do
  PYTHONHASHSEED=$seed sam local start-api --port 3999 --warm-containers LAZY "${flags[@]}" >"$logs/api" 2>&1 &
  api=$!
  processes+=("$api")
  wait_until 600 "sam local start-api did not respond" api_is_ready || { cat "$logs/api" >&2; exit 1; }
  routes_by_method && break
  [ "$seed" != 100 ] || fail "sam local start-api does not route requests to the functions of their methods"
  kill "$api"
  wait "$api" || true
done
API_URL=http://localhost:3999 limit_time 3600 "the contract tests" \
  cargo test --locked --test contract -- --test-threads 2 "${skip[@]}"
