# Who may do what: the policies as they are applied.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  rules = {
    all = {
      repositories = { include = ["prod/*", "base"] }
      targets      = [{ region = "us-east-1" }, { region = "eu-west-1" }]
    }
  }
  package_dir = "./tests/packages"
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
        "Trace xray:PutTelemetryRecords",
        "Trace xray:PutTraceSegments",
      ]
      ensure-repo = [
        "ReadSourceSettings ecr:DescribeRepositories",
        "ReadSourceSettings ecr:GetLifecyclePolicy",
        "ReadSourceSettings ecr:GetRepositoryPolicy",
        "ReadSourceSettings ecr:ListTagsForResource",
        "CreateTarget ecr:CreateRepository",
        "CreateTarget ecr:DescribeRepositories",
        "CreateTarget ecr:GetLifecyclePolicy",
        "CreateTarget ecr:GetRepositoryPolicy",
        "CreateTarget ecr:ListTagsForResource",
        "CreateTarget ecr:PutLifecyclePolicy",
        "CreateTarget ecr:SetRepositoryPolicy",
        "CreateTarget ecr:TagResource",
        "UnmarkTarget ecr:UntagResource",
        "EncryptTarget kms:CreateGrant",
        "EncryptTarget kms:DescribeKey",
        "EncryptTarget kms:RetireGrant",
        "WriteLogs logs:CreateLogStream",
        "WriteLogs logs:PutLogEvents",
        "Trace xray:PutTelemetryRecords",
        "Trace xray:PutTraceSegments",
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
        "Trace xray:PutTelemetryRecords",
        "Trace xray:PutTraceSegments",
      ]
      put-manifest = [
        "ReadSource ecr:BatchGetImage",
        "PutToTarget ecr:BatchGetImage",
        "PutToTarget ecr:PutImage",
        "WriteLogs logs:CreateLogStream",
        "WriteLogs logs:PutLogEvents",
        "Trace xray:PutTelemetryRecords",
        "Trace xray:PutTraceSegments",
      ]
      find-differences = [
        "ListSource ecr:DescribeRepositories",
        "ReadSource ecr:BatchGetImage",
        "ReadSource ecr:DescribeImages",
        "ReadTarget ecr:BatchCheckLayerAvailability",
        "ReadTarget ecr:DescribeImages",
        "KeepRuns s3:DeleteObject",
        "KeepRuns s3:GetObject",
        "KeepRuns s3:PutObject",
        "ListRuns s3:ListBucket",
        "FindExecutions states:ListExecutions",
        "ReadReplications states:DescribeExecution",
        "WriteLogs logs:CreateLogStream",
        "WriteLogs logs:PutLogEvents",
        "Trace xray:PutTelemetryRecords",
        "Trace xray:PutTraceSegments",
      ]
      report-differences = [
        "KeepReports s3:GetObject",
        "KeepReports s3:PutObject",
        "ListRuns s3:ListBucket",
        "CountRedrives states:DescribeExecution",
        "CountRedrives states:ListMapRuns",
        "FindFailedChildren states:ListExecutions",
        "ReadFailedChildren states:DescribeExecution",
        "PublishReport events:PutEvents",
        "WriteLogs logs:CreateLogStream",
        "WriteLogs logs:PutLogEvents",
        "Trace xray:PutTelemetryRecords",
        "Trace xray:PutTraceSegments",
      ]
      report = [
        "CountRedrives states:DescribeExecution",
        "PublishReport events:PutEvents",
        "WriteLogs logs:CreateLogStream",
        "WriteLogs logs:PutLogEvents",
        "Trace xray:PutTelemetryRecords",
        "Trace xray:PutTraceSegments",
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
          "arn:aws:ecr:eu-west-1:123456789012:repository/base",
          "arn:aws:ecr:eu-west-1:123456789012:repository/prod/*",
          "arn:aws:ecr:us-east-1:123456789012:repository/base",
          "arn:aws:ecr:us-east-1:123456789012:repository/prod/*",
        ] if contains(["CreateTarget", "UnmarkTarget", "UploadToTarget", "PutToTarget", "ReadTarget"], statement.Sid)
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
      for statement in jsondecode(aws_iam_role_policy.function["ensure-repo"].policy).Statement : statement.Condition
      if statement.Sid == "UnmarkTarget"
      ] == [{
        "ForAllValues:StringEquals" = { "aws:TagKeys" = ["ecr-replicator:incomplete"] }
        Null                        = { "aws:TagKeys" = "false" }
    }]
    error_message = "A new repository loses its mark, and no other tag."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.function["report"].policy).Statement : statement if !contains(["WriteLogs", "Trace"], statement.Sid)
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

