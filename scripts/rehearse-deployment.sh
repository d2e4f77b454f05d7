#!/usr/bin/env bash
# Rehearses a deployment in an AWS emulator (MiniStack) on this machine: deploys the built functions with `sam deploy`,
# runs the smoke tests and the contract tests against them, upgrades them in two steps, changes each parameter, rotates
# the secret, switches the kind of key, restores the table, rolls back a broken version, and deletes the stack.
#
# Usage: scripts/rehearse-deployment.sh [OPTION]...
#
#   --skip STEP        leaves out a step, such as contract. The output names the steps
#   --keep-going       runs the other steps after one that failed
#   --template FILE    another template, such as that of an earlier commit
#   --binaries FOLDER  a folder with the built functions and chat-admin. By default cargo builds them
#
#   REHEARSAL_PROFILE  the profile that cargo builds: dev (default, the one of the tests) or release
#
# Needs Python 3.10 or later, and binutils. No AWS account: all processes listen on 127.0.0.1, on free ports, and no
# request leaves this machine. scripts/rehearsal/__init__.py lists where the emulator differs from AWS.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

require strip "Install binutils."
tools=$(scripts/python-tools.sh rehearsal)
sam=$(scripts/python-tools.sh rehearsal-sam)/sam

case $(uname -m) in
  x86_64) architecture=x86_64 ;;
  aarch64 | arm64) architecture=arm64 ;;
  *) fail "Lambda has no processors of this machine's architecture, $(uname -m)" ;;
esac

options=("$@")
case " $* " in
  *" --binaries "*) ;;
  *)
    profile=${REHEARSAL_PROFILE:-dev}
    # Of the whole workspace, so that the features are those of the tests and nothing is built twice.
    cargo build --quiet --locked --workspace --bins --profile "$profile"
    options+=(--binaries "${CARGO_TARGET_DIR:-target}/${profile/#dev/debug}")
    ;;
esac

# The process gets the signals that end this script.
PYTHONPATH=scripts PATH="$PWD/$tools:$PATH" exec "$tools/python" -m rehearsal --architecture "$architecture" \
  --folder target/rehearsal --sam "$PWD/$sam" "${options[@]}"
