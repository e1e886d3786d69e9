# What a person sees, and is told: notifications, alarms, dashboard and queries, and the runbook that goes with them.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  rules       = { all = { targets = [{ region = "us-east-1" }] } }
  package_dir = "./tests/packages"
}

run "nobody_is_told_unless_asked" {
  command = plan

  assert {
    condition = (
      length(aws_cloudwatch_event_rule.notification) == 0
      && length(aws_cloudwatch_event_target.notification) == 0
      && length(output.notification_rule_arns) == 0
    )
    error_message = "There is a notification without a topic."
  }
}

run "failures_are_told" {
  command = plan

  variables {
    notifications = { topic_arn = "arn:aws:sns:eu-central-1:123456789012:replications" }
  }

  assert {
    condition = { for name, rule in aws_cloudwatch_event_rule.notification : rule.name => jsondecode(rule.event_pattern) } == {
      "ecr-replicator-notify.execution-failed" = {
        source      = ["aws.states"]
        detail-type = ["Step Functions Execution Status Change"]
        detail = {
          stateMachineArn = ["arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image", "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-reconcile-registry"]
          status          = ["FAILED"]
          error           = [{ anything-but = ["ReplicationIncomplete", "ReconcileIncomplete"] }]
        }
      }
      "ecr-replicator-notify.round-incomplete" = {
        source      = ["ecr-replicator"]
        detail-type = ["Image Replication Incomplete"]
        detail = {
          execution = { arn = [{ prefix = "arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-replicate-image:" }], startedBy = [{ exists = false }] }
          repeated  = [false]
          targets   = { status = ["FAILED", "CONFLICT"] }
        }
      }
      "ecr-replicator-notify.targets-differ" = {
        source      = ["ecr-replicator"]
        detail-type = ["ECR Registry Reconcile Incomplete"]
        detail = {
          execution = { arn = [{ prefix = "arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-reconcile-registry:" }] }
          repeated  = [false]
        }
      }
      "ecr-replicator-notify.execution-ended" = {
        source      = ["aws.states"]
        detail-type = ["Step Functions Execution Status Change"]
        detail = {
          stateMachineArn = ["arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image", "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-reconcile-registry"]
          status          = ["TIMED_OUT", "ABORTED"]
        }
      }
    }
    error_message = "Something else is told than rounds that failed, targets that differ, and executions of these state machines that fail otherwise, time out or are aborted."
  }

  assert {
    condition = alltrue([
      for name, target in aws_cloudwatch_event_target.notification :
      target.rule == aws_cloudwatch_event_rule.notification[name].name && target.arn == "arn:aws:sns:eu-central-1:123456789012:replications"
    ])
    error_message = "A notification goes to another topic."
  }

  # With the placeholder that EventBridge quotes in quotes, the template is JSON.
  assert {
    condition = jsondecode(replace(aws_cloudwatch_event_target.notification["execution-failed"].input_transformer[0].input_template, ":<description>", ":\"<description>\"")) == {
      version = "1.0"
      source  = "custom"
      content = {
        textType    = "client-markdown"
        title       = "ecr-replicator: the execution <name> failed: <error>"
        description = "<description>"
        nextSteps = [
          "Open https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/v2/executions/details/<execution>",
          "Look it up in docs/runbook.md, and mend what it says",
          "aws stepfunctions redrive-execution --execution-arn <execution> --region eu-central-1",
        ]
      }
    }
    error_message = "The message on a failure is another."
  }

  assert {
    condition = jsondecode(replace(aws_cloudwatch_event_target.notification["round-incomplete"].input_transformer[0].input_template, ":<description>", ":\"<description>\"")).content == {
      textType    = "client-markdown"
      title       = "ecr-replicator: <repository> <digest> is not complete at every target, round <round>"
      description = "<description>"
      nextSteps = [
        "Open https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/v2/executions/details/<execution>",
        "Look it up in docs/runbook.md, and mend what it says",
        "aws stepfunctions redrive-execution --execution-arn <execution> --region eu-central-1",
      ]
    }
    error_message = "The message on a round that failed is another."
  }

  # What the event's JSON has, and not what is JSON in a string of it.
  assert {
    condition     = aws_cloudwatch_event_target.notification["round-incomplete"].input_transformer[0].input_paths["description"] == "$.detail.summary"
    error_message = "A round that failed is not described by the summary of its report."
  }

  # A cause has line breaks and quotation marks, which are not escaped within a string.
  assert {
    condition     = strcontains(aws_cloudwatch_event_target.notification["execution-failed"].input_transformer[0].input_template, "\"description\":<description>,")
    error_message = "The cause stands within a string."
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_event_target.notification["execution-ended"].input_transformer[0].input_template).content.nextSteps[2] == "aws stepfunctions redrive-execution --execution-arn <execution> --region eu-central-1"
    error_message = "The message on an execution that ended without an error is no JSON, or does not say how it is redriven."
  }
}

