# Who may do what: the policies as they are applied.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  repositories   = ["prod/*", "base"]
  target_regions = ["us-east-1", "eu-west-1"]
  package_dir    = "./tests/packages"
}

run "each_function_may_do_what_it_calls_and_nothing_else" {
  command = plan

  assert {
    condition = {
      for step, policy in aws_iam_role_policy.function : step => flatten([
        for statement in jsondecode(policy.policy).Statement : [
          for action in statement.Action : "${statement.Sid} ${action}"
        ]
      ])
      } == {
      resolve-image = [
        "ReadSource ecr:BatchGetImage",
        "WriteLogs logs:CreateLogStream",
        "WriteLogs logs:PutLogEvents",
      ]
      ensure-repo = [
        "ReadSourceSettings ecr:DescribeRepositories",
        "ReadSourceSettings ecr:ListTagsForResource",
        "CreateTarget ecr:CreateRepository",
        "CreateTarget ecr:DescribeRepositories",
        "CreateTarget ecr:TagResource",
        "EncryptTarget kms:CreateGrant",
        "EncryptTarget kms:DescribeKey",
        "EncryptTarget kms:RetireGrant",
        "WriteLogs logs:CreateLogStream",
        "WriteLogs logs:PutLogEvents",
      ]
      copy-layers = [
        "ReadSource ecr:BatchGetImage",
        "ReadSource ecr:GetDownloadUrlForLayer",
        "UploadToTarget ecr:BatchCheckLayerAvailability",
        "UploadToTarget ecr:CompleteLayerUpload",
        "UploadToTarget ecr:InitiateLayerUpload",
        "UploadToTarget ecr:UploadLayerPart",
        "SignInToTarget ecr:GetAuthorizationToken",
        "WriteLogs logs:CreateLogStream",
        "WriteLogs logs:PutLogEvents",
      ]
      put-manifest = [
        "ReadSource ecr:BatchGetImage",
        "PutToTarget ecr:BatchGetImage",
        "PutToTarget ecr:PutImage",
        "WriteLogs logs:CreateLogStream",
        "WriteLogs logs:PutLogEvents",
      ]
      report = [
        "CountRedrives states:DescribeExecution",
        "PublishReport events:PutEvents",
        "WriteLogs logs:CreateLogStream",
        "WriteLogs logs:PutLogEvents",
      ]
    }
    error_message = "A function's policy lists other actions than the function calls."
  }
}

run "reading_is_of_the_source_and_writing_of_the_targets" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for policy in aws_iam_role_policy.function : [
        for statement in jsondecode(policy.policy).Statement : statement.Resource == [
          "arn:aws:ecr:eu-central-1:123456789012:repository/prod/*",
          "arn:aws:ecr:eu-central-1:123456789012:repository/base",
        ] if startswith(statement.Sid, "ReadSource")
      ]
    ]))
    error_message = "A source statement reaches beyond the named repositories of the source region."
  }

  assert {
    condition = alltrue(flatten([
      for policy in aws_iam_role_policy.function : [
        for statement in jsondecode(policy.policy).Statement : statement.Resource == [
          "arn:aws:ecr:eu-west-1:123456789012:repository/prod/*",
          "arn:aws:ecr:eu-west-1:123456789012:repository/base",
          "arn:aws:ecr:us-east-1:123456789012:repository/prod/*",
          "arn:aws:ecr:us-east-1:123456789012:repository/base",
        ] if contains(["CreateTarget", "UploadToTarget", "PutToTarget"], statement.Sid)
      ]
    ]))
    error_message = "A target statement reaches beyond the named repositories of the target regions."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.function["ensure-repo"].policy).Statement : statement if statement.Sid == "EncryptTarget"
      ] == [{
        Sid    = "EncryptTarget"
        Effect = "Allow"
        Action = ["kms:CreateGrant", "kms:DescribeKey", "kms:RetireGrant"]
        Resource = [
          "arn:aws:kms:eu-west-1:123456789012:key/*",
          "arn:aws:kms:us-east-1:123456789012:key/*",
        ]
        Condition = {
          StringEquals = { "kms:ViaService" = ["ecr.eu-west-1.amazonaws.com", "ecr.us-east-1.amazonaws.com"] }
        }
    }]
    error_message = "Keys may be used in the target regions and through ECR only."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.function["report"].policy).Statement : statement if statement.Sid != "WriteLogs"
      ] == [
      {
        Sid      = "CountRedrives"
        Effect   = "Allow"
        Action   = ["states:DescribeExecution"]
        Resource = ["arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-replicate-image:*"]
      },
      {
        Sid       = "PublishReport"
        Effect    = "Allow"
        Action    = ["events:PutEvents"]
        Resource  = ["arn:aws:events:eu-central-1:123456789012:event-bus/default"]
        Condition = { StringEquals = { "events:source" = "ecr-replicator" } }
      },
    ]
    error_message = "The report function describes this state machine's executions and publishes its own events, nothing else."
  }

  assert {
    condition = alltrue([
      for step, policy in aws_iam_role_policy.function : [
        for statement in jsondecode(policy.policy).Statement : statement.Resource if statement.Sid == "WriteLogs"
      ] == [["arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/ecr-replicator-${step}:*"]]
    ])
    error_message = "A function writes to its own log group only."
  }
}

