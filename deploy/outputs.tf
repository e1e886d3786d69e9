output "state_machine_console_url" {
  description = "Where to inspect and redrive the replications."
  value       = module.ecr_replicator.state_machine_console_url
}

output "state_machine_arn" {
  description = "What an execution by hand is started of."
  value       = module.ecr_replicator.state_machine_arn
}

output "dead_letter_queue_url" {
  description = "Where a push event ends up that could not start a replication."
  value       = module.ecr_replicator.dead_letter_queue_url
}

output "reconcile_bucket" {
  description = "Where reconcile-registry's lists and reports are."
  value       = module.ecr_replicator.reconcile_bucket
}
