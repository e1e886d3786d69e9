# Everything that can be known to be wrong with the rules before anything is made, a line each.

locals {
  region_pattern = "^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$"

  # Regions whose names do not begin so are of the partition aws.
  partitions = {
    "cn-"      = "aws-cn"
    "us-gov-"  = "aws-us-gov"
    "us-iso-"  = "aws-iso"
    "us-isob-" = "aws-iso-b"
    "us-isof-" = "aws-iso-f"
    "eu-isoe-" = "aws-iso-e"
    "eusc-"    = "aws-eusc"
  }
  partition_of = {
    for region in distinct(local.targets[*].region) : region => concat(
      [for beginning, partition in local.partitions : partition if startswith(region, beginning)],
      ["aws"],
    )[0]
  }

  # ECR's grammar of names, and how long they are, with the one pattern that is shorter. A pattern takes in some name if it is one
  # itself with a letter for each *: whatever else a * stands for there, a letter can do.
  repository_name   = "^[a-z0-9]+(([.]|__?|-+|/)[a-z0-9]+)*$"
  repository_length = "^(.{2,256}|[*])$"

  # EventBridge rejects "**", and neither it nor IAM may read another character as a wildcard.
  repository_patterns = {
    for pattern in distinct(flatten([for rule in local.rules : concat(rule.repositories.include, rule.repositories.exclude)])) :
    pattern => (
      can(regex(local.repository_name, replace(pattern, "*", "a")))
      && can(regex(local.repository_length, pattern))
      && !strcontains(pattern, "**")
    )
  }
  tag_pattern = "^[a-zA-Z0-9_*][a-zA-Z0-9._*-]{0,127}$"

  # Step Functions carries 256 KiB from state to state, of which the rules may take their part; one of them goes to each target.
  largest_rule  = 60000
  largest_rules = 200000

  # Of those 256 KiB, the outcomes of all targets are carried together, with the rule that they are of. An image and what refers to
  # it take the rest: 43 KB for 500 referrers.
  most_targets    = 60
  largest_outcome = 3510
  largest_round   = 218000

  # EventBridge's quota for one event bus, which cannot be raised.
  most_wildcard_rules = 30

  problems = concat(
    local.rule_problems,
    local.target_problems,
    local.rename_problems,
    local.sharing_problems,
    local.settings_problems,
    local.size_problems,
  )

  rule_problems = concat(
    [for count in [length(local.rules)] : "There is no rule: name at least one, such as all." if count == 0],
    [
      for name in keys(local.rules) : "rule ${name}: a rule's name has 1 to 31 lower-case letters, digits and hyphens, and begins with a letter."
      if !can(regex("^[a-z][a-z0-9-]{0,30}$", name))
    ],
    [
      for name, rule in local.rules : "rule ${name}: repositories.include is empty; leave it out for all of them."
      if length(rule.repositories.include) == 0
    ],
    [
      for name, rule in local.rules : "rule ${name}: tags.include is empty; leave it out for all of them."
      if length(rule.tags.include) == 0
    ],
    flatten([
      for name, rule in local.rules : [
        for pattern in concat(rule.repositories.include, rule.repositories.exclude) : join(" ", [
          "rule ${name}: a repository is a name such as prod/app or a pattern such as prod/*, of lower-case letters, digits, . _ - /",
          "and single *; \"${pattern}\" is neither.",
        ]) if !local.repository_patterns[pattern]
      ]
    ]),
    flatten([
      for name, rule in local.rules : [
        for pattern in concat(rule.tags.include, rule.tags.exclude) : join(" ", [
          "rule ${name}: a tag is one such as latest or a pattern such as v*, of letters, digits, . _ - and single *;",
          "\"${pattern}\" is neither.",
        ]) if !can(regex(local.tag_pattern, pattern)) || strcontains(pattern, "**")
      ]
    ]),
    # One that replicates images without a tag may have no other.
    flatten([
      for name, rule in local.rules : [
        for kind, filter in { repository = rule.repositories, tag = rule.tags } :
        "rule ${name}: every ${kind} that it includes is excluded, so that it replicates nothing."
        if length(filter.include) > 0 && !(kind == "tag" && rule.untagged) && alltrue([
          for included in filter.include : anytrue([
            for excluded in filter.exclude : can(regex(local.expressions[excluded], included))
          ])
        ])
      ]
    ]),
    [for name, rule in local.rules : "rule ${name}: there is no target; name at least one." if length(rule.targets) == 0],
  )

  target_problems = flatten([
    for name, rule in local.rules : [
      for index, target in rule.targets : [
        for problem in [
          {
            found = !can(regex(local.region_pattern, target.region))
            text  = "a region is one such as eu-west-1; \"${target.region}\" is none."
          },
          {
            # No credentials are good in two partitions.
            found = can(regex(local.region_pattern, target.region)) && local.partition_of[target.region] != var.origin.partition
            text = join(" ", [
              "a target is in the source's partition, ${var.origin.partition};",
              "${target.region} is in ${local.partition_of[target.region]}.",
            ])
          },
          {
            found = target.registry_id != null && !can(regex("^[0-9]{12}$", target.registry_id))
            text  = "a registry_id is an account's number, of 12 digits."
          },
          {
            found = target.role_arn != null && target.registry_id == null
            text  = "a role_arn is given, and no registry_id to use it for."
          },
          {
            found = (target.role_arn != null && target.registry_id != null && !can(regex(
              "^arn:${var.origin.partition}:iam::${coalesce(target.registry_id, "-")}:role/[a-zA-Z0-9_+=,.@/-]+$", target.role_arn
            )))
            text = "a role_arn is a role's of the registry's account, such as arn:aws:iam::222222222222:role/ecr-replicator."
          },
          {
            found = target.external_id != null && target.role_arn == null
            text  = "an external_id is given, and no role_arn to assume with it."
          },
          {
            found = target.external_id != null && !(
              can(regex("^[a-zA-Z0-9_+=,.@:/-]{2,}$", target.external_id)) && try(length(target.external_id) <= 1224, false)
            )
            text = "an external_id has 2 to 1224 letters, digits and _ + = , . @ : / -"
          },
          {
            found = target.kms_key_arn != null && !can(regex(
              "^arn:${var.origin.partition}:kms:${target.region}:[0-9]{12}:(key|alias)/[a-zA-Z0-9/_-]+$", target.kms_key_arn
            ))
            text = "a kms_key_arn is that of a key or an alias in the target's region, such as arn:aws:kms:eu-west-1:111122223333:key/..."
          },
          {
            found = !contains(["create", "sync", "none"], target.settings)
            text  = "the settings are create, sync or none."
          },
          {
            # A repository policy can allow a push; creating a repository it cannot, since it comes with one.
            found = !(
              coalesce(target.registry_id, var.origin.account_id) == var.origin.account_id
              || target.role_arn != null
              || target.settings == "none"
            )
            text = "without a role_arn, another account's repositories must be there already: the settings must be none."
          },
          {
            found = target.kms_key_arn != null && target.settings == "none"
            text  = "a kms_key_arn is for repositories that are made here, and settings are none."
          },
          {
            found = length([
              for rename in [target.repository, target.repository_prefix, try(target.replace_prefix.from, null)] : rename if rename != null
            ]) > 1
            text = "repository, repository_prefix and replace_prefix exclude each other."
          },
        ] : "rule ${name}, targets[${index}]: ${problem.text}" if problem.found
      ]
    ]
  ])

  settings_problems = concat(
    flatten([
      for name, rule in local.rules : [
        for problem in [
          {
            found = local.overrides[name] != "{}" && alltrue([for target in rule.targets : target.settings == "none"])
            text  = "they are for no target: the settings of each are none."
          },
          {
            found = rule.repository_settings.tag_mutability != null && !contains(
              ["MUTABLE", "IMMUTABLE", "IMMUTABLE_WITH_EXCLUSION", "MUTABLE_WITH_EXCLUSION"],
              coalesce(rule.repository_settings.tag_mutability, "-"),
            )
            text = "the tag_mutability is MUTABLE, IMMUTABLE, IMMUTABLE_WITH_EXCLUSION or MUTABLE_WITH_EXCLUSION."
          },
          {
            found = (
              endswith(coalesce(rule.repository_settings.tag_mutability, "-"), "_WITH_EXCLUSION")
              != (rule.repository_settings.tag_mutability_exclusions != null)
            )
            text = "tag_mutability_exclusions go with a tag_mutability ..._WITH_EXCLUSION, and that with them."
          },
          {
            found = rule.repository_settings.tag_mutability_exclusions != null && !(
              try(length(rule.repository_settings.tag_mutability_exclusions) >= 1, false)
              && try(length(rule.repository_settings.tag_mutability_exclusions) <= 5, false)
            )
            text = "there are 1 to 5 tag_mutability_exclusions."
          },
          {
            found = !alltrue([
              for filter in coalesce(rule.repository_settings.tag_mutability_exclusions, []) :
              can(regex("^[0-9a-zA-Z._*-]{1,128}$", filter)) && try(length(split("*", filter)) <= 3, false)
            ])
            text = "a tag_mutability_exclusion has 1 to 128 letters, digits and . _ - with at most two *."
          },
          {
            found = length(coalesce(rule.repository_settings.tags, {})) > 50 || !alltrue([
              for key, value in coalesce(rule.repository_settings.tags, {}) :
              can(regex("^[\\pL\\pZ\\pN_.:/=+@-]{1,128}$", key)) && can(regex("^[\\pL\\pZ\\pN_.:/=+@-]{0,256}$", value))
            ])
            text = "there are at most 50 tags, each a key of 1 to 128 and a value of 0 to 256 letters, digits, spaces and _ . : / = + - @"
          },
          {
            found = anytrue([
              for key in keys(coalesce(rule.repository_settings.tags, {})) :
              startswith(lower(key), "aws:") || key == "ecr-replicator:incomplete"
            ])
            text = "no tag's key begins with aws:, which is AWS's own, or is ecr-replicator:incomplete, which marks what is not complete."
          },
          {
            found = rule.repository_settings.lifecycle_policy != null && !(
              can(keys(jsondecode(rule.repository_settings.lifecycle_policy)))
              && try(length(rule.repository_settings.lifecycle_policy) >= 100, false)
              && try(length(rule.repository_settings.lifecycle_policy) <= 30720, false)
            )
            text = "a lifecycle_policy is a JSON object of 100 to 30720 characters."
          },
          {
            found = rule.repository_settings.repository_policy != null && !(
              can(keys(jsondecode(rule.repository_settings.repository_policy)))
              && try(length(rule.repository_settings.repository_policy) <= 10240, false)
            )
            text = "a repository_policy is a JSON object of at most 10240 characters."
          },
        ] : "rule ${name}, repository_settings: ${problem.text}" if problem.found
      ]
    ]),
    # The state machine would read what follows as an expression, and run it.
    [
      for name, definition in local.definitions : "rule ${name}: no text may have {% in it, with which the state machine's expressions begin."
      if strcontains(jsonencode(definition), "{%")
    ],
  )

  # With as many targets as it has.
  largest_rules_of = {
    for name, rule in local.rules : name => min(
      local.largest_rule,
      local.largest_round - local.largest_outcome * min(length(rule.targets), local.most_targets),
    )
  }

  # In bytes, which Step Functions counts; Terraform's length has characters.
  sizes = {
    for name, definition in local.definitions : name => floor(length(trim(base64encode(jsonencode(definition)), "=")) * 3 / 4)
  }
  size_of_all = floor(length(trim(base64encode(jsonencode(local.definitions)), "=")) * 3 / 4)

  size_problems = concat(
    [
      for name, rule in local.rules : join(" ", [
        "rule ${name}: it has more targets than an execution can carry: ${length(rule.targets)}, and ${local.most_targets} is the most;",
        "make several rules of it.",
      ]) if length(rule.targets) > local.most_targets
    ],
    [
      for name, size in local.sizes : join(" ", [
        "rule ${name}: it has more targets or settings than an execution can carry:",
        "${size} bytes as JSON, and ${local.largest_rules_of[name]} is the most.",
      ]) if size > local.largest_rules_of[name]
    ],
    [
      for size in [local.size_of_all] : join(" ", [
        "All rules together have more targets or settings than the state machine can carry:",
        "${size} bytes as JSON, and ${local.largest_rules} is the most.",
      ]) if size > local.largest_rules
    ],
    [
      for count in [length(local.wildcard_rules)] : join(" ", [
        "${count} rules have wildcards in their event patterns, and an event bus takes ${local.most_wildcard_rules}:",
        "${join(", ", local.wildcard_rules)}. A pattern needs none with its only * at its beginning or at its end,",
        "nor do exclusions that are all such beginnings, all such ends or all names.",
      ]) if count > local.most_wildcard_rules
    ],
  )
}
