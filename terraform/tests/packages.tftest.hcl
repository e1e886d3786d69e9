# Where the functions' packages come from.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  rules = { all = { targets = [{ region = "us-east-1" }] } }
  # As `make package` writes it, of the packages here.
  sums = join("", [
    for step in ["resolve-image", "ensure-repo", "copy-layers", "put-manifest", "report", "find-differences", "report-differences"] :
    "${filesha256("./tests/packages/${step}/bootstrap.zip")}  x86_64/${step}/bootstrap.zip\n"
  ])
}

# The mock makes values up that are no ARNs, and the provider refuses those.

override_resource {
  target = aws_iam_role.function
  values = { arn = "arn:aws:iam::123456789012:role/function" }
}

override_resource {
  target = aws_iam_role.event_rule
  values = { arn = "arn:aws:iam::123456789012:role/event-rule" }
}

override_resource {
  target = aws_iam_role.schedule
  values = { arn = "arn:aws:iam::123456789012:role/schedule" }
}

override_resource {
  target = aws_sqs_queue.dead_letters
  values = { arn = "arn:aws:sqs:eu-central-1:123456789012:dead-letters" }
}

override_resource {
  target = aws_sqs_queue.reconcile_dead_letters
  values = { arn = "arn:aws:sqs:eu-central-1:123456789012:reconcile-dead-letters" }
}

override_resource {
  target = aws_iam_role.reconcile
  values = { arn = "arn:aws:iam::123456789012:role/reconcile" }
}

override_resource {
  target = aws_iam_role.state_machine
  values = { arn = "arn:aws:iam::123456789012:role/state-machine" }
}

run "from_s3" {
  command = plan

  variables {
    packages_s3 = { bucket = "artifacts", key_prefix = "ecr-replicator/0.1.0/", sha256sums = var.sums }
  }

  assert {
    condition = alltrue([
      for step, function in aws_lambda_function.this :
      function.s3_bucket == "artifacts"
      && function.s3_key == "ecr-replicator/0.1.0/x86_64/${step}/bootstrap.zip"
      && function.filename == null
      && function.source_code_hash == filebase64sha256("./tests/packages/${step}/bootstrap.zip")
    ])
    error_message = "A function is not of its package in S3, or has another hash than the package."
  }
}

run "every_digit_of_a_checksum_counts" {
  command = plan

  variables {
    packages_s3 = {
      bucket     = "artifacts"
      sha256sums = <<-END
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  arm64/resolve-image/bootstrap.zip
        0000000000000000000000000000000000000000000000000000000000000000  arm64/ensure-repo/bootstrap.zip
        ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff  arm64/copy-layers/bootstrap.zip
        fbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfb  arm64/put-manifest/bootstrap.zip
        000000000000000000000000000000000000000000000000000000000000000f  arm64/report/bootstrap.zip
        f000000000000000000000000000000000000000000000000000000000000000  arm64/find-differences/bootstrap.zip
        0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef  arm64/report-differences/bootstrap.zip
        ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  ecr-replicator-module-0.1.0.zip
      END
    }
    architecture = "arm64"
  }

  assert {
    condition = { for step, function in aws_lambda_function.this : step => function.source_code_hash } == {
      resolve-image      = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
      ensure-repo        = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
      copy-layers        = "//////////////////////////////////////////8="
      put-manifest       = "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s="
      report             = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA8="
      find-differences   = "8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
      report-differences = "ASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8="
    }
    error_message = "A checksum is not the same in base64 as in hexadecimal."
  }

  assert {
    condition     = aws_lambda_function.this["report"].s3_key == "arm64/report/bootstrap.zip"
    error_message = "Without a prefix, a key is the name in SHA256SUMS."
  }
}

run "checksums_of_another_architecture" {
  command = plan

  variables {
    packages_s3  = { bucket = "artifacts", sha256sums = var.sums }
    architecture = "arm64"
  }

  expect_failures = [aws_lambda_function.this]
}

# There is none beside the module unless it is of an archive.
run "no_checksums" {
  command = plan

  variables {
    packages_s3 = { bucket = "artifacts" }
  }

  expect_failures = [aws_lambda_function.this]
}

run "another_object_than_the_checksum_is_of" {
  variables {
    packages_s3 = { bucket = "artifacts", sha256sums = var.sums }
  }

  override_data {
    target = data.aws_lambda_function.fetched
    values = { code_sha256 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" }
  }

  expect_failures = [data.aws_lambda_function.fetched]
}

run "in_a_directory_and_in_s3" {
  command = plan

  variables {
    package_dir = "./tests/packages"
    packages_s3 = { bucket = "artifacts", sha256sums = var.sums }
  }

  expect_failures = [var.packages_s3]
}

run "a_bucket_that_is_an_address" {
  command = plan

  variables {
    packages_s3 = { bucket = "s3://artifacts", sha256sums = var.sums }
  }

  expect_failures = [var.packages_s3]
}

run "a_key_prefix_without_its_slash" {
  command = plan

  variables {
    packages_s3 = { bucket = "artifacts", key_prefix = "ecr-replicator", sha256sums = var.sums }
  }

  expect_failures = [var.packages_s3]
}
