#!/usr/bin/env bash
# Installs Python tools into a virtual environment and prints the folder with their commands.
#
# Usage: scripts/python-tools.sh NAME
#
# NAME is a file of scripts/requirements without `.txt`. The environment is target/ci-NAME. It is
# created again when that file changes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

name=${1:-}
requirements=scripts/requirements/$name.txt
[ -n "$name" ] && [ -f "$requirements" ] ||
  fail "name one of: $(find scripts/requirements -name '*.txt' -exec basename {} .txt \; | sort | xargs)"
require python3 "Install Python 3.10 or later, with its venv module."

environment=target/ci-$name
installed=$environment/requirements.txt
if ! cmp --silent "$requirements" "$installed"; then
  {
    python3 -m venv --clear "$environment"
    limit_time 900 "the installation of $requirements" \
      "$environment/bin/pip" install --quiet --requirement "$requirements"
  } >&2
  # Copied last, so that an installation that failed is tried again.
  cp "$requirements" "$installed"
fi
echo "$environment/bin"
