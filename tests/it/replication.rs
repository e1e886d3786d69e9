//! Whole images through all functions, as the state machine calls them: every kind of image, what belongs to it, its tag, and
//! runs that meet.

use std::time::{Duration, Instant};

use aws_sdk_ecr::types::{ImageIdentifier, ImageTagMutability, ImageTagMutabilityExclusionFilter};
use copy_layers::{Dependencies, Settings};
use ecr_local::Fault;
use futures::{
    StreamExt as _,
    future::{join, join_all},
    stream,
};
use serde_json::{Value, json};
use shared::{
    contract::{Cursor, MOST_REPAIRS, Put, Referrer, Status},
    copy::Uploads,
    error::{Class, ErrorName, Named as _},
    manifest::MEDIA_TYPES,
    names::Digest,
    registry::Registries,
    serve::{Deadline, decode},
};

use crate::world::{OCI_INDEX, OCI_MANIFEST, REPOSITORY, SOURCE, TARGET, World, index, layer, manifest};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// The functions of one deployment, in its source region.
struct Deployment {
    registries: Registries,
    copy: Dependencies,
}

/// How a run ended.
#[derive(Debug)]
struct Ended {
    put: Put,
    layers_copied: usize,
    layers_foreign: usize,
    /// How often its layers were copied, and its manifests put.
    attempts: usize,
}

fn in_time() -> Deadline {
    Deadline::told_by(|| Duration::from_mins(15))
}

impl Deployment {
    async fn of(world: &World, source: &str) -> Self {
        let settings = Settings { memory: 512, uploads: Uploads::Auto, max_shards: 4 };
        let copy = Dependencies::new(world.registries_of(source).await, settings).unwrap();
        Self { registries: world.registries_of(source).await, copy }
    }

    /// What ResolveImage makes of an execution's input.
    async fn resolve(&self, input: &Value) -> Result<resolve_image::Output, resolve_image::Error> {
        resolve_image::handle(&self.registries, decode(json!({"execution": "test", "input": input})).unwrap()).await
    }

    /// The input of the steps of a target, which ResolveImage gives for an image that a person asks for.
    async fn input(&self, target: &str, digest: &Digest, tag: Option<&str>) -> Value {
        let image = json!({"repository": REPOSITORY, "digest": digest.as_str()});
        let asked = json!({"image": image, "targets": [{"region": target, "repository": REPOSITORY}]});
        let round = self.resolve(&asked).await.unwrap().round.unwrap();
        let mut input = json!({
            "execution": "test", "image": round.image, "referrers": round.referrers, "target": round.targets[0],
        });
        // An event tells which tag it was pushed with, whatever that points at by now.
        input["image"]["tag"] = json!(tag);
        input
    }

    async fn copy(&self, input: &Value) -> Result<(usize, usize), copy_layers::Error> {
        let (mut input, mut cursor) = (input.clone(), None::<Cursor>);
        loop {
            (input["layers"], input["cursor"]) = (Value::Null, json!(cursor));
            let copied = copy_layers::handle(&self.copy, decode(input.clone()).unwrap(), in_time()).await?;
            if copied.done {
                return Ok((copied.cursor.layers_copied, copied.layers_foreign));
            }
            cursor = Some(copied.cursor);
        }
    }

    async fn put(&self, input: &Value) -> Result<Put, put_manifest::Error> {
        put_manifest::handle(&self.registries, decode(input.clone()).unwrap(), in_time()).await
    }

    /// The steps of one target, each again while its error may pass.
    async fn steps(&self, input: &Value) -> Result<Ended, ErrorName> {
        ensure_repo::handle(&self.registries, decode(input.clone()).unwrap()).await.map_err(|error| error.name())?;
        let mut layers_copied = 0;
        for attempts in 1..20 {
            let (copied, layers_foreign) = self.copy(input).await.map_err(|error| error.name())?;
            layers_copied += copied;
            match self.put(input).await {
                Ok(put) => return Ok(Ended { put, layers_copied, layers_foreign, attempts }),
                Err(error) if error.name().class() == Class::Retry || error.name() == ErrorName::LayersMissing => {}
                Err(error) => return Err(error.name()),
            }
        }
        panic!("it never ends");
    }

    async fn replicate(&self, target: &str, digest: &Digest, tag: Option<&str>) -> Result<Ended, ErrorName> {
        self.steps(&self.input(target, digest, tag).await).await
    }
}

/// A source, and the functions there.
async fn scene() -> (World, Deployment) {
    let world = World::start().await;
    let deployment = Deployment::of(&world, SOURCE).await;
    (world, deployment)
}

/// Every manifest of the source's that the target has too, byte for byte.
fn same_manifests(world: &World, digests: &[&Digest]) {
    let (source, target) = (world.view(SOURCE), world.view(TARGET));
    for digest in digests {
        let manifest = source.images.get(digest.as_str());
        assert!(manifest.is_some() && manifest == target.images.get(digest.as_str()), "{digest}");
    }
}

