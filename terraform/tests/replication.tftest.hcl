# What a push sets in motion: the event pattern, the input, the state machine, and what watches over them.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  target_regions = ["us-east-1", "eu-west-1"]
  package_dir    = "./tests/packages"
}

run "every_successful_push_matches_the_rule" {
  command = plan

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.image_pushed.event_pattern) == {
      source      = ["aws.ecr", "ecr-replicator.replay"]
      detail-type = ["ECR Image Action"]
      detail = {
        action-type     = ["PUSH"]
        result          = ["SUCCESS"]
        repository-name = [{ wildcard = "*" }]
      }
    }
    error_message = "The event pattern is not that of a successful push to any repository."
  }
}

run "names_match_exactly_and_patterns_as_wildcards" {
  command = plan

  variables {
    repositories = ["prod/*", "base", "*-release"]
  }

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.image_pushed.event_pattern).detail.repository-name == [
      "base", { wildcard = "prod/*" }, { wildcard = "*-release" },
    ]
    error_message = "The event pattern does not match the named repositories."
  }
}

run "the_execution_gets_the_whole_event_the_rule_and_the_targets" {
  command = plan

  assert {
    condition     = aws_cloudwatch_event_target.state_machine.input_transformer[0].input_template == "{\"event\": <aws.events.event.json>, \"rule\": \"ecr-replicator-image-pushed\", \"untagged\": false, \"targets\": [{\"region\":\"eu-west-1\"},{\"region\":\"us-east-1\"}]}"
    error_message = "The input template is another one; mind that EventBridge only knows <aws.events.event.json> with its brackets unescaped."
  }

  assert {
    condition = jsondecode(replace(aws_cloudwatch_event_target.state_machine.input_transformer[0].input_template, "<aws.events.event.json>", "{}")) == {
      event    = {}
      rule     = aws_cloudwatch_event_rule.image_pushed.name
      untagged = false
      targets  = [{ region = "eu-west-1" }, { region = "us-east-1" }]
    }
    error_message = "With an event in its place, the input is not JSON, or does not name the rule and the targets."
  }
}

run "images_without_a_tag_are_replicated_where_they_are_asked_for" {
  command = plan

  variables {
    untagged_images = true
  }

  assert {
    condition     = strcontains(aws_cloudwatch_event_target.state_machine.input_transformer[0].input_template, "\"untagged\": true,")
    error_message = "The execution is not told that images without a tag are asked for."
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.function["resolve-image"].policy).Statement[0].Action == ["ecr:BatchGetImage", "ecr:DescribeImages"]
    error_message = "resolve-image may not look for the index that an image without a tag is in."
  }
}

run "an_event_is_retried_for_a_day_and_then_kept_for_two_weeks" {
  command = plan

  assert {
    condition = (
      aws_cloudwatch_event_target.state_machine.retry_policy[0].maximum_event_age_in_seconds == 86400
      && aws_cloudwatch_event_target.state_machine.retry_policy[0].maximum_retry_attempts == 185
    )
    error_message = "A start that fails is not retried as long as EventBridge can."
  }

  assert {
    condition     = aws_sqs_queue.dead_letters.message_retention_seconds == 1209600 && aws_sqs_queue.dead_letters.sqs_managed_sse_enabled
    error_message = "Dead letters are not kept for 14 days, encrypted."
  }

  assert {
    condition = jsondecode(aws_sqs_queue.dead_letters.policy).Statement == [{
      Sid       = "UndeliveredEvents"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = "arn:aws:sqs:eu-central-1:123456789012:${aws_sqs_queue.dead_letters.name}"
      Condition = { ArnEquals = { "aws:SourceArn" = "arn:aws:events:eu-central-1:123456789012:rule/${aws_cloudwatch_event_rule.image_pushed.name}" } }
    }]
    error_message = "Something else than the rule may write to the dead-letter queue."
  }
}

