# What finds the images that the targets lack: a bucket for its lists and reports, and the schedule that starts it. Its functions, roles
# and state machine are beside the others.

locals {
  # A bucket's name is one in the whole partition, and has at most 63 characters.
  runs_bucket_name = "${var.name}-${local.account_id}-${local.source_region}"
  runs_bucket_arn  = "arn:${local.partition}:s3:::${local.runs_bucket_name}"

  # PutImage is limited to 10 a second in a target region and account: each child has its share of them. Rounded down, in
  # thousandths.
  puts_per_second = floor(10000 / var.reconcile.concurrency) / 1000

  # What a rule sends to one registry of one region, where children have to wait for each other before each put. ResolveImage refuses a
  # wait of more than two minutes.
  most_targets_together = max([
    for rule in values(module.rules.rules) : max([
      for places in values({ for target in rule.definition.targets : "${target.region} ${try(target.registryId, "")}" => target... }) : length(places)
    ]...)
  ]...)

  # What was pushed within the hour may still be on its way by its own execution. A price is of interest to a plan alone.
  scheduled_input = merge(
    { mode = var.reconcile.schedule.mode, minimumAgeSeconds = 3600 },
    var.reconcile.schedule.pushed_since != null ? { pushedSince = var.reconcile.schedule.pushed_since } : {},
    var.reconcile.schedule.mode == "plan" && var.reconcile.price_per_gb != null ? { pricePerGb = var.reconcile.price_per_gb } : {},
  )

  reconcile_dead_letter_queue_name = "${var.name}-reconcile-dead-letters"

  runs_bucket_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "RefusePlainText"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.runs_bucket_arn, "${local.runs_bucket_arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

resource "aws_s3_bucket" "runs" {
  bucket = local.runs_bucket_name
  # Lists and reports, which expire in any case.
  force_destroy = true

  tags = var.tags
}

resource "aws_s3_bucket_ownership_controls" "runs" {
  bucket = aws_s3_bucket.runs.bucket

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "runs" {
  bucket = aws_s3_bucket.runs.bucket

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "runs" {
  bucket = aws_s3_bucket.runs.bucket

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
    # One data key for many objects: a list has thousands.
    bucket_key_enabled = var.kms_key_arn != null
  }

  lifecycle {
    precondition {
      condition     = var.kms_key_arn == null ? true : split(":", var.kms_key_arn)[3] == local.source_region
      error_message = "What is kept here is encrypted in its own region, ${local.source_region}: ${coalesce(var.kms_key_arn, "-")} is in another."
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "runs" {
  bucket = aws_s3_bucket.runs.bucket

  rule {
    id     = "expire-runs"
    status = "Enabled"

    filter {
      prefix = "runs/"
    }

    expiration {
      days = var.reconcile.retention_days
    }
  }

  rule {
    id     = "abort-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

resource "aws_s3_bucket_policy" "runs" {
  bucket = aws_s3_bucket.runs.bucket
  policy = local.runs_bucket_policy

  # S3 refuses two changes to what is public about a bucket at a time.
  depends_on = [aws_s3_bucket_public_access_block.runs]
}

resource "aws_scheduler_schedule" "reconcile" {
  count = var.reconcile.schedule.enabled ? 1 : 0

  name        = "${var.name}-reconcile"
  description = "Looks for what the targets lack: ${var.reconcile.schedule.mode}"

  schedule_expression          = var.reconcile.schedule.expression
  schedule_expression_timezone = var.reconcile.schedule.timezone

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_sfn_state_machine.reconcile.arn
    role_arn = aws_iam_role.schedule.arn
    input    = jsonencode(local.scheduled_input)

    # The next one comes anyway; a start that Step Functions throttles need not wait for it.
    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 185
    }

    dead_letter_config {
      arn = aws_sqs_queue.reconcile_dead_letters.arn
    }
  }

  # rate() begins at once: without what a run needs, it would begin with a dead letter or with a run that fails.
  depends_on = [
    aws_iam_role_policy.schedule, aws_iam_role_policy.reconcile, aws_iam_role_policy.function, aws_s3_bucket.runs,
  ]
}

resource "aws_sqs_queue" "reconcile_dead_letters" {
  name                      = local.reconcile_dead_letter_queue_name
  message_retention_seconds = 14 * 24 * 60 * 60
  sqs_managed_sse_enabled   = var.kms_key_arn == null ? true : null
  kms_master_key_id         = var.kms_key_arn

  tags = var.tags
}