run "images_without_a_tag_and_filtered_tags_are_looked_up" {
  command = plan

  variables {
    rules = {
      all      = { targets = [{ region = "us-east-1" }] }
      untagged = { untagged = true, targets = [{ region = "us-east-1" }] }
    }
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.function["resolve-image"].policy).Statement[0].Action == ["ecr:BatchGetImage", "ecr:DescribeImages"]
    error_message = "resolve-image may not look for the index that an image without a tag is in."
  }
}

run "each_target_is_written_as_its_settings_and_its_registry_say" {
  command = plan

  variables {
    rules = {
      all = {
        repositories = { include = ["prod/*"] }
        tags         = { include = ["v*"] }
        targets = [
          { region = "us-east-1" },
          { region = "us-east-2", repository_prefix = "mirror/", settings = "sync" },
          { region = "us-west-1", replace_prefix = { from = "prod/", to = "dr/" }, settings = "none" },
          { region = "us-west-2", registry_id = "222222222222", settings = "none" },
          { region = "us-west-2", registry_id = "123456789012" },
          { region = "eu-west-1", registry_id = "333333333333", role_arn = "arn:aws:iam::333333333333:role/x", settings = "sync" },
          { region = "eu-west-2", registry_id = "333333333333", role_arn = "arn:aws:iam::333333333333:role/x" },
        ]
      }
      # Within what the other one reads and writes.
      app = {
        repositories = { include = ["prod/app"] }
        targets      = [{ region = "us-east-1" }, { region = "eu-west-3", registry_id = "222222222222", role_arn = "arn:aws:iam::222222222222:role/x" }]
      }
      base = {
        repositories = { include = ["base"], exclude = ["other"] }
        targets = [
          { region = "us-east-1", repository = "fixed", kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/own" },
          { region = "us-east-2", repository = "fixed", kms_key_arn = "arn:aws:kms:us-east-2:444444444444:key/foreign" },
          { region = "us-west-2", repository = "fixed", kms_key_arn = "arn:aws:kms:us-west-2:555555555555:alias/foreign" },
        ]
      }
    }
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.function["resolve-image"].policy).Statement[0] == {
      Sid      = "ReadSource"
      Effect   = "Allow"
      Action   = ["ecr:BatchGetImage", "ecr:DescribeImages"]
      Resource = ["arn:aws:ecr:eu-central-1:123456789012:repository/prod/*", "arn:aws:ecr:eu-central-1:123456789012:repository/base"]
    }
    error_message = "resolve-image reads other repositories than the rules include, or may not look a signature's image up."
  }

  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.function["ensure-repo"].policy).Statement : statement.Sid => statement.Resource
      if !contains(["WriteLogs", "Trace"], statement.Sid)
      } == {
      ReadSourceSettings = ["arn:aws:ecr:eu-central-1:123456789012:repository/prod/*", "arn:aws:ecr:eu-central-1:123456789012:repository/base"]
      CreateTarget = [
        "arn:aws:ecr:us-east-1:123456789012:repository/fixed",
        "arn:aws:ecr:us-east-1:123456789012:repository/prod/*",
        "arn:aws:ecr:us-east-2:123456789012:repository/fixed",
        "arn:aws:ecr:us-east-2:123456789012:repository/mirror/prod/*",
        "arn:aws:ecr:us-west-2:123456789012:repository/fixed",
        "arn:aws:ecr:us-west-2:123456789012:repository/prod/*",
      ]
      # Any tag may be taken off those that are synchronized.
      UnmarkTarget = [
        "arn:aws:ecr:us-east-1:123456789012:repository/fixed",
        "arn:aws:ecr:us-east-1:123456789012:repository/prod/*",
        "arn:aws:ecr:us-east-2:123456789012:repository/fixed",
        "arn:aws:ecr:us-west-2:123456789012:repository/fixed",
        "arn:aws:ecr:us-west-2:123456789012:repository/prod/*",
      ]
      SyncTarget = ["arn:aws:ecr:us-east-2:123456789012:repository/mirror/prod/*"]
      DescribeTarget = [
        "arn:aws:ecr:us-west-1:123456789012:repository/dr/*",
        "arn:aws:ecr:us-west-2:222222222222:repository/prod/*",
      ]
      EncryptTarget = [
        "arn:aws:kms:us-east-1:123456789012:key/*",
        "arn:aws:kms:us-east-2:123456789012:key/*",
        "arn:aws:kms:us-west-2:123456789012:key/*",
        "arn:aws:kms:us-east-2:444444444444:key/foreign",
        "arn:aws:kms:us-west-2:555555555555:key/*",
      ]
      AssumeTargetRoles = ["arn:aws:iam::222222222222:role/x", "arn:aws:iam::333333333333:role/x"]
    }
    error_message = "ensure-repo makes, changes, describes or encrypts other repositories than the rules' targets."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.function["ensure-repo"].policy).Statement : statement.Action if statement.Sid == "SyncTarget"
      ] == [[
        "ecr:DeleteLifecyclePolicy",
        "ecr:DeleteRepositoryPolicy",
        "ecr:PutImageScanningConfiguration",
        "ecr:PutImageTagMutability",
        "ecr:UntagResource",
    ]]
    error_message = "ensure-repo may do something else to an existing repository than bring it to the same."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.function["ensure-repo"].policy).Statement : statement.Action if statement.Sid == "DescribeTarget"
    ] == [["ecr:DescribeRepositories"]]
    error_message = "ensure-repo may do something else to a repository that must be there than look."
  }

  assert {
    condition = {
      for function in ["copy-layers", "put-manifest"] : function => [
        for statement in jsondecode(aws_iam_role_policy.function[function].policy).Statement : statement.Resource
        if contains(["UploadToTarget", "PutToTarget"], statement.Sid)
      ]
      } == {
      for function in ["copy-layers", "put-manifest"] : function => [[
        "arn:aws:ecr:us-east-1:123456789012:repository/fixed",
        "arn:aws:ecr:us-east-1:123456789012:repository/prod/*",
        "arn:aws:ecr:us-east-2:123456789012:repository/fixed",
        "arn:aws:ecr:us-east-2:123456789012:repository/mirror/prod/*",
        "arn:aws:ecr:us-west-1:123456789012:repository/dr/*",
        "arn:aws:ecr:us-west-2:123456789012:repository/fixed",
        "arn:aws:ecr:us-west-2:123456789012:repository/prod/*",
        "arn:aws:ecr:us-west-2:222222222222:repository/prod/*",
      ]]
    }
    error_message = "Images are written to other repositories than the rules' targets."
  }

  assert {
    condition = {
      for function, policy in aws_iam_role_policy.function : function => [
        for statement in jsondecode(policy.policy).Statement : statement if statement.Sid == "AssumeTargetRoles"
      ]
      } == {
      for function in keys(output.function_names) : function => [
        for actions in [["sts:AssumeRole"]] : {
          Sid      = "AssumeTargetRoles"
          Effect   = "Allow"
          Action   = actions
          Resource = ["arn:aws:iam::222222222222:role/x", "arn:aws:iam::333333333333:role/x"]
        } if contains(["copy-layers", "ensure-repo", "find-differences", "put-manifest"], function)
      ]
    }
    error_message = "A function may assume another role than the targets', or has no need to."
  }
}

