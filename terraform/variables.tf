variable "alarm_actions" {
  description = "ARNs that an alarm notifies when it goes off and when it recovers, such as an SNS topic."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.alarm_actions : startswith(arn, "arn:")])
    error_message = "Each alarm action is an ARN, such as arn:aws:sns:eu-central-1:123456789012:alarms."
  }
}

variable "architecture" {
  description = "Instruction set of the functions: x86_64 or arm64."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "The architecture is x86_64 or arm64."
  }
}

variable "copy_layers" {
  description = "How layers are copied: the function's memory and time-out; uploads by auto (streamed, or by parts: decided for each layer) or parts (through the ECR API only, for a network without a route to the registries' endpoints); and how many functions may copy one image to one target side by side."
  type = object({
    memory_mb       = optional(number, 2048)
    timeout_seconds = optional(number, 900)
    uploads         = optional(string, "auto")
    max_shards      = optional(number, 4)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.copy_layers.memory_mb >= 256 && var.copy_layers.memory_mb <= 10240 && floor(var.copy_layers.memory_mb) == var.copy_layers.memory_mb
    error_message = "The memory is 256 to 10240 MB, a whole number."
  }

  validation {
    condition     = var.copy_layers.timeout_seconds >= 10 && var.copy_layers.timeout_seconds <= 900 && floor(var.copy_layers.timeout_seconds) == var.copy_layers.timeout_seconds
    error_message = "The time-out is 10 to 900 seconds, a whole number."
  }

  validation {
    condition     = contains(["auto", "parts"], var.copy_layers.uploads)
    error_message = "The uploads are auto or parts."
  }

  validation {
    condition     = var.copy_layers.max_shards >= 1 && var.copy_layers.max_shards <= 16 && floor(var.copy_layers.max_shards) == var.copy_layers.max_shards
    error_message = "One image is copied to one target by 1 to 16 functions side by side, a whole number."
  }
}

variable "dashboard" {
  description = "Whether there is a CloudWatch dashboard."
  type        = bool
  default     = true
  nullable    = false
}

variable "event_pattern_limit" {
  description = "How many characters EventBridge takes for an event pattern in this account and region: 2048, or as many as its quota \"Event pattern size\" was raised to, at most 4096."
  type        = number
  default     = 2048
  nullable    = false

  validation {
    condition     = var.event_pattern_limit >= 2048 && var.event_pattern_limit <= 4096 && floor(var.event_pattern_limit) == var.event_pattern_limit
    error_message = "The limit is 2048 to 4096 characters, a whole number."
  }
}

variable "execution_log_level" {
  description = "What the state machine logs of its executions: ALL (development), ERROR, FATAL or OFF."
  type        = string
  default     = "ERROR"
  nullable    = false

  validation {
    condition     = contains(["ALL", "ERROR", "FATAL", "OFF"], var.execution_log_level)
    error_message = "The execution log level is ALL, ERROR, FATAL or OFF."
  }
}

variable "kms_key_arn" {
  description = "A symmetric KMS key in the source region that encrypts the log groups, the dead-letter queues and reconcile's bucket; its policy has the statements of the output kms_key_statements. Default: keys of AWS's."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null ? true : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "The key is named by its ARN, such as arn:aws:kms:eu-central-1:123456789012:key/..., not by an alias: IAM knows none."
  }
}

variable "lag_objective_seconds" {
  description = "How long a push may take to every target, in seconds; one that takes longer raises an alarm. Default: there is no such alarm."
  type        = number
  default     = null

  validation {
    condition     = var.lag_objective_seconds == null ? true : var.lag_objective_seconds >= 1 && var.lag_objective_seconds <= 86400
    error_message = "The objective is 1 to 86400 seconds."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept, in days: a value that CloudWatch Logs offers, or 0 for ever."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition = contains(
      [0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.log_retention_days,
    )
    error_message = "CloudWatch Logs keeps logs for 0 (for ever), 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "name" {
  description = "Prefix of every resource's name, 1 to 32 characters; unique in the account and region."
  type        = string
  default     = "ecr-replicator"
  nullable    = false

  validation {
    # A role's name may have 64 characters: this, a region, and "find-differences".
    condition     = can(regex("^[a-z][a-z0-9-]{0,31}$", var.name))
    error_message = "The name has 1 to 32 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "notifications" {
  description = "An SNS topic in the source region, and what it is told: failures (executions that fail, time out or are aborted) or all (every round that ends, too). Default: nothing."
  type = object({
    topic_arn = string
    on        = optional(string, "failures")
  })
  default = null

  validation {
    condition     = var.notifications == null ? true : can(regex("^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$", var.notifications.topic_arn))
    error_message = "The topic is the ARN of a standard SNS topic, such as arn:aws:sns:eu-central-1:123456789012:replications: EventBridge does not send to a FIFO topic."
  }

  validation {
    condition     = var.notifications == null ? true : contains(["failures", "all"], var.notifications.on)
    error_message = "Notifications are on failures or all."
  }
}

variable "package_dir" {
  description = "Directory of the functions' packages, <package_dir>/<function>/bootstrap.zip. Default: where `make package` puts those of the architecture."
  type        = string
  default     = null
}

variable "packages_s3" {
  description = "Where the packages are in S3, instead of in package_dir: a bucket in the provider's region, what stands before <architecture>/<function>/bootstrap.zip in the keys, and the text of the SHA256SUMS that the packages came with. Default of the text: the SHA256SUMS beside the module, which its archive has."
  type = object({
    bucket     = string
    key_prefix = optional(string, "")
    sha256sums = optional(string)
  })
  default = null

  validation {
    condition     = var.packages_s3 == null || var.package_dir == null
    error_message = "The packages are in package_dir or in packages_s3, not in both."
  }

  validation {
    condition     = var.packages_s3 == null ? true : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.packages_s3.bucket))
    error_message = "The bucket is a bucket's name, such as my-artifacts, and no address."
  }

  validation {
    condition     = var.packages_s3 == null ? true : can(regex("^([^/].*/)?$", var.packages_s3.key_prefix))
    error_message = "The key prefix is empty, or ends with a / and does not begin with one, such as ecr-replicator/0.1.0/."
  }
}

