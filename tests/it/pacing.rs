//! The pace of PutImage: PutManifest by a clock that goes on only while every call is answered, against the local ECR.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::HttpRequest,
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use ecr_local::Fault;
use futures::future::join_all;
use proptest::prelude::*;
use put_manifest::{Error, handle};
use serde_json::{Value, json};
use shared::{
    contract::{Put, Round, Status, Target},
    error::{ErrorName, Named as _},
    registry::Registries,
    serve::{Deadline, decode},
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::spawn_blocking,
    time::Instant,
};

use crate::{
    schedule::{addressed, forward, read_response},
    world::{REPOSITORY, SOURCE, TARGET, World, index, manifest, sdk_config},
};

const OTHER_TARGET: &str = "us-east-1";

const CONFIG: &[u8] = b"config";
const SIGNATURE: &[u8] = b"signature";

/// How many puts the image takes that has so many platforms: those, the index, its referrer, and the tag.
fn puts_of(platforms: usize) -> usize {
    platforms + 3
}

/// Where PutImage was called, and when.
#[derive(Debug, Clone)]
struct Call {
    region: String,
    repository: String,
    at: Duration,
}

/// The HTTP client of the functions: it notes PutImage calls, and passes all on to the local ECR.
#[derive(Debug, Clone)]
struct Recorder {
    client: reqwest::Client,
    /// Where the local ECR runs.
    real_time: Handle,
    begun: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl HttpClient for Recorder {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Recorder {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (operation, region) = addressed(&request).unwrap();
        if operation == "PutImage" {
            let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            let repository = body["repositoryName"].as_str().unwrap().to_owned();
            self.calls.lock().unwrap().push(Call { region, repository, at: self.begun.elapsed() });
        }
        let (forwarded, real_time) = (forward(&self.client, &request), self.real_time.clone());
        // Paused time does not go on while a blocking task runs: an answer takes none.
        let answer = spawn_blocking(move || real_time.block_on(async { read_response(forwarded.send().await?).await }));
        HttpConnectorFuture::new(async move { answer.await.unwrap().map_err(ConnectorError::io) })
    }
}

/// A local ECR with an image at the source, tagged `v1`.
struct Scene {
    real_time: Runtime,
    world: World,
}

impl Scene {
    /// One whose image is an index of so many platforms, and has a signature.
    fn set(platforms: usize) -> Self {
        let real_time = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let world = real_time.block_on(async {
            let world = World::start().await;
            let platforms: Vec<Value> = (0..platforms)
                .map(|number| {
                    let mut platform = manifest(&[CONFIG]);
                    platform["annotations"] = json!({"platform": number.to_string()});
                    platform
                })
                .collect();
            world.push_blob(SOURCE, CONFIG).await;
            for platform in &platforms {
                world.put(SOURCE, platform, None).await;
            }
            let image = world.put(SOURCE, &index(&platforms.iter().collect::<Vec<_>>()), Some("v1")).await;
            world.refer(&image, "signature", None).await;
            world
        });
        Self { real_time, world }
    }

    /// What ResolveImage makes of a person's request; the targets have the image's blobs.
    fn resolve(&self, targets: &Value, puts_per_second: f64) -> Round {
        let image = json!({"repository": REPOSITORY, "tag": "v1"});
        let input = json!({"image": image, "targets": targets, "putsPerSecond": puts_per_second});
        let input = decode(json!({"execution": "test", "input": input})).unwrap();
        self.real_time.block_on(async {
            let round = resolve_image::handle(&self.world.registries().await, input).await.unwrap().round.unwrap();
            for Target { region, repository, .. } in &round.targets {
                let (region, repository) = (region.as_str(), repository.as_str());
                let create = self.world.client(region).await.create_repository().repository_name(repository);
                create.send().await.unwrap();
                for blob in [CONFIG, b"{}", SIGNATURE] {
                    self.world.push_blob_to(region, repository, blob).await;
                }
            }
            round
        })
    }

