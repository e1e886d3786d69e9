//! One repository of one region, through the ECR API.
//!
//! No SDK type and no SDK error leaves this module. Every documented "already exists" is a success here, and every
//! error has a name, a region, a repository and the call that it came from.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    error::Error as StdError,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_config::{SdkConfig, sts::AssumeRoleProvider};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_ecr::{
    Client,
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        http::HttpResponse,
        interceptors::{
            AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextMut, InterceptorContext,
        },
        retry::{ClassifyRetry, RetryAction},
    },
    error::{BoxError, ProvideErrorMetadata, SdkError},
    operation::{
        complete_layer_upload::CompleteLayerUploadError, create_repository::CreateRepositoryError,
        delete_lifecycle_policy::DeleteLifecyclePolicyError, delete_repository_policy::DeleteRepositoryPolicyError,
        describe_images::DescribeImagesError, describe_repositories::DescribeRepositoriesError,
        get_lifecycle_policy::GetLifecyclePolicyError, get_repository_policy::GetRepositoryPolicyError,
        put_image::PutImageError, put_image::builders::PutImageFluentBuilder, upload_layer_part::UploadLayerPartError,
    },
    primitives::Blob,
    types::{
        EncryptionConfiguration, EncryptionType, ImageFailureCode, ImageIdentifier, ImageScanningConfiguration,
        ImageStatus, ImageTagMutability, ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType,
        LayerAvailability, LayerFailureCode, SubjectIdentifier, Tag,
    },
};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_smithy_runtime_api::client::result::ServiceError;
use aws_smithy_types::{
    body::SdkBody,
    retry::{ErrorKind, RetryConfig},
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future::join, stream};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::Mutex as AsyncMutex;
use tracing::warn;

use crate::{
    contract::{TagMutability, Target},
    error::{ErrorName, Named, chain, shorten},
    manifest::{MEDIA_TYPES, Manifest, is_index},
    names::{Digest, ImageTag, MalformedName, Region, RegistryId, RepositoryName, RoleArn},
    settings::{Change, Encryption, Place, Settings},
};

/// How many digests one call may ask for: BatchCheckLayerAvailability's and BatchGetImage's documented limit.
const BATCH: usize = 100;

/// How many such calls run at once. An image of thousands of layers is rare, and 1,000 a second are allowed.
const BATCHES_AT_ONCE: usize = 8;

/// How many batches of manifests are read at once: each may be [`ANSWER_LIMIT`] bytes, twice in memory while it is parsed.
const MANIFEST_BATCHES_AT_ONCE: usize = 2;

/// The most that is read of one answer, in MiB: a manifest of the most that ECR stores, however its JSON is escaped, and
/// thousands of manifests as they are.
const ANSWER_LIMIT: usize = 16;

/// The most characters that a manifest may have: PutImage's documented limit.
const MANIFEST_LIMIT: usize = 4 * 1024 * 1024;

/// The most that the manifests of one call for many may have together, in MiB: they are all in memory.
pub(crate) const MANIFESTS_LIMIT: usize = 32;

/// The largest part that is sent, in bytes: UploadLayerPart's documented limit.
const PART_LIMIT: u64 = 20 * 1024 * 1024;

/// How many pages of a list are read: a million images in DescribeImages.
const PAGES: usize = 1000;

/// How many entries of a list are kept: as many images as a repository has, by AWS's default.
const ENTRIES: usize = 100_000;

/// How many referrers come with one answer: ListImageReferrers' documented limit.
const REFERRERS_PAGE: i32 = 50;

/// How many images come with one answer: DescribeImages' documented limit.
const IMAGES_PAGE: i32 = 1000;

/// How many repositories come with one answer: DescribeRepositories' documented limit.
const REPOSITORIES_PAGE: i32 = 1000;

/// The most of an error's message and of its code that is kept, in bytes.
const MESSAGE_LIMIT: usize = 1024;
const CODE_LIMIT: usize = 128;

/// The longest media type and upload id that are carried through the state machine, in bytes. A type may have 127 on each
/// side of its slash, and an id is a UUID.
const MEDIA_TYPE_LIMIT: usize = 255;
const UPLOAD_ID_LIMIT: usize = 255;

/// How long before its end an authorization is renewed: more than a function may run.
const AUTHORIZATION_MARGIN: SignedDuration = SignedDuration::from_mins(20);

/// What a role's sessions are called, in the trail of the account that it belongs to.
const SESSION_NAME: &str = "ecr-replicator";

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation}{} in {region}{} failed", on_repository(repository.as_ref()), of_registry(registry_id.as_ref()))]
pub struct RegistryError {
    name: ErrorName,
    operation: &'static str,
    region: Region,
    registry_id: Option<RegistryId>,
    repository: Option<RepositoryName>,
    source: Box<dyn StdError + Send + Sync>,
}

/// On which repository, where it was one.
fn on_repository(name: Option<&RepositoryName>) -> String {
    name.map(|name| format!(" on {name}")).unwrap_or_default()
}

/// Whose registry it is, where that is not the functions' own account.
fn of_registry(registry_id: Option<&RegistryId>) -> String {
    registry_id.map(|id| format!(" of the account {id}")).unwrap_or_default()
}

impl Named for RegistryError {
    fn name(&self) -> ErrorName {
        self.name
    }
}

/// What a registry answered.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
struct Answer {
    code: String,
    message: String,
}

/// A repository that exists: what one call tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Where it is.
    pub place: Place,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    arn: String,
    tag_mutability: TagMutability,
    tag_mutability_exclusions: Vec<String>,
    scan_on_push: bool,
    encryption: Encryption,
}

/// An image as a list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its digest.
    pub digest: Digest,
    /// Its tags.
    pub tags: Vec<ImageTag>,
    /// When it was pushed.
    pub pushed_at: Option<Timestamp>,
    /// Whether it is an index, also called a manifest list.
    pub is_index: bool,
    /// The digest that it refers to, as a signature or an SBOM does.
    pub subject: Option<Digest>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub entries: Vec<T>,
    /// The token of the next one, if there is one.
    pub next: Option<String>,
}

/// An upload that the registry opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    /// Its id.
    pub id: String,
    /// The size of parts that the registry asks for, in bytes.
    pub part_size: u64,
}

/// What became of a layer part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The registry has it.
    Received,
    /// The registry expects another byte next; unknown where it did not say which.
    OutOfOrder {
        /// The bytes that it has.
        received: Option<u64>,
    },
    /// The registry does not know the upload.
    UploadLost,
}

/// What became of an upload that was completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completed {
    /// The layer is there: by this upload or by another.
    Stored,
    /// The registry does not know the upload, or has no byte of it.
    UploadLost,
}

/// What became of a manifest that was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutImage {
    /// It is there now, or its tag is.
    Changed,
    /// It was there, with this tag.
    Unchanged,
    /// The tag is immutable and taken: by this image or by another.
    TagTaken,
}

/// Where a registry takes streams, and the credential for it.
#[derive(Clone)]
pub struct Authorization {
    /// The registry's URL.
    pub endpoint: String,
    /// What the HTTP header `Authorization` says after `Basic`: a secret.
    pub credential: String,
    expires_at: Timestamp,
}

impl fmt::Debug for Authorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authorization").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Where a blob can be read: a secret.
pub struct DownloadUrl(String);

impl DownloadUrl {
    /// The URL as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DownloadUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DownloadUrl").finish_non_exhaustive()
    }
}

