//! EnsureRepository against the local ECR.

use std::time::Duration;

use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType, Tag,
};
use ecr_local::Fault;
use ensure_repo::handle;
use jiff::Timestamp;
use serde_json::{Value, json};
use shared::{
    contract::Ensured,
    error::{ErrorName, Named as _},
    names::Digest,
    serve::decode,
    settings::INCOMPLETE,
};

use crate::world::{LIFECYCLE_POLICY, REPOSITORY, SOURCE, TARGET, World, target_input};

async fn ensure(world: &World) -> Result<Ensured, ensure_repo::Error> {
    let input = decode(target_input(&Digest::of(b"any"), None)).unwrap();
    handle(&world.registries().await, input).await
}

#[tokio::test]
async fn a_new_repository_has_the_settings_of_the_source() {
    let world = World::start().await;
    let source = world.client(SOURCE).await;
    source.delete_repository().repository_name(REPOSITORY).send().await.unwrap();
    let exclusion = ImageTagMutabilityExclusionFilter::builder()
        .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
        .filter("dev-*")
        .build()
        .unwrap();
    let tag = Tag::builder().key("team").value("platform").build().unwrap();
    source
        .create_repository()
        .repository_name(REPOSITORY)
        .image_tag_mutability(ImageTagMutability::ImmutableWithExclusion)
        .image_tag_mutability_exclusion_filters(exclusion.clone())
        .image_scanning_configuration(ImageScanningConfiguration::builder().scan_on_push(true).build())
        .encryption_configuration(
            EncryptionConfiguration::builder().encryption_type(EncryptionType::Kms).build().unwrap(),
        )
        .tags(tag.clone())
        .send()
        .await
        .unwrap();

    assert!(ensure(&world).await.unwrap().created);

    let target = world.client(TARGET).await;
    let described = target.describe_repositories().repository_names(REPOSITORY).send().await.unwrap();
    let made = &described.repositories()[0];
    assert_eq!(made.image_tag_mutability(), Some(&ImageTagMutability::ImmutableWithExclusion));
    assert_eq!(made.image_tag_mutability_exclusion_filters(), [exclusion]);
    assert!(made.image_scanning_configuration().unwrap().scan_on_push());
    assert_eq!(made.encryption_configuration().unwrap().encryption_type(), &EncryptionType::Kms);
    let arn = made.repository_arn().unwrap();
    assert!(arn.contains(TARGET), "{arn}");
    let tags = target.list_tags_for_resource().resource_arn(arn).send().await.unwrap();
    assert_eq!(tags.tags(), [tag]);
}

#[tokio::test]
async fn a_repository_that_exists_is_left_alone_and_costs_one_call() {
    let world = World::start().await;
    world.create_repository(TARGET).await;
    world.ecr.reset_stats();
    assert!(!ensure(&world).await.unwrap().created);
    assert_eq!(world.calls(TARGET, "DescribeRepositories"), 1);
    assert_eq!(world.calls(TARGET, "CreateRepository"), 0);
    assert_eq!(world.calls(SOURCE, "DescribeRepositories"), 0);
}

#[tokio::test]
async fn a_repository_that_another_run_made_meanwhile_is_a_success() {
    let world = World::start().await;
    world.ecr.fault(
        Fault::new("CreateRepository", 400, "RepositoryAlreadyExistsException").in_region(TARGET).after_effect(),
    );
    let ensured = ensure(&world).await.unwrap();
    assert_eq!((ensured.created, ensured.throttled), (false, 0));
}

#[tokio::test]
async fn what_the_sdk_waits_out_is_counted() {
    let world = World::start().await;
    world.ecr.fault(Fault::new("CreateRepository", 400, "ThrottleException").in_region(TARGET).times(2));
    let ensured = ensure(&world).await.unwrap();
    assert_eq!((ensured.created, ensured.throttled), (true, 2));
}

#[tokio::test]
async fn a_source_repository_that_is_gone_is_named() {
    let world = World::start().await;
    world.client(SOURCE).await.delete_repository().repository_name(REPOSITORY).send().await.unwrap();
    let error = ensure(&world).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::ImageNotFound);
    assert_eq!(error.to_string(), "the source repository prod/app in eu-central-1 does not exist");
}