    /// Runs functions whose time is their own, and what they called meanwhile.
    fn run<T>(&self, functions: impl AsyncFnOnce(&Registries) -> T) -> (T, Vec<Call>) {
        let calls = Arc::default();
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let ended = runtime.block_on(async {
            let recorder = Recorder {
                client: reqwest::Client::new(),
                real_time: self.real_time.handle().clone(),
                begun: Instant::now(),
                calls: Arc::clone(&calls),
            };
            let config = sdk_config(&self.world.ecr.endpoint(), SOURCE).await.into_builder().http_client(recorder);
            functions(&Registries::new(config.build()).unwrap()).await
        });
        let calls = calls.lock().unwrap().clone();
        (ended, calls)
    }
}

/// PutManifest with so much time.
async fn put(registries: &Registries, round: &Round, target: &Target, time: Duration) -> Result<Put, Error> {
    let end = Instant::now() + time;
    let deadline = Deadline::told_by(move || end.saturating_duration_since(Instant::now()));
    let input =
        json!({"execution": "test", "image": round.image, "referrers": round.referrers, "target": json!(target)});
    handle(registries, decode(input).unwrap(), deadline).await
}

/// More than any of these images takes.
const TIME_ENOUGH: Duration = Duration::from_hours(1);

/// The times of the calls in each repository of each region.
fn by_target(calls: &[Call]) -> BTreeMap<(&str, &str), Vec<Duration>> {
    let mut times: BTreeMap<_, Vec<Duration>> = BTreeMap::new();
    for Call { region, repository, at } in calls {
        times.entry((region.as_str(), repository.as_str())).or_default().push(*at);
    }
    times
}

/// The first call in a region that comes sooner than so many a second allow since the beginning: which one, and when.
fn too_soon(calls: &[Call], region: &str, puts_per_second: u32) -> Option<(u32, Duration)> {
    let mut times: Vec<Duration> = calls.iter().filter(|call| call.region == region).map(|call| call.at).collect();
    times.sort_unstable();
    (1..).zip(times).find(|(number, at)| *at * puts_per_second < Duration::from_secs(u64::from(*number)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    /// Executions with a share each of ECR's ten a second, whose targets are all worked on at once.
    #[test]
    fn executions_with_shares_keep_to_ten_puts_a_second_together(
        executions in 1_u32..=4,
        near in 1_u32..=3,
        far in 0_u32..=2,
        platforms in 1_usize..=6,
    ) {
        let scene = Scene::set(platforms);
        let share = 10.0 / f64::from(executions);
        let rounds: Vec<Round> = (0..executions)
            .map(|execution| {
                let target = |region, number| json!({"region": region, "repository": format!("{execution}/{number}")});
                let near = (0..near).map(|number| target(TARGET, number));
                let far = (0..far).map(|number| target(OTHER_TARGET, number));
                scene.resolve(&near.chain(far).collect(), share)
            })
            .collect();
        let (puts, calls) = scene.run(async |registries| {
            let puts = rounds.iter().flat_map(|round| round.targets.iter().map(move |target| (round, target)));
            join_all(puts.map(|(round, target)| put(registries, round, target, TIME_ENOUGH))).await
        });
        for put in puts {
            prop_assert_eq!(put.unwrap().status, Status::Replicated);
        }

        let targets = by_target(&calls);
        prop_assert_eq!(targets.len(), usize::try_from(executions * (near + far)).unwrap());
        for ((region, repository), times) in targets {
            let sharing = if region == TARGET { near } else { far };
            let interval = Duration::from_millis(u64::from(sharing * executions * 100));
            // The very first one waits as well.
            let wanted: Vec<Duration> =
                (1..).map(|turn| interval * turn).take(puts_of(platforms)).collect();
            prop_assert_eq!(times, wanted, "{} in {}", repository, region);
        }
        for region in [TARGET, OTHER_TARGET] {
            prop_assert_eq!(too_soon(&calls, region, 10), None, "in {}", region);
        }
    }
}

#[test]
fn without_a_pace_nothing_waits() {
    let scene = Scene::set(6);
    let mut round = scene.resolve(&json!([{"region": TARGET}]), 10.0);
    round.targets[0].put_interval_ms = None;
    let (put, calls) =
        scene.run(async |registries| put(registries, &round, &round.targets[0], TIME_ENOUGH).await.unwrap());
    assert_eq!(put.status, Status::Replicated);
    assert_eq!(calls.iter().map(|call| call.at).collect::<Vec<_>>(), vec![Duration::ZERO; puts_of(6)]);
}

#[test]
fn what_is_tried_again_has_its_turn_like_any_other() {
    let throttled = Fault::new("PutImage", 400, "ThrottlingException");
    let failed = Fault::new("PutImage", 500, "ServerException");
    for (fault, invocations) in [(throttled, 1), (failed, 4)] {
        let scene = Scene::set(5);
        let round = scene.resolve(&json!([{"region": TARGET}]), 0.2);
        // More in a row than the SDK would try by itself.
        scene.world.ecr.fault(fault.clone().in_region(TARGET).skip(1).times(3));
        let (ended, calls) = scene.run(async |registries| {
            let mut ended = Vec::new();
            while !matches!(ended.last(), Some(Ok(_))) {
                ended.push(put(registries, &round, &round.targets[0], TIME_ENOUGH).await);
            }
            ended
        });
        assert_eq!(ended.len(), invocations, "{fault:?}: {ended:?}");
        for error in ended.iter().filter_map(|ended| ended.as_ref().err()) {
            assert_eq!(error.name(), ErrorName::RegistryUnavailable);
        }
        assert_eq!(calls.len(), puts_of(5) + 3, "{fault:?}: {calls:?}");
        for calls in calls.windows(2) {
            assert!(calls[1].at >= calls[0].at + Duration::from_secs(5), "{fault:?}: {calls:?}");
        }
    }
}

#[test]
fn an_invocation_without_time_for_a_turn_ends_at_once_and_the_next_goes_on() {
    let scene = Scene::set(5);
    let round = scene.resolve(&json!([{"region": TARGET}]), 0.5);
    let (ended, calls) = scene.run(async |registries| {
        let mut ended = Vec::new();
        while !matches!(ended.last(), Some((Ok(_), _))) {
            let began = Instant::now();
            // Two seconds are kept, so a third turn would not fit.
            let put = put(registries, &round, &round.targets[0], Duration::from_millis(7900)).await;
            ended.push((put, began.elapsed()));
        }
        ended
    });
    let (last, early) = ended.split_last().unwrap();
    assert_eq!(early.len(), 3, "{ended:?}");
    for (put, took) in early {
        let error = put.as_ref().unwrap_err();
        assert_eq!(error.name(), ErrorName::RegistryThrottled, "{error:?}");
        assert_eq!(*took, Duration::from_secs(4), "it does not wait for what it cannot do");
    }
    let put = last.0.as_ref().unwrap();
    assert_eq!((put.status, put.manifests_skipped, put.referrers_skipped), (Status::Replicated, 6, 0));
    assert_eq!(calls.len(), puts_of(5), "nothing is put twice");
    let times: Vec<Duration> = calls.iter().map(|call| call.at).collect();
    assert_eq!(times, (1..=8).map(|turn| Duration::from_secs(2 * turn)).collect::<Vec<_>>());
}
