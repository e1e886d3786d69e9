locals {
  state_machine_definition = templatefile("${path.module}/../statemachine/replicate-image.asl.json", {
    partition         = local.partition
    resolve_image_arn = local.alias_arns["resolve-image"]
    ensure_repo_arn   = local.alias_arns["ensure-repo"]
    copy_layers_arn   = local.alias_arns["copy-layers"]
    put_manifest_arn  = local.alias_arns["put-manifest"]
    report_arn        = local.alias_arns["report"]
    rules             = local.rule_definitions
  })

  reconcile_definition = templatefile("${path.module}/../statemachine/reconcile-registry.asl.json", {
    partition              = local.partition
    find_differences_arn   = local.alias_arns["find-differences"]
    report_differences_arn = local.alias_arns["report-differences"]
    replicate_image_arn    = local.state_machine_arn
    rules                  = local.rule_definitions
    concurrency            = jsonencode(var.reconcile.concurrency)
    puts_per_second        = jsonencode(local.puts_per_second)
  })

  rule_definitions = jsonencode({ for name, rule in module.rules.rules : name => rule.definition })
}

resource "aws_sfn_state_machine" "this" {
  name       = local.state_machine_name
  type       = "STANDARD"
  role_arn   = aws_iam_role.state_machine.arn
  definition = local.state_machine_definition

  logging_configuration {
    level                  = var.execution_log_level
    include_execution_data = true
    log_destination        = "${aws_cloudwatch_log_group.state_machine.arn}:*"
  }

  tracing_configuration {
    enabled = true
  }

  tags = var.tags

  # It is gone when the last of its executions is, which ends with the state that it is in: an invocation takes up to 15 minutes.
  timeouts {
    delete = "30m"
  }

  # Step Functions checks at creation that the role may deliver logs.
  depends_on = [aws_iam_role_policy.state_machine]
}

resource "aws_sfn_state_machine" "reconcile" {
  name       = local.reconcile_name
  type       = "STANDARD"
  role_arn   = aws_iam_role.reconcile.arn
  definition = local.reconcile_definition

  logging_configuration {
    level                  = var.execution_log_level
    include_execution_data = true
    log_destination        = "${aws_cloudwatch_log_group.reconcile.arn}:*"
  }

  tracing_configuration {
    enabled = true
  }

  tags = var.tags

  # As that of the other.
  timeouts {
    delete = "30m"
  }

  lifecycle {
    precondition {
      condition     = local.most_targets_together * var.reconcile.concurrency <= 1200
      error_message = "A rule has ${local.most_targets_together} targets in one registry of a region. With reconcile.concurrency = ${var.reconcile.concurrency} each put would wait longer than an invocation can: set it to ${floor(1200 / local.most_targets_together)} or less."
    }
  }

  depends_on = [aws_iam_role_policy.reconcile]
}