fn of_type(mut manifest: Value, media_type: &str, config_type: &str, layer_type: &str) -> Value {
    manifest["mediaType"] = json!(media_type);
    manifest["config"]["mediaType"] = json!(config_type);
    for layer in manifest["layers"].as_array_mut().unwrap() {
        layer["mediaType"] = json!(layer_type);
    }
    manifest
}

mod kinds {
    use super::*;

    /// Pushes blobs and manifests, the last with the tag `v1`, replicates that, and compares every manifest.
    async fn arrives(name: &str, blobs: &[&[u8]], manifests: &[Value]) -> Ended {
        let (world, deployment) = scene().await;
        for blob in blobs {
            if blob.is_empty() { world.push_empty_blob(SOURCE).await } else { world.push_blob(SOURCE, blob).await }
        }
        let mut digests = Vec::new();
        for (number, manifest) in manifests.iter().enumerate() {
            let tag = (number + 1 == manifests.len()).then_some("v1");
            digests.push(world.put(SOURCE, manifest, tag).await);
        }
        let root = digests.last().unwrap();
        let ended = deployment.replicate(TARGET, root, Some("v1")).await;
        let ended = ended.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(ended.put.status, Status::Replicated, "{name}");
        assert_eq!(ended.put.manifests_copied, digests.len(), "{name}");
        assert_eq!(ended.attempts, 1, "{name}: nothing was put before what it names");
        same_manifests(&world, &digests.iter().collect::<Vec<_>>());
        assert_eq!(world.view(TARGET).tags.get("v1").map(String::as_str), Some(root.as_str()), "{name}");
        // A second time there is nothing to do.
        let again = deployment.replicate(TARGET, root, Some("v1")).await.unwrap();
        assert_eq!((again.put.status, again.layers_copied), (Status::Unchanged, 0), "{name}");
        ended
    }

    #[tokio::test]
    async fn docker_s_images_and_lists() {
        let config = "application/vnd.docker.container.image.v1+json";
        let layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let amd64 = of_type(manifest(&[b"amd64", b"layer of amd64"]), DOCKER_MANIFEST, config, layer);
        let arm64 = of_type(manifest(&[b"arm64", b"layer of arm64"]), DOCKER_MANIFEST, config, layer);
        let mut list = index(&[&amd64, &arm64]);
        list["mediaType"] = json!(DOCKER_LIST);
        for child in list["manifests"].as_array_mut().unwrap() {
            child["mediaType"] = json!(DOCKER_MANIFEST);
        }
        let blobs: [&[u8]; 4] = [b"amd64", b"layer of amd64", b"arm64", b"layer of arm64"];
        assert_eq!(arrives("a list", &blobs, &[amd64.clone(), arm64, list]).await.layers_copied, 4);
        arrives("an image", &blobs[..2], &[amd64]).await;
    }

