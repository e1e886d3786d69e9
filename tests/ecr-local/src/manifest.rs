use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::names::Digest;

/// The most that `PutImage` takes.
pub(crate) const MAX_MANIFEST_SIZE: usize = 4 * 1024 * 1024;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An image index, which is also the form of a list of referrers.
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A manifest: its text as it came, and what the registry needs to know of it.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) text: String,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    /// Media types of the config and the layers that have to be in the repository.
    pub(crate) layers: BTreeMap<Digest, String>,
    /// The images that an index lists.
    pub(crate) children: Vec<Digest>,
    pub(crate) subject: Option<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
}

impl Descriptor {
    /// Layers of this kind stay where their URLs point, and need not be in the registry.
    fn is_foreign(&self) -> bool {
        self.media_type.contains("foreign") || self.media_type.contains("nondistributable")
    }
}

impl Manifest {
    /// Reads a manifest, with the media type that its sender declared, if any.
    pub(crate) fn parse(text: String, declared: Option<&str>) -> Result<Self> {
        if text.is_empty() || text.len() > MAX_MANIFEST_SIZE {
            return Err(invalid(&format!("must have length 1 to {MAX_MANIFEST_SIZE}")));
        }
        let document: Document = serde_json::from_str(&text).map_err(|_| invalid("Invalid JSON syntax"))?;
        // ECR calls a missing media type a syntax error, too (aws/aws-sdk#193).
        let media_type = match (document.media_type, declared) {
            (None, None) => return Err(invalid("Invalid JSON syntax")),
            (Some(own), Some(declared)) if own != declared => {
                return Err(invalid(&format!("mediaType '{own}' must equal imageManifestMediaType '{declared}'")));
            }
            (Some(own), _) => own,
            (None, Some(declared)) => declared.to_owned(),
        };
        if document.schema_version != Some(2) {
            return Err(invalid("schemaVersion must be 2"));
        }

        let (mut layers, mut children) = (BTreeMap::new(), Vec::new());
        let mut config_type = None;
        match (media_type.as_str(), document.config, document.layers, document.manifests) {
            (DOCKER_MANIFEST | OCI_MANIFEST, Some(config), Some(parts), None) => {
                config_type = Some(config.media_type.clone());
                layers.extend(
                    parts
                        .into_iter()
                        .filter(|layer| !layer.is_foreign())
                        .chain([config])
                        .map(|layer| (layer.digest, layer.media_type)),
                );
            }
            (DOCKER_LIST | OCI_INDEX, None, None, Some(images)) => {
                children.extend(images.into_iter().map(|image| image.digest));
            }
            (DOCKER_MANIFEST | OCI_MANIFEST | DOCKER_LIST | OCI_INDEX, ..) => {
                return Err(invalid(&format!("the manifest does not have the members of a '{media_type}'")));
            }
            _ => return Err(invalid(&format!("unsupported media type '{media_type}'"))),
        }
        Ok(Self {
            digest: Digest::of(text.as_bytes()),
            text,
            media_type,
            artifact_type: document.artifact_type.or(config_type),
            annotations: document.annotations,
            layers,
            children,
            subject: document.subject.map(|subject| subject.digest),
        })
    }
}

fn invalid(constraint: &str) -> Error {
    Error::InvalidParameter(format!(
        "Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{constraint}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(media_type: &str, layer_type: &str) -> String {
        let (config, layer) = (Digest::of(b"config"), Digest::of(b"layer"));
        format!(
            r#"{{"schemaVersion": 2, "mediaType": "{media_type}",
                 "config": {{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "{config}", "size": 6}},
                 "layers": [{{"mediaType": "{layer_type}", "digest": "{layer}", "size": 5}}]}}"#
        )
    }

    #[test]
    fn foreign_layers_are_not_required() {
        let kept = Manifest::parse(image(OCI_MANIFEST, "application/vnd.oci.image.layer.v1.tar+gzip"), None).unwrap();
        assert_eq!(kept.layers.len(), 2);
        for foreign in [
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        ] {
            let manifest = Manifest::parse(image(OCI_MANIFEST, foreign), None).unwrap();
            assert_eq!(manifest.layers.keys().collect::<Vec<_>>(), [&Digest::of(b"config")], "{foreign}");
        }
    }

    #[test]
    fn the_artifact_type_is_the_configs_media_type_where_none_is_given() {
        let manifest = Manifest::parse(image(OCI_MANIFEST, "x"), Some(OCI_MANIFEST)).unwrap();
        assert_eq!(manifest.artifact_type.as_deref(), Some("application/vnd.oci.image.config.v1+json"));
    }

    #[test]
    fn an_index_cannot_pass_as_an_image() {
        for media_type in [DOCKER_LIST, OCI_INDEX, "application/json"] {
            assert!(Manifest::parse(image(media_type, "x"), None).is_err(), "{media_type}");
        }
        assert!(Manifest::parse(image(OCI_MANIFEST, "x"), Some(DOCKER_MANIFEST)).is_err());
    }
}
