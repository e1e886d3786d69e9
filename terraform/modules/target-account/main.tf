# What an account allows that another one replicates to: a role that the functions which work at a target may assume.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition

  repository_arns = flatten([
    for region in sort(var.regions) : [
      for name in var.repositories : "arn:${local.partition}:ecr:${region}:${local.account_id}:repository/${name}"
    ]
  ])

  trust_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect = "Allow"
      Action = "sts:AssumeRole"
      # A role that is named as a principal must exist already, and is another one when it is made again: so it is a condition.
      Principal = { AWS = "arn:${local.partition}:iam::${var.source_account_id}:root" }
      Condition = {
        ArnEquals = {
          "aws:PrincipalArn" = [
            for function in ["copy-layers", "ensure-repo", "find-differences", "put-manifest"] :
            "arn:${local.partition}:iam::${var.source_account_id}:role/${var.deployment_name}-${var.source_region}-${function}"
          ]
        }
        StringEquals = { "sts:ExternalId" = var.external_id }
      }
    }]
  })

  statements = {
    # What copy-layers, find-differences and put-manifest do, and ensure-repo in any case.
    Replicate = {
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
      Resource = local.repository_arns
    }
    Create = {
      Action = [
        "ecr:CreateRepository",
        "ecr:GetLifecyclePolicy",
        "ecr:GetRepositoryPolicy",
        "ecr:ListTagsForResource",
        "ecr:PutLifecyclePolicy",
        "ecr:SetRepositoryPolicy",
        "ecr:TagResource",
      ]
      Resource = var.allow_create ? local.repository_arns : []
    }
    # The tag of a repository that has yet to get its policies, and no other; unless Sync takes any tag off.
    Unmark = {
      Action   = ["ecr:UntagResource"]
      Resource = var.allow_create && !var.allow_sync ? local.repository_arns : []
    }
    Sync = {
      Action = [
        "ecr:DeleteLifecyclePolicy",
        "ecr:DeleteRepositoryPolicy",
        "ecr:PutImageScanningConfiguration",
        "ecr:PutImageTagMutability",
        "ecr:UntagResource",
      ]
      Resource = var.allow_sync ? local.repository_arns : []
    }
    # ECR asks for these of whoever creates a repository with KMS encryption.
    Encrypt = {
      Action = ["kms:CreateGrant", "kms:DescribeKey", "kms:RetireGrant"]
      Resource = [
        for arn in(
          var.kms_key_arns != null
          ? var.kms_key_arns
          : [for region in sort(var.regions) : "arn:${local.partition}:kms:${region}:${local.account_id}:key/*"]
        ) : arn if var.allow_create
      ]
    }
    # Layers are streamed with a token. It opens nothing that the statements above do not, and IAM knows no resource for it.
    SignIn = {
      Action   = ["ecr:GetAuthorizationToken"]
      Resource = ["*"]
    }
  }

  conditions = {
    Encrypt = { StringEquals = { "kms:ViaService" = [for region in sort(var.regions) : "ecr.${region}.amazonaws.com"] } }
    # ForAllValues holds for a request without keys, too: so there must be some.
    Unmark = {
      "ForAllValues:StringEquals" = { "aws:TagKeys" = ["ecr-replicator:incomplete"] }
      Null                        = { "aws:TagKeys" = "false" }
    }
  }

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      for name in ["Replicate", "Create", "Unmark", "Sync", "Encrypt", "SignIn"] : merge(
        {
          Sid      = name
          Effect   = "Allow"
          Action   = local.statements[name].Action
          Resource = local.statements[name].Resource
        },
        { for statement, condition in local.conditions : "Condition" => condition if statement == name },
      ) if length(local.statements[name].Resource) > 0
    ]
  })
}

resource "aws_iam_role" "this" {
  name               = var.name
  description        = "What ${var.deployment_name} in ${var.source_account_id} ${var.source_region} may do here"
  assume_role_policy = local.trust_policy

  tags = var.tags
}

resource "aws_iam_role_policy" "this" {
  name   = "replicate"
  role   = aws_iam_role.this.name
  policy = local.policy

  lifecycle {
    precondition {
      condition     = length(local.policy) <= 10240
      error_message = "The policy has ${length(local.policy)} characters, and IAM takes 10240: join repositories in patterns, or name fewer regions."
    }
  }
}
