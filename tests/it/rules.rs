//! Replication rules, end to end: what they select, by the very patterns that Terraform makes of them, and where that goes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use ecr_local::{RepositorySettings, RepositoryView, Role};
use local_stack::{Execution, ExecutionStatus, LocalStack, Options, Sample};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use shared::contract::{Report, Status, TargetReport};
use shared::names::{Digest, ImageTag, RepositoryName};
use shared::reconcile::Item;
use shared::rules::Filter;

use crate::reconcile::{Setup, image, put, rule};
use crate::scene::{PATIENCE, REPOSITORY, Scene, TAG};
use crate::world::{LIFECYCLE_POLICY, SOURCE};

/// The account that the functions are in, and another one.
const OWN_ACCOUNT: &str = "000000000000";
const OTHER_ACCOUNT: &str = "222222222222";

/// The role in the other account, and what it wants to hear.
const ROLE: &str = "arn:aws:iam::222222222222:role/ecr-replicator-target";
const EXTERNAL_ID: &str = "only-we-know";

const IMAGE: Option<&str> = Some("application/vnd.oci.image.config.v1+json");
const SIGNATURE: Option<&str> = Some("application/vnd.dev.cosign.artifact.sig.v1+json");

const EVERYTHING: &str = "everything";
const RELEASES: &str = "releases";
const SNAPSHOTS: &str = "no-snapshots";
const TAGGED: &str = "tagged";
const WITHIN: &str = "within-a-name";
const VERSIONS: &str = "versions-and-untagged";
const NO_SNAPSHOTS: &str = "no-snapshots-and-untagged";