    #[tokio::test]
    async fn an_index_in_an_index_with_attestations() {
        let image = manifest(&[b"config", b"layer"]);
        // As buildx makes them: for no platform, about the image beside it.
        let mut attestation = of_type(
            manifest(&[b"config of the attestation", b"{\"predicateType\": \"provenance\"}"]),
            OCI_MANIFEST,
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.in-toto+json",
        );
        attestation["layers"][0]["annotations"] =
            json!({"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"});
        let mut inner = index(&[&image, &attestation]);
        inner["manifests"][1]["platform"] = json!({"architecture": "unknown", "os": "unknown"});
        inner["manifests"][1]["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": Digest::of(image.to_string().as_bytes()),
        });
        let mut outer = index(&[&inner, &image]);
        outer["manifests"][0]["mediaType"] = json!(OCI_INDEX);
        let blobs: [&[u8]; 4] =
            [b"config", b"layer", b"config of the attestation", b"{\"predicateType\": \"provenance\"}"];
        assert_eq!(arrives("a nested index", &blobs, &[image, attestation, inner, outer]).await.layers_copied, 4);
    }

    #[tokio::test]
    async fn artifacts_charts_and_manifests_that_do_not_say_what_they_are() {
        let artifact = json!({
            "mediaType": ARTIFACT, "artifactType": "application/vnd.example.sbom",
            "blobs": [{"mediaType": "text/plain", "digest": Digest::of(b"sbom"), "size": 4}],
        });
        arrives("an artifact manifest", &[b"sbom"], &[artifact]).await;

        let chart = of_type(
            manifest(&[b"{\"name\": \"chart\"}", b"chart"]),
            OCI_MANIFEST,
            "application/vnd.cncf.helm.config.v1+json",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        );
        let mut silent = chart.clone();
        silent.as_object_mut().unwrap().remove("mediaType");
        arrives("a Helm chart", &[b"{\"name\": \"chart\"}", b"chart"], &[chart]).await;
        arrives("a manifest without mediaType", &[b"{\"name\": \"chart\"}", b"chart"], &[silent]).await;
    }

    #[tokio::test]
    async fn zstd_estargz_and_empty_layers() {
        for layer_type in ["application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.oci.image.layer.v1.tar"] {
            let image = of_type(manifest(&[b"config", b"layer"]), OCI_MANIFEST, "application/x", layer_type);
            arrives(layer_type, &[b"config", b"layer"], &[image]).await;
        }
        let mut lazy = manifest(&[b"config", b"layer"]);
        lazy["layers"][0]["annotations"] = json!({
            "containerd.io/snapshot/stargz/toc.digest": Digest::of(b"toc"),
            "io.containers.estargz.uncompressed-size": "5",
        });
        arrives("estargz", &[b"config", b"layer"], &[lazy]).await;
        let empty = arrives("empty blobs", &[b"{}", b""], &[manifest(&[b"{}", b""])]).await;
        assert_eq!(empty.layers_copied, 2);
        arrives("an empty config", &[b""], &[manifest(&[b""])]).await;
    }

    #[tokio::test]
    async fn foreign_layers_are_counted_and_named_and_nothing_else() {
        let mut image = manifest(&[b"config", b"layer"]);
        let foreign = json!({
            "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "digest": Digest::of(b"windows"), "size": 7, "urls": ["http://127.0.0.1:1/never"],
        });
        image["layers"].as_array_mut().unwrap().push(foreign);
        let ended = arrives("a Windows image", &[b"config", b"layer"], &[image]).await;
        assert_eq!((ended.layers_copied, ended.layers_foreign), (2, 1));
    }

    #[tokio::test]
    async fn every_media_type_that_is_asked_for_is_one_that_the_registry_has() {
        let (world, _) = scene().await;
        let mut ids = Vec::new();
        for media_type in MEDIA_TYPES.into_iter().filter(|media_type| !media_type.contains("prettyjws")) {
            world.push_blob(SOURCE, media_type.as_bytes()).await;
            let blob = Digest::of(media_type.as_bytes());
            let descriptor = json!({"mediaType": "text/plain", "digest": blob, "size": media_type.len()});
            let mut document = match media_type {
                _ if media_type.contains("index") || media_type.contains("list") => json!({"manifests": []}),
                _ if media_type.contains("artifact") => json!({"blobs": [descriptor]}),
                _ if media_type.contains("v1+json") && media_type.contains("docker") => {
                    json!({"schemaVersion": 1, "fsLayers": [{"blobSum": blob}]})
                }
                _ => json!({"config": descriptor, "layers": []}),
            };
            document["mediaType"] = json!(media_type);
            if document.get("schemaVersion").is_none() {
                document["schemaVersion"] = json!(2);
            }
            ids.push(world.put(SOURCE, &document, None).await);
        }
        let repository = world.registries().await.repository(&SOURCE.parse().unwrap(), &REPOSITORY.parse().unwrap());
        assert_eq!(repository.manifests(&ids).await.unwrap().len(), MEDIA_TYPES.len() - 1);
    }
}

mod referrers {
    use super::*;

    /// An index whose parts are signed in every way, tagged last, as a careful pipeline pushes it.
    async fn signed(world: &World) -> (Digest, Vec<Digest>) {
        let (digest, children) = world.push_index(None).await;
        let child = Digest::of(children[0].to_string().as_bytes());
        let stem = |digest: &Digest| digest.as_str().replace(':', "-");
        let sbom = world.refer(&digest, "sbom", None).await;
        let mut referrers = vec![sbom.clone(), world.refer(&sbom, "signature of the sbom", None).await];
        referrers.push(world.refer(&child, "attestation of a platform", None).await);
        for (subject, kind) in [(&digest, "sig"), (&digest, "att"), (&child, "sbom")] {
            let tag = format!("{}.{kind}", stem(subject));
            referrers.push(world.push_image(Some(&tag), &[b"config", tag.as_bytes()]).await);
        }
        world.put(SOURCE, &index(&[&children[0], &children[1]]), Some("v1")).await;
        (digest, referrers)
    }

    #[tokio::test]
    async fn everything_that_belongs_to_an_image_is_there_before_its_tag() {
        let (world, deployment) = scene().await;
        let (digest, referrers) = signed(&world).await;
        let input = deployment.input(TARGET, &digest, Some("v1")).await;
        ensure_repo::handle(&deployment.registries, decode(input.clone()).unwrap()).await.unwrap();
        deployment.copy(&input).await.unwrap();
        // Whichever put fails: the tag is the last to come.
        for passed in 0.. {
            // Referrers are put one by one, platforms side by side: each invocation comes one put further.
            world.ecr.clear_faults();
            world.ecr.fault(Fault::new("PutImage", 500, "ServerException").in_region(TARGET).skip(1).for_ever());
            if deployment.put(&input).await.is_ok() {
                assert_eq!(passed + 1, 3 + referrers.len() + 1, "each image took a put, and the tag one more");
                break;
            }
            assert_eq!(world.view(TARGET).tags.get("v1"), None, "after {passed} puts");
        }
        world.ecr.clear_faults();
        let put = deployment.put(&input).await.unwrap();
        assert_eq!((put.status, put.referrers_refused), (Status::Unchanged, 0));
        let all: Vec<&Digest> = referrers.iter().chain([&digest]).collect();
        same_manifests(&world, &all);
        assert_eq!(world.view(TARGET), world.view(SOURCE), "every manifest and every tag");
    }

