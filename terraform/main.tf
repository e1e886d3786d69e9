# Replicates what is pushed to ECR in the provider's region, as the rules say. Nothing is deployed in a target region: the functions
# run beside the source, where reading a layer costs nothing, and each byte crosses once per target.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  # `id`, because provider 6 deprecates `name` and provider 5 does not have `region`.
  source_region = data.aws_region.current.id

  # Both lengths are limited, so that this fits the 64 characters that a rule's name may have. Neither part has a _, so that two
  # deployments do not have a name in common; a - both may have.
  rule_names         = { for name in keys(module.rules.rules) : name => "${var.name}_${name}" }
  state_machine_name = "${var.name}-replicate-image"
  reconcile_name     = "${var.name}-reconcile-registry"

  # Roles belong to the account, not to a region: without the region in its name, a second source region would collide.
  role_name_prefix = "${var.name}-${local.source_region}"

  # ARNs by construction, where the resource itself would close a cycle.
  # All rules in one, because a role's trust policy has room for about twenty.
  rule_arn_pattern  = "arn:${local.partition}:events:${local.source_region}:${local.account_id}:rule/${var.name}_*"
  state_machine_arn = "${local.states_arn_prefix}:stateMachine:${local.state_machine_name}"
  reconcile_arn     = "${local.states_arn_prefix}:stateMachine:${local.reconcile_name}"
  states_arn_prefix = "arn:${local.partition}:states:${local.source_region}:${local.account_id}"
}

module "rules" {
  source = "./modules/rules"

  rules = var.rules
  origin = {
    account_id = local.account_id
    partition  = local.partition
    region     = local.source_region
  }
}
