# What the state machine is given of a rule. Members that the user did not set are left out. Values that may be of different types
# cannot be alternatives of one expression, so they are picked as JSON.

locals {
  definitions = {
    for name, rule in local.rules : name => {
      for member, value in {
        repositories = rule.repositories
        tags         = rule.tags
        untagged     = rule.untagged
        targets = [
          for target in rule.targets : {
            for member, value in {
              region = target.region
              repository = jsondecode(coalesce(
                target.repository == null ? "" : jsonencode(target.repository),
                target.repository_prefix == null ? "" : jsonencode({ prefix = target.repository_prefix }),
                target.replace_prefix == null ? "" : jsonencode({ replacePrefix = target.replace_prefix }),
                "null",
              ))
              # This account's is what a target has that says nothing; as whom else, a role says.
              registryId = target.registry_id != var.origin.account_id || target.role_arn != null ? target.registry_id : null
              roleArn    = target.role_arn
              externalId = target.external_id
              kmsKeyArn  = target.kms_key_arn
              settings   = target.settings
            } : member => value if value != null
          }
        ]
        repositorySettings = jsondecode(local.overrides[name] == "{}" ? "null" : local.overrides[name])
      } : member => value if value != null
    }
  }

  overrides = {
    for name, rule in local.rules : name => jsonencode({
      for member, value in {
        tagMutability           = rule.repository_settings.tag_mutability
        tagMutabilityExclusions = rule.repository_settings.tag_mutability_exclusions
        scanOnPush              = rule.repository_settings.scan_on_push
        tags                    = rule.repository_settings.tags
        lifecyclePolicy         = rule.repository_settings.lifecycle_policy
        repositoryPolicy        = rule.repository_settings.repository_policy
      } : member => value if value != null
    })
  }
}
