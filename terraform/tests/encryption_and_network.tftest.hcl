# A key of the user's, and a network of the user's.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  rules       = { all = { targets = [{ region = "us-east-1" }] } }
  package_dir = "./tests/packages"
}

run "without_a_key_everything_is_encrypted_by_aws" {
  command = plan

  assert {
    condition = (
      alltrue([for group in aws_cloudwatch_log_group.function : group.kms_key_id == null])
      && aws_cloudwatch_log_group.state_machine.kms_key_id == null
      && aws_cloudwatch_log_group.reconcile.kms_key_id == null
      && alltrue([for queue in [aws_sqs_queue.dead_letters, aws_sqs_queue.reconcile_dead_letters] : queue.sqs_managed_sse_enabled && queue.kms_master_key_id == null])
      && one(aws_s3_bucket_server_side_encryption_configuration.runs.rule).apply_server_side_encryption_by_default[0].sse_algorithm == "AES256"
    )
    error_message = "Without a key, something is encrypted with one, or not at all."
  }

  assert {
    condition = [
      for policy in concat(values(aws_iam_role_policy.function), [aws_iam_role_policy.reconcile, aws_iam_role_policy.schedule]) : policy.name
      if strcontains(policy.policy, "kms:Decrypt")
    ] == []
    error_message = "Without a key, a role may use one."
  }
}

run "a_key_encrypts_what_is_kept" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd"
  }

  assert {
    condition = (
      alltrue([for group in aws_cloudwatch_log_group.function : group.kms_key_id == var.kms_key_arn])
      && aws_cloudwatch_log_group.state_machine.kms_key_id == var.kms_key_arn
      && aws_cloudwatch_log_group.reconcile.kms_key_id == var.kms_key_arn
    )
    error_message = "A log group is not encrypted with the key."
  }

  assert {
    condition = alltrue([
      for queue in [aws_sqs_queue.dead_letters, aws_sqs_queue.reconcile_dead_letters] :
      queue.kms_master_key_id == var.kms_key_arn
    ])
    error_message = "A queue is not encrypted with the key."
  }

  assert {
    condition = (
      one(aws_s3_bucket_server_side_encryption_configuration.runs.rule).apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms"
      && one(aws_s3_bucket_server_side_encryption_configuration.runs.rule).apply_server_side_encryption_by_default[0].kms_master_key_id == var.kms_key_arn
      && one(aws_s3_bucket_server_side_encryption_configuration.runs.rule).bucket_key_enabled
    )
    error_message = "The bucket is not encrypted with the key."
  }

  # Those that read and write the bucket, and the one in whose name a message is sent.
  assert {
    condition = {
      for role, policy in merge(aws_iam_role_policy.function, {
        event-rule    = aws_iam_role_policy.event_rule
        reconcile     = aws_iam_role_policy.reconcile
        schedule      = aws_iam_role_policy.schedule
        state-machine = aws_iam_role_policy.state_machine
        }) : role => jsonencode([
        for statement in jsondecode(policy.policy).Statement : [statement.Action, statement.Resource, statement.Condition.StringEquals["kms:ViaService"]]
        if startswith(statement.Sid, "Encrypt") && statement.Sid != "EncryptTarget"
      ])
      } == {
      for role in concat(keys(aws_iam_role_policy.function), ["event-rule", "reconcile", "schedule", "state-machine"]) : role => jsonencode(
        contains(["find-differences", "reconcile", "report-differences", "schedule"], role)
        ? [[["kms:Decrypt", "kms:GenerateDataKey"], [var.kms_key_arn], role == "schedule" ? "sqs.eu-central-1.amazonaws.com" : "s3.eu-central-1.amazonaws.com"]]
        : []
      )
    }
    error_message = "Another role may use the key, or one that needs it may not."
  }

  assert {
    condition = output.kms_key_statements[0] == {
      Sid       = "EncryptLogs"
      Effect    = "Allow"
      Principal = { Service = "logs.eu-central-1.amazonaws.com" }
      Action    = ["kms:Decrypt", "kms:Describe*", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
      Resource  = "*"
      Condition = {
        ArnEquals = {
          "kms:EncryptionContext:aws:logs:arn" = [
            for name in concat(
              [for function in ["copy-layers", "ensure-repo", "find-differences", "put-manifest", "report", "report-differences", "resolve-image"] : "/aws/lambda/ecr-replicator-${function}"],
              ["/aws/vendedlogs/states/ecr-replicator-reconcile-registry", "/aws/vendedlogs/states/ecr-replicator-replicate-image"],
            ) : "arn:aws:logs:eu-central-1:123456789012:log-group:${name}"
          ]
        }
      }
    }
    error_message = "The key's policy lets CloudWatch Logs use it for other groups than these."
  }

  assert {
    condition     = sort(values(output.log_group_names)) == sort([for arn in output.kms_key_statements[0].Condition.ArnEquals["kms:EncryptionContext:aws:logs:arn"] : split(":log-group:", arn)[1]])
    error_message = "A log group's data cannot be encrypted with the key."
  }

  assert {
    condition = output.kms_key_statements[1] == {
      Sid       = "EncryptUndeliveredEvents"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = "*"
    }
    error_message = "An event that starts no execution cannot be kept."
  }
}

