//! Targets in another account: by a role that is assumed there, or by the policy of a repository there.

use aws_config::SdkConfig;
use ecr_local::{Fault, Role};
use serde_json::{Value, json};
use shared::{
    contract::{Put, Status},
    copy::Uploads,
    names::Digest,
};

use crate::{
    execution::{Course, Failed, Functions, State},
    world::{REPOSITORY, SOURCE, TARGET, World, sdk_config},
};

const OWN_ACCOUNT: &str = "123456789012";
const OTHER_ACCOUNT: &str = "222222222222";
const ROLE: &str = "arn:aws:iam::222222222222:role/target";

/// Nothing happens to an execution.
struct Undisturbed;

impl Course for Undisturbed {}

/// A world with an image in the source's repository, and the configuration of its functions.
async fn set() -> (World, SdkConfig, Digest) {
    let world = World::start().await;
    let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
    let config = sdk_config(&world.ecr.endpoint(), SOURCE).await;
    (world, config, digest)
}

/// Replicates the image to `target`.
async fn replicate(config: &SdkConfig, uploads: Uploads, target: &Value) -> Result<Put, Failed> {
    let functions = Functions::new(config, config, uploads);
    let input = json!({"image": {"repository": REPOSITORY, "tag": "v1"}, "targets": [target]});
    let round = functions.resolve(&Undisturbed, &input).await?.unwrap();
    functions.replicate(&Undisturbed, &round, &round.targets[0]).await.ended
}

/// What the tag is on in a repository of `account`.
fn tagged(world: &World, account: &str) -> Option<String> {
    world.ecr.view(account, TARGET, REPOSITORY)?.tags.get("v1").cloned()
}

fn by_role() -> Value {
    json!({"region": TARGET, "registryId": OTHER_ACCOUNT, "roleArn": ROLE, "externalId": "id"})
}

#[tokio::test]
async fn an_image_goes_to_another_account_as_a_role_of_that_account() {
    for uploads in [Uploads::Auto, Uploads::Parts] {
        let (world, config, digest) = set().await;
        world.ecr.add_role(Role::new(ROLE).unwrap().with_external_id("id"));
        let put = replicate(&config, uploads, &by_role()).await.unwrap();
        assert_eq!(put.status, Status::Replicated);
        assert_eq!(tagged(&world, OTHER_ACCOUNT).as_deref(), Some(digest.as_str()), "{uploads:?}");
        assert_eq!(world.ecr.view(OWN_ACCOUNT, TARGET, REPOSITORY), None, "nothing is made in one's own account");
        let streams = world.calls(TARGET, "v2:PUT upload");
        assert_eq!(streams > 0, uploads == Uploads::Auto, "{streams} streams with {uploads:?}");
        let again = replicate(&config, uploads, &by_role()).await.unwrap();
        assert_eq!(again.status, Status::Unchanged);
    }
}

#[tokio::test]
async fn a_role_that_may_not_be_assumed_is_told_with_region_account_and_call() {
    let (world, config, _) = set().await;
    world.ecr.add_role(Role::new(ROLE).unwrap().with_external_id("id"));
    let mut wrong_id = by_role();
    wrong_id["externalId"] = json!("another");
    let mut no_id = by_role();
    no_id.as_object_mut().unwrap().remove("externalId");
    let mut no_role = by_role();
    no_role["roleArn"] = json!("arn:aws:iam::222222222222:role/none");
    for target in [wrong_id, no_id, no_role] {
        let failed = replicate(&config, Uploads::Auto, &target).await.unwrap_err();
        assert_eq!((failed.name.as_str(), failed.attempts()), ("AccessDenied", 1), "{failed:?}");
        let role = target["roleArn"].as_str().unwrap();
        let begin = format!(
            "DescribeRepositories on {REPOSITORY} in {TARGET} of the account {OTHER_ACCOUNT} failed: AccessDenied: \
             sts:AssumeRole of {role}: "
        );
        assert!(failed.message.starts_with(&begin), "{}", failed.message);
        assert!(!failed.message.contains("another"), "{}", failed.message);
    }
    assert_eq!(world.ecr.view(OTHER_ACCOUNT, TARGET, REPOSITORY), None);
}

#[tokio::test]
async fn what_keeps_a_role_from_being_assumed_for_a_moment_is_waited_out() {
    for fault in [
        Fault::new("AssumeRole", 400, "Throttling"),
        Fault::new("AssumeRole", 500, "InternalFailure"),
        Fault::cut("AssumeRole", 0),
    ] {
        let (world, config, digest) = set().await;
        world.ecr.add_role(Role::new(ROLE).unwrap().with_external_id("id"));
        world.ecr.fault(fault.clone().times(4));
        replicate(&config, Uploads::Auto, &by_role()).await.unwrap_or_else(|failed| panic!("{fault:?}: {failed:?}"));
        assert_eq!(tagged(&world, OTHER_ACCOUNT).as_deref(), Some(digest.as_str()), "{fault:?}");
        let met: u64 = world.ecr.faults().iter().map(|state| state.met).sum();
        assert_eq!(met, 4, "{fault:?}");
    }
}

/// CreateRepository makes a repository in the caller's own account, whatever the target says.
#[tokio::test]
async fn a_repository_of_another_account_is_not_made_without_a_role() {
    let (world, config, _) = set().await;
    for settings in ["create", "sync"] {
        let target = json!({"region": TARGET, "registryId": OTHER_ACCOUNT, "settings": settings});
        let failed = replicate(&config, Uploads::Auto, &target).await.unwrap_err();
        assert_eq!((failed.state, failed.name.as_str()), (State::ResolveImage, "InvalidInput"), "{settings}");
        assert!(failed.message.starts_with("targets[0].registryId: needs a `roleArn`, or"), "{}", failed.message);
    }
    assert_eq!(world.ecr.view(OWN_ACCOUNT, TARGET, REPOSITORY), None);
}

#[tokio::test]
async fn an_image_goes_to_a_repository_of_another_account_whose_policy_allows_it() {
    let target = json!({"region": TARGET, "registryId": OTHER_ACCOUNT, "settings": "none"});
    for uploads in [Uploads::Auto, Uploads::Parts] {
        let (world, config, digest) = set().await;
        let failed = replicate(&config, uploads, &target).await.unwrap_err();
        assert_eq!((failed.state, failed.name.as_str()), (State::EnsureRepository, "RepositoryNotFound"));

        world.ecr.add_role(Role::new(ROLE).unwrap());
        let owner = world.client_of(OTHER_ACCOUNT, TARGET).await;
        owner.create_repository().repository_name(REPOSITORY).send().await.unwrap();
        let failed = replicate(&config, uploads, &target).await.unwrap_err();
        assert_eq!(failed.name, "AccessDenied");
        assert!(failed.message.contains(OTHER_ACCOUNT), "{}", failed.message);

        let policy = json!({"Statement": [{
            "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{OWN_ACCOUNT}:root")},
            "Action": [
                "ecr:DescribeRepositories", "ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload",
                "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:BatchGetImage", "ecr:PutImage",
            ],
        }]});
        let set = owner.set_repository_policy().repository_name(REPOSITORY).policy_text(policy.to_string());
        set.send().await.unwrap();
        let put = replicate(&config, uploads, &target).await.unwrap_or_else(|failed| panic!("{uploads:?}: {failed:?}"));
        assert_eq!(put.status, Status::Replicated);
        assert_eq!(tagged(&world, OTHER_ACCOUNT).as_deref(), Some(digest.as_str()), "{uploads:?}");
        assert_eq!(world.ecr.view(OWN_ACCOUNT, TARGET, REPOSITORY), None);
    }
}
