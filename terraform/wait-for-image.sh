#!/bin/sh
# Waits until the executions that a push has started are over: the newest of each rule. Succeeds when the image is at every
# target then, and else says why it is not. Needs the AWS CLI, with credentials that may list and describe the state machine's
# executions, and the source region.
#
# usage: wait-for-image.sh <repository>[:<tag>]@<digest> [name] [seconds]
#   name      the module's `name`, ecr-replicator by default
#   seconds   how long to wait, 1800 by default; less than a minute is too short for a good end
#
# Nothing tells how many rules select a push. EventBridge starts the executions of all of them within a second or so, and
# ListExecutions shows one a moment later; so it is only when none has appeared for half a minute that there is none to come.
# Where no rule has anything to do with the image, that is no verdict before the time is up: another rule's may be late.
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

# How many looks in a row, 5 s apart, must show no execution more before the verdict.
quiet_looks=6

end=$(($(date +%s) + seconds))
found=
quiet=0
late=
while :; do
  before=$found
  found=
  running=
  has_verdict=
  rules=
  # What the CLI answers is taken first: a call that fails ends the script, with what the CLI said of it, and is no answer.
  listed=$(aws stepfunctions list-executions --state-machine-arn "$state_machine_arn" --max-items 100 \
    --query 'executions[].[executionArn]' --output text)
  # The newest first. The CLI says None where there is none, and where there are more.
  for arn in $listed; do
    case $arn in arn:*) ;; *) continue ;; esac
    input=$known/${arn##*:}
    if ! [ -e "$input" ]; then
      said=$(describe "$arn" input)
      printf '%s\n' "$said" >"$input"
    fi
    is_of_image "$input" || continue
    rule=$(sed -n 's/.*"rule" *: *"\([^"]*\)".*/\1/p' "$input")
    case $rules in *" $rule "*) continue ;; esac
    rules="$rules $rule "
    found="$found $arn"
    state=$(describe "$arn" '[status, output]')
    printf '%s\n' "$state" | tr -d ' \n\t' >"$input.state"
    case $(cat "$input.state") in
      RUNNING* | PENDING_REDRIVE*) running="$running $arn" ;;
      SUCCEEDED*'"nothingToDo":'*) ;;
      *) has_verdict=1 ;;
    esac
  done
  if [ "$found" = "$before" ]; then quiet=$((quiet + 1)); else quiet=0; fi
  [ -z "$has_verdict" ] || [ -n "$running" ] || [ "$quiet" -lt "$quiet_looks" ] || break
  if [ "$(date +%s)" -ge "$end" ]; then
    [ -n "$found" ] || fail "no execution is of $image: does a rule select it, and was it pushed to this region?"
    [ -z "$running" ] || fail "after $seconds s, these still run:$running"
    [ -z "$has_verdict" ] || late=1
    break
  fi
  sleep 5
done

complete=
incomplete=0
for arn in $found; do
  case $(cat "$known/${arn##*:}.state") in
    SUCCEEDED*'"complete":true'*) complete=1 && echo "$arn: the image is at every target" ;;
    # The rule had nothing to do with it.
    SUCCEEDED*'"nothingToDo":'*) echo "$arn: nothing to do" ;;
    SUCCEEDED*)
      incomplete=1
      echo "$arn: the image was deleted at the source before it was everywhere" >&2
      ;;
    *)
      incomplete=1
      why=$(describe "$arn" '[status, error, cause]')
      echo "$arn: $why" >&2
      ;;
  esac
done
[ "$incomplete" = 0 ] || exit 1
[ -n "$complete" ] || fail "no rule replicates $image"
[ -z "$late" ] || fail "after $seconds s, another rule's execution may still be to come"
