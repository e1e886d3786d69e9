//! ResolveImage against the local ECR.

use std::time::Duration;

use ecr_local::Fault;
use futures::StreamExt as _;
use jiff::Timestamp;
use resolve_image::{Input, LONGEST_PUT_INTERVAL, Output, Reason, handle};
use serde_json::{Value, json, value::RawValue};
use shared::{
    contract::Target,
    error::{ErrorName, Named as _},
    names::Digest,
    rules::MOST_TARGETS,
    serve::decode,
};

use crate::world::{OCI_INDEX, OCI_MANIFEST, REPOSITORY, SOURCE, TARGET, World, index, manifest};

fn event(digest: &Digest, tag: Option<&str>) -> Value {
    let mut event = json!({
        "version": "0", "id": "13cde686-328b-6117-af20-0e5566167482", "detail-type": "ECR Image Action",
        "source": "aws.ecr", "account": "123456789012", "time": "2026-11-16T01:54:34Z", "region": SOURCE, "resources": [],
        "detail": {
            "result": "SUCCESS", "repository-name": REPOSITORY, "image-digest": digest.as_str(), "action-type": "PUSH",
            "manifest-media-type": OCI_INDEX, "artifact-media-type": "application/vnd.oci.image.config.v1+json",
        },
    });
    if let Some(tag) = tag {
        event["detail"]["image-tag"] = json!(tag);
    }
    json!({"event": event, "targets": [{"region": TARGET}]})
}

/// What the state machine's definition has of rules.
fn rules() -> Value {
    let all = json!({"include": ["*"], "exclude": []});
    let targets = json!([{"region": TARGET}]);
    json!({
        "untagged": {"repositories": all, "tags": all, "untagged": true, "targets": targets},
        "broken": {"repositories": all, "tags": all, "untagged": true, "targets": [{"region": "Mars"}]},
        "releases": {
            "repositories": {"include": ["prod/*"], "exclude": ["prod/scratch-*"]},
            "tags": {"include": ["v*"], "exclude": ["*-rc*"]},
            "untagged": false,
            "targets": [
                {"region": TARGET, "repository": {"prefix": "mirror/"}, "settings": "sync"},
                {"region": TARGET, "repository": {"replacePrefix": {"from": "prod/", "to": "dr/"}}},
                {"region": TARGET, "repository": "fixed/name", "kmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/1"},
                {
                    "region": SOURCE, "registryId": "222222222222",
                    "roleArn": "arn:aws:iam::222222222222:role/target", "externalId": "secret",
                },
                {"region": TARGET, "repository": "fixed/name"},
            ],
            "repositorySettings": {"tagMutability": "IMMUTABLE", "scanOnPush": true},
        },
    })
}

fn input(execution_input: &Value) -> Input {
    decode(json!({"execution": "test", "input": execution_input, "rules": rules()})).unwrap()
}

/// The same event, to another rule's targets.
fn to_rule(mut event: Value, rule: &str) -> Value {
    event.as_object_mut().unwrap().remove("targets");
    event["rule"] = json!(rule);
    event
}

async fn resolve(world: &World, execution_input: &Value) -> Output {
    handle(&world.registries().await, input(execution_input)).await.unwrap()
}

/// The error of an input: of its decoding, or of the handler.
async fn refusal(world: &World, execution_input: &Value) -> (String, String) {
    match decode::<Input>(json!({"execution": "test", "input": execution_input, "rules": rules()})) {
        Err(diagnostic) => (diagnostic.error_type, diagnostic.error_message),
        Ok(input) => {
            let error = handle(&world.registries().await, input).await.unwrap_err();
            (error.name().to_string(), error.to_string())
        }
    }
}

