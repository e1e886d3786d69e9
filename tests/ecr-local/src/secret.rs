use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::names::hex;

/// What tokens and download URLs are signed with: made anew in every process, so that nothing outlives it.
#[derive(Debug)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Self(bytes)
    }

    /// Hashed twice with the secret in front, so that a message cannot be lengthened.
    pub(crate) fn sign(&self, message: &str) -> String {
        let inner = Sha256::new().chain_update(self.0).chain_update(message).finalize();
        hex(&Sha256::new().chain_update(self.0).chain_update(inner).finalize())
    }
}
