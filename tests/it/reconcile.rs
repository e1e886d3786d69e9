//! FindDifferences and ReportDifferences against a local ECR, a local S3, and a stand-in for Step Functions and EventBridge.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_sdk_ecr::{Client, primitives::Blob, types::ImageIdentifier};
use axum::{Json, Router, extract::State as Extracted, http::HeaderMap, routing::post};
use ecr_local::{Asked, Config, EcrLocal, Fault, Meanwhile, Role};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use s3_local::S3Local;
use serde_json::{Value, json};
use shared::{
    config,
    error::{Named as _, diagnostic},
    names::Digest,
    reconcile::{Difference, Found, Item, Kind, Report, Reported, State},
    registry::Registries,
    serve::{Deadline, decode},
    service::{Bucket, NAMESPACE, Version},
};

use crate::{
    execution::of_later_release,
    iam,
    metrics::sums,
    permissions,
    world::{LIFECYCLE_POLICY, OCI_MANIFEST, SOURCE, index, manifest, sdk_config, sdk_config_with},
};

const BUCKET: &str = "ecr-replicator-123456789012-eu-central-1";
const EXECUTION: &str = "arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-reconcile-registry:run-1";
const REPLICATION: &str = "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image";

/// The executions of replicate-image, the Map Runs of a run and their children, each without its name.
const REPLICATIONS: &str = "arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-replicate-image";
const MAP_RUNS: &str =
    "arn:aws:states:eu-central-1:123456789012:mapRun:ecr-replicator-reconcile-registry/ReplicateImages";
const CHILDREN: &str =
    "arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-reconcile-registry/ReplicateImages";

pub(crate) const NEAR: &str = "eu-west-1";
pub(crate) const FAR: &str = "us-east-1";
pub(crate) const THIRD: &str = "ap-south-1";

/// What Step Functions and EventBridge answer, and what they were told.
#[derive(Default)]
struct Services {
    /// Executions that are running, by ARN, with the second at which they began.
    running: Vec<(String, f64)>,
    /// The outputs of executions of replicate-image that succeeded.
    outputs: Vec<Value>,
    /// The children of the last Map Run that failed: input, error and cause.
    failed: Vec<(Value, String, String)>,
    redrives: u32,
    events: Vec<Value>,
    /// What IAM would have been asked.
    asked: BTreeSet<Asked>,
}

type Shared = Arc<Mutex<Services>>;

async fn serve(services: Shared) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/", post(answer)).with_state(services);
    tokio::spawn(async move { axum::serve(listener, router).await });
    endpoint
}

async fn answer(Extracted(services): Extracted<Shared>, headers: HeaderMap, body: String) -> Json<Value> {
    let body: Value = serde_json::from_str(&body).unwrap();
    let mut services = services.lock().unwrap();
    let redrives = services.redrives;
    let operation = headers["x-amz-target"].to_str().unwrap();
    services.asked.extend(iam::asked_of_service(iam::ACCOUNT, operation, &body));
    let execution = |arn: &str, status: &str, started: f64| {
        let name = arn.rsplit(':').next().unwrap();
        let redrives = if arn == EXECUTION { redrives } else { 0 };
        json!({
            "executionArn": arn, "name": name, "status": status, "startDate": started, "stateMachineArn": "machine",
            "redriveCount": redrives,
        })
    };
    Json(match operation {
        "AWSStepFunctions.ListExecutions" if body["statusFilter"] == "RUNNING" => {
            assert_eq!(
                body["stateMachineArn"],
                EXECUTION.replace(":execution:", ":stateMachine:").replace(":run-1", "")
            );
            let running = services.running.iter().map(|(arn, started)| execution(arn, "RUNNING", *started));
            json!({"executions": running.collect::<Vec<_>>()})
        }
        "AWSStepFunctions.ListExecutions" if body["statusFilter"] == "SUCCEEDED" => {
            assert_eq!(body["stateMachineArn"], REPLICATION);
            let most = usize::try_from(body["maxResults"].as_u64().unwrap()).unwrap();
            let ended = (0..services.outputs.len().min(most))
                .map(|it| execution(&format!("{REPLICATIONS}:{it}"), "SUCCEEDED", 1.0));
            json!({"executions": ended.collect::<Vec<_>>()})
        }
        "AWSStepFunctions.ListExecutions" => {
            assert_eq!(
                (&body["mapRunArn"], &body["statusFilter"]),
                (&json!(format!("{MAP_RUNS}:new")), &json!("FAILED"))
            );
            let failed = (0..services.failed.len()).map(|it| execution(&format!("{CHILDREN}:{it}"), "FAILED", 1.0));
            json!({"executions": failed.collect::<Vec<_>>()})
        }
        "AWSStepFunctions.ListMapRuns" => {
            assert_eq!(body["executionArn"], EXECUTION);
            let run = |name: &str, started: f64| json!({"executionArn": EXECUTION, "mapRunArn": format!("{MAP_RUNS}:{name}"), "stateMachineArn": "machine", "startDate": started});
            json!({"mapRuns": [run("new", 4e9), run("old", 1.0)]})
        }
        "AWSStepFunctions.DescribeExecution" => {
            let arn = body["executionArn"].as_str().unwrap();
            let mut described = execution(arn, "FAILED", 1.0);
            match arn.rsplit_once(':').unwrap() {
                (REPLICATIONS, place) => {
                    described["output"] = json!(services.outputs[place.parse::<usize>().unwrap()].to_string());
                }
                (CHILDREN, place) => {
                    let (input, error, cause) = services.failed[place.parse::<usize>().unwrap()].clone();
                    described["input"] = json!(input.to_string());
                    described["error"] = json!(error);
                    described["cause"] = json!(cause);
                }
                _ => {}
            }
            described
        }
        "AWSEvents.PutEvents" => {
            services.events.extend(body["Entries"].as_array().unwrap().iter().cloned());
            json!({"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]})
        }
        other => panic!("unexpected call {other}"),
    })
}

/// A registry with targets, and what the functions work with.
pub(crate) struct Setup {
    pub(crate) ecr: Arc<EcrLocal>,
    s3: S3Local,
    services: Shared,
    find: find_differences::Dependencies,
    report: report_differences::Dependencies,
}

/// A rule, for what `members` do not say: of everything, to one region.
pub(crate) fn rule(members: &Value) -> Value {
    let all = json!({"include": ["*"], "exclude": []});
    let mut rule = json!({"repositories": all, "tags": all, "untagged": false, "targets": [{"region": NEAR}]});
    rule.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    rule
}

pub(crate) fn only(patterns: &[&str]) -> Value {
    json!({"include": patterns, "exclude": []})
}

/// An image manifest over one blob; `name` tells it from another.
pub(crate) fn image(name: &str, blobs: &[&str], subject: Option<&Digest>) -> Value {
    let descriptor = |media_type: &str, content: &str| json!({"mediaType": media_type, "digest": Digest::of(content.as_bytes()).as_str(), "size": content.len()});
    let layers = blobs.iter().map(|blob| descriptor("application/vnd.oci.image.layer.v1.tar", blob));
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "annotations": {"name": name},
        "config": descriptor("application/vnd.oci.image.config.v1+json", "{}"), "layers": layers.collect::<Vec<_>>(),
    });
    if let Some(subject) = subject {
        manifest["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": subject.as_str(), "size": 1});
    }
    manifest
}

pub(crate) fn cosign(digest: &Digest, kind: &str) -> String {
    format!("{}.{kind}", digest.as_str().replace(':', "-"))
}

async fn make(client: &Client, repository: &str) {
    // One that is there answers an error.
    let _ = client.create_repository().repository_name(repository).send().await;
}

async fn blob(client: &Client, repository: &str, content: &str) {
    let upload = client.initiate_layer_upload().repository_name(repository).send().await.unwrap();
    let id = upload.upload_id().unwrap();
    let part = client.upload_layer_part().repository_name(repository).upload_id(id).part_first_byte(0);
    let part = part.part_last_byte(i64::try_from(content.len()).unwrap() - 1).layer_part_blob(Blob::new(content));
    part.send().await.unwrap();
    let digest = Digest::of(content.as_bytes());
    let complete = client.complete_layer_upload().repository_name(repository).upload_id(id);
    // One that is there answers an error.
    let _ = complete.layer_digests(digest.as_str()).send().await;
}

/// Puts a manifest whose blobs are `blobs`, under each tag or under none, in a repository that is made where there is none;
/// its digest.
pub(crate) async fn put(client: &Client, repository: &str, manifest: &Value, blobs: &[&str], tags: &[&str]) -> Digest {
    make(client, repository).await;
    for content in blobs.iter().chain(&["{}"]) {
        blob(client, repository, content).await;
    }
    let content = manifest.to_string();
    let tags: Vec<Option<&str>> = if tags.is_empty() { vec![None] } else { tags.iter().copied().map(Some).collect() };
    for tag in tags {
        let put = client.put_image().repository_name(repository).image_manifest(&content);
        let put = put.image_manifest_media_type(manifest["mediaType"].as_str().unwrap());
        put.set_image_tag(tag.map(str::to_owned)).send().await.unwrap();
    }
    Digest::of(content.as_bytes())
}

async fn bucket(s3: &S3Local) -> Bucket {
    Bucket::new(&sdk_config(&s3.endpoint(), SOURCE).await, BUCKET.to_owned())
}

