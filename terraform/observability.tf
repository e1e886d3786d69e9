# The log groups come before what writes to them: whoever writes first would make them without retention.

resource "aws_cloudwatch_log_group" "function" {
  for_each = local.functions

  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn

  tags = var.tags
}

resource "aws_cloudwatch_log_group" "state_machine" {
  # Below /aws/vendedlogs, log delivery needs no entry of its own in the account's resource policy, whose length is limited.
  name              = "/aws/vendedlogs/states/${local.state_machine_name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn

  tags = var.tags
}

resource "aws_cloudwatch_log_group" "reconcile" {
  name              = "/aws/vendedlogs/states/${local.reconcile_name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn

  tags = var.tags
}

locals {
  # A failed execution is the report of a failed target, so one is enough to tell somebody. Each alarm has an entry of its name in the
  # runbook, and a query.
  alarms = merge({
    executions-failed = {
      description = "A replication failed for at least one target: open the failed execution, then redrive it."
      namespace   = "AWS/States"
      metric      = "ExecutionsFailed"
      statistic   = "Sum"
      dimensions  = { StateMachineArn = local.state_machine_arn }
      threshold   = 0
    }
    executions-timed-out = {
      description = "A replication ran into the state machine's time limit: open the execution, then redrive it."
      namespace   = "AWS/States"
      metric      = "ExecutionsTimedOut"
      statistic   = "Sum"
      dimensions  = { StateMachineArn = local.state_machine_arn }
      threshold   = 0
    }
    executions-aborted = {
      description = "Somebody stopped a replication: redrive it to finish."
      namespace   = "AWS/States"
      metric      = "ExecutionsAborted"
      statistic   = "Sum"
      dimensions  = { StateMachineArn = local.state_machine_arn }
      threshold   = 0
    }
    dead-letters = {
      description = "A push event could not start an execution: mend what its ERROR_MESSAGE in the queue ${aws_sqs_queue.dead_letters.name} says, then run `make replay-dead-letters NAME=${var.name}`, or the module's replay-dead-letters.sh ${var.name}."
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      statistic   = "Maximum"
      dimensions  = { QueueName = aws_sqs_queue.dead_letters.name }
      threshold   = 0
    }
    # A gauge that nobody reads for a while is where it was. The least of a day, so that a repair ends it.
    drift = {
      description = "Targets have differed from the source, or could not be compared, for ${var.reconcile.drift_alarm_days == 1 ? "a day" : "${var.reconcile.drift_alarm_days} days"}: read the last run's report, then `make reconcile MODE=repair NAME=${var.name}`, or the module's reconcile.sh name=${var.name} mode=repair."
      namespace   = local.metric_namespace
      metric      = "Drift"
      statistic   = "Minimum"
      dimensions  = { Deployment = var.name }
      threshold   = 0
      period      = 86400
      periods     = var.reconcile.drift_alarm_days
      missing     = "ignore"
    }
    }, var.lag_objective_seconds == null ? {} : {
    replication-lag = {
      description = "An image took longer than ${var.lag_objective_seconds} s from its push to a target: see where the time went."
      namespace   = local.metric_namespace
      metric      = "ReplicationLag"
      statistic   = "Maximum"
      dimensions  = { Deployment = var.name }
      threshold   = var.lag_objective_seconds * 1000
    }
  })

  metric_namespace = "EcrReplicator"
  all_alarms       = concat(keys(local.alarms), ["reconcile-failed", "throttling"])
  runbook          = { for name in local.all_alarms : name => "Runbook: docs/runbook.md#${name}" }
  alarm_names      = { for name in local.all_alarms : name => "${var.name}-${name}" }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name        = local.alarm_names[each.key]
  alarm_description = "${each.value.description} ${local.runbook[each.key]}"

  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = try(each.value.period, 300)
  evaluation_periods  = try(each.value.periods, 1)
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = try(each.value.missing, "notBreaching")

  alarm_actions = var.alarm_actions
  ok_actions    = var.alarm_actions

  tags = var.tags
}

# Lambda throttles a burst for a moment, the state machine tries again, and nobody need know. Three periods in a row are a concurrency
# limit that is too low: the retries end after two minutes, and targets fail, which this alarm explains. Registries throttle, too, which the
# functions wait for: a push of many manifests is slowed down by design, so their answers count by the hundred in a period. A round tells
# of them at its end. What Step Functions itself throttles only waits, which the lag tells; the dashboard shows all three.
resource "aws_cloudwatch_metric_alarm" "throttling" {
  alarm_name        = local.alarm_names["throttling"]
  alarm_description = "Lambda has throttled the functions, or ECR has throttled them a hundred times in five minutes, for 15 minutes: see which, and raise that limit. ${local.runbook["throttling"]}"

  metric_query {
    id          = "throttles"
    label       = "Throttles"
    expression  = "SUM([${join(", ", [for step in keys(local.functions) : replace(step, "-", "_")])}, registries])"
    return_data = true
  }

  metric_query {
    id         = "registries"
    label      = "Registries, in hundreds"
    expression = "FLOOR(answers / 100)"
  }

  metric_query {
    id = "answers"
    metric {
      namespace   = local.metric_namespace
      metric_name = "Throttled"
      dimensions  = { Deployment = var.name }
      stat        = "Sum"
      period      = 300
    }
  }

  dynamic "metric_query" {
    for_each = aws_lambda_function.this
    content {
      id = replace(metric_query.key, "-", "_")
      metric {
        namespace   = "AWS/Lambda"
        metric_name = "Throttles"
        dimensions  = { FunctionName = metric_query.value.function_name }
        stat        = "Sum"
        period      = 300
      }
    }
  }

  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"

  alarm_actions = var.alarm_actions
  ok_actions    = var.alarm_actions

  tags = var.tags
}

