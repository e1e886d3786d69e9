output "alarm_names" {
  description = "Names of the alarms, by what they watch."
  value       = local.alarm_names
}

output "dashboard_name" {
  description = "Name of the dashboard; null without one."
  value       = one(aws_cloudwatch_dashboard.this[*].dashboard_name)
}

output "dead_letter_queue_arn" {
  description = "ARN of the queue of push events that could not start an execution."
  value       = aws_sqs_queue.dead_letters.arn
}

output "dead_letter_queue_url" {
  description = "URL of the queue of push events that could not start an execution."
  value       = aws_sqs_queue.dead_letters.url
}

output "event_patterns" {
  description = "The event patterns, as JSON, by replication rule."
  value       = local.event_patterns
}

output "event_rule_arns" {
  description = "ARNs of the EventBridge rules that start an execution for each push, by replication rule."
  value       = { for name, rule in aws_cloudwatch_event_rule.image_pushed : name => rule.arn }
}

output "event_rule_names" {
  description = "Names of the EventBridge rules that start an execution for each push, by replication rule."
  value       = { for name, rule in aws_cloudwatch_event_rule.image_pushed : name => rule.name }
}

output "function_names" {
  description = "Names of the functions, by step."
  value       = { for step, function in aws_lambda_function.this : step => function.function_name }
}

output "kms_key_statements" {
  description = "What the policy of kms_key_arn must allow AWS's services, as statements, beside the default statement that lets the account's IAM policies decide."
  value       = local.kms_key_statements
}

output "log_group_names" {
  description = "Names of the log groups, by step; the state machines' are replicate-image and reconcile-registry."
  value = merge(
    { for step, log_group in aws_cloudwatch_log_group.function : step => log_group.name },
    { reconcile-registry = aws_cloudwatch_log_group.reconcile.name, replicate-image = aws_cloudwatch_log_group.state_machine.name },
  )
}

output "notification_rule_arns" {
  description = "ARNs of the EventBridge rules that notify, by what they notify of; the topic's policy names them."
  value       = { for name, rule in aws_cloudwatch_event_rule.notification : name => rule.arn }
}

output "reconcile_bucket" {
  description = "Name of the bucket of reconcile-registry's lists and reports."
  value       = aws_s3_bucket.runs.bucket
}

output "reconcile_dead_letter_queue_url" {
  description = "URL of the queue of scheduled runs that could not start."
  value       = aws_sqs_queue.reconcile_dead_letters.url
}

output "reconcile_schedule_name" {
  description = "Name of the schedule; null without one."
  value       = one(aws_scheduler_schedule.reconcile[*].name)
}

output "reconcile_state_machine_arn" {
  description = "ARN of the state machine that finds what the targets lack."
  value       = aws_sfn_state_machine.reconcile.arn
}

output "state_machine_arn" {
  description = "ARN of the state machine."
  value       = aws_sfn_state_machine.this.arn
}

output "state_machine_console_url" {
  description = "The state machine in the console: its executions, to inspect and redrive."
  value       = "${local.console_url}#/statemachines/view/${urlencode(local.state_machine_arn)}"
}
