# What finds the images that the targets lack: its bucket, its schedule, its state machine and what that may do.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  rules = {
    all      = { repositories = { include = ["prod/*"] }, targets = [{ region = "us-east-1" }] }
    releases = { repositories = { include = ["base"] }, targets = [{ region = "eu-west-1", repository_prefix = "mirror/", settings = "sync" }] }
  }
  package_dir = "./tests/packages"
}

run "by_default_it_audits_once_a_day" {
  command = plan

  assert {
    condition = (
      aws_scheduler_schedule.reconcile[0].schedule_expression == "rate(1 day)"
      && aws_scheduler_schedule.reconcile[0].flexible_time_window[0].mode == "OFF"
      && jsondecode(aws_scheduler_schedule.reconcile[0].target[0].input) == { mode = "audit", minimumAgeSeconds = 3600 }
    )
    error_message = "The schedule that nobody asked for does something else than look, once a day."
  }

  assert {
    condition     = output.reconcile_schedule_name == "ecr-replicator-reconcile"
    error_message = "The schedule has another name."
  }
}

run "it_repairs_when_somebody_says_so" {
  command = plan

  variables {
    reconcile = { schedule = { expression = "cron(0 3 ? * SUN *)", timezone = "Europe/Berlin", mode = "repair" }, price_per_gb = 0.02, drift_alarm_days = 1 }
  }

  assert {
    condition = (
      aws_scheduler_schedule.reconcile[0].schedule_expression == "cron(0 3 ? * SUN *)"
      && aws_scheduler_schedule.reconcile[0].schedule_expression_timezone == "Europe/Berlin"
      && jsondecode(aws_scheduler_schedule.reconcile[0].target[0].input) == { mode = "repair", minimumAgeSeconds = 3600 }
    )
    error_message = "The schedule is another than asked, or what it repairs has a price."
  }
}

run "a_plan_has_its_price" {
  command = plan

  variables {
    reconcile = { schedule = { mode = "plan" }, price_per_gb = 0.02 }
  }

  assert {
    condition     = jsondecode(aws_scheduler_schedule.reconcile[0].target[0].input) == { mode = "plan", minimumAgeSeconds = 3600, pricePerGb = 0.02 }
    error_message = "The plan that the schedule makes has another price than asked."
  }
}

run "what_was_there_before_may_be_of_no_concern" {
  command = plan

  variables {
    reconcile = { schedule = { pushed_since = "2026-11-01T00:00:00Z" } }
  }

  assert {
    condition     = jsondecode(aws_scheduler_schedule.reconcile[0].target[0].input) == { mode = "audit", minimumAgeSeconds = 3600, pushedSince = "2026-11-01T00:00:00Z" }
    error_message = "The schedule looks at images that are of no concern."
  }

  # The drift that is measured is that of what the schedule looks at.
  assert {
    condition     = one(aws_lambda_function.this["report-differences"].environment).variables.DRIFT_SINCE == "2026-11-01T00:00:00Z"
    error_message = "Drift is measured of other images than the schedule's."
  }
}

run "a_time_that_is_none" {
  command = plan

  variables {
    reconcile = { schedule = { pushed_since = "last week" } }
  }

  expect_failures = [var.reconcile]
}

run "a_weekly_schedule_and_an_alarm_over_days" {
  command = plan

  variables {
    reconcile = { schedule = { expression = "cron(0 3 ? * SUN *)" } }
  }

  expect_failures = [var.reconcile]
}

run "a_schedule_every_two_days_and_an_alarm_over_days" {
  command = plan

  variables {
    reconcile = { schedule = { expression = "rate(48 hours)" } }
  }

  expect_failures = [var.reconcile]
}

run "schedules_that_run_each_day" {
  command = plan

  variables {
    reconcile = { schedule = { expression = "cron(0 3 * * ? *)" } }
  }

  assert {
    condition     = aws_scheduler_schedule.reconcile[0].schedule_expression == "cron(0 3 * * ? *)"
    error_message = "The schedule is another than asked."
  }
}

run "more_children_than_may_wait_for_each_other" {
  command = plan

  variables {
    rules     = { all = { targets = [for number in range(13) : { region = "us-east-1", repository_prefix = "copy-${number}/" }] } }
    reconcile = { concurrency = 100 }
  }

  expect_failures = [aws_sfn_state_machine.reconcile]
}

run "a_schedule_is_not_for_everybody" {
  command = plan

  variables {
    reconcile = { schedule = { enabled = false } }
  }

  assert {
    condition     = length(aws_scheduler_schedule.reconcile) == 0 && output.reconcile_schedule_name == null
    error_message = "There is a schedule that nobody wants."
  }
}

