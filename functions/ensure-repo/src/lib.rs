//! EnsureRepository: the target repository exists, made in the source's likeness where it did not.

use std::time::Instant;

use shared::{
    contract::{Ensured, TargetInput, milliseconds},
    error::{ErrorName, Named},
    names::{Region, RepositoryName},
    registry::{Registries, RegistryError},
};
use tracing::info;

/// Why the target repository is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source repository was deleted meanwhile, and the image with it.
    #[error("the source repository {repository} in {region} does not exist")]
    SourceNotFound {
        /// The repository.
        repository: RepositoryName,
        /// The source region.
        region: Region,
    },
    /// A call failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Named for Error {
    fn name(&self) -> ErrorName {
        match self {
            Self::SourceNotFound { .. } => ErrorName::ImageNotFound,
            Self::Registry(error) => error.name(),
        }
    }
}

/// Makes the target repository unless it exists.
///
/// # Errors
/// `ImageNotFound` when the source repository is gone, `AccessDenied`, `InvalidInput`, `QuotaExceeded`,
/// `RegistryThrottled`, `RegistryUnavailable`.
pub async fn handle(registries: &Registries, input: TargetInput) -> Result<Ensured, Error> {
    let started = Instant::now();
    let TargetInput { execution, image, target, .. } = input;
    let target = registries.repository(&target.region, &target.repository);
    let created = if target.exists().await? {
        false
    } else {
        let source = registries.repository(&image.region, &image.repository);
        let Some(settings) = source.settings().await? else {
            return Err(Error::SourceNotFound { repository: image.repository, region: image.region });
        };
        target.create(settings).await?
    };
    let ensured = Ensured { created, duration_ms: milliseconds(started.elapsed()) };
    info!(execution, region = %target.region(), repository = %target.name(), ?ensured, "the repository is there");
    Ok(ensured)
}
