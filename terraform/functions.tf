locals {
  package_dir = coalesce(var.package_dir, "${path.module}/../dist/${var.architecture}")

  functions = {
    resolve-image = {
      description     = "Pins the digest that a push event or a person names, and decides whether there is anything to do"
      memory_mb       = 256
      timeout_seconds = 60
    }
    ensure-repo = {
      description     = "Creates the target repository with the source's settings"
      memory_mb       = 256
      timeout_seconds = 60
    }
    copy-layers = {
      description     = "Copies the layers that a target is missing, hashing each on its way"
      memory_mb       = var.copy_layers.memory_mb
      timeout_seconds = var.copy_layers.timeout_seconds
    }
    put-manifest = {
      description     = "Puts an image's manifests, children first and the tag last"
      memory_mb       = 256
      timeout_seconds = 300
    }
    find-differences = {
      description     = "Compares the source's images with those of every target, page by page"
      memory_mb       = 512
      timeout_seconds = 900
    }
    report-differences = {
      description     = "Reports what differs, and fails the execution if a repair left something"
      memory_mb       = 256
      timeout_seconds = 60
    }
    report = {
      description     = "Reports how a round went for each target, and fails the execution if one failed"
      memory_mb       = 256
      timeout_seconds = 60
    }
  }

  function_environments = {
    copy-layers = {
      MAX_SHARDS = tostring(var.copy_layers.max_shards)
      UPLOADS    = var.copy_layers.uploads
    }
    find-differences = {
      BUCKET          = local.runs_bucket_name
      REPLICATION_ARN = local.state_machine_arn
    }
    # What their metrics are of.
    report = { DEPLOYMENT = var.name }
    report-differences = merge(
      { BUCKET = local.runs_bucket_name, DEPLOYMENT = var.name },
      var.reconcile.schedule.pushed_since != null ? { DRIFT_SINCE = var.reconcile.schedule.pushed_since } : {},
    )
  }

  packages = { for function in keys(local.functions) : function => "${local.package_dir}/${function}/bootstrap.zip" }

  # Under these names the packages of a release are in its SHA256SUMS, and below the prefix in a bucket.
  release_names = { for function in keys(local.functions) : function => "${var.architecture}/${function}/bootstrap.zip" }

  # The archive of the module brings along the checksums of the packages that were made with it.
  released_checksums = "${path.module}/../SHA256SUMS"
  sha256sums         = try(coalesce(var.packages_s3.sha256sums), fileexists(local.released_checksums) ? file(local.released_checksums) : "")
  checksums          = { for line in regexall("(?m)^([0-9a-f]{64})  (\\S+)$", local.sha256sums) : line[1] => line[0] }

  # Lambda writes in base64 what SHA256SUMS has in hexadecimal: two characters for three. 256 bits are 42 characters and four bits, so
  # there are two digits to fill up with, and the last character is the padding.
  base64_alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  release_hashes = {
    for function, name in local.release_names : function => format("%.43s=", join("", flatten([
      for bits in [for digit in range(0, 66, 3) : parseint(substr("${local.checksums[name]}00", digit, 3), 16)] : [
        substr(local.base64_alphabet, floor(bits / 64), 1),
        substr(local.base64_alphabet, bits % 64, 1),
      ]
    ]))) if contains(keys(local.checksums), name)
  }

  # Made of arguments alone, so that a plan shows them; made of the alias's, so that what uses an ARN waits for the alias.
  alias_arns = {
    for function, alias in aws_lambda_alias.live :
    function => "arn:${local.partition}:lambda:${local.source_region}:${local.account_id}:function:${alias.function_name}:${alias.name}"
  }
}

resource "aws_lambda_function" "this" {
  for_each = local.functions

  function_name = "${var.name}-${each.key}"
  description   = each.value.description
  role          = aws_iam_role.function[each.key].arn

  runtime       = "provided.al2023"
  architectures = [var.architecture]
  handler       = "bootstrap"
  memory_size   = each.value.memory_mb
  timeout       = each.value.timeout_seconds

  filename         = var.packages_s3 == null ? local.packages[each.key] : null
  s3_bucket        = var.packages_s3 == null ? null : var.packages_s3.bucket
  s3_key           = var.packages_s3 == null ? null : "${var.packages_s3.key_prefix}${local.release_names[each.key]}"
  source_code_hash = var.packages_s3 == null ? filebase64sha256(local.packages[each.key]) : lookup(local.release_hashes, each.key, null)
  publish          = true

  dynamic "environment" {
    for_each = contains(keys(local.function_environments), each.key) ? [local.function_environments[each.key]] : []
    content {
      variables = environment.value
    }
  }

  dynamic "vpc_config" {
    for_each = var.vpc[*]
    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  logging_config {
    log_format            = "JSON"
    application_log_level = "INFO"
    system_log_level      = "INFO"
    log_group             = aws_cloudwatch_log_group.function[each.key].name
  }

  # A trace that the state machine samples goes on through the function.
  tracing_config {
    mode = "Active"
  }

  tags = var.tags

  lifecycle {
    precondition {
      condition     = var.packages_s3 != null || fileexists(local.packages[each.key])
      error_message = "There is no package ${local.packages[each.key]}: run `make package`, or set package_dir or packages_s3."
    }

    precondition {
      condition     = var.packages_s3 == null || contains(keys(local.release_hashes), each.key)
      error_message = "The checksums have no line for ${local.release_names[each.key]}: set packages_s3.sha256sums to the text of the SHA256SUMS that the packages came with."
    }
  }

  # A function that is invoked before its role may write logs loses the first of them.
  depends_on = [aws_iam_role_policy.function]
}

# What Lambda took from the bucket. It is asked when there is a new version, before the alias moves there: the resource itself still has
# the old version's hash in a plan.
data "aws_lambda_function" "fetched" {
  for_each = var.packages_s3 == null ? {} : local.functions

  function_name = aws_lambda_function.this[each.key].function_name
  qualifier     = aws_lambda_function.this[each.key].version

  lifecycle {
    postcondition {
      condition     = self.code_sha256 == local.release_hashes[each.key]
      error_message = "Version ${self.version} of ${self.function_name} is not the package that the checksums name ${local.release_names[each.key]}, and the alias stays where it was. Put the package there under another key_prefix, and have packages_s3 name that."
    }
  }
}

# A running execution keeps calling an alias while a deployment moves it; rolling back is moving it back.
resource "aws_lambda_alias" "live" {
  for_each = local.functions

  name             = "live"
  description      = "The version that the state machine calls"
  function_name    = aws_lambda_function.this[each.key].function_name
  function_version = var.packages_s3 == null ? aws_lambda_function.this[each.key].version : data.aws_lambda_function.fetched[each.key].version
}
