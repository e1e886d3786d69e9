//! What the roles of Terraform's modules allow is what the functions call: the local ECR asks for no permission, so here the calls
//! that it saw of each function are held to the statements, as they are written.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_config::SdkConfig;
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability, Tag,
};
use copy_layers::{Dependencies, Settings};
use ecr_local::{Fault, Role};
use jiff::Timestamp;
use serde_json::{Value, json};
use shared::{
    copy::Uploads,
    names::Digest,
    registry::Registries,
    serve::{Deadline, decode},
};

use crate::world::{LIFECYCLE_POLICY, REPOSITORY, SOURCE, TARGET, World, sdk_config, target_input};

const ROLE: &str = "arn:aws:iam::222222222222:role/target";

/// The actions of a role's statements by their Sid, of ECR and STS: what those two services are asked for by a function itself.
pub(crate) type Statements = BTreeMap<String, BTreeSet<String>>;

/// The statements within `text`, which is Terraform code: each begins with what `sid` finds in a line.
fn statements(text: &str, sid: impl Fn(&str) -> Option<&str>) -> Statements {
    let mut statements = Statements::new();
    let mut current = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        current = sid(line).or(current);
        let quoted = line.split('"').skip(1).step_by(2);
        let actions =
            quoted.filter(|text| (text.starts_with("ecr:") && !text.contains('$')) || *text == "sts:AssumeRole");
        for action in actions {
            statements.entry(current.unwrap().to_owned()).or_default().insert(action.to_owned());
        }
    }
    statements
}

/// What terraform/iam.tf allows `function`.
pub(crate) fn of_function(function: &str) -> Statements {
    let text = include_str!("../../terraform/iam.tf");
    let possible = text.split_once("  possible_function_statements = {\n").unwrap().1.split_once("\n  }\n").unwrap().0;
    let own = possible.split_once(&format!("    {function} = [\n")).unwrap().1.split_once("\n    ]").unwrap().0;
    let mut statements = statements(own, |line| line.strip_prefix("Sid ")?.split('"').nth(1));
    if own.contains("local.assume_target_roles") {
        statements.insert("AssumeTargetRoles".to_owned(), BTreeSet::from(["sts:AssumeRole".to_owned()]));
    }
    statements
}

/// What the role of terraform/modules/target-account allows.
fn of_target_account() -> Statements {
    let text = include_str!("../../terraform/modules/target-account/main.tf");
    let all = text.split_once("  statements = {\n").unwrap().1.split_once("\n  }\n").unwrap().0;
    statements(all, |line| line.strip_suffix(" = {").map(str::trim))
}

/// The actions of those statements.
pub(crate) fn allowed(statements: &Statements, sids: &[&str]) -> BTreeSet<String> {
    sids.iter().flat_map(|sid| statements.get(*sid).unwrap_or_else(|| panic!("no {sid}"))).cloned().collect()
}

/// What a call needs permission for.
pub(crate) fn actions(operation: &str) -> Vec<String> {
    match operation {
        // A presigned URL.
        "DownloadLayer" => Vec::new(),
        "AssumeRole" => vec!["sts:AssumeRole".to_owned()],
        // By ECR's documentation.
        "ListImageReferrers" => vec!["ecr:BatchGetImage".to_owned()],
        // Those that are made here have tags.
        "CreateRepository" => vec!["ecr:CreateRepository".to_owned(), "ecr:TagResource".to_owned()],
        // A stream: as for the API's calls, which the other road makes.
        _ if operation.starts_with("v2:") => Vec::new(),
        _ => vec![format!("ecr:{operation}")],
    }
}

/// What the functions called since the last look, in the source's region and in the target's.
fn seen(world: &World) -> [BTreeSet<String>; 2] {
    let stats = world.ecr.stats();
    let seen =
        [SOURCE, TARGET].map(|region| stats.region(region).calls.keys().flat_map(|call| actions(call)).collect());
    world.ecr.reset_stats();
    seen
}

async fn resolve(config: &SdkConfig, digest: &Digest, tag: Option<&str>) {
    let rules = json!({"some": {
        "repositories": {"include": ["*"], "exclude": []}, "tags": {"include": ["v*"], "exclude": []}, "untagged": true,
        "targets": [{"region": TARGET}],
    }});
    let event = json!({
        "detail-type": "ECR Image Action", "region": SOURCE, "time": Timestamp::now() - Duration::from_mins(2),
        "detail": {
            "action-type": "PUSH", "result": "SUCCESS", "repository-name": REPOSITORY, "image-digest": digest.as_str(),
            "image-tag": tag.unwrap_or_default(),
        },
    });
    let input = json!({"execution": "test", "input": {"event": event, "rule": "some"}, "rules": rules});
    resolve_image::handle(&Registries::new(config.clone()).unwrap(), decode(input).unwrap()).await.unwrap();
}

