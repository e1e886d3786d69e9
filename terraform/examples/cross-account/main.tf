# Two accounts: every image pushed to prod/* in the source account is replicated to the target account, whose role says what may be
# written there.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

variable "external_id" {
  description = "What the source account says when it assumes the target account's role; no secret, but known to these two only."
  type        = string
  nullable    = false
}

variable "source_profile" {
  description = "AWS CLI profile of the source account."
  type        = string
  nullable    = false
}

variable "target_profile" {
  description = "AWS CLI profile of the target account."
  type        = string
  nullable    = false
}

provider "aws" {
  profile = var.source_profile
  region  = "eu-central-1"
}

provider "aws" {
  alias   = "target"
  profile = var.target_profile
  region  = "eu-west-1"
}

data "aws_caller_identity" "source" {}

data "aws_caller_identity" "target" {
  provider = aws.target
}

module "target_account" {
  source    = "../../modules/target-account"
  providers = { aws = aws.target }

  source_account_id = data.aws_caller_identity.source.account_id
  source_region     = "eu-central-1"
  external_id       = var.external_id
  repositories      = ["mirror/prod/*"]
  regions           = ["eu-west-1"]
}

module "ecr_replicator" {
  source = "../.."

  rules = {
    production = {
      repositories = { include = ["prod/*"] }
      targets = [{
        region            = "eu-west-1"
        repository_prefix = "mirror/"
        registry_id       = data.aws_caller_identity.target.account_id
        role_arn          = module.target_account.role_arn
        external_id       = var.external_id
      }]
    }
  }
}

output "state_machine_console_url" {
  description = "Where to inspect and redrive the replications."
  value       = module.ecr_replicator.state_machine_console_url
}
