//! What an audit finds, replicated line by line as the Map does, and audited again: nothing is left, whatever was missing.

use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_sdk_ecr::Client;
use fastrand::Rng;
use serde_json::{Value, json};
use shared::{copy::Uploads, names::Digest, reconcile::Item, rules::Filter};

use crate::{
    execution::{Functions, Undisturbed},
    reconcile::{FAR, NEAR, Setup, THIRD, cosign, image, only, put, rule},
    world::{LIFECYCLE_POLICY, SOURCE, index, sdk_config},
};

/// How many registries are drawn.
const SEEDS: u64 = 8;

const ACCOUNT: &str = "123456789012";

const REPOSITORIES: [&str; 3] = ["prod/app", "prod/web", "lib/base"];
const TAGS: [&str; 5] = ["v1", "v2", "v2-rc1", "dev", "latest"];

/// A manifest as it is pushed, and what it needs.
#[derive(Debug, Clone)]
struct Push {
    repository: &'static str,
    manifest: Value,
    blobs: Vec<String>,
    tags: Vec<String>,
    /// What it refers to, by its manifest or by its tag.
    subject: Option<Digest>,
    platforms: Vec<Push>,
}

impl Push {
    fn digest(&self) -> Digest {
        Digest::of(self.manifest.to_string().as_bytes())
    }

    /// Puts it into a repository of a region, under those of its tags that `takes` takes.
    async fn put(&self, client: &Client, repository: &str, mut takes: impl FnMut() -> bool) {
        for Push { manifest, blobs, tags, .. } in self.platforms.iter().chain([self]) {
            let blobs: Vec<&str> = blobs.iter().map(String::as_str).collect();
            let tags: Vec<&str> = tags.iter().map(String::as_str).filter(|_| takes()).collect();
            put(client, repository, manifest, &blobs, &tags).await;
        }
    }
}

/// What is pushed to the source, in this order: a tag that comes twice is moved.
fn pushes(random: &mut Rng) -> Vec<Push> {
    let mut all = Vec::new();
    for number in 0..random.usize(6..14) {
        let repository = *random.choice(&REPOSITORIES).unwrap();
        let lone = |name: String, subject: Option<&Digest>, tags: Vec<String>| {
            let (manifest, blobs) = (image(&name, &[&name, "base"], subject), vec![name.clone(), "base".to_owned()]);
            Push { repository, manifest, blobs, tags, subject: subject.cloned(), platforms: Vec::new() }
        };
        let count = random.usize(0..3);
        let tags = random.choose_multiple(TAGS, count).into_iter();
        let mut tags: Vec<String> = tags.map(str::to_owned).collect();
        let mut pushed = lone(format!("image {number}"), None, tags.clone());
        if random.bool() {
            let platforms = ["amd64", "arm64"].map(|platform| {
                let tag = format!("{platform}-{number}");
                lone(format!("{platform} {number}"), None, if random.bool() { vec![tag] } else { Vec::new() })
            });
            if tags.is_empty() {
                tags.push("index".to_owned());
            }
            let manifest = index(&[&platforms[0].manifest, &platforms[1].manifest]);
            pushed =
                Push { repository, manifest, blobs: Vec::new(), tags, subject: None, platforms: platforms.to_vec() };
        }
        let mut subjects: Vec<Digest> = pushed.platforms.iter().chain([&pushed]).map(Push::digest).collect();
        all.push(pushed);
        for referrer in 0..random.usize(0..4) {
            let subject = random.choice(&subjects).unwrap().clone();
            let name = format!("referrer {number} {referrer}");
            let pushed = match random.u8(0..4) {
                0 => {
                    let signature = lone(name, None, vec![cosign(&subject, "sig")]);
                    Push { subject: Some(subject), ..signature }
                }
                1 => lone(name, Some(&subject), vec![format!("v{number}-sbom{referrer}")]),
                _ => lone(name, Some(&subject), Vec::new()),
            };
            // It may have referrers of its own.
            subjects.push(pushed.digest());
            all.push(pushed);
        }
    }
    all
}

/// The rules of a deployment.
fn rules(random: &mut Rng) -> Value {
    let mirror = json!({"region": FAR, "repository": {"prefix": "mirror/"}, "settings": "sync"});
    let release = json!({"include": ["v*"], "exclude": ["*-rc*"]});
    json!({
        "all": rule(&json!({"untagged": random.bool(), "targets": [{"region": NEAR}, mirror]})),
        "releases": rule(&json!({
            "repositories": only(&["prod/*"]), "tags": release, "untagged": random.bool(),
            "targets": [{"region": THIRD, "settings": "sync"}, {"region": NEAR}],
        })),
    })
}