fn input(digest: &Digest, tag: Option<&str>, target: &Value) -> Value {
    let mut input = target_input(digest, tag);
    input["target"].as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
    input
}

async fn ensure(config: &SdkConfig, target: &Value) -> Result<(), ensure_repo::Error> {
    let mut input = input(&Digest::of(b"any"), None, target);
    input["startedAt"] = json!(Timestamp::now());
    ensure_repo::handle(&Registries::new(config.clone()).unwrap(), decode(input).unwrap()).await.map(drop)
}

async fn copy(config: &SdkConfig, digest: &Digest, uploads: Uploads, target: &Value) {
    let settings = Settings { memory: 512, uploads, max_shards: 4 };
    let dependencies = Dependencies::new(Registries::new(config.clone()).unwrap(), settings).unwrap();
    let mut input = input(digest, None, target);
    (input["layers"], input["cursor"]) = (Value::Null, Value::Null);
    let deadline = Deadline::told_by(|| Duration::from_mins(15));
    assert!(copy_layers::handle(&dependencies, decode(input).unwrap(), deadline).await.unwrap().done);
}

async fn put(config: &SdkConfig, digest: &Digest, target: &Value) {
    let deadline = Deadline::told_by(|| Duration::from_mins(15));
    let input = decode(input(digest, Some("v1"), target)).unwrap();
    put_manifest::handle(&Registries::new(config.clone()).unwrap(), input, deadline).await.unwrap();
}