    #[tokio::test]
    async fn a_run_counts_what_it_put_and_what_was_there() {
        let (world, deployment) = scene().await;
        let (digest, referrers) = signed(&world).await;
        let ended = deployment.replicate(TARGET, &digest, Some("v1")).await.unwrap();
        assert_eq!((ended.put.manifests_copied, ended.put.manifests_skipped), (3, 0));
        assert_eq!((ended.put.referrers_copied, ended.put.referrers_skipped), (referrers.len(), 0));
        world.ecr.reset_stats();
        let again = deployment.replicate(TARGET, &digest, Some("v1")).await.unwrap();
        assert_eq!(again.put.status, Status::Unchanged);
        assert_eq!((again.put.referrers_copied, again.put.referrers_skipped), (0, referrers.len()));
        assert_eq!(world.calls(TARGET, "PutImage"), 0);
        assert_eq!(world.calls(TARGET, "BatchGetImage"), 1, "one call tells all that the target has");
    }

    #[tokio::test]
    async fn a_referrer_that_comes_later_arrives_by_its_own_push_whether_its_subject_has_or_not() {
        for subject_is_there in [true, false] {
            let (world, deployment) = scene().await;
            let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
            if subject_is_there {
                deployment.replicate(TARGET, &digest, Some("v1")).await.unwrap();
            }
            let signature = world.refer(&digest, "signature", None).await;
            let ended = deployment.replicate(TARGET, &signature, None).await.unwrap();
            assert_eq!(ended.put.status, Status::Replicated);
            same_manifests(&world, &[&signature]);
            assert_eq!(world.view(TARGET).tags.contains_key("v1"), subject_is_there);
            deployment.replicate(TARGET, &digest, Some("v1")).await.unwrap();
            assert_eq!(world.view(TARGET), world.view(SOURCE));
        }
    }

    #[tokio::test]
    async fn a_referrer_that_the_registry_refuses_is_told_and_its_image_arrives() {
        let (world, deployment) = scene().await;
        let (digest, referrers) = signed(&world).await;
        let refused = &referrers[1];
        let fault = Fault::new("PutImage", 405, "UnsupportedImageTypeException").of_image(refused.as_str());
        let fault = Fault { message: "\"".repeat(500), ..fault };
        world.ecr.fault(fault.in_region(TARGET).for_ever());
        let ended = deployment.replicate(TARGET, &digest, Some("v1")).await.unwrap();
        assert_eq!(ended.put.status, Status::Replicated);
        assert_eq!((ended.put.referrers_copied, ended.put.referrers_refused), (referrers.len() - 1, 1));
        let refusal = &ended.put.refusals[0];
        assert_eq!(&refusal.digest, refused);
        assert_eq!(refusal.error, "InvalidInput");
        assert!(refusal.message.contains("PutImage on prod/app in eu-west-1"), "{}", refusal.message);
        assert!(json!(refusal.message).to_string().len() <= 200 + 2, "as it is carried: {}", refusal.message);
        assert_eq!(world.tagged(TARGET, "v1").await, Some(digest));
    }

    #[tokio::test]
    async fn a_referrer_that_is_gone_or_cannot_be_read_does_not_hold_its_image_up() {
        let (world, deployment) = scene().await;
        let (digest, referrers) = signed(&world).await;
        let mut input = deployment.input(TARGET, &digest, Some("v1")).await;
        let gone = Referrer { digest: Digest::of(b"deleted since"), tag: None };
        world.push_blob(SOURCE, b"layer").await;
        let schema_1 = json!({
            "schemaVersion": 1, "fsLayers": [{"blobSum": Digest::of(b"layer")}],
            "mediaType": "application/vnd.docker.distribution.manifest.v1+json",
        });
        let unreadable = Referrer { digest: world.put(SOURCE, &schema_1, None).await, tag: None };
        for referrer in [&gone, &unreadable] {
            input["referrers"].as_array_mut().unwrap().push(json!(referrer));
        }
        let put = deployment.steps(&input).await.unwrap().put;
        assert_eq!(put.status, Status::Replicated);
        assert_eq!((put.referrers_copied, put.referrers_skipped, put.referrers_refused), (referrers.len(), 1, 1));
        assert_eq!(put.refusals[0].digest, unreadable.digest);
    }