#[tokio::test]
async fn what_the_target_refuses_is_told_with_call_region_and_repository() {
    let world = World::start().await;
    for (code, status, name) in [
        ("AccessDeniedException", 400, ErrorName::AccessDenied),
        ("KmsException", 400, ErrorName::AccessDenied),
        ("LimitExceededException", 400, ErrorName::QuotaExceeded),
        ("ThrottleException", 400, ErrorName::RegistryThrottled),
        ("InvalidParameterException", 400, ErrorName::InvalidInput),
        ("ServerException", 500, ErrorName::RegistryUnavailable),
    ] {
        world.ecr.clear_faults();
        world.ecr.fault(Fault::new("CreateRepository", status, code).in_region(TARGET).for_ever());
        let error = ensure(&world).await.unwrap_err();
        assert_eq!(error.name(), name, "{code}");
        assert_eq!(error.to_string(), "CreateRepository on prod/app in eu-west-1 failed");
        assert!(std::error::Error::source(&error).unwrap().to_string().starts_with(code));
    }
}

/// A repository policy of the repository in `region`.
fn policy(region: &str) -> String {
    let function = format!("arn:aws:lambda:{region}:123456789012:function:*");
    json!({"Statement": [{
        "Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": ["ecr:BatchGetImage"],
        "Condition": {"ArnLike": {"aws:SourceArn": function}},
    }]})
    .to_string()
}

/// Sets the policies of the source's repository.
async fn set_policies(world: &World) {
    let source = world.client(SOURCE).await;
    source
        .put_lifecycle_policy()
        .repository_name(REPOSITORY)
        .lifecycle_policy_text(LIFECYCLE_POLICY)
        .send()
        .await
        .unwrap();
    source.set_repository_policy().repository_name(REPOSITORY).policy_text(policy(SOURCE)).send().await.unwrap();
}

/// The lifecycle policy and the repository policy of the target's repository.
async fn policies(world: &World) -> (Option<String>, Option<String>) {
    let target = world.client(TARGET).await;
    let lifecycle = target.get_lifecycle_policy().repository_name(REPOSITORY).send().await;
    let repository = target.get_repository_policy().repository_name(REPOSITORY).send().await;
    (
        lifecycle.ok().map(|answer| answer.lifecycle_policy_text.unwrap()),
        repository.ok().map(|answer| answer.policy_text.unwrap()),
    )
}

/// EnsureRepository with what `change` makes of its input.
async fn ensure_with(world: &World, change: impl FnOnce(&mut Value)) -> Result<Ensured, ensure_repo::Error> {
    let mut input = target_input(&Digest::of(b"any"), None);
    input["startedAt"] = json!(Timestamp::now());
    change(&mut input);
    handle(&world.registries().await, decode(input).unwrap()).await
}

fn sync(input: &mut Value) {
    input["target"]["settings"] = json!("sync");
}

#[tokio::test]
async fn a_new_repository_has_the_policies_of_the_source_for_its_own_region() {
    let world = World::start().await;
    set_policies(&world).await;
    let ensured = ensure_with(&world, |_| ()).await.unwrap();
    assert!(ensured.created);
    assert_eq!(ensured.settings, []);
    let (lifecycle, repository) = policies(&world).await;
    assert_eq!(lifecycle.as_deref(), Some(LIFECYCLE_POLICY));
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(read(&repository.unwrap()), read(&policy(TARGET)));
}

