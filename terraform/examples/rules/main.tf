# Several rules that overlap: an image may be of more than one, and is then replicated by each.

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

module "ecr_replicator" {
  source = "../.."

  rules = {
    # What runs in production goes where it runs; what is built on the way there does not.
    releases = {
      repositories = { include = ["prod/*"], exclude = ["prod/scratch-*"] }
      tags         = { include = ["v*"], exclude = ["*-rc*"] }
      targets      = [{ region = "eu-west-1" }, { region = "us-east-1" }]
    }

    # Everything of production is kept in one more region, below dr/, images without a tag included, and no tag there ever moves.
    disaster-recovery = {
      repositories        = { include = ["prod/*"] }
      untagged            = true
      targets             = [{ region = "us-east-2", replace_prefix = { from = "prod/", to = "dr/" }, settings = "sync" }]
      repository_settings = { tag_mutability = "IMMUTABLE", tags = { purpose = "disaster-recovery" } }
    }

    # The base image has another name in Tokyo, and what nobody needs there expires.
    base-image = {
      repositories = { include = ["base"] }
      tags         = { exclude = ["latest"] }
      targets      = [{ region = "ap-northeast-1", repository = "platform/base" }]
      repository_settings = {
        lifecycle_policy = jsonencode({
          rules = [{
            rulePriority = 1
            selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 20 }
            action       = { type = "expire" }
          }]
        })
      }
    }
  }
}

output "event_patterns" {
  description = "What each rule asks EventBridge for."
  value       = module.ecr_replicator.event_patterns
}