run "the_bucket_is_private_encrypted_and_forgets" {
  command = plan

  variables {
    reconcile = { retention_days = 30 }
  }

  assert {
    condition = (
      aws_s3_bucket.runs.bucket == "ecr-replicator-123456789012-eu-central-1"
      && aws_s3_bucket_ownership_controls.runs.rule[0].object_ownership == "BucketOwnerEnforced"
      && aws_s3_bucket_public_access_block.runs.block_public_acls
      && aws_s3_bucket_public_access_block.runs.block_public_policy
      && aws_s3_bucket_public_access_block.runs.ignore_public_acls
      && aws_s3_bucket_public_access_block.runs.restrict_public_buckets
      && one(aws_s3_bucket_server_side_encryption_configuration.runs.rule).apply_server_side_encryption_by_default[0].sse_algorithm == "AES256"
    )
    error_message = "The bucket is another, is open to somebody, or is not encrypted."
  }

  assert {
    condition = jsondecode(aws_s3_bucket_policy.runs.policy).Statement == [{
      Sid       = "RefusePlainText"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = ["arn:aws:s3:::ecr-replicator-123456789012-eu-central-1", "arn:aws:s3:::ecr-replicator-123456789012-eu-central-1/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
    error_message = "The bucket takes what is not encrypted on its way, or lets somebody in."
  }

  assert {
    condition = (
      aws_s3_bucket_lifecycle_configuration.runs.rule[0].status == "Enabled"
      && aws_s3_bucket_lifecycle_configuration.runs.rule[0].filter[0].prefix == "runs/"
      && aws_s3_bucket_lifecycle_configuration.runs.rule[0].expiration[0].days == 30
      && aws_s3_bucket_lifecycle_configuration.runs.rule[1].status == "Enabled"
      && aws_s3_bucket_lifecycle_configuration.runs.rule[1].abort_incomplete_multipart_upload[0].days_after_initiation == 7
    )
    error_message = "Lists and reports stay for another time than asked, or an upload that was broken off stays."
  }
}

run "the_state_machine_is_the_definition_with_what_the_user_asked_for" {
  command = plan

  variables {
    reconcile = { concurrency = 3 }
  }

  assert {
    condition = (
      aws_sfn_state_machine.reconcile.name == "ecr-replicator-reconcile-registry"
      && aws_sfn_state_machine.reconcile.type == "STANDARD"
      && aws_sfn_state_machine.reconcile.tracing_configuration[0].enabled
      && aws_sfn_state_machine.reconcile.logging_configuration[0].level == "ERROR"
      && aws_cloudwatch_log_group.reconcile.name == "/aws/vendedlogs/states/ecr-replicator-reconcile-registry"
    )
    error_message = "The state machine is not a standard one that logs below /aws/vendedlogs, and traces."
  }

  assert {
    condition = {
      for state in ["FindDifferences", "ReportDifferences"] :
      state => jsondecode(aws_sfn_state_machine.reconcile.definition).States[state].Arguments.FunctionName
      } == {
      FindDifferences   = "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-find-differences:live"
      ReportDifferences = "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-report-differences:live"
    }
    error_message = "A state runs another function."
  }

  # Both state machines go by the same rules.
  assert {
    condition = (
      jsondecode(aws_sfn_state_machine.reconcile.definition).States.FindDifferences.Arguments.Payload.rules
      == jsondecode(aws_sfn_state_machine.this.definition).States.ResolveImage.Arguments.Payload.rules
    )
    error_message = "What is looked for is not what pushes are replicated by."
  }

  # A third of ten, and not more, however many run.
  assert {
    condition = (
      jsondecode(aws_sfn_state_machine.reconcile.definition).States.ReplicateImages.ItemProcessor.States.ReplicateImage.Arguments.Input.putsPerSecond == 3.333
      && jsondecode(aws_sfn_state_machine.reconcile.definition).States.ReplicateImages.ItemProcessor.States.ReplicateImage.Arguments.StateMachineArn
      == "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image"
      && jsondecode(aws_sfn_state_machine.reconcile.definition).States.ReplicateImages.MaxConcurrency == 3
    )
    error_message = "All children together put more than ten manifests a second, or are others, or more than asked."
  }
}

run "the_state_machine_may_run_its_map_and_replicate_and_nothing_else" {
  command = plan

  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.reconcile.policy).Statement : statement.Sid => [statement.Action, statement.Resource]
      if !contains(["DeliverLogs", "Trace"], statement.Sid)
      } == {
      InvokeFunctions = [["lambda:InvokeFunction"], [
        "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-find-differences:live",
        "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-report-differences:live",
      ]]
      StartReplications  = [["states:StartExecution"], ["arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image"]]
      FollowReplications = [["states:DescribeExecution", "states:StopExecution"], ["arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-replicate-image:*"]]
      HearOfReplications = [
        ["events:DescribeRule", "events:PutRule", "events:PutTargets"],
        ["arn:aws:events:eu-central-1:123456789012:rule/StepFunctionsGetEventsForStepFunctionsExecutionRule"],
      ]
      StartChildren = [["states:StartExecution"], ["arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-reconcile-registry"]]
      FollowChildren = [["states:DescribeExecution", "states:StopExecution"], [
        "arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-reconcile-registry:*",
        "arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-reconcile-registry/*:*",
      ]]
      RedriveChildren = [["states:RedriveExecution"], ["arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-reconcile-registry/*:*"]]
      ReadLists       = [["s3:ListBucket"], ["arn:aws:s3:::ecr-replicator-123456789012-eu-central-1"]]
      KeepResults = [
        ["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"],
        ["arn:aws:s3:::ecr-replicator-123456789012-eu-central-1/runs/*"],
      ]
    }
    error_message = "The state machine may do something else than run its functions and its Map."
  }

  assert {
    condition = jsondecode(aws_iam_role.reconcile.assume_role_policy).Statement[0].Condition == {
      # And its Map's children.
      ArnLike = { "aws:SourceArn" = [
        "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-reconcile-registry",
        "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-reconcile-registry/*",
      ] }
      StringEquals = { "aws:SourceAccount" = "123456789012" }
    }
    error_message = "The state machine's role may be assumed for something else than this state machine."
  }
}