#[tokio::test]
async fn a_rule_s_own_settings_come_before_those_of_the_source() {
    let world = World::start().await;
    set_policies(&world).await;
    let key = "arn:aws:kms:eu-west-1:123456789012:key/mine";
    let own = |input: &mut Value| {
        input["target"]["kmsKeyArn"] = json!(key);
        input["repositorySettings"] = json!({
            "tagMutability": "IMMUTABLE_WITH_EXCLUSION", "tagMutabilityExclusions": ["latest"], "scanOnPush": true,
            "tags": {"team": "b"}, "repositoryPolicy": policy("us-east-1"),
        });
    };
    assert!(ensure_with(&world, own).await.unwrap().created);
    let target = world.client(TARGET).await;
    let described = target.describe_repositories().repository_names(REPOSITORY).send().await.unwrap();
    let made = &described.repositories()[0];
    assert_eq!(made.image_tag_mutability(), Some(&ImageTagMutability::ImmutableWithExclusion));
    assert_eq!(made.image_tag_mutability_exclusion_filters()[0].filter(), "latest");
    assert!(made.image_scanning_configuration().unwrap().scan_on_push());
    assert_eq!(made.encryption_configuration().unwrap().kms_key(), Some(key));
    let (lifecycle, repository) = policies(&world).await;
    assert_eq!(lifecycle.as_deref(), Some(LIFECYCLE_POLICY));
    assert_eq!(repository, Some(policy("us-east-1")), "it is written for its targets: nothing is mapped");
}

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build().unwrap()
}

fn arn(region: &str) -> String {
    format!("arn:aws:ecr:{region}:123456789012:repository/{REPOSITORY}")
}

/// The tags of the target's repository.
async fn tags(world: &World) -> Vec<Tag> {
    let listed = world.client(TARGET).await.list_tags_for_resource().resource_arn(arn(TARGET)).send().await.unwrap();
    listed.tags.unwrap()
}

/// Makes the target's repository, as an attempt that did not come to its policies.
async fn cut_off(world: &World, operation: &str) {
    world.ecr.fault(Fault::new(operation, 500, "ServerException").in_region(TARGET).for_ever());
    let error = ensure_with(world, |_| ()).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::RegistryUnavailable, "{operation}");
    world.ecr.clear_faults();
}

/// Killed after the repository was made; the next attempt, or any other run, goes on.
#[tokio::test]
async fn an_attempt_that_was_cut_off_is_completed_by_whoever_comes_next() {
    let world = World::start().await;
    set_policies(&world).await;
    let days_later = Timestamp::now() + Duration::from_hours(13 * 24);
    for operation in ["PutLifecyclePolicy", "SetRepositoryPolicy", "UntagResource"] {
        for (execution, started_at, settings) in
            [("test", Timestamp::now(), "create"), ("another", days_later, "create"), ("another", days_later, "sync")]
        {
            let change = |input: &mut Value| {
                input["execution"] = json!(execution);
                input["startedAt"] = json!(started_at);
                input["target"]["settings"] = json!(settings);
            };
            world.client(TARGET).await.delete_repository().repository_name(REPOSITORY).send().await.ok();
            cut_off(&world, operation).await;
            assert_eq!(tags(&world).await, [tag(INCOMPLETE, "test")], "{operation}");
            let ensured = ensure_with(&world, change).await.unwrap();
            assert!(!ensured.created);
            let told: Vec<_> = ensured.settings.iter().map(|it| it.setting.as_str()).collect();
            assert!(!told.contains(&"tags"), "{operation}: {told:?}");
            let (lifecycle, repository) = policies(&world).await;
            assert!(lifecycle.is_some() && repository.is_some(), "{operation}");
            assert_eq!(tags(&world).await, [], "{operation}");
        }
    }
}

/// Somebody who makes a repository means it as it is, even if a run was just about to make it.
#[tokio::test]
async fn a_repository_that_somebody_else_made_gets_no_policies() {
    let world = World::start().await;
    set_policies(&world).await;
    world.create_repository(TARGET).await;
    assert!(!ensure_with(&world, |_| ()).await.unwrap().created);
    assert_eq!(policies(&world).await, (None, None));
    assert_eq!(world.calls(TARGET, "ListTagsForResource"), 1);
}

#[tokio::test]
async fn a_repository_that_is_no_longer_young_is_looked_at_no_further() {
    let world = World::start().await;
    set_policies(&world).await;
    cut_off(&world, "PutLifecyclePolicy").await;
    world.ecr.reset_stats();
    let later = |input: &mut Value| input["startedAt"] = json!(Timestamp::now() + Duration::from_hours(15 * 24));
    assert!(!ensure_with(&world, later).await.unwrap().created);
    assert_eq!(policies(&world).await, (None, None));
    assert_eq!(world.calls(TARGET, "ListTagsForResource"), 0);
    assert_eq!(world.calls(TARGET, "DescribeRepositories"), 1);
}