    #[tokio::test]
    async fn a_referrer_that_is_larger_than_any_image_does_not_keep_the_others_from_being_read() {
        let (world, deployment) = scene().await;
        let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
        world.refer(&digest, "signature", None).await;
        let children: Vec<Value> = (0..1001)
            .map(|number| {
                let mut child = manifest(&[b"config", b"layer"]);
                child["annotations"] = json!({"number": number.to_string()});
                child
            })
            .collect();
        stream::iter(&children)
            .for_each_concurrent(16, |child| async { drop(world.put(SOURCE, child, None).await) })
            .await;
        let mut monster = index(&children.iter().collect::<Vec<_>>());
        monster["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": digest.as_str(), "size": 1});
        let monster = world.put(SOURCE, &monster, None).await;
        let ended = deployment.replicate(TARGET, &digest, Some("v1")).await.unwrap();
        assert_eq!((ended.put.referrers_copied, ended.put.referrers_refused), (1, 1));
        assert_eq!((&ended.put.refusals[0].digest, ended.put.refusals[0].error.as_str()), (&monster, "InvalidInput"));
        assert_eq!(world.tagged(TARGET, "v1").await, Some(digest));
    }

    #[tokio::test]
    async fn a_referrer_whose_layers_cannot_be_had_does_not_hold_its_image_up() {
        let (world, deployment) = scene().await;
        let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
        let lost = world.refer(&digest, "lost", None).await;
        // The source gives nothing for it: what it gives for the image's own layers comes first in the order of digests.
        let mut input = deployment.input(TARGET, &digest, Some("v1")).await;
        ensure_repo::handle(&deployment.registries, decode(input.clone()).unwrap()).await.unwrap();
        for blob in [&b"config"[..], b"layer", b"{}"] {
            world.push_blob(TARGET, blob).await;
        }
        world
            .ecr
            .fault(Fault::new("GetDownloadUrlForLayer", 400, "AccessDeniedException").in_region(SOURCE).for_ever());
        assert_eq!(deployment.copy(&input).await.unwrap(), (0, 0), "it is left out");
        // Another copy may bring it; after the last one, it is told.
        assert_eq!(deployment.put(&input).await.unwrap_err().name(), ErrorName::LayersMissing);
        input["repairs"] = json!(MOST_REPAIRS);
        let put = deployment.put(&input).await.unwrap();
        assert_eq!((put.status, put.referrers_refused), (Status::Replicated, 1));
        assert_eq!((&put.refusals[0].digest, put.refusals[0].error.as_str()), (&lost, "LayersMissing"));
        assert_eq!(world.tagged(TARGET, "v1").await, Some(digest));
    }

    #[tokio::test]
    async fn a_referrer_whose_layers_cannot_be_had_for_a_while_is_waited_for() {
        let (world, deployment) = scene().await;
        let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
        let referrer = world.refer(&digest, "signature", None).await;
        let input = deployment.input(TARGET, &digest, Some("v1")).await;
        ensure_repo::handle(&deployment.registries, decode(input.clone()).unwrap()).await.unwrap();
        for blob in [&b"config"[..], b"layer", b"{}"] {
            world.push_blob(TARGET, blob).await;
        }
        // All that a stream and parts try before they give up.
        let lost = Fault::new("GetDownloadUrlForLayer", 400, "LayerInaccessibleException").in_region(SOURCE);
        world.ecr.fault(lost.times(12));
        let error = deployment.copy(&input).await.unwrap_err();
        assert_eq!(error.name(), ErrorName::RegistryUnavailable, "the state machine waits, and tries again");
        world.ecr.clear_faults();
        // What is corrupt once is read again.
        world.ecr.fault(Fault::of("DownloadLayer").corrupt(2).in_region(SOURCE));
        assert_eq!(deployment.copy(&input).await.unwrap(), (1, 0));
        assert_eq!(deployment.put(&input).await.unwrap().referrers_copied, 1);
        assert!(world.by_digest(TARGET, &referrer).await.is_some());
    }

    #[tokio::test]
    async fn a_referrer_whose_layers_are_corrupt_does_not_hold_its_image_up() {
        let (world, deployment) = scene().await;
        let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
        world.refer(&digest, "signature", None).await;
        let mut input = deployment.input(TARGET, &digest, Some("v1")).await;
        ensure_repo::handle(&deployment.registries, decode(input.clone()).unwrap()).await.unwrap();
        for blob in [&b"config"[..], b"layer", b"{}"] {
            world.push_blob(TARGET, blob).await;
        }
        world.ecr.fault(Fault::of("DownloadLayer").corrupt(2).in_region(SOURCE).for_ever());
        assert_eq!(deployment.copy(&input).await.unwrap(), (0, 0), "it is left out");
        input["repairs"] = json!(MOST_REPAIRS);
        let put = deployment.put(&input).await.unwrap();
        assert_eq!((put.status, put.referrers_refused), (Status::Replicated, 1));
    }

    #[tokio::test]
    async fn a_referrer_that_is_refused_by_accident_is_put_once_more() {
        for (times, refused) in [(1, 0), (2, 1)] {
            let (world, deployment) = scene().await;
            let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
            let referrer = world.refer(&digest, "signature", None).await;
            let accident = Fault::new("PutImage", 400, "ImageDigestDoesNotMatchException").in_region(TARGET);
            world.ecr.fault(accident.of_image(referrer.as_str()).times(times));
            let put = deployment.replicate(TARGET, &digest, Some("v1")).await.unwrap().put;
            assert_eq!((put.referrers_copied, put.referrers_refused), (1 - refused, refused));
            assert_eq!(world.tagged(TARGET, "v1").await, Some(digest));
        }
    }

    #[tokio::test]
    async fn more_referrers_than_a_page_has_all_arrive() {
        let (world, deployment) = scene().await;
        let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
        world.push_blob(SOURCE, b"{}").await;
        world.push_blob(SOURCE, b"scan").await;
        for number in 0..60 {
            world.put(SOURCE, &World::referrer(&digest, b"scan", &number.to_string()), None).await;
        }
        let ended = deployment.replicate(TARGET, &digest, Some("v1")).await.unwrap();
        assert_eq!(ended.put.referrers_copied, 60);
        assert_eq!(world.view(TARGET), world.view(SOURCE));
    }

    #[tokio::test]
    async fn a_signature_s_tag_follows_the_source_s_as_any_tag_does() {
        let (world, deployment) = scene().await;
        let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
        let tag = format!("{}.sig", digest.as_str().replace(':', "-"));
        let once = world.push_image(Some(&tag), &[b"config", b"signed once"]).await;
        let input = deployment.input(TARGET, &digest, Some("v1")).await;
        // It is signed once more, and that has arrived, when the image's run comes to it.
        let twice = world.push_image(Some(&tag), &[b"config", b"signed twice"]).await;
        deployment.replicate(TARGET, &twice, Some(&tag)).await.unwrap();
        deployment.steps(&input).await.unwrap();
        assert_eq!(world.tagged(TARGET, &tag).await, Some(twice));
        assert!(world.by_digest(TARGET, &once).await.is_some());
    }
}