run "what_only_a_role_of_another_account_may_do_is_not_asked_for_here" {
  command = plan

  variables {
    rules = {
      all = { targets = [{ region = "us-east-1", registry_id = "222222222222", role_arn = "arn:aws:iam::222222222222:role/x", settings = "none" }] }
    }
  }

  assert {
    condition = {
      for function, policy in aws_iam_role_policy.function : function => jsondecode(policy.policy).Statement[*].Sid if !startswith(function, "report")
      } == {
      find-differences = [
        "ListSource", "ReadSource", "AssumeTargetRoles", "KeepRuns", "ListRuns", "FindExecutions", "ReadReplications", "WriteLogs", "Trace",
      ]
      resolve-image = ["ReadSource", "WriteLogs", "Trace"]
      ensure-repo   = ["AssumeTargetRoles", "WriteLogs", "Trace"]
      copy-layers   = ["ReadSource", "AssumeTargetRoles", "WriteLogs", "Trace"]
      put-manifest  = ["ReadSource", "AssumeTargetRoles", "WriteLogs", "Trace"]
    }
    error_message = "A policy has a statement for targets that there are not."
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
      "Trace xray:PutTelemetryRecords",
      "Trace xray:PutTraceSegments",
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
          [aws_iam_role_policy.state_machine.policy, aws_iam_role_policy.reconcile.policy],
          [aws_iam_role_policy.event_rule.policy, aws_iam_role_policy.schedule.policy],
        ) : [for statement in jsondecode(policy).Statement : statement.Action]
      ]) : !strcontains(action, "*")
    ])
    error_message = "A policy has a wildcard action."
  }

  assert {
    condition = alltrue([
      for resource in flatten([
        for policy in concat(
          values(aws_iam_role_policy.function)[*].policy,
          [aws_iam_role_policy.reconcile.policy, aws_iam_role_policy.event_rule.policy, aws_iam_role_policy.schedule.policy],
        ) :
        [for statement in jsondecode(policy).Statement : statement.Resource if !contains(["SignInToTarget", "Trace", "DeliverLogs"], statement.Sid)]
      ]) : can(regex("^arn:aws:([a-z]+:[a-z0-9-]+:123456789012:.+|s3:::ecr-replicator-123456789012-eu-central-1(/runs/[*])?$)", resource))
    ])
    error_message = "A policy has a resource that is not bound to a service, a region and the account, or to this deployment's bucket, and not for a token, a log's delivery or a trace alone."
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

  variables {
    rules = {
      all    = { targets = [{ region = "us-east-1" }] }
      images = { tags = { include = ["v*"] }, targets = [{ region = "us-east-1" }] }
    }
  }

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
        ArnLike      = { "aws:SourceArn" = ["arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image"] }
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
        ArnLike      = { "aws:SourceArn" = "arn:aws:events:eu-central-1:123456789012:rule/ecr-replicator_*" }
        StringEquals = { "aws:SourceAccount" = "123456789012" }
      }
    }]
    error_message = "The rules' role may be assumed for something else than this deployment's rules."
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.event_rule.policy).Statement == [{
      Sid      = "StartReplication"
      Effect   = "Allow"
      Action   = ["states:StartExecution"]
      Resource = ["arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image"]
    }]
    error_message = "The rules may do something else than start this state machine."
  }

  assert {
    condition = length(distinct(concat(
      values(aws_iam_role.function)[*].name,
      [aws_iam_role.state_machine.name, aws_iam_role.reconcile.name, aws_iam_role.event_rule.name, aws_iam_role.schedule.name],
    ))) == 11
    error_message = "Two of the eleven share a role."
  }
}

