# One role per function, each with what that function calls and nothing else. The policies are locals, not policy documents:
# so the tests read the very JSON that is applied.

locals {
  source_repository_arns = [
    for name in var.repositories : "arn:${local.partition}:ecr:${local.source_region}:${local.account_id}:repository/${name}"
  ]
  target_repository_arns = flatten([
    for region in sort(var.target_regions) : [
      for name in var.repositories : "arn:${local.partition}:ecr:${region}:${local.account_id}:repository/${name}"
    ]
  ])

  function_statements = {
    # ecr:BatchGetImage allows ListImageReferrers, too. Indexes are looked through for an image without a tag.
    resolve-image = [
      {
        Sid      = "ReadSource"
        Effect   = "Allow"
        Action   = concat(["ecr:BatchGetImage"], var.untagged_images ? ["ecr:DescribeImages"] : [])
        Resource = local.source_repository_arns
      },
    ]

    ensure-repo = [
      {
        Sid      = "ReadSourceSettings"
        Effect   = "Allow"
        Action   = ["ecr:DescribeRepositories", "ecr:ListTagsForResource"]
        Resource = local.source_repository_arns
      },
      {
        Sid      = "CreateTarget"
        Effect   = "Allow"
        Action   = ["ecr:CreateRepository", "ecr:DescribeRepositories", "ecr:TagResource"]
        Resource = local.target_repository_arns
      },
      # ECR asks for these of whoever creates a repository with KMS encryption, which the source's settings may want. The target
      # region chooses the key, so no key is named here; but ECR alone can use it.
      {
        Sid      = "EncryptTarget"
        Effect   = "Allow"
        Action   = ["kms:CreateGrant", "kms:DescribeKey", "kms:RetireGrant"]
        Resource = [for region in sort(var.target_regions) : "arn:${local.partition}:kms:${region}:${local.account_id}:key/*"]
        Condition = {
          StringEquals = { "kms:ViaService" = [for region in sort(var.target_regions) : "ecr.${region}.amazonaws.com"] }
        }
      },
    ]

    copy-layers = concat(
      [
        {
          Sid      = "ReadSource"
          Effect   = "Allow"
          Action   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
          Resource = local.source_repository_arns
        },
        # The API's calls; a registry's endpoint, to which layers are streamed, asks for the same.
        {
          Sid    = "UploadToTarget"
          Effect = "Allow"
          Action = [
            "ecr:BatchCheckLayerAvailability",
            "ecr:CompleteLayerUpload",
            "ecr:InitiateLayerUpload",
            "ecr:UploadLayerPart",
          ]
          Resource = local.target_repository_arns
        },
      ],
      # What is streamed needs a token. It opens nothing that the statements above do not, and IAM knows no resource for it.
      var.copy_layers.uploads == "auto" ? [
        {
          Sid      = "SignInToTarget"
          Effect   = "Allow"
          Action   = ["ecr:GetAuthorizationToken"]
          Resource = ["*"]
        },
      ] : [],
    )

    put-manifest = [
      {
        Sid      = "ReadSource"
        Effect   = "Allow"
        Action   = ["ecr:BatchGetImage"]
        Resource = local.source_repository_arns
      },
      {
        Sid      = "PutToTarget"
        Effect   = "Allow"
        Action   = ["ecr:BatchGetImage", "ecr:PutImage"]
        Resource = local.target_repository_arns
      },
    ]

    report = [
      {
        Sid      = "CountRedrives"
        Effect   = "Allow"
        Action   = ["states:DescribeExecution"]
        Resource = ["arn:${local.partition}:states:${local.source_region}:${local.account_id}:execution:${local.state_machine_name}:*"]
      },
      {
        Sid       = "PublishReport"
        Effect    = "Allow"
        Action    = ["events:PutEvents"]
        Resource  = ["arn:${local.partition}:events:${local.source_region}:${local.account_id}:event-bus/default"]
        Condition = { StringEquals = { "events:source" = "ecr-replicator" } }
      },
    ]
  }

  function_policies = {
    for function, statements in local.function_statements : function => jsonencode({
      Version = "2012-10-17"
      Statement = concat(statements, [{
        Sid      = "WriteLogs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["arn:${local.partition}:logs:${local.source_region}:${local.account_id}:log-group:${aws_cloudwatch_log_group.function[function].name}:*"]
      }])
    })
  }

  state_machine_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "InvokeFunctions"
        Effect   = "Allow"
        Action   = ["lambda:InvokeFunction"]
        Resource = values(local.alias_arns)
      },
      # Log delivery belongs to the account, not to a log group: IAM knows no resource for these actions.
      {
        Sid    = "DeliverLogs"
        Effect = "Allow"
        Action = [
          "logs:CreateLogDelivery",
          "logs:DeleteLogDelivery",
          "logs:DescribeLogGroups",
          "logs:DescribeResourcePolicies",
          "logs:GetLogDelivery",
          "logs:ListLogDeliveries",
          "logs:PutResourcePolicy",
          "logs:UpdateLogDelivery",
        ]
        Resource = "*"
      },
      # Nor does it know one for a trace.
      {
        Sid    = "Trace"
        Effect = "Allow"
        Action = [
          "xray:GetSamplingRules",
          "xray:GetSamplingTargets",
          "xray:PutTelemetryRecords",
          "xray:PutTraceSegments",
        ]
        Resource = "*"
      },
    ]
  })

  event_rule_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "StartReplication"
      Effect   = "Allow"
      Action   = ["states:StartExecution"]
      Resource = [local.state_machine_arn]
    }]
  })

  function_trust_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })

  # The conditions keep the two services from using these roles for somebody else's state machine or rule.
  state_machine_trust_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "states.amazonaws.com" }
      Condition = {
        ArnEquals    = { "aws:SourceArn" = local.state_machine_arn }
        StringEquals = { "aws:SourceAccount" = local.account_id }
      }
    }]
  })

  event_rule_trust_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "events.amazonaws.com" }
      Condition = {
        ArnEquals    = { "aws:SourceArn" = local.rule_arn }
        StringEquals = { "aws:SourceAccount" = local.account_id }
      }
    }]
  })
}

