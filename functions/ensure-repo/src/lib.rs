//! EnsureRepository: the target repository exists, with the settings that it is to have.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use shared::{
    contract::{Ensured, Image, RepositorySettings, SettingChange, SettingsMode, Target, TargetInput, milliseconds},
    error::{ErrorName, Named, chain, shorten},
    names::{Region, RepositoryName},
    registry::{Described, Registries, RegistryError, Repository},
    settings::{Difference, Place, Settings},
};
use tracing::info;

/// By how much the clocks of Step Functions and of ECR may differ.
const CLOCK_MARGIN: SignedDuration = SignedDuration::from_mins(1);

/// The most that a report repeats of why a setting was refused, in bytes.
const REFUSAL_LIMIT: usize = 256;

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
    /// The target repository is not there, and is not to be made here.
    #[error(
        "the repository {repository} in {region} does not exist, and the target's settings are `none`: make it, then redrive"
    )]
    TargetNotFound {
        /// The repository.
        repository: RepositoryName,
        /// The target region.
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
            Self::TargetNotFound { .. } => ErrorName::RepositoryNotFound,
            Self::Registry(error) => error.name(),
        }
    }
}

/// Makes the target repository unless it exists, and sees to its settings as the target's mode has it.
///
/// # Errors
/// `ImageNotFound` when the source repository is gone, `RepositoryNotFound` when the target repository is not there and is
/// not to be made, `AccessDenied`, `InvalidInput`, `QuotaExceeded`, `RegistryThrottled`, `RegistryUnavailable`.
pub async fn handle(registries: &Registries, input: TargetInput) -> Result<Ensured, Error> {
    let started = Instant::now();
    let TargetInput { execution, image, target: wanted, started_at, repository_settings, .. } = input;
    let target = registries.target(&wanted).await;
    let mut ensuring = Ensuring {
        source: registries.repository(&image.region, &image.repository),
        target,
        image,
        own: repository_settings,
        settings: Vec::new(),
    };
    // Boxed: its calls are many, and each has a place in it.
    let created = Box::pin(ensuring.ensure(&wanted, started_at)).await?;
    let Ensuring { target, settings, .. } = ensuring;
    let ensured = Ensured { created, settings, duration_ms: milliseconds(started.elapsed()) };
    info!(execution, region = %target.region(), repository = %target.name(), ?ensured, "the repository is there");
    Ok(ensured)
}

/// A target repository that is seen to.
struct Ensuring {
    source: Repository,
    target: Repository,
    image: Image,
    /// The rule's own settings.
    own: Option<RepositorySettings>,
    /// The settings that were not what they should be.
    settings: Vec<SettingChange>,
}

impl Ensuring {
    /// Whether the repository was made.
    async fn ensure(&mut self, target: &Target, started_at: Option<Timestamp>) -> Result<bool, Error> {
        let key = target.kms_key_arn.as_deref();
        let mut described = self.target.describe().await?;
        if target.settings == SettingsMode::None {
            let (repository, region) = (target.repository.clone(), target.region.clone());
            return described.map(|_| false).ok_or(Error::TargetNotFound { repository, region });
        }
        if described.is_none() {
            let source = self.source_settings().await?;
            if let Some(made) = self.target.create(&source.wanted(self.own.clone(), key, None)).await? {
                let wanted = source.wanted(self.own.clone(), key, Some(&made.place));
                self.set_policies(&made, (None, None), wanted).await?;
                return Ok(true);
            }
            // Another run was faster.
            described = self.target.describe().await?;
        }
        // Deleted again, or not to be seen yet: the steps after this one tell.
        let Some(described) = described else { return Ok(false) };
        if target.settings == SettingsMode::Sync {
            self.sync(described, key).await?;
        } else if is_of_this_execution(&described, started_at) {
            self.complete(&described, key).await?;
        }
        Ok(false)
    }

    /// An attempt before this one, or another run, made the repository and may not have come to its policies.
    async fn complete(&mut self, described: &Described, key: Option<&str>) -> Result<(), Error> {
        let source = self.source_settings().await?;
        let wanted = source.wanted(self.own.clone(), key, Some(&described.place));
        // None where it was deleted again: what comes after this step tells.
        let Some(policies) = self.target.policies().await? else { return Ok(()) };
        self.set_policies(described, policies, wanted).await
    }

    /// Brings a repository that exists to what it is to be.
    async fn sync(&mut self, described: Described, key: Option<&str>) -> Result<(), Error> {
        let source = self.source_settings().await?;
        let wanted = source.wanted(self.own.clone(), key, Some(&described.place));
        let Some(has) = self.target.settings(described.clone()).await? else { return Ok(()) };
        for difference in has.differences(&wanted, &described.place.registry_id) {
            self.mend(&described, difference).await?;
        }
        Ok(())
    }

    /// Sets the policies that a new repository is to have and does not.
    async fn set_policies(
        &mut self,
        described: &Described,
        (lifecycle_policy, repository_policy): (Option<String>, Option<String>),
        wanted: Settings,
    ) -> Result<(), Error> {
        let has = Settings { lifecycle_policy, repository_policy, ..wanted.clone() };
        for difference in has.differences(&wanted, &described.place.registry_id) {
            // What somebody has set meanwhile stays.
            if difference.told.before.is_none() {
                self.mend(described, difference).await?;
            }
        }
        // That a new repository has what it is to have is no news.
        self.settings.retain(|setting| setting.refused.is_some());
        Ok(())
    }

    /// Changes one setting, and tells of it. One that the registry does not take keeps no image from going there.
    async fn mend(&mut self, described: &Described, difference: Difference) -> Result<(), Error> {
        let Difference { mut told, change } = difference;
        if let Some(change) = change {
            match self.target.change(described, change).await {
                Err(error) if error.name() == ErrorName::InvalidInput => {
                    told.refused = Some(shorten(&chain(&error), REFUSAL_LIMIT));
                }
                changed => changed?,
            }
        }
        info!(region = %self.target.region(), repository = %self.target.name(), ?told, "a setting differed");
        self.settings.push(told);
        Ok(())
    }

    async fn source_settings(&self) -> Result<Source, Error> {
        let gone =
            || Error::SourceNotFound { repository: self.image.repository.clone(), region: self.image.region.clone() };
        let described = self.source.describe().await?.ok_or_else(gone)?;
        let place = described.place.clone();
        let settings = self.source.settings(described).await?.ok_or_else(gone)?;
        Ok(Source { place, settings })
    }
}

/// The source repository.
struct Source {
    place: Place,
    settings: Settings,
}

impl Source {
    /// What the target repository is to have. Where it is comes with it once it is there: only then its account is known.
    fn wanted(&self, own: Option<RepositorySettings>, key: Option<&str>, target: Option<&Place>) -> Settings {
        self.settings.clone().for_target(own, key, &self.place, target.unwrap_or(&self.place))
    }
}

/// Whether the repository was made since the execution was started.
fn is_of_this_execution(described: &Described, started_at: Option<Timestamp>) -> bool {
    let margin = |started_at: Timestamp| started_at.checked_sub(CLOCK_MARGIN).unwrap_or(started_at);
    described.created_at.zip(started_at).is_some_and(|(created, started)| created >= margin(started))
}
