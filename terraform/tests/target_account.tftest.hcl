# What another account allows that is replicated to.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  source_account_id = "222222222222"
  source_region     = "eu-central-1"
  external_id       = "xy"
  repositories      = ["mirror/*", "base"]
  regions           = ["us-east-1", "eu-west-1"]
}

run "four_functions_may_assume_the_role_with_the_external_id" {
  command = plan
  module { source = "./modules/target-account" }

  variables {
    deployment_name = "mirror"
    name            = "mirrored"
    tags            = { team = "platform" }
  }

  assert {
    condition = jsondecode(aws_iam_role.this.assume_role_policy).Statement == [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { AWS = "arn:aws:iam::222222222222:root" }
      Condition = {
        ArnEquals = {
          "aws:PrincipalArn" = [
            "arn:aws:iam::222222222222:role/mirror-eu-central-1-copy-layers",
            "arn:aws:iam::222222222222:role/mirror-eu-central-1-ensure-repo",
            "arn:aws:iam::222222222222:role/mirror-eu-central-1-find-differences",
            "arn:aws:iam::222222222222:role/mirror-eu-central-1-put-manifest",
          ]
        }
        StringEquals = { "sts:ExternalId" = "xy" }
      }
    }]
    error_message = "Somebody else than the deployment's functions may assume the role, or without the external ID."
  }

  assert {
    condition     = aws_iam_role.this.name == "mirrored" && aws_iam_role.this.tags == tomap({ team = "platform" }) && aws_iam_role_policy.this.role == "mirrored"
    error_message = "The role has another name, other tags or another policy."
  }

  assert {
    condition     = output.role_arn == "arn:aws:iam::123456789012:role/mirrored"
    error_message = "The role's ARN is not known when a plan is made, or is another one."
  }
}

run "repositories_are_made_and_written" {
  command = plan
  module { source = "./modules/target-account" }

  assert {
    condition = jsondecode(aws_iam_role_policy.this.policy).Statement == [
      for statement in [
        {
          Sid    = "Replicate"
          Effect = "Allow"
          Action = [
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchGetImage",
            "ecr:CompleteLayerUpload",
            "ecr:DescribeImages",
            "ecr:DescribeRepositories",
            "ecr:InitiateLayerUpload",
            "ecr:PutImage",
            "ecr:UploadLayerPart",
          ]
          Resource = [
            "arn:aws:ecr:eu-west-1:123456789012:repository/mirror/*",
            "arn:aws:ecr:eu-west-1:123456789012:repository/base",
            "arn:aws:ecr:us-east-1:123456789012:repository/mirror/*",
            "arn:aws:ecr:us-east-1:123456789012:repository/base",
          ]
        },
        {
          Sid    = "Create"
          Effect = "Allow"
          Action = [
            "ecr:CreateRepository",
            "ecr:GetLifecyclePolicy",
            "ecr:GetRepositoryPolicy",
            "ecr:ListTagsForResource",
            "ecr:PutLifecyclePolicy",
            "ecr:SetRepositoryPolicy",
            "ecr:TagResource",
          ]
          Resource = [
            "arn:aws:ecr:eu-west-1:123456789012:repository/mirror/*",
            "arn:aws:ecr:eu-west-1:123456789012:repository/base",
            "arn:aws:ecr:us-east-1:123456789012:repository/mirror/*",
            "arn:aws:ecr:us-east-1:123456789012:repository/base",
          ]
        },
        {
          Sid    = "Unmark"
          Effect = "Allow"
          Action = ["ecr:UntagResource"]
          Resource = [
            "arn:aws:ecr:eu-west-1:123456789012:repository/mirror/*",
            "arn:aws:ecr:eu-west-1:123456789012:repository/base",
            "arn:aws:ecr:us-east-1:123456789012:repository/mirror/*",
            "arn:aws:ecr:us-east-1:123456789012:repository/base",
          ]
          Condition = {
            "ForAllValues:StringEquals" = { "aws:TagKeys" = ["ecr-replicator:incomplete"] }
            Null                        = { "aws:TagKeys" = "false" }
          }
        },
        {
          Sid      = "Encrypt"
          Effect   = "Allow"
          Action   = ["kms:CreateGrant", "kms:DescribeKey", "kms:RetireGrant"]
          Resource = ["arn:aws:kms:eu-west-1:123456789012:key/*", "arn:aws:kms:us-east-1:123456789012:key/*"]
          Condition = {
            StringEquals = { "kms:ViaService" = ["ecr.eu-west-1.amazonaws.com", "ecr.us-east-1.amazonaws.com"] }
          }
        },
        {
          Sid      = "SignIn"
          Effect   = "Allow"
          Action   = ["ecr:GetAuthorizationToken"]
          Resource = ["*"]
        },
      ] : statement
    ]
    error_message = "The role may do something else than make repositories and write images."
  }
}

run "settings_are_synchronized_where_that_is_allowed" {
  command = plan
  module { source = "./modules/target-account" }

  variables {
    allow_sync   = true
    kms_key_arns = ["arn:aws:kms:eu-west-1:123456789012:key/x"]
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.this.policy).Statement[*].Sid == ["Replicate", "Create", "Sync", "Encrypt", "SignIn"]
    error_message = "A statement is missing, or there are others."
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : statement.Action if statement.Sid == "Sync"] == [[
      "ecr:DeleteLifecyclePolicy",
      "ecr:DeleteRepositoryPolicy",
      "ecr:PutImageScanningConfiguration",
      "ecr:PutImageTagMutability",
      "ecr:UntagResource",
    ]]
    error_message = "An existing repository may be changed in another way."
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : statement.Resource if statement.Sid == "Encrypt"] == [
      ["arn:aws:kms:eu-west-1:123456789012:key/x"],
    ]
    error_message = "Other keys than the named ones may be used."
  }
}

run "nothing_is_made_where_that_is_not_allowed" {
  command = plan
  module { source = "./modules/target-account" }

  variables {
    allow_create = false
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.this.policy).Statement[*].Sid == ["Replicate", "SignIn"]
    error_message = "More than images may be written."
  }
}

run "what_is_refused" {
  command = plan
  module { source = "./modules/target-account" }

  variables {
    allow_create      = false
    allow_sync        = true
    deployment_name   = "Mirror"
    external_id       = "x"
    kms_key_arns      = ["arn:aws:kms:eu-west-1:123456789012:alias/x"]
    name              = "a/b"
    regions           = ["Ireland"]
    repositories      = ["mirror/**"]
    source_account_id = "2222"
    source_region     = "Frankfurt"
  }

  expect_failures = [
    var.allow_sync,
    var.deployment_name,
    var.external_id,
    var.kms_key_arns,
    var.name,
    var.regions,
    var.repositories,
    var.source_account_id,
    var.source_region,
  ]
}

run "a_policy_that_iam_would_not_take" {
  command = plan
  module { source = "./modules/target-account" }

  variables {
    repositories = [for index in range(100) : "prod/application-${index}"]
  }

  expect_failures = [aws_iam_role_policy.this]
}
