# What a push sets in motion: the event pattern, the input, the state machine, and what watches over them.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  rules       = { all = { targets = [{ region = "us-east-1" }, { region = "eu-west-1" }] } }
  package_dir = "./tests/packages"
}

run "each_rule_is_an_event_rule" {
  command = plan

  variables {
    rules = {
      all    = { untagged = true, targets = [{ region = "us-east-1" }] }
      images = { repositories = { include = ["prod/*", "base"] }, tags = { include = ["v*"] }, targets = [{ region = "us-east-1" }] }
    }
  }

  assert {
    condition = { for name, rule in aws_cloudwatch_event_rule.image_pushed : "${name} ${rule.name}" => rule.event_pattern } == {
      "all ecr-replicator_all" = jsonencode({
        source      = ["aws.ecr", "ecr-replicator.replay"]
        detail-type = ["ECR Image Action"]
        detail      = { action-type = ["PUSH"], result = ["SUCCESS"] }
      })
      "images ecr-replicator_images" = jsonencode({
        source      = ["aws.ecr", "ecr-replicator.replay"]
        detail-type = ["ECR Image Action"]
        detail = {
          action-type     = ["PUSH"]
          result          = ["SUCCESS"]
          repository-name = ["base", { prefix = "prod/" }]
          "$or" = [
            { image-tag = [{ prefix = "v" }, { prefix = "sha256-" }] },
            {
              image-tag = ["", { exists = false }]
              artifact-media-type = [
                { exists = false },
                {
                  anything-but = [
                    "application/vnd.oci.image.config.v1+json",
                    "application/vnd.docker.container.image.v1+json",
                  ]
                },
              ]
            },
          ]
        }
      })
    }
    error_message = "An event pattern is not that of the successful pushes that its rule is for."
  }

  assert {
    condition     = output.event_patterns == { for name, rule in aws_cloudwatch_event_rule.image_pushed : name => rule.event_pattern }
    error_message = "The patterns that are told are not those that are applied."
  }
}

run "a_rule_may_name_what_is_not_made_yet" {
  command = plan
  module { source = "./tests/key_made_beside" }

  assert {
    condition     = output.event_rule_names == { all = "ecr-replicator_all" }
    error_message = "The rules are not planned until their keys and roles are there."
  }
}

run "the_longest_names_fit_an_event_rule" {
  command = plan

  variables {
    name  = "a2345678901234567890123456789012"
    rules = { a234567890123456789012345678901 = { targets = [{ region = "us-east-1" }] } }
  }

  assert {
    condition     = [for rule in aws_cloudwatch_event_rule.image_pushed : length(rule.name)] == [64]
    error_message = "The longest name of a rule is not the longest that EventBridge takes."
  }
}

run "a_deployment_whose_name_begins_like_another_one_s" {
  command = plan

  variables {
    name  = "mirror"
    rules = { prod-app = { targets = [{ region = "us-east-1" }] } }
  }
}

run "has_event_rules_of_its_own" {
  command = plan

  variables {
    name          = "mirror-prod"
    rules         = { app = { targets = [{ region = "us-east-1" }] } }
    notifications = { topic_arn = "arn:aws:sns:eu-central-1:123456789012:replications" }
  }

  assert {
    condition = length(setintersection(
      values(run.a_deployment_whose_name_begins_like_another_one_s.event_rule_names),
      values(output.event_rule_names),
    )) == 0
    error_message = "Two deployments have an event rule of the same name: each would take it from the other one."
  }

  assert {
    condition = alltrue([
      for name in concat(
        values(run.a_deployment_whose_name_begins_like_another_one_s.event_rule_names),
        values(aws_cloudwatch_event_rule.notification)[*].name,
      ) : !startswith(name, trimsuffix(reverse(split("/", jsondecode(aws_iam_role.event_rule.assume_role_policy).Statement[0].Condition.ArnLike["aws:SourceArn"]))[0], "*"))
    ])
    error_message = "Another deployment's rules may use this one's role, or rules that start nothing may."
  }
}

