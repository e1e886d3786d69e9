# What is wrong with rules, and how it is said. Each run has rules of which one thing is wrong, and every problem that is found.

variables {
  origin = { account_id = "123456789012", partition = "aws", region = "eu-central-1" }
}

run "what_may_be_written_is_written_here" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      release-images = {
        repositories = { include = ["prod/*", "prod/a.b-c_d", "prod/a--b/a__b"], exclude = ["prod/scratch-*", "prod/dr/*"] }
        tags         = { include = ["v*", "latest", "*.*.*", "_x"], exclude = ["*-rc*"] }
        untagged     = true
        targets = [
          { region = "eu-west-1" },
          { region = "us-west-1", repository_prefix = "mirror/" },
          { region = "us-east-2", replace_prefix = { from = "prod/", to = "dr/" } },
          { region = "ap-south-1", replace_prefix = { from = "prod/", to = "" } },
          { region = "eu-central-1", replace_prefix = { from = "prod/", to = "prod/dr/" } },
          { region = "eu-central-1", registry_id = "222222222222", settings = "none" },
          {
            region      = "eu-west-1"
            registry_id = "222222222222"
            role_arn    = "arn:aws:iam::222222222222:role/path/x"
            external_id = "y+=,.@:/-_Z9"
            settings    = "none"
          },
          { region = "eu-west-3", kms_key_arn = "arn:aws:kms:eu-west-3:111122223333:key/0e-1", settings = "sync" },
          { region = "eu-west-2", kms_key_arn = "arn:aws:kms:eu-west-2:123456789012:alias/ecr/a_b" },
        ]
        repository_settings = {
          tag_mutability            = "IMMUTABLE_WITH_EXCLUSION"
          tag_mutability_exclusions = ["latest*", "*dev*", "a._-Z9"]
          scan_on_push              = true
          tags                      = { team = "x", "Über uns" = "", "a:b/c=d+e-f@g.h_i" = "1 2", "an-aws:x" = "aws:x" }
          lifecycle_policy          = format("%-100s", "{\"rules\":[]}")
          repository_policy         = "{\"Version\":\"2012-10-17\"}"
        }
      }
      one = {
        repositories = { include = ["base"] }
        targets = [
          { region = "us-west-2", repository = "fixed/name" },
          { region = "ca-west-1", repository = "a--b/a__b/c---d.e" },
          { region = "ca-west-1", repository = format("%0256d", 0) },
        ]
      }
      two = {
        repositories = { include = ["zz", format("%0256d", 0), "*"], exclude = ["z*", "*--*", "*_*", "prod/*"] }
        targets      = [{ region = "ca-central-1" }]
      }
      a2345678901234567890123456789 = {
        repositories        = { exclude = ["mirror/*", "dr/*", "fixed/name", "prod/*", "a*"] }
        targets             = [{ region = "eu-west-1" }, { region = "us-east-2" }, { region = "us-west-1" }]
        repository_settings = { tag_mutability = "MUTABLE" }
      }
    }
  }

  assert {
    condition     = output.problems == []
    error_message = "What may be written is said to be wrong."
  }
}

run "null_is_not_written" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      all = {
        repositories = { include = null, exclude = null }
        tags         = null
        untagged     = null
        targets = [{
          region            = "eu-west-1"
          repository        = null
          repository_prefix = null
          replace_prefix    = null
          registry_id       = null
          role_arn          = null
          external_id       = null
          kms_key_arn       = null
          settings          = null
        }]
        repository_settings = {
          tag_mutability            = null
          tag_mutability_exclusions = null
          scan_on_push              = null
          tags                      = null
          lifecycle_policy          = null
          repository_policy         = null
        }
      }
    }
  }

  assert {
    condition = jsonencode(output.rules.all.definition) == jsonencode({
      repositories = { include = ["*"], exclude = [] }
      tags         = { include = ["*"], exclude = [] }
      untagged     = false
      targets      = [{ region = "eu-west-1", settings = "create" }]
    })
    error_message = "A member that is null does not take its default."
  }
}

run "unknown_keys" {
  command = plan
  module { source = "./modules/rules/shapes" }

  variables {
    rules = {
      rule     = { target = [], targets = [{ region = "us-east-1" }] }
      filters  = { repositories = { includes = [] }, tags = { only = [] }, targets = [{ region = "us-east-1" }] }
      target   = { targets = [{ region = "us-east-1" }, { region = "us-east-2", prefix = "x" }] }
      rename   = { repositories = { include = ["prod/*"] }, targets = [{ region = "eu-west-1", replace_prefix = { from = "prod/", to = "dr/", with = "b" } }] }
      settings = { targets = [{ region = "us-east-1" }], repository_settings = { encryption = "KMS", tags = { anything = "goes" } } }
    }
  }

  assert {
    condition = output.unknown_keys == [
      "rule filters, repositories: there is no includes here, only exclude, include.",
      "rule filters, tags: there is no only here, only exclude, include.",
      "rule rename, targets[0].replace_prefix: there is no with here, only from, to.",
      "rule rule: there is no target here, only repositories, repository_settings, tags, targets, untagged.",
      "rule settings, repository_settings: there is no encryption here, only lifecycle_policy, repository_policy, scan_on_push, tag_mutability, tag_mutability_exclusions, tags.",
      "rule target, targets[1]: there is no prefix here, only external_id, kms_key_arn, region, registry_id, replace_prefix, repository, repository_prefix, role_arn, settings.",
    ]
    error_message = "The unknown keys are others: ${join("\n", output.unknown_keys)}"
  }
}

run "unknown_keys_are_refused" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = { all = { tag = ["v*"], targets = [{ region = "us-east-1" }] } }
  }

  expect_failures = [output.shaped]

  assert {
    condition     = output.problems == []
    error_message = "Beside the unknown key there are problems, which may be why the plan is refused."
  }
}

run "values_of_a_wrong_type_are_refused" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    # Terraform itself makes a map of it.
    rules = { all = { targets = [{ region = "us-east-1" }], repository_settings = { tags = { a = null } } } }
  }

  expect_failures = [output.shaped, output.rules]
}

