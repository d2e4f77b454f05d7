#!/usr/bin/env bash
# Checks the functions that `sam build` has built, before they are deployed: none is missing, none needs a
# newer glibc than Lambda has, and each starts. They start without keys, or without a table if they verify no tokens, so
# each must fail with a message that names the missing variable.
#
# Usage: scripts/check-built-functions.sh
#
# To run arm64 functions on another processor: apt-get install qemu-user-static libc6-arm64-cross
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"

# The version of glibc in Amazon Linux 2023.
max_glibc=2.34
require readelf "Install binutils."

[ -d .aws-sam/build ] || fail "there is no .aws-sam/build. Run \`sam build\` first."
expected=$(function_names | while read -r name; do function_id "$name"; done | sort)
built=$(find .aws-sam/build -mindepth 2 -maxdepth 2 -name bootstrap -printf '%h\n' | xargs -r -n 1 basename | sort)
[ "$built" = "$expected" ] ||
  fail "sam build did not build exactly the functions of functions/src/bin. Run it again. Differences:
$(diff <(echo "$expected") <(echo "$built") | sed -n 's/^</missing:/p; s/^>/unexpected:/p')"

while read -r id; do
  binary=.aws-sam/build/$id/bootstrap
  machine=$(readelf -h "$binary" | sed -n 's/^ *Machine: *//p')
  glibc=$(readelf -V "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
  [ "$(printf '%s\n' "${glibc#GLIBC_}" "$max_glibc" | sort -V | tail -n 1)" = "$max_glibc" ] ||
    fail "$binary needs $glibc, but Lambda has $max_glibc. Build it with cargo-lambda and Zig."
  command=("$binary")
  if [ "$machine" = AArch64 ] && [ "$(uname -m)" != aarch64 ]; then
    command -v qemu-aarch64-static >/dev/null && [ -d /usr/aarch64-linux-gnu ] ||
      fail "arm64 functions cannot run here. Run: apt-get install qemu-user-static libc6-arm64-cross"
    command=(qemu-aarch64-static -L /usr/aarch64-linux-gnu "$binary")
  fi
  # It ends with an error, because it has no key. These three verify no tokens, so they have no table instead.
  missing=JWT_SECRET
  variables=(AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x)
  case $id in
    OpenConnectionFunction | CloseConnectionFunction | PushEventsFunction) missing=TABLE_NAME ;;
    *) variables+=(TABLE_NAME=chat) ;;
  esac
  output=$(limit_time 60 "$binary" env -i "${variables[@]}" "${command[@]}" 2>&1 || true)
  grep -q "$missing" <<<"$output" ||
    fail "$binary does not start. Its message should name $missing, but it is: $output"
  printf '%-60s %s, %s: %s\n' "$binary" "$machine" "$glibc" "$output"
done <<<"$expected"
