//! What the API and `/v2` have in common: the state, and the steps of a push.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use crate::asked::Questions;
use crate::blobs::Blobs;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::faults::{Faults, Meanwhile};
use crate::guarded::Guarded;
use crate::halt::Halt;
use crate::manifest::Manifest;
use crate::names::{Digest, ImageTag, Registry, RepositoryName};
use crate::quota::Quota;
use crate::secret::Secret;
use crate::server::Listeners;
use crate::sessions::Sessions;
use crate::stats::Counters;
use crate::store::Store;
use crate::uploads::{ReceivedLayer, Upload};

/// The state of a local ECR.
#[derive(Debug)]
pub(crate) struct Ecr {
    pub(crate) config: Config,
    /// Never held over an await.
    pub(crate) store: Guarded<Store>,
    pub(crate) blobs: Blobs,
    pub(crate) counters: Arc<Counters>,
    pub(crate) questions: Questions,
    pub(crate) faults: Faults,
    pub(crate) halt: Halt,
    pub(crate) put_image_quota: Quota,
    pub(crate) events: Option<Events>,
    pub(crate) secret: Secret,
    pub(crate) sessions: Sessions,
    /// Download URLs of an earlier generation have expired.
    pub(crate) url_generation: AtomicU64,
    pub(crate) listeners: Listeners,
}

impl Ecr {
    pub(crate) fn start_upload(&self, registry: &Registry, name: &RepositoryName) -> Result<Uuid> {
        let mut store = self.store.lock();
        let repository = store.repository_mut(registry, name)?;
        let id = Uuid::new_v4();
        let upload = Upload::new(id, repository.place.clone(), self.config.part_size, self.blobs.file(id)?);
        repository.uploads.insert(id, Arc::new(upload));
        Ok(id)
    }

    pub(crate) fn upload(&self, registry: &Registry, name: &RepositoryName, id: Uuid) -> Result<Arc<Upload>> {
        self.store.lock().repository(registry, name)?.upload(id)
    }

    /// Makes an upload a layer of its repository.
    pub(crate) async fn complete_upload(
        &self,
        registry: &Registry,
        name: &RepositoryName,
        id: Uuid,
        digests: &[Digest],
    ) -> Result<Digest> {
        let upload = self.upload(registry, name, id)?;
        let ReceivedLayer { digest, file, size } = upload.complete(digests).await?;
        let blob = self.blobs.adopt(&digest, file, size);
        let mut store = self.store.lock();
        let repository = store.repository_mut(registry, name)?;
        repository.uploads.remove(&id);
        repository.add_layer(digest.clone(), blob)?;
        Ok(digest)
    }

    /// Pushes an image, and tells of it.
    pub(crate) fn put_image(
        &self,
        registry: &Registry,
        name: &RepositoryName,
        manifest: &Arc<Manifest>,
        tag: Option<&ImageTag>,
        expected: Option<&Digest>,
    ) -> Result<()> {
        {
            let mut store = self.store.lock();
            let repository = store.repository_mut(registry, name)?;
            if let Some(provided) = expected.filter(|expected| **expected != manifest.digest) {
                let (computed, provided) = (manifest.digest.clone(), provided.clone());
                return Err(Error::ImageDigestDoesNotMatch { computed, provided });
            }
            repository.put_image(manifest, tag, self.config.repeated_immutable_tag)?;
        }
        if let Some(events) = &self.events {
            events.pushed(registry, name, manifest, tag);
        }
        Ok(())
    }

    pub(crate) fn expire_urls(&self) {
        self.url_generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets something happen before a call to this registry, about this repository if about any, is handled.
    pub(crate) fn happen(&self, event: &Meanwhile, registry: &Registry, repository: Option<&str>) {
        let name = || RepositoryName::try_from(repository?).ok();
        match event {
            Meanwhile::DeleteRepository => {
                if let Some(name) = name() {
                    // One that is not there may have been deleted already.
                    let _ = self.store.lock().delete_repository(registry, &name, true);
                }
            }
            Meanwhile::DeleteImage(digest) => {
                if let (Some(name), Ok(digest)) = (name(), Digest::try_from(digest.as_str()))
                    && let Ok(repository) = self.store.lock().repository_mut(registry, &name)
                {
                    repository.delete_image_and_indexes(&digest);
                }
            }
            Meanwhile::ForgetUploads => self.store.lock().forget_uploads(&registry.region),
            Meanwhile::ExpireUrls => self.expire_urls(),
        }
    }
}
