#!/bin/sh
# Starts an execution for each push event in the dead-letter queue, as the event rule would have, and takes the event off the
# queue. Needs the AWS CLI, with credentials for the account and the source region.
#
# usage: replay-dead-letters.sh [name]    the module's `name`, ecr-replicator by default
set -eu

rule=${1:-ecr-replicator}-image-pushed
placeholder='<aws.events.event.json>'

queue_url=$(aws sqs get-queue-url --queue-name "$rule-dead-letters" --query QueueUrl --output text)
target() {
  aws events list-targets-by-rule --rule "$rule" --query "Targets[0].$1" --output text
}
state_machine_arn=$(target Arn)
template=$(target InputTransformer.InputTemplate)
case $template in
  *"$placeholder"*) ;;
  *) echo "the rule $rule has another input template than the module's: $template" >&2 && exit 1 ;;
esac
before=${template%%"$placeholder"*}
after=${template#*"$placeholder"}

replayed=0
failed=0
tab=$(printf '\t')
while :; do
  message=$(aws sqs receive-message --queue-url "$queue_url" --wait-time-seconds 5 --visibility-timeout 300 \
    --query 'Messages[0].[MessageId, ReceiptHandle, Body]' --output text)
  [ "$message" != None ] || break
  id=${message%%"$tab"*}
  message=${message#*"$tab"}
  receipt_handle=${message%%"$tab"*}
  body=${message#*"$tab"}

  # EventBridge keeps the event as it came; where it keeps the target's input, that is the input already.
  case $body in
    "$before"*) input=$body ;;
    *) input=$before$body$after ;;
  esac
  # By the message's own name: one that is replayed and not deleted, because this was stopped in between, starts nothing again.
  if started=$(aws stepfunctions start-execution --state-machine-arn "$state_machine_arn" --name "replay-$id" \
    --input "$input" --query executionArn --output text 2>&1); then
    echo "$started"
  elif [ "${started#*ExecutionAlreadyExists}" != "$started" ]; then
    echo "replay-$id was started before"
  else
    echo "$id stays in the queue: $started" >&2
    failed=$((failed + 1))
    continue
  fi
  aws sqs delete-message --queue-url "$queue_url" --receipt-handle "$receipt_handle"
  replayed=$((replayed + 1))
done
echo "$replayed replayed, $failed failed"
[ "$failed" = 0 ]
