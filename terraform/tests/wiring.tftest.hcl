# What a plan does not know yet: that each resource refers to the right other one.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  rules = {
    all    = { targets = [{ region = "us-east-1" }] }
    images = { tags = { include = ["v*"] }, targets = [{ region = "us-east-1" }] }
  }
  package_dir   = "./tests/packages"
  notifications = { topic_arn = "arn:aws:sns:eu-central-1:123456789012:replications" }
}

# The mock makes values up that are no ARNs, and the provider refuses those.

override_resource {
  target = aws_iam_role.function["copy-layers"]
  values = { arn = "arn:aws:iam::123456789012:role/copy-layers" }
}

override_resource {
  target = aws_iam_role.function["ensure-repo"]
  values = { arn = "arn:aws:iam::123456789012:role/ensure-repo" }
}

override_resource {
  target = aws_iam_role.function["find-differences"]
  values = { arn = "arn:aws:iam::123456789012:role/find-differences" }
}

override_resource {
  target = aws_iam_role.function["report-differences"]
  values = { arn = "arn:aws:iam::123456789012:role/report-differences" }
}

override_resource {
  target = aws_iam_role.function["put-manifest"]
  values = { arn = "arn:aws:iam::123456789012:role/put-manifest" }
}

override_resource {
  target = aws_iam_role.function["report"]
  values = { arn = "arn:aws:iam::123456789012:role/report" }
}

override_resource {
  target = aws_iam_role.function["resolve-image"]
  values = { arn = "arn:aws:iam::123456789012:role/resolve-image" }
}

override_resource {
  target = aws_cloudwatch_event_rule.image_pushed["all"]
  values = { arn = "arn:aws:events:eu-central-1:123456789012:rule/all" }
}

override_resource {
  target = aws_cloudwatch_event_rule.image_pushed["images"]
  values = { arn = "arn:aws:events:eu-central-1:123456789012:rule/images" }
}

override_resource {
  target = aws_cloudwatch_log_group.state_machine
  values = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:replicate-image" }
}

override_resource {
  target = aws_cloudwatch_log_group.reconcile
  values = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:reconcile-registry" }
}

override_resource {
  target = aws_iam_role.reconcile
  values = { arn = "arn:aws:iam::123456789012:role/reconcile-registry" }
}

override_resource {
  target = aws_iam_role.schedule
  values = { arn = "arn:aws:iam::123456789012:role/reconcile" }
}

override_resource {
  target = aws_sfn_state_machine.reconcile
  values = { arn = "arn:aws:states:eu-central-1:123456789012:stateMachine:reconcile-registry" }
}

override_resource {
  target = aws_sqs_queue.reconcile_dead_letters
  values = { arn = "arn:aws:sqs:eu-central-1:123456789012:reconcile-dead-letters" }
}

override_resource {
  target = aws_iam_role.event_rule
  values = { arn = "arn:aws:iam::123456789012:role/image-pushed" }
}

override_resource {
  target = aws_iam_role.state_machine
  values = { arn = "arn:aws:iam::123456789012:role/replicate-image" }
}

override_resource {
  target = aws_sfn_state_machine.this
  values = { arn = "arn:aws:states:eu-central-1:123456789012:stateMachine:replicate-image" }
}

override_resource {
  target = aws_sqs_queue.dead_letters
  values = { arn = "arn:aws:sqs:eu-central-1:123456789012:dead-letters" }
}