/// Throttling as ECR answers it: neither the status nor the name is in its model, so the SDK alone would not try again.
/// A quota that is used up is none, though elsewhere in AWS its name is one of throttling.
#[derive(Debug)]
struct Throttling;

/// An error as it is answered; what it does not have is "".
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answered {
    #[serde(rename = "__type")]
    code: String,
    /// What KMS answered ECR.
    #[serde(rename = "kmsError")]
    kms_error: String,
}

fn answered(answer: &HttpResponse) -> Answered {
    answer.body().bytes().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default()
}

/// Whether an answer says that ECR is asked too often, or the key of a repository: that answers everyone who uses it.
fn is_throttled(answer: &HttpResponse) -> bool {
    let Answered { code, kms_error } = answered(answer);
    let code = code.rsplit_once('#').map_or(code.as_str(), |(_, code)| code);
    kms_error.contains("Throttling") || name_of("", code, answer.status().as_u16()) == ErrorName::RegistryThrottled
}

impl ClassifyRetry for Throttling {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(response) = context.response() else { return RetryAction::NoActionIndicated };
        let Answered { code, .. } = answered(response);
        if response.status().as_u16() == 429 || code.ends_with("ThrottleException") {
            RetryAction::retryable_error(ErrorKind::ThrottlingError)
        } else if code.ends_with("LimitExceededException") {
            RetryAction::RetryForbidden
        } else {
            RetryAction::NoActionIndicated
        }
    }

    fn name(&self) -> &'static str {
        "ECR throttling"
    }
}

/// Reads no answer further than [`ANSWER_LIMIT`]: the SDK has each in memory, whole, errors too.
#[derive(Debug)]
struct AnswerLimit;

/// An answer that is longer than any that ECR documents.
#[derive(Debug, thiserror::Error)]
#[error("the answer has more than {ANSWER_LIMIT} MiB")]
struct AnswerTooLong;

impl Intercept for AnswerLimit {
    fn name(&self) -> &'static str {
        "answer limit"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response_mut().body_mut();
        let limited = Limited::new(std::mem::replace(body, SdkBody::taken()), ANSWER_LIMIT * 1024 * 1024);
        *body = SdkBody::from_body_1_x(limited.map_err(|error| -> BoxError {
            if error.is::<LengthLimitError>() { AnswerTooLong.into() } else { error }
        }));
        Ok(())
    }
}

/// Counts the answers of throttling, those after which the SDK itself tries again among them: nothing else would tell of them.
#[derive(Debug, Clone, Default)]
struct Throttles(Arc<AtomicU64>);

impl Throttles {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Intercept for Throttles {
    fn name(&self) -> &'static str {
        "throttles"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        if !answer.status().is_success() && is_throttled(answer) {
            self.count();
        }
        Ok(())
    }
}

/// What there is for one registry and one role, for as long as the process lives.
#[derive(Debug, Clone)]
struct Reached {
    client: Client,
    authorization: Arc<AsyncMutex<Option<Authorization>>>,
}

/// A registry, and as whom it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Reach {
    region: Region,
    registry_id: Option<RegistryId>,
    role_arn: Option<RoleArn>,
    external_id: Option<String>,
}

/// The registries that images come from and go to, one client for each.
#[derive(Debug)]
pub struct Registries {
    config: SdkConfig,
    source: Region,
    reached: Mutex<HashMap<Reach, Reached>>,
    throttles: Throttles,
}

impl Registries {
    /// The registries that `config` reaches; its region is the source.
    ///
    /// # Errors
    /// When it has no region, or none that is one.
    pub fn new(config: SdkConfig) -> Result<Self, Box<dyn StdError + Send + Sync>> {
        let region = config.region().ok_or("no region: AWS_REGION is not set")?;
        let source = region.as_ref().parse()?;
        Ok(Self { config, source, reached: Mutex::default(), throttles: Throttles::default() })
    }

    /// The region that this runs in, which images come from.
    #[must_use]
    pub fn source(&self) -> &Region {
        &self.source
    }

    /// How often registries have answered this process that they are asked too often. A process has one invocation at a time:
    /// what is added meanwhile is that one's.
    #[must_use]
    pub fn throttled(&self) -> u64 {
        self.throttles.0.load(Ordering::Relaxed)
    }

    /// The source repository `name` of `region`, in the functions' own account. Where it is not there, neither is the image:
    /// its errors say `ImageNotFound`, and never `RepositoryNotFound`.
    #[must_use]
    pub fn repository(&self, region: &Region, name: &RepositoryName) -> Repository {
        let reach = Reach { region: region.clone(), registry_id: None, role_arn: None, external_id: None };
        Repository { is_source: true, ..self.reach(reach, name, None) }
    }

    /// A page of the source region's repositories, in the functions' own account: the first one without a token. In the order
    /// that ECR has.
    ///
    /// # Errors
    /// `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`, `InvalidInput` when ECR does not know the token any more.
    pub async fn source_repositories(&self, token: Option<String>) -> Result<Page<RepositoryName>, RegistryError> {
        const OPERATION: &str = "DescribeRepositories";
        let reach = Reach { region: self.source.clone(), registry_id: None, role_arn: None, external_id: None };
        let list = self.reached(&reach, None).client.describe_repositories();
        let listed = list.max_results(REPOSITORIES_PAGE).set_next_token(token).send().await;
        let failed = |(name, source)| RegistryError {
            name,
            operation: OPERATION,
            region: self.source.clone(),
            registry_id: None,
            repository: None,
            source,
        };
        let page = listed.map_err(|error| failed(judged(OPERATION, error)))?;
        let names = page.repositories.unwrap_or_default().into_iter();
        let names = names.filter_map(|repository| {
            let name = repository.repository_name.unwrap_or_default().parse();
            name.inspect_err(|error| left_out(&self.source, None, error)).ok()
        });
        Ok(Page { entries: names.collect(), next: page.next_token })
    }

    /// The repository of `target`, in its account, as its role. Roles are assumed by the first call.
    pub async fn target(&self, target: &Target) -> Repository {
        let reach = Reach {
            region: target.region.clone(),
            registry_id: target.registry_id.clone(),
            role_arn: target.role_arn.clone(),
            external_id: target.external_id.clone(),
        };
        let is_known = self.reached.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&reach);
        let credentials = match &target.role_arn {
            Some(role) if !is_known => {
                let mut provider = AssumeRoleProvider::builder(role.as_str()).session_name(SESSION_NAME);
                if let Some(id) = &target.external_id {
                    provider = provider.external_id(id);
                }
                // Boxed: it is large, and hardly ever needed.
                let provider = Box::pin(provider.configure(&self.config).build()).await;
                Some(SharedCredentialsProvider::new(provider))
            }
            _ => None,
        };
        self.reach(reach, &target.repository, credentials)
    }

    /// `credentials` are those of a registry that is reached for the first time; the functions' own where there are none.
    fn reach(&self, reach: Reach, name: &RepositoryName, credentials: Option<SharedCredentialsProvider>) -> Repository {
        let Reached { client, authorization } = self.reached(&reach, credentials);
        let Reach { region, registry_id, role_arn, .. } = reach;
        let (name, throttles) = (name.clone(), self.throttles.clone());
        Repository { client, authorization, throttles, region, registry_id, role_arn, name, is_source: false }
    }

    fn reached(&self, reach: &Reach, credentials: Option<SharedCredentialsProvider>) -> Reached {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached
            .entry(reach.clone())
            .or_insert_with(|| {
                let region = aws_config::Region::new(reach.region.as_str().to_owned());
                let config = aws_sdk_ecr::config::Builder::from(&self.config).region(region);
                let config = config.retry_classifier(Throttling).interceptor(AnswerLimit);
                let mut config = config.interceptor(self.throttles.clone());
                config.set_credentials_provider(credentials.or_else(|| self.config.credentials_provider()));
                Reached { client: Client::from_conf(config.build()), authorization: Arc::default() }
            })
            .clone()
    }
}

