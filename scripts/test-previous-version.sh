#!/usr/bin/env bash
# Runs the functions of the previous version and those of this one side by side on one table, as a gradual deployment
# and a rollback do.
#
# Usage: scripts/test-previous-version.sh [--fetch] [OPTION OF `cargo test`]...
#
#   --fetch  only makes sure that the commit of the previous version is there. Fails, and says what to do, if it is not
#
# tests/previous_version/COMMIT names the commit. It is exported from the history of this repository to
# target/previous-version and built there once, which takes minutes. In a shallow clone, it is fetched first.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

PREVIOUS_VERSION=$(<tests/previous_version/COMMIT)
folder=$PWD/target/previous-version
binaries=$folder/build/debug
stamp=$folder/build/COMMIT
progress() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }

has_commit() { git cat-file -e "$PREVIOUS_VERSION^{commit}" 2>/dev/null; }

# fetch ARGUMENT...: fetches from where this clone comes from. Never asks for a password.
fetch() {
  GIT_TERMINAL_PROMPT=0 limit_time 300 "git fetch" git fetch --quiet --no-tags "$@"
}

# Makes sure that the repository has the commit.
ensure_commit() {
  require git "Install git."
  # The folder of a source archive can be inside of another repository.
  [ "$(git rev-parse --show-toplevel)" = "$(pwd -P)" ] ||
    fail "this folder is no clone of the repository, so it does not have the previous version, commit" \
      "$PREVIOUS_VERSION. Run this script in a clone."
  has_commit && return
  progress "fetch commit $PREVIOUS_VERSION"
  # Only this commit. A server that does not allow this sends the whole history.
  fetch --depth=1 origin "$PREVIOUS_VERSION" || fetch --unshallow origin || true
  has_commit ||
    fail "this clone does not have the previous version, commit $PREVIOUS_VERSION, and could not fetch it." \
      "Fetch the whole history: git fetch --unshallow"
}

is_built() {
  [ -f "$stamp" ] && [ "$(<"$stamp")" = "$PREVIOUS_VERSION" ] || return
  local source
  for source in "$folder"/src/functions/src/bin/*.rs; do
    [ -x "$binaries/$(basename "$source" .rs)" ] || return
  done
}

build() {
  progress "export commit $PREVIOUS_VERSION to $folder/src"
  rm -rf "$folder/src" "$stamp"
  mkdir -p "$folder/src" "$folder/build"
  git archive --format=tar "$PREVIOUS_VERSION" | tar -x -C "$folder/src"
  progress "build its functions; this takes minutes"
  (
    select_toolchain "$folder/src"
    cd "$folder/src"
    # `limit_time` runs a program, so the variables are set here.
    export CARGO_TARGET_DIR=$folder/build CARGO_INCREMENTAL=0
    limit_time 2400 "the build of the previous version" cargo build --quiet --locked --package chat-functions --bins
  )
  # Written last, so that a build that failed is repeated.
  echo "$PREVIOUS_VERSION" >"$stamp"
}

if [ "${1:-}" = --fetch ]; then
  ensure_commit
  exit
fi
require cargo "Install Rust: https://rustup.rs"
if is_built; then
  progress "the functions of commit $PREVIOUS_VERSION are already built"
else
  ensure_commit
  build
fi
progress "run the tests"
select_toolchain .
PREVIOUS_VERSION_BINARIES=$binaries cargo test --locked --test previous_version "$@"
