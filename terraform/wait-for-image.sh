#!/bin/sh
# Waits until the executions that a push has started are over: the newest of each rule. Succeeds when the image is at every
# target then, and else says why it is not. Needs the AWS CLI, with credentials that may list and describe the state machine's
# executions, and the source region.
#
# usage: wait-for-image.sh <repository>[:<tag>]@<digest> [name] [seconds]
#   name      the module's `name`, ecr-replicator by default
#   seconds   how long to wait, 1800 by default
set -eu

fail() {
  echo "$1" >&2
  exit 1
}

image=${1:-}
name=${2:-ecr-replicator}
seconds=${3:-1800}
case $image in
  ?*@sha256:?*) ;;
  *) fail "usage: wait-for-image.sh <repository>[:<tag>]@<digest> [name] [seconds]" ;;
esac
digest=${image##*@}
repository=${image%@*}
tag=
case $repository in
  *:*)
    tag=${repository##*:}
    repository=${repository%:*}
    ;;
esac

state_machine_arn=$(aws stepfunctions list-state-machines \
  --query "stateMachines[?name=='$name-replicate-image'].stateMachineArn" --output text)
[ -n "$state_machine_arn" ] || fail "there is no state machine $name-replicate-image in this account and region"

# What is known of an execution does not change but for those that run: its input, and how it ended.
known=$(mktemp -d)
trap 'rm -r "$known"' EXIT

describe() {
  aws stepfunctions describe-execution --execution-arn "$1" --query "$2" --output text
}

# Whether the execution's input is this push. The CLI gives the input as it is: JSON, however it is spaced.
is_of_image() {
  said=$(tr -d ' \n' <"$1")
  case $said in *"\"image-digest\":\"$digest\""*) ;; *) return 1 ;; esac
  case $said in *"\"repository-name\":\"$repository\""*) ;; *) return 1 ;; esac
  [ -z "$tag" ] || case $said in *"\"image-tag\":\"$tag\""*) ;; *) return 1 ;; esac
}

end=$(($(date +%s) + seconds))
while :; do
  found=
  running=
  rules=
  # The newest first.
  for arn in $(aws stepfunctions list-executions --state-machine-arn "$state_machine_arn" --max-items 100 \
    --query 'executions[].[executionArn]' --output text | grep '^arn:'); do
    input=$known/${arn##*:}
    [ -e "$input" ] || describe "$arn" input >"$input"
    is_of_image "$input" || continue
    rule=$(sed -n 's/.*"rule" *: *"\([^"]*\)".*/\1/p' "$input")
    case $rules in *" $rule "*) continue ;; esac
    rules="$rules $rule "
    found="$found $arn"
    [ "$(describe "$arn" status)" != RUNNING ] || running="$running $arn"
  done
  [ -z "$found" ] || [ -n "$running" ] || break
  if [ "$(date +%s)" -ge "$end" ]; then
    [ -n "$found" ] || fail "no execution is of $image: does a rule select it, and was it pushed to this region?"
    fail "after $seconds s, these still run:$running"
  fi
  sleep 5
done

complete=
incomplete=0
for arn in $found; do
  status=$(describe "$arn" status)
  output=$(describe "$arn" output | tr -d ' \n')
  case $status$output in
    SUCCEEDED*'"complete":true'*) complete=1 && echo "$arn: the image is at every target" ;;
    # The rule had nothing to do with it.
    SUCCEEDED*'"nothingToDo":'*) echo "$arn: nothing to do" ;;
    SUCCEEDED*)
      incomplete=1
      echo "$arn: the image was deleted at the source before it was everywhere" >&2
      ;;
    *)
      incomplete=1
      echo "$arn: $status: $(describe "$arn" '[error, cause]')" >&2
      ;;
  esac
done
[ "$incomplete" = 0 ] || exit 1
[ -n "$complete" ] || fail "no rule replicates $image"
