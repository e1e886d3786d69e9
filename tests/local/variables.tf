variable "architecture" {
  description = "Instruction set of the packages: this machine's, since the local stack runs them as they are."
  type        = string
  default     = "x86_64"
  nullable    = false
}

variable "copy_layers" {
  description = "How layers are copied: what is set here, instead of the module's defaults."
  type = object({
    memory_mb       = optional(number)
    timeout_seconds = optional(number)
    uploads         = optional(string)
    max_shards      = optional(number)
  })
  default  = {}
  nullable = false
}

variable "endpoint" {
  description = "URL of the local stack, such as http://127.0.0.1:4566."
  type        = string
  nullable    = false
}

variable "logs_endpoint" {
  description = "URL of CloudWatch Logs, where that is another one."
  type        = string
  default     = null
}

variable "name" {
  description = "Prefix of every resource's name."
  type        = string
  default     = "ecr-replicator"
  nullable    = false
}

variable "notify_on" {
  description = "What is notified, and then there is a deployment that waits, too: failures or all. Default: nobody is told."
  type        = string
  default     = null
}

variable "package_dir" {
  description = "Directory of the functions' packages."
  type        = string
  nullable    = false
}

variable "reconcile" {
  description = "How it is found what the targets lack: what is set here, instead of the module's defaults."
  type        = any
  default     = {}
  nullable    = false
}

variable "region" {
  description = "Source region."
  type        = string
  default     = "eu-central-1"
  nullable    = false
}

variable "rules" {
  description = "Replication rules, by name, as the module takes them."
  type        = any
  default = {
    all = {
      targets = [{ region = "eu-west-1" }, { region = "us-east-1" }, { region = "ap-northeast-1" }]
    }
  }
  nullable = false
}
