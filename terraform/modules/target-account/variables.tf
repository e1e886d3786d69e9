variable "allow_create" {
  description = "Whether repositories may be made here, as a target's settings create and sync ask for."
  type        = bool
  default     = true
  nullable    = false
}

variable "allow_sync" {
  description = "Whether an existing repository may be brought to the source's settings, as a target's settings sync ask for."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.allow_sync || var.allow_create
    error_message = "Settings that are synchronized are those of repositories that may be made: allow_sync goes with allow_create."
  }
}

variable "deployment_name" {
  description = "The `name` of the deployment in the source account."
  type        = string
  default     = "ecr-replicator"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,31}$", var.deployment_name))
    error_message = "A deployment's name has 1 to 32 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "external_id" {
  description = "What the source account says when it assumes the role: the target's external_id."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-zA-Z0-9_+=,.@:/-]{2,}$", var.external_id)) && length(var.external_id) <= 1224
    error_message = "An external ID has 2 to 1224 letters, digits and _ + = , . @ : / -"
  }
}

variable "kms_key_arns" {
  description = "Keys that repositories are encrypted with. Default: any of this account's in the regions, through ECR only."
  type        = list(string)
  default     = null

  validation {
    condition     = alltrue([for arn in coalesce(var.kms_key_arns, []) : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[a-zA-Z0-9-]+$", arn))])
    error_message = "A key is named by its ARN, such as arn:aws:kms:eu-west-1:222222222222:key/..., not by an alias: IAM knows none."
  }
}

variable "name" {
  description = "Name of the role; unique in this account."
  type        = string
  default     = "ecr-replicator-target"
  nullable    = false

  validation {
    condition     = can(regex("^[a-zA-Z0-9_+=,.@-]{1,64}$", var.name))
    error_message = "A role's name has 1 to 64 letters, digits and _ + = , . @ -"
  }
}

variable "regions" {
  description = "Regions that are replicated to."
  type        = set(string)
  nullable    = false

  validation {
    condition     = length(var.regions) > 0 && alltrue([for region in var.regions : can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$", region))])
    error_message = "Name at least one region, each such as eu-west-1."
  }
}

variable "repositories" {
  description = "Repositories that are written, as they are called here: names, or patterns in which * stands for any characters."
  type        = list(string)
  nullable    = false

  validation {
    condition = length(var.repositories) > 0 && alltrue([
      for name in var.repositories : can(regex("^[a-z0-9*][a-z0-9*._/-]{0,255}$", name)) && !strcontains(name, "**")
    ])
    error_message = "Name at least one repository, such as prod/app or prod/*, of lower-case letters, digits, . _ - / and single * only."
  }
}

variable "source_account_id" {
  description = "The account that replicates."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{12}$", var.source_account_id))
    error_message = "An account's ID has 12 digits."
  }
}

variable "source_region" {
  description = "The region that the deployment is in; its roles' names have it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$", var.source_region))
    error_message = "A region is one such as eu-central-1."
  }
}

variable "tags" {
  description = "Tags of the role, beside the provider's default_tags."
  type        = map(string)
  default     = {}
  nullable    = false
}
