//! CopyLayers: every blob of the image that the target misses, until all are there or the deadline is near.

use serde::{Deserialize, Serialize};
use shared::{
    contract::{Blob, Copied, Cursor, Image, Target},
    copy::{Budget, Copy, CopyError, Pace},
    error::{ErrorName, Named},
    layer::download_client,
    manifest::{ManifestError, walk},
    registry::Registries,
    serve::Deadline,
};
use tracing::info;

/// The most memory that layers may take, in MiB, however much the function has: four layers with parts of 10 MiB.
const MOST_MEMORY: u32 = 200;

/// What the function works with.
#[derive(Debug)]
pub struct Dependencies {
    registries: Registries,
    client: reqwest::Client,
    budget: Budget,
}

impl Dependencies {
    /// For a function of `memory` MiB, of which layers may take half.
    ///
    /// # Errors
    /// When the system's TLS roots cannot be loaded.
    pub fn new(registries: Registries, memory: i32) -> Result<Self, reqwest::Error> {
        let memory = u32::try_from(memory / 2).unwrap_or_default().min(MOST_MEMORY);
        Ok(Self { registries, client: download_client()?, budget: Budget::new(memory) })
    }
}

/// What the function is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// The execution's name, for the logs.
    pub execution: String,
    /// What is copied.
    pub image: Image,
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
    /// A layer could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

impl Named for Error {
    fn name(&self) -> ErrorName {
        match self {
            Self::Manifest(error) => error.name(),
            Self::Copy(error) => error.name(),
        }
    }
}

/// Copies what the target misses.
///
/// # Errors
/// `ImageNotFound` when the source lost the image, and those of [`Copy::run`].
pub async fn handle(dependencies: &Dependencies, input: Input, deadline: Deadline) -> Result<Copied, Error> {
    let Input { execution, image, target, layers: _, cursor } = input;
    let source = dependencies.registries.repository(&image.region, &image.repository);
    let target = dependencies.registries.repository(&target.region, &target.repository);
    let tree = walk(&source, &image.digest).await?;
    let copy = Copy {
        source: &source,
        target: &target,
        client: &dependencies.client,
        budget: &dependencies.budget,
        deadline,
        pace: Pace::default(),
    };
    let copied = copy.run(&tree.blobs, tree.foreign, cursor.unwrap_or_default()).await?;
    info!(
        execution,
        region = %target.region(),
        repository = %target.name(),
        digest = %image.digest,
        done = copied.done,
        layers_copied = copied.cursor.layers_copied,
        bytes_copied = copied.cursor.bytes_copied,
        uploads_under_way = copied.cursor.uploads.len(),
        "layers copied"
    );
    Ok(copied)
}