/// Runs the execution of replicate-image that the Map starts for a line.
async fn replicate(functions: &Functions, item: &Item) {
    let mut image = json!({"repository": item.repository});
    match (&item.tag, &item.digest) {
        (Some(tag), None) => image["tag"] = json!(tag),
        (None, Some(digest)) => image["digest"] = json!(digest),
        both => panic!("{both:?}"),
    }
    let input = json!({"rule": item.rule, "image": image});
    let round = functions.resolve(&Undisturbed, &input).await.unwrap().unwrap();
    for target in &round.targets {
        let iteration = functions.replicate(&Undisturbed, &round, target).await;
        assert!(iteration.ended.is_ok(), "{item:?}: {:?}", iteration.ended);
    }
}

/// The digests that come with what the tags of `rule` are on, image or index, in a repository of the source.
fn whole(setup: &Setup, pushes: &[Push], rule: &Value, repository: &str) -> BTreeSet<(Option<String>, String)> {
    let filter = |member: &str| serde_json::from_value::<Filter>(rule[member].clone()).unwrap();
    let there = setup.ecr.view(ACCOUNT, SOURCE, repository).unwrap_or_default();
    let mut whole = BTreeSet::new();
    if !filter("repositories").selects(repository) {
        return whole;
    }
    for push in pushes.iter().filter(|push| push.repository == repository && push.subject.is_none()) {
        let digest = push.digest().to_string();
        let held = push.tags.iter().filter(|tag| there.tags[*tag] == digest && filter("tags").selects(tag));
        let held: Vec<_> = held.map(|tag| (Some(tag.clone()), digest.clone())).collect();
        if held.is_empty() {
            continue;
        }
        whole.extend(held);
        let mut with: Vec<Digest> = push.platforms.iter().chain([push]).map(Push::digest).collect();
        // What refers to something is pushed after it.
        let referrers = pushes.iter().filter(|it| it.repository == repository);
        for referrer in referrers {
            if referrer.subject.as_ref().is_some_and(|subject| with.contains(subject)) {
                with.push(referrer.digest());
            }
        }
        whole.extend(with.into_iter().map(|digest| (None, digest.to_string())));
    }
    whole
}

/// Audits a registry that `seed` draws, replicates what differs, and audits it again; what differed at first, and after that.
async fn repair(seed: u64, config: &SdkConfig) -> [Vec<Item>; 2] {
    let (setup, mut random) = (Setup::start().await, Rng::with_seed(seed));
    let (pushes, rules) = (pushes(&mut random), rules(&mut random));
    let source = setup.client(SOURCE).await;
    for push in &pushes {
        push.put(&source, push.repository, || true).await;
    }
    // Where nearly all is there, what is missing is of images that are.
    let present = *random.choice(&[4, 7]).unwrap();
    for (region, prefix) in [(NEAR, ""), (FAR, "mirror/"), (THIRD, "")] {
        let client = setup.client(region).await;
        for push in &pushes {
            let mut is_there = || random.u8(0..8) < present;
            if is_there() {
                push.put(&client, &format!("{prefix}{}", push.repository), is_there).await;
            }
        }
    }
    for repository in REPOSITORIES {
        setup.make(SOURCE, repository).await;
        let put = source.put_lifecycle_policy().repository_name(repository);
        put.lifecycle_policy_text(LIFECYCLE_POLICY).send().await.unwrap();
    }
    let config = config.clone().into_builder().endpoint_url(setup.ecr.endpoint()).build();
    let functions = Functions::new(&config, &config, Uploads::Auto).with_rules(rules.clone());
    let (_, found) = setup.find(&rules, json!({})).await;
    for item in &found {
        replicate(&functions, item).await;
    }
    for (rule, region, prefix) in [("all", NEAR, ""), ("all", FAR, "mirror/"), ("releases", THIRD, "")] {
        for repository in REPOSITORIES {
            let there = setup.ecr.view(ACCOUNT, region, &format!("{prefix}{repository}")).unwrap_or_default();
            for (tag, digest) in whole(&setup, &pushes, &rules[rule], repository) {
                let is_there = match &tag {
                    Some(tag) => there.tags.get(tag) == Some(&digest),
                    None => there.images.contains_key(&digest),
                };
                assert!(is_there, "seed {seed}: {rule} {repository} {tag:?} {digest} is not in {region}");
            }
        }
    }
    setup.pass(&rules, &json!({}), (2, false)).await;
    [found, setup.items("runs/run-1/2/")]
}

#[tokio::test]
async fn what_an_audit_finds_is_all_that_there_is_to_be_replicated() {
    let config = sdk_config("http://127.0.0.1:1", SOURCE).await;
    let (mut kinds, mut shapes) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..SEEDS {
        let [found, left] = Box::pin(repair(seed, &config)).await;
        assert_eq!(left, [], "of seed {seed}");
        kinds.extend(found.iter().flat_map(|item| &item.differences).map(|difference| difference.kind));
        shapes.extend(found.iter().map(|item| (item.rule.clone(), item.tag.is_some())));
    }
    assert_eq!((kinds.len(), shapes.len()), (4, 4), "what is drawn has everything: {kinds:?} {shapes:?}");
}