run "the_execution_gets_the_whole_event_and_the_rule" {
  command = plan

  variables {
    rules = {
      all    = { targets = [{ region = "us-east-1" }] }
      images = { tags = { include = ["v*"] }, targets = [{ region = "us-east-1" }] }
    }
  }

  assert {
    condition = { for name, target in aws_cloudwatch_event_target.state_machine : name => target.input_transformer[0].input_template } == {
      all    = "{\"event\": <aws.events.event.json>, \"rule\": \"all\"}"
      images = "{\"event\": <aws.events.event.json>, \"rule\": \"images\"}"
    }
    error_message = "An input template is another one; mind that EventBridge only knows <aws.events.event.json> with its brackets unescaped."
  }
}

run "the_state_machine_has_the_rules" {
  command = plan

  variables {
    rules = {
      all = { targets = [{ region = "us-east-1" }] }
      images = {
        repositories = { include = ["prod/*"] }
        targets      = [{ region = "eu-west-1", repository_prefix = "mirror/", settings = "sync" }]
        # What a template would take for its own, and what JSON and HTML escape.
        repository_settings = { lifecycle_policy = "{\"$${a}\": \"%%{b} <c> \\\"d\\\" $states.input, and as long as ECR wants a policy to be: a hundred characters or more\"}" }
      }
    }
  }

  assert {
    condition = jsonencode(jsondecode(aws_sfn_state_machine.this.definition).States.ResolveImage.Arguments.Payload) == jsonencode({
      execution = "{% $states.context.Execution.Name %}"
      input     = "{% $states.context.Execution.Input %}"
      rules = {
        all = {
          repositories = { include = ["*"], exclude = [] }
          tags         = { include = ["*"], exclude = [] }
          untagged     = false
          targets      = [{ region = "us-east-1", settings = "create" }]
        }
        images = {
          repositories       = { include = ["prod/*"], exclude = [] }
          tags               = { include = ["*"], exclude = [] }
          untagged           = false
          targets            = [{ region = "eu-west-1", repository = { prefix = "mirror/" }, settings = "sync" }]
          repositorySettings = { lifecyclePolicy = "{\"$${a}\": \"%%{b} <c> \\\"d\\\" $states.input, and as long as ECR wants a policy to be: a hundred characters or more\"}" }
        }
      }
    })
    error_message = "resolve-image is given something else than the execution, its input, and the rules."
  }
}

run "an_event_is_retried_for_a_day_and_then_kept_for_two_weeks" {
  command = plan

  variables {
    rules = {
      all    = { targets = [{ region = "us-east-1" }] }
      images = { tags = { include = ["v*"] }, targets = [{ region = "us-east-1" }] }
    }
  }

  assert {
    condition = alltrue([
      for target in aws_cloudwatch_event_target.state_machine :
      target.retry_policy[0].maximum_event_age_in_seconds == 86400 && target.retry_policy[0].maximum_retry_attempts == 185
    ])
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
      Condition = {
        ArnLike = { "aws:SourceArn" = "arn:aws:events:eu-central-1:123456789012:rule/ecr-replicator_*" }
      }
    }]
    error_message = "Something else than this deployment's rules may write to the dead-letter queue."
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
    condition     = toset(concat(values(aws_cloudwatch_log_group.function)[*].retention_in_days, [aws_cloudwatch_log_group.state_machine.retention_in_days, aws_cloudwatch_log_group.reconcile.retention_in_days])) == toset([7])
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

      find-differences   = "ecr-replicator-find-differences 512 MB 900 s"
      report-differences = "ecr-replicator-report-differences 256 MB 60 s"
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
      && function.tracing_config[0].mode == "Active"
      && function.source_code_hash == filebase64sha256("./tests/packages/${step}/bootstrap.zip")
      && function.logging_config[0].log_format == "JSON"
      && function.logging_config[0].application_log_level == "INFO"
      && function.logging_config[0].log_group == "/aws/lambda/${function.function_name}"
    ])
    error_message = "A function is not a published al2023 bootstrap of its own package that logs JSON to its own group and goes on with a trace."
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
      report        = "DEPLOYMENT=ecr-replicator"

      find-differences   = "BUCKET=ecr-replicator-123456789012-eu-central-1 REPLICATION_ARN=arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image"
      report-differences = "BUCKET=ecr-replicator-123456789012-eu-central-1 DEPLOYMENT=ecr-replicator"
    }
    error_message = "A function has another environment."
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
      ecr-replicator-drift                = "EcrReplicator Drift Minimum ecr-replicator"
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
      if alarm.metric_name != "Drift"
    ])
    error_message = "An alarm does not go off within five minutes, or stays on without data, or tells nobody when it goes off or recovers."
  }
}

