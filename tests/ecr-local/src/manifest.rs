use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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
const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const DOCKER_SCHEMA_1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// What docker/distribution calls the layers of schema 1, which has no media types in it.
const DOCKER_SCHEMA_1_LAYER: &str = "application/vnd.docker.container.image.rootfs.diff+x-gtar";

/// A manifest: its text as it came, and what the registry needs to know of it.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) text: String,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    /// Media types of the config and the layers, or an artifact's blobs, that have to be in the repository.
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
    blobs: Option<Vec<Descriptor>>,
    fs_layers: Option<Vec<FsLayer>>,
    subject: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
}

/// A layer of schema 1.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FsLayer {
    blob_sum: Digest,
}

impl Descriptor {
    /// Layers of this kind stay where their URLs point, and need not be in the registry.
    fn is_foreign(&self) -> bool {
        self.media_type.contains("foreign") || self.media_type.contains("nondistributable")
    }

    fn into_layer(self) -> (Digest, String) {
        (self.digest, self.media_type)
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
        let schema_version = match media_type.as_str() {
            DOCKER_MANIFEST | OCI_MANIFEST | DOCKER_LIST | OCI_INDEX => Some(2),
            DOCKER_SCHEMA_1 | DOCKER_SCHEMA_1_SIGNED => Some(1),
            // It has none.
            OCI_ARTIFACT => None,
            _ => return Err(invalid(&format!("unsupported media type '{media_type}'"))),
        };
        if let Some(version) = schema_version.filter(|version| document.schema_version != Some(*version)) {
            return Err(invalid(&format!("schemaVersion must be {version}")));
        }

        let (mut layers, mut children) = (BTreeMap::new(), Vec::new());
        let mut config_type = None;
        match (media_type.as_str(), document.config, document.layers, document.manifests, document.fs_layers) {
            (DOCKER_MANIFEST | OCI_MANIFEST, Some(config), Some(parts), None, _) => {
                config_type = Some(config.media_type.clone());
                let here = parts.into_iter().filter(|layer| !layer.is_foreign());
                layers.extend(here.chain([config]).map(Descriptor::into_layer));
            }
            (DOCKER_LIST | OCI_INDEX, None, None, Some(images), _) => {
                children.extend(images.into_iter().map(|image| image.digest));
            }
            (OCI_ARTIFACT, None, None, None, _) => {
                let here = document.blobs.into_iter().flatten().filter(|blob| !blob.is_foreign());
                layers.extend(here.map(Descriptor::into_layer));
            }
            (DOCKER_SCHEMA_1 | DOCKER_SCHEMA_1_SIGNED, None, None, None, Some(parts)) => {
                layers.extend(parts.into_iter().map(|layer| (layer.blob_sum, DOCKER_SCHEMA_1_LAYER.to_owned())));
            }
            _ => return Err(invalid(&format!("the manifest does not have the members of a '{media_type}'"))),
        }
        let digest = if media_type == DOCKER_SCHEMA_1_SIGNED {
            let signed = signed_text(&text).ok_or_else(|| invalid("the signatures must tell what they sign"))?;
            Digest::of(&signed)
        } else {
            Digest::of(text.as_bytes())
        };
        Ok(Self {
            digest,
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

#[derive(Deserialize)]
struct Signed {
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    protected: String,
}

/// What a signature tells of the text that it signs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProtectedHeader {
    format_length: usize,
    format_tail: String,
}

/// The text of a signed manifest before it was signed, which is what its digest is of: the signatures were put in before its
/// end, and each of them tells where, and what the end was. Signatures that disagree are none (docker/libtrust).
fn signed_text(text: &str) -> Option<Vec<u8>> {
    let Signed { signatures } = serde_json::from_str(text).ok()?;
    let mut texts = signatures.iter().map(|signature| signature.signed_text(text));
    let first = texts.next()??;
    texts.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

impl Signature {
    fn signed_text(&self, text: &str) -> Option<Vec<u8>> {
        let header = URL_SAFE_NO_PAD.decode(&self.protected).ok()?;
        let header: ProtectedHeader = serde_json::from_slice(&header).ok()?;
        let start = text.as_bytes().get(..header.format_length)?;
        let tail = URL_SAFE_NO_PAD.decode(header.format_tail).ok()?;
        Some([start, tail.as_slice()].concat())
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

    /// As docker signs a manifest: in its indentation, with a time in what is signed.
    fn signed(layer: &Digest, protected: &[String]) -> String {
        let payload = format!(
            r#"{{
   "schemaVersion": 1,
   "name": "app",
   "tag": "v1",
   "architecture": "amd64",
   "fsLayers": [
      {{
         "blobSum": "{layer}"
      }}
   ],
   "history": [
      {{
         "v1Compatibility": "{{\"id\":\"1\"}}"
      }}
   ]"#
        );
        let signatures: Vec<String> = protected
            .iter()
            .map(|protected| {
                format!(
                    r#"
      {{
         "header": {{
            "alg": "ES256"
         }},
         "signature": "AA",
         "protected": "{protected}"
      }}"#
                )
            })
            .collect();
        format!("{payload},\n   \"signatures\": [{}\n   ]\n}}", signatures.join(","))
    }

    /// `{"formatLength":301,"formatTail":"Cn0","time":"2026-01-01T00:00:00Z"}`
    const PROTECTED: &str =
        "eyJmb3JtYXRMZW5ndGgiOjMwMSwiZm9ybWF0VGFpbCI6IkNuMCIsInRpbWUiOiIyMDI2LTAxLTAxVDAwOjAwOjAwWiJ9";

    #[test]
    fn the_digest_of_a_signed_manifest_is_that_of_what_was_signed() {
        let layer = Digest::of(b"layer");
        for count in [1, 2] {
            let text = signed(&layer, &vec![PROTECTED.to_owned(); count]);
            let manifest = Manifest::parse(text, Some(DOCKER_SCHEMA_1_SIGNED)).unwrap();
            // As `skopeo manifest-digest` has it.
            let expected = "sha256:1ed88c494b313883891dfa460fc50a48cfb2edfef636988b96d4d06beff78afc";
            assert_eq!(manifest.digest.as_str(), expected, "{}", manifest.text);
            assert_eq!(manifest.layers.keys().collect::<Vec<_>>(), [&layer]);
        }
    }

    #[test]
    fn signatures_have_to_agree_on_what_they_sign() {
        let header = |header: &str| URL_SAFE_NO_PAD.encode(header);
        let layer = Digest::of(b"layer");
        for protected in [
            vec![],
            vec!["?".to_owned()],
            vec![header("{}")],
            vec![header(r#"{"formatLength": 4096, "formatTail": "Cn0"}"#)],
            vec![header(r#"{"formatLength": 301, "formatTail": "?"}"#)],
            vec![PROTECTED.to_owned(), header(r#"{"formatLength": 300, "formatTail": "Cn0"}"#)],
        ] {
            let text = signed(&layer, &protected);
            assert!(Manifest::parse(text, Some(DOCKER_SCHEMA_1_SIGNED)).is_err(), "{protected:?}");
        }
    }

    #[test]
    fn an_index_cannot_pass_as_an_image() {
        for media_type in [DOCKER_LIST, OCI_INDEX, "application/json"] {
            assert!(Manifest::parse(image(media_type, "x"), None).is_err(), "{media_type}");
        }
        assert!(Manifest::parse(image(OCI_MANIFEST, "x"), Some(DOCKER_MANIFEST)).is_err());
    }
}