# Whatever kept a run from its end, or from its beginning: then nobody knows what the targets lack.
resource "aws_cloudwatch_metric_alarm" "reconcile_failed" {
  alarm_name        = local.alarm_names["reconcile-failed"]
  alarm_description = "A run of ${local.reconcile_name} failed, was stopped, or could not be started by its schedule: open the execution, then redrive it. ${local.runbook["reconcile-failed"]}"

  metric_query {
    id          = "runs"
    label       = "Runs that did not succeed"
    expression  = "SUM(METRICS())"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = {
      aborted   = { namespace = "AWS/States", name = "ExecutionsAborted", dimensions = { StateMachineArn = local.reconcile_arn }, stat = "Sum" }
      failed    = { namespace = "AWS/States", name = "ExecutionsFailed", dimensions = { StateMachineArn = local.reconcile_arn }, stat = "Sum" }
      timed_out = { namespace = "AWS/States", name = "ExecutionsTimedOut", dimensions = { StateMachineArn = local.reconcile_arn }, stat = "Sum" }
      waiting   = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = local.reconcile_dead_letter_queue_name }, stat = "Maximum" }
    }
    content {
      id = metric_query.key
      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.dimensions
        stat        = metric_query.value.stat
        period      = 300
      }
    }
  }

  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"

  alarm_actions = var.alarm_actions
  ok_actions    = var.alarm_actions

  tags = var.tags
}

# A query for each entry of the runbook; they cost nothing until somebody runs one. The state machine's log has each state that
# failed, with its error and cause. The functions' have a line for each step that ended well, and the report function's have a line
# of metrics for each target of a round.

locals {
  state_machine_log = [aws_cloudwatch_log_group.state_machine.name]
  report_log        = [aws_cloudwatch_log_group.function["report"].name]

  queries = {
    executions-failed = {
      log_groups = local.state_machine_log
      query      = <<-END
        # Every state that failed, those that were tried again among them: the last of an execution is its own failure.
        fields @timestamp, execution_arn, type, details.error as error, details.cause as cause
        | filter ispresent(details.error)
        | sort @timestamp desc
        | limit 100
      END
    }
    executions-timed-out = {
      log_groups = [for step in ["ensure-repo", "copy-layers", "put-manifest"] : aws_cloudwatch_log_group.function[step].name]
      query      = <<-END
        # How far each execution came in each region: its last step that ended. Of one of them, with its name and without the sign before it:
        # | filter fields.execution = "<name>"
        filter ispresent(fields.execution)
        | stats latest(fields.message) as last_step, max(@timestamp) as at, count(*) as lines by fields.execution, fields.region, fields.repository
        | sort at desc
        | limit 100
      END
    }
    executions-aborted = {
      log_groups = local.state_machine_log
      query      = <<-END
        # The executions that were stopped, and what was said.
        fields @timestamp, execution_arn, details.error as error, details.cause as cause
        | filter type = "ExecutionAborted"
        | sort @timestamp desc
        | limit 100
      END
    }
    dead-letters = {
      log_groups = local.report_log
      query      = <<-END
        # What became of an image: the rounds that were about it. Its digest, or its repository, stands between the slashes.
        fields @timestamp, execution, Region, repository, digest
        | filter ispresent(Deployment) and @message like /sha256:/
        | sort @timestamp desc
        | limit 100
      END
    }
    replication-lag = {
      log_groups = local.report_log
      query      = <<-END
        # The slowest targets, and where their time went, in milliseconds: what no step took was a wait. Of shards that copy side by
        # side, the step's time is that of the longest.
        fields @timestamp, execution, Region, repository, digest, ReplicationLag, EnsureRepositoryDuration, CopyLayersDuration, PutManifestDuration, Retries, Throttled, BytesCopied
        | filter ispresent(ReplicationLag)
        | sort ReplicationLag desc
        | limit 100
      END
    }
    drift = {
      log_groups = [aws_cloudwatch_log_group.function["report-differences"].name]
      query      = <<-END
        # What each run found to differ, by rule and target region.
        fields @timestamp, execution, Rule, Region, Drift
        | filter ispresent(Drift)
        | sort @timestamp desc
        | limit 100
      END
    }
    reconcile-failed = {
      log_groups = [aws_cloudwatch_log_group.reconcile.name]
      query      = <<-END
        # Every state that failed, and every run that was stopped; a child's have the Map's name in their execution's.
        fields @timestamp, execution_arn, type, details.error as error, details.cause as cause
        | filter ispresent(details.error) or type = "ExecutionAborted"
        | sort @timestamp desc
        | limit 100
      END
    }
    throttling = {
      log_groups = local.state_machine_log
      query      = <<-END
        # What was throttled, by Lambda and by registries, and when.
        filter details.error in ["Lambda.TooManyRequestsException", "RegistryThrottled"]
        | stats count(*) as times by details.error, bin(5m)
      END
    }
  }
}

resource "aws_cloudwatch_query_definition" "this" {
  for_each = local.queries

  name            = "${var.name}/${each.key}"
  log_group_names = each.value.log_groups
  query_string    = each.value.query
}