run "all_is_every_round_and_each_failure_once" {
  command = plan

  variables {
    name          = "mirror"
    notifications = { topic_arn = "arn:aws:sns:eu-central-1:123456789012:replications", on = "all" }
  }

  assert {
    condition     = keys(aws_cloudwatch_event_rule.notification) == ["execution-ended", "execution-failed", "round-complete", "round-incomplete", "round-skipped", "targets-agree", "targets-differ"]
    error_message = "Something is told besides, or is not."
  }

  assert {
    condition = { for name in ["round-complete", "round-skipped", "targets-agree"] : name => jsondecode(aws_cloudwatch_event_rule.notification[name].event_pattern) } == {
      round-complete = {
        source      = ["ecr-replicator"]
        detail-type = ["Image Replication Complete"]
        detail      = { execution = { arn = [{ prefix = "arn:aws:states:eu-central-1:123456789012:execution:mirror-replicate-image:" }], startedBy = [{ exists = false }] } }
      }
      round-skipped = {
        source      = ["ecr-replicator"]
        detail-type = ["Image Replication Incomplete"]
        detail = {
          execution = { arn = [{ prefix = "arn:aws:states:eu-central-1:123456789012:execution:mirror-replicate-image:" }], startedBy = [{ exists = false }] }
          summary   = [{ wildcard = "*) was deleted at the source before it was at * targets." }]
        }
      }
      targets-agree = {
        source      = ["ecr-replicator"]
        detail-type = ["ECR Registry Reconcile Complete"]
        detail      = { execution = { arn = [{ prefix = "arn:aws:states:eu-central-1:123456789012:execution:mirror-reconcile-registry:" }] } }
      }
    }
    error_message = "The rounds that are told are others."
  }

  # A path is what a placeholder stands for, and none is there for nothing.
  assert {
    condition = alltrue([
      for target in aws_cloudwatch_event_target.notification :
      toset(regexall("<([a-z]+)>", target.input_transformer[0].input_template)[*][0]) == toset(keys(target.input_transformer[0].input_paths))
    ])
    error_message = "A placeholder has no path, or a path no placeholder."
  }
}

run "the_console_of_another_partition_is_elsewhere" {
  command = plan

  variables {
    rules         = { all = { targets = [{ region = "us-gov-east-1" }] } }
    notifications = { topic_arn = "arn:aws-us-gov:sns:us-gov-west-1:123456789012:replications" }
  }

  override_data {
    target = data.aws_region.current
    values = { id = "us-gov-west-1" }
  }

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-us-gov" }
  }

  assert {
    condition     = strcontains(aws_cloudwatch_event_target.notification["execution-failed"].input_transformer[0].input_template, "https://us-gov-west-1.console.amazonaws-us-gov.com/states/home?region=us-gov-west-1#/v2/")
    error_message = "The link leads to another partition's console."
  }
}

run "a_topic_of_another_region" {
  command = plan

  variables {
    notifications = { topic_arn = "arn:aws:sns:eu-west-1:123456789012:replications" }
  }

  expect_failures = [aws_cloudwatch_event_target.notification]
}

run "a_fifo_topic" {
  command = plan

  variables {
    notifications = { topic_arn = "arn:aws:sns:eu-central-1:123456789012:replications.fifo" }
  }

  expect_failures = [var.notifications]
}

run "an_address_in_place_of_a_topic" {
  command = plan

  variables {
    notifications = { topic_arn = "somebody@example.com" }
  }

  expect_failures = [var.notifications]
}

run "notifications_on_something_else" {
  command = plan

  variables {
    notifications = { topic_arn = "arn:aws:sns:eu-central-1:123456789012:replications", on = "success" }
  }

  expect_failures = [var.notifications]
}

run "an_objective_that_no_push_can_meet" {
  command = plan

  variables {
    lag_objective_seconds = 0
  }

  expect_failures = [var.lag_objective_seconds]
}

run "an_objective_beyond_an_executions_time" {
  command = plan

  variables {
    lag_objective_seconds = 86401
  }

  expect_failures = [var.lag_objective_seconds]
}

run "no_objective_no_alarm" {
  command = plan

  assert {
    condition     = keys(output.alarm_names) == ["dead-letters", "drift", "executions-aborted", "executions-failed", "executions-timed-out", "reconcile-failed", "throttling"]
    error_message = "There are other alarms than without an objective."
  }
}

