#!/usr/bin/env bash
# Mutation testing: changes the code in small ways, and reports each change that no test notices.
#
# Usage: scripts/mutants.sh pure [OPTION OF `cargo mutants`]...
#        scripts/mutants.sh store [K/N] [OPTION OF `cargo mutants`]...
#
#   pure   the modules without I/O of chat-shared, with its unit tests. Takes minutes to an hour.
#   store  the modules that write to the table, with the contract and integration tests. One mutant takes
#          minutes, so run it in shards: 0/8 to 7/8 run one eighth each. All shards need the same options.
#
# Some useful options: --list shows the mutants, --iterate skips those that an earlier run caught, and
# `--baseline=skip --timeout 900` skips the tests of the unchanged code, which must then be known to pass.
#
# Results: target/mutants/…/mutants.out/missed.txt. Each line there is a change that no test noticed: add a
# test, or explain why the change makes no difference.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

version=27.1.0
mode=${1:-}
[ $# -eq 0 ] || shift
output=target/mutants/$mode
case $mode in
  pure)
    files=(
      shared/src/domain/*.rs
      shared/src/http/{body,cursor,endpoints,event,query}.rs
      shared/src/store/items/*.rs
      shared/src/auth/*.rs
    )
    tests=(--lib)
    options=(--test-package chat-shared)
    ;;
  store)
    files=(shared/src/store/{blocks,changes,chats,lists,marks,messages,reports,totals,transaction,update}.rs)
    tests=(--test contract --test integration)
    options=(--test-package chat-functions)
    if [[ ${1:-} =~ ^[0-9]+/[0-9]+$ ]]; then
      options+=(--shard "$1")
      output+=-${1/\//-of-}
      shift
    fi
    ;;
  *) fail "choose what to mutate: pure or store. See scripts/mutants.sh --help" ;;
esac
for file in "${files[@]}"; do
  options+=(--file "$file")
  [ -f "$file" ] || fail "$file does not exist. Correct the list in scripts/mutants.sh."
done

if ! cargo mutants --version >/dev/null 2>&1; then
  echo "cargo-mutants is not installed. Installing version $version; this takes some minutes."
  cargo install cargo-mutants --locked --version "$version"
fi
mkdir -p "$output"

# The tests run in a copy of the workspace with its own target folder, without what .gitignore lists, such as
# node_modules.
status=0
cargo mutants --package chat-shared "${options[@]}" --gitignore=true --output "$output" "$@" \
  -- "${tests[@]}" || status=$?
case $status in
  0) ;;
  2) echo "The tests did not notice some mutants. They are listed in $output/mutants.out/missed.txt" >&2 ;;
  3) echo "The tests did not end for some mutants: $output/mutants.out/timeout.txt" >&2 ;;
  4) echo "The tests fail without any mutant: $output/mutants.out/log/baseline.log" >&2 ;;
esac
exit "$status"
