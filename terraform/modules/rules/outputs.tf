output "problems" {
  description = "What is wrong with the rules, a line each."
  value       = local.problems
}

output "rules" {
  description = "The rules by name: each one's event pattern, its definition for the state machine, and its repositories and targets."
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

  precondition {
    condition     = length(local.problems) == 0
    error_message = join("\n", local.problems)
  }
}

# By itself, because rules of a wrong type are no input to anything else.
output "shaped" {
  description = "Whether the rules have values of the right types, and no unknown keys; there is no other answer."
  value       = true

  precondition {
    condition     = length(module.shapes.problems) == 0
    error_message = join("\n", module.shapes.problems)
  }
}