run "lag_is_held_to_the_objective" {
  command = plan

  variables {
    name                  = "mirror"
    lag_objective_seconds = 90
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.this["replication-lag"].namespace == "EcrReplicator"
      && aws_cloudwatch_metric_alarm.this["replication-lag"].metric_name == "ReplicationLag"
      && aws_cloudwatch_metric_alarm.this["replication-lag"].dimensions == tomap({ Deployment = "mirror" })
      && aws_cloudwatch_metric_alarm.this["replication-lag"].statistic == "Maximum"
      && aws_cloudwatch_metric_alarm.this["replication-lag"].threshold == 90000
      && aws_cloudwatch_metric_alarm.this["replication-lag"].treat_missing_data == "notBreaching"
    )
    error_message = "The alarm on lag is not on the longest of this deployment, in milliseconds."
  }

  assert {
    condition     = one(aws_lambda_function.this["report"].environment).variables.DEPLOYMENT == aws_cloudwatch_metric_alarm.this["replication-lag"].dimensions.Deployment
    error_message = "The alarm is on another deployment than the one that is measured."
  }

  assert {
    condition     = strcontains(aws_cloudwatch_metric_alarm.this["replication-lag"].alarm_description, " 90 s ")
    error_message = "The alarm does not say what the objective is."
  }
}

run "throttling_is_an_alarm_when_it_lasts" {
  command = plan

  variables {
    alarm_actions = ["arn:aws:sns:eu-central-1:123456789012:alarms"]
  }

  assert {
    condition = {
      for query in aws_cloudwatch_metric_alarm.throttling.metric_query : query.id => flatten([
        for metric in query.metric : [metric.namespace, metric.metric_name, values(metric.dimensions), metric.stat, tostring(metric.period)]
      ]) if query.expression == null || query.expression == ""
      } == merge(
      { answers = ["EcrReplicator", "Throttled", "ecr-replicator", "Sum", "300"] },
      {
        for step in ["copy-layers", "ensure-repo", "find-differences", "put-manifest", "report", "report-differences", "resolve-image"] :
        replace(step, "-", "_") => ["AWS/Lambda", "Throttles", "ecr-replicator-${step}", "Sum", "300"]
      },
    )
    error_message = "The alarm does not look at each function and at the registries."
  }

  assert {
    condition     = one([for query in aws_cloudwatch_metric_alarm.throttling.metric_query : query.expression if query.id == "registries"]) == "FLOOR(answers / 100)"
    error_message = "A registry's throttling that passes raises the alarm."
  }

  assert {
    condition = (
      one([for query in aws_cloudwatch_metric_alarm.throttling.metric_query : query.expression if query.return_data == true]) == "SUM([copy_layers, ensure_repo, find_differences, put_manifest, report, report_differences, resolve_image, registries])"
      && aws_cloudwatch_metric_alarm.throttling.evaluation_periods == 3
      && aws_cloudwatch_metric_alarm.throttling.threshold == 0
      && aws_cloudwatch_metric_alarm.throttling.comparison_operator == "GreaterThanThreshold"
      && aws_cloudwatch_metric_alarm.throttling.treat_missing_data == "notBreaching"
      && aws_cloudwatch_metric_alarm.throttling.alarm_actions == toset(["arn:aws:sns:eu-central-1:123456789012:alarms"])
      && aws_cloudwatch_metric_alarm.throttling.ok_actions == toset(["arn:aws:sns:eu-central-1:123456789012:alarms"])
    )
    error_message = "The alarm goes off at the first throttle, or not after fifteen minutes of them, or tells nobody."
  }
}

run "alarms_queries_and_runbook_have_the_same_entries" {
  command = plan

  variables {
    lag_objective_seconds = 90
  }

  assert {
    condition     = toset(regexall("(?m)^## (.*)$", file("../docs/runbook.md"))[*][0]) == toset(keys(output.alarm_names))
    error_message = "The runbook has no entry for an alarm, or one for none."
  }

  assert {
    condition     = toset(values(aws_cloudwatch_query_definition.this)[*].name) == toset([for name in keys(output.alarm_names) : "ecr-replicator/${name}"])
    error_message = "A runbook entry has no query, or a query no entry."
  }

  assert {
    condition = {
      for alarm in concat(
        values(aws_cloudwatch_metric_alarm.this),
        [aws_cloudwatch_metric_alarm.reconcile_failed, aws_cloudwatch_metric_alarm.throttling],
      ) :
      alarm.alarm_name => regex("Runbook: docs/runbook.md#(.*)$", alarm.alarm_description)[0]
    } == { for name, alarm_name in output.alarm_names : alarm_name => name }
    error_message = "An alarm does not name its runbook entry."
  }

  # Each entry says what it means, how to see it, and what to do, with a command and its query.
  assert {
    condition = alltrue([
      for entry in slice(split("\n## ", file("../docs/runbook.md")), 1, 1 + length(output.alarm_names)) : alltrue([
        for part in ["**Means.**", "**See.**", "**Do.**", "```console\n$ ", "`ecr-replicator/${split("\n", entry)[0]}`"] : strcontains(entry, part)
      ])
    ])
    error_message = "An entry of the runbook lacks a part."
  }
}