run "the_schedule_may_start_a_run_and_keep_what_did_not_start" {
  command = plan

  assert {
    condition = jsondecode(aws_iam_role_policy.schedule.policy).Statement == [
      {
        Sid      = "StartReconcile"
        Effect   = "Allow"
        Action   = ["states:StartExecution"]
        Resource = ["arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-reconcile-registry"]
      },
      {
        Sid      = "KeepWhatDidNotStart"
        Effect   = "Allow"
        Action   = ["sqs:SendMessage"]
        Resource = ["arn:aws:sqs:eu-central-1:123456789012:ecr-replicator-reconcile-dead-letters"]
      },
    ]
    error_message = "The schedule may do something else than start a run."
  }

  assert {
    condition = jsondecode(aws_iam_role.schedule.assume_role_policy).Statement == [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      Condition = {
        ArnEquals    = { "aws:SourceArn" = "arn:aws:scheduler:eu-central-1:123456789012:schedule-group/default" }
        StringEquals = { "aws:SourceAccount" = "123456789012" }
      }
    }]
    error_message = "The schedule's role may be assumed for somebody else's schedules."
  }
}

run "differences_are_read_where_the_rules_are_and_written_nowhere" {
  command = plan

  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.function["find-differences"].policy).Statement : statement.Sid => [statement.Action, statement.Resource]
      if !contains(["WriteLogs", "Trace"], statement.Sid)
      } == {
      ListSource = [["ecr:DescribeRepositories"], ["arn:aws:ecr:eu-central-1:123456789012:repository/*"]]
      ReadSource = [
        ["ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetLifecyclePolicy", "ecr:GetRepositoryPolicy", "ecr:ListTagsForResource"],
        ["arn:aws:ecr:eu-central-1:123456789012:repository/prod/*", "arn:aws:ecr:eu-central-1:123456789012:repository/base"],
      ]
      ReadTarget = [
        ["ecr:BatchCheckLayerAvailability", "ecr:DescribeImages"],
        ["arn:aws:ecr:eu-west-1:123456789012:repository/mirror/base", "arn:aws:ecr:us-east-1:123456789012:repository/prod/*"],
      ]
      ReadSyncedTarget = [
        ["ecr:DescribeRepositories", "ecr:GetLifecyclePolicy", "ecr:GetRepositoryPolicy", "ecr:ListTagsForResource"],
        ["arn:aws:ecr:eu-west-1:123456789012:repository/mirror/base"],
      ]
      KeepRuns         = [["s3:DeleteObject", "s3:GetObject", "s3:PutObject"], ["arn:aws:s3:::ecr-replicator-123456789012-eu-central-1/runs/*"]]
      ListRuns         = [["s3:ListBucket"], ["arn:aws:s3:::ecr-replicator-123456789012-eu-central-1"]]
      ReadReplications = [["states:DescribeExecution"], ["arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-replicate-image:*"]]
      FindExecutions = [["states:ListExecutions"], [
        "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-reconcile-registry",
        "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image",
      ]]
    }
    error_message = "find-differences may do something else than read the rules' repositories and keep its lists."
  }

  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.function["report-differences"].policy).Statement : statement.Sid => statement.Resource
      if !contains(["WriteLogs", "Trace"], statement.Sid)
      } == {
      KeepReports        = ["arn:aws:s3:::ecr-replicator-123456789012-eu-central-1/runs/*"]
      ListRuns           = ["arn:aws:s3:::ecr-replicator-123456789012-eu-central-1"]
      CountRedrives      = ["arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-reconcile-registry:*"]
      FindFailedChildren = ["arn:aws:states:eu-central-1:123456789012:mapRun:ecr-replicator-reconcile-registry/*:*"]
      ReadFailedChildren = ["arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-reconcile-registry/*:*"]
      PublishReport      = ["arn:aws:events:eu-central-1:123456789012:event-bus/default"]
    }
    error_message = "report-differences may do something else than tell of this state machine's runs."
  }
}