#[tokio::test]
async fn a_repository_without_policies_is_made_by_one_call() {
    let world = World::start().await;
    assert!(ensure_with(&world, |_| ()).await.unwrap().created);
    assert_eq!(tags(&world).await, []);
    assert_eq!(world.calls(TARGET, "CreateRepository"), 1);
    assert_eq!(world.calls(TARGET, "UntagResource"), 0);
}

/// The source may be a target of another deployment.
#[tokio::test]
async fn the_mark_of_the_source_s_own_making_is_not_copied() {
    let world = World::start().await;
    let source = world.client(SOURCE).await;
    let tagged = source.tag_resource().resource_arn(arn(SOURCE)).tags(tag(INCOMPLETE, "x")).tags(tag("team", "a"));
    tagged.send().await.unwrap();
    assert!(ensure_with(&world, |_| ()).await.unwrap().created);
    assert_eq!(tags(&world).await, [tag("team", "a")]);
    assert_eq!(ensure_with(&world, sync).await.unwrap().settings, []);
}

/// There is room for a mark only where a tag is left out.
#[tokio::test]
async fn a_repository_with_as_many_tags_as_there_may_be_is_completed_too() {
    let world = World::start().await;
    set_policies(&world).await;
    let all: Vec<Tag> = (0..50).map(|number| tag(&format!("tag-{number}"), "x")).collect();
    let source = world.client(SOURCE).await;
    source.tag_resource().resource_arn(arn(SOURCE)).set_tags(Some(all.clone())).send().await.unwrap();
    let is_whole = async || {
        let there = tags(&world).await;
        assert!(there.len() == 50 && all.iter().all(|tag| there.contains(tag)), "{there:?}");
        let (lifecycle, repository) = policies(&world).await;
        assert!(lifecycle.is_some() && repository.is_some());
    };
    assert!(ensure_with(&world, |_| ()).await.unwrap().created);
    is_whole().await;

    world.client(TARGET).await.delete_repository().repository_name(REPOSITORY).send().await.unwrap();
    cut_off(&world, "SetRepositoryPolicy").await;
    assert!(!ensure_with(&world, |_| ()).await.unwrap().created);
    is_whole().await;
}

/// It was made by an attempt whose answer was lost, and ECR does not see it yet: whoever goes on would leave it without policies.
#[tokio::test]
async fn a_repository_that_exists_and_is_not_to_be_seen_is_tried_again() {
    let world = World::start().await;
    set_policies(&world).await;
    world.ecr.fault(Fault::new("CreateRepository", 500, "ServerException").in_region(TARGET).after_effect());
    let unseen = Fault::new("DescribeRepositories", 400, "RepositoryNotFoundException").in_region(TARGET);
    world.ecr.fault(unseen.skip(1));
    let error = ensure_with(&world, |_| ()).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::RegistryUnavailable);
    assert!(!ensure_with(&world, |_| ()).await.unwrap().created);
    let (lifecycle, repository) = policies(&world).await;
    assert!(lifecycle.is_some() && repository.is_some());
}

#[tokio::test]
async fn policies_that_somebody_has_set_meanwhile_stay() {
    let world = World::start().await;
    set_policies(&world).await;
    cut_off(&world, "PutLifecyclePolicy").await;
    let target = world.client(TARGET).await;
    target.set_repository_policy().repository_name(REPOSITORY).policy_text("{}").send().await.unwrap_err();
    let theirs = r#"{"Statement":[]}"#;
    target.set_repository_policy().repository_name(REPOSITORY).policy_text(theirs).send().await.unwrap();
    assert!(!ensure_with(&world, |_| ()).await.unwrap().created);
    assert_eq!(policies(&world).await, (Some(LIFECYCLE_POLICY.to_owned()), Some(theirs.to_owned())));
}

