# One role per function, each with what that function calls and nothing else. The policies are locals, not policy documents:
# so the tests read the very JSON that is applied.

locals {
  # A pattern that another one takes in adds nothing but length.
  source_patterns = distinct(flatten([for rule in module.rules.rules : rule.repositories]))
  source_repository_arns = [
    for pattern in local.source_patterns : "${module.rules.source_arn_prefix}${pattern}"
    if !anytrue([
      for other in local.source_patterns : other != pattern && can(regex(local.pattern_expressions[other], pattern))
    ])
  ]

  # Targets in this account, and those of a registry that trusts these roles by its repositories' policies. In a registry with a
  # role of its own that role is what is allowed.
  targets          = flatten([for rule in module.rules.rules : rule.targets])
  roleless_targets = [for target in local.targets : target if target.role_arn == null]
  creating_targets = [for target in local.roleless_targets : target if target.settings != "none"]
  target_role_arns = sort(distinct([for target in local.targets : target.role_arn if target.role_arn != null]))
  creating_regions = sort(distinct([for target in local.creating_targets : target.region]))
  # Where a target names no key, or one of this account's by its alias, it may be any of them.
  own_key_regions = sort(distinct([
    for target in local.creating_targets : target.region
    if target.key_arn == null || strcontains(coalesce(target.key_arn, "-"), ":${local.account_id}:alias/")
  ]))

  synced_targets = [for target in local.targets : target if target.settings == "sync"]

  target_patterns = {
    for purpose, targets in {
      written   = local.roleless_targets
      created   = local.creating_targets
      synced    = [for target in local.creating_targets : target if target.settings == "sync"]
      described = [for target in local.roleless_targets : target if target.settings == "none"]
      } : purpose => distinct(flatten([
        for target in targets : [
          for pattern in target.repositories : {
            registry = "arn:${local.partition}:ecr:${target.region}:${target.account}:repository/"
            pattern  = pattern
          }
        ]
    ]))
  }
  target_repository_arns = {
    for purpose, entries in local.target_patterns : purpose => sort([
      for entry in entries : "${entry.registry}${entry.pattern}"
      if !anytrue([
        for other in entries : other.registry == entry.registry && other.pattern != entry.pattern
        && can(regex(local.pattern_expressions[other.pattern], entry.pattern))
      ])
    ])
  }

  pattern_expressions = {
    for pattern in distinct(concat(local.source_patterns, flatten(local.targets[*].repositories))) :
    pattern => "^${replace(replace(pattern, ".", "[.]"), "*", ".*")}$"
  }

  # Keys are named; an alias is no resource to IAM, so any of that account's keys may be the one meant.
  named_key_arns = distinct([
    for target in local.creating_targets : replace(target.key_arn, "/:alias/.*$/", ":key/*")
    if target.key_arn != null
    && !(strcontains(coalesce(target.key_arn, "-"), ":${local.account_id}:") && contains(local.own_key_regions, target.region))
  ])

  function_statements = {
    for function, statements in local.possible_function_statements : function => [
      for statement in statements : statement if length(statement.Resource) > 0
    ]
  }

  # One without a resource is left out.
  possible_function_statements = {
    # ecr:BatchGetImage allows ListImageReferrers, too. Indexes are looked through for an image without a tag, and tags for what a
    # signature's says that it signs.
    resolve-image = [
      {
        Sid    = "ReadSource"
        Effect = "Allow"
        Action = concat(
          ["ecr:BatchGetImage"],
          anytrue([for rule in module.rules.rules : rule.looks_up]) ? ["ecr:DescribeImages"] : [],
        )
        Resource = local.source_repository_arns
      },
    ]

    ensure-repo = [
      {
        Sid    = "ReadSourceSettings"
        Effect = "Allow"
        Action = [
          "ecr:DescribeRepositories",
          "ecr:GetLifecyclePolicy",
          "ecr:GetRepositoryPolicy",
          "ecr:ListTagsForResource",
        ]
        Resource = anytrue([for target in local.targets : target.settings != "none"]) ? local.source_repository_arns : []
      },
      {
        Sid    = "CreateTarget"
        Effect = "Allow"
        Action = [
          "ecr:CreateRepository",
          "ecr:DescribeRepositories",
          # An attempt that was stopped after it made the repository is completed by whoever comes next and looks what is there.
          "ecr:GetLifecyclePolicy",
          "ecr:GetRepositoryPolicy",
          "ecr:ListTagsForResource",
          "ecr:PutLifecyclePolicy",
          "ecr:SetRepositoryPolicy",
          "ecr:TagResource",
        ]
        Resource = local.target_repository_arns.created
      },
      # The tag that says so goes when that is done, and no other. ForAllValues holds for a request without keys, too: so there must
      # be some.
      {
        Sid    = "UnmarkTarget"
        Effect = "Allow"
        Action = ["ecr:UntagResource"]
        Resource = [
          for arn in local.target_repository_arns.created : arn if !contains(local.target_repository_arns.synced, arn)
        ]
        Condition = {
          "ForAllValues:StringEquals" = { "aws:TagKeys" = ["ecr-replicator:incomplete"] }
          Null                        = { "aws:TagKeys" = "false" }
        }
      },
      # Beside the above.
      {
        Sid    = "SyncTarget"
        Effect = "Allow"
        Action = [
          "ecr:DeleteLifecyclePolicy",
          "ecr:DeleteRepositoryPolicy",
          "ecr:PutImageScanningConfiguration",
          "ecr:PutImageTagMutability",
          "ecr:UntagResource",
        ]
        Resource = local.target_repository_arns.synced
      },
      {
        Sid      = "DescribeTarget"
        Effect   = "Allow"
        Action   = ["ecr:DescribeRepositories"]
        Resource = local.target_repository_arns.described
      },
      # ECR asks for these of whoever creates a repository with KMS encryption, which the source's settings may want. Where no
      # target names a key, the target region chooses one; but ECR alone can use it.
      {
        Sid    = "EncryptTarget"
        Effect = "Allow"
        Action = ["kms:CreateGrant", "kms:DescribeKey", "kms:RetireGrant"]
        Resource = concat(
          [for region in local.own_key_regions : "arn:${local.partition}:kms:${region}:${local.account_id}:key/*"],
          local.named_key_arns,
        )
        Condition = {
          StringEquals = { "kms:ViaService" = [for region in local.creating_regions : "ecr.${region}.amazonaws.com"] }
        }
      },
      local.assume_target_roles,
    ]

    copy-layers = [
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
        Resource = local.target_repository_arns.written
      },
      # What is streamed needs a token. It opens nothing that the statements above do not, and IAM knows no resource for it.
      {
        Sid      = "SignInToTarget"
        Effect   = "Allow"
        Action   = ["ecr:GetAuthorizationToken"]
        Resource = var.copy_layers.uploads == "auto" && length(local.roleless_targets) > 0 ? ["*"] : []
      },
      local.assume_target_roles,
    ]

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
        Resource = local.target_repository_arns.written
      },
      local.assume_target_roles,
    ]

    report = [
      {
        Sid      = "CountRedrives"
        Effect   = "Allow"
        Action   = ["states:DescribeExecution"]
        Resource = [local.execution_arns.replicate]
      },
      local.publish_report,
    ]

    find-differences = [
      # A list has all repositories of the registry, so IAM asks for all of them.
      {
        Sid      = "ListSource"
        Effect   = "Allow"
        Action   = ["ecr:DescribeRepositories"]
        Resource = ["${module.rules.source_arn_prefix}*"]
      },
      {
        Sid    = "ReadSource"
        Effect = "Allow"
        Action = concat(
          ["ecr:BatchGetImage", "ecr:DescribeImages"],
          length(local.synced_targets) > 0 ? ["ecr:GetLifecyclePolicy", "ecr:GetRepositoryPolicy", "ecr:ListTagsForResource"] : [],
        )
        Resource = local.source_repository_arns
      },
      # What a target has; and, for a plan, which layers.
      {
        Sid      = "ReadTarget"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:DescribeImages"]
        Resource = local.target_repository_arns.written
      },
      {
        Sid      = "ReadSyncedTarget"
        Effect   = "Allow"
        Action   = ["ecr:DescribeRepositories", "ecr:GetLifecyclePolicy", "ecr:GetRepositoryPolicy", "ecr:ListTagsForResource"]
        Resource = local.target_repository_arns.synced
      },
      local.assume_target_roles,
      {
        Sid      = "KeepRuns"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
        Resource = ["${local.runs_bucket_arn}/runs/*"]
      },
      local.list_runs,
      local.encrypt_runs,
      # Whether a run is under way, and, for a plan, how fast images went.
      {
        Sid      = "FindExecutions"
        Effect   = "Allow"
        Action   = ["states:ListExecutions"]
        Resource = [local.reconcile_arn, local.state_machine_arn]
      },
      {
        Sid      = "ReadReplications"
        Effect   = "Allow"
        Action   = ["states:DescribeExecution"]
        Resource = [local.execution_arns.replicate]
      },
    ]

    report-differences = [
      {
        Sid      = "KeepReports"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject"]
        Resource = ["${local.runs_bucket_arn}/runs/*"]
      },
      local.list_runs,
      local.encrypt_runs,
      {
        Sid      = "CountRedrives"
        Effect   = "Allow"
        Action   = ["states:DescribeExecution", "states:ListMapRuns"]
        Resource = [local.execution_arns.reconcile]
      },
      {
        Sid      = "FindFailedChildren"
        Effect   = "Allow"
        Action   = ["states:ListExecutions"]
        Resource = ["${local.states_arn_prefix}:mapRun:${local.reconcile_name}/*:*"]
      },
      {
        Sid      = "ReadFailedChildren"
        Effect   = "Allow"
        Action   = ["states:DescribeExecution"]
        Resource = [local.execution_arns.children]
      },
      local.publish_report,
    ]
  }

  # A Map's child executions are those of a state machine that is named after both.
  execution_arns = {
    replicate = "${local.states_arn_prefix}:execution:${local.state_machine_name}:*"
    reconcile = "${local.states_arn_prefix}:execution:${local.reconcile_name}:*"
    children  = "${local.states_arn_prefix}:execution:${local.reconcile_name}/*:*"
  }

  assume_target_roles = {
    Sid      = "AssumeTargetRoles"
    Effect   = "Allow"
    Action   = ["sts:AssumeRole"]
    Resource = local.target_role_arns
  }

  # Without it, an object that is not there is one that is forbidden.
  list_runs = {
    Sid      = "ListRuns"
    Effect   = "Allow"
    Action   = ["s3:ListBucket"]
    Resource = [local.runs_bucket_arn]
  }

  # What is in the bucket is encrypted with the user's key, if there is one. S3 uses it for whoever reads or writes.
  encrypt_runs = {
    Sid       = "EncryptRuns"
    Effect    = "Allow"
    Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
    Resource  = var.kms_key_arn[*]
    Condition = { StringEquals = { "kms:ViaService" = "s3.${local.source_region}.amazonaws.com" } }
  }

  publish_report = {
    Sid       = "PublishReport"
    Effect    = "Allow"
    Action    = ["events:PutEvents"]
    Resource  = ["arn:${local.partition}:events:${local.source_region}:${local.account_id}:event-bus/default"]
    Condition = { StringEquals = { "events:source" = "ecr-replicator" } }
  }

  function_policies = {
    for function, statements in local.function_statements : function => jsonencode({
      Version = "2012-10-17"
      Statement = concat(statements, lookup(local.network_statements, function, []), [
        {
          Sid      = "WriteLogs"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = ["arn:${local.partition}:logs:${local.source_region}:${local.account_id}:log-group:${aws_cloudwatch_log_group.function[function].name}:*"]
        },
        # IAM knows no resource for a trace.
        {
          Sid      = "Trace"
          Effect   = "Allow"
          Action   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
          Resource = ["*"]
        },
      ])
    })
  }

  # Lambda makes a network interface for each subnet and set of security groups, in the function's name. The function's code has the role,
  # too, and no use for that. Shared subnets and security groups are another account's.
  network_statements = {
    for function in keys(local.functions) : function => [
      {
        Sid    = "AttachToNetwork"
        Effect = "Allow"
        Action = ["ec2:CreateNetworkInterface"]
        Resource = concat(
          ["arn:${local.partition}:ec2:${local.source_region}:${local.account_id}:network-interface/*"],
          [for id in sort(var.vpc.security_group_ids) : "arn:${local.partition}:ec2:${local.source_region}:*:security-group/${id}"],
          [for id in sort(var.vpc.subnet_ids) : "arn:${local.partition}:ec2:${local.source_region}:*:subnet/${id}"],
        )
      },
      # Lambda makes no function in a VPC unless its role may do this to whatever there is, as AWS's guide says: narrowed to interfaces,
      # the role fails the check. KeepFromCode leaves it to Lambda.
      {
        Sid      = "ManageInterfaces"
        Effect   = "Allow"
        Action   = ["ec2:AssignPrivateIpAddresses", "ec2:DeleteNetworkInterface", "ec2:UnassignPrivateIpAddresses"]
        Resource = ["arn:${local.partition}:ec2:${local.source_region}:${local.account_id}:*/*"]
      },
      # IAM knows no resource for what only looks.
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
        Condition = { ArnEquals = { "lambda:SourceFunctionArn" = "arn:${local.partition}:lambda:${local.source_region}:${local.account_id}:function:${var.name}-${function}" } }
      },
    ] if var.vpc != null
  }

  # The functions that each state machine runs.
  state_machine_functions = {
    replicate = ["copy-layers", "ensure-repo", "put-manifest", "report", "resolve-image"]
    reconcile = ["find-differences", "report-differences"]
  }

  state_machine_policies = {
    for machine, statements in { replicate = [], reconcile = local.reconcile_statements } : machine => jsonencode({
      Version = "2012-10-17"
      Statement = concat(
        [{
          Sid      = "InvokeFunctions"
          Effect   = "Allow"
          Action   = ["lambda:InvokeFunction"]
          Resource = [for function in local.state_machine_functions[machine] : local.alias_arns[function]]
        }],
        statements,
        local.observed_statements,
      )
    })
  }

  # One without a resource is left out.
  reconcile_statements = [for statement in local.possible_reconcile_statements : statement if length(statement.Resource) > 0]
  possible_reconcile_statements = [
    {
      Sid      = "StartReplications"
      Effect   = "Allow"
      Action   = ["states:StartExecution"]
      Resource = [local.state_machine_arn]
    },
    {
      Sid      = "FollowReplications"
      Effect   = "Allow"
      Action   = ["states:DescribeExecution", "states:StopExecution"]
      Resource = [local.execution_arns.replicate]
    },
    # By a rule that Step Functions makes for itself, it hears of their ends.
    {
      Sid      = "HearOfReplications"
      Effect   = "Allow"
      Action   = ["events:DescribeRule", "events:PutRule", "events:PutTargets"]
      Resource = ["arn:${local.partition}:events:${local.source_region}:${local.account_id}:rule/StepFunctionsGetEventsForStepFunctionsExecutionRule"]
    },
    # A Map starts, follows and redrives its children in the name of its own state machine.
    {
      Sid      = "StartChildren"
      Effect   = "Allow"
      Action   = ["states:StartExecution"]
      Resource = [local.reconcile_arn]
    },
    {
      Sid      = "FollowChildren"
      Effect   = "Allow"
      Action   = ["states:DescribeExecution", "states:StopExecution"]
      Resource = [local.execution_arns.reconcile, local.execution_arns.children]
    },
    {
      Sid      = "RedriveChildren"
      Effect   = "Allow"
      Action   = ["states:RedriveExecution"]
      Resource = [local.execution_arns.children]
    },
    # It reads the lists, and writes what the children came to.
    {
      Sid      = "ReadLists"
      Effect   = "Allow"
      Action   = ["s3:ListBucket"]
      Resource = [local.runs_bucket_arn]
    },
    {
      Sid      = "KeepResults"
      Effect   = "Allow"
      Action   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"]
      Resource = ["${local.runs_bucket_arn}/runs/*"]
    },
    local.encrypt_runs,
  ]

  observed_statements = [
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
    # Nor does it know one for a trace; the state machine is what decides whether there is one.
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

  schedule_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [for statement in local.schedule_statements : statement if length(statement.Resource) > 0]
  })
  schedule_statements = [
    {
      Sid      = "StartReconcile"
      Effect   = "Allow"
      Action   = ["states:StartExecution"]
      Resource = [local.reconcile_arn]
    },
    {
      Sid      = "KeepWhatDidNotStart"
      Effect   = "Allow"
      Action   = ["sqs:SendMessage"]
      Resource = ["arn:${local.partition}:sqs:${local.source_region}:${local.account_id}:${local.reconcile_dead_letter_queue_name}"]
    },
    # EventBridge Scheduler sends in the role's name, and SQS uses the key for whoever sends.
    {
      Sid       = "EncryptWhatDidNotStart"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = var.kms_key_arn[*]
      Condition = { StringEquals = { "kms:ViaService" = "sqs.${local.source_region}.amazonaws.com" } }
    },
  ]

  # The conditions keep the services from using these roles for somebody else's state machine, rules or schedules.
  state_machine_trust_policies = {
    # The children of a Map Run are of the state machine and the Map's label.
    for machine, arns in { replicate = [local.state_machine_arn], reconcile = [local.reconcile_arn, "${local.reconcile_arn}/*"] } : machine => jsonencode({
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "states.amazonaws.com" }
        Condition = {
          ArnLike      = { "aws:SourceArn" = arns }
          StringEquals = { "aws:SourceAccount" = local.account_id }
        }
      }]
    })
  }

  # Of a schedule, EventBridge Scheduler tells the group.
  schedule_trust_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      Condition = {
        ArnEquals    = { "aws:SourceArn" = "arn:${local.partition}:scheduler:${local.source_region}:${local.account_id}:schedule-group/default" }
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
        ArnLike      = { "aws:SourceArn" = local.rule_arn_pattern }
        StringEquals = { "aws:SourceAccount" = local.account_id }
      }
    }]
  })
}

