# What `make deploy` applies: the module, with what deploy/terraform.tfvars says. For anything that is not here, call the module from a
# configuration of your own, as terraform/examples do.

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
  region = var.region

  default_tags {
    tags = { application = var.name }
  }
}

module "ecr_replicator" {
  source = "../terraform"

  name          = var.name
  rules         = var.rules
  architecture  = var.architecture
  copy_layers   = var.copy_layers
  alarm_actions = var.alarm_actions
  notifications = var.notifications
  reconcile     = var.reconcile
}
