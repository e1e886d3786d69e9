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

  endpoints {
    cloudwatch = var.endpoint
    events     = var.endpoint
    iam        = var.endpoint
    lambda     = var.endpoint
    logs       = var.endpoint
    sfn        = var.endpoint
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
  execution_log_level = "ALL"
  log_retention_days  = 1
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
