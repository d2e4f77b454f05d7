#!/usr/bin/env bash
# Restores a table as it was at a point in time, as a new table, and turns on what a restore does not copy: TTL,
# point-in-time recovery, protection from deletion and the stream. The old table stays as it is.
#
# Usage: scripts/restore-table.sh SOURCE TARGET TIME
#
#   SOURCE  the table to restore. It is the output TableName of the stack
#   TARGET  the name of the new table
#   TIME    in UTC, such as 2026-01-31T12:00:00Z, or latest: the latest time that can be restored, some five minutes ago
#
# Uses the AWS CLI with the credentials and the region of your environment. It can be repeated: after an interruption
# it continues. A restore takes from minutes to hours.
#
#   RESTORE_MINUTES  how long to wait for the restore (default 720)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
help_if_asked "$@"
require aws "Install the AWS CLI: https://aws.amazon.com/cli/"

[ $# = 3 ] || fail "give SOURCE, TARGET and TIME, or --help"
source=$1 target=$2 time=$3
[ "$source" != "$target" ] || fail "SOURCE and TARGET are the same table, $source. A restore creates a new table."
if [ "$time" = latest ]; then
  point=(--use-latest-restorable-time)
elif [[ $time =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$ ]]; then
  point=(--restore-date-time "$time")
else
  fail "the time $time is neither \"latest\" nor in UTC, such as 2026-01-31T12:00:00Z"
fi

# describe TABLE QUERY: prints a property of a table.
describe() {
  aws dynamodb describe-table --table-name "$1" --output text --query "Table.$2"
}

# exists TABLE: whether the table exists. Ends the script when that cannot be found out.
exists() {
  local output
  output=$(describe "$1" TableName 2>&1) && return
  [[ $output == *ResourceNotFoundException* ]] || fail "the table $1 could not be read: $output"
  return 1
}

exists "$source" || fail "there is no table $source in this account and region"
source_arn=$(describe "$source" TableArn)
if exists "$target"; then
  restored_from=$(describe "$target" RestoreSummary.SourceTableArn)
  [ "$restored_from" = "$source_arn" ] ||
    fail "$target exists, and it is not a restore of $source. Choose another name for the new table."
  echo "$target is already a restore of $source, as of $(describe "$target" RestoreSummary.RestoreDateTime)."
else
  echo "Restoring $source as $target, as of $time."
  # Indexes, billing mode and encryption are those of the source.
  aws dynamodb restore-table-to-point-in-time --source-table-name "$source" --target-table-name "$target" \
    "${point[@]}" --output text --query TableDescription.TableStatus >/dev/null
fi

# Waits longer than `aws dynamodb wait table-exists`, which gives up after about eight minutes.
deadline=$((SECONDS + ${RESTORE_MINUTES:-720} * 60)) reported=-60
until status=$(describe "$target" TableStatus) && [ "$status" = ACTIVE ]; do
  [ "$SECONDS" -lt "$deadline" ] || fail "$target is still $status. Run the same command again to continue."
  if [ $((SECONDS - reported)) -ge 60 ]; then
    printf '%5d s  %s\n' "$SECONDS" "$status"
    reported=$SECONDS
  fi
  sleep 5
done
echo "$target is ACTIVE."

# retry_while_changing COMMAND...: repeats a change of the table for up to ten minutes while DynamoDB is still busy with
# an earlier one. For some minutes after a restore it reports ContinuousBackupsUnavailableException.
retry_while_changing() {
  local output end=$((SECONDS + 600))
  until output=$("$@" 2>&1); do
    case $output in
      *ContinuousBackupsUnavailableException* | *ResourceInUseException*) ;;
      *) fail "this command failed: $* $output" ;;
    esac
    [ "$SECONDS" -lt "$end" ] || fail "$target is still busy: $output Run the same command again to continue."
    sleep 10
  done
}

ttl=$(aws dynamodb describe-time-to-live --table-name "$target" --output text \
  --query TimeToLiveDescription.TimeToLiveStatus)
# DynamoDB rejects a second change to the same value.
[[ $ttl == ENABL* ]] ||
  retry_while_changing aws dynamodb update-time-to-live --table-name "$target" \
    --time-to-live-specification Enabled=true,AttributeName=expiresAt
retry_while_changing aws dynamodb update-continuous-backups --table-name "$target" \
  --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true
[ "$(describe "$target" DeletionProtectionEnabled)" = True ] ||
  retry_while_changing aws dynamodb update-table --table-name "$target" --deletion-protection-enabled

# Realtime needs it. A restored table has no stream, also if its source has one.
[ "$(describe "$target" StreamSpecification.StreamEnabled)" = True ] ||
  retry_while_changing aws dynamodb update-table --table-name "$target" \
    --stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES
stream=$(describe "$target" LatestStreamArn)

cat <<END
$target has TTL on expiresAt, point-in-time recovery, deletion protection and a stream.

Next, check the restored table:
  cargo run --release --bin chat-admin -- check --table $target

Then either copy the items that the live table lacks, and check it:
  cargo run --release --bin chat-admin -- copy --from $target --to $source
  cargo run --release --bin chat-admin -- check --table $source --repair
or move the stack to the restored table. The old table stays. ENVIRONMENT is the one of samconfig.toml: default, dev or
prod. docs/operations.md, "Restoring the table", has the other steps:
  sam build --config-env ENVIRONMENT
  sam deploy --config-env ENVIRONMENT --parameter-overrides ExistingTableName=$target ExistingTableStreamArn=$stream DeploymentType=AllAtOnce
END
