# shellcheck shell=bash
# Functions that the other scripts share. Source this file; do not run it.

# Prints an error message and ends the script.
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Prints the comment at the top of the script and ends it, when the first argument is --help.
help_if_asked() {
  case ${1:-} in
    -h | --help)
      sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0"
      exit 0
      ;;
  esac
}

# require COMMAND HINT: ends the script with HINT when COMMAND is not installed.
require() {
  command -v "$1" >/dev/null || fail "$1 is not installed. $2"
}

# wait_until SECONDS WHAT COMMAND...: repeats COMMAND until it succeeds. Prints WHAT and returns 1 when
# that takes longer than SECONDS.
wait_until() {
  local limit=$1 what=$2 deadline=$((SECONDS + $1))
  shift 2
  until "$@"; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "error: waited $limit seconds, but $what" >&2
      return 1
    fi
    sleep 0.2
  done
}

# select_toolchain FOLDER: exports RUSTUP_TOOLCHAIN if the toolchain that FOLDER/rust-toolchain.toml names is not
# installed, and rustup has the same version under another name. Ends the script if it has not.
select_toolchain() {
  local channel
  (cd "$1" && cargo --version) >/dev/null 2>&1 && return
  channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$1/rust-toolchain.toml")
  RUSTUP_TOOLCHAIN=stable rustc --version | grep -qF "rustc $channel " ||
    fail "Rust $channel is missing. Run: rustup toolchain install $channel --component clippy,rustfmt"
  export RUSTUP_TOOLCHAIN=stable
}

# limit_time SECONDS WHAT COMMAND...: runs a program, and ends it when it takes longer than SECONDS.
limit_time() {
  local limit=$1 what=$2 status=0
  shift 2
  timeout --kill-after=30 "$limit" "$@" || status=$?
  # 124: the program ended on SIGTERM. 137: it had to be killed.
  case $status in
    124 | 137) echo "error: $what did not finish within $limit seconds and was stopped" >&2 ;;
  esac
  return "$status"
}

# Prints the names of the functions, one per line. Each is a binary of functions/src/bin.
function_names() {
  find functions/src/bin -name '*.rs' -exec basename {} .rs \; | sort
}

# Prints the resource in template.yaml of a function: send-message is SendMessageFunction.
function_id() {
  local part id=
  local -a parts
  IFS=- read -ra parts <<<"$1"
  for part in "${parts[@]}"; do id+=${part^}; done
  echo "${id}Function"
}
