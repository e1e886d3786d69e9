//! What manifests of the source refer to.

use std::slice;

use shared::{
    error::{Class, ErrorName, Named as _, chain},
    manifest::References,
    names::Digest,
    patience::Patience,
    registry::{RegistryError, Repository},
};
use tracing::warn;

use crate::source::Sha;

/// How many manifests one call gives: BatchGetImage's documented limit.
const MANIFESTS_AT_ONCE: usize = 100;

/// Hands what each of the manifests `digests` refers to to `take`, in no order. One that is gone, or cannot be read, refers to
/// nothing: it is not what keeps the others from being compared.
///
/// # Errors
/// `ImageNotFound` when the repository is gone, `RegistryThrottled`, `RegistryUnavailable`.
pub(crate) async fn read(
    source: &Repository,
    digests: &[Digest],
    patience: &Patience,
    mut take: impl FnMut(Sha, References),
) -> Result<(), RegistryError> {
    for digests in digests.chunks(MANIFESTS_AT_ONCE) {
        let manifests = match patience.ask(source, async || source.manifests(digests).await).await {
            Err(error) if !is_of_all(&error) => {
                let mut manifests = Vec::new();
                for digest in digests {
                    let alone = slice::from_ref(digest);
                    match patience.ask(source, async || source.manifests(alone).await).await {
                        Err(error) if is_of_all(&error) => return Err(error),
                        Err(error) => warn_of(source, digest, &chain(&error)),
                        Ok(manifest) => manifests.extend(manifest),
                    }
                }
                manifests
            }
            manifests => manifests?,
        };
        for manifest in manifests {
            match manifest.references() {
                Ok(references) => take(Sha::from(&manifest.digest), references),
                Err(error) => warn_of(source, &manifest.digest, &chain(&error)),
            }
        }
    }
    Ok(())
}

/// Whether an error says nothing of a single manifest: asking for others comes to the same.
fn is_of_all(error: &RegistryError) -> bool {
    error.name() == ErrorName::ImageNotFound || error.name().class() == Class::Retry
}

fn warn_of(source: &Repository, digest: &Digest, cause: &str) {
    warn!(region = %source.region(), repository = %source.name(), %digest, cause, "a manifest cannot be read");
}
