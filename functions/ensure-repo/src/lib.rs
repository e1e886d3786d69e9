//! EnsureRepository: the target repository exists, made in the source's likeness where it did not.

use std::time::Instant;

use shared::{
    contract::{Ensured, TargetInput},
    error::{ErrorName, Named},
    names::{Region, RepositoryName},
    registry::{Registries, RegistryError},
};

/// Why the target repository is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source repository was deleted meanwhile.
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
            Self::SourceNotFound { .. } => ErrorName::RepositoryNotFound,
            Self::Registry(error) => error.name(),
        }
    }
}

/// Makes the target repository unless it exists.
///
/// # Errors
/// `RepositoryNotFound` when the source repository is gone, `AccessDenied`, `InvalidInput`, `QuotaExceeded`,
/// `RegistryThrottled`, `RegistryUnavailable`.
pub async fn handle(registries: &Registries, TargetInput { image, target, .. }: TargetInput) -> Result<Ensured, Error> {
    let started = Instant::now();
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
    Ok(Ensured { created, duration_ms: shared::contract::milliseconds(started.elapsed()) })
}