impl Setup {
    pub(crate) async fn start() -> Self {
        let ecr = Arc::new(EcrLocal::start(Config::default()).await.unwrap());
        let s3 = S3Local::start().await.unwrap();
        let services = Shared::default();
        let config = sdk_config(&serve(Arc::clone(&services)).await, SOURCE).await;
        let registries = Registries::new(sdk_config(&ecr.endpoint(), SOURCE).await).unwrap();
        let bucket = bucket(&s3).await;
        let step_functions = shared::service::StepFunctions::new(&config);
        let find = find_differences::Dependencies::new(
            registries,
            bucket.clone(),
            step_functions.clone(),
            REPLICATION.to_owned(),
        );
        let events = shared::service::Events::new(&config);
        let report = report_differences::Dependencies::new(bucket, step_functions, events, "test".to_owned(), None);
        Self { ecr, s3, services, find, report }
    }

    pub(crate) async fn client(&self, region: &str) -> Client {
        Client::new(&sdk_config(&self.ecr.endpoint(), region).await)
    }

    /// Makes a repository, unless it is there.
    pub(crate) async fn make(&self, region: &str, repository: &str) {
        make(&self.client(region).await, repository).await;
    }

    /// As [`put`].
    async fn put(&self, region: &str, repository: &str, manifest: &Value, blobs: &[&str], tags: &[&str]) -> Digest {
        put(&self.client(region).await, repository, manifest, blobs, tags).await
    }

    /// Puts an image `name` of one layer that is called as it.
    async fn push(&self, region: &str, repository: &str, name: &str, tags: &[&str]) -> Digest {
        self.put(region, repository, &image(name, &[name], None), &[name], tags).await
    }

    /// As [`Setup::push`], to the source and to other regions.
    async fn push_to(&self, regions: &[&str], repository: &str, name: &str, tags: &[&str]) -> Digest {
        for region in regions {
            self.push(region, repository, name, tags).await;
        }
        self.push(SOURCE, repository, name, tags).await
    }

    /// Puts so many images with little ado: `v0` and on, which share their blobs.
    async fn fill(&self, region: &str, repository: &str, count: usize) {
        self.put(region, repository, &image("first", &["layer"], None), &["layer"], &["first"]).await;
        let client = self.client(region).await;
        let puts = (0..count - 1).map(|number| {
            let put = client.put_image().repository_name(repository).image_tag(format!("v{number}"));
            put.image_manifest(image(&format!("{number}"), &["layer"], None).to_string())
                .image_manifest_media_type(OCI_MANIFEST)
        });
        stream::iter(puts).for_each_concurrent(16, async |put| drop(put.send().await.unwrap())).await;
    }

    /// One call of FindDifferences.
    async fn call(
        &self,
        rules: &Value,
        input: &Value,
        pass: (u32, bool),
        deadline: Deadline,
    ) -> Result<Found, find_differences::Error> {
        let input = json!({
            "execution": {"arn": EXECUTION, "name": "run-1", "startedAt": "2026-11-16T01:54:34.250Z"},
            "input": input, "rules": rules, "round": pass.0, "verification": pass.1,
        });
        find_differences::handle(&self.find, decode(input).unwrap(), deadline).await
    }

    /// A pass with all the time that it wants.
    pub(crate) async fn pass(&self, rules: &Value, input: &Value, pass: (u32, bool)) -> Found {
        let found = self.call(rules, input, pass, far()).await.unwrap();
        assert!(found.done, "{found:?}");
        found
    }

    /// The first pass of a run: its state, and what differs.
    pub(crate) async fn find(&self, rules: &Value, input: Value) -> (State, Vec<Item>) {
        let found = self.pass(rules, &input, (1, false)).await;
        let (state, items) = (self.state("runs/run-1/1/"), self.items("runs/run-1/1/"));
        assert_eq!((found.differences.items, state.items), (items.len() as u64, items.len() as u64));
        (state, items)
    }

    fn state(&self, prefix: &str) -> State {
        serde_json::from_slice(&self.s3.object(BUCKET, &format!("{prefix}state.json")).unwrap()).unwrap()
    }

    /// The lines of all objects, as a Map reads them.
    pub(crate) fn items(&self, prefix: &str) -> Vec<Item> {
        let prefix = format!("{prefix}differences/");
        let keys = self.s3.keys(BUCKET).into_iter().filter(|key| key.starts_with(&prefix));
        let objects = keys.map(|key| self.s3.object(BUCKET, &key).unwrap());
        let lines = |object: axum::body::Bytes| {
            let text = String::from_utf8(object.to_vec()).unwrap();
            assert!(text.ends_with('\n') && text.lines().count() <= 1000, "at most 1,000 lines, each ended");
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Item>>()
        };
        objects.flat_map(lines).collect()
    }

    async fn delete(&self, region: &str, repository: &str, digest: &Digest) {
        let id = ImageIdentifier::builder().image_digest(digest.as_str()).build();
        let delete = self.client(region).await.batch_delete_image().repository_name(repository).image_ids(id);
        assert_eq!(delete.send().await.unwrap().failures(), []);
    }

    fn calls(&self, region: &str) -> BTreeMap<String, u64> {
        self.ecr.stats().region(region).calls
    }

    /// What IAM would have been asked since the last time that it was forgotten.
    fn asked(&self) -> BTreeSet<Asked> {
        let of_bucket = self.s3.asked().iter().map(iam::asked_of_bucket).collect::<Vec<_>>();
        let of_services = self.services.lock().unwrap().asked.clone();
        self.ecr.asked().into_iter().chain(of_bucket).chain(of_services).collect()
    }

    fn forget_asked(&self) {
        self.ecr.reset_stats();
        self.s3.forget_asked();
        self.services.lock().unwrap().asked.clear();
    }

    async fn tell(&self, round: u32, redrives: u32) -> Result<Reported, report_differences::Error> {
        let input = json!({
            "execution": {"arn": EXECUTION, "name": "run-1", "startedAt": "2026-11-16T01:54:34.250Z"},
            "round": round, "redrives": redrives,
        });
        report_differences::handle(&self.report, decode(input).unwrap()).await
    }
}

fn far() -> Deadline {
    Deadline::told_by(|| Duration::from_mins(15))
}

/// What differs, as `rule repository:tag@digest region/repository KIND`.
fn told(items: &[Item]) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for item in items {
        let tag = item.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = item.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        for Difference { region, repository, kind, .. } in &item.differences {
            let kind = serde_json::to_value(kind).unwrap();
            let line = format!(
                "{} {}{tag}{digest} {region}/{repository} {}",
                item.rule,
                item.repository,
                kind.as_str().unwrap()
            );
            assert!(told.insert(line.clone()), "told twice: {line}");
        }
    }
    told
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[tokio::test]
async fn every_kind_of_difference_is_told_and_nothing_else() {
    let setup = Setup::start().await;
    // As it is to be, and what no rule selects.
    setup.push_to(&[NEAR], "prod/app", "same", &["v1"]).await;
    setup.push(SOURCE, "prod/app", "unselected", &["dev"]).await;
    setup.push(SOURCE, "scratch/app", "elsewhere", &["v1"]).await;
    setup.push(SOURCE, "prod/app", "untagged", &[]).await;
    setup.push(NEAR, "prod/app", "of nobody", &["v99"]).await;
    // Missing, with a repository and without; and on another digest.
    let missing = setup.push(SOURCE, "prod/app", "missing", &["v2", "v2.0"]).await;
    setup.push(SOURCE, "prod/new", "new", &["v1"]).await;
    let moved = setup.push(SOURCE, "prod/app", "newer", &["v3"]).await;
    let older = setup.push(NEAR, "prod/app", "older", &["v3"]).await;
    // With its digest there, and without its tag.
    setup.push(SOURCE, "prod/app", "retagged", &["v4"]).await;
    setup.push(NEAR, "prod/app", "retagged", &[]).await;
    // What refers to an image: an OCI referrer, cosign's tag, and a referrer of a referrer.
    let signed = setup.push_to(&[NEAR], "prod/app", "signed", &["v5", "stable"]).await;
    let sbom = setup.put(SOURCE, "prod/app", &image("sbom", &["sbom"], Some(&signed)), &["sbom"], &[]).await;
    setup.put(SOURCE, "prod/app", &image("of sbom", &["s"], Some(&sbom)), &["s"], &[]).await;
    let of_old = setup.push_to(&[NEAR], "prod/app", "signed by tag", &["v6"]).await;
    setup.push(SOURCE, "prod/app", "signature", &[&cosign(&of_old, "sig")]).await;
    // All that refers to it is there.
    let whole = setup.push_to(&[NEAR], "prod/app", "whole", &["v7"]).await;
    for region in [SOURCE, NEAR] {
        setup.put(region, "prod/app", &image("its", &["its"], Some(&whole)), &["its"], &[]).await;
        setup.push(region, "prod/app", "its att", &[&cosign(&whole, "att")]).await;
    }
    // Of what is missing, no referrer is told by itself.
    setup.put(SOURCE, "prod/app", &image("m", &["m"], Some(&missing)), &["m"], &[]).await;

    let rules = json!({"releases": rule(&json!({"repositories": only(&["prod/*"]), "tags": {"include": ["v*", "stable"], "exclude": ["*-rc*"]}}))});
    let (state, items) = setup.find(&rules, json!({})).await;
    assert_eq!(
        told(&items),
        set(&[
            "releases prod/app:v2 eu-west-1/prod/app MISSING",
            "releases prod/app:v2.0 eu-west-1/prod/app MISSING",
            "releases prod/new:v1 eu-west-1/prod/new MISSING",
            "releases prod/app:v3 eu-west-1/prod/app OTHER_DIGEST",
            "releases prod/app:v4 eu-west-1/prod/app MISSING",
            // One of its tags tells.
            "releases prod/app:stable eu-west-1/prod/app REFERRERS_MISSING",
            "releases prod/app:v6 eu-west-1/prod/app REFERRERS_MISSING",
        ])
    );
    let difference = |kind: Kind| items.iter().flat_map(|item| &item.differences).find(|it| it.kind == kind).unwrap();
    let other = difference(Kind::OtherDigest);
    assert_eq!((other.expected.as_deref(), other.found.as_deref()), (Some(moved.as_str()), Some(older.as_str())));
    assert_eq!(difference(Kind::ReferrersMissing).expected.as_deref(), Some(sbom.as_str()));
    let [total] = &state.totals[..] else { panic!("{:?}", state.totals) };
    let counts = (total.compared, total.missing, total.other_digest, total.referrers_missing, total.settings);
    assert_eq!(counts, (10, 4, 1, 2, 0));
    assert_eq!((state.repositories, state.problems.len()), (2, 0), "no rule selects scratch/app");
}

