# One source region, three targets: every image pushed to prod/* in Frankfurt is replicated to Ireland, Virginia and Tokyo.

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
  region = "eu-central-1"

  default_tags {
    tags = { application = "ecr-replicator" }
  }
}

resource "aws_sns_topic" "alarms" {
  name = "ecr-replicator-alarms"
}

module "ecr_replicator" {
  source = "../.."

  rules = {
    production = {
      repositories = { include = ["prod/*"] }
      targets      = [{ region = "eu-west-1" }, { region = "us-east-1" }, { region = "ap-northeast-1" }]
    }
  }
  alarm_actions = [aws_sns_topic.alarms.arn]
}

output "state_machine_console_url" {
  description = "Where to inspect and redrive the replications."
  value       = module.ecr_replicator.state_machine_console_url
}

output "dead_letter_queue_url" {
  description = "Where a push event ends up that could not start a replication."
  value       = module.ecr_replicator.dead_letter_queue_url
}
