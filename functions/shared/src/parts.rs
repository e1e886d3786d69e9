//! The parts road: a layer by InitiateLayerUpload, UploadLayerPart in strict order, and CompleteLayerUpload.
//!
//! What it takes to go on with an interrupted upload is an [`Upload`], a few hundred bytes, whatever the layer's size.

use bytes::Bytes;
use futures::future::join;

use crate::{
    contract::Upload,
    layer::{Hash, Layer},
    names::Digest,
    registry::{OpenUpload, Part, RegistryError, Repository},
};

/// A layer's upload while it is sent.
pub(crate) struct Sending {
    open: OpenUpload,
    /// The bytes that the registry has.
    received: u64,
    /// The hash of the layer's first bytes: usually of those that the registry has.
    hash: Hash,
    /// The part that begins at `received`, read while the one before it was sent.
    next: Option<Bytes>,
    /// Whether it came any further than where it stood.
    advanced: bool,
}

impl Sending {
    pub(crate) async fn begin(target: &Repository) -> Result<Self, RegistryError> {
        let open = target.initiate_upload().await?;
        Ok(Self { open, received: 0, hash: Hash::default(), next: None, advanced: false })
    }

    pub(crate) fn resume(upload: Upload) -> Self {
        Self {
            received: upload.received,
            // A state that cannot be restored costs reading the layer's beginning again, nothing else.
            hash: Hash::restore(&upload.hash, upload.hashed).unwrap_or_default(),
            open: OpenUpload { id: upload.upload_id, part_size: upload.part_size },
            next: None,
            advanced: false,
        }
    }

    pub(crate) fn save(self, digest: &Digest) -> Upload {
        Upload {
            digest: digest.clone(),
            upload_id: self.open.id,
            part_size: self.open.part_size,
            received: self.received,
            hashed: self.hash.position(),
            hash: self.hash.save(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.open.id
    }

    pub(crate) fn part_size(&self) -> u64 {
        self.open.part_size
    }

    pub(crate) fn has_advanced(&self) -> bool {
        self.advanced
    }

    /// The digest of the layer's `size` bytes, once the registry has them all.
    pub(crate) fn whole(&self, size: u64) -> Option<Digest> {
        (self.received == size && self.hash.position() == size).then(|| self.hash.clone().finish())
    }

    /// Goes on at the byte `received`. A hash that is beyond it starts again.
    pub(crate) fn go_to(&mut self, received: u64) {
        self.received = received;
        self.next = None;
        if self.hash.position() > received {
            self.hash = Hash::default();
        }
    }

    /// Sends the next part of the layer, which has `size` bytes; or hashes a part that the registry has and this
    /// invocation has not seen.
    pub(crate) async fn advance(
        &mut self,
        target: &Repository,
        layer: &mut Layer,
        size: u64,
    ) -> Result<Part, RegistryError> {
        if self.hash.position() < self.received {
            let length = self.open.part_size.min(self.received - self.hash.position());
            let bytes = layer.read(self.hash.position(), length).await?;
            self.hash.update(&bytes);
            self.advanced = true;
            return Ok(Part::Received);
        }
        let part_at = |first| self.open.part_size.min(size - first);
        let part = match self.next.take() {
            Some(part) => part,
            None => layer.read(self.received, part_at(self.received)).await?,
        };
        let mut hash = self.hash.clone();
        hash.update(&part);
        let following = hash.position();
        let prefetch = async {
            if following == size { Ok(None) } else { layer.read(following, part_at(following)).await.map(Some) }
        };
        // The part is given away: kept for later, it would be copied.
        let (sent, next) = join(target.upload_part(&self.open.id, self.received, part), prefetch).await;
        let sent = sent?;
        if sent == Part::Received {
            (self.received, self.hash, self.advanced) = (following, hash, true);
            self.next = next?;
        }
        Ok(sent)
    }
}
