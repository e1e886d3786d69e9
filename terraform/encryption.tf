# A key of the user's, if there is one: for what is kept here, which are logs, events that could not start an execution, and the lists and
# reports of reconcile. Not for the functions' environments, which have names and no secret; nor for the state machines: their history
# has references and digests, AWS encrypts it in any case, and with a key of one's own whoever inspects or redrives an execution needs
# that key, as does the delivery of logs, and no execution starts or goes on while it is disabled.

locals {
  log_group_arns = [
    for name in concat(
      [for function in sort(keys(local.functions)) : "/aws/lambda/${var.name}-${function}"],
      ["/aws/vendedlogs/states/${local.reconcile_name}", "/aws/vendedlogs/states/${local.state_machine_name}"],
    ) : "arn:${local.partition}:logs:${local.source_region}:${local.account_id}:log-group:${name}"
  ]

  # For the services that use the key in no role's name. What does so in a role's name is allowed by the role, if the key's policy leaves
  # that to IAM, as the default one does. Made of arguments alone, so that a key may be made together with the module.
  kms_key_statements = [
    {
      Sid       = "EncryptLogs"
      Effect    = "Allow"
      Principal = { Service = "logs.${local.source_region}.amazonaws.com" }
      Action    = ["kms:Decrypt", "kms:Describe*", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
      Resource  = "*"
      Condition = { ArnEquals = { "kms:EncryptionContext:aws:logs:arn" = local.log_group_arns } }
    },
    # EventBridge documents no condition for the key of a queue; whose events the queue takes, its own policy says.
    {
      Sid       = "EncryptUndeliveredEvents"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = "*"
    },
  ]
}
