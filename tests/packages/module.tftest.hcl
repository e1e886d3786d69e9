# The module as its archive has it, with the packages of the same release: this is copied to where it was unpacked.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  rules = { all = { targets = [{ region = "us-east-1" }] } }
}

run "with_packages_in_a_directory" {
  command = plan

  variables {
    package_dir  = "${var.dist}/arm64"
    architecture = "arm64"
  }

  assert {
    condition = alltrue([
      for step, function in aws_lambda_function.this :
      function.source_code_hash == filebase64sha256("${var.dist}/arm64/${step}/bootstrap.zip")
    ])
    error_message = "A function is not of the package in the directory."
  }
}

# The checksums are those that the archive has.
run "with_packages_in_s3" {
  command = plan

  variables {
    packages_s3 = { bucket = "artifacts" }
  }

  assert {
    condition = alltrue([
      for step, function in aws_lambda_function.this :
      function.s3_key == "x86_64/${step}/bootstrap.zip"
      && function.source_code_hash == filebase64sha256("${var.dist}/x86_64/${step}/bootstrap.zip")
    ])
    error_message = "A function is not of the package in S3, by the checksums in the archive."
  }
}