run "the_state_machine_is_rendered_whole" {
  command = plan

  assert {
    condition     = !strcontains(aws_sfn_state_machine.this.definition, "$${")
    error_message = "A placeholder is left in the state machine."
  }

  assert {
    condition = toset(regexall("arn:aws:lambda:[^\"]*", aws_sfn_state_machine.this.definition)) == toset([
      for step in ["copy-layers", "ensure-repo", "put-manifest", "report", "resolve-image"] :
      "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-${step}:live"
    ])
    error_message = "The state machine does not call the five aliases."
  }

  assert {
    condition = {
      for state, definition in merge(
        jsondecode(aws_sfn_state_machine.this.definition).States,
        jsondecode(aws_sfn_state_machine.this.definition).States.ReplicateToTargets.ItemProcessor.States,
        jsondecode(aws_sfn_state_machine.this.definition).States.ReplicateToTargets.ItemProcessor.States.CopyShards.ItemProcessor.States,
      ) : state => definition.Arguments.FunctionName if definition.Type == "Task"
      } == {
      ResolveImage     = "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-resolve-image:live"
      EnsureRepository = "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-ensure-repo:live"
      CopyLayers       = "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-copy-layers:live"
      PutManifest      = "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-put-manifest:live"
      Report           = "arn:aws:lambda:eu-central-1:123456789012:function:ecr-replicator-report:live"
    }
    error_message = "A state calls another step's function."
  }

  # An invocation goes on when its task is given up: a retry beside it is what the order of the two limits avoids.
  assert {
    condition = alltrue([
      for definition in values(merge(
        jsondecode(aws_sfn_state_machine.this.definition).States,
        jsondecode(aws_sfn_state_machine.this.definition).States.ReplicateToTargets.ItemProcessor.States,
        jsondecode(aws_sfn_state_machine.this.definition).States.ReplicateToTargets.ItemProcessor.States.CopyShards.ItemProcessor.States,
        )) : definition.TimeoutSeconds > one([
        for function in aws_lambda_function.this : function.timeout if endswith(definition.Arguments.FunctionName, ":${function.function_name}:live")
      ]) if definition.Type == "Task"
    ])
    error_message = "A task is given up before its function's own timeout."
  }
}

run "the_state_machine_logs_and_traces" {
  command = plan

  variables {
    execution_log_level = "ALL"
    log_retention_days  = 7
  }

  assert {
    condition = (
      aws_sfn_state_machine.this.type == "STANDARD"
      && aws_sfn_state_machine.this.tracing_configuration[0].enabled
      && aws_sfn_state_machine.this.logging_configuration[0].include_execution_data
      && aws_sfn_state_machine.this.logging_configuration[0].level == "ALL"
    )
    error_message = "The state machine is not a standard one that logs what it is told to, data included, and traces."
  }

  assert {
    condition     = aws_cloudwatch_log_group.state_machine.name == "/aws/vendedlogs/states/ecr-replicator-replicate-image"
    error_message = "The state machine's log group is not below /aws/vendedlogs."
  }

  assert {
    condition     = toset(concat(values(aws_cloudwatch_log_group.function)[*].retention_in_days, [aws_cloudwatch_log_group.state_machine.retention_in_days])) == toset([7])
    error_message = "A log group is kept for another time than asked."
  }
}

run "functions_are_as_large_and_as_patient_as_their_step_needs" {
  command = plan

  variables {
    architecture = "arm64"
  }

  assert {
    condition = {
      for step, function in aws_lambda_function.this : step => "${function.function_name} ${function.memory_size} MB ${function.timeout} s"
      } == {
      resolve-image = "ecr-replicator-resolve-image 256 MB 60 s"
      ensure-repo   = "ecr-replicator-ensure-repo 256 MB 60 s"
      copy-layers   = "ecr-replicator-copy-layers 2048 MB 900 s"
      put-manifest  = "ecr-replicator-put-manifest 256 MB 300 s"
      report        = "ecr-replicator-report 256 MB 60 s"
    }
    error_message = "A function has another name, memory or timeout."
  }

  assert {
    condition = alltrue([
      for step, function in aws_lambda_function.this :
      function.runtime == "provided.al2023"
      && function.handler == "bootstrap"
      && function.architectures == tolist(["arm64"])
      && function.publish
      && function.source_code_hash == filebase64sha256("./tests/packages/${step}/bootstrap.zip")
      && function.logging_config[0].log_format == "JSON"
      && function.logging_config[0].application_log_level == "INFO"
      && function.logging_config[0].log_group == "/aws/lambda/${function.function_name}"
    ])
    error_message = "A function is not a published al2023 bootstrap of its own package that logs JSON to its own group."
  }

  assert {
    condition     = { for step, alias in aws_lambda_alias.live : step => "${alias.function_name}:${alias.name}" } == { for step, function in aws_lambda_function.this : step => "${function.function_name}:live" }
    error_message = "A function has no alias live."
  }
}

run "layers_are_copied_as_the_module_says" {
  command = plan

  assert {
    condition = {
      for step, function in aws_lambda_function.this : step => join(" ", flatten([
        for environment in function.environment : [for name, value in environment.variables : "${name}=${value}"]
      ]))
      } == {
      resolve-image = ""
      ensure-repo   = ""
      copy-layers   = "MAX_SHARDS=4 UPLOADS=auto"
      put-manifest  = ""
      report        = ""
    }
    error_message = "A function has another environment: the copy-layers function alone has one."
  }
}

run "layers_are_copied_as_asked" {
  command = plan

  variables {
    copy_layers = { memory_mb = 10240, timeout_seconds = 10, uploads = "parts", max_shards = 16 }
  }

  assert {
    condition = (
      aws_lambda_function.this["copy-layers"].memory_size == 10240
      && aws_lambda_function.this["copy-layers"].timeout == 10
      && one(aws_lambda_function.this["copy-layers"].environment).variables == tomap({ MAX_SHARDS = "16", UPLOADS = "parts" })
    )
    error_message = "The copy-layers function has other settings than asked."
  }
}