run "values_of_a_wrong_type" {
  command = plan
  module { source = "./modules/rules/shapes" }

  variables {
    rules = {
      a-null         = null
      b-text         = "eu-west-1"
      c-without      = { untagged = false }
      d-bool         = { untagged = "maybe", targets = [{ region = "us-east-1" }] }
      e-filter       = { tags = ["v*"], repositories = "prod/*", targets = [{ region = "us-east-1" }] }
      f-list         = { tags = { include = "v*", exclude = [null] }, repositories = { include = {}, exclude = [["a"]] }, targets = [] }
      g-targets      = { targets = { region = "us-east-1" } }
      h-target       = { targets = ["us-east-1", null, {}, { region = ["us-east-1"], registry_id = 222222222222 }] }
      i-rename       = { targets = [{ region = "us-east-1", replace_prefix = "x" }, { region = "us-east-1", replace_prefix = { from = "x" } }] }
      j-settings     = { targets = [{ region = "us-east-1" }], repository_settings = { tags = { a = null }, lifecycle_policy = { rules = [] } } }
      k-settings-too = { targets = [{ region = "us-east-1" }], repository_settings = { tags = ["a"], scan_on_push = [], tag_mutability_exclusions = "a" } }
      l-unknown      = { target = [] }
    }
  }

  assert {
    condition = output.wrong_types == [
      "rule a-null is null.",
      "rule b-text is no object.",
      "rule c-without: targets is missing.",
      "rule d-bool: untagged is to be true or false.",
      "rule e-filter, repositories is no object.",
      "rule e-filter, tags is no object.",
      "rule f-list, repositories: exclude is to be a list of texts.",
      "rule f-list, repositories: include is to be a list of texts.",
      "rule f-list, tags: exclude is to be a list of texts.",
      "rule f-list, tags: include is to be a list of texts.",
      "rule g-targets: targets is to be a list of objects.",
      "rule g-targets, targets[region] is no object.",
      "rule h-target: targets is to be a list of objects.",
      "rule h-target, targets[0] is no object.",
      "rule h-target, targets[2]: region is missing.",
      "rule h-target, targets[3]: region is to be a text.",
      "rule i-rename, targets[0].replace_prefix is no object.",
      "rule i-rename, targets[1].replace_prefix: to is missing.",
      "rule j-settings, repository_settings: lifecycle_policy is to be a text.",
      "rule j-settings, repository_settings: tags is to be a map of texts.",
      "rule k-settings-too, repository_settings: scan_on_push is to be true or false.",
      "rule k-settings-too, repository_settings: tag_mutability_exclusions is to be a list of texts.",
      "rule k-settings-too, repository_settings: tags is to be a map of texts.",
      "rule l-unknown: targets is missing.",
    ]
    error_message = "The problems are others: ${join("\n", output.wrong_types)}"
  }
}

run "rules_that_are_no_map" {
  command = plan
  module { source = "./modules/rules/shapes" }

  variables {
    rules = "all"
  }

  assert {
    condition     = output.wrong_types == ["The rules are a map of objects, by name."]
    error_message = "The problems are others: ${join("\n", output.wrong_types)}"
  }
}