mod tags {
    use super::*;

    /// A source whose `v1` has moved from the first image to the second, and a target with the first, tag and all.
    async fn overtaken() -> (World, Deployment, Digest, Digest) {
        let (world, deployment) = scene().await;
        let first = world.push_image(Some("v1"), &[b"config", b"first"]).await;
        deployment.replicate(TARGET, &first, Some("v1")).await.unwrap();
        let second = world.push_image(Some("v1"), &[b"config", b"second"]).await;
        (world, deployment, first, second)
    }

    #[tokio::test]
    async fn a_run_that_was_killed_after_its_put_hands_the_tag_on_when_it_runs_again() {
        let (world, deployment, first, second) = overtaken().await;
        // The newer image's run was through before the older one's put came.
        deployment.replicate(TARGET, &second, Some("v1")).await.unwrap();
        world.put(TARGET, &manifest(&[b"config", b"first"]), Some("v1")).await;
        let ended = deployment.replicate(TARGET, &first, Some("v1")).await.unwrap();
        assert_eq!(ended.put.status, Status::Superseded);
        assert_eq!(world.tagged(TARGET, "v1").await, Some(second));
    }

    #[tokio::test]
    async fn a_redrive_whose_image_is_gone_hands_the_tag_on() {
        let (world, deployment, first, second) = overtaken().await;
        let input = deployment.input(TARGET, &first, Some("v1")).await;
        deployment.replicate(TARGET, &second, Some("v1")).await.unwrap();
        // The older image's put came late, its run was killed then, and the image was deleted before the redrive.
        world.put(TARGET, &manifest(&[b"config", b"first"]), Some("v1")).await;
        let delete = world.client(SOURCE).await.batch_delete_image().repository_name(REPOSITORY);
        let id = ImageIdentifier::builder().image_digest(first.as_str()).build();
        delete.image_ids(id).send().await.unwrap();
        assert_eq!(deployment.steps(&input).await.unwrap_err(), ErrorName::ImageNotFound);
        assert_eq!(world.tagged(TARGET, "v1").await, Some(second));
    }

    #[tokio::test]
    async fn an_answer_that_says_nothing_does_not_pass_for_a_tag_that_has_moved() {
        let (world, deployment) = scene().await;
        let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
        let input = deployment.input(TARGET, &digest, Some("v1")).await;
        ensure_repo::handle(&deployment.registries, decode(input.clone()).unwrap()).await.unwrap();
        deployment.copy(&input).await.unwrap();
        // What PutManifest asks of the source: the manifests, and where the tag is.
        for skip in [0, 1] {
            let nothing = Fault::of("BatchGetImage").body(json!({"images": [], "failures": []}));
            world.ecr.fault(nothing.in_region(SOURCE).skip(skip));
            let error = deployment.put(&input).await.unwrap_err();
            assert_eq!(error.name(), ErrorName::RegistryUnavailable, "{skip}");
        }
        assert_eq!(deployment.put(&input).await.unwrap().status, Status::Replicated);
        assert_eq!(world.tagged(TARGET, "v1").await, Some(digest));
    }

    #[tokio::test]
    async fn a_newer_image_that_is_not_there_yet_gets_its_tag_from_its_own_run() {
        let (world, deployment, first, second) = overtaken().await;
        let ended = deployment.replicate(TARGET, &first, Some("v1")).await.unwrap();
        assert_eq!(ended.put.status, Status::Superseded);
        assert_eq!(world.tagged(TARGET, "v1").await, Some(first));
        deployment.replicate(TARGET, &second, Some("v1")).await.unwrap();
        assert_eq!(world.tagged(TARGET, "v1").await, Some(second));
    }

