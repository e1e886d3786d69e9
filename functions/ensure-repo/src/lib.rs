//! EnsureRepository: the target repository exists, with the settings that it is to have.

use std::{collections::BTreeMap, time::Instant};

use jiff::{SignedDuration, Timestamp};
use shared::{
    contract::{Ensured, Image, RepositorySettings, SettingChange, SettingsMode, Target, TargetInput, milliseconds},
    error::{ErrorName, Named, chain, shorten},
    names::{Region, RepositoryName},
    registry::{Described, Registries, RegistryError, Repository},
    settings::{Change, Difference, INCOMPLETE, Settings, SourceSettings, shortened},
};
use tracing::info;

/// How old a repository may be that is looked at for that tag: looking is a call, and one that is older was completed, or its
/// execution cannot be redriven any more.
const YOUNG: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The most tags that a repository may have.
const MOST_TAGS: usize = 50;

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
    /// It could not be made, for it was there already, and was not there.
    #[error(
        "the repository {repository} in {region} exists, says CreateRepository, and does not, says DescribeRepositories"
    )]
    TargetUnseen {
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
            Self::TargetUnseen { .. } => ErrorName::RegistryUnavailable,
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
    let (started, throttled) = (Instant::now(), registries.throttled());
    let TargetInput { execution, image, target: wanted, started_at, repository_settings, .. } = input;
    let target = registries.target(&wanted).await;
    let mut ensuring = Ensuring {
        source: registries.repository(&image.region, &image.repository),
        target,
        execution,
        image,
        own: repository_settings,
        settings: Vec::new(),
    };
    // Boxed: its calls are many, and each has a place in it.
    let created = Box::pin(ensuring.ensure(&wanted, started_at)).await?;
    let Ensuring { target, execution, image, settings, .. } = ensuring;
    let ensured = Ensured {
        created,
        settings: shortened(settings),
        duration_ms: milliseconds(started.elapsed()),
        throttled: registries.throttled() - throttled,
    };
    info!(
        execution,
        region = %target.region(),
        repository = %target.name(),
        digest = %image.digest,
        created,
        settings = ensured.settings.len(),
        duration_ms = ensured.duration_ms,
        throttled = ensured.throttled,
        "the repository is there"
    );
    Ok(ensured)
}

/// A target repository that is seen to.
struct Ensuring {
    source: Repository,
    target: Repository,
    /// The execution's name.
    execution: String,
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
            let mut wanted = source.wanted(self.own.clone(), key, None);
            let has_policies = wanted.lifecycle_policy.is_some() || wanted.repository_policy.is_some();
            if has_policies {
                // Where there are as many tags as there may be, one makes room, and comes when the mark goes.
                if wanted.tags.len() >= MOST_TAGS {
                    wanted.tags.pop_last();
                }
                wanted.tags.insert(INCOMPLETE.to_owned(), self.execution.clone());
            }
            if let Some(made) = self.target.create(&wanted).await? {
                if has_policies {
                    let tags = wanted.tags;
                    let wanted = source.wanted(self.own.clone(), key, Some(&made.place));
                    self.finish(&made, tags, (None, None), wanted).await?;
                }
                return Ok(true);
            }
            // Another run was faster, or an attempt whose answer was lost.
            described = self.target.describe().await?;
        }
        // Deleted again, or not to be seen yet: the next attempt finds out.
        let Some(described) = described else {
            let (repository, region) = (target.repository.clone(), target.region.clone());
            return Err(Error::TargetUnseen { repository, region });
        };
        if target.settings == SettingsMode::Sync {
            self.sync(described, key).await?;
        } else if is_young(&described, started_at) {
            self.complete(&described, key).await?;
        }
        Ok(false)
    }

    /// An attempt before this one, or another run, may have made the repository and not have come to its policies.
    async fn complete(&mut self, described: &Described, key: Option<&str>) -> Result<(), Error> {
        let Some(tags) = self.target.resource_tags(described).await? else { return Ok(()) };
        if !tags.contains_key(INCOMPLETE) {
            return Ok(());
        }
        let source = self.source_settings().await?;
        let wanted = source.wanted(self.own.clone(), key, Some(&described.place));
        // None where it was deleted again: what comes after this step tells.
        let Some(policies) = self.target.policies().await? else { return Ok(()) };
        self.finish(described, tags, policies, wanted).await
    }

    /// Sets the policies of a repository that is marked with `tags`, and takes the mark away. Then it has its policies, or it
    /// was told which of them it cannot have.
    async fn finish(
        &mut self,
        described: &Described,
        tags: BTreeMap<String, String>,
        policies: (Option<String>, Option<String>),
        mut wanted: Settings,
    ) -> Result<(), Error> {
        let mut left_out = std::mem::take(&mut wanted.tags);
        if left_out.len() < MOST_TAGS {
            left_out.clear();
        }
        left_out.retain(|key, _| !tags.contains_key(key));
        self.set_policies(described, policies, wanted).await?;
        self.unmark(described, left_out).await
    }

    async fn unmark(&self, described: &Described, left_out: BTreeMap<String, String>) -> Result<(), Error> {
        let change = Change::Tags(left_out, vec![INCOMPLETE.to_owned()]);
        Ok(self.target.change(described, change).await?)
    }

    /// Brings a repository that exists to what it is to be.
    async fn sync(&mut self, described: Described, key: Option<&str>) -> Result<(), Error> {
        let source = self.source_settings().await?;
        let wanted = source.wanted(self.own.clone(), key, Some(&described.place));
        let Some(mut has) = self.target.settings(described.clone()).await? else { return Ok(()) };
        // What is missing of it is set here, now or by the next run.
        if has.tags.remove(INCOMPLETE).is_some() {
            self.unmark(&described, BTreeMap::new()).await?;
        }
        for difference in has.differences(&wanted, &described.place.registry_id) {
            let mut told = difference.told.clone();
            match self.mend(&described, difference).await {
                // What was changed before, only this attempt can tell; and an image does not wait for what a role may not do.
                Err(error)
                    if error.name() == ErrorName::AccessDenied
                        || self.settings.iter().any(|it| it.refused.is_none()) =>
                {
                    told.refused = Some(shorten(&chain(&error), REFUSAL_LIMIT));
                    self.tell(told);
                }
                mended => mended?,
            }
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
        self.tell(told);
        Ok(())
    }

    fn tell(&mut self, told: SettingChange) {
        info!(region = %self.target.region(), repository = %self.target.name(), ?told, "a setting differed");
        self.settings.push(told);
    }

    async fn source_settings(&self) -> Result<SourceSettings, Error> {
        let gone =
            || Error::SourceNotFound { repository: self.image.repository.clone(), region: self.image.region.clone() };
        let described = self.source.describe().await?.ok_or_else(gone)?;
        let place = described.place.clone();
        let settings = self.source.settings(described).await?.ok_or_else(gone)?;
        Ok(SourceSettings { place, settings })
    }
}

/// Whether the repository is so young that it may yet have to get its policies.
fn is_young(described: &Described, started_at: Option<Timestamp>) -> bool {
    let times = described.created_at.zip(started_at);
    times.is_none_or(|(created_at, started_at)| started_at.duration_since(created_at) < YOUNG)
}