run "a_key_is_of_the_source_region" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd"
  }

  expect_failures = [aws_s3_bucket_server_side_encryption_configuration.runs]
}

run "a_key_is_named_by_its_arn" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:alias/mine"
  }

  expect_failures = [var.kms_key_arn]
}

run "without_a_network_the_functions_are_in_none" {
  command = plan

  assert {
    condition     = alltrue([for function in aws_lambda_function.this : length(function.vpc_config) == 0])
    error_message = "A function is in a VPC that nobody named."
  }

  assert {
    condition     = alltrue([for policy in aws_iam_role_policy.function : !strcontains(policy.policy, "ec2:")])
    error_message = "A function that is in no VPC may make network interfaces."
  }
}

run "the_functions_are_in_a_network" {
  command = plan

  variables {
    vpc = { subnet_ids = ["subnet-0b", "subnet-0a"], security_group_ids = ["sg-0c"] }
  }

  assert {
    condition = alltrue([
      for function in aws_lambda_function.this :
      one(function.vpc_config).subnet_ids == toset(["subnet-0a", "subnet-0b"]) && one(function.vpc_config).security_group_ids == toset(["sg-0c"])
    ])
    error_message = "A function is in another network, or in none."
  }

  assert {
    condition = alltrue([
      for function, policy in aws_iam_role_policy.function : [
        for statement in jsondecode(policy.policy).Statement : statement if strcontains(jsonencode(statement.Action), "ec2:")
        ] == [
        {
          Sid    = "AttachToNetwork"
          Effect = "Allow"
          Action = ["ec2:CreateNetworkInterface"]
          Resource = [
            "arn:aws:ec2:eu-central-1:123456789012:network-interface/*",
            "arn:aws:ec2:eu-central-1:*:security-group/sg-0c",
            "arn:aws:ec2:eu-central-1:*:subnet/subnet-0a",
            "arn:aws:ec2:eu-central-1:*:subnet/subnet-0b",
          ]
        },
        {
          Sid      = "ManageInterfaces"
          Effect   = "Allow"
          Action   = ["ec2:AssignPrivateIpAddresses", "ec2:DeleteNetworkInterface", "ec2:UnassignPrivateIpAddresses"]
          Resource = ["arn:aws:ec2:eu-central-1:123456789012:*/*"]
        },
        {
          Sid      = "SeeNetwork"
          Effect   = "Allow"
          Action   = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"]
          Resource = ["*"]
        },
        {
          Sid    = "KeepFromCode"
          Effect = "Deny"
          Action = [
            "ec2:AssignPrivateIpAddresses",
            "ec2:CreateNetworkInterface",
            "ec2:DeleteNetworkInterface",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
            "ec2:UnassignPrivateIpAddresses",
          ]
          Resource  = ["*"]
          Condition = { ArnEquals = { "lambda:SourceFunctionArn" = "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-${function}" } }
        },
      ]
    ])
    error_message = "A function may do something else to networks than be in this one, or its code may do it."
  }
}

run "a_network_has_subnets_and_security_groups" {
  command = plan

  variables {
    vpc = { subnet_ids = ["subnet-0a"], security_group_ids = [] }
  }

  expect_failures = [var.vpc]
}

run "a_network_has_subnets_too" {
  command = plan

  variables {
    vpc = { subnet_ids = [], security_group_ids = ["sg-0c"] }
  }

  expect_failures = [var.vpc]
}

run "networks_are_named_by_their_ids" {
  command = plan

  variables {
    vpc = { subnet_ids = ["private"], security_group_ids = ["sg-0c"] }
  }

  expect_failures = [var.vpc]
}