run "without_streams_no_token_is_asked_for" {
  command = plan

  variables {
    copy_layers = { uploads = "parts" }
  }

  assert {
    condition = flatten([
      for statement in jsondecode(aws_iam_role_policy.function["copy-layers"].policy).Statement : [
        for action in statement.Action : "${statement.Sid} ${action}"
      ]
      ]) == [
      "ReadSource ecr:BatchGetImage",
      "ReadSource ecr:GetDownloadUrlForLayer",
      "UploadToTarget ecr:BatchCheckLayerAvailability",
      "UploadToTarget ecr:CompleteLayerUpload",
      "UploadToTarget ecr:InitiateLayerUpload",
      "UploadToTarget ecr:UploadLayerPart",
      "WriteLogs logs:CreateLogStream",
      "WriteLogs logs:PutLogEvents",
    ]
    error_message = "The copy-layers function may do something else than copy by parts."
  }
}

run "no_policy_has_a_wildcard_action_and_few_a_wildcard_resource" {
  command = plan

  assert {
    condition = alltrue([
      for action in flatten([
        for policy in concat(
          values(aws_iam_role_policy.function)[*].policy,
          [aws_iam_role_policy.state_machine.policy, aws_iam_role_policy.event_rule.policy],
        ) : [for statement in jsondecode(policy).Statement : statement.Action]
      ]) : !strcontains(action, "*")
    ])
    error_message = "A policy has a wildcard action."
  }

  assert {
    condition = alltrue([
      for resource in flatten([
        for policy in concat(values(aws_iam_role_policy.function)[*].policy, [aws_iam_role_policy.event_rule.policy]) :
        [for statement in jsondecode(policy).Statement : statement.Resource if statement.Action != ["ecr:GetAuthorizationToken"]]
      ]) : can(regex("^arn:aws:[a-z]+:[a-z0-9-]+:123456789012:.+", resource))
    ])
    error_message = "A policy beside the state machine's has a resource that is not bound to a service, a region and the account, and not for a token alone."
  }
}

run "the_state_machine_invokes_the_aliases_and_delivers_logs_and_traces" {
  command = plan

  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.state_machine.policy).Statement : statement.Sid => statement
      } == {
      InvokeFunctions = {
        Sid    = "InvokeFunctions"
        Effect = "Allow"
        Action = ["lambda:InvokeFunction"]
        Resource = [
          "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-copy-layers:live",
          "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-ensure-repo:live",
          "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-put-manifest:live",
          "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-report:live",
          "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-resolve-image:live",
        ]
      }
      DeliverLogs = {
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
      }
      Trace = {
        Sid    = "Trace"
        Effect = "Allow"
        Action = [
          "xray:GetSamplingRules",
          "xray:GetSamplingTargets",
          "xray:PutTelemetryRecords",
          "xray:PutTraceSegments",
        ]
        Resource = "*"
      }
    }
    error_message = "The state machine may do something else than call its functions, log and trace."
  }
}