variable "reconcile" {
  description = "How it is found which images the targets lack: how many are replicated at once by a repair; the schedule on which that runs, its mode: audit (says what differs), plan (and what it would take, at price_per_gb for 10^9 bytes) or repair (mends it), and since when images are its concern, all by default; for how many days in a row they may differ before an alarm says so; and how long lists and reports are kept."
  type = object({
    concurrency = optional(number, 10)
    schedule = optional(object({
      enabled      = optional(bool, true)
      expression   = optional(string, "rate(1 day)")
      timezone     = optional(string, "UTC")
      mode         = optional(string, "audit")
      pushed_since = optional(string)
    }), {})
    price_per_gb     = optional(number)
    drift_alarm_days = optional(number, 2)
    retention_days   = optional(number, 90)
  })
  default  = {}
  nullable = false

  validation {
    # More, and a child would wait for more than ten seconds before each put.
    condition     = var.reconcile.concurrency >= 1 && var.reconcile.concurrency <= 100 && floor(var.reconcile.concurrency) == var.reconcile.concurrency
    error_message = "A repair replicates 1 to 100 images at once, a whole number."
  }

  validation {
    condition     = contains(["audit", "plan", "repair"], var.reconcile.schedule.mode)
    error_message = "The schedule's mode is audit, plan or repair."
  }

  validation {
    condition     = can(regex("^(rate\\([1-9][0-9]* (minute|minutes|hour|hours|day|days)\\)|cron\\([^ ()]+( [^ ()]+){5}\\))$", var.reconcile.schedule.expression))
    error_message = "The schedule's expression is one of EventBridge Scheduler that comes again, such as rate(1 day) or cron(0 3 * * ? *)."
  }

  validation {
    condition     = var.reconcile.schedule.pushed_since == null ? true : can(timeadd(var.reconcile.schedule.pushed_since, "0s"))
    error_message = "The schedule's images were pushed since a time such as 2026-11-01T00:00:00Z."
  }

  validation {
    condition     = can(regex("^[A-Za-z0-9_+/-]{1,50}$", var.reconcile.schedule.timezone))
    error_message = "The schedule's time zone has a name such as UTC or Europe/Berlin."
  }

  validation {
    condition     = var.reconcile.price_per_gb == null ? true : var.reconcile.price_per_gb >= 0
    error_message = "The price of a GB is not below 0."
  }

  validation {
    # CloudWatch looks back at most a week.
    condition     = var.reconcile.drift_alarm_days >= 1 && var.reconcile.drift_alarm_days <= 7 && floor(var.reconcile.drift_alarm_days) == var.reconcile.drift_alarm_days
    error_message = "Images may differ for 1 to 7 days in a row before the alarm, a whole number."
  }

  validation {
    # An alarm over several days sees a run on each of them, or never goes off.
    condition = (
      !var.reconcile.schedule.enabled || var.reconcile.drift_alarm_days == 1
      || can(regex("^(rate\\(([0-9]+ minutes?|1 hour|([1-9]|1[0-9]|2[0-4]) hours|1 day)\\)|cron\\([^ ]+ [^ ]+ [*?] [*] [*?] [*]\\))$", var.reconcile.schedule.expression))
    )
    error_message = "The schedule does not run every day, so images cannot differ for several days in a row: set drift_alarm_days to 1."
  }

  validation {
    # A redrive, for which there are two weeks, reads what was there.
    condition     = var.reconcile.retention_days >= 15 && var.reconcile.retention_days <= 3650 && floor(var.reconcile.retention_days) == var.reconcile.retention_days
    error_message = "Lists and reports are kept for 15 to 3650 days, a whole number."
  }
}

variable "rules" {
  description = "Replication rules, by name: what is replicated, and to where. README.md has the language, modules/rules/types the types."
  # A type would drop the keys that it does not have before anybody could say that they are unknown: modules/rules looks.
  type     = any
  nullable = false
}

variable "tags" {
  description = "Tags of every resource, beside the provider's default_tags."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "vpc" {
  description = "Subnets and security groups of the functions, for a network that controls what they reach; README.md has what that is. Default: they are in none, which is all that they need."
  type = object({
    subnet_ids         = set(string)
    security_group_ids = set(string)
  })
  default = null

  validation {
    condition     = var.vpc == null ? true : try(length(var.vpc.subnet_ids) > 0 && length(var.vpc.security_group_ids) > 0, false)
    error_message = "The functions are in a VPC by at least one subnet and at least one security group, or, without vpc, in none."
  }

  validation {
    condition     = var.vpc == null ? true : alltrue([for id in coalesce(var.vpc.subnet_ids, []) : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "A subnet is named by its ID, such as subnet-0a1b2c3d."
  }

  validation {
    condition     = var.vpc == null ? true : alltrue([for id in coalesce(var.vpc.security_group_ids, []) : can(regex("^sg-[0-9a-f]+$", id))])
    error_message = "A security group is named by its ID, such as sg-0a1b2c3d."
  }
}