/// A repository of one registry.
#[derive(Debug, Clone)]
pub struct Repository {
    client: Client,
    authorization: Arc<AsyncMutex<Option<Authorization>>>,
    throttles: Throttles,
    region: Region,
    registry_id: Option<RegistryId>,
    role_arn: Option<RoleArn>,
    name: RepositoryName,
    /// Whether images are read from it: without that repository, there is no image.
    is_source: bool,
}

impl Repository {
    /// Its region.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Counts an answer of throttling that did not come through the ECR API.
    pub(crate) fn count_throttle(&self) {
        self.throttles.count();
    }

    /// The account whose registry it is, unless that is the caller's.
    fn registry_id(&self) -> Option<String> {
        self.registry_id.clone().map(String::from)
    }

    /// What there is of it; `None` when it does not exist.
    ///
    /// # Errors
    /// `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn describe(&self) -> Result<Option<Described>, RegistryError> {
        let described = self
            .client
            .describe_repositories()
            .set_registry_id(self.registry_id())
            .repository_names(self.name.as_str())
            .send()
            .await;
        match described {
            Ok(described) => {
                let repository = described.repositories.unwrap_or_default().into_iter().next();
                repository.map(|repository| self.described("DescribeRepositories", repository)).transpose()
            }
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(DescribeRepositoriesError::is_repository_not_found_exception) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.failed("DescribeRepositories", error)),
        }
    }

    fn described(
        &self,
        operation: &'static str,
        repository: aws_sdk_ecr::types::Repository,
    ) -> Result<Described, RegistryError> {
        let invalid =
            |message: String| self.refused(operation, ErrorName::RegistryUnavailable, "InvalidAnswer", &message);
        let registry_id: RegistryId = repository
            .registry_id
            .unwrap_or_default()
            .parse()
            .map_err(|error: MalformedName| invalid(error.to_string()))?;
        let tag_mutability = match repository.image_tag_mutability {
            None | Some(ImageTagMutability::Mutable) => TagMutability::Mutable,
            Some(ImageTagMutability::Immutable) => TagMutability::Immutable,
            Some(ImageTagMutability::ImmutableWithExclusion) => TagMutability::ImmutableWithExclusion,
            Some(ImageTagMutability::MutableWithExclusion) => TagMutability::MutableWithExclusion,
            Some(other) => return Err(invalid(format!("the tag mutability {other}"))),
        };
        let exclusions = repository.image_tag_mutability_exclusion_filters.unwrap_or_default();
        let encryption = repository.encryption_configuration;
        Ok(Described {
            place: Place { region: self.region.clone(), registry_id },
            created_at: repository.created_at.and_then(|time| Timestamp::from_second(time.secs()).ok()),
            arn: repository.repository_arn.unwrap_or_default(),
            tag_mutability,
            tag_mutability_exclusions: exclusions.into_iter().map(|exclusion| exclusion.filter).collect(),
            scan_on_push: repository.image_scanning_configuration.is_some_and(|scanning| scanning.scan_on_push),
            encryption: Encryption {
                kind: encryption.as_ref().map_or("AES256", |it| it.encryption_type.as_str()).to_owned(),
                key: encryption.and_then(|encryption| encryption.kms_key),
            },
        })
    }

    /// The settings of the repository that was `described`; `None` when it was deleted since.
    ///
    /// # Errors
    /// `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn settings(&self, described: Described) -> Result<Option<Settings>, RegistryError> {
        let (tags, policies) = join(self.resource_tags(&described), self.policies()).await;
        let (Some(tags), Some((lifecycle_policy, repository_policy))) = (tags?, policies?) else { return Ok(None) };
        Ok(Some(Settings {
            tag_mutability: described.tag_mutability,
            tag_mutability_exclusions: described.tag_mutability_exclusions,
            scan_on_push: described.scan_on_push,
            encryption: described.encryption,
            tags,
            lifecycle_policy,
            repository_policy,
        }))
    }

    /// The tags of the repository that was `described`, without those that AWS reserves, which CreateRepository refuses; `None`
    /// when it was deleted since.
    ///
    /// # Errors
    /// `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn resource_tags(
        &self,
        described: &Described,
    ) -> Result<Option<BTreeMap<String, String>>, RegistryError> {
        let listed = self.client.list_tags_for_resource().resource_arn(&described.arn).send().await;
        match listed.map_err(|error| self.failed("ListTagsForResource", error)) {
            Err(error) if error.name == self.not_found() => Ok(None),
            listed => {
                let tags = listed?.tags.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value));
                Ok(Some(tags.filter(|(key, _)| !key.starts_with("aws:")).collect()))
            }
        }
    }

    /// The lifecycle policy and the repository policy; `None` when there is no repository.
    ///
    /// # Errors
    /// `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn policies(&self) -> Result<Option<(Option<String>, Option<String>)>, RegistryError> {
        let lifecycle = self
            .client
            .get_lifecycle_policy()
            .set_registry_id(self.registry_id())
            .repository_name(self.name.as_str())
            .send();
        let repository = self
            .client
            .get_repository_policy()
            .set_registry_id(self.registry_id())
            .repository_name(self.name.as_str())
            .send();
        let (lifecycle, repository) = join(lifecycle, repository).await;
        let lifecycle = match lifecycle {
            Ok(answer) => Ok(answer.lifecycle_policy_text),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetLifecyclePolicyError::is_lifecycle_policy_not_found_exception) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.failed("GetLifecyclePolicy", error)),
        };
        let repository = match repository {
            Ok(answer) => Ok(answer.policy_text),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetRepositoryPolicyError::is_repository_policy_not_found_exception) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.failed("GetRepositoryPolicy", error)),
        };
        match lifecycle.and_then(|lifecycle| Ok((lifecycle, repository?))) {
            Err(error) if error.name == self.not_found() => Ok(None),
            policies => policies.map(Some),
        }
    }

    /// Makes the repository, without its policies; `None` when it existed.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidInput`, `QuotaExceeded`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn create(&self, settings: &Settings) -> Result<Option<Described>, RegistryError> {
        const OPERATION: &str = "CreateRepository";
        let Encryption { kind, key } = &settings.encryption;
        let encryption = EncryptionConfiguration::builder()
            .encryption_type(EncryptionType::from(kind.as_str()))
            .set_kms_key(key.clone())
            .build()
            .map_err(|error| self.error(OPERATION, ErrorName::Internal, error))?;
        let tags = self.tags(OPERATION, &settings.tags)?;
        let exclusions = self.exclusions(OPERATION, &settings.tag_mutability_exclusions)?;
        // No registry ID: a repository is made in one's own registry only.
        let created = self
            .client
            .create_repository()
            .repository_name(self.name.as_str())
            .image_tag_mutability(mutability(settings.tag_mutability))
            .set_image_tag_mutability_exclusion_filters(exclusions)
            .image_scanning_configuration(scanning(settings.scan_on_push))
            .encryption_configuration(encryption)
            .set_tags(Some(tags).filter(|tags| !tags.is_empty()))
            .send()
            .await;
        match created {
            Ok(created) => match created.repository {
                Some(repository) => self.described(OPERATION, repository).map(Some),
                None => Err(self.refused(OPERATION, ErrorName::RegistryUnavailable, "InvalidAnswer", "no repository")),
            },
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(CreateRepositoryError::is_repository_already_exists_exception) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.failed(OPERATION, error)),
        }
    }

    /// Changes a setting of the repository that was `described`.
    ///
    /// # Errors
    /// `InvalidInput` when the registry refuses what it is to be, `RepositoryNotFound`, `AccessDenied`, `RegistryThrottled`,
    /// `RegistryUnavailable`.
    pub async fn change(&self, described: &Described, change: Change) -> Result<(), RegistryError> {
        match change {
            Change::TagMutability(mode, exclusions) => {
                const OPERATION: &str = "PutImageTagMutability";
                let exclusions = self.exclusions(OPERATION, &exclusions)?;
                let put = self
                    .client
                    .put_image_tag_mutability()
                    .set_registry_id(self.registry_id())
                    .repository_name(self.name.as_str())
                    .image_tag_mutability(mutability(mode))
                    .set_image_tag_mutability_exclusion_filters(exclusions);
                put.send().await.map(drop).map_err(|error| self.failed(OPERATION, error))
            }
            Change::ScanOnPush(scan) => {
                let put = self
                    .client
                    .put_image_scanning_configuration()
                    .set_registry_id(self.registry_id())
                    .repository_name(self.name.as_str())
                    .image_scanning_configuration(scanning(scan));
                put.send().await.map(drop).map_err(|error| self.failed("PutImageScanningConfiguration", error))
            }
            Change::Tags(set, taken) => self.change_tags(&described.arn, &set, taken).await,
            Change::LifecyclePolicy(Some(policy)) => {
                let put = self
                    .client
                    .put_lifecycle_policy()
                    .set_registry_id(self.registry_id())
                    .repository_name(self.name.as_str())
                    .lifecycle_policy_text(policy);
                put.send().await.map(drop).map_err(|error| self.failed("PutLifecyclePolicy", error))
            }
            Change::LifecyclePolicy(None) => {
                let delete = self
                    .client
                    .delete_lifecycle_policy()
                    .set_registry_id(self.registry_id())
                    .repository_name(self.name.as_str());
                match delete.send().await {
                    // Somebody was faster.
                    Err(error)
                        if error
                            .as_service_error()
                            .is_some_and(DeleteLifecyclePolicyError::is_lifecycle_policy_not_found_exception) =>
                    {
                        Ok(())
                    }
                    deleted => deleted.map(drop).map_err(|error| self.failed("DeleteLifecyclePolicy", error)),
                }
            }
            Change::RepositoryPolicy(Some(policy)) => {
                // Without `force`: ECR refuses a policy that keeps the caller from setting another one.
                let set = self
                    .client
                    .set_repository_policy()
                    .set_registry_id(self.registry_id())
                    .repository_name(self.name.as_str())
                    .policy_text(policy);
                set.send().await.map(drop).map_err(|error| self.failed("SetRepositoryPolicy", error))
            }
            Change::RepositoryPolicy(None) => {
                let delete = self
                    .client
                    .delete_repository_policy()
                    .set_registry_id(self.registry_id())
                    .repository_name(self.name.as_str());
                match delete.send().await {
                    Err(error)
                        if error
                            .as_service_error()
                            .is_some_and(DeleteRepositoryPolicyError::is_repository_policy_not_found_exception) =>
                    {
                        Ok(())
                    }
                    deleted => deleted.map(drop).map_err(|error| self.failed("DeleteRepositoryPolicy", error)),
                }
            }
        }
    }

    async fn change_tags(
        &self,
        arn: &str,
        set: &BTreeMap<String, String>,
        taken: Vec<String>,
    ) -> Result<(), RegistryError> {
        // First what goes: a repository has fifty tags at most.
        if !taken.is_empty() {
            let untag = self.client.untag_resource().resource_arn(arn).set_tag_keys(Some(taken));
            untag.send().await.map_err(|error| self.failed("UntagResource", error))?;
        }
        if !set.is_empty() {
            const OPERATION: &str = "TagResource";
            let tags = self.tags(OPERATION, set)?;
            let tag = self.client.tag_resource().resource_arn(arn).set_tags(Some(tags));
            tag.send().await.map_err(|error| self.failed(OPERATION, error))?;
        }
        Ok(())
    }

    fn tags(&self, operation: &'static str, tags: &BTreeMap<String, String>) -> Result<Vec<Tag>, RegistryError> {
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        tags.collect::<Result<_, _>>().map_err(|error| self.error(operation, ErrorName::Internal, error))
    }

    /// Exclusion filters; `None` where there is none, for ECR takes no empty list.
    fn exclusions(
        &self,
        operation: &'static str,
        filters: &[String],
    ) -> Result<Option<Vec<ImageTagMutabilityExclusionFilter>>, RegistryError> {
        let filters = filters.iter().map(|filter| {
            let wildcard = ImageTagMutabilityExclusionFilterType::Wildcard;
            ImageTagMutabilityExclusionFilter::builder().filter_type(wildcard).filter(filter).build()
        });
        let filters: Vec<_> =
            filters.collect::<Result<_, _>>().map_err(|error| self.error(operation, ErrorName::Internal, error))?;
        Ok(Some(filters).filter(|filters| !filters.is_empty()))
    }

    /// The tags of the image `digest`; none where there is no such image.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn tags_of(&self, digest: &Digest) -> Result<Vec<ImageTag>, RegistryError> {
        let described = self
            .client
            .describe_images()
            .set_registry_id(self.registry_id())
            .repository_name(self.name.as_str())
            .image_ids(ImageIdentifier::builder().image_digest(digest.as_str()).build())
            .send()
            .await;
        let images = match described {
            Ok(described) => described.image_details.unwrap_or_default(),
            Err(error) if error.as_service_error().is_some_and(DescribeImagesError::is_image_not_found_exception) => {
                Vec::new()
            }
            Err(error) => return Err(self.failed("DescribeImages", error)),
        };
        let tags = images.into_iter().flat_map(|image| image.image_tags.unwrap_or_default());
        Ok(tags.filter_map(|tag| tag.parse().ok()).collect())
    }

    /// The manifests of `digests` that exist, in no order, each one's bytes held to its digest.
    ///
    /// # Errors
    /// `DigestMismatch` when the registry's bytes are not those of the digest, `InvalidInput` when they are more than an
    /// image has, `RepositoryNotFound`, `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn manifests(&self, digests: &[Digest]) -> Result<Vec<Manifest>, RegistryError> {
        Ok(self.manifests_and_tags(digests, &[]).await?.0)
    }

    /// As [`Repository::manifests`]; and the digests that those of `tags` point at that exist, for no call more.
    ///
    /// # Errors
    /// As [`Repository::manifests`].
    pub async fn manifests_and_tags(
        &self,
        digests: &[Digest],
        tags: &[ImageTag],
    ) -> Result<(Vec<Manifest>, HashMap<ImageTag, Digest>), RegistryError> {
        let by_tag = tags.iter().map(|tag| ImageIdentifier::builder().image_tag(tag.as_str()).build());
        let by_digest = digests.iter().map(|digest| ImageIdentifier::builder().image_digest(digest.as_str()).build());
        let ids: Vec<ImageIdentifier> = by_tag.chain(by_digest).collect();
        let mut batches = stream::iter(ids.chunks(BATCH))
            .map(|batch| self.manifest_batch(batch.to_vec()))
            .buffer_unordered(MANIFEST_BATCHES_AT_ONCE);
        let wanted: HashSet<&Digest> = digests.iter().collect();
        let (mut manifests, mut tagged, mut bytes) = (HashMap::new(), HashMap::new(), 0);
        while let Some(batch) = batches.try_next().await? {
            for (told, manifest) in batch {
                if let Some(tag) = tags.iter().find(|tag| told.as_deref() == Some(tag.as_str())) {
                    tagged.insert(tag.clone(), manifest.digest.clone());
                }
                // An image that is asked for by both may come twice, or once with both.
                if wanted.contains(&manifest.digest) {
                    bytes += manifest.content.len();
                    manifests.insert(manifest.digest.clone(), manifest);
                }
            }
            if bytes > MANIFESTS_LIMIT * 1024 * 1024 {
                let message = format!("the manifests have more than {MANIFESTS_LIMIT} MiB together");
                return Err(self.refused("BatchGetImage", ErrorName::InvalidInput, "TooLarge", &message));
            }
        }
        Ok((manifests.into_values().collect(), tagged))
    }

    /// The digest that `tag` points at; `None` when there is no such tag.
    ///
    /// # Errors
    /// As [`Repository::manifests`].
    pub async fn tagged(&self, tag: &ImageTag) -> Result<Option<Digest>, RegistryError> {
        Ok(self.manifests_and_tags(&[], std::slice::from_ref(tag)).await?.1.remove(tag))
    }

    /// The OCI referrers of the manifest `subject`, whether it is there or not.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>, RegistryError> {
        const OPERATION: &str = "ListImageReferrers";
        let subject_id = SubjectIdentifier::builder().image_digest(subject.as_str()).build();
        let subject_id = subject_id.map_err(|error| self.error(OPERATION, ErrorName::Internal, error))?;
        let (mut referrers, mut next) = (Vec::new(), None);
        for _ in 0..PAGES {
            let answer = self
                .client
                .list_image_referrers()
                .set_registry_id(self.registry_id())
                .repository_name(self.name.as_str())
                .subject_id(subject_id.clone())
                .max_results(REFERRERS_PAGE)
                .set_next_token(next)
                .send()
                .await;
            let answer = match answer {
                // What it answers for an image that is not there is not documented.
                Err(error) if error.code() == Some("ImageNotFoundException") => return Ok(referrers),
                answer => answer.map_err(|error| self.failed(OPERATION, error))?,
            };
            for referrer in answer.referrers.unwrap_or_default() {
                let digest = referrer.digest.parse();
                referrers.push(digest.map_err(|error| self.error(OPERATION, ErrorName::RegistryUnavailable, error))?);
            }
            if referrers.len() > ENTRIES {
                return Err(self.endless(OPERATION, ENTRIES, "entries"));
            }
            next = answer.next_token;
            if next.is_none() {
                return Ok(referrers);
            }
        }
        Err(self.endless(OPERATION, PAGES, "pages"))
    }

    /// The indexes that were pushed after `since`, in no order.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn indexes_since(&self, since: Timestamp) -> Result<Vec<Digest>, RegistryError> {
        const OPERATION: &str = "DescribeImages";
        let pages = self
            .client
            .describe_images()
            .set_registry_id(self.registry_id())
            .repository_name(self.name.as_str())
            .into_paginator();
        let mut pages = pages.page_size(IMAGES_PAGE).send();
        let mut indexes = Vec::new();
        for _ in 0..PAGES {
            let Some(page) = pages.next().await else { return Ok(indexes) };
            let page = page.map_err(|error| self.failed(OPERATION, error))?;
            let recent = page.image_details.unwrap_or_default().into_iter().filter(|image| {
                image.image_pushed_at.is_some_and(|at| at.secs() >= since.as_second())
                    && image.image_manifest_media_type().is_some_and(is_index)
            });
            indexes.extend(recent.filter_map(|image| image.image_digest?.parse::<Digest>().ok()));
            if indexes.len() > ENTRIES {
                return Err(self.endless(OPERATION, ENTRIES, "entries"));
            }
        }
        Err(self.endless(OPERATION, PAGES, "pages"))
    }

    /// A page of its active images: the first one without a token. In no order that is documented. What has a name that is none
    /// is left out.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn images(&self, token: Option<String>) -> Result<Page<Listed>, RegistryError> {
        const OPERATION: &str = "DescribeImages";
        let listed = self
            .client
            .describe_images()
            .set_registry_id(self.registry_id())
            .repository_name(self.name.as_str())
            .max_results(IMAGES_PAGE)
            .set_next_token(token)
            .send()
            .await;
        let page = listed.map_err(|error| self.failed(OPERATION, error))?;
        let details = page.image_details.unwrap_or_default().into_iter();
        // Only those that are active are listed unless others are asked for.
        let active = details.filter(|image| image.image_status.as_ref().is_none_or(|it| *it == ImageStatus::Active));
        let entries = active.filter_map(|image| {
            let pushed_at = image.image_pushed_at.and_then(|time| time.to_millis().ok());
            let tags = image.image_tags.unwrap_or_default().into_iter();
            Some(Listed {
                digest: self.known(image.image_digest.unwrap_or_default().parse())?,
                tags: tags.filter_map(|tag| self.known(tag.parse())).collect(),
                pushed_at: pushed_at.and_then(|time| Timestamp::from_millisecond(time).ok()),
                is_index: image.image_manifest_media_type.as_deref().is_some_and(is_index),
                // A manifest may name what no registry has.
                subject: image.subject_manifest_digest.and_then(|subject| subject.parse().ok()),
            })
        });
        Ok(Page { entries: entries.collect(), next: page.next_token })
    }

    /// What of a list can be read. What cannot is left out: one odd name must not hide all others.
    fn known<T>(&self, read: Result<T, MalformedName>) -> Option<T> {
        read.inspect_err(|error| left_out(&self.region, Some(&self.name), error)).ok()
    }

    /// The error of a list that has no end.
    fn endless(&self, operation: &'static str, limit: usize, unit: &str) -> RegistryError {
        let message = format!("the list has more than {limit} {unit}");
        self.refused(operation, ErrorName::RegistryUnavailable, "InvalidAnswer", &message)
    }

    /// Manifests, each with the tag that it was asked for by.
    async fn manifest_batch(
        &self,
        ids: Vec<ImageIdentifier>,
    ) -> Result<Vec<(Option<String>, Manifest)>, RegistryError> {
        const OPERATION: &str = "BatchGetImage";
        let asked = ids.len();
        let answer = self
            .client
            .batch_get_image()
            .set_registry_id(self.registry_id())
            .repository_name(self.name.as_str())
            .set_image_ids(Some(ids))
            .set_accepted_media_types(Some(MEDIA_TYPES.map(str::to_owned).to_vec()))
            .send()
            .await
            .map_err(|error| self.failed(OPERATION, error))?;
        let (images, failures) = (answer.images.unwrap_or_default(), answer.failures.unwrap_or_default());
        if images.is_empty() && failures.is_empty() && asked > 0 {
            // What is not there is a failure: this says nothing at all, and must not pass for an image that is gone.
            let message = "no image and no failure";
            return Err(self.refused(OPERATION, ErrorName::RegistryUnavailable, "InvalidAnswer", message));
        }
        for failure in failures {
            let name = match failure.failure_code() {
                // An archived image cannot be had, as one that is not there.
                Some(ImageFailureCode::ImageNotFound | ImageFailureCode::ImageInaccessible) => continue,
                Some(ImageFailureCode::KmsError | ImageFailureCode::UpstreamAccessDenied) => ErrorName::AccessDenied,
                Some(ImageFailureCode::UpstreamTooManyRequests) => ErrorName::RegistryThrottled,
                Some(ImageFailureCode::UpstreamUnavailable) => ErrorName::RegistryUnavailable,
                _ => ErrorName::InvalidInput,
            };
            let code = failure.failure_code().map_or("", |code| code.as_str());
            return Err(self.refused(OPERATION, name, code, failure.failure_reason().unwrap_or_default()));
        }
        let mut manifests = Vec::new();
        for image in images {
            let content = image.image_manifest.unwrap_or_default();
            if content.len() > MANIFEST_LIMIT && content.chars().count() > MANIFEST_LIMIT {
                let message = format!("a manifest has more than {MANIFEST_LIMIT} characters");
                return Err(self.refused(OPERATION, ErrorName::InvalidInput, "TooLarge", &message));
            }
            let media_type = image.image_manifest_media_type.unwrap_or_default();
            if media_type.len() > MEDIA_TYPE_LIMIT {
                let message = format!("a manifest's media type has more than {MEDIA_TYPE_LIMIT} characters");
                return Err(self.refused(OPERATION, ErrorName::InvalidInput, "TooLarge", &message));
            }
            let id = image.image_id;
            let tag = id.as_ref().and_then(|id| id.image_tag.clone());
            let stated = id.and_then(|id| id.image_digest).unwrap_or_default();
            let digest = Digest::of(content.as_bytes());
            let digest = match stated.parse() {
                Ok(stated) if stated == digest => stated,
                // Without its signatures it has another: nobody copies it, but a tag may point at it.
                Ok(stated) if Manifest::is_schema_1(&media_type) => stated,
                _ => {
                    let message = format!("the manifest of {stated} has the digest {digest}");
                    return Err(self.refused(OPERATION, ErrorName::DigestMismatch, "DigestMismatch", &message));
                }
            };
            manifests.push((tag, Manifest { digest, media_type, content }));
        }
        Ok(manifests)
    }

    /// The error of an image that is not here.
    #[must_use]
    pub fn image_not_found(&self, digest: &Digest) -> RegistryError {
        let message = format!("{digest} is not in the repository");
        self.refused("BatchGetImage", ErrorName::ImageNotFound, "ImageNotFound", &message)
    }

    /// The error of a manifest that is not here, of an index that is.
    #[must_use]
    pub fn child_not_found(&self, digest: &Digest) -> RegistryError {
        let message = format!("the index is in the repository, and its manifest {digest} is not");
        self.refused("BatchGetImage", ErrorName::RegistryUnavailable, "ImageNotFound", &message)
    }

    /// Those of `digests` that it does not have.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `AccessDenied`, `InvalidInput`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn missing_blobs(&self, digests: &[Digest]) -> Result<Vec<Digest>, RegistryError> {
        let batches: Vec<Vec<Digest>> = stream::iter(digests.chunks(BATCH))
            .map(|batch| self.missing_batch(batch))
            .buffer_unordered(BATCHES_AT_ONCE)
            .try_collect()
            .await?;
        Ok(batches.into_iter().flatten().collect())
    }

    /// A missing blob may come back as an unavailable layer or as a failure: sources disagree, so results are matched
    /// by digest, and what is not said to be available is missing.
    async fn missing_batch(&self, digests: &[Digest]) -> Result<Vec<Digest>, RegistryError> {
        const OPERATION: &str = "BatchCheckLayerAvailability";
        let answer = self
            .client
            .batch_check_layer_availability()
            .set_registry_id(self.registry_id())
            .repository_name(self.name.as_str())
            .set_layer_digests(Some(digests.iter().map(ToString::to_string).collect()))
            .send()
            .await
            .map_err(|error| self.failed(OPERATION, error))?;
        for failure in answer.failures.unwrap_or_default() {
            if failure.failure_code != Some(LayerFailureCode::MissingLayerDigest) {
                let code = failure.failure_code().map_or("", |code| code.as_str());
                let message = failure.failure_reason().unwrap_or_default();
                return Err(self.refused(OPERATION, ErrorName::InvalidInput, code, message));
            }
        }
        let layers = answer.layers.unwrap_or_default();
        let available: HashSet<&str> = layers
            .iter()
            .filter(|layer| layer.layer_availability == Some(LayerAvailability::Available))
            .filter_map(|layer| layer.layer_digest())
            .collect();
        Ok(digests.iter().filter(|digest| !available.contains(digest.as_str())).cloned().collect())
    }

    /// A URL that the blob can be read from for a while. It is a credential: never logged.
    ///
    /// # Errors
    /// `RegistryUnavailable` when no image of the repository has the blob, too: whether the image is gone is told by its
    /// manifest, when the step is tried again. `ImageNotFound` when the repository is gone, `AccessDenied`,
    /// `RegistryThrottled`.
    pub async fn download_url(&self, digest: &Digest) -> Result<DownloadUrl, RegistryError> {
        let answer = self
            .client
            .get_download_url_for_layer()
            .set_registry_id(self.registry_id())
            .repository_name(self.name.as_str())
            .layer_digest(digest.as_str())
            .send()
            .await
            .map_err(|error| self.failed("GetDownloadUrlForLayer", error))?;
        Ok(DownloadUrl(answer.download_url.unwrap_or_default()))
    }

    /// An error of reading a blob from its URL.
    pub(crate) fn unreadable(
        &self,
        name: ErrorName,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> RegistryError {
        self.error("reading a layer", name, source)
    }

    /// What it takes to stream to it. Asked for once in half a day: it stays good for twelve hours, for the whole registry.
    ///
    /// # Errors
    /// `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn authorization(&self) -> Result<Authorization, RegistryError> {
        const OPERATION: &str = "GetAuthorizationToken";
        // Held while it is asked for: the layers that begin together ask once.
        let mut known = self.authorization.lock().await;
        if let Some(authorization) = known.as_ref()
            && authorization.expires_at > Timestamp::now() + AUTHORIZATION_MARGIN
        {
            return Ok(authorization.clone());
        }
        // As its role, the registry is one's own. Of another one, the answer tells the endpoint: the token is good for all.
        let other = self.registry_id().filter(|_| self.role_arn.is_none());
        #[expect(deprecated, reason = "what is deprecated is to think that the token were for these registries alone")]
        let ask = self.client.get_authorization_token().set_registry_ids(other.map(|id| vec![id]));
        let answer = ask.send().await.map_err(|error| self.failed(OPERATION, error))?;
        let Some(data) = answer.authorization_data.unwrap_or_default().into_iter().next() else {
            let message = "no authorization data";
            return Err(self.refused(OPERATION, ErrorName::RegistryUnavailable, "InvalidAnswer", message));
        };
        let expires_at = data.expires_at.and_then(|time| Timestamp::from_second(time.secs()).ok());
        let authorization = Authorization {
            endpoint: data.proxy_endpoint.unwrap_or_default(),
            credential: data.authorization_token.unwrap_or_default(),
            expires_at: expires_at.unwrap_or_default(),
        };
        *known = Some(authorization.clone());
        Ok(authorization)
    }

    /// Forgets the authorization: a registry that refuses it once refuses it always.
    pub(crate) async fn forget_authorization(&self) {
        *self.authorization.lock().await = None;
    }

    /// The error of a call that the function had no time to wait for.
    pub(crate) fn unanswered(&self) -> RegistryError {
        self.error("a call", ErrorName::RegistryUnavailable, "it had not answered when the function's time was over")
    }

    /// Opens an upload.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn initiate_upload(&self) -> Result<OpenUpload, RegistryError> {
        const OPERATION: &str = "InitiateLayerUpload";
        let answer = self
            .client
            .initiate_layer_upload()
            .set_registry_id(self.registry_id())
            .repository_name(self.name.as_str())
            .send()
            .await
            .map_err(|error| self.failed(OPERATION, error))?;
        match (answer.upload_id, answer.part_size.map(u64::try_from)) {
            (Some(id), Some(Ok(part_size @ 1..))) if id.len() <= UPLOAD_ID_LIMIT => {
                // A part is in memory, several times.
                Ok(OpenUpload { id, part_size: part_size.min(PART_LIMIT) })
            }
            (id, part_size) => {
                let message = format!("no upload id or no part size: {part_size:?}, {id:?}");
                Err(self.refused(OPERATION, ErrorName::RegistryUnavailable, "InvalidAnswer", &message))
            }
        }
    }

    /// Sends the part that begins at the byte `first`.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `AccessDenied`, `QuotaExceeded`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn upload_part(&self, upload_id: &str, first: u64, part: Bytes) -> Result<Part, RegistryError> {
        const OPERATION: &str = "UploadLayerPart";
        let end = first + part.len() as u64;
        let offset =
            |byte: u64| i64::try_from(byte).map_err(|error| self.error(OPERATION, ErrorName::InvalidInput, error));
        let sent = self
            .client
            .upload_layer_part()
            .set_registry_id(self.registry_id())
            .repository_name(self.name.as_str())
            .upload_id(upload_id)
            .part_first_byte(offset(first)?)
            .part_last_byte(offset(end - 1)?)
            .layer_part_blob(Blob::new(part))
            .send()
            .await;
        let error = match sent {
            // It has less than was sent, and says so. What else it says is left to the digest: the part is not what it is about.
            Ok(answer) => {
                let received = answer.last_byte_received.and_then(|last| u64::try_from(last).ok()).map(|last| last + 1);
                let is_short = received.is_some_and(|received| (first + 1..end).contains(&received));
                return Ok(if is_short { Part::OutOfOrder { received } } else { Part::Received });
            }
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(UploadLayerPartError::InvalidLayerPartException(refused)) => {
                let received =
                    refused.last_valid_byte_received.and_then(|last| u64::try_from(last).ok()).map(|last| last + 1);
                // The part landed and only its answer was lost; the SDK's own retry runs into this.
                if received == Some(end) {
                    return Ok(Part::Received);
                }
                // What an upload without a part answers is not documented; 0 may mean one byte or none.
                Ok(Part::OutOfOrder { received: received.filter(|&received| received > 1) })
            }
            Some(UploadLayerPartError::UploadNotFoundException(_)) => Ok(Part::UploadLost),
            _ => Err(self.failed(OPERATION, error)),
        }
    }

    /// Completes an upload; the registry compares the digest.
    ///
    /// # Errors
    /// `DigestMismatch` when the registry computed another digest, `RepositoryNotFound`, `AccessDenied`,
    /// `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn complete_upload(&self, upload_id: &str, digest: &Digest) -> Result<Completed, RegistryError> {
        let completed = self
            .client
            .complete_layer_upload()
            .set_registry_id(self.registry_id())
            .repository_name(self.name.as_str())
            .upload_id(upload_id)
            .layer_digests(digest.as_str())
            .send()
            .await;
        let Err(error) = completed else { return Ok(Completed::Stored) };
        match error.as_service_error() {
            Some(CompleteLayerUploadError::LayerAlreadyExistsException(_)) => Ok(Completed::Stored),
            Some(
                CompleteLayerUploadError::UploadNotFoundException(_)
                | CompleteLayerUploadError::EmptyUploadException(_),
            ) => Ok(Completed::UploadLost),
            _ => Err(self.failed("CompleteLayerUpload", error)),
        }
    }

    /// Puts `manifest` unchanged, under `tag` if there is one.
    ///
    /// # Errors
    /// `LayersMissing` when a blob or a child is not there, `DigestMismatch`, `QuotaExceeded`, `RepositoryNotFound`,
    /// `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn put_image(&self, manifest: &Manifest, tag: Option<&ImageTag>) -> Result<PutImage, RegistryError> {
        self.put_answered(self.putting(manifest, tag).send().await)
    }

    /// As [`Repository::put_image`], and in one attempt: the SDK does not wait for a turn before it tries again.
    ///
    /// # Errors
    /// As [`Repository::put_image`].
    pub async fn put_image_once(&self, manifest: &Manifest, tag: Option<&ImageTag>) -> Result<PutImage, RegistryError> {
        let once = aws_sdk_ecr::Config::builder().retry_config(RetryConfig::disabled());
        self.put_answered(self.putting(manifest, tag).customize().config_override(once).send().await)
    }

    fn putting(&self, manifest: &Manifest, tag: Option<&ImageTag>) -> PutImageFluentBuilder {
        self.client
            .put_image()
            .set_registry_id(self.registry_id())
            .repository_name(self.name.as_str())
            .image_manifest(&manifest.content)
            // A manifest need not name its own media type, and is refused without either.
            .image_manifest_media_type(&manifest.media_type)
            .image_digest(manifest.digest.as_str())
            .set_image_tag(tag.map(ToString::to_string))
    }

    fn put_answered(
        &self,
        put: Result<impl Sized, SdkError<PutImageError, HttpResponse>>,
    ) -> Result<PutImage, RegistryError> {
        let Err(error) = put else { return Ok(PutImage::Changed) };
        match error.as_service_error() {
            Some(PutImageError::ImageAlreadyExistsException(_)) => Ok(PutImage::Unchanged),
            Some(PutImageError::ImageTagAlreadyExistsException(_)) => Ok(PutImage::TagTaken),
            _ => Err(self.failed("PutImage", error)),
        }
    }

    /// The error of a put whose turn comes too late for the function.
    #[must_use]
    pub fn turn_too_late(&self) -> RegistryError {
        let message = "at the pace that is asked for, its turn comes when the function's time is over";
        self.error("PutImage", ErrorName::RegistryThrottled, message)
    }

    /// The error of a tag that is to go to the image `newer`, which is not whole here yet.
    #[must_use]
    pub fn tag_unsettled(&self, tag: &ImageTag, newer: &Digest) -> RegistryError {
        let message = format!("the source has moved the tag {tag} to {newer}, which is still on its way here");
        self.refused("handing the tag on", ErrorName::TagUnsettled, "TagUnsettled", &message)
    }

    /// The error of a tag that is immutable and taken by `holder`.
    #[must_use]
    pub fn tag_conflict(&self, tag: &ImageTag, wanted: &Digest, holder: Option<&Digest>) -> RegistryError {
        let holder = holder.map_or("another image", Digest::as_str);
        let message = format!(
            "the tag {tag} is immutable there and belongs to {holder}; {wanted} is there by digest, without the tag"
        );
        self.refused("PutImage", ErrorName::TagConflict, "ImageTagAlreadyExistsException", &message)
    }

    fn refused(&self, operation: &'static str, name: ErrorName, code: &str, message: &str) -> RegistryError {
        self.error(
            operation,
            name,
            Answer { code: shorten(code, CODE_LIMIT), message: shorten(message, MESSAGE_LIMIT) },
        )
    }

    fn error(
        &self,
        operation: &'static str,
        name: ErrorName,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> RegistryError {
        let Self { region, registry_id, name: repository, .. } = self.clone();
        let name = if name == ErrorName::RepositoryNotFound { self.not_found() } else { name };
        RegistryError { name, operation, region, registry_id, repository: Some(repository), source: source.into() }
    }

    /// The error of a call that was not made, because its role could not be assumed.
    fn role_refused(
        &self,
        operation: &'static str,
        answer: &ServiceError<AssumeRoleError, HttpResponse>,
    ) -> RegistryError {
        let code = answer.err().code().unwrap_or_default();
        let name = match name_of("AssumeRole", code, answer.raw().status().as_u16()) {
            // Whatever STS refuses for good, only somebody who may change roles can mend.
            ErrorName::Internal | ErrorName::InvalidInput => ErrorName::AccessDenied,
            name => name,
        };
        let role = self.role_arn.as_ref().map_or("the role", RoleArn::as_str);
        let message = answer.err().message().unwrap_or("no message");
        self.refused(operation, name, code, &format!("sts:AssumeRole of {role}: {message}"))
    }

    /// The name of the error that it is not there.
    fn not_found(&self) -> ErrorName {
        if self.is_source { ErrorName::ImageNotFound } else { ErrorName::RepositoryNotFound }
    }

    /// Gives an SDK error its name. By code and status rather than by type: throttling is not in the service's model,
    /// and the codes mean the same in every call.
    fn failed<E>(&self, operation: &'static str, error: SdkError<E, HttpResponse>) -> RegistryError
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        if let Some(answer) = refused_role(&error) {
            return self.role_refused(operation, answer);
        }
        let (name, source) = judged(operation, error);
        self.error(operation, name, source)
    }
}

