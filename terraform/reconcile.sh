#!/bin/sh
# Starts a run of reconcile-registry, which finds what the targets lack of the source's images, and prints its ARN. Needs the AWS
# CLI, with credentials that may list state machines and start this one, and the source region.
#
# usage: reconcile.sh [name=<name>] [mode=audit|plan|repair] [<what>=<value>]...
#   name                            the module's `name`, ecr-replicator by default
#   mode                            audit (the default) says what differs, plan also what it would take, repair mends it
#   rules, repositories, tags       only these; several with spaces between them. Repositories and tags may have *
#   pushed_since, pushed_before     only images that were pushed then: RFC 3339, such as 2026-11-01T00:00:00Z
#   newest                          only so many images of each repository, those that were pushed last
#   price_per_gb, bytes_per_second  for a plan: what 10^9 bytes cost on their way, and how many go in a second
# A value that is empty is as good as none.
set -euf

fail() {
  echo "$1" >&2
  exit 1
}

name=ecr-replicator
input=
# What is a member of a JSON object, but for its comma.
add() {
  input="$input${input:+, }\"$1\": $2"
}
text() {
  case $1 in *[\\\"]*) fail "no such name has a quotation mark or a backslash: $1" ;; esac
  printf '"%s"' "$1"
}
number() {
  case $2 in *[!0-9.]* | .* | *. | *.*.*) fail "$1 is a number, and not $2" ;; esac
  # A JSON number has no zeros before others.
  case $2 in 0[0-9]*) fail "$1 is a number, and not $2" ;; esac
  printf '%s' "$2"
}
list() {
  list=
  for word in $1; do list="$list${list:+, }$(text "$word")"; done
  printf '[%s]' "$list"
}

for argument; do
  value=${argument#*=}
  [ -n "$value" ] || continue
  case $argument in
    name=*) name=$value ;;
    mode=audit | mode=plan | mode=repair) add mode "$(text "$value")" ;;
    mode=*) fail "the mode is audit, plan or repair, and not $value" ;;
    rules=* | repositories=* | tags=*)
      value=$(list "$value")
      add "${argument%%=*}" "$value"
      ;;
    pushed_since=*)
      value=$(text "$value")
      add pushedSince "$value"
      ;;
    pushed_before=*)
      value=$(text "$value")
      add pushedBefore "$value"
      ;;
    newest=*)
      value=$(number newest "$value")
      add newest "$value"
      ;;
    price_per_gb=*)
      value=$(number price_per_gb "$value")
      add pricePerGb "$value"
      ;;
    bytes_per_second=*)
      value=$(number bytes_per_second "$value")
      add bytesPerSecond "$value"
      ;;
    *) fail "usage: reconcile.sh [name=<name>] [mode=audit|plan|repair] [<what>=<value>]..., and not $argument" ;;
  esac
done

state_machine_arn=$(aws stepfunctions list-state-machines \
  --query "stateMachines[?name=='$name-reconcile-registry'].stateMachineArn" --output text)
[ -n "$state_machine_arn" ] || fail "there is no state machine $name-reconcile-registry in this account and region"

aws stepfunctions start-execution --state-machine-arn "$state_machine_arn" --input "{$input}" \
  --query executionArn --output text
