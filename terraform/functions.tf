locals {
  package_dir = coalesce(var.package_dir, "${path.module}/../target/lambda")

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

  filename         = local.packages[each.key]
  source_code_hash = filebase64sha256(local.packages[each.key])
  publish          = true

  dynamic "environment" {
    for_each = contains(keys(local.function_environments), each.key) ? [local.function_environments[each.key]] : []
    content {
      variables = environment.value
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
      condition     = fileexists(local.packages[each.key])
      error_message = "There is no package ${local.packages[each.key]}: run `make package`, or set package_dir."
    }
  }

  # A function that is invoked before its role may write logs loses the first of them.
  depends_on = [aws_iam_role_policy.function]
}

# A running execution keeps calling an alias while a deployment moves it; rolling back is moving it back.
resource "aws_lambda_alias" "live" {
  for_each = local.functions

  name             = "live"
  description      = "The version that the state machine calls"
  function_name    = aws_lambda_function.this[each.key].function_name
  function_version = aws_lambda_function.this[each.key].version
}
