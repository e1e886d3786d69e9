output "role_arn" {
  description = "ARN of the role: a target's role_arn."
  # Made of arguments alone, so that a plan knows it, and what is wrong with a rule is found before anything is made.
  value = "arn:${local.partition}:iam::${local.account_id}:role/${aws_iam_role.this.name}"
}
