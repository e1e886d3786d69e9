//! The image that is pushed when nobody names another: the same bytes every time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shared::names::Digest;

use crate::error::Error;
use crate::image::Image;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Without compression: random content would not shrink, and that would take most of the time.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A multi-platform image: an index, a manifest and a config for each platform, layers of which some are shared.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What its random content grows from: another seed, another image.
    pub seed: u64,
    /// The sizes of the layers that every platform has, in KiB.
    pub shared_layers: Vec<usize>,
    /// The sizes of the layers that each platform has for itself, in KiB.
    pub own_layers: Vec<usize>,
    /// The platforms' architectures.
    pub architectures: Vec<&'static str>,
    /// Whether there is an attestation for each platform in the index, as buildx makes them.
    pub attested: bool,
}

impl Default for Sample {
    /// About 40 MiB; one layer takes several upload parts of 10 MiB.
    fn default() -> Self {
        Self {
            seed: 1,
            shared_layers: vec![64, 22 * 1024],
            own_layers: vec![6 * 1024, 2 * 1024],
            architectures: vec!["amd64", "arm64"],
            attested: false,
        }
    }
}

impl Sample {
    /// Writes the image into a new directory as an OCI layout.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn write(&self, directory: PathBuf) -> Result<Image, Error> {
        let doing = Error::io(format!("write an image to {}", directory.display()));
        self.write_layout(&directory).map_err(doing)?;
        Ok(Image::layout(directory))
    }

    fn write_layout(&self, directory: &Path) -> io::Result<()> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        let blobs = Blobs(directory.join("blobs/sha256"));
        fs::create_dir_all(&blobs.0)?;
        let mut random = Random(self.seed);
        let shared = self.layers(&blobs, &self.shared_layers, "shared", &mut random)?;
        let mut manifests = Vec::new();
        for &architecture in &self.architectures {
            let own = self.layers(&blobs, &self.own_layers, architecture, &mut random)?;
            let layers: Vec<&Layer> = shared.iter().chain(&own).collect();
            let config = json!({
                "architecture": architecture,
                "os": "linux",
                "config": {},
                "rootfs": {
                    "type": "layers",
                    "diff_ids": layers.iter().map(|layer| &layer.descriptor["digest"]).collect::<Vec<_>>(),
                },
                "history": layers.iter().map(|layer| json!({"created_by": layer.created_by})).collect::<Vec<_>>(),
            });
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": blobs.json(CONFIG, &config)?,
                "layers": layers.iter().map(|layer| &layer.descriptor).collect::<Vec<_>>(),
            });
            let mut manifest = blobs.json(MANIFEST, &manifest)?;
            manifest["platform"] = json!({"architecture": architecture, "os": "linux"});
            manifests.push(manifest);
        }
        if self.attested {
            for image in manifests.clone() {
                manifests.push(attestation(&blobs, &image["digest"])?);
            }
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let index = json!({"schemaVersion": 2, "manifests": [blobs.json(INDEX, &index)?]});
        fs::write(directory.join("index.json"), index.to_string())?;
        fs::write(directory.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())
    }

    fn layers(&self, blobs: &Blobs, sizes: &[usize], name: &str, random: &mut Random) -> io::Result<Vec<Layer>> {
        let layer = |(number, kibibytes): (usize, &usize)| {
            let path = format!("opt/sample/{name}-{number}");
            let mut tar = tar::Builder::new(Vec::new());
            let text = format!("layer {number} ({name}) of sample image {}\n", self.seed);
            append(&mut tar, &format!("{path}/README"), text.as_bytes())?;
            append(&mut tar, &format!("{path}/data"), &random.bytes(kibibytes * 1024))?;
            Ok(Layer { descriptor: blobs.put(LAYER, &tar.into_inner()?)?, created_by: format!("COPY {path} /") })
        };
        sizes.iter().enumerate().map(layer).collect()
    }
}

/// A manifest for no platform that holds a statement about `image`.
fn attestation(blobs: &Blobs, image: &Value) -> io::Result<Value> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": "https://slsa.dev/provenance/v0.2",
        "subject": [{"name": "sample", "digest": image}],
    });
    let config =
        json!({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blobs.json(CONFIG, &config)?,
        "layers": [blobs.json("application/vnd.in-toto+json", &statement)?],
    });
    let mut manifest = blobs.json(MANIFEST, &manifest)?;
    manifest["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    manifest["annotations"] =
        json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image});
    Ok(manifest)
}

struct Layer {
    descriptor: Value,
    created_by: String,
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, path, content)
}

struct Blobs(PathBuf);

impl Blobs {
    fn put(&self, media_type: &str, content: &[u8]) -> io::Result<Value> {
        let digest = Digest::of(content);
        fs::write(self.0.join(digest.as_str().trim_start_matches("sha256:")), content)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": content.len()}))
    }

    fn json(&self, media_type: &str, content: &Value) -> io::Result<Value> {
        self.put(media_type, content.to_string().as_bytes())
    }
}

/// SplitMix64: the same on every machine.
struct Random(u64);

impl Random {
    /// The most that is random; more than that is the same again.
    const MOST: usize = 1024 * 1024;

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length.min(Self::MOST) + 8);
        while bytes.len() < length.min(Self::MOST) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bytes.extend((mixed ^ (mixed >> 31)).to_le_bytes());
        }
        bytes.truncate(Self::MOST);
        let mut bytes = bytes.repeat(length.div_ceil(Self::MOST).max(1));
        bytes.truncate(length);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::registry::Parts;

    fn small(seed: u64) -> (tempfile::TempDir, Layout) {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("image");
        Sample { seed, shared_layers: vec![8], own_layers: vec![4, 4], ..Sample::default() }
            .write(directory.clone())
            .unwrap();
        let layout = Layout::open(&directory, None).unwrap();
        (home, layout)
    }

    #[test]
    fn a_seed_makes_one_image_and_another_seed_another() {
        let digests = [1, 1, 2].map(|seed| small(seed).1.root().digest.clone());
        assert!(digests[0] == digests[1] && digests[0] != digests[2]);
    }

    #[test]
    fn platforms_share_layers() {
        let (_home, layout) = small(1);
        let index = Parts::of(&layout.manifest(layout.root()).unwrap()).unwrap();
        let layers: Vec<Vec<String>> = index
            .children
            .iter()
            .map(|child| {
                let manifest = Parts::of(&layout.manifest(child).unwrap()).unwrap();
                assert!(manifest.blobs.iter().filter(|blob| blob.media_type == LAYER).all(|blob| blob.size > 4096));
                manifest.blobs.into_iter().map(|blob| blob.digest.to_string()).collect()
            })
            .collect();
        assert_eq!((layers[0].len(), layers[1].len()), (4, 4));
        assert_eq!(layers[0].iter().filter(|layer| layers[1].contains(layer)).count(), 1);
    }
}
