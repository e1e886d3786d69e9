# Gives rules their types and defaults: Terraform converts to a type in one place only, where a module takes a variable.

variable "rules" {
  description = "Replication rules, by name."
  type = map(object({
    repositories = optional(object({
      include = optional(list(string), ["*"])
      exclude = optional(list(string), [])
    }), {})
    tags = optional(object({
      include = optional(list(string), ["*"])
      exclude = optional(list(string), [])
    }), {})
    untagged = optional(bool, false)
    targets = list(object({
      region            = string
      repository        = optional(string)
      repository_prefix = optional(string)
      replace_prefix = optional(object({
        from = string
        to   = string
      }))
      registry_id = optional(string)
      role_arn    = optional(string)
      external_id = optional(string)
      kms_key_arn = optional(string)
      settings    = optional(string, "create")
    }))
    repository_settings = optional(object({
      tag_mutability            = optional(string)
      tag_mutability_exclusions = optional(list(string))
      scan_on_push              = optional(bool)
      tags                      = optional(map(string))
      lifecycle_policy          = optional(string)
      repository_policy         = optional(string)
    }), {})
  }))
  nullable = false
}

output "rules" {
  description = "The rules, with their defaults."
  value       = var.rules
}