#[tokio::test]
async fn a_push_is_pinned_and_counted() {
    let world = World::start().await;
    let (digest, _) = world.push_index(Some("v1")).await;
    let output = resolve(&world, &event(&digest, Some("v1"))).await;
    assert!(output.replicate);
    assert_eq!(
        serde_json::to_value(output).unwrap(),
        json!({
            "replicate": true,
            "image": {
                "region": SOURCE, "repository": REPOSITORY, "digest": digest.as_str(), "tag": "v1",
                // Two configs of 15 bytes, one shared layer, one layer for each platform.
                "mediaType": OCI_INDEX, "manifests": 3, "referrers": 0, "referrersLeftOut": 0, "blobs": 5, "bytes": 120_030,
                "pushedAt": "2026-11-16T01:54:34Z",
            },
            "referrers": [], "rule": null, "round": 1, "redrives": 0, "targets": [{"region": TARGET, "repository": REPOSITORY}], "repositorySettings": null, "settled": [],
        })
    );
}

/// An event of an untagged push, to a rule that asks for such, `age` after the push.
fn untagged_event(digest: &Digest, age: Duration) -> Value {
    let mut event = to_rule(event(digest, Some("")), "untagged");
    event["event"]["time"] = json!(Timestamp::now() - age);
    event
}

#[tokio::test]
async fn what_is_pushed_without_a_tag_is_left_alone_unless_the_rule_asks_for_it() {
    let world = World::start().await;
    let image = world.push_image(None, &[b"config", b"layer"]).await;
    let (index, _) = world.push_index(None).await;
    for digest in [&image, &index] {
        for tag in [None, Some("")] {
            let output = resolve(&world, &event(digest, tag)).await;
            assert!(!output.replicate);
            assert_eq!(output.nothing_to_do.unwrap().reason, Reason::Untagged);
        }
        // A person who names it means it.
        let image = json!({"repository": REPOSITORY, "digest": digest.as_str()});
        assert!(resolve(&world, &json!({"image": image, "targets": [{"region": TARGET}]})).await.replicate);
        let output = resolve(&world, &untagged_event(digest, Duration::from_mins(2))).await;
        assert_eq!(output.round.unwrap().image.tag, None);
    }
}

#[tokio::test]
async fn an_untagged_image_is_looked_for_in_an_index_when_that_has_had_time_to_follow() {
    let world = World::start().await;
    let (index, children) = world.push_index(None).await;
    let child = Digest::of(children[1].to_string().as_bytes());
    let output = resolve(&world, &untagged_event(&child, Duration::from_secs(20))).await;
    assert!(!output.replicate);
    assert!(output.await_index && output.nothing_to_do.is_none(), "{output:?}");

    let output = resolve(&world, &untagged_event(&child, Duration::from_mins(2))).await;
    let nothing_to_do = output.nothing_to_do.unwrap();
    assert_eq!(nothing_to_do.reason, Reason::InIndex);
    assert!(nothing_to_do.message.contains(index.as_str()), "{}", nothing_to_do.message);
}

#[tokio::test]
async fn what_belongs_to_an_image_is_found_with_what_belongs_to_that() {
    let world = World::start().await;
    let (digest, children) = world.push_index(Some("v1")).await;
    let child = Digest::of(children[0].to_string().as_bytes());
    let sbom = world.refer(&digest, "sbom", None).await;
    let signed_sbom = world.refer(&sbom, "signature of the sbom", None).await;
    let tag = |digest: &Digest, kind: &str| format!("{}.{kind}", digest.as_str().replace(':', "-"));
    let signature = world.push_image(Some(&tag(&digest, "sig")), &[b"config", b"signature"]).await;
    let attestation = world.push_image(Some(&tag(&child, "att")), &[b"config", b"attestation"]).await;
    let of_attestation = world.push_image(Some(&tag(&attestation, "sig")), &[b"config", b"of the attestation"]).await;
    world.push_image(Some("sha256-00.sig"), &[b"config", b"of something else"]).await;

    let round = resolve(&world, &event(&digest, Some("v1"))).await.round.unwrap();
    let found: Vec<(&Digest, Option<String>)> =
        round.referrers.iter().map(|found| (&found.digest, found.tag.as_ref().map(ToString::to_string))).collect();
    assert_eq!(found.len(), 5, "{found:#?}");
    for wanted in [
        (&sbom, None),
        (&signed_sbom, None),
        (&signature, Some(tag(&digest, "sig"))),
        (&attestation, Some(tag(&child, "att"))),
        (&of_attestation, Some(tag(&attestation, "sig"))),
    ] {
        assert!(found.contains(&wanted), "{wanted:?} is not in {found:#?}");
    }
    let place = |digest| found.iter().position(|(found, _)| *found == digest).unwrap();
    assert!(
        place(&sbom) < place(&signed_sbom) && place(&attestation) < place(&of_attestation),
        "each after its subject"
    );
    assert_eq!((round.image.manifests, round.image.referrers, round.image.referrers_left_out), (3, 5, 0));
    assert_eq!(round.image.blobs, 5 + 2 + 5, "two configs, and a layer of each");
}

