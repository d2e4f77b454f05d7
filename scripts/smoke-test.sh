#!/usr/bin/env bash
# Runs the README's tutorial against a deployment.
#
# Usage: JWT_SECRET=SECRET scripts/smoke-test.sh URL
#
#   URL         base URL of the API, such as https://….execute-api.eu-central-1.amazonaws.com
#   JWT_SECRET  the secret that signs access tokens
#
# Each run uses two new random users, so it can be repeated. The users' chat and message stay in the table.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"
. scripts/tutorial.sh
: "${1:?give the base URL of the API, or --help}" "${JWT_SECRET:?set it to the secret that signs access tokens}"

ann=$((RANDOM * 32768 + RANDOM + 1))
ben=$((ann + 1))
commands=$(tutorial_commands)
commands=$(sed -e "s|^API=.*|API=${1%/}|" -e "s/\b17\b/$ann/g" -e "s/\b42\b/$ben/g" <<<"$commands")
# Built first, so that the time limit of the tutorial is only for requests.
cargo build --quiet --locked --bin chat-local
run_tutorial "$commands"
echo "The deployment works as the README describes it."
