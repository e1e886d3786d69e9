# What renames come to: names that no repository may have, copies that are copied again, repositories that are mixed up.

locals {
  # A pattern as a regular expression. What it matches of another pattern, with each * as a mere character, it matches of all that
  # the other one matches.
  expressions = {
    for pattern in distinct(concat(
      keys(local.pattern_kinds),
      local.names[*].target,
    )) : pattern => "^${replace(replace(pattern, ".", "[.]"), "*", ".*")}$"
  }

  # Two patterns with a * have a name in common when their beginnings and their ends agree: what is between, a * lets stand there.
  ends = {
    for pattern in keys(local.expressions) : pattern => {
      first = split("*", pattern)[0]
      last  = reverse(split("*", pattern))[0]
      open  = strcontains(pattern, "*")
    }
  }

  rename_problems = concat(
    [
      for target in local.targets : "${target.label}: a repository is a name such as mirror/app; \"${target.fixed}\" is none."
      if target.fixed != null && !(
        can(regex(local.repository_name, target.fixed)) && can(regex(local.repository_length, target.fixed))
      )
    ],
    [
      for target in local.targets : "${target.label}: a repository has one name there, so the rule includes exactly one, and by its name."
      if target.fixed != null && !can(regex("^[^*]+$", one(local.rules[target.rule].repositories.include)))
    ],
    flatten([
      for name, rule in local.rules : [
        for index, target in rule.targets : [
          for problem in [
            {
              # With the shortest name there could be.
              found = target.repository_prefix != null && !(
                can(regex(local.repository_name, "${coalesce(target.repository_prefix, "-")}a"))
              )
              text = "a repository_prefix is how a name can begin, such as mirror/, and is not empty."
            },
            {
              found = target.replace_prefix != null && !can(regex("^[a-z0-9][a-z0-9._/-]*$", target.replace_prefix.from))
              text  = "replace_prefix.from has lower-case letters, digits and . _ - / and is not empty."
            },
            {
              found = target.replace_prefix != null && !can(regex(local.repository_name, "${target.replace_prefix.to}a"))
              text  = "replace_prefix.to is how a name can begin, such as dr/, or empty."
            },
            {
              found = target.replace_prefix != null && !alltrue([
                for pattern in rule.repositories.include : startswith(pattern, try(target.replace_prefix.from, ""))
              ])
              text = "replace_prefix.from is not how each of repositories.include begins."
            },
          ] : "rule ${name}, targets[${index}]: ${problem.text}" if problem.found
        ]
      ]
    ]),
    [
      for name in local.names : "${name.label}: ${name.source} would be called \"${name.target}\" there, which is no repository's name."
      if name.fixed == null && local.repository_patterns[name.source] && !(
        can(regex(local.repository_name, replace(name.target, "*", "a"))) && can(regex(local.repository_length, name.target))
      )
    ],

    # Copies that are copied again.
    [
      for name in local.names : "${name.label}: ${name.source} would be replicated to itself."
      if local.is_in_source[name.position] && name.source == name.target
    ],
    distinct(flatten([
      for name in local.names : [
        for other, rule in local.rules : [
          for pattern in rule.repositories.include : join(" ", [
            "${name.label}: the copy ${name.target} is in the source region, where rule ${other} includes ${pattern}, and would",
            "replicate it again, without end; exclude ${name.target} there.",
          ])
          if name.source != name.target && (
            can(regex(local.expressions[pattern], name.target))
            || can(regex(local.expressions[name.target], pattern))
            || (
              local.ends[pattern].open && local.ends[name.target].open
              && (
                startswith(local.ends[pattern].first, local.ends[name.target].first)
                || startswith(local.ends[name.target].first, local.ends[pattern].first)
              )
              && (
                endswith(local.ends[pattern].last, local.ends[name.target].last)
                || endswith(local.ends[name.target].last, local.ends[pattern].last)
              )
            )
          ) && !anytrue([for excluded in rule.repositories.exclude : can(regex(local.expressions[excluded], name.target))])
        ]
      ] if local.is_in_source[name.position]
    ])),

    [
      for position, key in local.target_keys : "${local.targets[position].label}: the rule has this target already."
      if index(local.target_keys, key) < position
    ],

    # Repositories that are mixed up.
    distinct([
      for pair in local.meetings : join(" ", [
        "${pair.one.label}: ${pair.one.source} would be ${pair.one.target} in ${pair.one.account} ${pair.one.region},",
        "and so would ${pair.some_of}${pair.meets} by ${pair.other.label};",
        "exclude ${pair.meets} from rule ${pair.other.rule}, or rename one of them.",
      ]) if pair.meets != pair.one.source
    ]),
  )

  # One repository that several rules see to. Two that synchronize it would each undo on every run what the other one did. Where one
  # synchronizes and the other only makes it, the latter's own settings would not last. Where both only make it, the first one to come
  # decides, and so it does of encryption, which stays as it was made.
  sharing_problems = distinct([
    for pair in local.meetings : join(" ", [
      "${pair.one.label}: ${pair.some_of}${pair.one.target} in ${pair.one.account} ${pair.one.region} gets other settings or another key",
      "from ${pair.other.label}, and",
      contains([pair.one.settings, pair.other.settings], "sync") ? "at least one of them synchronizes it;" : "whichever comes first makes it;",
      "give both the same, or exclude ${pair.meets} from rule ${pair.other.rule}.",
    ])
    if alltrue([
      pair.meets == pair.one.source,
      !contains([pair.one.settings, pair.other.settings], "none"),
      anytrue([
        coalesce(pair.one.key_arn, "-") != coalesce(pair.other.key_arn, "-"),
        local.overrides[pair.one.rule] != local.overrides[pair.other.rule] && alltrue([
          for target in [pair.one, pair.other] : target.settings == "sync" || local.overrides[target.rule] != "{}"
        ]),
      ]),
    ])
  ])

  is_in_source = [for target in local.targets : target.own && target.region == var.origin.region]

  target_keys = [
    for position, target in local.targets : join(" ", concat(
      [target.rule, target.account, target.region],
      [for name in local.names : name.target if name.position == position],
    ))
  ]

  # By registry, because only there two names can be one.
  names_by_registry = { for name in local.names : "${name.account} ${name.region}" => name... }

  # Two names at one registry that stand for one repository, or some: the other one's takes the first one's in, or they overlap.
  # `meets` is what is called so there and is called here as the first one's target; `back`, the other way round. Two that are the
  # same meet once, and so do two that overlap: as one can say it, where a name that begins otherwise could not be undone.
  overlaps = flatten([
    for names in local.names_by_registry : [
      for number, name in names : [
        for other_number, other in names : {
          one     = name
          other   = other
          some_of = can(regex(local.expressions[other.target], name.target)) ? "" : "some of "
          meets   = other.fixed != null ? other.source : "${other.from}${trimprefix(name.target, other.to)}"
          back = (
            name.fixed == null && startswith(other.target, name.to) ? "${name.from}${trimprefix(other.target, name.to)}" : name.source
          )
        }
        if(
          name.target == other.target ? number < other_number :
          can(regex(local.expressions[other.target], name.target)) ? true : (
            local.ends[name.target].open && local.ends[other.target].open
            && startswith(name.target, other.to) && (number < other_number || !startswith(other.target, name.to))
            && (
              startswith(local.ends[name.target].first, local.ends[other.target].first)
              || startswith(local.ends[other.target].first, local.ends[name.target].first)
            )
            && (
              endswith(local.ends[name.target].last, local.ends[other.target].last)
              || endswith(local.ends[other.target].last, local.ends[name.target].last)
            )
            && !can(regex(local.expressions[name.target], other.target))
          )
        )
      ]
    ]
  ])

  # Unless one of the two rules excludes it.
  meetings = [
    for pair in local.overlaps : pair
    if !anytrue(concat(
      [for excluded in local.rules[pair.other.rule].repositories.exclude : can(regex(local.expressions[excluded], pair.meets))],
      [for excluded in local.rules[pair.one.rule].repositories.exclude : can(regex(local.expressions[excluded], pair.back))],
    ))
  ]
}
