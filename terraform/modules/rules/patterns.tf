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

  # A pattern with its only * at the end is a prefix, which costs EventBridge less than a wildcard does.
  include_matchers = {
    for name, rule in local.rules : name => {
      for field, patterns in { repositories = rule.repositories.include, tags = rule.tags.include } : field => concat(
        [for pattern in patterns : pattern if !strcontains(pattern, "*")],
        [for pattern in patterns : { prefix = trimsuffix(pattern, "*") } if can(regex("^[^*]+[*]$", pattern))],
        [for pattern in patterns : { wildcard = pattern } if strcontains(pattern, "*") && !can(regex("^[^*]+[*]$", pattern))],
      )
    }
  }

  # No matcher at all is every repository.
  repository_matchers = {
    for name, rule in local.rules : name => concat(
      [
        for patterns in [rule.repositories.exclude] : { anything-but = { wildcard = patterns } }
        if contains(rule.repositories.include, "*") && length(patterns) > 0
      ],
      [for matcher in local.include_matchers[name].repositories : matcher if !contains(rule.repositories.include, "*")],
    )
  }

  # Cosign's tags (sha256-<hex>.sig, .att, .sbom) pass: whether one is of the rule, what it refers to says, and resolve-image looks.
  # An empty tag is none; where only exclusions are asked for it passes, because EventBridge takes no empty text there, and
  # resolve-image ends an image without a tag.
  tag_matchers = {
    for name, rule in local.rules : name => concat(
      [for tags in [[""]] : { anything-but = tags } if !local.tags_are_filtered[name]],
      [
        for patterns in [rule.tags.exclude] : { anything-but = { wildcard = patterns } }
        if local.tags_are_filtered[name] && contains(rule.tags.include, "*")
      ],
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
}
