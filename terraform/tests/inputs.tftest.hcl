# What a plan refuses, beside rules: those are in rules.tftest.hcl.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  rules       = { all = { targets = [{ region = "us-east-1" }] } }
  package_dir = "./tests/packages"
}

run "a_name_too_long_for_a_role" {
  command = plan

  variables {
    name = "a23456789012345678901234567890123"
  }

  expect_failures = [var.name]
}

run "a_name_with_an_underscore" {
  command = plan

  variables {
    name = "ecr_replicator"
  }

  expect_failures = [var.name]
}

run "an_unknown_architecture" {
  command = plan

  variables {
    architecture = "aarch64"
  }

  expect_failures = [var.architecture]
}

run "a_retention_that_cloudwatch_does_not_offer" {
  command = plan

  variables {
    log_retention_days = 42
  }

  expect_failures = [var.log_retention_days]
}

run "an_unknown_log_level" {
  command = plan

  variables {
    execution_log_level = "INFO"
  }

  expect_failures = [var.execution_log_level]
}

run "an_alarm_action_that_is_no_arn" {
  command = plan

  variables {
    alarm_actions = ["somebody@example.com"]
  }

  expect_failures = [var.alarm_actions]
}

run "a_copy_with_too_little_memory" {
  command = plan

  variables {
    copy_layers = { memory_mb = 255 }
  }

  expect_failures = [var.copy_layers]
}

run "a_copy_with_more_memory_than_lambda_has" {
  command = plan

  variables {
    copy_layers = { memory_mb = 10241 }
  }

  expect_failures = [var.copy_layers]
}

run "a_copy_with_a_fraction_of_a_megabyte" {
  command = plan

  variables {
    copy_layers = { memory_mb = 512.5 }
  }

  expect_failures = [var.copy_layers]
}

run "a_copy_that_ends_before_it_begins" {
  command = plan

  variables {
    copy_layers = { timeout_seconds = 9 }
  }

  expect_failures = [var.copy_layers]
}

run "a_copy_that_takes_longer_than_lambda_lets_it" {
  command = plan

  variables {
    copy_layers = { timeout_seconds = 901 }
  }

  expect_failures = [var.copy_layers]
}

run "a_copy_with_a_fraction_of_a_second" {
  command = plan

  variables {
    copy_layers = { timeout_seconds = 10.5 }
  }

  expect_failures = [var.copy_layers]
}

run "an_unknown_way_to_upload" {
  command = plan

  variables {
    copy_layers = { uploads = "stream" }
  }

  expect_failures = [var.copy_layers]
}

run "no_function_to_copy_an_image" {
  command = plan

  variables {
    copy_layers = { max_shards = 0 }
  }

  expect_failures = [var.copy_layers]
}

run "more_functions_for_one_image_than_a_map_runs" {
  command = plan

  variables {
    copy_layers = { max_shards = 17 }
  }

  expect_failures = [var.copy_layers]
}

run "a_fraction_of_a_function" {
  command = plan

  variables {
    copy_layers = { max_shards = 1.5 }
  }

  expect_failures = [var.copy_layers]
}

run "nobody_to_repair" {
  command = plan

  variables {
    reconcile = { concurrency = 0 }
  }

  expect_failures = [var.reconcile]
}

run "more_repairs_at_once_than_puts_go_around" {
  command = plan

  variables {
    reconcile = { concurrency = 101 }
  }

  expect_failures = [var.reconcile]
}

run "a_fraction_of_a_repair" {
  command = plan

  variables {
    reconcile = { concurrency = 2.5 }
  }

  expect_failures = [var.reconcile]
}

run "a_schedule_with_an_unknown_mode" {
  command = plan

  variables {
    reconcile = { schedule = { mode = "fix" } }
  }

  expect_failures = [var.reconcile]
}

run "a_schedule_that_comes_once" {
  command = plan

  variables {
    reconcile = { schedule = { expression = "at(2026-11-20T13:00:00)" } }
  }

  expect_failures = [var.reconcile]
}

run "a_schedule_with_five_fields" {
  command = plan

  variables {
    reconcile = { schedule = { expression = "cron(0 3 * * *)" } }
  }

  expect_failures = [var.reconcile]
}

run "a_schedule_in_no_time_zone" {
  command = plan

  variables {
    reconcile = { schedule = { timezone = "" } }
  }

  expect_failures = [var.reconcile]
}

run "a_price_below_nothing" {
  command = plan

  variables {
    reconcile = { price_per_gb = -0.01 }
  }

  expect_failures = [var.reconcile]
}

run "drift_that_is_told_at_once" {
  command = plan

  variables {
    reconcile = { drift_alarm_days = 0 }
  }

  expect_failures = [var.reconcile]
}

run "drift_for_longer_than_cloudwatch_looks_back" {
  command = plan

  variables {
    reconcile = { drift_alarm_days = 8 }
  }

  expect_failures = [var.reconcile]
}

run "lists_that_are_gone_before_a_redrive" {
  command = plan

  variables {
    reconcile = { retention_days = 14 }
  }

  expect_failures = [var.reconcile]
}

run "a_package_that_is_not_there" {
  command = plan

  variables {
    package_dir = "./tests/mocks"
  }

  expect_failures = [aws_lambda_function.this]
}

run "more_than_an_event_pattern_holds" {
  command = plan

  variables {
    rules = {
      few  = { tags = { include = [for index in range(65) : "application-release-${index}"] }, targets = [{ region = "us-east-1" }] }
      many = { tags = { include = [for index in range(80) : "application-release-${index}"] }, targets = [{ region = "us-east-1" }] }
    }
  }

  expect_failures = [aws_cloudwatch_event_rule.image_pushed["many"]]
}

run "more_than_an_event_pattern_holds_where_the_quota_was_raised" {
  command = plan

  variables {
    event_pattern_limit = 4096
    rules = {
      few  = { repositories = { include = [for index in range(100) : "prod/application-${index}"] }, targets = [{ region = "us-east-1" }] }
      many = { repositories = { include = [for index in range(180) : "prod/application-${index}"] }, targets = [{ region = "us-east-1" }] }
    }
  }

  expect_failures = [
    aws_cloudwatch_event_rule.image_pushed["many"],
    # Each repository takes more room in these.
    aws_iam_role_policy.function["resolve-image"],
    aws_iam_role_policy.function["ensure-repo"],
    aws_iam_role_policy.function["copy-layers"],
    aws_iam_role_policy.function["find-differences"],
    aws_iam_role_policy.function["put-manifest"],
  ]
}

run "a_smaller_event_pattern_than_eventbridge_takes" {
  command = plan

  variables {
    event_pattern_limit = 2047
  }

  expect_failures = [var.event_pattern_limit]
}

run "a_larger_event_pattern_than_a_quota_can_be" {
  command = plan

  variables {
    event_pattern_limit = 4097
  }

  expect_failures = [var.event_pattern_limit]
}

run "a_fraction_of_a_character" {
  command = plan

  variables {
    event_pattern_limit = 2048.5
  }

  expect_failures = [var.event_pattern_limit]
}

# IAM takes 2048 characters for the policy by which their role is assumed, and a rule's ARN has more than 60.
run "as_many_rules_as_an_event_bus_has" {
  command = plan

  variables {
    rules = { for index in range(300) : "rule-${index}" => { targets = [{ region = "us-east-1" }] } }
  }

  assert {
    condition     = length(aws_iam_role.event_rule.assume_role_policy) <= 2048 && length(aws_sqs_queue.dead_letters.policy) <= 8192
    error_message = "The policies that name the rules grow with them."
  }
}
