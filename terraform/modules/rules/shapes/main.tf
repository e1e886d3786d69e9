# What can be said of rules without their types. Terraform's own error may not say which rule has the value of a wrong type, and
# with a type it drops the keys that the type does not have.

variable "rules" {
  description = "Replication rules, by name, as they are written."
  type        = any
  nullable    = false
}

output "unknown_keys" {
  description = "Keys that no rule has, a line each."
  value       = local.unknown_keys
}

output "wrong_types" {
  description = "What is missing, or has a value of a wrong type, a line each."
  value       = local.wrong_types
}

locals {
  members = {
    rule = {
      repositories        = "object"
      tags                = "object"
      untagged            = "bool"
      targets             = "list"
      repository_settings = "object"
    }
    filter = {
      include = "strings"
      exclude = "strings"
    }
    target = {
      region            = "string"
      repository        = "string"
      repository_prefix = "string"
      replace_prefix    = "object"
      registry_id       = "string"
      role_arn          = "string"
      external_id       = "string"
      kms_key_arn       = "string"
      settings          = "string"
    }
    replace_prefix = {
      from = "string"
      to   = "string"
    }
    repository_settings = {
      tag_mutability            = "string"
      tag_mutability_exclusions = "strings"
      scan_on_push              = "bool"
      tags                      = "map"
      lifecycle_policy          = "string"
      repository_policy         = "string"
    }
  }

  kinds = {
    bool    = "true or false"
    list    = "a list of objects"
    map     = "a map of texts"
    object  = "an object"
    string  = "a text"
    strings = "a list of texts"
  }

  # Every object that is written, with what it may and must have.
  objects = flatten([
    for name, rule in try({ for name, rule in var.rules : name => rule }, {}) : concat(
      [
        { label = "rule ${name}", value = rule, members = local.members.rule, required = ["targets"] },
        {
          label    = "rule ${name}, repositories"
          value    = try(rule.repositories, null)
          members  = local.members.filter
          required = []
        },
        { label = "rule ${name}, tags", value = try(rule.tags, null), members = local.members.filter, required = [] },
        {
          label    = "rule ${name}, repository_settings"
          value    = try(rule.repository_settings, null)
          members  = local.members.repository_settings
          required = []
        },
      ],
      try([
        for index, target in rule.targets : [
          { label = "rule ${name}, targets[${index}]", value = target, members = local.members.target, required = ["region"] },
          {
            label    = "rule ${name}, targets[${index}].replace_prefix"
            value    = try(target.replace_prefix, null)
            members  = local.members.replace_prefix
            required = ["from", "to"]
          },
        ]
      ], []),
    )
  ])

  wrong_types = concat(
    [for wrong in [!can(keys(var.rules))] : "The rules are a map of objects, by name." if wrong],
    flatten([
      for object in local.objects : concat(
        [for wrong in [object.value == null] : "${object.label} is null." if wrong && contains(object.required, "targets")],
        [for wrong in [object.value != null && !can(keys(object.value))] : "${object.label} is no object." if wrong],
        [
          for member in object.required : "${object.label}: ${member} is missing."
          if can(keys(object.value)) && try(object.value[member], null) == null
        ],
        [
          for member, kind in object.members : "${object.label}: ${member} is to be ${local.kinds[kind]}."
          if try(object.value[member], null) != null && !(
            kind == "bool" ? can(tobool(object.value[member])) :
            kind == "string" ? can(tostring(object.value[member])) :
            kind == "object" ? true :
            kind == "map" ? can(keys(object.value[member])) && alltrue([
              for value in try(values(object.value[member]), []) : value != null && can(tostring(value))
            ]) :
            can(length(object.value[member])) && !can(keys(object.value[member])) && !can(tostring(object.value[member]))
            && alltrue([
              for value in try([for value in object.value[member] : value], []) : value != null && (kind == "list" || can(tostring(value)))
            ])
          )
        ],
      )
    ]),
  )

  unknown_keys = flatten([
    for object in local.objects : [
      for key in try(keys(object.value), []) : "${object.label}: there is no ${key} here, only ${join(", ", keys(object.members))}."
      if !contains(keys(object.members), key)
    ]
  ])
}
