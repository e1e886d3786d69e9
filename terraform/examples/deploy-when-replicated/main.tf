# Starts a deployment when an image is at every target of a replication rule, and not before.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100"
    }
  }
}

variable "name" {
  description = "Name of the EventBridge rule."
  type        = string
  default     = "deploy-when-replicated"
}

variable "replication_rule" {
  description = "The replication rule whose targets must all have the image. An execution that somebody starts with targets of his own, which may be fewer, has none."
  type        = string
}

variable "repository" {
  description = "The source repository, or a pattern in which * stands for any characters."
  type        = string
}

variable "tag" {
  description = "The tag, or a pattern in which * stands for any characters."
  type        = string
  default     = "*"
}

variable "deployment_arn" {
  description = "ARN of what is started. It is given the report: docs/report.schema.json."
  type        = string
}

variable "deployment_role_arn" {
  description = "ARN of a role of EventBridge's that may start it, which CodePipeline, CodeBuild, Step Functions and Systems Manager need. A queue, a topic or a function allows events.amazonaws.com in its own policy, for the ARN that is the output."
  type        = string
  default     = null
}

# No more than this is needed: one event, when the last target has the image. A pattern takes any target that is as it says, so
# that no pattern over the targets could say "all of them": `Complete` does.
resource "aws_cloudwatch_event_rule" "replicated" {
  name        = var.name
  description = "${var.repository}:${var.tag} is at every target of ${var.replication_rule}"
  event_pattern = jsonencode({
    source      = ["ecr-replicator"]
    detail-type = ["Image Replication Complete"]
    detail = {
      rule = [var.replication_rule]
      image = {
        repository = [{ wildcard = var.repository }]
        tag        = [{ wildcard = var.tag }]
      }
    }
  })
}

resource "aws_cloudwatch_event_target" "deployment" {
  rule      = aws_cloudwatch_event_rule.replicated.name
  target_id = "deployment"
  arn       = var.deployment_arn
  role_arn  = var.deployment_role_arn

  # The report, and not the event around it.
  input_path = "$.detail"
}

output "event_rule_arn" {
  description = "ARN of the EventBridge rule."
  value       = aws_cloudwatch_event_rule.replicated.arn
}