    #[tokio::test]
    async fn a_newer_image_whose_signature_is_on_its_way_is_waited_for() {
        let (world, deployment, first, second) = overtaken().await;
        let signature = world.refer(&second, "signature", None).await;
        // Its layers are there, and those of its signature are not.
        world.push_blob(TARGET, b"second").await;
        world.put(TARGET, &manifest(&[b"config", b"second"]), None).await;
        let input = deployment.input(TARGET, &first, Some("v1")).await;
        let error = deployment.put(&input).await.unwrap_err();
        assert_eq!(error.name(), ErrorName::TagUnsettled);
        assert_eq!(world.tagged(TARGET, "v1").await, Some(first), "it is not whole");
        deployment.replicate(TARGET, &signature, None).await.unwrap();
        assert_eq!(deployment.put(&input).await.unwrap().status, Status::Superseded);
        assert_eq!(world.tagged(TARGET, "v1").await, Some(second));
    }

    #[tokio::test]
    async fn a_newer_image_whose_signature_is_refused_is_not_waited_for() {
        let (world, deployment, first, second) = overtaken().await;
        let signature = world.refer(&second, "signature", None).await;
        world.ecr.fault(
            Fault::new("PutImage", 405, "Unsupported").of_image(signature.as_str()).in_region(TARGET).for_ever(),
        );
        deployment.replicate(TARGET, &second, Some("v1")).await.unwrap();
        // The older image's put comes late.
        world.put(TARGET, &manifest(&[b"config", b"first"]), Some("v1")).await;
        let ended = deployment.replicate(TARGET, &first, Some("v1")).await.unwrap();
        assert_eq!(ended.put.status, Status::Superseded);
        assert_eq!(world.tagged(TARGET, "v1").await, Some(second));
    }

    #[tokio::test]
    async fn exclusions_from_immutability_are_honoured() {
        for (mode, tag, conflicts) in [
            (ImageTagMutability::ImmutableWithExclusion, "latest", false),
            (ImageTagMutability::ImmutableWithExclusion, "v1", true),
            (ImageTagMutability::MutableWithExclusion, "latest", true),
            (ImageTagMutability::MutableWithExclusion, "v1", false),
        ] {
            let (world, deployment) = scene().await;
            let first = world.push_image(Some(tag), &[b"config", b"first"]).await;
            deployment.replicate(TARGET, &first, Some(tag)).await.unwrap();
            let signature = world.refer(&first, "signature", None).await;
            deployment.replicate(TARGET, &signature, None).await.unwrap();
            let filter = ImageTagMutabilityExclusionFilter::builder().filter_type("WILDCARD".into()).filter("la*");
            let set = world.client(TARGET).await.put_image_tag_mutability().repository_name(REPOSITORY);
            let set =
                set.image_tag_mutability(mode.clone()).image_tag_mutability_exclusion_filters(filter.build().unwrap());
            set.send().await.unwrap();
            let before = world.view(TARGET);

            let second = world.push_image(Some(tag), &[b"config", b"second"]).await;
            let ended = deployment.replicate(TARGET, &second, Some(tag)).await;
            let after = world.view(TARGET);
            if conflicts {
                assert_eq!(ended.unwrap_err(), ErrorName::TagConflict, "{mode:?} {tag}");
                assert_eq!(after.tags, before.tags, "nothing else is touched");
                let mut images = after.images.clone();
                assert!(images.remove(second.as_str()).is_some(), "it is there by digest");
                assert_eq!(images, before.images, "nothing else is touched");
            } else {
                assert_eq!(ended.unwrap().put.status, Status::Replicated, "{mode:?} {tag}");
                assert_eq!(after.tags[tag], second.as_str());
            }
        }
    }
}

mod meetings {
    use super::*;

    #[tokio::test]
    async fn the_same_run_twice_at_once_does_what_one_does() {
        let (world, deployment) = scene().await;
        let (digest, _) = world.push_index(Some("v1")).await;
        world.refer(&digest, "signature", None).await;
        let input = deployment.input(TARGET, &digest, Some("v1")).await;
        let (first, second) = join(deployment.steps(&input), deployment.steps(&input)).await;
        for ended in [first.unwrap(), second.unwrap()] {
            assert!(ended.put.status.is_complete(), "{ended:?}");
        }
        assert_eq!(world.view(TARGET), world.view(SOURCE));
    }

    #[tokio::test]
    async fn images_that_share_layers_arrive_side_by_side_and_one_after_the_other_without_sending_them_again() {
        let (world, deployment) = scene().await;
        let shared = layer(1, 100_000);
        let first = world.push_image(Some("v1"), &[b"config of the first", &shared, b"first"]).await;
        let second = world.push_image(Some("v2"), &[b"config of the second", &shared, b"second"]).await;
        let (one, other) =
            join(deployment.replicate(TARGET, &first, Some("v1")), deployment.replicate(TARGET, &second, Some("v2")))
                .await;
        one.unwrap();
        other.unwrap();
        assert_eq!(world.view(TARGET), world.view(SOURCE));

        let third = world.push_image(Some("v3"), &[b"config of the third", &shared, b"third"]).await;
        world.ecr.reset_stats();
        let ended = deployment.replicate(TARGET, &third, Some("v3")).await.unwrap();
        assert_eq!(ended.layers_copied, 2);
        assert_eq!(world.uploaded(TARGET), (b"config of the third".len() + b"third".len()) as u64);
    }

