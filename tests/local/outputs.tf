output "dead_letter_queue_url" {
  description = "URL of the queue of push events that could not start an execution."
  value       = module.ecr_replicator.dead_letter_queue_url
}

output "event_patterns" {
  description = "The event patterns, as JSON, by replication rule."
  value       = module.ecr_replicator.event_patterns
}

output "event_rule_names" {
  description = "Names of the EventBridge rules that start an execution for each push, by replication rule."
  value       = module.ecr_replicator.event_rule_names
}

output "function_names" {
  description = "Names of the functions, by step."
  value       = module.ecr_replicator.function_names
}

output "log_group_names" {
  description = "Names of the log groups, by step."
  value       = module.ecr_replicator.log_group_names
}

output "reconcile_bucket" {
  description = "Name of the bucket of reconcile-registry's lists and reports."
  value       = module.ecr_replicator.reconcile_bucket
}

output "reconcile_state_machine_arn" {
  description = "ARN of the state machine that finds what the targets lack."
  value       = module.ecr_replicator.reconcile_state_machine_arn
}

output "reports_queue_url" {
  description = "URL of the queue of the replications' reports."
  value       = aws_sqs_queue.reports.url
}

output "state_machine_arn" {
  description = "ARN of the state machine."
  value       = module.ecr_replicator.state_machine_arn
}