/// A source with every setting that a repository may have.
async fn world() -> (World, SdkConfig) {
    let world = World::start().await;
    let source = world.client(SOURCE).await;
    source.delete_repository().repository_name(REPOSITORY).send().await.unwrap();
    let encryption = EncryptionConfiguration::builder().encryption_type(EncryptionType::Kms).build().unwrap();
    let create = source.create_repository().repository_name(REPOSITORY).encryption_configuration(encryption);
    create.tags(Tag::builder().key("team").value("a").build().unwrap()).send().await.unwrap();
    let put = source.put_lifecycle_policy().repository_name(REPOSITORY).lifecycle_policy_text(LIFECYCLE_POLICY);
    put.send().await.unwrap();
    let set = source.set_repository_policy().repository_name(REPOSITORY).policy_text(r#"{"Statement":[]}"#);
    set.send().await.unwrap();
    let config = sdk_config(&world.ecr.endpoint(), SOURCE).await;
    (world, config)
}

/// Changes every setting of the target's repository that can be changed.
async fn change_all(world: &World, account: &str) {
    let target = world.client_of(account, TARGET).await;
    let put = target.put_image_tag_mutability().repository_name(REPOSITORY);
    put.image_tag_mutability(ImageTagMutability::Immutable).send().await.unwrap();
    let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
    let scan = target.put_image_scanning_configuration().repository_name(REPOSITORY);
    scan.image_scanning_configuration(scanning).send().await.unwrap();
    let arn = format!("arn:aws:ecr:{TARGET}:{account}:repository/{REPOSITORY}");
    let tags =
        [("team", "b"), ("other", "c")].map(|(key, value)| Tag::builder().key(key).value(value).build().unwrap());
    target.tag_resource().resource_arn(arn).set_tags(Some(tags.into())).send().await.unwrap();
}

/// Each mode of EnsureRepository on its whole way: what it calls in the source's region and at `target` for each.
async fn ensure_each(
    world: &World,
    config: &SdkConfig,
    account: &str,
    target: &Value,
) -> BTreeMap<String, [BTreeSet<String>; 2]> {
    let mode = |settings: &str| {
        let mut target = target.clone();
        target["settings"] = json!(settings);
        target
    };
    let owner = world.client_of(account, TARGET).await;
    let mut calls = BTreeMap::new();
    // Stopped before the policies, and completed.
    seen(world);
    world.ecr.fault(Fault::new("PutLifecyclePolicy", 500, "ServerException").in_region(TARGET).for_ever());
    ensure(config, &mode("create")).await.unwrap_err();
    world.ecr.clear_faults();
    ensure(config, &mode("create")).await.unwrap();
    calls.insert("create".to_owned(), seen(world));

    ensure(config, &mode("none")).await.unwrap();
    calls.insert("none".to_owned(), seen(world));

    // Made, brought to what the source has, and to what it does not have.
    owner.delete_repository().repository_name(REPOSITORY).send().await.unwrap();
    seen(world);
    let mut all = [BTreeSet::new(), BTreeSet::new()];
    let source = world.client(SOURCE).await;
    for round in 0..3 {
        ensure(config, &mode("sync")).await.unwrap();
        for (all, seen) in all.iter_mut().zip(seen(world)) {
            all.extend(seen);
        }
        if round == 0 {
            change_all(world, account).await;
        } else if round == 1 {
            source.delete_lifecycle_policy().repository_name(REPOSITORY).send().await.unwrap();
            source.delete_repository_policy().repository_name(REPOSITORY).send().await.unwrap();
        }
        seen(world);
    }
    calls.insert("sync".to_owned(), all);
    calls
}

#[tokio::test]
async fn resolve_image_may_do_what_it_calls_and_nothing_else() {
    let (world, config) = world().await;
    let (index, children) = world.push_index(Some("v1")).await;
    let signature = world.refer(&index, "signature", None).await;
    seen(&world);
    for (digest, tag) in
        [(&index, Some("v1")), (&signature, None), (&Digest::of(children[0].to_string().as_bytes()), None)]
    {
        resolve(&config, digest, tag).await;
    }
    assert_eq!(seen(&world), [allowed(&of_function("resolve-image"), &["ReadSource"]), BTreeSet::new()]);
}

#[tokio::test]
async fn ensure_repo_may_do_what_it_calls_and_nothing_else() {
    let statements = of_function("ensure-repo");
    let made = ["CreateTarget", "UnmarkTarget"];
    let synced = [&made[..], &["SyncTarget"]].concat();
    let (world, config) = world().await;
    let calls = ensure_each(&world, &config, "123456789012", &json!({})).await;
    let source = allowed(&statements, &["ReadSourceSettings"]);
    assert_eq!(calls["create"], [source.clone(), allowed(&statements, &made)]);
    assert_eq!(calls["none"], [BTreeSet::new(), allowed(&statements, &["DescribeTarget"])]);
    assert_eq!(calls["sync"], [source, allowed(&statements, &synced)]);
    let known: BTreeSet<&str> =
        [&synced[..], &["ReadSourceSettings", "DescribeTarget", "AssumeTargetRoles"]].concat().into_iter().collect();
    assert_eq!(statements.keys().map(String::as_str).collect::<BTreeSet<_>>(), known);
}

#[tokio::test]
async fn copy_layers_and_put_manifest_may_do_what_they_call_and_nothing_else() {
    let [copying, putting] = ["copy-layers", "put-manifest"].map(of_function);
    for (uploads, sids) in
        [(Uploads::Parts, &["UploadToTarget"][..]), (Uploads::Auto, &["UploadToTarget", "SignInToTarget"])]
    {
        let (world, config) = world().await;
        let (digest, _) = world.push_index(Some("v1")).await;
        world.create_repository(TARGET).await;
        seen(&world);
        copy(&config, &digest, uploads, &json!({})).await;
        let [source, mut target] = seen(&world);
        if uploads == Uploads::Auto {
            target.extend(allowed(&copying, &["UploadToTarget"]));
        }
        assert_eq!([source, target], [allowed(&copying, &["ReadSource"]), allowed(&copying, sids)]);
        put(&config, &digest, &json!({})).await;
        assert_eq!(seen(&world), [allowed(&putting, &["ReadSource"]), allowed(&putting, &["PutToTarget"])]);
    }
}

/// What the four functions may do together in their own account; and each assumes the role by itself.
#[tokio::test]
async fn the_role_of_another_account_may_do_what_is_called_there_and_nothing_else() {
    let statements = of_target_account();
    let (world, config) = world().await;
    world.ecr.add_role(Role::new(ROLE).unwrap());
    let target = json!({"registryId": "222222222222", "roleArn": ROLE});
    let (digest, _) = world.push_index(Some("v1")).await;
    let mut calls = ensure_each(&world, &config, "222222222222", &target).await;
    for uploads in [Uploads::Parts, Uploads::Auto] {
        world
            .client_of("222222222222", TARGET)
            .await
            .delete_repository()
            .repository_name(REPOSITORY)
            .force(true)
            .send()
            .await
            .unwrap();
        ensure(&config, &target).await.unwrap();
        seen(&world);
        copy(&config, &digest, uploads, &target).await;
        calls.insert(format!("copy {uploads:?}"), seen(&world));
        put(&config, &digest, &target).await;
        calls.insert(format!("put {uploads:?}"), seen(&world));
    }
    for (what, [source, _]) in &calls {
        assert!(source.contains("sts:AssumeRole"), "{what}");
    }
    // What find-differences calls there is held to its statements where it is called.
    let found = allowed(&of_function("find-differences"), &["ReadTarget", "ReadSyncedTarget"]);
    for function in ["ensure-repo", "copy-layers", "find-differences", "put-manifest"] {
        assert!(of_function(function).contains_key("AssumeTargetRoles"), "{function}");
    }
    let called = |without: &str| -> BTreeSet<String> {
        let called = calls.iter().filter(|(what, _)| *what != without).flat_map(|(_, [_, target])| target);
        called.chain(found.iter()).cloned().collect()
    };
    let made = ["Replicate", "Create", "Unmark", "SignIn"];
    assert_eq!(called("sync"), allowed(&statements, &made));
    assert_eq!(called(""), allowed(&statements, &[&made[..], &["Sync"]].concat()));
}