#[tokio::test]
async fn where_a_rule_renames_or_shares_a_target_each_is_asked_once() {
    let setup = Setup::start().await;
    for repository in ["prod/app", "prod/web"] {
        setup.push(SOURCE, repository, "one", &["v1"]).await;
        setup.push(SOURCE, repository, "two", &["v2"]).await;
        setup.push(FAR, repository, "one", &["v1"]).await;
    }
    setup.push(NEAR, "mirror/prod/app", "one", &["v1"]).await;
    setup.push(NEAR, "mirror/prod/app", "two", &["v2"]).await;
    let rules = json!({
        "mirror": rule(&json!({"targets": [{"region": NEAR, "repository": {"prefix": "mirror/"}}, {"region": FAR}]})),
        "first": rule(&json!({"tags": only(&["v1"]), "targets": [{"region": FAR}, {"region": THIRD, "repository": {"replacePrefix": {"from": "prod/", "to": "dr/"}}}]})),
    });
    setup.ecr.reset_stats();
    let (state, items) = setup.find(&rules, json!({})).await;
    assert_eq!(
        told(&items),
        set(&[
            "mirror prod/app:v2 us-east-1/prod/app MISSING",
            "mirror prod/web:v1 eu-west-1/mirror/prod/web MISSING",
            "mirror prod/web:v2 eu-west-1/mirror/prod/web MISSING",
            "mirror prod/web:v2 us-east-1/prod/web MISSING",
            "first prod/app:v1 ap-south-1/dr/app MISSING",
            "first prod/web:v1 ap-south-1/dr/web MISSING",
        ])
    );
    let calls = |calls: &[(&str, u64)]| calls.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    assert_eq!(setup.calls(SOURCE), calls(&[("DescribeImages", 2), ("DescribeRepositories", 1)]));
    for region in [NEAR, FAR, THIRD] {
        assert_eq!(setup.calls(region), calls(&[("DescribeImages", 2)]), "{region}: once, whatever the rules");
    }
    assert_eq!(state.totals.len(), 4, "by rule and target: {:?}", state.totals);
    assert_eq!(state.images, 4);
}