run "no_rule" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {}
  }

  expect_failures = [output.rules]

  assert {
    condition     = output.problems == ["There is no rule: name at least one, such as all."]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "rule_names" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      for name in ["a", "a2345678901234567890123456789-1", "a2345678901234567890123456789-12", "Release", "1a", "a_b", "", "-a"] :
      name => { targets = [{ region = "us-east-1" }] }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      for name in ["", "-a", "1a", "Release", "a2345678901234567890123456789-12", "a_b"] :
      "rule ${name}: a rule's name has 1 to 31 lower-case letters, digits and hyphens, and begins with a letter."
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "filters" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      a = { repositories = { include = [] }, targets = [{ region = "us-east-1" }] }
      b = { tags = { include = [] }, targets = [{ region = "us-east-1" }] }
      c = { repositories = { include = ["prod/App", "prod/app-?", "z", "prod//app", format("%0257d", 0), "/*"], exclude = ["prod/**", "", "*-", "*._*"] }, targets = [{ region = "us-east-1" }] }
      d = { tags = { include = ["-x", "v**"], exclude = ["a/b", "x{%"] }, targets = [{ region = "us-east-1" }] }
      e = { targets = [] }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = [for problem in output.problems : problem if !strcontains(problem, "no text may have")] == concat(
      [
        "rule a: repositories.include is empty; leave it out for all of them.",
        "rule b: tags.include is empty; leave it out for all of them.",
      ],
      [
        for pattern in ["prod/App", "prod/app-?", "z", "prod//app", format("%0257d", 0), "/*", "prod/**", "", "*-", "*._*"] :
        "rule c: a repository is a name such as prod/app or a pattern such as prod/*, of lower-case letters, digits, . _ - / and single *; \"${pattern}\" is neither."
      ],
      [
        for pattern in ["-x", "v**", "a/b", "x{%"] :
        "rule d: a tag is one such as latest or a pattern such as v*, of letters, digits, . _ - and single *; \"${pattern}\" is neither."
      ],
      ["rule e: there is no target; name at least one."],
    )
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "filters_that_leave_nothing" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      for name, filters in {
        a-all    = { repositories = { exclude = ["*"] } }
        b-each   = { repositories = { include = ["b/*", "base", "b-*-x"], exclude = ["b-*", "b/*", "base"] } }
        c-tags   = { tags = { include = ["v1.*", "latest"], exclude = ["v*", "latest", "dev"] } }
        d-both   = { repositories = { include = ["d/x"], exclude = ["d/*"] }, tags = { exclude = ["*"] } }
        e-some   = { repositories = { include = ["e/*", "ee"], exclude = ["e/*"] }, tags = { include = ["v1", "v2"], exclude = ["v1"] } }
        f-within = { repositories = { include = ["f/*"], exclude = ["f/x", "f/*/y"] }, tags = { include = ["v*"], exclude = ["v1*", "vv"] } }
        g-dot    = { repositories = { include = ["g/a"], exclude = ["g.a"] }, tags = { include = ["1x2"], exclude = ["1.2"] } }
        # Images without a tag are left.
        h-untagged = { tags = { exclude = ["*"] }, untagged = true }
      } : name => merge({ targets = [{ region = "us-east-1" }] }, filters)
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      "rule a-all: every repository that it includes is excluded, so that it replicates nothing.",
      "rule b-each: every repository that it includes is excluded, so that it replicates nothing.",
      "rule c-tags: every tag that it includes is excluded, so that it replicates nothing.",
      "rule d-both: every repository that it includes is excluded, so that it replicates nothing.",
      "rule d-both: every tag that it includes is excluded, so that it replicates nothing.",
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "targets" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      all = {
        repositories = { include = ["prod/*"] }
        targets = [
          { region = "Ireland" },
          { region = "eu-west-2", registry_id = "22222222222", settings = "none" },
          { region = "eu-west-2", role_arn = "arn:aws:iam::222222222222:role/x" },
          { region = "eu-west-2", registry_id = "222222222222", role_arn = "arn:aws:iam::333333333333:role/x" },
          { region = "eu-west-2", registry_id = "444444444444", role_arn = "arn:aws:iam::444444444444:user/x" },
          { region = "eu-west-2", registry_id = "555555555555", role_arn = "arn:aws-cn:iam::555555555555:role/x" },
          { region = "us-east-1", external_id = "xy" },
          { region = "eu-west-2", registry_id = "666666666666", role_arn = "arn:aws:iam::666666666666:role/x", external_id = "x" },
          { region = "eu-west-2", registry_id = "777777777777", role_arn = "arn:aws:iam::777777777777:role/x", external_id = "x y" },
          {
            region      = "eu-west-2"
            registry_id = "888888888888"
            role_arn    = "arn:aws:iam::888888888888:role/x"
            external_id = format("%01225d", 0)
          },
          { region = "eu-west-3", kms_key_arn = "arn:aws:kms:eu-west-1:111122223333:key/x" },
          { region = "eu-north-1", kms_key_arn = "key/x" },
          { region = "us-east-2", settings = "copy" },
          { region = "us-west-2", registry_id = "222222222222" },
          { region = "us-west-1", kms_key_arn = "arn:aws:kms:us-west-1:111122223333:key/x", settings = "none" },
          { region = "sa-east-1", repository_prefix = "x/", replace_prefix = { from = "prod/", to = "dr/" } },
        ]
      }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      "rule all, targets[0]: a region is one such as eu-west-1; \"Ireland\" is none.",
      "rule all, targets[1]: a registry_id is an account's number, of 12 digits.",
      "rule all, targets[2]: a role_arn is given, and no registry_id to use it for.",
      "rule all, targets[3]: a role_arn is a role's of the registry's account, such as arn:aws:iam::222222222222:role/ecr-replicator.",
      "rule all, targets[4]: a role_arn is a role's of the registry's account, such as arn:aws:iam::222222222222:role/ecr-replicator.",
      "rule all, targets[5]: a role_arn is a role's of the registry's account, such as arn:aws:iam::222222222222:role/ecr-replicator.",
      "rule all, targets[6]: an external_id is given, and no role_arn to assume with it.",
      "rule all, targets[7]: an external_id has 2 to 1224 letters, digits and _ + = , . @ : / -",
      "rule all, targets[8]: an external_id has 2 to 1224 letters, digits and _ + = , . @ : / -",
      "rule all, targets[9]: an external_id has 2 to 1224 letters, digits and _ + = , . @ : / -",
      "rule all, targets[10]: a kms_key_arn is that of a key or an alias in the target's region, such as arn:aws:kms:eu-west-1:111122223333:key/...",
      "rule all, targets[11]: a kms_key_arn is that of a key or an alias in the target's region, such as arn:aws:kms:eu-west-1:111122223333:key/...",
      "rule all, targets[12]: the settings are create, sync or none.",
      "rule all, targets[13]: without a role_arn, another account's repositories must be there already: the settings must be none.",
      "rule all, targets[14]: a kms_key_arn is for repositories that are made here, and settings are none.",
      "rule all, targets[15]: repository, repository_prefix and replace_prefix exclude each other.",
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "targets_in_another_partition" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      all = {
        targets = [
          for region in [
            "cn-north-1", "us-gov-west-1", "us-iso-east-1", "us-isob-east-1", "us-isof-south-1", "eu-isoe-west-1", "eusc-de-east-1",
            "us-east-1", "ap-south-1",
          ] : { region = region }
        ]
      }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      for index, target in [
        "cn-north-1 is in aws-cn",
        "us-gov-west-1 is in aws-us-gov",
        "us-iso-east-1 is in aws-iso",
        "us-isob-east-1 is in aws-iso-b",
        "us-isof-south-1 is in aws-iso-f",
        "eu-isoe-west-1 is in aws-iso-e",
        "eusc-de-east-1 is in aws-eusc",
      ] : "rule all, targets[${index}]: a target is in the source's partition, aws; ${target}."
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "targets_of_a_source_in_another_partition" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    origin = { account_id = "123456789012", partition = "aws-cn", region = "cn-north-1" }
    rules  = { all = { targets = [{ region = "eu-west-1" }, { region = "cn-northwest-1" }] } }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      "rule all, targets[0]: a target is in the source's partition, aws-cn; eu-west-1 is in aws.",
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "names_at_a_target" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      pattern = { repositories = { include = ["prod/*"] }, targets = [{ region = "us-east-1", repository = "fixed/pattern" }] }
      two     = { repositories = { include = ["prod/a", "prod/b"] }, targets = [{ region = "us-east-1", repository = "fixed/two" }] }
      name = {
        repositories = { include = ["test/a"] }
        targets = [
          for index, name in ["fixed/", "z", "platform/a.-b", "a___b", "a//b", "fixed/*", format("%0300d", 0)] :
          { region = "us-west-${index}", repository = name }
        ]
      }
      prefix = { repositories = { include = ["test/b"] }, targets = [{ region = "us-east-1", repository_prefix = "" }] }
      star   = { repositories = { include = ["test/c"] }, targets = [{ region = "us-east-1", repository_prefix = "*/" }] }
      from = {
        repositories = { include = ["test/d"] }
        targets      = [{ region = "eu-west-1", replace_prefix = { from = "prod/", to = "dr/" } }]
      }
      letters = {
        repositories = { include = ["test/*"] }
        targets      = [{ region = "eu-west-2", replace_prefix = { from = "*", to = "Dr/" } }]
      }
      prefixes = {
        repositories = { include = ["test/f"] }
        targets = [
          for index, prefix in ["mirror//", "mirror/-/", "mirror/a-_"] : { region = "us-south-${index}", repository_prefix = prefix }
        ]
      }
      to = {
        repositories = { include = ["test/g-*", "test/gh"] }
        targets = [
          for index, to in ["dr//", "dr/-/", "dr.", "dr/"] : { region = "us-north-${index}", replace_prefix = { from = "test/g", to = to } }
        ]
      }
      long = {
        repositories = { include = ["test/h", "test/i/*"] }
        targets = [
          { region = "ca-west-1", repository_prefix = "${format("%0250d", 0)}/" },
          { region = "ca-west-1", repository_prefix = "${format("%0247d", 0)}/" },
        ]
      }
      nothing = {
        repositories = { include = ["test/e"] }
        targets      = [{ region = "eu-west-3", replace_prefix = { from = "test/e", to = "" } }]
      }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      "rule name, targets[0]: a repository is a name such as mirror/app; \"fixed/\" is none.",
      "rule name, targets[1]: a repository is a name such as mirror/app; \"z\" is none.",
      "rule name, targets[2]: a repository is a name such as mirror/app; \"platform/a.-b\" is none.",
      "rule name, targets[3]: a repository is a name such as mirror/app; \"a___b\" is none.",
      "rule name, targets[4]: a repository is a name such as mirror/app; \"a//b\" is none.",
      "rule name, targets[5]: a repository is a name such as mirror/app; \"fixed/*\" is none.",
      "rule name, targets[6]: a repository is a name such as mirror/app; \"${format("%0300d", 0)}\" is none.",
      "rule pattern, targets[0]: a repository has one name there, so the rule includes exactly one, and by its name.",
      "rule two, targets[0]: a repository has one name there, so the rule includes exactly one, and by its name.",
      "rule from, targets[0]: replace_prefix.from is not how each of repositories.include begins.",
      "rule letters, targets[0]: replace_prefix.from has lower-case letters, digits and . _ - / and is not empty.",
      "rule letters, targets[0]: replace_prefix.to is how a name can begin, such as dr/, or empty.",
      "rule letters, targets[0]: replace_prefix.from is not how each of repositories.include begins.",
      "rule prefix, targets[0]: a repository_prefix is how a name can begin, such as mirror/, and is not empty.",
      "rule prefixes, targets[0]: a repository_prefix is how a name can begin, such as mirror/, and is not empty.",
      "rule prefixes, targets[1]: a repository_prefix is how a name can begin, such as mirror/, and is not empty.",
      "rule prefixes, targets[2]: a repository_prefix is how a name can begin, such as mirror/, and is not empty.",
      "rule star, targets[0]: a repository_prefix is how a name can begin, such as mirror/, and is not empty.",
      "rule to, targets[0]: replace_prefix.to is how a name can begin, such as dr/, or empty.",
      "rule to, targets[1]: replace_prefix.to is how a name can begin, such as dr/, or empty.",
      "rule letters, targets[0]: test/* would be called \"Dr/test/*\" there, which is no repository's name.",
      "rule long, targets[0]: test/h would be called \"${format("%0250d", 0)}/test/h\" there, which is no repository's name.",
      "rule long, targets[0]: test/i/* would be called \"${format("%0250d", 0)}/test/i/*\" there, which is no repository's name.",
      "rule nothing, targets[0]: test/e would be called \"\" there, which is no repository's name.",
      "rule prefixes, targets[0]: test/f would be called \"mirror//test/f\" there, which is no repository's name.",
      "rule prefixes, targets[1]: test/f would be called \"mirror/-/test/f\" there, which is no repository's name.",
      "rule prefixes, targets[2]: test/f would be called \"mirror/a-_test/f\" there, which is no repository's name.",
      "rule to, targets[0]: test/g-* would be called \"dr//-*\" there, which is no repository's name.",
      "rule to, targets[0]: test/gh would be called \"dr//h\" there, which is no repository's name.",
      "rule to, targets[1]: test/g-* would be called \"dr/-/-*\" there, which is no repository's name.",
      "rule to, targets[1]: test/gh would be called \"dr/-/h\" there, which is no repository's name.",
      "rule to, targets[2]: test/g-* would be called \"dr.-*\" there, which is no repository's name.",
      "rule to, targets[3]: test/g-* would be called \"dr/-*\" there, which is no repository's name.",
      "rule two, targets[0]: prod/a would be fixed/two in 123456789012 us-east-1, and so would prod/b by rule two, targets[0]; exclude prod/b from rule two, or rename one of them.",
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "the_source_as_a_target" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      plain    = { repositories = { include = ["a/*"] }, targets = [{ region = "eu-central-1" }] }
      account  = { repositories = { include = ["b/*"] }, targets = [{ region = "eu-central-1", registry_id = "123456789012" }] }
      fixed    = { repositories = { include = ["c/x"] }, targets = [{ region = "eu-central-1", repository = "c/x" }] }
      replaced = { repositories = { include = ["d/*"] }, targets = [{ region = "eu-central-1", replace_prefix = { from = "d/", to = "d/" } }] }
      renamed  = { repositories = { include = ["e/*"] }, targets = [{ region = "eu-central-1", repository_prefix = "mirror/" }] }
      other    = { repositories = { include = ["f/*"] }, targets = [{ region = "eu-central-1", registry_id = "222222222222", settings = "none" }] }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      "rule account, targets[0]: b/* would be replicated to itself.",
      "rule fixed, targets[0]: c/x would be replicated to itself.",
      "rule plain, targets[0]: a/* would be replicated to itself.",
      "rule replaced, targets[0]: d/* would be replicated to itself.",
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "copies_that_are_copied_again" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      exact     = { repositories = { include = ["a/x"] }, targets = [{ region = "eu-central-1", repository = "b/x" }] }
      includes  = { repositories = { include = ["b/*"] }, targets = [{ region = "eu-west-1" }] }
      itself    = { repositories = { include = ["c/*"] }, targets = [{ region = "eu-central-1", repository_prefix = "c/" }] }
      crossing  = { repositories = { include = ["d/*"] }, targets = [{ region = "eu-central-1", repository_prefix = "e/" }] }
      suffix    = { repositories = { include = ["e/*/release"] }, targets = [{ region = "eu-west-1" }] }
      pattern   = { repositories = { include = ["f/*"] }, targets = [{ region = "eu-central-1", repository_prefix = "g/" }] }
      name      = { repositories = { include = ["g/f/x"] }, targets = [{ region = "eu-west-1" }] }
      excluded  = { repositories = { include = ["h/*"], exclude = ["h/copy/*"] }, targets = [{ region = "eu-central-1", replace_prefix = { from = "h/", to = "h/copy/" } }] }
      elsewhere = { repositories = { include = ["i/*"] }, targets = [{ region = "eu-central-1", registry_id = "222222222222", repository_prefix = "i/", settings = "none" }] }
      apart     = { repositories = { include = ["j/*-a"] }, targets = [{ region = "eu-central-1", repository_prefix = "k/" }] }
      apart-too = { repositories = { include = ["k/*-b"] }, targets = [{ region = "eu-west-1" }] }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      for line in [
        ["crossing", "e/d/*", "suffix", "e/*/release"],
        ["exact", "b/x", "includes", "b/*"],
        ["itself", "c/c/*", "itself", "c/*"],
        ["pattern", "g/f/*", "name", "g/f/x"],
      ] : "rule ${line[0]}, targets[0]: the copy ${line[1]} is in the source region, where rule ${line[2]} includes ${line[3]}, and would replicate it again, without end; exclude ${line[1]} there."
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "the_same_target_twice" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      twice = {
        repositories = { include = ["prod/*"] }
        targets = [
          { region = "eu-west-1" },
          { region = "eu-west-1", repository_prefix = "mirror/" },
          { region = "eu-west-1", registry_id = "222222222222", settings = "none" },
          { region = "eu-west-1", registry_id = "123456789012", settings = "sync" },
          { region = "eu-west-1", replace_prefix = { from = "prod/", to = "mirror/prod/" } },
        ]
      }
      once-more = { repositories = { include = ["prod/*"] }, targets = [{ region = "eu-west-1" }] }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      "rule twice, targets[3]: the rule has this target already.",
      "rule twice, targets[4]: the rule has this target already.",
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "repositories_that_are_mixed_up" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      a-equal   = { repositories = { include = ["a/*"] }, targets = [{ region = "eu-west-1", replace_prefix = { from = "a/", to = "x/" } }] }
      a-other   = { repositories = { include = ["b/*"] }, targets = [{ region = "eu-west-1", replace_prefix = { from = "b/", to = "x/" } }] }
      b-fixed   = { repositories = { include = ["c/y"] }, targets = [{ region = "eu-west-2", repository = "d/y" }] }
      b-other   = { repositories = { include = ["d/*"] }, targets = [{ region = "eu-west-2" }] }
      c-within  = { repositories = { include = ["e/*"] }, targets = [{ region = "eu-west-3", repository_prefix = "f/" }] }
      c-other   = { repositories = { include = ["f/*"] }, targets = [{ region = "eu-west-3" }] }
      d-fixed   = { repositories = { include = ["g/y"] }, targets = [{ region = "us-east-1", repository = "zz" }] }
      d-other   = { repositories = { include = ["h/y"] }, targets = [{ region = "us-east-1", repository = "zz" }] }
      e-inverse = { repositories = { include = ["i/*"] }, targets = [{ region = "us-east-2", repository_prefix = "j/" }] }
      e-same    = { repositories = { include = ["i/y"] }, targets = [{ region = "us-east-2", replace_prefix = { from = "i/", to = "j/i/" } }] }
      f-here    = { repositories = { include = ["k/*"] }, targets = [{ region = "us-west-1", repository_prefix = "l/" }] }
      f-there   = { repositories = { include = ["l/*"] }, targets = [{ region = "us-west-1", registry_id = "222222222222", settings = "none" }] }
      g-renamed = { repositories = { include = ["m/*"] }, targets = [{ region = "us-west-2", repository_prefix = "n/" }] }
      g-without = { repositories = { include = ["n/*"], exclude = ["n/m/*"] }, targets = [{ region = "us-west-2" }] }
      h-dot     = { repositories = { include = ["o/y.y"] }, targets = [{ region = "ca-west-1" }] }
      h-other   = { repositories = { include = ["p/y"] }, targets = [{ region = "ca-west-1", repository = "o/yxy" }] }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      for line in [
        ["a-equal", "a/*", "x/*", "eu-west-1", "b/*", "a-other"],
        ["b-fixed", "c/y", "d/y", "eu-west-2", "d/y", "b-other"],
        ["c-within", "e/*", "f/e/*", "eu-west-3", "f/e/*", "c-other"],
        ["d-fixed", "g/y", "zz", "us-east-1", "h/y", "d-other"],
      ] : "rule ${line[0]}, targets[0]: ${line[1]} would be ${line[2]} in 123456789012 ${line[3]}, and so would ${line[4]} by rule ${line[5]}, targets[0]; exclude ${line[4]} from rule ${line[5]}, or rename one of them."
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "repositories_that_are_mixed_up_in_part" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      for name, rule in {
        a-one    = ["us-east-1", "a/*", "m/", []]
        a-suffix = ["us-east-1", "*/x", null, []]
        # The other way round, because the first one's name begins with nothing that the other one's rename could be taken off.
        b-any = ["us-east-2", "*/x", null, []]
        b-one = ["us-east-2", "b/*", "m/", []]
        # Both are renamed.
        c-one   = ["us-west-1", "c/*-x-*", "m/c-", []]
        c-other = ["us-west-1", "d/*-y", "m/", []]
        # Either excludes what the other one's come to.
        d-one    = ["us-west-2", "d/*", "m/", []]
        d-suffix = ["us-west-2", "*/x", null, ["m/*"]]
        e-one    = ["eu-west-1", "e/*", "m/", ["e/*/x"]]
        e-suffix = ["eu-west-1", "m/*/x", null, []]
        f-one    = ["eu-west-2", "f/*-z", "m/", ["f/*-x-*"]]
        f-part   = ["eu-west-2", "m/*-x-*", null, []]
        # Nothing is excluded that matters.
        g-one    = ["eu-west-3", "g/*", "m/", ["g/y/*"]]
        g-suffix = ["eu-west-3", "*/x", null, ["g/*", "m/y/*"]]
        # Apart.
        h-one   = ["ca-west-1", "h/*-x", "m/", []]
        h-begin = ["ca-west-1", "mm/*-x", null, []]
        h-end   = ["ca-west-1", "m/*-y", null, []]
        } : name => {
        repositories = { include = [rule[1]], exclude = rule[3] }
        targets      = [{ region = rule[0], replace_prefix = rule[2] == null ? null : { from = regex("^[a-z]/", rule[1]), to = rule[2] } }]
      }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      for line in [
        ["g-one", "g/*", "m/*", "eu-west-3", "m/*", "g-suffix"],
        ["a-one", "a/*", "m/*", "us-east-1", "m/*", "a-suffix"],
        ["b-one", "b/*", "m/*", "us-east-2", "m/*", "b-any"],
        ["c-one", "c/*-x-*", "m/c-*-x-*", "us-west-1", "d/c-*-x-*", "c-other"],
      ] : "rule ${line[0]}, targets[0]: ${line[1]} would be ${line[2]} in 123456789012 ${line[3]}, and so would some of ${line[4]} by rule ${line[5]}, targets[0]; exclude ${line[4]} from rule ${line[5]}, or rename one of them."
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "rules_that_would_undo_each_other" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      for name, rule in {
        # Both synchronize.
        a-sync   = ["a/*", { region = "eu-west-1", settings = "sync" }, { scan_on_push = true }]
        a-within = ["a/x", { region = "eu-west-1", settings = "sync" }, {}]
        b-one    = ["b/x", { region = "eu-west-1", settings = "sync" }, { tags = { of = "one" } }]
        b-other  = ["b/x", { region = "eu-west-1", settings = "sync" }, { tags = { of = "other" } }]
        # One does, and the other one makes it with settings, or with a key.
        c-make = ["c/*", { region = "eu-west-1", repository_prefix = "m/" }, { scan_on_push = false }]
        c-sync = ["c/*", { region = "eu-west-1", repository_prefix = "m/", settings = "sync" }, { scan_on_push = true }]
        d-key  = ["d/*", { region = "eu-west-1", kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/d" }, {}]
        d-sync = ["d/*", { region = "eu-west-1", settings = "sync" }, {}]
        # Both make it: the first one to come decides.
        d-made     = ["d2/*", { region = "eu-west-1", kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/d" }, {}]
        d-made-too = ["d2/x", { region = "eu-west-1" }, {}]
        d-make     = ["d3/*", { region = "eu-west-1" }, { scan_on_push = false }]
        d-make-too = ["d3/*", { region = "eu-west-1" }, { scan_on_push = true }]
        # No harm.
        e-same  = ["e/*", { region = "eu-west-1", settings = "sync" }, { scan_on_push = true }]
        e-too   = ["e/x", { region = "eu-west-1", settings = "sync" }, { scan_on_push = true }]
        f-make  = ["f/*", { region = "eu-west-1" }, {}]
        f-sync  = ["f/*", { region = "eu-west-1", settings = "sync" }, { scan_on_push = true }]
        g-make  = ["g/*", { region = "eu-west-1" }, { scan_on_push = false }]
        g-same  = ["g/*", { region = "eu-west-1" }, { scan_on_push = false }]
        g-too   = ["g/*", { region = "eu-west-1" }, {}]
        g-key   = ["g/*", { region = "eu-west-1", registry_id = "222222222222", settings = "none" }, {}]
        h-none  = ["h/*", { region = "eu-west-1", settings = "none" }, {}]
        h-sync  = ["h/*", { region = "eu-west-1", settings = "sync" }, { scan_on_push = true }]
        i-there = ["i/*", { region = "eu-west-2", settings = "sync" }, { scan_on_push = false }]
        i-here  = ["i/*", { region = "eu-west-1", settings = "sync" }, { scan_on_push = true }]
        j-one   = ["j/x", { region = "eu-west-1", settings = "sync" }, { scan_on_push = false }]
        j-rest  = ["j/*", { region = "eu-west-1", settings = "sync" }, { scan_on_push = true }]
        } : name => {
        repositories        = { include = [rule[0]], exclude = name == "j-rest" ? ["j/x"] : [] }
        targets             = [rule[1]]
        repository_settings = rule[2]
      }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      for line in [
        ["a-within", "a/x", "a-sync", "a/x", "at least one of them synchronizes it"],
        ["b-one", "b/x", "b-other", "b/x", "at least one of them synchronizes it"],
        ["c-make", "m/c/*", "c-sync", "c/*", "at least one of them synchronizes it"],
        ["d-key", "d/*", "d-sync", "d/*", "at least one of them synchronizes it"],
        ["d-made-too", "d2/x", "d-made", "d2/x", "whichever comes first makes it"],
        ["d-make", "d3/*", "d-make-too", "d3/*", "whichever comes first makes it"],
      ] : "rule ${line[0]}, targets[0]: ${line[1]} in 123456789012 eu-west-1 gets other settings or another key from rule ${line[2]}, targets[0], and ${line[4]}; give both the same, or exclude ${line[3]} from rule ${line[2]}."
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "rules_that_would_undo_each_other_in_part" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      for name, rule in {
        a-part = ["a/*", { region = "us-east-1", settings = "sync" }, { tag_mutability = "IMMUTABLE" }, []]
        a-sync = ["*/x", { region = "us-east-1", settings = "sync" }, { tag_mutability = "MUTABLE" }, []]
        b-make = ["b*-x-*", { region = "us-east-2", repository_prefix = "m/" }, { scan_on_push = false }, []]
        b-part = ["b-*-y", { region = "us-east-2", replace_prefix = { from = "b", to = "m/b" } }, { scan_on_push = true }, []]
        c-key  = ["c/*", { region = "us-west-1", kms_key_arn = "arn:aws:kms:us-west-1:123456789012:key/c" }, {}, ["c/y/*"]]
        c-part = ["*/x", { region = "us-west-1" }, {}, ["c/y/*"]]
        # No harm: one excludes what the other one includes, or they are the same, or apart.
        d-part  = ["d/*", { region = "us-west-2", settings = "sync" }, { scan_on_push = false }, []]
        d-rest  = ["*/x", { region = "us-west-2", settings = "sync" }, { scan_on_push = true }, ["d/*"]]
        e-part  = ["e/*", { region = "eu-west-1", settings = "sync" }, { scan_on_push = false }, ["*/x"]]
        e-rest  = ["*/x", { region = "eu-west-1", settings = "sync" }, { scan_on_push = true }, []]
        f-part  = ["f/*", { region = "eu-west-2", settings = "sync" }, { scan_on_push = true }, []]
        f-same  = ["*/x", { region = "eu-west-2", settings = "sync" }, { scan_on_push = true }, []]
        g-begin = ["g/*", { region = "eu-west-3", settings = "sync" }, { scan_on_push = true }, []]
        g-other = ["gg/*", { region = "eu-west-3", settings = "sync" }, { scan_on_push = false }, []]
        g-end   = ["g*/x", { region = "eu-north-1", settings = "sync" }, { scan_on_push = true }, []]
        g-apart = ["g*/xx", { region = "eu-north-1", settings = "sync" }, { scan_on_push = false }, []]
        } : name => {
        repositories        = { include = [rule[0]], exclude = rule[3] }
        targets             = [rule[1]]
        repository_settings = rule[2]
      }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      for line in [
        ["a-part", "a/*", "us-east-1", "a-sync", "a/*", "at least one of them synchronizes it"],
        ["b-make", "m/b*-x-*", "us-east-2", "b-part", "b*-x-*", "whichever comes first makes it"],
        ["c-key", "c/*", "us-west-1", "c-part", "c/*", "whichever comes first makes it"],
      ] : "rule ${line[0]}, targets[0]: some of ${line[1]} in 123456789012 ${line[2]} gets other settings or another key from rule ${line[3]}, targets[0], and ${line[5]}; give both the same, or exclude ${line[4]} from rule ${line[3]}."
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "repository_settings" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      for name, settings in {
        a-none       = { scan_on_push = true }
        b-mutability = { tag_mutability = "immutable" }
        c-without    = { tag_mutability = "MUTABLE_WITH_EXCLUSION" }
        d-with       = { tag_mutability = "MUTABLE", tag_mutability_exclusions = ["latest"] }
        e-few        = { tag_mutability = "MUTABLE_WITH_EXCLUSION", tag_mutability_exclusions = [] }
        f-many       = { tag_mutability = "MUTABLE_WITH_EXCLUSION", tag_mutability_exclusions = ["a", "b", "c", "d", "e", "f"] }
        g-filter     = { tag_mutability = "MUTABLE_WITH_EXCLUSION", tag_mutability_exclusions = ["a/b"] }
        h-stars      = { tag_mutability = "MUTABLE_WITH_EXCLUSION", tag_mutability_exclusions = ["*a*b*"] }
        i-tags       = { tags = { for number in range(51) : "tag-${number}" => "x" } }
        j-key        = { tags = { "a#b" = "x" } }
        k-value      = { tags = { ab = format("%0257d", 0) } }
        k-aws        = { tags = { "aws:created" = "x" } }
        k-aws-too    = { tags = { a = "x", "AWS:b" = "x" } }
        k-incomplete = { tags = { "ecr-replicator:incomplete" = "" } }
        l-lifecycle  = { lifecycle_policy = format("%100s", "rules") }
        l-list       = { lifecycle_policy = format("%100s", "[]") }
        l-null       = { lifecycle_policy = format("%100s", "null") }
        l-number     = { lifecycle_policy = format("%100s", "5") }
        m-longer     = { lifecycle_policy = format("%30721s", "{}") }
        m-shorter    = { lifecycle_policy = format("%99s", "{}") }
        n-policy     = { repository_policy = "{" }
        n-number     = { repository_policy = "5" }
        o-longer     = { repository_policy = jsonencode({ a = format("%010233d", 0) }) }
        p-expression = { lifecycle_policy = format("%100s", "{\"a\": \"{% $states.input %}\"}") }
        } : name => {
        repositories        = { include = [name] }
        targets             = [{ region = "us-east-1", settings = name == "a-none" ? "none" : "create" }]
        repository_settings = settings
      }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      "rule a-none, repository_settings: they are for no target: the settings of each are none.",
      "rule b-mutability, repository_settings: the tag_mutability is MUTABLE, IMMUTABLE, IMMUTABLE_WITH_EXCLUSION or MUTABLE_WITH_EXCLUSION.",
      "rule c-without, repository_settings: tag_mutability_exclusions go with a tag_mutability ..._WITH_EXCLUSION, and that with them.",
      "rule d-with, repository_settings: tag_mutability_exclusions go with a tag_mutability ..._WITH_EXCLUSION, and that with them.",
      "rule e-few, repository_settings: there are 1 to 5 tag_mutability_exclusions.",
      "rule f-many, repository_settings: there are 1 to 5 tag_mutability_exclusions.",
      "rule g-filter, repository_settings: a tag_mutability_exclusion has 1 to 128 letters, digits and . _ - with at most two *.",
      "rule h-stars, repository_settings: a tag_mutability_exclusion has 1 to 128 letters, digits and . _ - with at most two *.",
      "rule i-tags, repository_settings: there are at most 50 tags, each a key of 1 to 128 and a value of 0 to 256 letters, digits, spaces and _ . : / = + - @",
      "rule j-key, repository_settings: there are at most 50 tags, each a key of 1 to 128 and a value of 0 to 256 letters, digits, spaces and _ . : / = + - @",
      "rule k-aws, repository_settings: no tag's key begins with aws:, which is AWS's own, or is ecr-replicator:incomplete, which marks what is not complete.",
      "rule k-aws-too, repository_settings: no tag's key begins with aws:, which is AWS's own, or is ecr-replicator:incomplete, which marks what is not complete.",
      "rule k-incomplete, repository_settings: no tag's key begins with aws:, which is AWS's own, or is ecr-replicator:incomplete, which marks what is not complete.",
      "rule k-value, repository_settings: there are at most 50 tags, each a key of 1 to 128 and a value of 0 to 256 letters, digits, spaces and _ . : / = + - @",
      "rule l-lifecycle, repository_settings: a lifecycle_policy is a JSON object of 100 to 30720 characters.",
      "rule l-list, repository_settings: a lifecycle_policy is a JSON object of 100 to 30720 characters.",
      "rule l-null, repository_settings: a lifecycle_policy is a JSON object of 100 to 30720 characters.",
      "rule l-number, repository_settings: a lifecycle_policy is a JSON object of 100 to 30720 characters.",
      "rule m-longer, repository_settings: a lifecycle_policy is a JSON object of 100 to 30720 characters.",
      "rule m-shorter, repository_settings: a lifecycle_policy is a JSON object of 100 to 30720 characters.",
      "rule n-number, repository_settings: a repository_policy is a JSON object of at most 10240 characters.",
      "rule n-policy, repository_settings: a repository_policy is a JSON object of at most 10240 characters.",
      "rule o-longer, repository_settings: a repository_policy is a JSON object of at most 10240 characters.",
      "rule p-expression: no text may have {% in it, with which the state machine's expressions begin.",
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "more_than_one_execution_carries" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      large = {
        repositories = { include = [for number in range(300) : format("%0200d", number)] }
        targets      = [{ region = "eu-west-1" }]
      }
      many = {
        repositories = { include = ["prod/*"] }
        targets = [
          for number in range(61) : { region = "eu-west-1", registry_id = format("%012d", number), settings = "none" }
        ]
      }
      as-many-as-can-be = {
        repositories = { include = ["prod/*"] }
        targets = [
          for number in range(60) : { region = "eu-west-1", registry_id = format("%012d", number), settings = "none" }
        ]
      }
      many-and-large = {
        repositories        = { include = ["prod/*"] }
        targets             = [for number in range(50) : { region = "eu-west-1", repository_prefix = "copy-${number}/" }]
        repository_settings = { lifecycle_policy = jsonencode({ a = format("%029992d", 0) }), repository_policy = jsonencode({ a = format("%09992d", 0) }) }
      }
      fewer-and-large = {
        repositories        = { include = ["test/*"] }
        targets             = [for number in range(45) : { region = "eu-west-1", repository_prefix = "copy-${number}/" }]
        repository_settings = { lifecycle_policy = jsonencode({ a = format("%029992d", 0) }), repository_policy = jsonencode({ a = format("%09992d", 0) }) }
      }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      "rule many: it has more targets than an execution can carry: 61, and 60 is the most; make several rules of it.",
      "rule large: it has more targets or settings than an execution can carry: 61053 bytes as JSON, and 60000 is the most.",
      "rule many-and-large: it has more targets or settings than an execution can carry: 44083 bytes as JSON, and 42500 is the most.",
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "more_bytes_than_one_execution_carries" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      all = {
        targets = [{ region = "eu-west-1" }]
        # Of two bytes each.
        repository_settings = { lifecycle_policy = jsonencode({ a = replace(format("%30000s", ""), " ", "ü") }) }
      }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      "rule all: it has more targets or settings than an execution can carry: 60213 bytes as JSON, and 60000 is the most.",
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "more_than_the_state_machine_carries" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = {
      for number in range(7) : "rule-${number}" => {
        repositories        = { include = ["prod/*"] }
        targets             = [{ region = "eu-west-1" }]
        repository_settings = { lifecycle_policy = jsonencode({ a = replace(format("%14996s", ""), " ", "ü") }) }
      }
    }
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      "All rules together have more targets or settings than the state machine can carry: 211541 bytes as JSON, and 200000 is the most.",
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "more_rules_with_wildcards_than_an_event_bus_takes" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = merge(
      {
        for number in range(29) : format("rule-%02d", number) => {
          repositories = { include = ["app-${number}"] }
          tags         = { include = number % 2 == 0 ? ["*.*"] : ["*"], exclude = number % 2 == 0 ? [] : ["dev", "rc-*"] }
          targets      = [{ region = "eu-west-1" }]
        }
      },
      {
        a-within  = { repositories = { include = ["a/*/b"] }, targets = [{ region = "eu-west-1" }] }
        b-but     = { repositories = { exclude = ["b-*", "*-b"] }, targets = [{ region = "eu-west-1" }] }
        c-without = { repositories = { include = ["*/c", "c/*", "cc"] }, targets = [{ region = "eu-west-1" }] }
        # What its pattern does not say.
        d-without = { repositories = { include = ["d/*"], exclude = ["d/*/x"] }, targets = [{ region = "eu-west-1" }] }
      },
    )
  }

  expect_failures = [output.rules]

  assert {
    condition = output.problems == [
      join(" ", [
        "31 rules have wildcards in their event patterns, and an event bus takes 30:",
        "${join(", ", concat(["a-within", "b-but"], [for number in range(29) : format("rule-%02d", number)]))}.",
        "A pattern needs none with its only * at its beginning or at its end,",
        "nor do exclusions that are all such beginnings, all such ends or all names.",
      ]),
    ]
    error_message = "The problems are others: ${join("\n", output.problems)}"
  }
}

run "as_many_rules_with_wildcards_as_an_event_bus_takes" {
  command = plan
  module { source = "./modules/rules" }

  variables {
    rules = { for number in range(30) : "rule-${number}" => { repositories = { include = ["a/*/${number}"] }, targets = [{ region = "eu-west-1" }] } }
  }

  assert {
    condition     = output.problems == []
    error_message = "There are problems: ${join("\n", output.problems)}"
  }
}