/// Tells of a name in a list that is none.
fn left_out(region: &Region, repository: Option<&RepositoryName>, error: &MalformedName) {
    warn!(%region, repository = repository.map(RepositoryName::as_str), cause = chain(error), "left out of a list");
}

/// The name of an error of the SDK, and what there is to be told of it.
fn judged<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> (ErrorName, Box<dyn StdError + Send + Sync>)
where
    E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
{
    let SdkError::ServiceError(answer) = &error else { return (ErrorName::RegistryUnavailable, error.into()) };
    let status = answer.raw().status().as_u16();
    let code = answer.err().code().unwrap_or_default();
    let is_throttled = is_throttled(answer.raw());
    let name = if is_throttled { ErrorName::RegistryThrottled } else { name_of(operation, code, status) };
    let told = if code.is_empty() { format!("HTTP {status}") } else { code.to_owned() };
    let message = answer.err().message().unwrap_or("no message");
    let told = Answer { code: shorten(&told, CODE_LIMIT), message: shorten(message, MESSAGE_LIMIT) };
    (name, told.into())
}

fn mutability(mode: TagMutability) -> ImageTagMutability {
    match mode {
        TagMutability::Mutable => ImageTagMutability::Mutable,
        TagMutability::Immutable => ImageTagMutability::Immutable,
        TagMutability::ImmutableWithExclusion => ImageTagMutability::ImmutableWithExclusion,
        TagMutability::MutableWithExclusion => ImageTagMutability::MutableWithExclusion,
    }
}