resource "aws_iam_role" "function" {
  for_each = local.functions

  name               = "${local.role_name_prefix}-${each.key}"
  description        = "What the ${var.name}-${each.key} function may do"
  assume_role_policy = local.function_trust_policy

  tags = var.tags
}

resource "aws_iam_role_policy" "function" {
  for_each = local.functions

  name   = each.key
  role   = aws_iam_role.function[each.key].name
  policy = local.function_policies[each.key]

  lifecycle {
    precondition {
      condition     = length(local.function_policies[each.key]) <= 10240
      error_message = "The policy of ${each.key} has ${length(local.function_policies[each.key])} characters, and IAM takes 10240: join repositories in patterns, or name fewer target regions."
    }
  }
}

resource "aws_iam_role" "state_machine" {
  name               = "${local.role_name_prefix}-replicate-image"
  description        = "What the ${local.state_machine_name} state machine may do"
  assume_role_policy = local.state_machine_trust_policy

  tags = var.tags
}

resource "aws_iam_role_policy" "state_machine" {
  name   = "replicate-image"
  role   = aws_iam_role.state_machine.name
  policy = local.state_machine_policy
}

resource "aws_iam_role" "event_rule" {
  name               = "${local.role_name_prefix}-image-pushed"
  description        = "What the ${local.rule_name} rule may do"
  assume_role_policy = local.event_rule_trust_policy

  tags = var.tags
}

resource "aws_iam_role_policy" "event_rule" {
  name   = "image-pushed"
  role   = aws_iam_role.event_rule.name
  policy = local.event_rule_policy
}
