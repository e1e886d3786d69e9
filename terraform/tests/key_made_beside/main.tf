# A configuration that makes a rule's key and role together with the module, so that a plan does not know their ARNs.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100"
    }
  }
}

variable "package_dir" {
  description = "As the module's."
  type        = string
}

resource "aws_kms_key" "this" {}

resource "aws_iam_role" "this" {
  name               = "target"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [] })
}

module "ecr_replicator" {
  source = "../.."

  package_dir = var.package_dir
  rules = {
    all = {
      targets = [
        { region = "us-east-1", kms_key_arn = aws_kms_key.this.arn },
        { region = "us-east-1", registry_id = "222222222222", role_arn = aws_iam_role.this.arn },
      ]
    }
  }
}

output "event_rule_names" {
  description = "As the module's."
  value       = module.ecr_replicator.event_rule_names
}
