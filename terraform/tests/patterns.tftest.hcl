# What a rule becomes: the detail of its event pattern, and its definition for the state machine.

variables {
  origin = { account_id = "123456789012", partition = "aws", region = "eu-central-1" }
}

run "which_repositories" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      for name, repositories in {
        all      = {}
        everyone = { include = ["base", "*"] }
        but      = { exclude = ["prod/scratch-*", "base"] }
        names    = { exclude = ["prod/app", "base"] }
        prefixes = { exclude = ["prod/scratch-*", "tmp/*"] }
        suffixes = { include = ["*"], exclude = ["*-cache", "*/tmp"] }
        within   = { exclude = ["prod/*/cache"] }
        ends     = { exclude = ["prod/*", "*/cache"] }
        only     = { include = ["base", "prod/*", "*-release", "a/*/b", "team-*"] }
        both     = { include = ["prod/*"], exclude = ["prod/scratch-*"] }
      } : name => { repositories = repositories, targets = [{ region = "eu-west-1" }] }
    }
  }

  assert {
    condition = { for name, rule in output.rules : name => lookup(rule.event_detail, "repository-name", []) } == {
      all      = []
      everyone = []
      but      = [{ anything-but = { wildcard = tolist(["prod/scratch-*", "base"]) } }]
      names    = [{ anything-but = tolist(["prod/app", "base"]) }]
      prefixes = [{ anything-but = { prefix = ["prod/scratch-", "tmp/"] } }]
      suffixes = [{ anything-but = { suffix = ["-cache", "/tmp"] } }]
      within   = [{ anything-but = { wildcard = tolist(["prod/*/cache"]) } }]
      ends     = [{ anything-but = { wildcard = tolist(["prod/*", "*/cache"]) } }]
      only     = ["base", { prefix = "prod/" }, { prefix = "team-" }, { suffix = "-release" }, { wildcard = "a/*/b" }]
      both     = [{ prefix = "prod/" }]
    }
    error_message = "A rule's repositories are others."
  }

  # Neither adds nor repeats a field.
  assert {
    condition = { for name, rule in output.rules : name => join(" ", keys(rule.event_detail)) } == {
      all      = "$or action-type result"
      everyone = "$or action-type result"
      but      = "$or action-type repository-name result"
      names    = "$or action-type repository-name result"
      prefixes = "$or action-type repository-name result"
      suffixes = "$or action-type repository-name result"
      within   = "$or action-type repository-name result"
      ends     = "$or action-type repository-name result"
      only     = "$or action-type repository-name result"
      both     = "$or action-type repository-name result"
    }
    error_message = "A pattern asks for other fields."
  }
}

run "which_tags_without_untagged_images" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      for name, tags in {
        all  = {}
        but  = { exclude = ["*-rc*", "dev"] }
        name = { exclude = ["dev", "edge"] }
        from = { exclude = ["dev-*", "edge-*"] }
        to   = { exclude = ["*-dev", "*-edge"] }
        only = { include = ["latest", "v*", "*.*", "*-stable"] }
        both = { include = ["v*"], exclude = ["*-rc*"] }
      } : name => { tags = tags, targets = [{ region = "eu-west-1" }] }
    }
  }

  assert {
    condition = {
      for name, rule in output.rules : name => jsonencode({ for field, matchers in rule.event_detail : field => matchers if field != "$or" })
      } == {
      for name in ["all", "but", "name", "from", "to", "only", "both"] : name => jsonencode({ action-type = ["PUSH"], result = ["SUCCESS"] })
    }
    error_message = "A field is asked for twice, or another one is."
  }

  assert {
    condition = { for name, rule in output.rules : name => jsonencode(rule.event_detail["$or"][0]) } == {
      all  = jsonencode({ image-tag = [{ anything-but = [""] }] })
      but  = jsonencode({ image-tag = [{ anything-but = { wildcard = ["*-rc*", "dev"] } }, { prefix = "sha256-" }] })
      name = jsonencode({ image-tag = [{ anything-but = ["dev", "edge"] }, { prefix = "sha256-" }] })
      from = jsonencode({ image-tag = [{ anything-but = { prefix = ["dev-", "edge-"] } }, { prefix = "sha256-" }] })
      to   = jsonencode({ image-tag = [{ anything-but = { suffix = ["-dev", "-edge"] } }, { prefix = "sha256-" }] })
      only = jsonencode({ image-tag = ["latest", { prefix = "v" }, { suffix = "-stable" }, { wildcard = "*.*" }, { prefix = "sha256-" }] })
      both = jsonencode({ image-tag = [{ prefix = "v" }, { prefix = "sha256-" }] })
    }
    error_message = "A rule's tags are others; mind the tags of signatures."
  }

  assert {
    condition = alltrue([
      for rule in output.rules : length(rule.event_detail["$or"]) == 2 && jsonencode(rule.event_detail["$or"][1]) == jsonencode({
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
      })
    ])
    error_message = "Without a tag, what is no ordinary image passes, and nothing else."
  }
}