run "each_resource_refers_to_its_own" {
  command = apply

  assert {
    condition     = { for step, function in aws_lambda_function.this : step => function.role } == { for step, role in aws_iam_role.function : step => role.arn }
    error_message = "A function has another function's role."
  }

  assert {
    condition     = { for step, policy in aws_iam_role_policy.function : step => policy.role } == { for step, role in aws_iam_role.function : step => role.name }
    error_message = "A policy is attached to another function's role."
  }

  assert {
    condition     = { for step, alias in aws_lambda_alias.live : step => alias.function_version } == { for step, function in aws_lambda_function.this : step => function.version }
    error_message = "An alias does not point to the published version."
  }

  assert {
    condition = (
      aws_sfn_state_machine.this.role_arn == aws_iam_role.state_machine.arn
      && aws_iam_role_policy.state_machine.role == aws_iam_role.state_machine.name
      && aws_sfn_state_machine.this.logging_configuration[0].log_destination == "${aws_cloudwatch_log_group.state_machine.arn}:*"
    )
    error_message = "The state machine has another role, or logs to another group; Step Functions wants the group's ARN to end in \":*\"."
  }

  assert {
    condition = (
      aws_sfn_state_machine.reconcile.role_arn == aws_iam_role.reconcile.arn
      && aws_iam_role_policy.reconcile.role == aws_iam_role.reconcile.name
      && aws_sfn_state_machine.reconcile.logging_configuration[0].log_destination == "${aws_cloudwatch_log_group.reconcile.arn}:*"
    )
    error_message = "The state machine that reconciles has another role, or logs to another group."
  }

  assert {
    condition = (
      aws_scheduler_schedule.reconcile[0].target[0].arn == aws_sfn_state_machine.reconcile.arn
      && aws_scheduler_schedule.reconcile[0].target[0].role_arn == aws_iam_role.schedule.arn
      && aws_scheduler_schedule.reconcile[0].target[0].dead_letter_config[0].arn == aws_sqs_queue.reconcile_dead_letters.arn
      && aws_iam_role_policy.schedule.role == aws_iam_role.schedule.name
    )
    error_message = "The schedule does not start the state machine that reconciles, by its own role, with its own dead-letter queue."
  }

  assert {
    condition = alltrue([
      for bucket in [
        aws_s3_bucket_lifecycle_configuration.runs.bucket,
        aws_s3_bucket_ownership_controls.runs.bucket,
        aws_s3_bucket_policy.runs.bucket,
        aws_s3_bucket_public_access_block.runs.bucket,
        aws_s3_bucket_server_side_encryption_configuration.runs.bucket,
        output.reconcile_bucket,
      ] : bucket == aws_s3_bucket.runs.bucket
    ])
    error_message = "What keeps the bucket is of another one."
  }

  assert {
    condition = (
      output.reconcile_state_machine_arn == aws_sfn_state_machine.reconcile.arn
      && output.reconcile_schedule_name == aws_scheduler_schedule.reconcile[0].name
      && output.reconcile_dead_letter_queue_url == aws_sqs_queue.reconcile_dead_letters.url
    )
    error_message = "An output of what reconciles names another resource."
  }

  assert {
    condition = aws_iam_role_policy.event_rule.role == aws_iam_role.event_rule.name && alltrue([
      for name, target in aws_cloudwatch_event_target.state_machine :
      target.rule == aws_cloudwatch_event_rule.image_pushed[name].name
      && target.arn == aws_sfn_state_machine.this.arn
      && target.role_arn == aws_iam_role.event_rule.arn
      && target.dead_letter_config[0].arn == aws_sqs_queue.dead_letters.arn
    ])
    error_message = "A rule's target is not the state machine, by the rules' role, with the dead-letter queue."
  }

  assert {
    condition     = keys(aws_cloudwatch_event_target.state_machine) == ["all", "images"]
    error_message = "A rule has no target."
  }

  assert {
    condition = (
      output.state_machine_arn == aws_sfn_state_machine.this.arn
      && output.event_rule_arns == { for name, rule in aws_cloudwatch_event_rule.image_pushed : name => rule.arn }
      && output.event_rule_names == { for name, rule in aws_cloudwatch_event_rule.image_pushed : name => rule.name }
      && output.dead_letter_queue_arn == aws_sqs_queue.dead_letters.arn
      && output.dead_letter_queue_url == aws_sqs_queue.dead_letters.url
      && output.notification_rule_arns == { for name, rule in aws_cloudwatch_event_rule.notification : name => rule.arn }
    )
    error_message = "An output names another resource."
  }

  # Roles, ARNs and versions that were all the same would prove nothing.
  assert {
    condition = length(distinct(concat(
      values(aws_cloudwatch_event_rule.image_pushed)[*].arn,
      values(aws_iam_role.function)[*].arn,
      values(aws_lambda_function.this)[*].version,
      [
        aws_cloudwatch_log_group.reconcile.arn,
        aws_cloudwatch_log_group.state_machine.arn,
        aws_iam_role.event_rule.arn,
        aws_iam_role.reconcile.arn,
        aws_iam_role.schedule.arn,
        aws_iam_role.state_machine.arn,
        aws_sfn_state_machine.reconcile.arn,
        aws_sfn_state_machine.this.arn,
        aws_sqs_queue.dead_letters.arn,
        aws_sqs_queue.reconcile_dead_letters.arn,
      ],
    ))) == 26
    error_message = "The mocked values are not distinct."
  }
}