/// What is pushed: its repository, its tag, its artifact's media type; and the rules whose patterns let it through.
type Push = (&'static str, Option<&'static str>, Option<&'static str>, &'static [&'static str]);

const PUSHES: &[Push] = &[
    ("prod/app", Some("v1"), IMAGE, &[EVERYTHING, RELEASES, SNAPSHOTS, TAGGED]),
    ("prod/app", Some("v1"), None, &[EVERYTHING, RELEASES, SNAPSHOTS, TAGGED]),
    ("prod/team/app", Some("latest"), IMAGE, &[EVERYTHING, RELEASES, SNAPSHOTS, TAGGED]),
    ("base", Some("v2.1-hotfix"), IMAGE, &[EVERYTHING, RELEASES, SNAPSHOTS, TAGGED]),
    // A tag that no rule includes, or that is not all of what is included.
    ("prod/app", Some("dev"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED]),
    ("prod/app", Some("latest-1"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED]),
    ("prod/app", Some("1.0-snapshot-3"), IMAGE, &[EVERYTHING, TAGGED]),
    // Repositories.
    ("base/image", Some("v1"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED]),
    ("dev/app", Some("v1"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED]),
    ("prod/app/cache", Some("1"), IMAGE, &[EVERYTHING, TAGGED]),
    ("tmp", Some("1"), IMAGE, &[EVERYTHING, TAGGED]),
    ("tmp2", Some("1"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED]),
    // What is both included and excluded, no pattern can say: resolve-image ends it.
    ("prod/scratch-1", Some("v1"), IMAGE, &[EVERYTHING, RELEASES, SNAPSHOTS, TAGGED]),
    ("prod/app", Some("v1-rc2"), IMAGE, &[EVERYTHING, RELEASES, SNAPSHOTS, TAGGED]),
    // Without a tag: a signature passes, and so does what may be one.
    ("prod/app", None, SIGNATURE, &[EVERYTHING, RELEASES, SNAPSHOTS, TAGGED]),
    ("prod/app", Some(""), SIGNATURE, &[EVERYTHING, RELEASES, SNAPSHOTS, TAGGED]),
    ("prod/app", None, None, &[EVERYTHING, RELEASES, SNAPSHOTS, TAGGED]),
    ("dev/app", None, SIGNATURE, &[EVERYTHING, SNAPSHOTS, TAGGED]),
    // A platform of an index, or an image that nobody has tagged yet.
    ("prod/app", None, IMAGE, &[EVERYTHING]),
    ("prod/app", Some(""), Some("application/vnd.docker.container.image.v1+json"), &[EVERYTHING, SNAPSHOTS]),
    // A wildcard within a name, and at its beginning, stands for any characters and for none.
    ("a/x/b", Some("1.2.3"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED, WITHIN]),
    ("a/x/y/b", Some("1.2.3-rc1"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED, WITHIN]),
    ("app-release", Some("1.2.3"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED, WITHIN]),
    ("a/x/b", Some("1.2"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED]),
    ("a/b", Some("1.2.3"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED]),
    ("a/x/bc", Some("1.2.3"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED]),
    ("za/x/b", Some("1.2.3"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED]),
    ("app-release2", Some("1.2.3"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED]),
    ("a/x/b", None, IMAGE, &[EVERYTHING]),
    ("a/x/b", None, SIGNATURE, &[EVERYTHING, SNAPSHOTS, TAGGED, WITHIN]),
    // Images without a tag beside those of the tags that are selected.
    ("untagged/app", Some("v1"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED, VERSIONS, NO_SNAPSHOTS]),
    ("untagged/app", Some("latest"), IMAGE, &[EVERYTHING, SNAPSHOTS, TAGGED, NO_SNAPSHOTS]),
    ("untagged/app", Some("v1-snapshot"), IMAGE, &[EVERYTHING, TAGGED, VERSIONS]),
    ("untagged/app", None, IMAGE, &[EVERYTHING, VERSIONS, NO_SNAPSHOTS]),
    ("untagged/app", Some(""), IMAGE, &[EVERYTHING, SNAPSHOTS, VERSIONS, NO_SNAPSHOTS]),
    ("untagged/app", None, SIGNATURE, &[EVERYTHING, SNAPSHOTS, TAGGED, VERSIONS, NO_SNAPSHOTS]),
    ("untagged/app", Some("sha256-0a.att"), None, &[EVERYTHING, SNAPSHOTS, TAGGED, VERSIONS, NO_SNAPSHOTS]),
    // In cosign's scheme the tag tells whose it is.
    ("prod/app", Some("sha256-0a.sig"), SIGNATURE, &[EVERYTHING, RELEASES, SNAPSHOTS, TAGGED]),
];

fn event(repository: &str, tag: Option<&str>, artifact: Option<&str>) -> Value {
    let mut detail = json!({
        "result": "SUCCESS", "repository-name": repository, "action-type": "PUSH", "image-digest": Digest::of(b"image"),
        "manifest-media-type": "application/vnd.oci.image.manifest.v1+json",
    });
    for (member, value) in [("image-tag", tag), ("artifact-media-type", artifact)] {
        if let Some(value) = value {
            detail[member] = json!(value);
        }
    }
    json!({
        "version": "0", "id": "13cde686-328b-6117-af20-0e5566167482", "detail-type": "ECR Image Action",
        "source": "aws.ecr", "account": "123456789012", "time": "2026-11-16T01:54:34Z", "region": "eu-central-1",
        "resources": [], "detail": detail,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_s_event_pattern_lets_through_what_the_rule_selects() {
    let targets = json!([{"region": "eu-west-1"}]);
    let rules = json!({
        EVERYTHING: {"untagged": true, "targets": targets},
        RELEASES: {
            "repositories": {"include": ["prod/*", "base"], "exclude": ["prod/scratch-*"]},
            "tags": {"include": ["v*", "latest"], "exclude": ["*-rc*"]},
            "targets": targets,
        },
        SNAPSHOTS: {
            "repositories": {"exclude": ["*/cache", "tmp"]},
            "tags": {"exclude": ["*snapshot*"]},
            "targets": targets,
        },
        TAGGED: {"targets": targets},
        WITHIN: {
            "repositories": {"include": ["a/*/b", "*-release"]},
            "tags": {"include": ["*.*.*"]},
            "targets": targets,
        },
        VERSIONS: {
            "repositories": {"include": ["untagged/*"]},
            "tags": {"include": ["v*"]},
            "untagged": true,
            "targets": targets,
        },
        NO_SNAPSHOTS: {
            "repositories": {"include": ["untagged/app"]},
            "tags": {"exclude": ["*snapshot*"]},
            "untagged": true,
            "targets": targets,
        },
    });
    let stack = LocalStack::start(Options { rules: Some(rules), ..Options::quick(&[]) }).await.unwrap();
    let mut wrong = Vec::new();
    for &(repository, tag, artifact, rules) in PUSHES {
        let through = stack.rules_for(&event(repository, tag, artifact)).await.unwrap();
        let expected: BTreeSet<&str> = rules.iter().copied().collect();
        if through != expected {
            wrong.push(format!("{repository} {tag:?} {artifact:?}: {through:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    // Nothing but a push that succeeded, whatever the rule.
    for (pointer, value) in [
        ("/detail/action-type", "DELETE"),
        ("/detail/action-type", "UPDATE_STORAGE_CLASS"),
        ("/detail/result", "FAILURE"),
        ("/detail-type", "ECR Image Scan"),
        ("/source", "aws.s3"),
    ] {
        let mut event = event("prod/app", Some("v1"), IMAGE);
        *event.pointer_mut(pointer).unwrap() = json!(value);
        assert_eq!(stack.rules_for(&event).await.unwrap(), BTreeSet::new(), "{pointer} {value}");
    }
}

/// Names of the pieces that [`FILTERS`] are made of, and of others.
fn name() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(&["a", "b", "ab", "v", "1", "rc", "tmp"][..]);
    let separator = prop::sample::select(&["", "/", ".", "-", "_"][..]);
    prop::collection::vec((piece, separator), 1..5).prop_map(|pieces| {
        let joined: String = pieces.iter().flat_map(|(piece, separator)| [*piece, *separator]).collect();
        joined.trim_end_matches(['/', '.', '-', '_']).to_owned()
    })
}

/// What is included, and what is excluded.
const FILTERS: &[(&[&str], &[&str])] = &[
    (&["*"], &[]),
    (&["ab", "v1"], &[]),
    (&["a*"], &[]),
    (&["*b"], &[]),
    (&["a*b", "*-rc*"], &[]),
    (&["*.*", "*/*/*"], &[]),
    (&["*"], &["ab", "*-rc*"]),
    (&["*"], &["*b", "a/*"]),
    (&["*"], &["ab", "v1"]),
    (&["*"], &["a*", "v*"]),
    (&["*"], &["*b", "*1"]),
    (&["a*", "v*"], &["*tmp*", "a1"]),
];

/// What an event pattern can say of a filter: not what is both included and excluded.
fn said(filter: &Value) -> Filter {
    let mut said = filter.clone();
    if filter["include"] != json!(["*"]) {
        said["exclude"] = json!([]);
    }
    serde_json::from_value(said).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_s_event_pattern_means_what_its_filters_mean() {
    // Every filter is one of repositories, beside another one of tags, which have no `/`.
    let filter = |place: usize, separator: &str| {
        let (include, exclude) = FILTERS[place % FILTERS.len()];
        let names = |names: &[&str]| names.iter().map(|name| name.replace('/', separator)).collect::<Vec<_>>();
        json!({"include": names(include), "exclude": names(exclude)})
    };
    let rules: serde_json::Map<String, Value> = (0..FILTERS.len())
        .map(|place| {
            let (repositories, tags) = (filter(place, "/"), filter(place * 5 + 3, "-"));
            let rule = json!({"repositories": repositories, "tags": tags, "targets": [{"region": "eu-west-1"}]});
            (format!("rule-{place}"), rule)
        })
        .collect();
    let options = Options { rules: Some(Value::Object(rules.clone())), ..Options::quick(&[]) };
    let stack = LocalStack::start(options).await.unwrap();
    let handle = tokio::runtime::Handle::current();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() });
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let (pushed, replicated) = (RefCell::new(BTreeSet::new()), RefCell::new(BTreeSet::new()));
    let tag = name().prop_map(|name| name.replace('/', "-"));
    let held = runner.run(&(name(), tag), |(repository, tag)| {
        let event = event(&repository, Some(&tag), IMAGE);
        let through = tokio::task::block_in_place(|| handle.block_on(stack.rules_for(&event))).unwrap();
        // Patterns are held to names that ECR would not take, too; those cannot be pushed.
        let is_name = repository.parse::<RepositoryName>().is_ok() && tag.parse::<ImageTag>().is_ok();
        if is_name {
            pushed.borrow_mut().insert((repository.clone(), tag.clone()));
        }
        for (rule, of_rule) in &rules {
            let [repositories, tags] = [&of_rule["repositories"], &of_rule["tags"]];
            let expected = said(repositories).selects(&repository) && said(tags).selects(&tag);
            prop_assert_eq!(through.contains(rule.as_str()), expected, "{}: {}:{}", rule, repository, tag);
            let counted = if expected { &accepted } else { &refused };
            counted.set(counted.get() + 1);
            // What resolve-image selects of it was let through.
            let selects =
                |filter: &Value, name: &str| serde_json::from_value::<Filter>(filter.clone()).unwrap().selects(name);
            let selected = selects(repositories, &repository) && selects(tags, &tag);
            prop_assert!(expected || !selected, "{}: {}:{}", rule, repository, tag);
            if is_name && through.contains(rule.as_str()) && selected {
                replicated.borrow_mut().insert((rule.clone(), repository.clone(), tag.clone()));
            }
        }
        Ok(())
    });
    held.unwrap();
    let counts = [accepted.get(), refused.get()];
    assert!(counts.iter().all(|count| *count > 50), "accepted and refused: {counts:?}");

    let (pushed, replicated) = (pushed.take(), replicated.take());
    assert!(pushed.len() > 20 && replicated.len() > 20, "{} and {}", pushed.len(), replicated.len());
    // What an audit of an empty target tells is what pushes replicate, and nothing else.
    let setup = Setup::start().await;
    let client = setup.client(SOURCE).await;
    for (repository, tag) in pushed {
        put(&client, &repository, &image(&tag, &["layer"], None), &["layer"], &[&tag]).await;
    }
    let of_rule = |of_rule: &Value| rule(&json!({"repositories": of_rule["repositories"], "tags": of_rule["tags"]}));
    let rules: serde_json::Map<String, Value> = rules.iter().map(|(name, it)| (name.clone(), of_rule(it))).collect();
    let (_, items) = setup.find(&Value::Object(rules), json!({})).await;
    let told = items
        .into_iter()
        .map(|Item { rule, repository, tag, .. }| (rule, repository.to_string(), tag.unwrap().to_string()));
    assert_eq!(told.collect::<BTreeSet<_>>(), replicated);
}

/// The report of an execution, by its log as its output.
fn report(execution: &Execution) -> Report {
    serde_json::from_value(execution.output.as_ref().unwrap()["report"].clone()).unwrap()
}

fn target<'a>(report: &'a Report, region: &str) -> &'a TargetReport {
    report.targets.iter().find(|target| target.region.as_str() == region).unwrap()
}

fn of_rule<'a>(executions: &'a [Execution], rule: &str) -> &'a Execution {
    let mut of_rule = executions.iter().filter(|execution| execution.input["rule"] == rule);
    let found = of_rule.next().unwrap_or_else(|| panic!("no execution of {rule}: {executions:#?}"));
    assert!(of_rule.next().is_none(), "more than one execution of {rule}: {executions:#?}");
    found
}

/// What is in a repository, and how it is set up.
struct Eye<'a>(&'a LocalStack);

impl Eye<'_> {
    fn view(&self, account: &str, region: &str, repository: &str) -> Option<RepositoryView> {
        self.0.ecr().view(account, region, repository)
    }

    fn settings(&self, account: &str, region: &str, repository: &str) -> RepositorySettings {
        self.0.ecr().settings(account, region, repository).unwrap()
    }
}

fn read(text: Option<&String>) -> Option<Value> {
    text.map(|text| serde_json::from_str(text).unwrap())
}

/// A repository policy that names what is beside the repository.
fn policy(region: &str, account: &str) -> String {
    let function = format!("arn:aws:lambda:{region}:{account}:function:*");
    json!({"Statement": [{
        "Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": ["ecr:BatchGetImage"],
        "Condition": {"ArnLike": {"aws:SourceArn": function}},
    }]})
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_say_what_goes_where_and_how_it_is_set_up_there() {
    let other = json!({
        "region": "us-east-1", "registry_id": OTHER_ACCOUNT, "role_arn": ROLE, "external_id": EXTERNAL_ID,
    });
    let rules = json!({
        "releases": {
            "repositories": {"include": ["prod/*"], "exclude": ["prod/scratch-*"]},
            "tags": {"include": ["v*"], "exclude": ["*-rc*"]},
            "targets": [{"region": "eu-west-1", "repository_prefix": "mirror/", "settings": "sync"}, other],
            "repository_settings": {"tags": {"copy": "yes"}},
        },
        "app": {
            "repositories": {"include": ["prod/app"]},
            "targets": [
                {"region": "eu-west-1", "repository_prefix": "mirror/"},
                {"region": "us-west-2", "replace_prefix": {"from": "prod/", "to": "dr/"}},
            ],
        },
    });
    let sample = Sample { seed: 9, shared_layers: vec![8], own_layers: vec![4], ..Sample::default() };
    let scene = Scene::of(&sample, Options { rules: Some(rules), ..Options::quick(&[]) }).await;
    let (stack, eye) = (&scene.stack, Eye(&scene.stack));
    let source = stack.source().to_owned();
    stack.ecr().add_role(Role::new(ROLE).unwrap().with_external_id(EXTERNAL_ID));
    let client = stack.ecr_client(&source);
    let put = client.put_lifecycle_policy().repository_name(REPOSITORY).lifecycle_policy_text(LIFECYCLE_POLICY);
    put.send().await.unwrap();
    let set = client.set_repository_policy().repository_name(REPOSITORY).policy_text(policy(&source, OWN_ACCOUNT));
    set.send().await.unwrap();

    // One image, two rules that overlap: every target of both has it.
    let pushed = scene.push().await;
    let executions = stack.all_executions().when_all_have_ended(2, PATIENCE).await.unwrap();
    for rule in ["releases", "app"] {
        let execution = of_rule(&executions, rule);
        assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
        let report = report(execution);
        assert_eq!((report.rule.as_deref(), report.complete, report.targets.len()), (Some(rule), true, 2));
    }
    let whole = eye.view(OWN_ACCOUNT, &source, REPOSITORY).unwrap();
    let places = [
        (OWN_ACCOUNT, "eu-west-1", "mirror/prod/app"),
        (OTHER_ACCOUNT, "us-east-1", "prod/app"),
        (OWN_ACCOUNT, "us-west-2", "dr/app"),
    ];
    for (account, region, repository) in places {
        assert_eq!(eye.view(account, region, repository).as_ref(), Some(&whole), "{account} {region} {repository}");
    }
    for (account, region) in [(OWN_ACCOUNT, "eu-west-1"), (OWN_ACCOUNT, "us-west-2"), (OWN_ACCOUNT, "us-east-1")] {
        assert_eq!(eye.view(account, region, REPOSITORY), None, "nothing under the source's name in {region}");
    }
    let report_of_releases = report(of_rule(&executions, "releases"));
    assert_eq!(target(&report_of_releases, "us-east-1").registry_id.as_ref().unwrap().as_str(), OTHER_ACCOUNT);

    // A repository that was made has the source's settings, or the rule's own, and its policy names its own place.
    for (account, region, repository) in places {
        let settings = eye.settings(account, region, repository);
        assert_eq!(settings.lifecycle_policy.as_deref(), Some(LIFECYCLE_POLICY), "{region}");
        assert_eq!(read(settings.policy.as_ref()), read(Some(&policy(region, account))), "{region}");
    }
    let tags = eye.settings(OTHER_ACCOUNT, "us-east-1", REPOSITORY).tags;
    assert_eq!(tags.get("copy").map(String::as_str), Some("yes"));

    // By another tag: `releases` does not hear of `dev`, and ends what it excludes.
    scene.stack.replay_push(REPOSITORY, &pushed.digest, "v1-rc1").await.unwrap();
    stack.replay_push(REPOSITORY, &pushed.digest, "dev").await.unwrap();
    stack.replay_push("prod/scratch-1", &pushed.digest, TAG).await.unwrap();
    let executions = stack.all_executions().when_all_have_ended(6, PATIENCE).await.unwrap();
    let told = |execution: &Execution| {
        let detail = &execution.input["event"]["detail"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let reason = execution.output.as_ref().unwrap()["nothingToDo"]["reason"].as_str().map(str::to_owned);
        (text(&execution.input["rule"]), text(&detail["repository-name"]), text(&detail["image-tag"]), reason)
    };
    let told: BTreeSet<_> = executions.iter().map(told).collect();
    let run = |rule: &str, repository: &str, tag: &str, reason: Option<&str>| {
        (rule.to_owned(), repository.to_owned(), tag.to_owned(), reason.map(str::to_owned))
    };
    let not_selected = Some("NOT_SELECTED");
    assert_eq!(
        told,
        BTreeSet::from([
            run("releases", REPOSITORY, TAG, None),
            run("app", REPOSITORY, TAG, None),
            run("releases", REPOSITORY, "v1-rc1", not_selected),
            run("app", REPOSITORY, "v1-rc1", None),
            run("app", REPOSITORY, "dev", None),
            run("releases", "prod/scratch-1", TAG, not_selected),
        ])
    );

    // What was changed by hand at a synced target is brought back, and told; by a rule's name, for a person.
    let delete = stack.ecr_client("eu-west-1").delete_lifecycle_policy().repository_name("mirror/prod/app");
    delete.send().await.unwrap();
    let immutable = client.put_image_tag_mutability().repository_name(REPOSITORY);
    immutable.image_tag_mutability(aws_sdk_ecr::types::ImageTagMutability::Immutable).send().await.unwrap();
    let image = json!({"repository": REPOSITORY, "tag": TAG});
    let execution = scene.start(json!({"rule": "releases", "image": image})).await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    let report = report(&execution);
    let synced = target(&report, "eu-west-1");
    let settings: Vec<_> = synced.settings.iter().map(|it| (it.setting.as_str(), it.refused.is_none())).collect();
    assert_eq!(settings, [("tagMutability", true), ("lifecyclePolicy", true)]);
    assert_eq!(
        (synced.settings[0].before.as_deref(), synced.settings[0].after.as_deref()),
        (Some("MUTABLE"), Some("IMMUTABLE"))
    );
    assert_eq!(synced.status, Status::Unchanged);
    assert_eq!(target(&report, "us-east-1").settings, [], "a repository that is not synced is left alone");
    let settings = eye.settings(OWN_ACCOUNT, "eu-west-1", "mirror/prod/app");
    assert_eq!(
        (settings.image_tag_mutability.as_str(), settings.lifecycle_policy.as_deref()),
        ("IMMUTABLE", Some(LIFECYCLE_POLICY))
    );
    assert_eq!(eye.settings(OTHER_ACCOUNT, "us-east-1", REPOSITORY).image_tag_mutability, "MUTABLE");

    // A role that does not let us in is told by its name, with the region and what it would have been for.
    let targets = json!([{"region": "us-east-2", "registryId": OTHER_ACCOUNT, "roleArn": ROLE, "externalId": "wrong"}]);
    let execution = scene.start(json!({"image": image, "targets": targets})).await;
    assert_eq!(execution.error.as_deref(), Some("ReplicationIncomplete"));
    let cause = execution.cause.unwrap();
    for part in ["us-east-2", OTHER_ACCOUNT, "AccessDenied", ROLE, "sts:AssumeRole", "DescribeRepositories"] {
        assert!(cause.contains(part), "{part} is not in {cause}");
    }
    assert!(!cause.contains("wrong"), "an external ID is nobody else's business: {cause}");
}