resource "aws_iam_role" "function" {
  for_each = local.functions

  # The longest that the module's name and the region may make it: the end of a step's name can be spared.
  name               = substr("${local.role_name_prefix}-${each.key}", 0, 64)
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
      error_message = "The policy of ${each.key} has ${length(local.function_policies[each.key])} characters, and IAM takes 10240: join repositories in patterns, or name fewer targets."
    }
  }
}

resource "aws_iam_role" "state_machine" {
  name               = "${local.role_name_prefix}-replicate-image"
  description        = "What the ${local.state_machine_name} state machine may do"
  assume_role_policy = local.state_machine_trust_policies.replicate

  tags = var.tags
}

resource "aws_iam_role_policy" "state_machine" {
  name   = "replicate-image"
  role   = aws_iam_role.state_machine.name
  policy = local.state_machine_policies.replicate
}

resource "aws_iam_role" "reconcile" {
  name               = substr("${local.role_name_prefix}-reconcile-registry", 0, 64)
  description        = "What the ${local.reconcile_name} state machine may do"
  assume_role_policy = local.state_machine_trust_policies.reconcile

  tags = var.tags
}

resource "aws_iam_role_policy" "reconcile" {
  name   = "reconcile-registry"
  role   = aws_iam_role.reconcile.name
  policy = local.state_machine_policies.reconcile
}

resource "aws_iam_role" "schedule" {
  name               = "${local.role_name_prefix}-reconcile"
  description        = "What the ${var.name} schedule may do"
  assume_role_policy = local.schedule_trust_policy

  tags = var.tags
}

resource "aws_iam_role_policy" "schedule" {
  name   = "reconcile"
  role   = aws_iam_role.schedule.name
  policy = local.schedule_policy
}

resource "aws_iam_role" "event_rule" {
  name               = "${local.role_name_prefix}-image-pushed"
  description        = "What the ${var.name} event rules may do"
  assume_role_policy = local.event_rule_trust_policy

  tags = var.tags
}

resource "aws_iam_role_policy" "event_rule" {
  name   = "image-pushed"
  role   = aws_iam_role.event_rule.name
  policy = local.event_rule_policy
}
