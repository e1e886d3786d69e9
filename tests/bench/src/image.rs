//! Images of incompressible layers, the same bytes from the same seeds.

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::contract::Blob;
use shared::names::Digest;
use tokio::sync::mpsc;

/// The media type of the image's manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

const CHUNK: usize = 256 * 1024;

/// What gzip starts with. A client that finds this takes a layer as compressed, and does not compress it on the way.
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A layer: what its content grows from, and its size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    pub(crate) seed: u64,
    pub(crate) size: u64,
}

impl Layer {
    /// The layer's bytes through a channel, and its digest at their end.
    pub(crate) fn generate(self, chunks: &mpsc::Sender<Bytes>) -> Option<Digest> {
        let (mut hash, mut random, mut left) = (Sha256::new(), Random(self.seed), self.size);
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let mut chunk = random.bytes(length);
            if left == self.size {
                let start = length.min(GZIP.len());
                chunk[..start].copy_from_slice(&GZIP[..start]);
            }
            hash.update(&chunk);
            chunks.blocking_send(chunk.into()).ok()?;
            left -= length as u64;
        }
        digest(&hash.finalize())
    }
}

/// The layers of an image, each from a seed of its own.
pub(crate) fn layers(sizes: &[u64]) -> Vec<Layer> {
    sizes.iter().zip(1..).map(|(&size, seed)| Layer { seed, size }).collect()
}

/// The image before its last layer was changed.
pub(crate) fn older(layers: &[Layer]) -> Vec<Layer> {
    let mut older = layers.to_vec();
    if let Some(last) = older.last_mut() {
        last.seed += 1_000_000;
    }
    older
}

/// The image's config, which differs with its layers.
pub(crate) fn config(layers: &[Blob]) -> Value {
    let digests: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
    json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": digests},
    })
}

pub(crate) fn manifest(config: &Blob, layers: &[Blob]) -> Value {
    let descriptor =
        |blob: &Blob, media_type: &str| json!({"mediaType": media_type, "digest": blob.digest, "size": blob.size});
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config, CONFIG),
        "layers": layers.iter().map(|layer| descriptor(layer, LAYER)).collect::<Vec<_>>(),
    })
}

fn digest(hash: &[u8]) -> Option<Digest> {
    use std::fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in hash {
        let _ = write!(text, "{byte:02x}");
    }
    text.parse().ok()
}

/// SplitMix64: nothing in it to compress, and the same on every machine.
struct Random(u64);

impl Random {
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bytes.extend((mixed ^ (mixed >> 31)).to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}