run "the_longest_names_fit_a_role" {
  command = plan

  variables {
    name  = "a2345678901234567890123456789012"
    rules = { all = { targets = [{ region = "eu-central-1" }] } }
  }

  override_data {
    target = data.aws_region.current
    values = { id = "ap-southeast-2" }
  }

  assert {
    condition     = aws_iam_role.state_machine.name == "a2345678901234567890123456789012-ap-southeast-2-replicate-image"
    error_message = "A role's name has more than its three parts."
  }

  assert {
    condition = alltrue([
      for name in concat(values(aws_iam_role.function)[*].name, [aws_iam_role.reconcile.name, aws_iam_role.schedule.name]) : length(name) <= 64
    ]) && length(distinct(values(aws_iam_role.function)[*].name)) == length(aws_iam_role.function)
    error_message = "IAM would not take a role's name, or two are one when they are cut."
  }

  assert {
    condition     = length(aws_s3_bucket.runs.bucket) <= 63
    error_message = "S3 would not take the bucket's name."
  }
}

run "other_partitions_have_arns_of_their_own" {
  command = plan

  variables {
    rules = {
      all = {
        targets = [
          { region = "cn-northwest-1", kms_key_arn = "arn:aws-cn:kms:cn-northwest-1:222222222222:key/x" },
          { region = "cn-northwest-1", registry_id = "222222222222", role_arn = "arn:aws-cn:iam::222222222222:role/x" },
        ]
      }
    }
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
          [aws_iam_role_policy.state_machine.policy, aws_iam_role_policy.reconcile.policy],
          [aws_iam_role_policy.event_rule.policy, aws_iam_role_policy.schedule.policy],
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
    event_pattern_limit = 4096
    rules = {
      all = {
        repositories = { include = [for index in range(100) : "prod/application-${index}"] }
        targets      = [{ region = "us-east-1" }, { region = "eu-west-1" }]
      }
    }
  }

  expect_failures = [
    aws_iam_role_policy.function["ensure-repo"],
    aws_iam_role_policy.function["find-differences"],
    aws_iam_role_policy.function["copy-layers"],
    aws_iam_role_policy.function["put-manifest"],
  ]
}