#[tokio::test]
async fn what_is_in_the_index_itself_is_not_looked_for_beside_it() {
    let world = World::start().await;
    let image = world.push_image(None, &[b"config", b"layer"]).await;
    let statement = World::referrer(&image, b"statement", "in the index");
    for blob in [&b"{}"[..], b"statement"] {
        world.push_blob(SOURCE, blob).await;
    }
    world.put(SOURCE, &statement, None).await;
    let digest = world.put(SOURCE, &index(&[&manifest(&[b"config", b"layer"]), &statement]), Some("v1")).await;
    let round = resolve(&world, &event(&digest, Some("v1"))).await.round.unwrap();
    assert_eq!((round.image.manifests, round.referrers), (3, Vec::new()));
}

#[tokio::test]
async fn referrers_without_number_are_counted_and_not_carried() {
    let world = World::start().await;
    let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
    for blob in [&b"{}"[..], b"scan"] {
        world.push_blob(SOURCE, blob).await;
    }
    let scans: Vec<Value> = (0..503).map(|number| World::referrer(&digest, b"scan", &number.to_string())).collect();
    futures::stream::iter(&scans)
        .for_each_concurrent(16, |scan| async { drop(world.put(SOURCE, scan, None).await) })
        .await;
    let round = resolve(&world, &event(&digest, Some("v1"))).await.round.unwrap();
    assert_eq!((round.image.referrers, round.image.referrers_left_out), (500, 3));
    assert!(serde_json::to_vec(&round).unwrap().len() < 64 * 1024, "Step Functions carries 256 KiB");
}

#[tokio::test]
async fn referrers_without_end_are_counted_and_not_carried() {
    let world = World::start().await;
    let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
    let mut last = digest.clone();
    for level in 1..=8 {
        last = world.refer(&last, &format!("level {level}"), None).await;
    }
    let image = resolve(&world, &event(&digest, Some("v1"))).await.round.unwrap().image;
    assert_eq!((image.referrers, image.referrers_left_out), (8, 0));
    for name in ["one", "other"] {
        world.refer(&last, name, None).await;
    }
    let image = resolve(&world, &event(&digest, Some("v1"))).await.round.unwrap().image;
    assert_eq!((image.referrers, image.referrers_left_out), (8, 2));
}

#[tokio::test]
async fn schema_1_is_refused_by_name() {
    let world = World::start().await;
    world.push_blob(SOURCE, b"layer").await;
    let schema_1 = json!({
        "schemaVersion": 1, "name": "prod/app", "tag": "v1", "architecture": "amd64",
        "fsLayers": [{"blobSum": Digest::of(b"layer")}], "history": [{"v1Compatibility": "{}"}],
        "mediaType": "application/vnd.docker.distribution.manifest.v1+json",
    });
    let digest = world.put(SOURCE, &schema_1, Some("v1")).await;
    let (error, message) = refusal(&world, &event(&digest, Some("v1"))).await;
    assert_eq!(error, "InvalidInput");
    assert!(message.contains("schema 1") && message.contains("push it again"), "{message}");
}

