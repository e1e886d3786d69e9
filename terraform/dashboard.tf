# One page that fits a laptop's width: what is wrong at the top, what a user notices below it, and what explains it at the bottom.

locals {
  # Searches, so that a region is there as soon as it has been replicated to, and nothing lists them. One finds what had a figure in
  # the last two weeks.
  searched = {
    for metric in ["BytesCopied", "BytesSkipped", "Conflict", "CopyLayersDuration", "EnsureRepositoryDuration", "Failed", "PutManifestDuration", "Replicated", "ReplicationLag", "Retries", "Skipped", "Superseded", "Throttled", "Unchanged"] :
    metric => "'{${local.metric_namespace},Deployment,Region} MetricName=\"${metric}\" Deployment=\"${var.name}\"'"
  }

  drift_search = "'{${local.metric_namespace},Deployment,Region,Rule} MetricName=\"Drift\" Deployment=\"${var.name}\"'"

  # AWS/States has the metrics of one state machine, AWS/Lambda those of each function.
  states_metric = {
    for metric in ["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted", "ExecutionTime", "ExecutionThrottled"] :
    metric => ["AWS/States", metric, "StateMachineArn", local.state_machine_arn]
  }
  reconcile_metric = {
    for metric in ["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"] :
    metric => ["AWS/States", metric, "StateMachineArn", local.reconcile_arn]
  }

  dashboard_rows = [
    [
      {
        type   = "alarm"
        height = 2
        properties = {
          title = "Alarms: each has an entry in docs/runbook.md"
          alarms = [
            for name in sort(values(local.alarm_names)) : "arn:${local.partition}:cloudwatch:${local.source_region}:${local.account_id}:alarm:${name}"
          ]
        }
      },
    ],
    [
      {
        title  = "Lag by region: from push to tag, longest"
        unit   = "ms"
        series = [[{ expression = "SEARCH(${local.searched["ReplicationLag"]}, 'Maximum', 300)", label = "$${PROP('Dim.Region')}" }]]
        annotations = var.lag_objective_seconds == null ? [] : [
          { label = "objective", value = var.lag_objective_seconds * 1000 },
        ]
      },
      {
        title   = "Targets by outcome"
        unit    = "targets"
        stacked = true
        series = [
          for outcome, color in {
            Replicated = "#2ca02c", Unchanged = "#98df8a", Superseded = "#aec7e8", Skipped = "#ffbb78", Conflict = "#ff7f0e", Failed = "#d62728"
          } : [{ expression = "SUM(SEARCH(${local.searched[outcome]}, 'Sum', 300))", label = outcome, color = color }]
        ]
      },
      {
        title   = "Executions"
        unit    = "executions"
        stacked = false
        series = [
          for metric, color in {
            ExecutionsStarted = "#1f77b4", ExecutionsSucceeded = "#2ca02c", ExecutionsFailed = "#d62728", ExecutionsTimedOut = "#ff7f0e", ExecutionsAborted = "#7f7f7f"
          } : concat(local.states_metric[metric], [{ label = trimprefix(metric, "Executions"), color = color, stat = "Sum" }])
        ]
      },
    ],
    [
      {
        title  = "Bytes: sent, and there already"
        unit   = "bytes"
        series = [for metric, label in { BytesCopied = "sent", BytesSkipped = "there already" } : [{ expression = "SUM(SEARCH(${local.searched[metric]}, 'Sum', 300))", label = label }]]
      },
      {
        title = "Run time of an execution"
        unit  = "ms"
        series = [
          for stat, label in { p50 = "median", p90 = "9 of 10", Maximum = "longest" } : concat(local.states_metric["ExecutionTime"], [{ label = label, stat = stat }])
        ]
      },
      {
        title = "Step durations, longest of all regions"
        unit  = "ms"
        series = [
          for step in ["EnsureRepository", "CopyLayers", "PutManifest"] :
          [{ expression = "MAX(SEARCH(${local.searched["${step}Duration"]}, 'Maximum', 300))", label = step }]
        ]
      },
    ],
    [
      {
        title = "Throttles"
        unit  = "throttles"
        series = concat(
          [for step in keys(local.functions) : ["AWS/Lambda", "Throttles", "FunctionName", "${var.name}-${step}", { label = step, stat = "Sum" }]],
          [concat(local.states_metric["ExecutionThrottled"], [{ label = "state transitions", stat = "Sum" }])],
          [[{ expression = "SEARCH(${local.searched["Throttled"]}, 'Sum', 300)", label = "ECR, $${PROP('Dim.Region')}" }]],
        )
      },
      {
        title  = "Retries by region"
        unit   = "retries"
        series = [[{ expression = "SEARCH(${local.searched["Retries"]}, 'Sum', 300)", label = "$${PROP('Dim.Region')}" }]]
      },
      {
        title = "Dead letters: pushes that started nothing"
        unit  = "events"
        series = [
          ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", local.dead_letter_queue_name, { label = "waiting", stat = "Maximum", color = "#d62728" }],
        ]
      },
    ],
    [
      {
        title  = "Drift by rule and region: images that differ, as each run found it"
        unit   = "images"
        series = [[{ expression = "SEARCH(${local.drift_search}, 'Maximum', 3600)", label = "$${PROP('Dim.Rule')} $${PROP('Dim.Region')}" }]]
      },
      {
        title = "Runs of reconcile-registry"
        unit  = "executions"
        series = [
          for metric, color in {
            ExecutionsStarted = "#1f77b4", ExecutionsSucceeded = "#2ca02c", ExecutionsFailed = "#d62728", ExecutionsTimedOut = "#ff7f0e", ExecutionsAborted = "#7f7f7f"
          } : concat(local.reconcile_metric[metric], [{ label = trimprefix(metric, "Executions"), color = color, stat = "Sum" }])
        ]
      },
    ],
  ]

  # A grid of 24 columns: the widgets of a row share them, and each row stands below the one before it.
  dashboard_widgets = flatten([
    for row, widgets in local.dashboard_rows : [
      for column, widget in widgets : {
        type   = try(widget.type, "metric")
        x      = column * 24 / length(widgets)
        y      = row == 0 ? 0 : 2 + (row - 1) * 6
        width  = 24 / length(widgets)
        height = try(widget.height, 6)
        properties = try(widget.properties, {
          title       = widget.title
          region      = local.source_region
          view        = "timeSeries"
          stacked     = try(widget.stacked, false)
          period      = 300
          metrics     = widget.series
          yAxis       = { left = { min = 0, label = widget.unit, showUnits = false } }
          annotations = { horizontal = try(widget.annotations, []) }
        })
      }
    ]
  ])
}

resource "aws_cloudwatch_dashboard" "this" {
  count = var.dashboard ? 1 : 0

  dashboard_name = var.name
  dashboard_body = jsonencode({ start = "-PT24H", periodOverride = "inherit", widgets = local.dashboard_widgets })
}
