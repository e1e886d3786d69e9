//! What belongs to an image and is not in its tree: OCI referrers, and the images whose tags cosign makes of a digest.

use std::collections::HashSet;

use futures::{StreamExt as _, TryStreamExt as _, future::try_join, stream};

use crate::{
    contract::Referrer,
    names::{Digest, ImageTag},
    registry::{RegistryError, Repository},
};

/// What cosign makes of the digest `sha256:<hex>`: `sha256-<hex>.<kind>`, for signatures, attestations and SBOMs.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// How many referrers go with an image: Step Functions carries 256 KiB, and each takes up to 170 bytes of it.
const MOST: usize = 500;

/// How deep referrers may refer to referrers: a signature of an SBOM is two levels.
const DEPTH_LIMIT: usize = 8;

/// How many lists are asked for at once. ECR publishes no rate for them.
const LISTS_AT_ONCE: usize = 8;

/// The referrers of `manifests`, those of the referrers too, each after what it refers to; and how many at least are left
/// out because they are too many, or too deep.
///
/// # Errors
/// Those of [`Repository::referrers`] and [`Repository::manifests`].
pub async fn find(
    source: &Repository,
    manifests: impl IntoIterator<Item = Digest>,
) -> Result<(Vec<Referrer>, usize), RegistryError> {
    let mut subjects: Vec<Digest> = manifests.into_iter().collect();
    let mut known: HashSet<Digest> = subjects.iter().cloned().collect();
    let mut found = Vec::new();
    for depth in 0.. {
        if subjects.is_empty() {
            break;
        }
        let lists = stream::iter(&subjects).map(|subject| source.referrers(subject)).buffer_unordered(LISTS_AT_ONCE);
        let tags: Vec<ImageTag> = subjects.iter().flat_map(cosign_tags).collect();
        let (listed, (_, tagged)) =
            try_join(lists.try_collect::<Vec<Vec<Digest>>>(), source.manifests_and_tags(&[], &tags)).await?;
        let listed = listed.into_iter().flatten().filter(|digest| !known.contains(digest));
        let listed = listed.map(|digest| Referrer { digest, tag: None });
        let tagged = tagged.into_iter().map(|(tag, digest)| Referrer { digest, tag: Some(tag) });
        let mut level: Vec<Referrer> = listed.chain(tagged).collect();
        // Lists have no order: the same image always gives the same.
        level.sort_unstable();
        level.dedup();
        let digests = level.iter().map(|referrer| referrer.digest.clone());
        subjects = digests.filter(|digest| known.insert(digest.clone())).collect();
        if depth == DEPTH_LIMIT {
            return Ok((found, level.len()));
        }
        found.extend(level);
        if found.len() > MOST {
            let left_out = found.len() - MOST;
            found.truncate(MOST);
            return Ok((found, left_out));
        }
    }
    Ok((found, 0))
}

fn cosign_tags(digest: &Digest) -> impl Iterator<Item = ImageTag> {
    let stem = digest.as_str().replace(':', "-");
    COSIGN.into_iter().filter_map(move |kind| format!("{stem}.{kind}").parse().ok())
}

/// The digest whose signature, attestation or SBOM a tag of cosign's says that its image is.
#[must_use]
pub fn subject_of_tag(tag: &ImageTag) -> Option<Digest> {
    let (stem, kind) = tag.as_str().split_once('.')?;
    let hex = stem.strip_prefix("sha256-").filter(|_| COSIGN.contains(&kind))?;
    format!("sha256:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_of_a_digest_are_cosign_s() {
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let tags: Vec<String> = cosign_tags(&digest).map(|tag| tag.to_string()).collect();
        let stem = format!("sha256-{}", "ab".repeat(32));
        assert_eq!(tags, ["sig", "att", "sbom"].map(|kind| format!("{stem}.{kind}")));
        assert!(cosign_tags(&digest).all(|tag| subject_of_tag(&tag).as_ref() == Some(&digest)));
        for other in ["v1.0", "sha256-ab.sig", &format!("{stem}.other"), &stem] {
            assert_eq!(subject_of_tag(&other.parse().unwrap()), None, "{other}");
        }
    }
}
