# What the rules come to: the event patterns, what the state machine is given, and what may be read and written. Makes nothing.

module "shapes" {
  source = "./shapes"

  rules = var.rules
}

module "types" {
  source = "./types"

  rules = var.rules
}

locals {
  rules = module.types.rules

  # Targets with what is not said about them. A rename takes `from` off a name's beginning and puts `to` there; it can be undone.
  targets = flatten([
    for name, rule in local.rules : [
      for index, target in rule.targets : {
        rule     = name
        label    = "rule ${name}, targets[${index}]"
        region   = target.region
        account  = coalesce(target.registry_id, var.origin.account_id)
        own      = coalesce(target.registry_id, var.origin.account_id) == var.origin.account_id
        role_arn = target.role_arn
        settings = target.settings
        key_arn  = target.kms_key_arn
        fixed    = target.repository
        from     = try(target.replace_prefix.from, "")
        to       = try(target.replace_prefix.to, coalesce(target.repository_prefix, ""), "")
      }
    ]
  ])

  # One for each pattern of a target's rule: what the repositories that it includes are called at the target.
  names = flatten([
    for position, target in local.targets : [
      for pattern in local.rules[target.rule].repositories.include : merge(target, {
        position = position
        source   = pattern
        target   = target.fixed != null ? target.fixed : "${target.to}${trimprefix(pattern, target.from)}"
      })
    ]
  ])

  # What a rule's targets are, for the permissions.
  targets_by_rule = {
    for name in keys(local.rules) : name => [
      for position, target in local.targets : {
        region       = target.region
        account      = target.account
        own          = target.own
        role_arn     = target.role_arn
        settings     = target.settings
        key_arn      = target.key_arn
        repositories = [for entry in local.names : entry.target if entry.position == position]
      } if target.rule == name
    ]
  }
}
