//! CopyLayers: every blob of the image that the target misses, until all are there or the deadline is near.
//!
//! Where the missing bytes are more than one function should move, it copies none and hands them out in shards, each for
//! a CopyLayers of its own.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use shared::{
    contract::{Blob, Copied, Cursor, Image, Referrer, Target, milliseconds},
    copy::{Budget, Copy, CopyError, Uploads, http_client},
    error::{ErrorName, Named},
    manifest::{ManifestError, walk},
    plan,
    registry::{Registries, RegistryError},
    serve::Deadline,
};
use tracing::info;

/// The most memory that layers may take, in MiB, however much the function has: what is left of 256 MiB beside the program.
const MOST_MEMORY: u32 = 212;

/// How the function is set up, apart from where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The function's memory in MiB.
    pub memory: i32,
    /// The roads that layers may take.
    pub uploads: Uploads,
    /// How many functions may copy one image to one target side by side.
    pub max_shards: usize,
}

impl Settings {
    /// The settings of a function of `memory` MiB from its environment: `UPLOADS` (`auto`, which it is by default, or
    /// `parts`) and `MAX_SHARDS` (4 by default), by `variable`.
    ///
    /// # Errors
    /// A sentence for each that is something else.
    pub fn read(memory: i32, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let uploads = match variable("UPLOADS").as_deref() {
            None | Some("auto") => Uploads::Auto,
            Some("parts") => Uploads::Parts,
            Some(other) => return Err(format!("UPLOADS is `{other}`: expected `auto` or `parts`")),
        };
        let max_shards = match variable("MAX_SHARDS") {
            None => 4,
            Some(number) => match number.parse() {
                Ok(number @ 1..=16) => number,
                _ => return Err(format!("MAX_SHARDS is `{number}`: expected a number from 1 to 16")),
            },
        };
        Ok(Self { memory, uploads, max_shards })
    }
}

/// What the function works with.
#[derive(Debug)]
pub struct Dependencies {
    registries: Registries,
    client: reqwest::Client,
    budget: Budget,
    settings: Settings,
}

impl Dependencies {
    /// For a function with `settings`, of whose memory layers may take half.
    ///
    /// # Errors
    /// When the system's TLS roots cannot be loaded.
    pub fn new(registries: Registries, settings: Settings) -> Result<Self, reqwest::Error> {
        let memory = u32::try_from(settings.memory / 2).unwrap_or_default().min(MOST_MEMORY);
        Ok(Self { registries, client: http_client()?, budget: Budget::new(memory), settings })
    }
}

/// What the function is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The execution's name, for the logs.
    pub execution: String,
    /// What is copied.
    pub image: Image,
    /// What goes with it.
    pub referrers: Vec<Referrer>,
    /// Where to.
    pub target: Target,
    /// The blobs to copy; none for all of the image's.
    pub layers: Option<Vec<Blob>>,
    /// Where an earlier invocation stopped.
    pub cursor: Option<Cursor>,
}

/// Why layers could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source's manifests could not be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The target could not be asked what it misses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A layer could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

impl Named for Error {
    fn name(&self) -> ErrorName {
        match self {
            Self::Manifest(error) => error.name(),
            Self::Registry(error) => error.name(),
            Self::Copy(error) => error.name(),
        }
    }
}

/// Copies what the target misses, or hands it out in shards.
///
/// # Errors
/// Those of [`walk`], [`Copy::missing`] and [`Copy::run`]. That the source lost the image is none: there is nothing to copy.
pub async fn handle(dependencies: &Dependencies, input: Input, deadline: Deadline) -> Result<Copied, Error> {
    let Dependencies { registries, client, budget, settings } = dependencies;
    let (started, throttled) = (Instant::now(), registries.throttled());
    let Input { execution, image, referrers, target, layers, cursor } = input;
    let source = registries.repository(&image.region, &image.repository);
    let target = registries.target(&target).await;
    // A shard is never divided again, nor is what was begun.
    let max_shards = if layers.is_none() && cursor.is_none() { settings.max_shards } else { 1 };
    let (blobs, layers_foreign) = if let Some(layers) = layers {
        (layers, 0)
    } else {
        match walk(&source, &image.digest, &referrers).await {
            Ok(tree) => (tree.blobs, tree.foreign),
            // PutManifest tells: its tag may be at the target, where only it looks after that.
            Err(error) if error.name() == ErrorName::ImageNotFound => (Vec::new(), 0),
            Err(error) => return Err(error.into()),
        }
    };
    let copy = Copy::new(&source, &target, client, budget, settings.uploads, deadline);
    let missing = copy.missing(blobs).await?;
    let shards = plan::shards(missing.clone(), max_shards);
    let mut copied = if shards.is_empty() {
        Copied { layers_foreign, ..copy.run(missing, cursor.unwrap_or_default()).await? }
    } else {
        Copied { done: false, shards, cursor: Cursor::default(), layers_foreign }
    };
    copied.cursor.duration_ms += milliseconds(started.elapsed());
    copied.cursor.throttled += registries.throttled() - throttled;
    info!(
        execution,
        region = %target.region(),
        repository = %target.name(),
        digest = %image.digest,
        done = copied.done,
        shards = copied.shards.len(),
        layers_copied = copied.cursor.layers_copied,
        layers_streamed = copied.cursor.layers_streamed,
        bytes_copied = copied.cursor.bytes_copied,
        uploads_under_way = copied.cursor.uploads.len(),
        duration_ms = copied.cursor.duration_ms,
        throttled = copied.cursor.throttled,
        "layers copied"
    );
    Ok(copied)
}