run "names_and_tags_are_everywhere" {
  command = plan

  variables {
    name          = "mirror"
    tags          = { team = "platform" }
    notifications = { topic_arn = "arn:aws:sns:eu-central-1:123456789012:replications", on = "all" }
  }

  assert {
    condition = alltrue([
      for name in concat(
        values(aws_lambda_function.this)[*].function_name,
        values(aws_iam_role.function)[*].name,
        values(aws_cloudwatch_metric_alarm.this)[*].alarm_name,
        values(aws_cloudwatch_event_rule.notification)[*].name,
        [
          aws_cloudwatch_metric_alarm.reconcile_failed.alarm_name,
          aws_cloudwatch_metric_alarm.throttling.alarm_name,
          aws_iam_role.event_rule.name,
          aws_iam_role.reconcile.name,
          aws_iam_role.schedule.name,
          aws_iam_role.state_machine.name,
          aws_s3_bucket.runs.bucket,
          aws_scheduler_schedule.reconcile[0].name,
          aws_sfn_state_machine.reconcile.name,
          aws_sfn_state_machine.this.name,
          aws_sqs_queue.dead_letters.name,
          aws_sqs_queue.reconcile_dead_letters.name,
        ],
      ) : startswith(name, "mirror-")
    ]) && values(aws_cloudwatch_event_rule.image_pushed)[*].name == ["mirror_all"]
    error_message = "A resource's name has another prefix, so that two copies of the module would collide."
  }

  assert {
    condition = alltrue([
      for tags in concat(
        values(aws_lambda_function.this)[*].tags,
        values(aws_iam_role.function)[*].tags,
        values(aws_cloudwatch_log_group.function)[*].tags,
        values(aws_cloudwatch_event_rule.image_pushed)[*].tags,
        values(aws_cloudwatch_metric_alarm.this)[*].tags,
        values(aws_cloudwatch_event_rule.notification)[*].tags,
        [
          aws_cloudwatch_metric_alarm.reconcile_failed.tags,
          aws_cloudwatch_metric_alarm.throttling.tags,
          aws_cloudwatch_log_group.reconcile.tags,
          aws_cloudwatch_log_group.state_machine.tags,
          aws_iam_role.event_rule.tags,
          aws_iam_role.reconcile.tags,
          aws_iam_role.schedule.tags,
          aws_iam_role.state_machine.tags,
          aws_s3_bucket.runs.tags,
          aws_sfn_state_machine.reconcile.tags,
          aws_sfn_state_machine.this.tags,
          aws_sqs_queue.dead_letters.tags,
          aws_sqs_queue.reconcile_dead_letters.tags,
        ],
      ) : tags == tomap({ team = "platform" })
    ])
    error_message = "A resource has other tags than asked."
  }
}

run "outputs_name_what_was_made" {
  command = plan

  assert {
    condition     = output.event_rule_names == { all = "ecr-replicator_all" }
    error_message = "The event rules' names are others."
  }

  assert {
    condition     = output.function_names == { for step in ["copy-layers", "ensure-repo", "find-differences", "put-manifest", "report", "report-differences", "resolve-image"] : step => "ecr-replicator-${step}" }
    error_message = "The function names are others."
  }

  assert {
    condition = output.log_group_names == merge(
      { for step in keys(output.function_names) : step => "/aws/lambda/ecr-replicator-${step}" },
      { for machine in ["reconcile-registry", "replicate-image"] : machine => "/aws/vendedlogs/states/ecr-replicator-${machine}" },
    )
    error_message = "The log group names are others."
  }

  assert {
    condition     = output.state_machine_console_url == "https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/statemachines/view/arn%3Aaws%3Astates%3Aeu-central-1%3A123456789012%3AstateMachine%3Aecr-replicator-replicate-image"
    error_message = "The console's URL is another."
  }
}
