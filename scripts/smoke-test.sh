#!/usr/bin/env bash
# Tests a deployment over HTTP: with the README's tutorial, or without changing anything.
#
# Usage: JWT_SECRET=SECRET scripts/smoke-test.sh URL
#        scripts/smoke-test.sh --read-only URL
#
#   URL          base URL of the API, such as https://….execute-api.eu-central-1.amazonaws.com
#   JWT_SECRET   the secret that signs access tokens
#
# If the deployment checks more claims, set the variables that it has: JWT_ISSUER, JWT_AUDIENCE, JWT_TOKEN_USE, JWT_TYP,
# JWT_USER_CLAIM. Of a list, the first value is used.
#
# The tutorial is run with two new random users, so it can be repeated. The users' chat and message stay in the table.
#
# --read-only is for production. It reads as one user, and checks the errors of an unknown chat and of a request without
# a token. It needs one of:
#
#   TOKEN        an access token
#   SMOKE_USER   the id of a user, together with JWT_SECRET
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"
. scripts/tutorial.sh

# Prints a token of the user SMOKE_USER that expires in five minutes, signed with JWT_SECRET.
sign_token() {
  python3 - <<'END'
import base64, hashlib, hmac, json, os, time

def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")

def first(name):
    items = (item.strip() for item in os.environ.get(name, "").split(","))
    return next(filter(None, items), None)

claims = {first("JWT_USER_CLAIM") or "sub": os.environ["SMOKE_USER"], "exp": int(time.time()) + 300}
optional = {"iss": first("JWT_ISSUER"), "aud": first("JWT_AUDIENCE"), "token_use": first("JWT_TOKEN_USE")}
claims |= {name: value for name, value in optional.items() if value}
header = {"alg": "HS256", "typ": first("JWT_TYP") or "JWT"}
message = b".".join(encode(json.dumps(part).encode()) for part in (header, claims))
signature = hmac.new(os.environ["JWT_SECRET"].encode(), message, hashlib.sha256).digest()
print((message + b"." + encode(signature)).decode())
END
}

# expect STATUS METHOD PATH HEADERS PATTERN...: sends a request. Fails unless the response has this status, and headers
# or body match each pattern (extended regular expression).
expect() {
  local status=$1 method=$2 path=$3 headers=$4 response actual pattern
  shift 4
  # The header comes from a file, because other users of the machine can see the arguments of a process.
  response=$(curl --silent --show-error --include --http1.1 --max-time 30 --request "$method" \
    --header @<(printf '%s\n' "$headers") "$url$path") || fail "$method $path: there is no response"
  actual=$(sed -n '1s|^HTTP/[0-9.]* \([0-9]*\).*|\1|p' <<<"$response")
  [ "$actual" = "$status" ] || fail "$method $path returned $actual instead of $status: $response"
  for pattern in "$@"; do
    grep -qiE -e "$pattern" <<<"$response" || fail "the response to $method $path does not match $pattern: $response"
  done
  printf '%s %-30s %s\n' "$method" "$path" "$status"
}

# Checks that change nothing.
read_only() {
  local list='^\{"chats":\[.*\],"nextCursor":(null|"[^"]*")\}' authorization
  if [ -z "${TOKEN:-}" ]; then
    : "${JWT_SECRET:?set TOKEN, or JWT_SECRET and SMOKE_USER}" "${SMOKE_USER:?set it to the id of a user, or set TOKEN}"
    require python3 "Install Python 3, or set TOKEN."
    export JWT_SECRET SMOKE_USER
    TOKEN=$(sign_token)
  fi
  authorization="Authorization: Bearer $TOKEN"
  expect 200 GET /totals "$authorization" '^cache-control: no-store' \
    '"totalPendingRequest":[0-9]+' '"totalUnreadMessages":[0-9]+' '"totalSentRequest":[0-9]+'
  expect 200 GET /totals/unread "$authorization" '^\{"totalUnreadMessages":[0-9]+'
  for path in /chats /chats/pending '/chats/pending?direction=received' /chats/rejected; do
    expect 200 GET "$path" "$authorization" "$list"
  done
  expect 200 GET /blocks "$authorization" '^\{"blocks":\[.*\],"nextCursor":(null|"[^"]*")\}'
  # No chat has this id, because a user id is at least 1.
  for path in /chats/0-0 /chats/0-0/messages /chats/0-0/changes; do
    expect 404 GET "$path" "$authorization" '"code":"chat_not_found"' '"requestId":"[^"]+"'
  done
  expect 401 GET /totals 'Accept: application/json' '^www-authenticate: bearer' '"code":"unauthorized"|"message":'
  expect 405 DELETE /totals "$authorization" '^allow: .*GET' '"code":"method_not_allowed"'
  # `read` is not the number of a message.
  expect 405 DELETE /chats/0-0/messages/read "$authorization" '^allow: .*PUT' '"code":"method_not_allowed"'
  expect 404 GET / "$authorization" '"message":"Not Found"'
  echo "The deployment responds as the API documents it. Nothing was changed."
}

if [ "${1:-}" = --read-only ]; then
  url=${2:?give the base URL of the API, or --help}
  url=${url%/}
  read_only
  exit
fi
: "${1:?give the base URL of the API, or --help}" "${JWT_SECRET:?set it to the secret that signs access tokens}"

ann=$((RANDOM * 32768 + RANDOM + 1))
ben=$((ann + 1))
commands=$(tutorial_commands)
commands=$(sed -e "s|^API=.*|API=${1%/}|" -e "s/\b17\b/$ann/g" -e "s/\b42\b/$ben/g" <<<"$commands")
# Built first, so that the time limit of the tutorial is only for requests.
cargo build --quiet --locked --bin chat-local
run_tutorial "$commands"
echo "The deployment works as the README describes it."