run "queries_read_the_logs_that_have_what_they_ask_for" {
  command = plan

  assert {
    condition = { for name, query in aws_cloudwatch_query_definition.this : name => query.log_group_names } == {
      dead-letters         = tolist(["/aws/lambda/ecr-replicator-report"])
      drift                = tolist(["/aws/lambda/ecr-replicator-report-differences"])
      executions-aborted   = tolist(["/aws/vendedlogs/states/ecr-replicator-replicate-image"])
      executions-failed    = tolist(["/aws/vendedlogs/states/ecr-replicator-replicate-image"])
      executions-timed-out = tolist(["/aws/lambda/ecr-replicator-ensure-repo", "/aws/lambda/ecr-replicator-copy-layers", "/aws/lambda/ecr-replicator-put-manifest"])
      replication-lag      = tolist(["/aws/lambda/ecr-replicator-report"])
      reconcile-failed     = tolist(["/aws/vendedlogs/states/ecr-replicator-reconcile-registry"])
      throttling           = tolist(["/aws/vendedlogs/states/ecr-replicator-replicate-image"])
    }
    error_message = "A query reads another log."
  }
}

run "the_dashboard_fits_its_grid" {
  command = plan

  variables {
    name                  = "mirror"
    lag_objective_seconds = 90
  }

  assert {
    condition = aws_cloudwatch_dashboard.this[0].dashboard_name == "mirror" && output.dashboard_name == "mirror" && alltrue([
      for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets :
      widget.x + widget.width <= 24 && widget.width >= 6 && widget.height >= 2
    ])
    error_message = "A widget is wider than the page, or narrower than can be read."
  }

  # No two widgets on one place.
  assert {
    condition = length(distinct(flatten([
      for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : [
        for cell in setproduct(range(widget.x, widget.x + widget.width), range(widget.y, widget.y + widget.height)) : join(",", cell)
      ]
      ]))) == sum([
      for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : widget.width * widget.height
    ])
    error_message = "Widgets overlap."
  }

  assert {
    condition = alltrue([
      for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets :
      widget.type == "alarm" ? length(widget.properties.alarms) == 8 : (
        widget.properties.title != "" && widget.properties.yAxis.left.label != "" && widget.properties.region == "eu-central-1" && length(widget.properties.metrics) > 0
      )
    ])
    error_message = "A widget has no title, no unit, or nothing to show."
  }

  # A search finds a deployment's own figures, in whatever regions there are.
  assert {
    condition = alltrue([
      for expression in regexall("SEARCH\\([^)]*\\)", aws_cloudwatch_dashboard.this[0].dashboard_body) :
      can(regex("^SEARCH\\('\\{EcrReplicator,Deployment,Region\\} MetricName=\\\\\"[A-Za-z]+\\\\\" Deployment=\\\\\"mirror\\\\\"', '(Sum|Maximum)', 300\\)$", expression))
      || expression == "SEARCH('{EcrReplicator,Deployment,Region,Rule} MetricName=\\\"Drift\\\" Deployment=\\\"mirror\\\"', 'Maximum', 3600)"
    ]) && length(regexall("SEARCH\\(", aws_cloudwatch_dashboard.this[0].dashboard_body)) == 15
    error_message = "A search is not of this deployment's metrics by region."
  }

  # The metrics that the report functions measure.
  assert {
    condition = alltrue([
      for metric in distinct(regexall("MetricName=\\\\\"([A-Za-z]+)", aws_cloudwatch_dashboard.this[0].dashboard_body)[*][0]) :
      anytrue([
        for function in ["report", "report-differences"] : strcontains(file("../functions/${function}/src/metrics.rs"), "\"${metric}\"")
      ])
    ])
    error_message = "The dashboard shows a metric that nobody measures."
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets[1].properties.annotations.horizontal == [{ label = "objective", value = 90000 }]
    error_message = "The objective is not drawn beside the lag."
  }
}

run "a_dashboard_is_not_for_everybody" {
  command = plan

  variables {
    dashboard = false
  }

  assert {
    condition     = length(aws_cloudwatch_dashboard.this) == 0 && output.dashboard_name == null
    error_message = "There is a dashboard that nobody wants."
  }
}