#[tokio::test]
async fn a_request_narrows_what_is_compared() {
    let setup = Setup::start().await;
    let (mut digests, mut times) = (Vec::new(), Vec::new());
    for (name, tags) in [("a", &["v1", "v1.0"][..]), ("b", &["v2"]), ("c", &["dev"])] {
        digests.push(setup.push(SOURCE, "prod/app", name, tags).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
        times.push(Timestamp::now());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    setup.push(SOURCE, "test/app", "d", &["v9"]).await;
    setup.push(SOURCE, "test/app", "e", &[]).await;
    let rules = json!({"all": rule(&json!({"untagged": true})), "releases": rule(&json!({"tags": only(&["v*"])}))});
    let untagged = format!("@{}", Digest::of(image("e", &["e"], None).to_string().as_bytes()));
    let all = ["prod/app:v1", "prod/app:v1.0", "prod/app:v2", "prod/app:dev", "test/app:v9"].map(str::to_owned);
    let everything: BTreeSet<String> = all.into_iter().chain([format!("test/app{untagged}")]).collect();
    let releases = ["prod/app:v1", "prod/app:v1.0", "prod/app:v2", "test/app:v9"];
    for (number, (request, wanted)) in [
        (json!({"rules": ["releases"]}), set(&releases)),
        (json!({"rules": ["all"]}), everything),
        (
            json!({"rules": ["all"], "repositories": ["prod/*"]}),
            set(&["prod/app:v1", "prod/app:v1.0", "prod/app:v2", "prod/app:dev"]),
        ),
        (json!({"rules": ["all"], "tags": ["v1*", "dev"]}), set(&["prod/app:v1", "prod/app:v1.0", "prod/app:dev"])),
        (json!({"rules": ["all"], "tags": ["v*"], "repositories": ["test/*", "x"]}), set(&["test/app:v9"])),
        (json!({"rules": ["all"], "pushedSince": times[1], "repositories": ["prod/*"]}), set(&["prod/app:dev"])),
        (json!({"rules": ["all"], "pushedBefore": times[0]}), set(&["prod/app:v1", "prod/app:v1.0"])),
        (json!({"rules": ["all"], "pushedSince": times[0], "pushedBefore": times[1]}), set(&["prod/app:v2"])),
        (json!({"rules": ["all"], "newest": 2, "repositories": ["prod/*"]}), set(&["prod/app:v2", "prod/app:dev"])),
        // Of what the rule takes: an image with two tags is one.
        (json!({"rules": ["releases"], "newest": 2}), set(&releases)),
        (json!({"rules": ["releases"], "newest": 1}), set(&["prod/app:v2", "test/app:v9"])),
        // One without a tag may be a platform of an index, whose place it must not take.
        (json!({"rules": ["all"], "newest": 1, "repositories": ["test/*"]}), set(&["test/app:v9"])),
    ]
    .into_iter()
    .enumerate()
    {
        let round = u32::try_from(number).unwrap() + 1;
        setup.pass(&rules, &request, (round, false)).await;
        let items = setup.items(&format!("runs/run-1/{round}/"));
        let named = |item: &Item| {
            let tag = item.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
            let digest = item.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
            format!("{}{tag}{digest}", item.repository)
        };
        assert_eq!(items.iter().map(named).collect::<BTreeSet<_>>(), wanted, "{request}");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_met_is_refused_with_its_field() {
    let setup = Setup::start().await;
    let rules = json!({"all": rule(&json!({})), "broken": {"repositories": 1}});
    for (request, field) in [
        (json!({"mode": "mend"}), "input.mode"),
        (json!({"modes": "audit"}), "unknown field `modes`"),
        (json!({"rules": ["none"]}), "`none` is none of the rules here: all, broken"),
        (json!({"rules": ["broken"]}), "rules.broken"),
        (json!({"rules": ["all"], "newest": 0}), "input.newest"),
        (json!({"rules": ["all"], "tags": [""]}), "input.tags"),
        (json!({"rules": ["all"], "minimumAgeSeconds": -1}), "input.minimumAgeSeconds"),
        (json!({"rules": ["all"], "minimumAgeSeconds": u64::MAX}), "input.minimumAgeSeconds"),
        (json!({"rules": ["all"], "minimumAgeSeconds": i64::MAX}), "input.minimumAgeSeconds"),
        (json!({"rules": ["all"], "pushedSince": "yesterday"}), "input.pushedSince"),
        (
            json!({"rules": ["all"], "pushedSince": "2026-01-02T00:00:00Z", "pushedBefore": "2026-01-01T00:00:00Z"}),
            "input.pushedBefore",
        ),
        (json!({"rules": ["all"], "bytesPerSecond": 0}), "input.bytesPerSecond"),
        (json!({"rules": ["all"], "pricePerGb": -1}), "input.pricePerGb"),
        (json!("audit"), "input."),
    ] {
        let error = diagnostic(&setup.call(&rules, &request, (1, false), far()).await.unwrap_err());
        assert_eq!(error.error_type, "InvalidInput", "{request}");
        assert!(error.error_message.contains(field), "{request}: {}", error.error_message);
    }
    assert_eq!(setup.s3.keys(BUCKET), [] as [&str; 0], "nothing is begun");
}

#[tokio::test]
async fn lists_of_any_length_are_read_page_by_page() {
    let setup = Setup::start().await;
    for region in [SOURCE, NEAR] {
        setup.fill(region, "prod/app", 1100).await;
    }
    setup.make(FAR, "prod/app").await;
    let rules = json!({"all": rule(&json!({"targets": [{"region": NEAR}, {"region": FAR}]}))});
    setup.ecr.reset_stats();
    let (state, items) = setup.find(&rules, json!({})).await;
    assert_eq!((items.len(), state.parts.len(), state.images), (1100, 2, 1100));
    assert_eq!(told(&items).len(), 1100, "all in one of the targets");
    assert!(items.iter().all(|item| item.differences.len() == 1 && item.differences[0].region.as_str() == FAR));
    for (region, calls) in [(SOURCE, 2), (NEAR, 2), (FAR, 1)] {
        assert_eq!(setup.ecr.stats().calls(region, "DescribeImages"), calls, "{region}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_of_a_target_stops_no_other() {
    let setup = Setup::start().await;
    for repository in ["prod/app", "prod/web"] {
        setup.push(SOURCE, repository, "one", &["v1"]).await;
    }
    let role = json!({"region": THIRD, "registryId": "210987654321", "roleArn": "arn:aws:iam::210987654321:role/none"});
    setup.ecr.fault(Fault::new("DescribeImages", 400, "AccessDeniedException").in_region(FAR).for_ever());
    let rules = json!({
        "all": rule(&json!({"targets": [{"region": FAR}, {"region": FAR, "repository": {"prefix": "x/"}}, {"region": NEAR}, role]})),
        // It compares nothing there.
        "idle": rule(&json!({"tags": only(&["x"]), "targets": [{"region": FAR}]})),
        "renamed": rule(&json!({"targets": [{"region": NEAR, "repository": {"replacePrefix": {"from": "x/", "to": ""}}}]})),
    });
    let (state, items) = setup.find(&rules, json!({})).await;
    assert_eq!(
        told(&items),
        set(&["all prod/app:v1 eu-west-1/prod/app MISSING", "all prod/web:v1 eu-west-1/prod/web MISSING"])
    );
    let problems: Vec<_> = state
        .problems
        .iter()
        .map(|it| (it.rule.as_str(), it.region.as_str(), it.error.as_str(), it.repositories, it.repository.as_str()))
        .collect();
    assert_eq!(
        problems,
        [
            ("renamed", NEAR, "InvalidInput", 2, "prod/app"),
            ("all", FAR, "AccessDenied", 2, "prod/app"),
            ("all", THIRD, "AccessDenied", 2, "prod/app"),
        ]
    );
    assert!(state.problems[2].message.contains("sts:AssumeRole of arn:aws:iam::210987654321:role/none"));
    // An account has no other's registry.
    assert_eq!(state.problems[2].registry_id.as_ref().unwrap().as_str(), "210987654321");
}

#[tokio::test]
async fn a_source_that_cannot_be_read_fails_by_name_and_goes_on_where_it_was() {
    let setup = Setup::start().await;
    for repository in ["prod/a", "prod/b", "prod/c"] {
        setup.push(SOURCE, repository, "one", &["v1"]).await;
    }
    let rules = json!({"all": rule(&json!({}))});
    setup
        .ecr
        .fault(Fault::new("DescribeImages", 500, "ServerException").in_region(SOURCE).in_repository("prod/c").times(3));
    let error = setup.call(&rules, &json!({}), (1, false), far()).await.unwrap_err();
    assert_eq!(error.name().as_str(), "RegistryUnavailable");
    assert!(error.to_string().contains("DescribeImages on prod/c in eu-central-1"), "{error}");
    // While a deployment is taken back, what has to go on is a later release's.
    let kept = serde_json::from_slice(&setup.s3.object(BUCKET, "runs/run-1/1/state.json").unwrap()).unwrap();
    let kept = serde_json::to_vec(&of_later_release(kept)).unwrap();
    bucket(&setup.s3).await.write("runs/run-1/1/state.json", "application/json", kept).await.unwrap();
    setup.ecr.reset_stats();
    let (state, items) = setup.find(&rules, json!({})).await;
    assert_eq!((state.repositories, items.len()), (3, 3));
    let again = setup.calls(SOURCE);
    assert_eq!((again.get("DescribeImages"), again.get("DescribeRepositories")), (Some(&1), None), "{again:?}");
    // What is done is not done again.
    setup.ecr.reset_stats();
    assert_eq!(setup.find(&rules, json!({})).await, (state, items));
    assert_eq!(setup.calls(SOURCE), BTreeMap::new());
}

#[tokio::test]
async fn a_call_that_is_lost_at_any_write_is_done_again_to_the_same_end() {
    let setup = Setup::start().await;
    setup.fill(SOURCE, "prod/large", 1200).await;
    for repository in ["prod/b", "prod/c", "prod/last"] {
        setup.push(SOURCE, repository, "one", &["v1"]).await;
    }
    let rules = json!({"all": rule(&json!({"targets": [{"region": NEAR}, {"region": FAR}]}))});
    let (whole, items) = setup.find(&rules, json!({})).await;
    assert_eq!(items.len(), 1203);
    let mut lost = 0;
    for round in 2.. {
        // A write, and its attempts.
        setup.s3.take_writes(Some(round as usize - 2));
        let result = setup.call(&rules, &json!({}), (round, false), far()).await;
        let is_lost = result.is_err();
        if let Err(error) = result {
            lost += 1;
            assert_eq!(error.name().as_str(), "ReportUndelivered", "{error}");
            // Less is there to be found by then: what was written for it is not there in the end.
            setup.s3.take_writes(None);
            setup.pass(&rules, &json!({}), (round, false)).await;
        }
        let prefix = format!("runs/run-1/{round}/");
        let state = setup.state(&prefix);
        let totals = |state: &State| (state.totals.clone(), state.items, state.images, state.repositories);
        assert_eq!(totals(&state), totals(&whole), "{round}");
        assert_eq!(told(&setup.items(&prefix)), told(&items), "{round}");
        if !is_lost {
            break;
        }
    }
    assert!(lost >= 4, "lost {lost} times");
}

#[tokio::test]
async fn what_a_lost_call_wrote_is_not_there_when_less_differs() {
    let setup = Setup::start().await;
    let digest = setup.push(SOURCE, "prod/app", "one", &["v1"]).await;
    let rules = json!({"all": rule(&json!({}))});
    // The list, the state that begins and the part are written, the next state is not.
    setup.s3.take_writes(Some(3));
    setup.call(&rules, &json!({}), (1, false), far()).await.unwrap_err();
    assert_eq!(setup.items("runs/run-1/1/").len(), 1);
    setup.s3.take_writes(None);
    setup.delete(SOURCE, "prod/app", &digest).await;
    let (state, items) = setup.find(&rules, json!({})).await;
    assert_eq!((state.items, items), (0, vec![]));
}

#[tokio::test]
async fn an_invocation_ends_before_its_deadline_and_the_next_one_goes_on() {
    let setup = Setup::start().await;
    for number in 0..12 {
        setup.push(SOURCE, &format!("prod/app{number:02}"), "one", &["v1"]).await;
    }
    let rules = json!({"all": rule(&json!({}))});
    // Each look at the clock takes a minute.
    let (mut calls, mut found) = (0, None);
    while found.as_ref().is_none_or(|found: &Found| !found.done) {
        let looks = AtomicU64::new(16);
        let clock = move || {
            let left = looks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(1)));
            Duration::from_mins(left.unwrap_or_default())
        };
        let next = setup.call(&rules, &json!({}), (1, false), Deadline::told_by(clock)).await.unwrap();
        calls += 1;
        assert!(!next.replicate && calls < 20, "{next:?}");
        let before = found.map_or(0, |found: Found| found.differences.items);
        assert!(next.differences.items > before || next.done, "each call makes progress");
        found = Some(next);
    }
    assert!(calls > 2, "{calls} calls");
    assert_eq!(told(&setup.items("runs/run-1/1/")).len(), 12);
    assert_eq!(setup.ecr.stats().calls(SOURCE, "DescribeRepositories"), 1);
    // One that has no time at all does not go on for ever.
    let error =
        setup.call(&rules, &json!({}), (2, false), Deadline::told_by(|| Duration::from_secs(5))).await.unwrap_err();
    assert_eq!(error.name().as_str(), "RegistryUnavailable");
}

#[tokio::test]
async fn what_happens_while_it_runs_is_no_error() {
    let setup = Setup::start().await;
    for repository in ["prod/a", "prod/b", "prod/c"] {
        setup.push_to(&[NEAR], repository, "one", &["v1"]).await;
        setup.push(SOURCE, repository, "two", &["v2"]).await;
    }
    let gone = Digest::of(image("two", &["two"], None).to_string().as_bytes());
    // Gone before it is listed; gone between the source's list and the target's.
    setup.ecr.fault(
        Fault::of("DescribeImages").in_region(SOURCE).in_repository("prod/a").meanwhile(Meanwhile::DeleteRepository),
    );
    setup.ecr.fault(
        Fault::of("DescribeImages")
            .in_region(SOURCE)
            .in_repository("prod/b")
            .meanwhile(Meanwhile::DeleteImage(gone.to_string())),
    );
    setup.ecr.fault(
        Fault::of("DescribeImages").in_region(NEAR).in_repository("prod/c").meanwhile(Meanwhile::DeleteRepository),
    );
    let rules = json!({"all": rule(&json!({}))});
    let (state, items) = setup.find(&rules, json!({"mode": "repair"})).await;
    assert_eq!(
        told(&items),
        set(&["all prod/c:v1 eu-west-1/prod/c MISSING", "all prod/c:v2 eu-west-1/prod/c MISSING"])
    );
    assert_eq!((state.repositories, state.problems), (3, vec![]));
    // What is pushed and moved from here on has its own events, and is no difference for the verification.
    setup.push(SOURCE, "prod/b", "three", &["v3"]).await;
    setup.push(SOURCE, "prod/b", "moved", &["v1"]).await;
    setup.push(NEAR, "prod/c", "one", &["v1"]).await;
    let found = setup.pass(&rules, &json!({"mode": "repair"}), (1, true)).await;
    assert!(!found.replicate);
    assert_eq!(found.differences.prefix, "runs/run-1/1/verification/differences/");
    assert_eq!(told(&setup.items("runs/run-1/1/verification/")), set(&["all prod/c:v2 eu-west-1/prod/c MISSING"]));
    assert_eq!(setup.items("runs/run-1/1/").len(), 2, "what was found stays");
}

#[tokio::test]
async fn what_was_pushed_lately_may_be_on_its_way() {
    let setup = Setup::start().await;
    let platform = manifest(&[b"{}", b"platform"]);
    setup.put(SOURCE, "prod/app", &platform, &["platform"], &[]).await;
    setup.push(SOURCE, "prod/app", "old", &["v1"]).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // The index is not old enough, and its platform is none of the images without a tag all the same.
    setup.put(SOURCE, "prod/app", &index(&[&platform]), &[], &["index"]).await;
    setup.push(SOURCE, "prod/app", "new", &["v2"]).await;
    let rules = json!({"all": rule(&json!({"untagged": true}))});
    let (state, items) = setup.find(&rules, json!({"minimumAgeSeconds": 1})).await;
    assert_eq!(told(&items), set(&["all prod/app:v1 eu-west-1/prod/app MISSING"]));
    assert!(state.request.is_of_whole_rules(None), "what is left out now is compared by a later run");
    // What is at a target since the round began, under a tag, may be what the source's tag is on by now.
    setup.push(NEAR, "prod/app", "newest", &["v1"]).await;
    let found = setup.pass(&rules, &json!({}), (1, true)).await;
    assert_eq!(found.differences.items, 0);
    // Those of a later round tell of it, and of all the others.
    setup.pass(&rules, &json!({}), (2, false)).await;
    assert_eq!(
        told_of(&setup, "runs/run-1/2/"),
        set(&[
            "all prod/app:v1 eu-west-1/prod/app OTHER_DIGEST",
            "all prod/app:v2 eu-west-1/prod/app MISSING",
            "all prod/app:index eu-west-1/prod/app MISSING",
        ])
    );
}

#[tokio::test]
async fn a_tag_that_moves_while_the_source_is_listed_is_no_difference() {
    let setup = Setup::start().await;
    setup.push(SOURCE, "prod/app", "old", &["v1"]).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    setup.push(SOURCE, "prod/app", "new", &["v1"]).await;
    let rules = json!({"all": rule(&json!({}))});
    // A page has it where it was, and the next one where it is.
    let twice = json!({"imageDetails": {"imageTags": ["v1"]}});
    setup.ecr.fault(Fault::of("DescribeImages").in_region(SOURCE).body(twice));
    let (_, items) = setup.find(&rules, json!({"minimumAgeSeconds": 1})).await;
    assert_eq!(items, []);
}

#[tokio::test]
async fn an_index_that_cannot_be_read_names_nothing() {
    let setup = Setup::start().await;
    let platform = manifest(&[b"{}", b"platform"]);
    setup.put(SOURCE, "prod/app", &platform, &["platform"], &[]).await;
    for (name, tag) in [("one", "v1"), ("two", "v2")] {
        let mut index = index(&[&platform]);
        index["annotations"] = json!({"name": name});
        setup.put(SOURCE, "prod/app", &index, &[], &[tag]).await;
    }
    setup.push(SOURCE, "prod/web", "lone", &[]).await;
    setup.put(SOURCE, "prod/web", &index(&[]), &[], &["v1"]).await;
    let rules = json!({"all": rule(&json!({"untagged": true}))});
    let read = || Fault::of("BatchGetImage").in_region(SOURCE);
    // Both together, and one of them by itself: the other one names the platform.
    let failures = json!([{"failureCode": "KmsError", "failureReason": "the key is disabled"}]);
    setup.ecr.fault(read().in_repository("prod/app").body(json!({"images": [], "failures": failures})).times(2));
    setup.ecr.fault(read().in_repository("prod/web").meanwhile(Meanwhile::DeleteRepository));
    let (state, items) = setup.find(&rules, json!({})).await;
    let missing = ["all prod/app:v1 eu-west-1/prod/app MISSING", "all prod/app:v2 eu-west-1/prod/app MISSING"];
    assert_eq!(told(&items), set(&missing), "what is in the repository that is gone differs nowhere");
    assert_eq!((state.repositories, state.images, state.problems), (2, 3, vec![]));
    assert_eq!(setup.calls(SOURCE)["BatchGetImage"], 4);
    // What more than one image's error is fails the run by its name.
    setup.ecr.fault(Fault::new("BatchGetImage", 500, "ServerException").in_region(SOURCE).for_ever());
    let error = setup.call(&rules, &json!({}), (2, false), far()).await.unwrap_err();
    assert_eq!(error.name().as_str(), "RegistryUnavailable");
}

#[tokio::test]
async fn an_odd_name_hides_nothing_else() {
    let setup = Setup::start().await;
    setup.push(SOURCE, "prod/app", "one", &["v1"]).await;
    let rules = json!({"all": rule(&json!({}))});
    let list = || Fault::of("DescribeImages").in_region(SOURCE);
    let missing = set(&["all prod/app:v1 eu-west-1/prod/app MISSING"]);
    for (round, (fault, wanted)) in [
        (list().body(json!({"imageDetails": {"subjectManifestDigest": "sha512:none"}})), missing.clone()),
        (list().body(json!({"imageDetails": {"imageTags": ["no tag", "v1"]}})), missing.clone()),
        (list().body(json!({"imageDetails": {"imageDigest": "sha512:none"}})), set(&[])),
        (
            Fault::of("DescribeRepositories")
                .body(json!({"repositories": [{"repositoryName": "None/"}, {"repositoryName": "prod/app"}]})),
            missing,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let round = u32::try_from(round).unwrap() + 1;
        setup.ecr.fault(fault.clone());
        setup.pass(&rules, &json!({}), (round, false)).await;
        assert_eq!(told_of(&setup, &format!("runs/run-1/{round}/")), wanted, "{fault:?}");
    }
}

#[tokio::test]
async fn a_verification_needs_what_it_verifies() {
    let setup = Setup::start().await;
    let error = setup.call(&json!({}), &json!({}), (1, true), far()).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no finished state at runs/run-1/1/state.json");
}

#[tokio::test]
async fn an_image_without_a_tag_is_of_a_rule_that_says_so_unless_an_index_has_it() {
    let setup = Setup::start().await;
    let platform = image("platform", &["p"], None);
    setup.put(SOURCE, "prod/app", &platform, &["p"], &[]).await;
    setup.put(SOURCE, "prod/app", &index(&[&platform]), &[], &["dev"]).await;
    let lone = setup.push(SOURCE, "prod/app", "lone", &[]).await;
    setup.push_to(&[NEAR], "prod/app", "there", &[]).await;
    let rules = json!({
        "untagged": rule(&json!({"untagged": true, "tags": only(&["v*"])})),
        "tagged": rule(&json!({"tags": only(&["v*"])})),
    });
    let (_, items) = setup.find(&rules, json!({})).await;
    assert_eq!(told(&items), set(&[&format!("untagged prod/app@{lone} eu-west-1/prod/app MISSING")]));
    assert_eq!(setup.calls(SOURCE)["BatchGetImage"], 1, "indexes are read once, where one without a tag is missing");
}

#[tokio::test]
async fn what_refers_to_a_platform_goes_where_the_platform_is() {
    let setup = Setup::start().await;
    let platform = image("platform", &["p"], None);
    for region in [SOURCE, NEAR] {
        setup.put(region, "prod/app", &platform, &["p"], &[]).await;
        setup.put(region, "prod/app", &index(&[&platform]), &[], &["v1"]).await;
    }
    setup.make(FAR, "prod/app").await;
    let digest = Digest::of(platform.to_string().as_bytes());
    let sbom = setup.put(SOURCE, "prod/app", &image("sbom", &["s"], Some(&digest)), &["s"], &[]).await;
    let signature = cosign(&digest, "sig");
    setup.push(SOURCE, "prod/app", "signature", &[&signature]).await;
    let rules = json!({"all": rule(&json!({"tags": only(&["v*"]), "targets": [{"region": NEAR}, {"region": FAR}]}))});
    let (_, items) = setup.find(&rules, json!({})).await;
    assert_eq!(
        told(&items),
        set(&[
            &format!("all prod/app@{sbom} eu-west-1/prod/app REFERRERS_MISSING"),
            &format!("all prod/app:{signature} eu-west-1/prod/app REFERRERS_MISSING"),
            // The index brings them.
            "all prod/app:v1 us-east-1/prod/app MISSING",
        ])
    );
    // Of some tags, or some images, only what belongs to those.
    setup.pass(&rules, &json!({"tags": ["v2"]}), (2, false)).await;
    assert_eq!(setup.items("runs/run-1/2/"), []);
    setup.pass(&rules, &json!({"tags": ["v1"]}), (3, false)).await;
    let of_index =
        ["all prod/app:v1 eu-west-1/prod/app REFERRERS_MISSING", "all prod/app:v1 us-east-1/prod/app MISSING"];
    assert_eq!(told_of(&setup, "runs/run-1/3/"), set(&of_index));
}

#[tokio::test]
async fn what_refers_to_a_platform_with_a_tag_of_its_own_goes_with_the_index() {
    let setup = Setup::start().await;
    let platform = manifest(&[b"{}", b"platform"]);
    for region in [SOURCE, NEAR] {
        setup.put(region, "prod/app", &platform, &["platform"], &["v1-amd64"]).await;
        setup.put(region, "prod/app", &index(&[&platform]), &[], &["v1"]).await;
    }
    let digest = Digest::of(platform.to_string().as_bytes());
    setup.put(SOURCE, "prod/app", &image("sbom", &["s"], Some(&digest)), &["s"], &[]).await;
    let rules = json!({
        "index": rule(&json!({"tags": only(&["v1"])})),
        "both": rule(&json!({"tags": only(&["v1*"])})),
    });
    let (_, items) = setup.find(&rules, json!({})).await;
    assert_eq!(
        told(&items),
        set(&[
            "index prod/app:v1 eu-west-1/prod/app REFERRERS_MISSING",
            // Where the platform is compared for itself, it tells of what refers to it.
            "both prod/app:v1-amd64 eu-west-1/prod/app REFERRERS_MISSING",
        ])
    );
}

#[tokio::test]
async fn a_referrer_is_judged_as_its_push_is() {
    let setup = Setup::start().await;
    let refer = async |region: &str, name: &str, subject: &Digest, tags: &[&str]| {
        setup.put(region, "prod/app", &image(name, &[name], Some(subject)), &[name], tags).await
    };
    // It comes with its image, whatever its own tag; which tells of it where that is none of the rule's.
    let app = setup.push_to(&[NEAR], "prod/app", "app", &["v1"]).await;
    refer(SOURCE, "tagged", &app, &["sbom-of-v1"]).await;
    let whole = setup.push_to(&[NEAR], "prod/app", "whole", &["v2"]).await;
    refer(SOURCE, "selected", &whole, &["v2-sbom"]).await;
    // By what it refers to itself, and not by what that refers to in the end.
    let dev = setup.push_to(&[NEAR], "prod/app", "dev", &["dev"]).await;
    refer(SOURCE, "of dev", &dev, &["v3"]).await;
    refer(SOURCE, "of dev, without a tag", &dev, &[]).await;
    let sbom = refer(SOURCE, "sbom", &dev, &[]).await;
    refer(NEAR, "sbom", &dev, &[]).await;
    refer(SOURCE, "of sbom, with a tag", &sbom, &["v4"]).await;
    let of_sbom = refer(SOURCE, "of sbom", &sbom, &[]).await;
    let rules = json!({"releases": rule(&json!({"tags": only(&["v*"])}))});
    let (_, items) = setup.find(&rules, json!({})).await;
    assert_eq!(
        told(&items),
        set(&[
            "releases prod/app:v1 eu-west-1/prod/app REFERRERS_MISSING",
            "releases prod/app:v2-sbom eu-west-1/prod/app MISSING",
            "releases prod/app:v4 eu-west-1/prod/app MISSING",
            &format!("releases prod/app@{of_sbom} eu-west-1/prod/app REFERRERS_MISSING"),
        ])
    );
}

#[tokio::test]
async fn each_image_comes_once_before_its_other_tags_do() {
    let setup = Setup::start().await;
    setup.push(SOURCE, "prod/app", "one", &["latest", "v1", "v1.0"]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    setup.push(SOURCE, "prod/app", "two", &["v2", "v2.0"]).await;
    let rules = json!({"all": rule(&json!({})), "also": rule(&json!({"tags": only(&["v1"])}))});
    let (_, items) = setup.find(&rules, json!({})).await;
    let lines: Vec<_> = items.iter().map(|it| (it.rule.as_str(), it.tag.as_ref().unwrap().as_str())).collect();
    assert_eq!(
        lines,
        [("all", "latest"), ("all", "v2"), ("all", "v1"), ("all", "v1.0"), ("all", "v2.0"), ("also", "v1")]
    );
}

#[tokio::test]
async fn settings_are_told_of_no_platform() {
    let setup = Setup::start().await;
    let platform = manifest(&[b"{}", b"platform"]);
    for repository in ["prod/app", "prod/index"] {
        for region in [SOURCE, NEAR] {
            if repository == "prod/app" {
                setup.push(region, repository, "one", &["v1"]).await;
            }
            // The last that was pushed, and its index is none of the rule's.
            setup.put(region, repository, &platform, &["platform"], &[]).await;
            setup.put(region, repository, &index(&[&platform]), &[], &["dev"]).await;
        }
        let put = setup.client(SOURCE).await.put_lifecycle_policy().repository_name(repository);
        put.lifecycle_policy_text(LIFECYCLE_POLICY).send().await.unwrap();
    }
    let targets = json!([{"region": NEAR, "settings": "sync"}]);
    let rules = json!({"all": rule(&json!({"untagged": true, "tags": only(&["v*"]), "targets": targets}))});
    let (_, items) = setup.find(&rules, json!({})).await;
    assert_eq!(told(&items), set(&["all prod/app:v1 eu-west-1/prod/app SETTINGS"]));
}

#[tokio::test]
async fn settings_are_held_where_they_are_synced() {
    let setup = Setup::start().await;
    for repository in ["prod/app", "prod/web", "prod/empty"] {
        for region in [SOURCE, NEAR, FAR] {
            setup.make(region, repository).await;
        }
    }
    setup.push_to(&[NEAR, FAR], "prod/app", "one", &["v1"]).await;
    setup.push_to(&[NEAR, FAR], "prod/app", "two", &["v2"]).await;
    setup.push_to(&[FAR], "prod/web", "one", &["v1"]).await;
    setup.push_to(&[NEAR, FAR], "prod/web", "two", &["v2"]).await;
    let source = setup.client(SOURCE).await;
    for repository in ["prod/app", "prod/web", "prod/empty"] {
        let put = source.put_lifecycle_policy().repository_name(repository).lifecycle_policy_text(LIFECYCLE_POLICY);
        put.send().await.unwrap();
    }
    let rules = json!({"all": rule(&json!({
        "targets": [{"region": NEAR, "settings": "sync"}, {"region": FAR}],
        "repositorySettings": {"scanOnPush": true},
    }))});
    let (state, items) = setup.find(&rules, json!({})).await;
    assert_eq!(
        told(&items),
        set(&[
            // The newest image tells, or one that differs anyway.
            "all prod/app:v2 eu-west-1/prod/app SETTINGS",
            "all prod/web:v1 eu-west-1/prod/web MISSING",
            "all prod/web:v1 eu-west-1/prod/web SETTINGS",
        ])
    );
    assert_eq!(items[0].differences[0].found.as_deref(), Some("scanOnPush, lifecyclePolicy"));
    assert_eq!(state.totals.iter().map(|total| total.settings).collect::<Vec<_>>(), [2, 0]);
}

#[tokio::test]
async fn a_plan_weighs_each_blob_once_and_only_what_is_not_there() {
    let setup = Setup::start().await;
    let [base, one, two] = ["b".repeat(1000), "1".repeat(200), "2".repeat(30)];
    let first = image("first", &[&base, &one], None);
    let second = image("second", &[&base, &two], None);
    setup.put(SOURCE, "prod/app", &first, &[&base, &one], &["v1", "v1.0"]).await;
    setup.put(SOURCE, "prod/app", &second, &[&base, &two], &["v2"]).await;
    // A referrer, and a platform of an index, go with their image.
    let digest = Digest::of(second.to_string().as_bytes());
    setup.put(SOURCE, "prod/app", &image("sbom", &["sbom!"], Some(&digest)), &["sbom!"], &[]).await;
    let platform = image("platform", &[&base, "platform"], None);
    let digest = setup.put(SOURCE, "prod/app", &platform, &[&base, "platform"], &[]).await;
    setup.put(SOURCE, "prod/app", &index(&[&platform]), &[], &["v3"]).await;
    setup.put(SOURCE, "prod/app", &image("of it", &["of platform!"], Some(&digest)), &["of platform!"], &[]).await;
    // In the far region are the first image without its second tag, and so its blobs.
    setup.put(FAR, "prod/app", &first, &[&base, &one], &["v1"]).await;
    let rules = json!({
        "all": rule(&json!({"targets": [{"region": NEAR}, {"region": FAR}]})),
        "also": rule(&json!({"tags": only(&["v1"])})),
    });
    setup.services.lock().unwrap().outputs = vec![
        json!({"report": {"targets": [{"bytesCopied": 1000, "steps": {"copyLayersMs": 500}}]}}),
        json!({"nothingToDo": {}}),
    ];
    setup.ecr.reset_stats();
    let (state, items) = setup.find(&rules, json!({"mode": "plan", "pricePerGb": 0.02})).await;
    let bytes = |tag: &str, region: &str| {
        let item = items.iter().find(|item| item.rule == "all" && item.tag.as_ref().unwrap().as_str() == tag).unwrap();
        item.differences.iter().find(|it| it.region.as_str() == region).map(|it| it.bytes.unwrap_or_default())
    };
    // The config of all of them has two bytes.
    assert_eq!(
        ["v1", "v1.0", "v2", "v3"].map(|tag| (bytes(tag, NEAR), bytes(tag, FAR))),
        [(Some(1202), None), (Some(0), Some(0)), (Some(35), Some(35)), (Some(20), Some(20))]
    );
    assert!(items.iter().filter(|item| item.rule == "also").all(|item| item.differences[0].bytes.is_none()));
    let weighed: Vec<_> =
        state.transfers.iter().map(|it| (it.region.as_str(), it.bytes, it.seconds, it.observed)).collect();
    assert_eq!(weighed, [(NEAR, 1257, Some(0.6285), true), (FAR, 55, Some(0.0275), true)]);
    assert!((state.transfers[0].cost.unwrap() - 1257e-9 * 0.02).abs() < 1e-15);
    let total: u64 = items.iter().flat_map(|item| &item.differences).filter_map(|it| it.bytes).sum();
    assert_eq!(total, 1257 + 55, "what items say is what it comes to");
    // The indexes, and the manifests of both levels, are read once for both targets; a repository that is not there is asked for nothing.
    assert_eq!(setup.calls(SOURCE)["BatchGetImage"], 3);
    assert_eq!(setup.calls(NEAR).get("BatchCheckLayerAvailability"), None);
    assert_eq!(setup.calls(FAR)["BatchCheckLayerAvailability"], 1);

    // By a given rate; and by none, without a price.
    setup.pass(&rules, &json!({"mode": "plan", "bytesPerSecond": 1257}), (2, false)).await;
    let transfer = &setup.state("runs/run-1/2/").transfers[0];
    assert_eq!((transfer.seconds, transfer.observed, transfer.cost), (Some(1.0), false, None));
    setup.services.lock().unwrap().outputs.clear();
    setup.pass(&rules, &json!({"mode": "plan"}), (3, false)).await;
    assert_eq!(setup.state("runs/run-1/3/").transfers[0].seconds, None);
}

/// What IAM is asked about FindDifferences, and about ReportDifferences, on all their ways. The roles may be assumed, and a target is
/// another account's where it says so.
pub(crate) async fn questions(rules: &Value, targets: &[Value], assumable: &[Role]) -> [BTreeSet<Asked>; 2] {
    let setup = Setup::start().await;
    for role in assumable {
        setup.ecr.add_role(role.clone());
    }
    setup.push(SOURCE, "prod/app", "one", &["v1"]).await;
    for target in targets {
        let account = target["registryId"].as_str().unwrap_or(iam::ACCOUNT);
        let (region, repository) = (target["region"].as_str().unwrap(), target["repository"].as_str().unwrap());
        let config = sdk_config_with(account, &setup.ecr.endpoint(), region, config::ATTEMPT).await;
        let client = Client::new(&config);
        put(&client, repository, &image("two", &["two"], None), &["two"], &["v2"]).await;
        let policy = client.set_repository_policy().repository_name(repository).policy_text(permissions::OPEN);
        policy.send().await.unwrap();
    }
    // What a call that was lost has left.
    let left = format!("{}/{BUCKET}/runs/run-1/1/differences/000099.jsonl", setup.s3.endpoint());
    assert!(reqwest::Client::new().put(left).body("").send().await.unwrap().status().is_success());
    setup.services.lock().unwrap().outputs = vec![json!({})];

    setup.forget_asked();
    let plan = setup.call(rules, &json!({"mode": "plan"}), (1, false), far()).await.unwrap();
    assert!(plan.done && plan.differences.items == 1, "{plan:?}");
    let mut found = setup.asked();

    setup.forget_asked();
    let repair = json!({"mode": "repair"});
    setup.pass(rules, &repair, (2, false)).await;
    setup.pass(rules, &repair, (2, true)).await;
    found.extend(setup.asked());

    let item = serde_json::to_value(&setup.items("runs/run-1/2/")[0]).unwrap();
    setup.services.lock().unwrap().failed = vec![(item, "States.TaskFailed".to_owned(), "{}".to_owned())];
    setup.forget_asked();
    setup.tell(2, 0).await.unwrap_err();
    setup.services.lock().unwrap().redrives = 1;
    assert!(setup.tell(2, 0).await.unwrap().reconcile);
    // Where no pass has come to its end.
    setup.tell(3, 1).await.unwrap_err();
    [found, setup.asked()]
}

#[tokio::test]
async fn the_second_of_two_runs_says_so_and_ends() {
    let setup = Setup::start().await;
    setup.push(SOURCE, "prod/app", "one", &["v1"]).await;
    let rules = json!({"all": rule(&json!({}))});
    let other = |name: &str| EXECUTION.replace("run-1", name);
    // 2026-11-16T01:54:34.250Z, as the execution says that it began.
    let begun = 1_794_794_074.25;
    for (round, name, started, wins) in [
        (1, "run-0", begun - 1.0, true),
        (1, "run-0", begun, true),
        (1, "run-2", begun, false),
        (1, "run-0", begun + 1.0, false),
    ] {
        setup.services.lock().unwrap().running = vec![(EXECUTION.to_owned(), begun), (other(name), started)];
        let found = setup.pass(&rules, &json!({"mode": "repair"}), (round, false)).await;
        let expected = wins.then(|| other(name));
        assert_eq!(found.already_running, expected, "{round} {name} {started}");
        assert_eq!(found.replicate, !wins);
        for key in setup.s3.keys(BUCKET) {
            assert!(!wins || !key.starts_with(&format!("runs/run-1/{round}/")), "nothing is begun: {key}");
        }
        if !wins {
            break_off(&setup, round).await;
        }
    }
}

/// Forgets a round.
async fn break_off(setup: &Setup, round: u32) {
    let bucket = bucket(&setup.s3).await;
    bucket.delete(&bucket.keys(&format!("runs/run-1/{round}/")).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_redrive_beside_another_run_fails_and_may_be_redriven() {
    let setup = Setup::start().await;
    for repository in ["prod/a", "prod/b"] {
        setup.push(SOURCE, repository, "one", &["v1"]).await;
    }
    let rules = json!({"all": rule(&json!({}))});
    let other = EXECUTION.replace("run-1", "run-2");
    let repair = json!({"mode": "repair"});
    let is_beside = |is_beside: bool, redrives: u32| {
        let mut services = setup.services.lock().unwrap();
        services.redrives = redrives;
        // It began later.
        services.running =
            [(EXECUTION.to_owned(), 1e9)].into_iter().chain(is_beside.then(|| (other.clone(), 2e9))).collect();
    };
    let fails = async |round: u32| {
        let error = setup.call(&rules, &repair, (round, false), far()).await.unwrap_err();
        assert_eq!(error.name().as_str(), "RunUnderWay");
        assert_eq!(
            error.to_string(),
            format!("the execution {other} is under way: redrive this one when that has ended")
        );
    };
    // As a round after the first, and as a first one that came to nothing.
    is_beside(true, 0);
    fails(2).await;
    is_beside(true, 1);
    fails(1).await;
    assert_eq!(setup.s3.keys(BUCKET), [] as [&str; 0]);
    // And as one that is called for the first time since, with what it had found before.
    is_beside(false, 0);
    setup.ecr.fault(Fault::new("DescribeImages", 400, "AccessDeniedException").in_repository("prod/b").times(2));
    let refused = setup.call(&rules, &repair, (1, false), far()).await.unwrap_err();
    assert_eq!(refused.name().as_str(), "AccessDenied");
    is_beside(true, 1);
    fails(1).await;
    // Once it is alone it goes on, and is not asked to end by whoever comes then.
    is_beside(false, 2);
    setup.call(&rules, &repair, (1, false), far()).await.unwrap_err();
    is_beside(true, 2);
    assert!(setup.pass(&rules, &repair, (1, false)).await.replicate);
}

#[tokio::test]
async fn two_invocations_of_one_pass_do_not_spoil_each_other() {
    let setup = Setup::start().await;
    setup.fill(SOURCE, "prod/a", 1100).await;
    for number in 0..8 {
        setup.push(SOURCE, &format!("prod/b{number}"), "one", &["v1"]).await;
    }
    let rules = json!({"all": rule(&json!({}))});
    for round in 1..=2 {
        // Both go on from the state that there is, and each has written a part before either writes the next state.
        let call = async || setup.call(&rules, &json!({}), (round, false), far()).await;
        setup.s3.take_writes(Some(2));
        call().await.unwrap_err();
        setup.s3.take_writes(None);
        let (first, second) = tokio::join!(call(), call());
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(!(first.done && second.done), "the state is one's: {first:?} {second:?}");
        assert!(first.done || second.done, "and of one it is: {first:?} {second:?}");
        let found = setup.pass(&rules, &json!({}), (round, false)).await;
        let prefix = format!("runs/run-1/{round}/");
        assert_eq!((found.differences.items, told_of(&setup, &prefix).len()), (1108, 1108), "{round}");
        let parts = setup.s3.keys(BUCKET).into_iter().filter(|key| key.starts_with(&format!("{prefix}differences/")));
        assert_eq!(parts.collect::<Vec<_>>(), setup.state(&prefix).parts, "{round}");
    }
}

#[tokio::test]
async fn a_write_replaces_the_version_that_was_read_and_no_other() {
    let s3 = S3Local::start().await.unwrap();
    let bucket = bucket(&s3).await;
    let replace = async |content: &str, version: &Version| {
        bucket.replace("state", "text/plain", content.into(), version).await.unwrap()
    };
    let none = Version::default();
    let first = replace("first", &none).await.unwrap();
    assert_eq!(replace("another's first", &none).await, None);
    let second = replace("second", &first).await.unwrap();
    assert_eq!(replace("another's second", &first).await, None);
    assert_eq!(bucket.read_version("state").await.unwrap(), Some((b"second".to_vec(), second)));
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_not_taken_for_another_s() {
    let setup = Setup::start().await;
    setup.push(SOURCE, "prod/app", "one", &["v1"]).await;
    let rules = json!({"all": rule(&json!({}))});
    for round in 1..=4 {
        // The list, the state, the part, the state that is done.
        setup.s3.lose_answer_after(round as usize - 1);
        let mut calls = 0;
        while !setup.call(&rules, &json!({}), (round, false), far()).await.unwrap().done {
            calls += 1;
        }
        assert_eq!(calls, usize::from(round % 2 == 0), "a state that seems another's is read");
        assert_eq!(setup.items(&format!("runs/run-1/{round}/")).len(), 1, "{round}");
    }
}

#[tokio::test]
async fn repositories_are_listed_once_for_a_round_and_its_verification() {
    let setup = Setup::start().await;
    let client = setup.client(SOURCE).await;
    let names = (0..1100).map(|number| format!("prod/app{number:04}"));
    stream::iter(names).for_each_concurrent(16, async |name| make(&client, &name).await).await;
    setup.push(SOURCE, "prod/last", "one", &["v1"]).await;
    let rules = json!({"all": rule(&json!({"repositories": only(&["prod/app*9", "prod/last"])}))});
    setup.ecr.reset_stats();
    let (state, items) = setup.find(&rules, json!({"mode": "repair"})).await;
    assert_eq!((state.repositories, items.len()), (111, 1));
    assert_eq!(setup.calls(SOURCE)["DescribeRepositories"], 2, "1,000 at a time");
    setup.pass(&rules, &json!({"mode": "repair"}), (1, true)).await;
    assert_eq!(setup.state("runs/run-1/1/verification/").repositories, 111);
    assert_eq!(setup.calls(SOURCE)["DescribeRepositories"], 2);
    // A list that takes longer than an invocation is an error by name.
    let short = || Deadline::told_by(|| Duration::from_millis(20_050));
    let slow = Fault::slow("DescribeRepositories", Duration::from_millis(500)).for_ever();
    setup.ecr.fault(slow);
    let error = setup.call(&rules, &json!({}), (2, false), short()).await.unwrap_err();
    assert_eq!(error.name().as_str(), "RegistryUnavailable");
    assert!(error.to_string().contains("could not be listed within one invocation"), "{error}");
}

/// A report held to its schema, as the event and the object have it.
fn reported(setup: &Setup) -> (Value, Report) {
    let event = setup.services.lock().unwrap().events.pop().unwrap();
    let detail: Value = serde_json::from_str(event["Detail"].as_str().unwrap()).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../../docs/reconcile-report.schema.json")).unwrap();
    let object = setup.s3.object(BUCKET, "runs/run-1/report.json").unwrap();
    let object: Value = serde_json::from_slice(&object).unwrap();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    for document in [&detail, &object] {
        let problems: Vec<String> = validator.iter_errors(document).map(|problem| problem.to_string()).collect();
        assert_eq!(problems, [] as [&str; 0], "{document:#}");
    }
    assert_eq!(detail, object, "the event has all that the object has");
    (event, serde_json::from_value(detail).unwrap())
}

#[tokio::test]
async fn an_audit_is_reported_with_all_that_differs_and_does_not_fail() {
    let setup = Setup::start().await;
    setup.fill(SOURCE, "prod/app", 30).await;
    setup.push_to(&[NEAR], "prod/web", "one", &["v1"]).await;
    setup.ecr.fault(Fault::new("DescribeImages", 400, "AccessDeniedException").in_region(FAR).for_ever());
    let rules = json!({"all": rule(&json!({"targets": [{"region": NEAR}, {"region": FAR}]})), "none": rule(&json!({"repositories": only(&["x"])}))});
    setup.find(&rules, json!({})).await;
    let output = setup.tell(1, 0).await.unwrap();
    let (event, report) = reported(&setup);
    assert_eq!(
        (&event["Source"], &event["DetailType"]),
        (&json!("ecr-replicator"), &json!("ECR Registry Reconcile Incomplete"))
    );
    assert_eq!(event["Resources"], json!([EXECUTION]));
    assert_eq!(output, Reported { reconcile: false, round: None, report: Some(report.clone()) });
    assert!(!report.complete);
    assert_eq!((report.items, report.found, report.differences.len(), report.images), (30, 30, 20, 31));
    assert_eq!(report.all.prefix, "runs/run-1/1/differences/");
    let lines: Vec<&str> = report.summary.lines().collect();
    assert_eq!(lines[0], "31 images in 2 repositories were compared: 30 differ.");
    assert_eq!(lines[1], "all in eu-west-1: 30 missing of 31");
    assert!(
        lines[2].starts_with("all in us-east-1: unknown for 2 repositories, AccessDenied: DescribeImages on prod/"),
        "{}",
        lines[2]
    );

    // The gauge: of what is known, where nothing differs too, and never of a part of a rule.
    let drift = |report: &Report, since: Option<&str>| {
        let lines = report_differences::metrics::lines(report, "test", since.map(|time| time.parse().unwrap()));
        assert!(lines.iter().all(|line| line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == NAMESPACE));
        let sums = sums(&lines).into_iter().map(|((dimensions, name), sum)| {
            assert_eq!(name, "Drift");
            (dimensions, sum)
        });
        sums.collect::<BTreeMap<_, _>>()
    };
    let drifts = |drifts: &[(&str, f64)]| drifts.iter().map(|(place, drift)| ((*place).to_owned(), *drift)).collect();
    let of_pairs = [("test/all/eu-west-1", 30.0), ("test/none/eu-west-1", 0.0)];
    // The deployment's: 30 images, and 2 repositories of which nothing is known.
    let known: BTreeMap<_, _> = drifts(&[("test", 32.0), of_pairs[0], of_pairs[1]]);
    assert_eq!(drift(&report, None), known);
    // A part that is not known hides nothing that is.
    let mut partly = report.clone();
    partly.problems[0].region = NEAR.parse().unwrap();
    assert_eq!(drift(&partly, None), drifts(&[("test", 32.0), of_pairs[0], of_pairs[1], ("test/all/us-east-1", 0.0)]));
    let narrowed = |request: Value| Report { request: serde_json::from_value(request).unwrap(), ..report.clone() };
    // What is of some rules clears no alarm of all.
    assert_eq!(drift(&narrowed(json!({"rules": ["all", "none"]})), None), drifts(&of_pairs));
    let since = json!({"pushedSince": "2026-01-01T00:00:00Z"});
    for request in [json!({"tags": ["v1"]}), json!({"newest": 3}), json!({"repositories": ["prod/*"]}), since.clone()] {
        assert_eq!(drift(&narrowed(request), None), BTreeMap::new());
    }
    // Where older images are of no concern, a run that leaves them out is a whole one, and one that does not is not.
    assert_eq!(drift(&narrowed(since), Some("2026-01-01T01:00:00+01:00")), known);
    assert_eq!(drift(&report, Some("2026-01-01T00:00:00Z")), BTreeMap::new());
}

#[tokio::test]
async fn a_repair_that_leaves_something_fails_and_a_redrive_goes_on_with_that() {
    let setup = Setup::start().await;
    for (name, tag) in [("one", "v1"), ("two", "v2")] {
        setup.push(SOURCE, "prod/app", name, &[tag]).await;
    }
    let rules = json!({"all": rule(&json!({}))});
    let repair = json!({"mode": "repair"});
    let found = setup.pass(&rules, &repair, (1, false)).await;
    assert!(found.replicate);
    // One arrives, the other's replication fails.
    setup.push(NEAR, "prod/app", "one", &["v1"]).await;
    let item = serde_json::to_value(&setup.items("runs/run-1/1/")[1]).unwrap();
    let cause = json!({
        "ExecutionArn": "replication", "Status": "FAILED", "Error": "ReplicationIncomplete", "Cause": "eu-west-1: CopyLayers failed",
    });
    setup.services.lock().unwrap().failed = vec![(item, "States.TaskFailed".to_owned(), cause.to_string())];
    let unverified = setup.tell(1, 0).await.unwrap_err();
    assert_eq!(unverified.to_string(), "there is no finished state at runs/run-1/1/verification/state.json");
    setup.pass(&rules, &repair, (1, true)).await;
    let error = setup.tell(1, 0).await.unwrap_err();
    let (event, report) = reported(&setup);
    assert_eq!(event["DetailType"], "ECR Registry Reconcile Incomplete");
    assert_eq!((report.found, report.items, report.repeated), (2, 1, false));
    let [failure] = &report.failures[..] else { panic!("{:?}", report.failures) };
    let told = (failure.execution.as_str(), failure.error.as_str(), failure.tag.as_ref().unwrap().as_str());
    assert_eq!(told, ("replication", "ReplicationIncomplete", "v2"));
    let error = diagnostic(&error);
    assert_eq!(error.error_type, "ReconcileIncomplete");
    let lines: Vec<&str> = error.error_message.lines().collect();
    assert_eq!(
        lines[0],
        "2 images in 1 repositories were compared: 2 differed, 1 differ still. Mend the cause and redrive this execution: it goes on with those alone."
    );
    assert_eq!(lines[1], "all in eu-west-1: 1 missing of 2");
    assert_eq!(lines[2], "prod/app:v2: ReplicationIncomplete: eu-west-1: CopyLayers failed");

    // Redriven, it tells that again, because nothing says that it was delivered, and hands back.
    setup.services.lock().unwrap().redrives = 1;
    assert_eq!(setup.tell(1, 0).await.unwrap(), Reported { reconcile: true, round: Some(2), report: None });
    let (_, again) = reported(&setup);
    let times = Report { finished_at: again.finished_at, duration_ms: again.duration_ms, ..report };
    assert_eq!(again, Report { repeated: true, ..times });
    // The next round finds what is left.
    setup.pass(&rules, &repair, (2, false)).await;
    assert_eq!(told_of(&setup, "runs/run-1/2/"), set(&["all prod/app:v2 eu-west-1/prod/app MISSING"]));
    setup.push(NEAR, "prod/app", "two", &["v2"]).await;
    setup.pass(&rules, &repair, (2, true)).await;
    let output = setup.tell(2, 1).await.unwrap();
    let (event, report) = reported(&setup);
    assert_eq!(event["DetailType"], "ECR Registry Reconcile Complete");
    assert!(report.complete && output.report.is_some());
    assert_eq!(
        report.summary,
        "2 images in 1 repositories were compared: 1 differed and were replicated, nothing differs any more."
    );
}

fn told_of(setup: &Setup, prefix: &str) -> BTreeSet<String> {
    told(&setup.items(prefix))
}

#[tokio::test]
async fn a_repair_of_nothing_needs_no_verification() {
    let setup = Setup::start().await;
    setup.push_to(&[NEAR], "prod/app", "one", &["v1"]).await;
    let rules = json!({"all": rule(&json!({}))});
    let found = setup.pass(&rules, &json!({"mode": "repair"}), (1, false)).await;
    assert!(!found.replicate);
    let output = setup.tell(1, 0).await.unwrap();
    assert_eq!(output.report.unwrap().summary, "1 images in 1 repositories were compared: nothing differs.");
}