#[tokio::test]
async fn a_referrer_is_replicated_by_its_own_push() {
    let world = World::start().await;
    let subject = world.push_image(None, &[b"config", b"layer"]).await;
    world.push_blob(SOURCE, b"signature").await;
    let mut signature = manifest(&[b"config", b"signature"]);
    signature["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": subject.as_str(), "size": 1});
    let digest = world.put(SOURCE, &signature, None).await;
    assert!(resolve(&world, &event(&digest, None)).await.replicate, "no index will follow it");
}

#[tokio::test]
async fn an_image_that_is_gone_ends_the_execution_early() {
    let world = World::start().await;
    let output = resolve(&world, &event(&Digest::of(b"nothing"), Some("v1"))).await;
    assert!(!output.replicate);
    assert_eq!(output.nothing_to_do.unwrap().reason, Reason::ImageGone);

    // Whichever call it is that finds the repository gone.
    let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
    let gone = |operation| Fault::new(operation, 400, "RepositoryNotFoundException");
    for fault in [gone("BatchGetImage"), gone("ListImageReferrers"), gone("BatchGetImage").skip(1)] {
        world.ecr.fault(fault);
        let output = resolve(&world, &event(&digest, Some("v1"))).await;
        assert_eq!(output.nothing_to_do.unwrap().reason, Reason::ImageGone);
    }
    world.ecr.fault(gone("DescribeImages"));
    let output = resolve(&world, &untagged_event(&digest, Duration::from_hours(1))).await;
    assert_eq!(output.nothing_to_do.unwrap().reason, Reason::ImageGone);

    world.client(SOURCE).await.delete_repository().repository_name(REPOSITORY).force(true).send().await.unwrap();
    let output = resolve(&world, &event(&Digest::of(b"nothing"), Some("v1"))).await;
    assert_eq!(output.nothing_to_do.unwrap().reason, Reason::ImageGone);
}

#[tokio::test]
async fn an_image_that_may_be_gone_and_is_leaves_nothing_to_do() {
    let world = World::start().await;
    let gone = Digest::of(b"nothing");
    for (tag, digest) in [(Some("v1"), None), (None, Some(gone.as_str()))] {
        let image = json!({"repository": REPOSITORY, "tag": tag, "digest": digest});
        let mut input = json!({"image": image, "targets": [{"region": TARGET}]});
        assert_eq!(refusal(&world, &input).await.0, "ImageNotFound");
        input["mayBeGone"] = json!(true);
        let output = serde_json::to_value(resolve(&world, &input).await).unwrap();
        let told = json!({"repository": REPOSITORY, "reason": "IMAGE_GONE", "message": "the source no longer has it"});
        let mut told = told.as_object().unwrap().clone();
        told.extend(
            [("tag", tag), ("digest", digest)].into_iter().filter_map(|(name, it)| Some((name.to_owned(), json!(it?)))),
        );
        assert_eq!(output["nothingToDo"], json!(told));
    }
    // Who started it is nobody's concern but the report's.
    let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
    let mut input =
        json!({"image": {"repository": REPOSITORY, "tag": "v1"}, "targets": [{"region": TARGET}], "mayBeGone": true});
    input["AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"] =
        json!("arn:aws:states:eu-central-1:123456789012:execution:it:1");
    assert_eq!(resolve(&world, &input).await.round.unwrap().image.digest, digest);
    let mut pushed = event(&digest, Some("v1"));
    pushed["mayBeGone"] = json!(true);
    assert_eq!(refusal(&world, &pushed).await.1, "mayBeGone: is for an `image`, and not for an `event`");
}