fn scanning(scan_on_push: bool) -> ImageScanningConfiguration {
    ImageScanningConfiguration::builder().scan_on_push(scan_on_push).build()
}

/// What STS answered instead of a role, if that is why a call failed.
fn refused_role<'a>(
    mut error: &'a (dyn StdError + 'static),
) -> Option<&'a ServiceError<AssumeRoleError, HttpResponse>> {
    loop {
        match error.downcast_ref::<SdkError<AssumeRoleError, HttpResponse>>() {
            Some(SdkError::ServiceError(answer)) => return Some(answer),
            _ => error = error.source()?,
        }
    }
}

/// The name of what ECR calls `code`, or else answers with the HTTP status `status`. No code is "".
fn name_of(operation: &str, code: &str, status: u16) -> ErrorName {
    match code {
        // Neither is in the service's model, and documents differ in the name.
        "ThrottleException" | "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "TOOMANYREQUESTS" => {
            ErrorName::RegistryThrottled
        }
        "LayersNotFoundException" | "ReferencedImagesNotFoundException" if operation == "PutImage" => {
            ErrorName::LayersMissing
        }
        "LayersNotFoundException"
        | "LayerInaccessibleException"
        | "UnableToGetUpstreamImageException"
        | "UnableToGetUpstreamLayerException"
        | "UnableToListUpstreamImageReferrersException" => ErrorName::RegistryUnavailable,
        "ImageNotFoundException" => ErrorName::ImageNotFound,
        "RepositoryNotFoundException" => ErrorName::RepositoryNotFound,
        // The last two are what a region answers that is not enabled in the account.
        "KmsException" | "UnrecognizedClientException" | "InvalidSignatureException" => ErrorName::AccessDenied,
        "LimitExceededException" => ErrorName::QuotaExceeded,
        "InvalidLayerException" | "ImageDigestDoesNotMatchException" => ErrorName::DigestMismatch,
        "InvalidParameterException"
        | "InvalidTagParameterException"
        | "TooManyTagsException"
        | "ValidationException" => ErrorName::InvalidInput,
        _ => match status {
            401 | 403 => ErrorName::AccessDenied,
            // What some referrers are answered with (aws/containers-roadmap#2783).
            405 => ErrorName::InvalidInput,
            429 => ErrorName::RegistryThrottled,
            500.. => ErrorName::RegistryUnavailable,
            // An answer that cannot be read, or that leads elsewhere: something is between here and ECR.
            _ if code.is_empty() => ErrorName::RegistryUnavailable,
            _ if code.contains("AccessDenied") || code.contains("Token") => ErrorName::AccessDenied,
            _ => ErrorName::Internal,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_told_by_code_or_by_status() {
        for (code, status) in [("ThrottleException", 400), ("ThrottlingException", 400), ("", 429), ("Whatever", 429)] {
            assert_eq!(name_of("PutImage", code, status), ErrorName::RegistryThrottled, "{code} {status}");
        }
    }

    #[test]
    fn a_layer_that_is_not_found_is_missing_at_the_target_and_looked_for_again_at_the_source() {
        let code = "LayersNotFoundException";
        assert_eq!(name_of("PutImage", code, 400), ErrorName::LayersMissing);
        assert_eq!(name_of("GetDownloadUrlForLayer", code, 400), ErrorName::RegistryUnavailable);
    }

    #[test]
    fn what_aws_refuses_is_told_from_what_it_fails_at() {
        assert_eq!(name_of("PutImage", "AccessDeniedException", 400), ErrorName::AccessDenied);
        assert_eq!(name_of("PutImage", "ExpiredTokenException", 400), ErrorName::AccessDenied);
        assert_eq!(name_of("PutImage", "UnrecognizedClientException", 400), ErrorName::AccessDenied);
        assert_eq!(name_of("PutImage", "", 403), ErrorName::AccessDenied);
        assert_eq!(name_of("PutImage", "", 405), ErrorName::InvalidInput);
        assert_eq!(name_of("PutImage", "ServerException", 500), ErrorName::RegistryUnavailable);
        assert_eq!(name_of("PutImage", "", 503), ErrorName::RegistryUnavailable);
        for unreadable in [200, 307, 400, 404] {
            assert_eq!(name_of("PutImage", "", unreadable), ErrorName::RegistryUnavailable, "{unreadable}");
        }
        assert_eq!(name_of("PutImage", "LayerPartTooSmallException", 400), ErrorName::Internal);
    }
}
