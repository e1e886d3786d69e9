locals {
  event_pattern = jsonencode({
    # AWS reserves aws.*, so an event that is replayed by hand (ECR sends its own on a best-effort basis) has our source.
    source      = ["aws.ecr", "ecr-replicator.replay"]
    detail-type = ["ECR Image Action"]
    detail = {
      action-type = ["PUSH"]
      result      = ["SUCCESS"]
      repository-name = concat(
        [for name in var.repositories : name if !strcontains(name, "*")],
        [for name in var.repositories : { wildcard = name } if strcontains(name, "*")],
      )
    }
  })

  # The whole event travels: in a template a missing image-tag cannot be told from an empty one. The placeholder stands outside
  # jsonencode, which would escape its angle brackets.
  input_template = format(
    "{\"event\": <aws.events.event.json>, \"rule\": %s, \"untagged\": %s, \"targets\": %s}",
    jsonencode(local.rule_name),
    jsonencode(var.untagged_images),
    jsonencode([for region in sort(var.target_regions) : { region = region }]),
  )

  dead_letter_queue_name = "${local.rule_name}-dead-letters"
  dead_letter_queue_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "UndeliveredEvents"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = "arn:${local.partition}:sqs:${local.source_region}:${local.account_id}:${local.dead_letter_queue_name}"
      Condition = { ArnEquals = { "aws:SourceArn" = local.rule_arn } }
    }]
  })
}

resource "aws_cloudwatch_event_rule" "image_pushed" {
  name          = local.rule_name
  description   = "An image was pushed to a replicated repository in ${local.source_region}"
  event_pattern = local.event_pattern

  tags = var.tags

  lifecycle {
    # The target's, but checked here: the target waits for policies, and would hide this behind their errors.
    precondition {
      condition     = length(local.input_template) <= 8192
      error_message = "The input template has ${length(local.input_template)} characters, and EventBridge takes 8192: name fewer target regions."
    }
  }
}

resource "aws_cloudwatch_event_target" "state_machine" {
  rule      = aws_cloudwatch_event_rule.image_pushed.name
  target_id = "replicate-image"
  arn       = aws_sfn_state_machine.this.arn
  role_arn  = aws_iam_role.event_rule.arn

  input_transformer {
    input_template = local.input_template
  }

  # EventBridge's longest: a start that Step Functions throttles is retried for a day before it becomes a dead letter.
  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }

  # An event that comes before the role may start an execution becomes a dead letter.
  depends_on = [aws_iam_role_policy.event_rule]
}

resource "aws_sqs_queue" "dead_letters" {
  name                      = local.dead_letter_queue_name
  message_retention_seconds = 14 * 24 * 60 * 60
  sqs_managed_sse_enabled   = true
  policy                    = local.dead_letter_queue_policy

  tags = var.tags
}
