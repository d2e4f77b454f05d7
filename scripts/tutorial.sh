# shellcheck shell=bash
# The commands of the README's tutorial, and their expected output. Source this file after common.sh.

# Prints the commands: the code block after the marker <!-- tutorial -->.
tutorial_commands() {
  local commands
  commands=$(awk '/^<!-- tutorial -->/ {on = 1; next} on && /^```$/ {exit} on && !/^```/' README.md)
  [ -n "$commands" ] || fail "README.md has no code block after the line <!-- tutorial -->"
  printf '%s\n' "$commands"
}

# run_tutorial COMMANDS: runs them, prints their output, and fails when an expected text is missing.
run_tutorial() {
  local output expected
  output=$(limit_time 300 "the tutorial" bash -euo pipefail -c "$1") || {
    printf '%s\n' "$output"
    fail "a command of the tutorial failed. Its output is above."
  }
  printf '%s\n' "$output"
  for expected in '"status":"pending"' '"totalPendingRequest":1' '"status":"active"' '"text":"Hello 👋"' \
    '{"totalUnreadMessages":1}' 'All messages have been marked as read'; do
    grep -qF -e "$expected" <<<"$output" || fail "the tutorial did not print $expected"
  done
  tail -n 1 <<<"$output" | grep -qF '"status":"read"' ||
    fail "the tutorial's last response does not show the message as read"
}
