#!/bin/sh
# Shows how far a run of reconcile-registry is, until it is over: on a terminal as a bar, elsewhere a line for each change.
# Succeeds when the run does. Needs the AWS CLI, with credentials that may describe the execution and its Map Runs.
#
# usage: reconcile-progress.sh <execution ARN> [seconds]
#   seconds   how long to wait between two looks, 5 by default
set -eu

fail() {
  echo "$1" >&2
  exit 1
}

execution=${1:-}
seconds=${2:-5}
case $execution in
  arn:*:states:*:execution:*) ;;
  *) fail "usage: reconcile-progress.sh <execution ARN> [seconds]" ;;
esac
region=${execution#arn:*:states:}
region=${region%%:*}

# A call that fails is no verdict on the run: it is made again, a few times.
ask() {
  attempts=5
  until aws stepfunctions "$@" --region "$region" --output text; do
    attempts=$((attempts - 1))
    [ "$attempts" -gt 0 ] || fail "Step Functions in $region cannot be asked; the run may be well: $execution"
    sleep "$seconds"
  done
}

describe() {
  ask describe-execution --execution-arn "$execution" --query "$1"
}

# So many of the characters.
repeat() {
  drawn=
  while [ "${#drawn}" -lt "$2" ]; do drawn=$drawn$1; done
  printf '%s' "$drawn"
}

shown=
show() {
  [ "$1" != "$shown" ] || return 0
  # What is left of a longer line goes.
  if [ -t 1 ]; then printf '\r\033[K%s' "$1"; else printf '%s\n' "$1"; fi
  shown=$1
}

width=30
look() {
  # A round's Map Run follows the one before it.
  map_run=$(ask list-map-runs --execution-arn "$execution" --query 'sort_by(mapRuns, &startDate)[-1].mapRunArn')
  case $map_run in
    arn:*) ;;
    *)
      show "FindDifferences: comparing; nothing is replicated yet"
      return 0
      ;;
  esac
  counts=$(ask describe-map-run --map-run-arn "$map_run" \
    --query 'itemCounts.[total, succeeded, failed, timedOut, aborted, running, pendingRedrive]')
  # shellcheck disable=SC2086 # Numbers.
  set -- $counts
  total=$1
  succeeded=$2
  failed=$(($3 + $4 + $5))
  running=$6
  [ "$total" != 0 ] || return 0
  done=$((succeeded + failed))
  filled=$((width * done / total))
  line="ReplicateImages [$(repeat '#' "$filled")$(repeat - $((width - filled)))] $((100 * done / total)) %"
  line="$line, $succeeded of $total replicated, $running under way, $failed failed"
  case ${7:-0} in 0 | None) ;; *) line="$line, $7 to be redriven" ;; esac
  show "$line"
}

while :; do
  # Asked first: what is counted afterwards is then all of it.
  status=$(describe status)
  look
  case $status in RUNNING | PENDING_REDRIVE) ;; *) break ;; esac
  sleep "$seconds"
done
[ ! -t 1 ] || echo

if [ "$status" != SUCCEEDED ]; then
  fail "$status: $(describe '[error, cause]')"
fi
output=$(describe output)
# The CLI gives the output as it is: JSON, in which a line break is two characters.
running=$(printf '%s' "$output" | sed -n 's/.*"alreadyRunning" *: *"\([^"]*\)".*/\1/p')
[ -z "$running" ] || fail "another run was under way, so this one ended: $running"
printf '%s\n' "$output" | sed -n 's/.*"summary" *: *"\([^"\\]*\(\\.[^"\\]*\)*\)".*/\1/p' | sed 's/\\n/\
/g; s/\\\(.\)/\1/g'
