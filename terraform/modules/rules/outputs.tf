output "problems" {
  description = "What is wrong with the rules, a line each."
  value       = local.problems
}

output "rules" {
  description = "The rules by name: the detail of an event pattern, a definition for the state machine, and repositories and targets."
  value = {
    for name, rule in local.rules : name => {
      definition   = local.definitions[name]
      event_detail = local.event_details[name]
      repositories = rule.repositories.include
      # Whether a push without a tag, or the tags of what a signature signs, have to be looked up.
      looks_up = rule.untagged || local.tags_are_filtered[name]
      targets  = local.targets_by_rule[name]
    }
  }

  # One for each kind: what a plan does not know yet, such as the ARN of a key that it makes, hides only its own.
  precondition {
    condition     = length(local.rule_problems) == 0
    error_message = join("\n", local.rule_problems)
  }

  precondition {
    condition     = length(local.target_problems) == 0
    error_message = join("\n", local.target_problems)
  }

  precondition {
    condition     = length(local.rename_problems) == 0
    error_message = join("\n", local.rename_problems)
  }

  precondition {
    condition     = length(local.sharing_problems) == 0
    error_message = join("\n", local.sharing_problems)
  }

  precondition {
    condition     = length(local.settings_problems) == 0
    error_message = join("\n", local.settings_problems)
  }

  precondition {
    condition     = length(local.size_problems) == 0
    error_message = join("\n", local.size_problems)
  }
}

output "source_arn_prefix" {
  description = "How the ARN of a repository begins that rules replicate."
  value       = "arn:${var.origin.partition}:ecr:${var.origin.region}:${var.origin.account_id}:repository/"
}

# By itself, because rules of a wrong type are no input to anything else.
output "shaped" {
  description = "Whether the rules have values of the right types, and no unknown keys; there is no other answer."
  value       = true

  precondition {
    condition     = length(module.shapes.unknown_keys) == 0
    error_message = join("\n", module.shapes.unknown_keys)
  }

  precondition {
    condition     = length(module.shapes.wrong_types) == 0
    error_message = join("\n", module.shapes.wrong_types)
  }
}