#[tokio::test]
async fn a_tag_that_a_person_names_is_resolved_once() {
    let world = World::start().await;
    let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
    let asked = json!({
        "image": {"repository": REPOSITORY, "tag": "v1"},
        "targets": [{"region": TARGET}, {"region": TARGET, "repository": "mirror/app"}, {"region": TARGET}],
    });
    let round = resolve(&world, &asked).await.round.unwrap();
    assert_eq!(round.image.digest, digest);
    assert_eq!(round.image.pushed_at, None);
    let targets: Vec<&str> = round.targets.iter().map(|target| target.repository.as_str()).collect();
    assert_eq!(targets, [REPOSITORY, "mirror/app"], "the same target twice is one target");
}

#[tokio::test]
async fn what_a_person_names_and_is_not_there_is_an_error() {
    let world = World::start().await;
    for (image, name) in [
        (json!({"repository": REPOSITORY, "tag": "v9"}), ErrorName::ImageNotFound),
        (json!({"repository": REPOSITORY, "digest": Digest::of(b"x").as_str()}), ErrorName::ImageNotFound),
        (json!({"repository": "no/such", "tag": "v1"}), ErrorName::ImageNotFound),
        (json!({"repository": "no/such", "digest": Digest::of(b"x").as_str()}), ErrorName::ImageNotFound),
    ] {
        let (error, message) = refusal(&world, &json!({"image": image, "targets": [{"region": TARGET}]})).await;
        assert_eq!(error, name.as_str(), "{message}");
    }
}

#[tokio::test]
async fn bad_input_is_refused_by_field() {
    let world = World::start().await;
    let digest = Digest::of(b"x");
    let edit = |change: fn(&mut Value)| {
        let mut input = event(&digest, Some("v1"));
        change(&mut input);
        input
    };
    let asked = |image: Value, rule: Option<&str>| json!({"image": image, "rule": rule});
    let copied = |image: Value| json!({"image": image, "targets": [{"region": TARGET}]});
    for (input, field) in [
        (json!({}), "input: needs either `event` or `image`"),
        (asked(json!({"repository": REPOSITORY, "tag": "v1"}), None), "input: needs a `rule`, or `targets`"),
        (
            asked(json!({"repository": REPOSITORY, "tag": "v1"}), Some("none")),
            "rule: `none` is none of the rules here: broken, releases, untagged",
        ),
        (
            asked(json!({"repository": "base/image", "tag": "v1"}), Some("releases")),
            "targets[1].repository: base/image does not begin with `prod/`",
        ),
        (
            edit(|input| input["targets"] = json!([{"region": TARGET, "repository": {"prefix": "Mirror/"}}])),
            "targets[0].repository: malformed repository name `Mirror/prod/app`",
        ),
        (
            edit(|input| input["targets"] = json!([{"region": TARGET, "repository": {}}])),
            "input.targets[0].repository: needs either `prefix` or `replacePrefix`",
        ),
        (
            edit(|input| input["targets"] = json!([{"region": TARGET, "registryId": "1"}])),
            "input.targets[0].registryId: malformed registry ID `1`",
        ),
        (
            edit(|input| {
                let role = "arn:aws:iam::222222222222:role/target";
                input["targets"] = json!([{"region": TARGET, "roleArn": role}]);
            }),
            "targets[0].registryId: is not 222222222222",
        ),
        (json!({"targets": [{"region": TARGET}]}), "input: needs either `event` or `image`"),
        (edit(|input| input["rule"] = json!("untagged")), "input: needs either a `rule` or `targets`"),
        (
            asked(json!({"repository": REPOSITORY, "tag": "v1"}), Some("broken")),
            "rules.broken: malformed region `Mars`",
        ),
        (edit(|input| input["image"] = json!({"repository": REPOSITORY, "tag": "v1"})), "input: needs either"),
        (edit(|input| input["tragets"] = json!([])), "input.tragets: unknown field `tragets`"),
        (edit(|input| input["targets"] = json!([])), "targets: is empty"),
        (
            edit(|input| input["targets"] = json!([{"region": "Mars"}])),
            "input.targets[0].region: malformed region `Mars`",
        ),
        (edit(|input| input["targets"] = json!([{"region": SOURCE}])), "targets[0]: is the source itself"),
        (
            edit(|input| input["targets"] = json!([{"region": TARGET, "repository": "A"}])),
            "input.targets[0].repository: malformed repository name `A`",
        ),
        (
            edit(|input| input["event"]["detail"]["image-digest"] = json!("sha256:1")),
            "input.event.detail.image-digest: malformed digest `sha256:1`",
        ),
        (
            edit(|input| input["event"]["detail"]["image-tag"] = json!("a b")),
            "input.event.detail.image-tag: malformed image tag `a b`",
        ),
        (
            edit(|input| input["event"]["detail"]["repository-name"] = json!("")),
            "input.event.detail.repository-name: malformed repository name",
        ),
        (
            edit(|input| input["event"]["detail"]["action-type"] = json!("DELETE")),
            "event.detail.action-type: is `DELETE`",
        ),
        (edit(|input| input["event"]["detail"]["result"] = json!("FAILURE")), "event.detail.result: is `FAILURE`"),
        (edit(|input| input["event"]["detail-type"] = json!("ECR Image Scan")), "event.detail-type: is"),
        (edit(|input| input["event"]["region"] = json!("us-east-1")), "event.region: is us-east-1"),
        (edit(|input| input["event"]["time"] = json!("yesterday")), "input.event.time: "),
        (edit(|input| input["event"]["time"] = json!(Timestamp::now() + Duration::from_mins(6))), "event.time: is 20"),
        (
            edit(|input| {
                let target = |number| json!({"region": TARGET, "repository": format!("mirror/{number}")});
                input["targets"] = (0..=MOST_TARGETS).map(target).collect();
            }),
            "targets: are 61, and at most 60",
        ),
        (copied(json!({"repository": REPOSITORY})), "image: needs a `tag`, a `digest`, or both"),
        (copied(json!({"tag": "v1"})), "input.image: missing field `repository`"),
    ] {
        let (error, message) = refusal(&world, &input).await;
        assert_eq!(error, "InvalidInput", "{message}");
        assert!(message.starts_with(field), "{message} does not begin with {field}");
    }
    assert_eq!(world.calls(SOURCE, "BatchGetImage"), 0, "bad input costs no call");
}

