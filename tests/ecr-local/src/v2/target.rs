use axum::http::StatusCode;
use uuid::Uuid;

use super::error::Refusal;
use crate::names::{Digest, ImageTag, RepositoryName};

/// What a path below `/v2/` names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Ping,
    Manifest(RepositoryName, Reference),
    Blob(RepositoryName, Digest),
    Uploads(RepositoryName),
    Upload(RepositoryName, Uuid),
    Tags(RepositoryName),
    Referrers(RepositoryName, Digest),
}

/// A manifest's name in a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Digest(Digest),
    Tag(ImageTag),
}

impl Reference {
    pub(super) fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Digest(digest) => Some(digest),
            Self::Tag(_) => None,
        }
    }

    pub(super) fn tag(&self) -> Option<&ImageTag> {
        match self {
            Self::Digest(_) => None,
            Self::Tag(tag) => Some(tag),
        }
    }
}

impl Target {
    /// Read from the end: a repository's name may have any number of components, of any of these words.
    pub(super) fn parse(path: &str) -> Result<Self, Refusal> {
        let path = path.replace("%3A", ":").replace("%3a", ":");
        let path = path.strip_prefix("/v2/").unwrap_or_default();
        if path.is_empty() {
            return Ok(Self::Ping);
        }
        if let Some(name) = path.strip_suffix('/').unwrap_or(path).strip_suffix("/blobs/uploads") {
            return Ok(Self::Uploads(repository(name)?));
        }
        if let Some(name) = path.strip_suffix("/tags/list") {
            return Ok(Self::Tags(repository(name)?));
        }
        let (front, last) = path.rsplit_once('/').unwrap_or_default();
        if let Some(name) = front.strip_suffix("/blobs/uploads") {
            return Ok(Self::Upload(repository(name)?, upload(last)?));
        }
        match front.rsplit_once('/') {
            Some((name, "blobs")) => Ok(Self::Blob(repository(name)?, digest(last)?)),
            Some((name, "referrers")) => Ok(Self::Referrers(repository(name)?, digest(last)?)),
            Some((name, "manifests")) => Ok(Self::Manifest(repository(name)?, reference(last)?)),
            _ => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "UNSUPPORTED",
                format!("The local ECR has nothing at '/v2/{path}'"),
            )),
        }
    }

    /// The kind that stats and faults go by.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
            Self::Uploads(_) | Self::Upload(..) => "upload",
            Self::Tags(_) => "tags",
            Self::Referrers(..) => "referrers",
        }
    }

    /// The actions that a policy has to allow.
    pub(super) fn actions(&self, method: &str) -> &'static [&'static str] {
        match (method, self) {
            // The latter, too, as the documentation of ListImageReferrers says.
            ("GET" | "HEAD", Self::Manifest(..)) | ("GET", Self::Referrers(..)) => &["BatchGetImage"],
            ("PUT", Self::Manifest(..)) => &["PutImage"],
            ("DELETE", Self::Manifest(..)) => &["BatchDeleteImage"],
            ("HEAD", Self::Blob(..)) => &["BatchCheckLayerAvailability"],
            ("GET", Self::Blob(..)) => &["GetDownloadUrlForLayer"],
            ("POST", Self::Uploads(_)) => &["InitiateLayerUpload"],
            ("GET" | "PATCH", Self::Upload(..)) => &["UploadLayerPart"],
            ("PUT", Self::Upload(..)) => &["UploadLayerPart", "CompleteLayerUpload"],
            ("GET", Self::Tags(_)) => &["ListImages"],
            _ => &[],
        }
    }

    pub(super) fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Ping => None,
            Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Tags(name)
            | Self::Referrers(name, _) => Some(name),
        }
    }
}

fn repository(name: &str) -> Result<RepositoryName, Refusal> {
    RepositoryName::try_from(name).map_err(|invalid| bad_request("NAME_INVALID", invalid.to_string()))
}

fn digest(text: &str) -> Result<Digest, Refusal> {
    Digest::try_from(text).map_err(|invalid| bad_request("DIGEST_INVALID", invalid.to_string()))
}

fn reference(text: &str) -> Result<Reference, Refusal> {
    if text.contains(':') {
        return digest(text).map(Reference::Digest);
    }
    let tag = ImageTag::try_from(text).map_err(|invalid| bad_request("TAG_INVALID", invalid.to_string()))?;
    Ok(Reference::Tag(tag))
}

fn upload(text: &str) -> Result<Uuid, Refusal> {
    text.parse().map_err(|_| {
        Refusal::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", format!("'{text}' is not the id of an upload"))
    })
}

fn bad_request(code: &'static str, message: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_the_words_of_the_protocol() {
        let (digest, id) = (Digest::of(b"x"), Uuid::new_v4());
        let name = |name: &str| RepositoryName::try_from(name).unwrap();
        let by_tag = |tag: &str| Reference::Tag(ImageTag::try_from(tag).unwrap());
        for (path, target) in [
            (String::new(), Target::Ping),
            ("app/manifests/v1".to_owned(), Target::Manifest(name("app"), by_tag("v1"))),
            (format!("a/b/c/manifests/{digest}"), Target::Manifest(name("a/b/c"), Reference::Digest(digest.clone()))),
            ("a/manifests/b/manifests/list".to_owned(), Target::Manifest(name("a/manifests/b"), by_tag("list"))),
            (format!("app/blobs/{digest}"), Target::Blob(name("app"), digest.clone())),
            (format!("a/b/blobs/{}", digest.as_str().replace(':', "%3A")), Target::Blob(name("a/b"), digest.clone())),
            ("app/blobs/uploads/".to_owned(), Target::Uploads(name("app"))),
            ("app/blobs/uploads".to_owned(), Target::Uploads(name("app"))),
            ("a/b/blobs/uploads".to_owned(), Target::Uploads(name("a/b"))),
            ("a/b/c/blobs/uploads/".to_owned(), Target::Uploads(name("a/b/c"))),
            (format!("a/b/blobs/uploads/{id}"), Target::Upload(name("a/b"), id)),
            ("a/tags/tags/list".to_owned(), Target::Tags(name("a/tags"))),
            (format!("app/referrers/{digest}"), Target::Referrers(name("app"), digest.clone())),
        ] {
            assert_eq!(Target::parse(&format!("/v2/{path}")).unwrap(), target, "{path}");
        }
        for path in ["app", "app/manifests", "manifests/v1", "APP/manifests/v1", "app/blobs/v1", "app/blobs/uploads/1"]
        {
            assert!(Target::parse(&format!("/v2/{path}")).is_err(), "{path}");
        }
    }
}
