# The module that users apply, applied to the local stack: nothing in the module knows the difference.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region     = var.region
  access_key = "test"
  secret_key = "test"

  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  s3_use_path_style           = true

  endpoints {
    cloudwatch = var.endpoint
    events     = var.endpoint
    iam        = var.endpoint
    lambda     = var.endpoint
    logs       = coalesce(var.logs_endpoint, var.endpoint)
    s3         = var.endpoint
    scheduler  = var.endpoint
    sfn        = var.endpoint
    sns        = var.endpoint
    sqs        = var.endpoint
    sts        = var.endpoint
  }
}

module "ecr_replicator" {
  source = "../../terraform"

  name                = var.name
  rules               = var.rules
  package_dir         = var.package_dir
  architecture        = var.architecture
  copy_layers         = var.copy_layers
  reconcile           = var.reconcile
  execution_log_level = "ALL"
  log_retention_days  = 1

  lag_objective_seconds = 3600
  notifications         = var.notify_on == null ? null : { topic_arn = one(aws_sns_topic.notifications[*].arn), on = var.notify_on }
}

# Whoever waits for a replication reads its report here, as a deployment pipeline would.

resource "aws_cloudwatch_event_rule" "reports" {
  name          = "${var.name}-reports"
  description   = "A replication was reported"
  event_pattern = jsonencode({ source = ["ecr-replicator"] })
}

resource "aws_cloudwatch_event_target" "reports" {
  rule = aws_cloudwatch_event_rule.reports.name
  arn  = aws_sqs_queue.reports.arn
}

resource "aws_sqs_queue" "reports" {
  name = "${var.name}-reports"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = "*"
      Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.reports.arn } }
    }]
  })
}

# A deployment that waits, and somebody who is told: queues, so that a test can read what came.

module "deploy_when_replicated" {
  source = "../../terraform/examples/deploy-when-replicated"
  count  = var.notify_on == null ? 0 : 1

  name             = "${var.name}-deployment"
  replication_rule = "all"
  repository       = "prod/*"
  tag              = "v*"
  deployment_arn   = one(aws_sqs_queue.deployments[*].arn)
}

resource "aws_sqs_queue" "deployments" {
  count = var.notify_on == null ? 0 : 1

  name = "${var.name}-deployments"
}

resource "aws_sqs_queue_policy" "deployments" {
  count = var.notify_on == null ? 0 : 1

  queue_url = aws_sqs_queue.deployments[0].url
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = "*"
      Condition = { ArnEquals = { "aws:SourceArn" = module.deploy_when_replicated[0].event_rule_arn } }
    }]
  })
}

resource "aws_sns_topic" "notifications" {
  count = var.notify_on == null ? 0 : 1

  name = "${var.name}-notifications"
}

# As terraform/README.md has it.
resource "aws_sns_topic_policy" "notifications" {
  count = var.notify_on == null ? 0 : 1

  arn = aws_sns_topic.notifications[0].arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.notifications[0].arn
      Condition = { ArnEquals = { "aws:SourceArn" = values(module.ecr_replicator.notification_rule_arns) } }
    }]
  })
}

resource "aws_sns_topic_subscription" "notifications" {
  count = var.notify_on == null ? 0 : 1

  topic_arn = aws_sns_topic.notifications[0].arn
  protocol  = "sqs"
  endpoint  = one(aws_sqs_queue.notifications[*].arn)
}

resource "aws_sqs_queue" "notifications" {
  count = var.notify_on == null ? 0 : 1

  name = "${var.name}-notifications"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "sns.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = "*"
      Condition = { ArnEquals = { "aws:SourceArn" = aws_sns_topic.notifications[0].arn } }
    }]
  })
}
