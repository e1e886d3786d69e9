locals {
  event_patterns = {
    for name, rule in module.rules.rules : name => jsonencode({
      # AWS reserves aws.*, so an event that is replayed by hand (ECR sends its own on a best-effort basis) has our source.
      source      = ["aws.ecr", "ecr-replicator.replay"]
      detail-type = ["ECR Image Action"]
      detail      = rule.event_detail
    })
  }

  # The whole event travels: in a template a missing image-tag cannot be told from an empty one. The placeholder stands outside
  # jsonencode, which would escape its angle brackets. The rule itself is in the state machine's definition: a template takes 8192
  # characters, an execution that is started by hand has the same rules, and one that is redriven keeps those that it began with.
  input_templates = {
    for name in keys(module.rules.rules) : name => "{\"event\": <aws.events.event.json>, \"rule\": ${jsonencode(name)}}"
  }

  dead_letter_queue_name = "${var.name}-image-pushed-dead-letters"
  dead_letter_queue_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "UndeliveredEvents"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = "arn:${local.partition}:sqs:${local.source_region}:${local.account_id}:${local.dead_letter_queue_name}"
      Condition = { ArnLike = { "aws:SourceArn" = local.rule_arn_pattern } }
    }]
  })
}

resource "aws_cloudwatch_event_rule" "image_pushed" {
  for_each = local.event_patterns

  name          = local.rule_names[each.key]
  description   = "An image of the replication rule ${each.key} was pushed in ${local.source_region}"
  event_pattern = each.value

  tags = var.tags

  lifecycle {
    precondition {
      condition     = length(each.value) <= var.event_pattern_limit
      error_message = "The event pattern of rule ${each.key} has ${length(each.value)} characters, and EventBridge takes ${var.event_pattern_limit}: join repositories or tags in patterns, make two rules of it, or raise the quota \"Event pattern size\" (to at most 4096) and event_pattern_limit with it."
    }
  }
}

resource "aws_cloudwatch_event_target" "state_machine" {
  for_each = local.input_templates

  rule      = aws_cloudwatch_event_rule.image_pushed[each.key].name
  target_id = "replicate-image"
  arn       = aws_sfn_state_machine.this.arn
  role_arn  = aws_iam_role.event_rule.arn

  input_transformer {
    input_template = each.value
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
  sqs_managed_sse_enabled   = var.kms_key_arn == null ? true : null
  kms_master_key_id         = var.kms_key_arn
  policy                    = local.dead_letter_queue_policy

  tags = var.tags
}