#[tokio::test]
async fn a_pace_is_shared_by_the_targets_of_one_registry() {
    let world = World::start().await;
    world.push_image(Some("v1"), &[b"config", b"layer"]).await;
    let target = |region: &str, registry: Option<&str>, name: &str| json!({"region": region, "registryId": registry, "repository": format!("mirror/{name}"), "settings": "none"});
    let other = Some("222222222222");
    let targets = json!([
        target(TARGET, None, "a"),
        target(TARGET, other, "a"),
        target("us-east-1", None, "a"),
        target(TARGET, None, "b"),
        target(TARGET, other, "b"),
        target(TARGET, other, "c"),
        // The same target twice is one target.
        target(TARGET, None, "b"),
    ]);
    let longest = LONGEST_PUT_INTERVAL.as_millis();
    for (puts_per_second, intervals) in [
        (json!(null), None),
        (json!(10), Some([200, 300, 100, 200, 300, 300])),
        (json!(1), Some([2000, 3000, 1000, 2000, 3000, 3000])),
        (json!(0.025), Some([80_000, longest, 40_000, 80_000, longest, longest])),
        // Never less than asked for.
        (json!(7), Some([286, 429, 143, 286, 429, 429])),
    ] {
        let image = json!({"repository": REPOSITORY, "tag": "v1"});
        let input = json!({"image": image, "targets": targets, "putsPerSecond": puts_per_second});
        let round = resolve(&world, &input).await.round.unwrap();
        let wanted: Vec<Value> = match intervals {
            Some(intervals) => intervals.into_iter().map(|interval| json!(u64::try_from(interval).unwrap())).collect(),
            None => vec![Value::Null; 6],
        };
        let written = serde_json::to_value(&round.targets).unwrap();
        let told: Vec<Value> =
            written.as_array().unwrap().iter().map(|target| target["putIntervalMs"].clone()).collect();
        assert_eq!(told, wanted, "{puts_per_second}");
        assert_eq!(decode::<Vec<Target>>(written).unwrap(), round.targets, "as the state machine hands them on");
    }
}

