# The module checks what they say, and its README.md has their types.

variable "region" {
  description = "The source region."
  type        = string
}

variable "name" {
  description = "The prefix of everything that is made, and a tag of it."
  type        = string
  default     = "ecr-replicator"
}

variable "rules" {
  description = "Replication rules, by name: what is replicated, and to where."
  type        = any
}

variable "architecture" {
  description = "What the packages were built for: x86_64 or arm64. `make deploy` says it, by ARCH, whatever terraform.tfvars says."
  type        = string
  default     = "x86_64"
}

variable "copy_layers" {
  description = "How layers are copied."
  type        = any
  default     = {}
}

variable "alarm_actions" {
  description = "ARNs that an alarm notifies."
  type        = list(string)
  default     = []
}

variable "notifications" {
  description = "An SNS topic, and what it is told."
  type        = any
  default     = null
}

variable "reconcile" {
  description = "How it is found which images the targets lack."
  type        = any
  default     = {}
}