run "which_tags_with_untagged_images" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      for name, tags in {
        all  = {}
        but  = { exclude = ["*-rc*"] }
        only = { include = ["v*"] }
        both = { include = ["v*"], exclude = ["*-rc*"] }
      } : name => { tags = tags, untagged = true, targets = [{ region = "eu-west-1" }] }
    }
  }

  assert {
    condition = {
      for name, rule in output.rules : name => jsonencode({
        for field, matchers in rule.event_detail : field => matchers if !contains(["action-type", "result"], field)
      })
      } == {
      all  = jsonencode({})
      but  = jsonencode({ image-tag = [{ anything-but = { wildcard = ["*-rc*"] } }, { prefix = "sha256-" }, "", { exists = false }] })
      only = jsonencode({ image-tag = [{ prefix = "v" }, { prefix = "sha256-" }, "", { exists = false }] })
      both = jsonencode({ image-tag = [{ prefix = "v" }, { prefix = "sha256-" }, "", { exists = false }] })
    }
    error_message = "A rule's tags are others; a push without a tag passes."
  }
}

run "what_has_to_be_looked_up" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      all      = { targets = [{ region = "eu-west-1" }] }
      untagged = { untagged = true, targets = [{ region = "eu-west-1" }] }
      only     = { tags = { include = ["v*"] }, targets = [{ region = "eu-west-1" }] }
      but      = { tags = { exclude = ["v*"] }, targets = [{ region = "eu-west-1" }] }
    }
  }

  assert {
    condition     = [for name, rule in output.rules : name if rule.looks_up] == ["but", "only", "untagged"]
    error_message = "Untagged images and filtered tags are looked up, nothing else."
  }
}

