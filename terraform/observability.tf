# The log groups come before what writes to them: whoever writes first would make them without retention.

resource "aws_cloudwatch_log_group" "function" {
  for_each = local.functions

  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_retention_days

  tags = var.tags
}

resource "aws_cloudwatch_log_group" "state_machine" {
  # Below /aws/vendedlogs, log delivery needs no entry of its own in the account's resource policy, whose length is limited.
  name              = "/aws/vendedlogs/states/${local.state_machine_name}"
  retention_in_days = var.log_retention_days

  tags = var.tags
}

locals {
  # A failed execution is the report of a failed target, so one is enough to tell somebody.
  alarms = {
    executions-failed = {
      description = "A replication failed for at least one target: open the failed execution, then redrive it"
      namespace   = "AWS/States"
      metric      = "ExecutionsFailed"
      statistic   = "Sum"
      dimensions  = { StateMachineArn = local.state_machine_arn }
    }
    executions-timed-out = {
      description = "A replication ran into the state machine's time limit: open the execution, then redrive it"
      namespace   = "AWS/States"
      metric      = "ExecutionsTimedOut"
      statistic   = "Sum"
      dimensions  = { StateMachineArn = local.state_machine_arn }
    }
    executions-aborted = {
      description = "Somebody stopped a replication: redrive it to finish"
      namespace   = "AWS/States"
      metric      = "ExecutionsAborted"
      statistic   = "Sum"
      dimensions  = { StateMachineArn = local.state_machine_arn }
    }
    dead-letters = {
      description = "A push event could not start an execution: mend what its ERROR_MESSAGE in the queue ${aws_sqs_queue.dead_letters.name} says, then run `make replay-dead-letters NAME=${var.name}`"
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      statistic   = "Maximum"
      dimensions  = { QueueName = aws_sqs_queue.dead_letters.name }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name        = "${var.name}-${each.key}"
  alarm_description = each.value.description

  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"

  alarm_actions = var.alarm_actions
  ok_actions    = var.alarm_actions

  tags = var.tags
}
