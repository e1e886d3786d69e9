variable "origin" {
  description = "Where images are pushed to: the source."
  type = object({
    account_id = string
    partition  = string
    region     = string
  })
  nullable = false
}

variable "rules" {
  description = "Replication rules, by name, as they are written: the module types has the type."
  # A type would drop the keys that it does not have before anybody could say that they are unknown.
  type     = any
  nullable = false
}