    #[tokio::test]
    async fn a_redrive_beside_an_invocation_that_goes_on_ends_well() {
        let (world, deployment) = scene().await;
        let content = layer(5, 80_000);
        let digest = world.push_image(Some("v1"), &[b"config", &content]).await;
        let input = deployment.input(TARGET, &digest, Some("v1")).await;
        ensure_repo::handle(&deployment.registries, decode(input.clone()).unwrap()).await.unwrap();
        // The orphan's bytes are all there, and it ends them while the redrive is through.
        world.ecr.fault(Fault::slow("v2:PUT upload", Duration::from_millis(800)).in_region(TARGET).times(2));
        let (orphan, redriven) = join(deployment.copy(&input), async {
            while world.calls(TARGET, "v2:PUT upload") < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            deployment.steps(&input).await
        })
        .await;
        orphan.unwrap();
        assert_eq!(redriven.unwrap().put.status, Status::Replicated);
        assert_eq!(world.view(TARGET), world.view(SOURCE));
    }

    #[tokio::test]
    async fn two_regions_that_replicate_to_each_other_settle() {
        let (world, there) = scene().await;
        let back = Deployment::of(&world, TARGET).await;
        let (digest, _) = world.push_index(Some("v1")).await;
        let signature = world.refer(&digest, "signature", None).await;
        there.replicate(TARGET, &digest, Some("v1")).await.unwrap();
        world.ecr.reset_stats();
        // Each put at the target was an event there: of the index, and of the signature.
        for (digest, tag) in [(&digest, Some("v1")), (&signature, None)] {
            assert_eq!(back.replicate(SOURCE, digest, tag).await.unwrap().put.status, Status::Unchanged);
        }
        for operation in ["PutImage", "CreateRepository", "InitiateLayerUpload", "v2:POST upload"] {
            assert_eq!(world.calls(SOURCE, operation), 0, "{operation}: it would go on for ever");
        }
    }

    #[tokio::test]
    async fn a_chain_of_regions_ends_at_its_end() {
        const END: &str = "us-west-2";
        let (world, first) = scene().await;
        let second = Deployment::of(&world, TARGET).await;
        let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
        first.replicate(TARGET, &digest, Some("v1")).await.unwrap();
        second.replicate(END, &digest, Some("v1")).await.unwrap();
        assert_eq!(world.view(END), world.view(SOURCE));
        // A late event of the first region changes nothing, so none follows.
        world.ecr.reset_stats();
        first.replicate(TARGET, &digest, Some("v1")).await.unwrap();
        second.replicate(END, &digest, Some("v1")).await.unwrap();
        assert_eq!(world.calls(TARGET, "PutImage") + world.calls(END, "PutImage"), 0);
    }

    #[tokio::test]
    async fn ten_pushes_of_thirty_platforms_at_once_stay_within_ten_puts_a_second() {
        const PUSHES: u32 = 10;
        const PLATFORMS: u32 = 30;
        const RATE: u32 = 10;
        let world = World::start().await;
        world.push_blob(SOURCE, b"config").await;
        world.push_blob(SOURCE, b"layer").await;
        let mut pushed = Vec::new();
        for push in 0..PUSHES {
            let mut platforms = Vec::new();
            for platform in 0..PLATFORMS {
                let mut image = manifest(&[b"config", b"layer"]);
                image["annotations"] = json!({"push": push.to_string(), "platform": platform.to_string()});
                world.put(SOURCE, &image, None).await;
                platforms.push(image);
            }
            let tag = format!("v{push}");
            let digest = world.put(SOURCE, &index(&platforms.iter().collect::<Vec<_>>()), Some(&tag)).await;
            pushed.push((digest, tag));
        }
        let deployment = Deployment::of(&world, SOURCE).await;
        let mut inputs = Vec::new();
        for (digest, tag) in &pushed {
            let input = deployment.input(TARGET, digest, Some(tag)).await;
            inputs.push(input);
        }
        ensure_repo::handle(&deployment.registries, decode(inputs[0].clone()).unwrap()).await.unwrap();
        deployment.copy(&inputs[0]).await.unwrap();
        world.ecr.limit_put_image(Some(RATE));
        let started = Instant::now();
        // One invocation each: not even a retrier of the state machine is needed.
        for put in join_all(inputs.iter().map(|input| deployment.put(input))).await {
            assert_eq!(put.unwrap().status, Status::Replicated);
        }
        assert_eq!(world.view(TARGET), world.view(SOURCE));
        let puts = PUSHES * (PLATFORMS + 1);
        let least = Duration::from_secs(u64::from(puts / RATE - 1));
        assert!(started.elapsed() >= least, "{puts} puts in {:?}: there was no quota", started.elapsed());
    }
}