run "drift_is_an_alarm_when_it_stays" {
  command = plan

  variables {
    name      = "mirror"
    reconcile = { drift_alarm_days = 3 }
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.this["drift"].namespace == "EcrReplicator"
      && aws_cloudwatch_metric_alarm.this["drift"].metric_name == "Drift"
      && aws_cloudwatch_metric_alarm.this["drift"].dimensions == tomap({ Deployment = "mirror" })
      && aws_cloudwatch_metric_alarm.this["drift"].statistic == "Minimum"
      && aws_cloudwatch_metric_alarm.this["drift"].comparison_operator == "GreaterThanThreshold"
      && aws_cloudwatch_metric_alarm.this["drift"].threshold == 0
      && aws_cloudwatch_metric_alarm.this["drift"].period == 86400
      && aws_cloudwatch_metric_alarm.this["drift"].evaluation_periods == 3
      && aws_cloudwatch_metric_alarm.this["drift"].treat_missing_data == "ignore"
    )
    error_message = "The alarm on drift is not on three days in a row on which something differed."
  }

  assert {
    condition = (
      strcontains(aws_cloudwatch_metric_alarm.this["drift"].alarm_description, " for 3 days: ")
      && strcontains(aws_cloudwatch_metric_alarm.this["drift"].alarm_description, "`make reconcile MODE=repair NAME=mirror`")
    )
    error_message = "The alarm does not say for how long, or what to do."
  }

  assert {
    condition     = one(aws_lambda_function.this["report-differences"].environment).variables.DEPLOYMENT == aws_cloudwatch_metric_alarm.this["drift"].dimensions.Deployment
    error_message = "The alarm is on another deployment than the one that is measured."
  }
}

run "a_run_that_did_not_succeed_or_begin_is_an_alarm" {
  command = plan

  variables {
    alarm_actions = ["arn:aws:sns:eu-central-1:123456789012:alarms"]
  }

  assert {
    condition = {
      for query in aws_cloudwatch_metric_alarm.reconcile_failed.metric_query : query.id => flatten([
        for metric in query.metric : [metric.namespace, metric.metric_name, values(metric.dimensions), metric.stat, tostring(metric.period)]
      ]) if query.expression == null || query.expression == ""
      } == {
      aborted   = ["AWS/States", "ExecutionsAborted", "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-reconcile-registry", "Sum", "300"]
      failed    = ["AWS/States", "ExecutionsFailed", "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-reconcile-registry", "Sum", "300"]
      timed_out = ["AWS/States", "ExecutionsTimedOut", "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-reconcile-registry", "Sum", "300"]
      waiting   = ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "ecr-replicator-reconcile-dead-letters", "Maximum", "300"]
    }
    error_message = "The alarm does not look at whatever keeps a run from its end."
  }

  assert {
    condition = (
      one([for query in aws_cloudwatch_metric_alarm.reconcile_failed.metric_query : query.expression if query.return_data == true]) == "SUM(METRICS())"
      && aws_cloudwatch_metric_alarm.reconcile_failed.evaluation_periods == 1
      && aws_cloudwatch_metric_alarm.reconcile_failed.threshold == 0
      && aws_cloudwatch_metric_alarm.reconcile_failed.comparison_operator == "GreaterThanThreshold"
      && aws_cloudwatch_metric_alarm.reconcile_failed.treat_missing_data == "notBreaching"
      && aws_cloudwatch_metric_alarm.reconcile_failed.alarm_actions == toset(["arn:aws:sns:eu-central-1:123456789012:alarms"])
      && aws_cloudwatch_metric_alarm.reconcile_failed.ok_actions == toset(["arn:aws:sns:eu-central-1:123456789012:alarms"])
    )
    error_message = "The alarm does not go off at the first run that did not succeed, or tells nobody."
  }
}