run "what_the_state_machine_is_given" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      least = { targets = [{ region = "eu-west-1" }] }
      own = {
        targets = [
          { region = "ca-central-1", registry_id = "123456789012", settings = "sync" },
          { region = "ca-west-1", registry_id = "123456789012", role_arn = "arn:aws:iam::123456789012:role/x" },
        ]
      }
      most = {
        repositories = { include = ["prod/*"], exclude = ["prod/scratch-*"] }
        tags         = { include = ["v*"], exclude = ["*-rc*"] }
        untagged     = true
        targets = [
          { region = "eu-south-1" },
          { region = "us-east-1", repository_prefix = "mirror/" },
          { region = "us-east-2", replace_prefix = { from = "prod/", to = "dr/" } },
          { region = "eu-west-1", registry_id = "222222222222", role_arn = "arn:aws:iam::222222222222:role/x", external_id = "yy" },
          { region = "eu-west-3", kms_key_arn = "arn:aws:kms:eu-west-3:111122223333:key/x", settings = "sync" },
          { region = "eu-west-3", registry_id = "222222222222", settings = "none" },
        ]
        repository_settings = {
          tag_mutability            = "IMMUTABLE_WITH_EXCLUSION"
          tag_mutability_exclusions = ["latest*"]
          scan_on_push              = false
          tags                      = { team = "x" }
          lifecycle_policy          = format("%-100s", "{\"rules\": []}")
          repository_policy         = "{\"Version\": \"2012-10-17\"}"
        }
      }
      one = {
        repositories        = { include = ["base"] }
        targets             = [{ region = "us-west-2", repository = "fixed/name" }]
        repository_settings = { tags = {} }
      }
    }
  }

  # As text, in which a member that is null is not one that is missing.
  assert {
    condition = { for name, rule in output.rules : name => jsonencode(rule.definition) } == {
      least = jsonencode({
        repositories = { include = ["*"], exclude = [] }
        tags         = { include = ["*"], exclude = [] }
        untagged     = false
        targets      = [{ region = "eu-west-1", settings = "create" }]
      })
      own = jsonencode({
        repositories = { include = ["*"], exclude = [] }
        tags         = { include = ["*"], exclude = [] }
        untagged     = false
        targets = [
          { region = "ca-central-1", settings = "sync" },
          { region = "ca-west-1", registryId = "123456789012", roleArn = "arn:aws:iam::123456789012:role/x", settings = "create" },
        ]
      })
      most = jsonencode({
        repositories = { include = ["prod/*"], exclude = ["prod/scratch-*"] }
        tags         = { include = ["v*"], exclude = ["*-rc*"] }
        untagged     = true
        targets = [
          { region = "eu-south-1", settings = "create" },
          { region = "us-east-1", repository = { prefix = "mirror/" }, settings = "create" },
          { region = "us-east-2", repository = { replacePrefix = { from = "prod/", to = "dr/" } }, settings = "create" },
          {
            region     = "eu-west-1"
            registryId = "222222222222"
            roleArn    = "arn:aws:iam::222222222222:role/x"
            externalId = "yy"
            settings   = "create"
          },
          { region = "eu-west-3", kmsKeyArn = "arn:aws:kms:eu-west-3:111122223333:key/x", settings = "sync" },
          { region = "eu-west-3", registryId = "222222222222", settings = "none" },
        ]
        repositorySettings = {
          tagMutability           = "IMMUTABLE_WITH_EXCLUSION"
          tagMutabilityExclusions = ["latest*"]
          scanOnPush              = false
          tags                    = { team = "x" }
          lifecyclePolicy         = format("%-100s", "{\"rules\": []}")
          repositoryPolicy        = "{\"Version\": \"2012-10-17\"}"
        }
      })
      one = jsonencode({
        repositories       = { include = ["base"], exclude = [] }
        tags               = { include = ["*"], exclude = [] }
        untagged           = false
        targets            = [{ region = "us-west-2", repository = "fixed/name", settings = "create" }]
        repositorySettings = { tags = {} }
      })
    }
    error_message = "A rule's definition is another: ${jsonencode({ for name, rule in output.rules : name => rule.definition })}"
  }
}

# An event bus takes 30 rules with wildcards.
run "there_is_no_wildcard_where_a_prefix_a_suffix_or_a_name_does" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      for number in range(31) : "rule-${number}" => {
        repositories = { include = number % 2 == 0 ? ["*"] : ["base", "prod/*", "*/release"], exclude = ["*/cache", "*-tmp"] }
        tags         = { include = number % 3 == 0 ? ["*"] : ["latest", "v*", "*-stable"], exclude = number % 5 == 0 ? ["dev"] : ["dev-*", "rc-*"] }
        untagged     = number % 7 == 0
        targets      = [{ region = "eu-west-1" }]
      }
    }
  }

  assert {
    condition     = output.problems == [] && !strcontains(jsonencode(values(output.rules)[*].event_detail), "wildcard")
    error_message = "A pattern has a wildcard, or is taken for one that does."
  }
}