#[tokio::test]
async fn a_pace_that_is_none_is_refused() {
    let world = World::start().await;
    let image = json!({"image": {"repository": REPOSITORY, "tag": "v1"}, "targets": [{"region": TARGET}]});
    let pushed = event(&Digest::of(b"x"), Some("v1"));
    for (mut input, puts_per_second, problem) in [
        (image.clone(), json!(0), "input.putsPerSecond: is 0: expected a number above 0, and at most 10"),
        (image.clone(), json!(-1.5), "input.putsPerSecond: is -1.5: "),
        (image.clone(), json!(10.001), "input.putsPerSecond: is 10.001: "),
        (image.clone(), json!(u64::MAX), "input.putsPerSecond: is 18446744073709552000: "),
        (image.clone(), json!("5"), "input.putsPerSecond: invalid type: string"),
        (image.clone(), json!([1]), "input.putsPerSecond: invalid type: sequence"),
        (
            image.clone(),
            json!(0.008),
            "putsPerSecond: is 0.008, for 1 of the targets in eu-west-1: PutManifest can wait 120 s",
        ),
        (image, json!(f64::MIN_POSITIVE), "putsPerSecond: is 0.00"),
        (pushed, json!(1), "putsPerSecond: is for an `image`, and not for an `event`"),
    ] {
        input["putsPerSecond"] = puts_per_second;
        let (error, message) = refusal(&world, &input).await;
        assert_eq!(error, "InvalidInput", "{message}");
        assert!(message.starts_with(problem), "{message} does not begin with {problem}");
    }
    // JSON, and more than any number here can be.
    let infinite: Box<RawValue> =
        serde_json::from_str(r#"{"execution": "test", "input": {"putsPerSecond": 1e999}}"#).unwrap();
    let diagnostic = decode::<Input>(&*infinite).unwrap_err();
    assert_eq!(diagnostic.error_type, "InvalidInput");
    assert!(diagnostic.error_message.starts_with("input.putsPerSecond: "), "{}", diagnostic.error_message);
    assert_eq!(world.calls(SOURCE, "BatchGetImage"), 0, "bad input costs no call");
}

#[tokio::test]
async fn a_tag_and_a_digest_that_disagree_are_refused() {
    let world = World::start().await;
    let first = world.push_image(Some("v1"), &[b"config", b"first"]).await;
    let second = world.push_image(Some("v1"), &[b"config", b"second"]).await;
    let asked = |digest: &Digest| {
        let image = json!({"repository": REPOSITORY, "tag": "v1", "digest": digest.as_str()});
        json!({"image": image, "targets": [{"region": TARGET}]})
    };
    let (error, message) = refusal(&world, &asked(&first)).await;
    assert_eq!(error, "InvalidInput");
    assert_eq!(message, format!("image.tag: points at {second}, and not at {first}"));
    assert_eq!(resolve(&world, &asked(&second)).await.round.unwrap().image.digest, second);
}

#[tokio::test]
async fn an_index_whose_platform_cannot_be_read_is_not_taken_for_gone() {
    let world = World::start().await;
    let (digest, _) = world.push_index(Some("v1")).await;
    // An answer without images, to the question for the index's manifests.
    world.ecr.fault(Fault::new("BatchGetImage", 200, "").skip(1));
    let (error, message) = refusal(&world, &event(&digest, Some("v1"))).await;
    assert_eq!(error, "RegistryUnavailable", "{message}");
}

#[tokio::test]
async fn a_rule_s_name_stands_for_its_targets_and_settings() {
    let world = World::start().await;
    let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
    let image = json!({"repository": REPOSITORY, "tag": "v1"});
    for input in [to_rule(event(&digest, Some("v1")), "releases"), json!({"image": image, "rule": "releases"})] {
        let round = resolve(&world, &input).await.round.unwrap();
        assert_eq!(round.rule.as_deref(), Some("releases"));
        assert_eq!(
            serde_json::to_value(&round.targets).unwrap(),
            json!([
                {"region": TARGET, "repository": "mirror/prod/app", "settings": "sync"},
                {"region": TARGET, "repository": "dr/app"},
                {"region": TARGET, "repository": "fixed/name", "kmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/1"},
                {
                    "region": SOURCE, "repository": REPOSITORY, "registryId": "222222222222",
                    "roleArn": "arn:aws:iam::222222222222:role/target", "externalId": "secret",
                },
            ])
        );
        let settings = json!({"tagMutability": "IMMUTABLE", "scanOnPush": true});
        assert_eq!(serde_json::to_value(&round.repository_settings).unwrap(), settings);
    }
}

/// An event pattern cannot hold one field to two matchers: what a rule both includes and excludes is told here.
#[tokio::test]
async fn what_a_rule_does_not_select_ends_the_execution_early() {
    let world = World::start().await;
    let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
    let reason = async |input: Value| resolve(&world, &input).await.nothing_to_do.map(|nothing| nothing.reason);
    for tag in ["v1-rc1", "latest"] {
        let input = to_rule(event(&digest, Some(tag)), "releases");
        assert_eq!(reason(input).await, Some(Reason::NotSelected), "{tag}");
    }
    assert_eq!(reason(to_rule(event(&digest, Some("v1")), "releases")).await, None);
    let mut other = to_rule(event(&digest, Some("v1")), "releases");
    other["event"]["detail"]["repository-name"] = json!("prod/scratch-1");
    assert_eq!(reason(other).await, Some(Reason::NotSelected));
    // A person means what they name.
    let image = json!({"repository": REPOSITORY, "digest": digest.as_str()});
    assert_eq!(reason(json!({"image": image, "rule": "releases"})).await, None);
    // But not that another repository's image is to stand under a fixed name.
    let image = json!({"repository": "prod/scratch-1", "tag": "v1"});
    let (error, message) = refusal(&world, &json!({"image": image, "rule": "releases"})).await;
    assert_eq!(error, "InvalidInput");
    assert_eq!(message, "targets[2].repository: has a fixed name, and the rule does not select prod/scratch-1");
}

#[tokio::test]
async fn a_referrer_goes_where_what_it_refers_to_goes() {
    let world = World::start().await;
    let client = world.client(SOURCE).await;
    for (tag, is_selected) in [(Some("v1"), true), (Some("dev"), false), (None, true)] {
        let layer = format!("layer of {tag:?}");
        let image = world.push_image(tag, &[b"config", layer.as_bytes()]).await;
        let mut signature = manifest(&[b"config", layer.as_bytes()]);
        signature["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": image.as_str(), "size": 1});
        let digest = Digest::of(signature.to_string().as_bytes());
        let cosign = format!("{}.sig", image.as_str().replace(':', "-"));
        for tag in [None, Some(cosign.as_str())] {
            let put = client.put_image().repository_name(REPOSITORY).image_manifest(signature.to_string());
            let put = put.image_manifest_media_type(OCI_MANIFEST).set_image_tag(tag.map(str::to_owned));
            // The second time it gets a tag only.
            put.send().await.unwrap();
            let output = resolve(&world, &to_rule(event(&digest, tag), "releases")).await;
            assert_eq!(output.replicate, is_selected, "{tag:?} of {layer}");
            let reason = output.nothing_to_do.map(|nothing| nothing.reason);
            assert_eq!(reason, (!is_selected).then_some(Reason::NotSelected));
        }
    }
}
