# Messages to a topic of the user's, whose policy is the user's, too. Step Functions tells EventBridge of an execution that ends, the
# report function of a round: no function sends a message, so that an execution which fails or is stopped has one as well.

locals {
  console_url = "https://${local.source_region}.${lookup(local.console_domains, local.partition, "console.aws.amazon.com")}/states/home?region=${local.source_region}"
  console_domains = {
    aws-cn     = "console.amazonaws.cn"
    aws-us-gov = "console.amazonaws-us-gov.com"
  }

  execution_pattern = {
    source      = ["aws.states"]
    detail-type = ["Step Functions Execution Status Change"]
  }
  # A report has the execution's ARN, whose beginning is the state machine's. What a repair started is told by the repair: of thousands
  # of images there would be thousands of messages.
  reported_execution = {
    arn       = [{ prefix = "${replace(local.state_machine_arn, ":stateMachine:", ":execution:")}:" }]
    startedBy = [{ exists = false }]
  }

  reported_run = { arn = [{ prefix = "${replace(local.reconcile_arn, ":stateMachine:", ":execution:")}:" }] }

  # What a message says, by what it is about. A round that is not complete is told by its report, whose summary is for a person; the
  # cause of its execution would say the same once more, as JSON. An execution that fails otherwise has no report of what failed.
  possible_notifications = {
    round-incomplete = {
      on = ["failures", "all"]
      pattern = {
        source      = ["ecr-replicator"]
        detail-type = ["Image Replication Incomplete"]
        # What a redrive repeats was told before: by this, or by the execution that failed as its report did.
        detail = { execution = local.reported_execution, repeated = [false], targets = { status = ["FAILED", "CONFLICT"] } }
      }
      title   = "${var.name}: <repository> <digest> is not complete at every target, round <round>"
      paths   = merge(local.report_paths, { round = "$.detail.round" })
      redrive = true
    }
    execution-failed = {
      on = ["failures", "all"]
      pattern = merge(local.execution_pattern, {
        detail = {
          stateMachineArn = [local.state_machine_arn, local.reconcile_arn]
          status          = ["FAILED"]
          error           = [{ anything-but = ["ReplicationIncomplete", "ReconcileIncomplete"] }]
        }
      })
      title   = "${var.name}: the execution <name> failed: <error>"
      paths   = { name = "$.detail.name", execution = "$.detail.executionArn", error = "$.detail.error", description = "$.detail.cause" }
      redrive = true
    }
    execution-ended = {
      on          = ["failures", "all"]
      pattern     = merge(local.execution_pattern, { detail = { stateMachineArn = [local.state_machine_arn, local.reconcile_arn], status = ["TIMED_OUT", "ABORTED"] } })
      title       = "${var.name}: the execution <name> ended as <status>"
      description = "It ran into the state machine's time limit (TIMED_OUT), or somebody stopped it (ABORTED). Targets that were not finished may lack the image, and there is no report."
      paths       = { name = "$.detail.name", execution = "$.detail.executionArn", status = "$.detail.status" }
      redrive     = true
    }
    targets-differ = {
      on = ["failures", "all"]
      pattern = {
        source      = ["ecr-replicator"]
        detail-type = ["ECR Registry Reconcile Incomplete"]
        detail      = { execution = local.reported_run, repeated = [false] }
      }
      title = "${var.name}: <mode>: targets differ from the source, or could not be compared"
      paths = local.run_paths
      # An audit is over, and its redrive would be refused; the summary of a repair says what to do.
      redrive = false
    }
    targets-agree = {
      on = ["all"]
      pattern = {
        source      = ["ecr-replicator"]
        detail-type = ["ECR Registry Reconcile Complete"]
        detail      = { execution = local.reported_run }
      }
      title   = "${var.name}: <mode>: no target differs from the source"
      paths   = local.run_paths
      redrive = false
    }
    round-complete = {
      on = ["all"]
      pattern = {
        source      = ["ecr-replicator"]
        detail-type = ["Image Replication Complete"]
        detail      = { execution = local.reported_execution }
      }
      title   = "${var.name}: <repository> <digest> is at every target"
      paths   = local.report_paths
      redrive = false
    }
    round-skipped = {
      on = ["all"]
      pattern = {
        source      = ["ecr-replicator"]
        detail-type = ["Image Replication Incomplete"]
        # That no target failed cannot be asked for: a pattern is met by any target. The summary tells it, whatever else is in it.
        detail = {
          execution = local.reported_execution
          summary   = [{ wildcard = "*) was deleted at the source before it was at * targets." }]
        }
      }
      title   = "${var.name}: <repository> <digest> is not at every target: the source lost it"
      paths   = local.report_paths
      redrive = false
    }
  }
  run_paths = { execution = "$.detail.execution.arn", mode = "$.detail.request.mode", description = "$.detail.summary" }
  report_paths = {
    execution   = "$.detail.execution.arn"
    repository  = "$.detail.image.repository"
    digest      = "$.detail.image.digest"
    description = "$.detail.summary"
  }

  notifications = {
    for name, notification in local.possible_notifications : name => notification
    if var.notifications != null && contains(notification.on, try(var.notifications.on, ""))
  }
  notification_patterns = { for name, notification in local.notifications : name => jsonencode(notification.pattern) }

  # An object that mail shows as it is, and that Amazon Q Developer in chat applications renders. EventBridge quotes and escapes a value
  # that stands for itself, which a cause with line breaks and quotation marks needs, and not one within a string: names and ARNs.
  # jsonencode would escape the angle brackets of a placeholder, so those are put back.
  notification_templates = {
    for name, notification in local.notifications : name => replace(
      replace(replace(jsonencode({
        version = "1.0"
        source  = "custom"
        content = {
          textType    = "client-markdown"
          title       = notification.title
          description = try(notification.description, "<description>")
          nextSteps = concat(
            ["Open ${local.console_url}#/v2/executions/details/<execution>"],
            notification.redrive ? [
              "Look it up in docs/runbook.md, and mend what it says",
              "aws stepfunctions redrive-execution --execution-arn <execution> --region ${local.source_region}",
            ] : [],
          )
        }
      }), "\\u003c", "<"), "\\u003e", ">"),
      "\"<description>\"", "<description>",
    )
  }
}

resource "aws_cloudwatch_event_rule" "notification" {
  for_each = local.notification_patterns

  # A replication rule's name has a _, and no dot.
  name          = "${var.name}-notify.${each.key}"
  description   = "Tells ${try(var.notifications.topic_arn, "")}: ${each.key}"
  event_pattern = each.value

  tags = var.tags
}

resource "aws_cloudwatch_event_target" "notification" {
  for_each = local.notification_templates

  rule      = aws_cloudwatch_event_rule.notification[each.key].name
  target_id = "topic"
  arn       = var.notifications.topic_arn

  input_transformer {
    input_paths    = local.notifications[each.key].paths
    input_template = each.value
  }

  # A message that the topic does not take is tried again for a day, and then dropped: the alarms are on the same executions. It is
  # no dead letter: those are push events, and are replayed as such.

  lifecycle {
    precondition {
      condition     = split(":", var.notifications.topic_arn)[3] == local.source_region
      error_message = "EventBridge sends to topics of its own region only, ${local.source_region}: ${var.notifications.topic_arn} is in another."
    }
  }
}
