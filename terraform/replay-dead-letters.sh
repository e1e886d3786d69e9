#!/bin/sh
# Starts an execution for each push event in the dead-letter queue, as its event rule would have, and takes the event off the
# queue. Needs the AWS CLI, with credentials for the account and the source region.
#
# usage: replay-dead-letters.sh [name]    the module's `name`, ecr-replicator by default
set -eu

placeholder='<aws.events.event.json>'

queue_url=$(aws sqs get-queue-url --queue-name "${1:-ecr-replicator}-image-pushed-dead-letters" --query QueueUrl --output text)

replayed=0
failed=0
staying=
tab=$(printf '\t')
while :; do
  message=$(aws sqs receive-message --queue-url "$queue_url" --wait-time-seconds 5 --visibility-timeout 300 \
    --message-attribute-names RULE_ARN \
    --query 'Messages[0].[MessageId, ReceiptHandle, MessageAttributes.RULE_ARN.StringValue, Body]' --output text)
  [ "$message" != None ] || break
  id=${message%%"$tab"*}
  # A letter that stays comes again after a while: then all others were here, too.
  case $staying in *" $id "*) break ;; esac
  message=${message#*"$tab"}
  receipt_handle=${message%%"$tab"*}
  message=${message#*"$tab"}
  rule=${message%%"$tab"*}
  rule=${rule##*/}
  body=${message#*"$tab"}

  # The rule's target as it is now; a rule that is gone has none.
  target=$(aws events list-targets-by-rule --rule "$rule" --query 'Targets[0].[Arn, InputTransformer.InputTemplate]' \
    --output text 2>&1) || :
  case $target in
    *"$tab"*"$placeholder"*) ;;
    *)
      echo "$id stays in the queue: the rule $rule has no target such as the module's: $target" >&2
      failed=$((failed + 1))
      staying="$staying $id "
      continue
      ;;
  esac
  state_machine_arn=${target%%"$tab"*}
  template=${target#*"$tab"}
  before=${template%%"$placeholder"*}
  after=${template#*"$placeholder"}

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
    staying="$staying $id "
    continue
  fi
  aws sqs delete-message --queue-url "$queue_url" --receipt-handle "$receipt_handle"
  replayed=$((replayed + 1))
done
echo "$replayed replayed, $failed failed"
[ "$failed" = 0 ]