#[tokio::test]
async fn sync_brings_a_repository_to_the_source_s_settings_and_tells_what_it_changed() {
    let world = World::start().await;
    set_policies(&world).await;
    let source = world.client(SOURCE).await;
    source.tag_resource().resource_arn(arn(SOURCE)).tags(tag("team", "a")).send().await.unwrap();
    source
        .put_image_tag_mutability()
        .repository_name(REPOSITORY)
        .image_tag_mutability(ImageTagMutability::Immutable)
        .send()
        .await
        .unwrap();
    let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
    let scan = source.put_image_scanning_configuration().repository_name(REPOSITORY);
    scan.image_scanning_configuration(scanning).send().await.unwrap();
    let target = world.client(TARGET).await;
    let encryption = EncryptionConfiguration::builder().encryption_type(EncryptionType::Kms).build().unwrap();
    let create = target.create_repository().repository_name(REPOSITORY).encryption_configuration(encryption);
    create.tags(tag("old", "1")).tags(tag("team", "b")).send().await.unwrap();

    let ensured = ensure_with(&world, sync).await.unwrap();
    assert!(!ensured.created);
    let told: Vec<_> = ensured.settings.iter().map(|it| (it.setting.as_str(), it.refused.is_some())).collect();
    assert_eq!(
        told,
        [
            ("tagMutability", false),
            ("scanOnPush", false),
            ("tags", false),
            ("lifecyclePolicy", false),
            ("repositoryPolicy", false),
            ("encryption", true),
        ]
    );
    assert_eq!(ensured.settings[2].before.as_deref(), Some(r#"{"old":"1","team":"b"}"#));
    assert_eq!(ensured.settings[2].after.as_deref(), Some(r#"{"team":"a"}"#));

    // What is left is what nobody can change; nothing else is put again.
    world.ecr.reset_stats();
    let ensured = ensure_with(&world, sync).await.unwrap();
    assert_eq!(ensured.settings.iter().map(|it| it.setting.as_str()).collect::<Vec<_>>(), ["encryption"]);
    let changes = ["PutImageTagMutability", "PutImageScanningConfiguration", "TagResource", "UntagResource"];
    for operation in changes.into_iter().chain(["PutLifecyclePolicy", "SetRepositoryPolicy"]) {
        assert_eq!(world.calls(TARGET, operation), 0, "{operation}");
    }
    assert_eq!(tags(&world).await, [tag("team", "a")]);

    // And back: what the source no longer has goes.
    source.delete_lifecycle_policy().repository_name(REPOSITORY).send().await.unwrap();
    source.delete_repository_policy().repository_name(REPOSITORY).send().await.unwrap();
    ensure_with(&world, sync).await.unwrap();
    assert_eq!(policies(&world).await, (None, None));
}

#[tokio::test]
async fn a_policy_that_the_registry_refuses_is_told_and_keeps_no_image_back() {
    let world = World::start().await;
    set_policies(&world).await;
    for operation in ["PutLifecyclePolicy", "SetRepositoryPolicy"] {
        world.ecr.fault(Fault::new(operation, 400, "InvalidParameterException").in_region(TARGET).for_ever());
    }
    for change in [|_: &mut Value| (), sync] {
        let ensured = ensure_with(&world, change).await.unwrap();
        let told: Vec<_> = ensured.settings.iter().map(|it| (it.setting.as_str(), it.refused.is_some())).collect();
        assert_eq!(told, [("lifecyclePolicy", true), ("repositoryPolicy", true)]);
    }
}

/// What was changed before a change that fails would be in no report if the attempt failed: the next one finds it as it should be.
#[tokio::test]
async fn what_was_synchronized_before_a_change_that_fails_is_told() {
    for (operation, code, setting) in [
        ("SetRepositoryPolicy", "ServerException", "repositoryPolicy"),
        ("PutLifecyclePolicy", "ThrottlingException", "lifecyclePolicy"),
        ("SetRepositoryPolicy", "AccessDeniedException", "repositoryPolicy"),
    ] {
        let world = World::start().await;
        set_policies(&world).await;
        let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
        let scan = world.client(SOURCE).await.put_image_scanning_configuration().repository_name(REPOSITORY);
        scan.image_scanning_configuration(scanning).send().await.unwrap();
        world.create_repository(TARGET).await;
        world.ecr.fault(Fault::new(operation, 400, code).in_region(TARGET).for_ever());
        let ensured = ensure_with(&world, sync).await.unwrap();
        for told in &ensured.settings {
            assert_eq!(told.refused.is_some(), told.setting == setting, "{operation} {code}: {told:?}");
        }
        let told: Vec<_> = ensured.settings.iter().map(|it| it.setting.as_str()).collect();
        assert_eq!(told, ["scanOnPush", "lifecyclePolicy", "repositoryPolicy"]);
        let refused = ensured.settings.iter().find_map(|it| it.refused.as_ref()).unwrap();
        assert!(refused.starts_with(&format!("{operation} on {REPOSITORY} in {TARGET} failed: {code}")), "{refused}");
    }
}

/// Step Functions carries what is told of every target together.
#[tokio::test]
async fn what_is_told_of_many_settings_is_cut() {
    let world = World::start().await;
    set_policies(&world).await;
    world.create_repository(TARGET).await;
    for (region, value) in [(SOURCE, "a"), (TARGET, "b")] {
        let tags = (0..5).map(|number| tag(&format!("{number}{}", "k".repeat(90)), &value.repeat(200)));
        let client = world.client(region).await;
        client.tag_resource().resource_arn(arn(region)).set_tags(Some(tags.collect())).send().await.unwrap();
    }
    for operation in ["TagResource", "PutLifecyclePolicy", "SetRepositoryPolicy"] {
        world.ecr.fault(Fault::new(operation, 400, "InvalidParameterException").in_region(TARGET).for_ever());
    }
    let ensured = ensure_with(&world, sync).await.unwrap();
    assert_eq!(ensured.settings.len(), 3);
    let length = json!(ensured.settings).to_string().len();
    assert!((500..=900).contains(&length), "{length}: {:?}", ensured.settings);
}

/// Nothing was changed yet, so nothing is lost when the state machine tries again; a denial does not pass.
#[tokio::test]
async fn a_change_that_fails_first_is_tried_again_unless_it_is_denied() {
    let world = World::start().await;
    set_policies(&world).await;
    world.create_repository(TARGET).await;
    world.ecr.fault(Fault::new("PutLifecyclePolicy", 500, "ServerException").in_region(TARGET).for_ever());
    assert_eq!(ensure_with(&world, sync).await.unwrap_err().name(), ErrorName::RegistryUnavailable);
    assert_eq!(world.calls(TARGET, "SetRepositoryPolicy"), 0);
    world.ecr.clear_faults();
    world.ecr.fault(Fault::new("PutLifecyclePolicy", 400, "AccessDeniedException").in_region(TARGET).for_ever());
    let ensured = ensure_with(&world, sync).await.unwrap();
    let told: Vec<_> = ensured.settings.iter().map(|it| (it.setting.as_str(), it.refused.is_some())).collect();
    assert_eq!(told, [("lifecyclePolicy", true), ("repositoryPolicy", false)]);
}

#[tokio::test]
async fn a_policy_that_would_lock_the_owner_out_is_refused() {
    let world = World::start().await;
    let locks = json!({"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "ecr:*"}]}).to_string();
    let own = |input: &mut Value| input["repositorySettings"] = json!({"repositoryPolicy": locks});
    let ensured = ensure_with(&world, own).await.unwrap();
    assert!(ensured.created);
    assert!(ensured.settings[0].refused.as_ref().unwrap().contains("123456789012"), "{:?}", ensured.settings);
    assert_eq!(policies(&world).await, (None, None));
    assert_eq!(world.calls(TARGET, "SetRepositoryPolicy"), 0);
}

#[tokio::test]
async fn a_repository_that_is_not_to_be_made_must_exist() {
    let world = World::start().await;
    let none = |input: &mut Value| input["target"]["settings"] = json!("none");
    let error = ensure_with(&world, none).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::RepositoryNotFound);
    assert_eq!(
        error.to_string(),
        "the repository prod/app in eu-west-1 does not exist, and the target's settings are `none`: make it, then redrive"
    );
    assert_eq!(world.calls(TARGET, "CreateRepository"), 0);
    world.create_repository(TARGET).await;
    assert!(!ensure_with(&world, none).await.unwrap().created);
    assert_eq!(world.calls(SOURCE, "DescribeRepositories"), 0);
}