run "roles_are_assumed_by_their_own_service_for_their_own_resource" {
  command = plan

  assert {
    condition = alltrue([
      for role in aws_iam_role.function : jsondecode(role.assume_role_policy).Statement == [{
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "lambda.amazonaws.com" }
      }]
    ])
    error_message = "A function's role may be assumed by something else than Lambda."
  }

  assert {
    condition = jsondecode(aws_iam_role.state_machine.assume_role_policy).Statement == [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "states.amazonaws.com" }
      Condition = {
        ArnEquals    = { "aws:SourceArn" = "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image" }
        StringEquals = { "aws:SourceAccount" = "123456789012" }
      }
    }]
    error_message = "The state machine's role may be assumed for something else than this state machine."
  }

  assert {
    condition = jsondecode(aws_iam_role.event_rule.assume_role_policy).Statement == [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "events.amazonaws.com" }
      Condition = {
        ArnEquals    = { "aws:SourceArn" = "arn:aws:events:eu-central-1:123456789012:rule/ecr-replicator-image-pushed" }
        StringEquals = { "aws:SourceAccount" = "123456789012" }
      }
    }]
    error_message = "The rule's role may be assumed for something else than this rule."
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.event_rule.policy).Statement == [{
      Sid      = "StartReplication"
      Effect   = "Allow"
      Action   = ["states:StartExecution"]
      Resource = ["arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image"]
    }]
    error_message = "The rule may do something else than start this state machine."
  }

  assert {
    condition     = length(distinct(concat(values(aws_iam_role.function)[*].name, [aws_iam_role.state_machine.name, aws_iam_role.event_rule.name]))) == 7
    error_message = "Two of the seven share a role."
  }
}

run "the_longest_names_fit_a_role" {
  command = plan

  variables {
    name           = "a2345678901234567890123456789012"
    target_regions = ["eu-central-1"]
  }

  override_data {
    target = data.aws_region.current
    values = { id = "ap-southeast-2" }
  }

  assert {
    condition     = aws_iam_role.state_machine.name == "a2345678901234567890123456789012-ap-southeast-2-replicate-image"
    error_message = "A role's name has more than its three parts."
  }
}

run "other_partitions_have_arns_of_their_own" {
  command = plan

  variables {
    target_regions = ["cn-northwest-1"]
  }

  override_data {
    target = data.aws_region.current
    values = { id = "cn-north-1" }
  }

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-cn" }
  }

  assert {
    condition = alltrue([
      for resource in flatten([
        for policy in concat(
          values(aws_iam_role_policy.function)[*].policy,
          [aws_iam_role_policy.state_machine.policy, aws_iam_role_policy.event_rule.policy],
        ) : [for statement in jsondecode(policy).Statement : statement.Resource]
      ]) : resource == "*" || startswith(resource, "arn:aws-cn:")
    ])
    error_message = "A policy names an ARN of another partition."
  }

  assert {
    condition     = !strcontains(aws_sfn_state_machine.this.definition, "arn:aws:")
    error_message = "The state machine names an ARN of another partition."
  }

  assert {
    condition     = startswith(output.state_machine_console_url, "https://cn-north-1.console.amazonaws.cn/states/home?region=cn-north-1#/statemachines/view/arn%3Aaws-cn%3Astates%3Acn-north-1%3A")
    error_message = "The console of another partition is elsewhere."
  }
}

run "a_policy_that_iam_would_not_take_is_found_by_the_plan" {
  command = plan

  variables {
    repositories   = [for index in range(100) : "prod/application-${index}"]
    target_regions = ["us-east-1", "eu-west-1"]
  }

  expect_failures = [
    aws_iam_role_policy.function["ensure-repo"],
    aws_iam_role_policy.function["copy-layers"],
    aws_iam_role_policy.function["put-manifest"],
  ]
}
