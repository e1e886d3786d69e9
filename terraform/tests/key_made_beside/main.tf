# A configuration that makes a rule's key, which is the module's own, too, and role together with the module, so that a plan does not know their ARNs.

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

# Its policy is of the module, which takes its ARN.
resource "aws_kms_key" "this" {
  policy = jsonencode({ Version = "2012-10-17", Statement = module.ecr_replicator.kms_key_statements })
}

resource "aws_iam_role" "this" {
  name               = "target"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [] })
}

module "ecr_replicator" {
  source = "../.."

  package_dir = var.package_dir
  kms_key_arn = aws_kms_key.this.arn
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