run "what_is_not_asked_for_keeps_its_default" {
  command = plan

  variables {
    copy_layers = { memory_mb = 256, timeout_seconds = 900, uploads = null, max_shards = 1 }
  }

  assert {
    condition = (
      aws_lambda_function.this["copy-layers"].memory_size == 256
      && aws_lambda_function.this["copy-layers"].timeout == 900
      && one(aws_lambda_function.this["copy-layers"].environment).variables == tomap({ MAX_SHARDS = "1", UPLOADS = "auto" })
    )
    error_message = "An attribute that is null does not take its default."
  }
}

run "somebody_is_told_when_a_replication_fails_or_does_not_start" {
  command = plan

  variables {
    alarm_actions = ["arn:aws:sns:eu-central-1:123456789012:alarms"]
  }

  assert {
    condition = {
      for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name => "${alarm.namespace} ${alarm.metric_name} ${alarm.statistic} ${join(" ", values(alarm.dimensions))}"
      } == {
      ecr-replicator-executions-failed    = "AWS/States ExecutionsFailed Sum arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image"
      ecr-replicator-executions-timed-out = "AWS/States ExecutionsTimedOut Sum arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image"
      ecr-replicator-executions-aborted   = "AWS/States ExecutionsAborted Sum arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image"
      ecr-replicator-dead-letters         = "AWS/SQS ApproximateNumberOfMessagesVisible Maximum ecr-replicator-image-pushed-dead-letters"
    }
    error_message = "An alarm watches another metric."
  }

  assert {
    condition     = strcontains(aws_cloudwatch_metric_alarm.this["dead-letters"].alarm_description, "`make replay-dead-letters NAME=${var.name}`")
    error_message = "The alarm on dead letters does not say how they are replayed."
  }

  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.this :
      alarm.comparison_operator == "GreaterThanThreshold"
      && alarm.threshold == 0
      && alarm.evaluation_periods == 1
      && alarm.period == 300
      && alarm.treat_missing_data == "notBreaching"
      && alarm.alarm_actions == toset(["arn:aws:sns:eu-central-1:123456789012:alarms"])
      && alarm.ok_actions == toset(["arn:aws:sns:eu-central-1:123456789012:alarms"])
    ])
    error_message = "An alarm does not go off within five minutes, or stays on without data, or tells nobody when it goes off or recovers."
  }
}

run "names_and_tags_are_everywhere" {
  command = plan

  variables {
    name = "mirror"
    tags = { team = "platform" }
  }

  assert {
    condition = alltrue([
      for name in concat(
        values(aws_lambda_function.this)[*].function_name,
        values(aws_iam_role.function)[*].name,
        values(aws_cloudwatch_metric_alarm.this)[*].alarm_name,
        [
          aws_cloudwatch_event_rule.image_pushed.name,
          aws_iam_role.event_rule.name,
          aws_iam_role.state_machine.name,
          aws_sfn_state_machine.this.name,
          aws_sqs_queue.dead_letters.name,
        ],
      ) : startswith(name, "mirror-")
    ])
    error_message = "A resource's name has another prefix, so that two copies of the module would collide."
  }

  assert {
    condition = alltrue([
      for tags in concat(
        values(aws_lambda_function.this)[*].tags,
        values(aws_iam_role.function)[*].tags,
        values(aws_cloudwatch_log_group.function)[*].tags,
        values(aws_cloudwatch_metric_alarm.this)[*].tags,
        [
          aws_cloudwatch_event_rule.image_pushed.tags,
          aws_cloudwatch_log_group.state_machine.tags,
          aws_iam_role.event_rule.tags,
          aws_iam_role.state_machine.tags,
          aws_sfn_state_machine.this.tags,
          aws_sqs_queue.dead_letters.tags,
        ],
      ) : tags == tomap({ team = "platform" })
    ])
    error_message = "A resource has other tags than asked."
  }
}

run "outputs_name_what_was_made" {
  command = plan

  assert {
    condition     = output.function_names == { for step in ["copy-layers", "ensure-repo", "put-manifest", "report", "resolve-image"] : step => "ecr-replicator-${step}" }
    error_message = "The function names are others."
  }

  assert {
    condition = output.log_group_names == merge(
      { for step in ["copy-layers", "ensure-repo", "put-manifest", "report", "resolve-image"] : step => "/aws/lambda/ecr-replicator-${step}" },
      { replicate-image = "/aws/vendedlogs/states/ecr-replicator-replicate-image" },
    )
    error_message = "The log group names are others."
  }

  assert {
    condition     = output.state_machine_console_url == "https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/statemachines/view/arn%3Aaws%3Astates%3Aeu-central-1%3A123456789012%3AstateMachine%3Aecr-replicator-replicate-image"
    error_message = "The console's URL is another."
  }
}
