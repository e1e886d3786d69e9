# What of a rule an event pattern can say. EventBridge cannot ask for two things of one field (aws/event-ruler#69), so where a rule
# both includes and excludes, the pattern holds what is included, and the resolve-image function ends what is excluded.

locals {
  # The config's type, by which ECR tells an image, or an index of images, from what refers to one: a signature, an SBOM.
  image_types = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
  ]

  tags_are_filtered = {
    for name, rule in local.rules : name => !contains(rule.tags.include, "*") || length(rule.tags.exclude) > 0
  }

  # A pattern with its only * at its end is a prefix, and one with its only * at its beginning a suffix. An event bus takes few rules
  # with wildcards, and refuses those that are too complex: so there is one only where nothing else will do.
  pattern_kinds = {
    for pattern in distinct(flatten([
      for rule in local.rules : concat(rule.repositories.include, rule.repositories.exclude, rule.tags.include, rule.tags.exclude)
    ])) :
    pattern => (
      !strcontains(pattern, "*") ? "name" :
      can(regex("^[^*]+[*]$", pattern)) ? "prefix" :
      can(regex("^[*][^*]+$", pattern)) ? "suffix" : "wildcard"
    )
  }

  include_matchers = {
    for name, rule in local.rules : name => {
      for field, patterns in { repositories = rule.repositories.include, tags = rule.tags.include } : field => concat(
        [for pattern in patterns : pattern if local.pattern_kinds[pattern] == "name"],
        [for pattern in patterns : { prefix = trimsuffix(pattern, "*") } if local.pattern_kinds[pattern] == "prefix"],
        [for pattern in patterns : { suffix = trimprefix(pattern, "*") } if local.pattern_kinds[pattern] == "suffix"],
        [for pattern in patterns : { wildcard = pattern } if local.pattern_kinds[pattern] == "wildcard"],
      )
    }
  }

  # One matcher, because several would each let through what the others exclude. It has one kind of pattern, and every kind is a
  # wildcard.
  exclude_matchers = {
    for name, rule in local.rules : name => {
      for field, patterns in { repositories = rule.repositories.exclude, tags = rule.tags.exclude } : field => flatten([
        for kinds in [join(" ", distinct([for pattern in patterns : local.pattern_kinds[pattern]]))] : concat(
          [for names in [patterns] : { anything-but = names } if kinds == "name"],
          [for prefixes in [[for pattern in patterns : trimsuffix(pattern, "*")]] : { anything-but = { prefix = prefixes } } if kinds == "prefix"],
          [for suffixes in [[for pattern in patterns : trimprefix(pattern, "*")]] : { anything-but = { suffix = suffixes } } if kinds == "suffix"],
          [for wildcards in [patterns] : { anything-but = { wildcard = wildcards } } if !contains(["", "name", "prefix", "suffix"], kinds)],
        )
      ])
    }
  }

  # No matcher at all is every repository.
  repository_matchers = {
    for name, rule in local.rules : name => concat(
      [for matcher in local.exclude_matchers[name].repositories : matcher if contains(rule.repositories.include, "*")],
      [for matcher in local.include_matchers[name].repositories : matcher if !contains(rule.repositories.include, "*")],
    )
  }

  # Cosign's tags (sha256-<hex>.sig, .att, .sbom) pass: whether one is of the rule, what it refers to says, and resolve-image looks.
  # An empty tag is none; where only exclusions are asked for it passes, because EventBridge takes no empty text there, and
  # resolve-image ends an image without a tag.
  tag_matchers = {
    for name, rule in local.rules : name => concat(
      [for tags in [[""]] : { anything-but = tags } if !local.tags_are_filtered[name]],
      [for matcher in local.exclude_matchers[name].tags : matcher if contains(rule.tags.include, "*")],
      [for matcher in local.include_matchers[name].tags : matcher if !contains(rule.tags.include, "*")],
      [for prefix in ["sha256-"] : { prefix = prefix } if local.tags_are_filtered[name]],
    )
  }

  # A push without a tag has an empty one, or none.
  no_tag = ["", { exists = false }]

  event_details = {
    for name, rule in local.rules : name => merge(
      {
        action-type = ["PUSH"]
        result      = ["SUCCESS"]
      },
      { for matchers in [local.repository_matchers[name]] : "repository-name" => matchers if length(matchers) > 0 },
      {
        for matchers in [concat(local.tag_matchers[name], local.no_tag)] : "image-tag" => matchers
        if rule.untagged && local.tags_are_filtered[name]
      },
      # An image without a tag is not of the rule; what refers to one is pushed without a tag, and is. An event may lack the type.
      {
        for alternatives in [[
          { image-tag = local.tag_matchers[name] },
          { image-tag = local.no_tag, artifact-media-type = [{ exists = false }, { anything-but = local.image_types }] },
        ]] : "$or" => alternatives if !rule.untagged
      },
    )
  }

  wildcard_rules = [for name, detail in local.event_details : name if strcontains(jsonencode(detail), "\"wildcard\":")]
}
