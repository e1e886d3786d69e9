//! The images of a source repository: what of them is compared, and what belongs to what.

use jiff::Timestamp;
use shared::{
    names::{Digest, ImageTag},
    referrers::subject_of_tag,
    registry::Listed,
};

/// How deep referrers may refer to referrers, as where an image is replicated.
const DEPTH_LIMIT: usize = 8;

/// A digest's bytes: a third of what its text takes. A repository has a hundred thousand images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sha([u8; 32]);

impl From<&Digest> for Sha {
    fn from(digest: &Digest) -> Self {
        let hex = digest.as_str().as_bytes();
        let hex = &hex[hex.len() - 64..];
        // A digest has hex digits only.
        let nibble = |letter: u8| if letter.is_ascii_digit() { letter - b'0' } else { letter - b'a' + 10 };
        Self(std::array::from_fn(|place| nibble(hex[2 * place]) << 4 | nibble(hex[2 * place + 1])))
    }
}

impl std::fmt::Display for Sha {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl Sha {
    /// As a digest is written.
    pub(crate) fn digest(self) -> Option<Digest> {
        self.to_string().parse().ok()
    }
}

/// An image of the source.
pub(crate) struct Image {
    pub(crate) sha: Sha,
    pub(crate) pushed_at: Option<Timestamp>,
    pub(crate) is_index: bool,
    /// The places of its tags.
    pub(crate) tags: Vec<u32>,
    subject: Option<Sha>,
}

/// What a chain of referrers refers to in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// The image in this place.
    Image(u32),
    /// What the source does not have, the stranger in this place.
    Stranger(u32),
}

/// What is compared for itself: a tag of an image, or an image without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) image: u32,
    pub(crate) tag: Option<u32>,
    /// What the image refers to: a referrer that has a tag of its own.
    pub(crate) subject: Option<Root>,
}

/// What is compared with what it refers to. One that has a tag of its own is so, too: it goes with an image whose rule does not
/// select that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Referrer {
    pub(crate) image: u32,
    /// The tag that tells whose it is, in cosign's scheme.
    pub(crate) tag: Option<u32>,
    /// What it refers to.
    pub(crate) subject: Root,
    /// What that refers to in the end: what brings it.
    pub(crate) root: Root,
}

/// The images of a source repository.
#[derive(Default)]
pub(crate) struct Source {
    /// In the order of their digests.
    pub(crate) images: Vec<Image>,
    /// Every tag and its image, in the order of tags.
    pub(crate) tags: Vec<(ImageTag, u32)>,
    /// Digests that are referred to and are no images, in order.
    pub(crate) strangers: Vec<Sha>,
    /// The oldest first, the tags of an image in their order.
    pub(crate) entries: Vec<Entry>,
    /// In the order of what they refer to, the oldest first for each.
    pub(crate) referrers: Vec<Referrer>,
}

/// Lists are shorter than this by far: a repository has a hundred thousand images, and each a thousand tags.
fn place(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Source {
    /// The repository whose images are `listed`.
    pub(crate) fn new(listed: Vec<Listed>) -> Self {
        let mut listed: Vec<(Sha, Listed)> = listed.into_iter().map(|image| ((&image.digest).into(), image)).collect();
        listed.sort_by_key(|(sha, _)| *sha);
        // A page may repeat what was on the one before it.
        listed.dedup_by_key(|(sha, _)| *sha);
        let mut source = Self::default();
        for (image, (sha, Listed { tags, pushed_at, is_index, subject, .. })) in listed.into_iter().enumerate() {
            source.tags.extend(tags.into_iter().map(|tag| (tag, place(image))));
            let subject = subject.as_ref().map(Sha::from);
            source.images.push(Image { sha, pushed_at, is_index, tags: Vec::new(), subject });
        }
        source.tags.sort_unstable();
        // One that was moved while the pages came is on two of them.
        source.tags.dedup_by(|after, before| after.0 == before.0);
        for (tag, (_, image)) in source.tags.iter().enumerate() {
            source.images[*image as usize].tags.push(place(tag));
        }
        source.sort_out();
        source
    }

    /// Tells what is compared for itself from what is with another image.
    fn sort_out(&mut self) {
        let (mut entries, mut referrers) = (Vec::new(), Vec::new());
        for (number, image) in self.images.iter().enumerate() {
            let number = place(number);
            let of_tags = image.tags.iter().map(|&tag| (tag, subject_of_tag(self.tag(tag)).as_ref().map(Sha::from)));
            let of_tags: Vec<(u32, Option<Sha>)> = of_tags.collect();
            for &(tag, of_tag) in &of_tags {
                match of_tag {
                    // What its manifest says goes before what its tag says.
                    Some(of_tag) => referrers.push((number, Some(tag), image.subject.unwrap_or(of_tag), of_tag)),
                    None => entries.push((number, Some(tag), image.subject)),
                }
            }
            match image.subject {
                Some(subject) if of_tags.iter().all(|(_, of_tag)| *of_tag != Some(subject)) => {
                    referrers.push((number, None, subject, subject));
                }
                None if of_tags.is_empty() => entries.push((number, None, None)),
                _ => {}
            }
        }
        // What has no root is deeper than anything is replicated.
        let referrers = referrers.into_iter();
        let referrers = referrers.filter_map(|(image, tag, subject, of)| Some((image, tag, subject, self.root(of)?)));
        let referrers: Vec<(u32, Option<u32>, Sha, Sha)> = referrers.collect();
        let of_referrers = referrers.iter().flat_map(|(_, _, subject, root)| [*subject, *root]);
        let subjects = entries.iter().filter_map(|(_, _, subject)| *subject).chain(of_referrers);
        let mut strangers: Vec<Sha> = subjects.filter(|subject| self.image(*subject).is_none()).collect();
        strangers.sort_unstable();
        strangers.dedup();
        self.strangers = strangers;
        let known = |sha: Sha| {
            let stranger = || self.strangers.binary_search(&sha).ok().map(|stranger| Root::Stranger(place(stranger)));
            self.image(sha).map(Root::Image).or_else(stranger)
        };
        let entries = entries.into_iter();
        let mut entries: Vec<Entry> =
            entries.map(|(image, tag, subject)| Entry { image, tag, subject: subject.and_then(known) }).collect();
        let mut referrers: Vec<Referrer> = referrers
            .into_iter()
            .filter_map(|(image, tag, subject, root)| {
                Some(Referrer { image, tag, subject: known(subject)?, root: known(root)? })
            })
            .collect();
        let age = |image: u32| (self.images[image as usize].pushed_at, image);
        entries.sort_by_key(|entry| (age(entry.image), entry.tag));
        referrers.sort_by_key(|referrer| (root_key(referrer.root), age(referrer.image), referrer.tag));
        (self.entries, self.referrers) = (entries, referrers);
    }

    /// The place of an image.
    pub(crate) fn image(&self, sha: Sha) -> Option<u32> {
        self.images.binary_search_by_key(&sha, |image| image.sha).ok().map(place)
    }

    /// The place of an image, or after those, of a stranger.
    pub(crate) fn place(&self, sha: Sha) -> Option<usize> {
        let stranger = || self.strangers.binary_search(&sha).ok().map(|stranger| self.images.len() + stranger);
        self.image(sha).map(|image| image as usize).or_else(stranger)
    }

    /// As [`Source::place`], of a root.
    pub(crate) fn place_of(&self, root: Root) -> usize {
        match root {
            Root::Image(image) => image as usize,
            Root::Stranger(stranger) => self.images.len() + stranger as usize,
        }
    }

    /// The place of a tag.
    pub(crate) fn tag_place(&self, tag: &ImageTag) -> Option<usize> {
        self.tags.binary_search_by(|(known, _)| known.cmp(tag)).ok()
    }

    /// The tag in a place.
    pub(crate) fn tag(&self, tag: u32) -> &ImageTag {
        &self.tags[tag as usize].0
    }

    /// The image in a place.
    pub(crate) fn at(&self, image: u32) -> &Image {
        &self.images[image as usize]
    }

    /// What refers to `root`, at any depth, with its place.
    pub(crate) fn referrers_of(&self, root: Root) -> impl Iterator<Item = (u32, Referrer)> {
        let begin = self.referrers.partition_point(|referrer| root_key(referrer.root) < root_key(root));
        let of_root = self.referrers[begin..].iter().take_while(move |referrer| referrer.root == root);
        (place(begin)..).zip(of_root.copied())
    }

    /// What `sha` refers to in the end, itself where it refers to nothing.
    fn root(&self, mut sha: Sha) -> Option<Sha> {
        for _ in 0..DEPTH_LIMIT {
            let Some(image) = self.image(sha).map(|image| self.at(image)) else { return Some(sha) };
            let mut tags = image.tags.iter().map(|&tag| subject_of_tag(self.tag(tag)));
            let mut of_tag = || tags.next().flatten().filter(|_| tags.all(|subject| subject.is_some()));
            match image.subject.or_else(|| of_tag().as_ref().map(Sha::from)) {
                Some(subject) => sha = subject,
                None => return Some(sha),
            }
        }
        None
    }
}

/// Images first.
fn root_key(root: Root) -> (bool, u32) {
    match root {
        Root::Image(image) => (false, image),
        Root::Stranger(stranger) => (true, stranger),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// An image by name, pushed at the second `at`.
    fn listed(name: &str, at: i64, tags: &[&str], subject: Option<&str>) -> Listed {
        Listed {
            digest: digest(name),
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            pushed_at: Timestamp::from_second(at).ok(),
            is_index: false,
            subject: subject.map(digest),
        }
    }

    fn cosign(name: &str, kind: &str) -> String {
        format!("{}.{kind}", digest(name).as_str().replace(':', "-"))
    }

    #[test]
    fn a_digest_s_bytes_are_written_as_the_digest() {
        let digest = digest("app");
        assert_eq!(Sha::from(&digest).digest(), Some(digest));
    }

    #[test]
    fn what_refers_to_an_image_is_not_compared_for_itself() {
        let (of_app, of_gone) = (cosign("app", "sig"), cosign("gone", "sbom"));
        let source = Source::new(vec![
            listed("app", 3, &["v1", "latest"], None),
            listed("sbom", 4, &[], Some("app")),
            listed("signature of sbom", 5, &[], Some("sbom")),
            listed("signature", 6, &[&of_app], None),
            listed("lost", 7, &[&of_gone], None),
            listed("platform", 1, &[], None),
            listed("chart", 2, &["chart"], Some("app")),
        ]);
        let name = |image: u32| {
            let names = ["app", "sbom", "signature of sbom", "signature", "lost", "platform", "chart"];
            names.into_iter().find(|name| Sha::from(&digest(name)) == source.at(image).sha).unwrap()
        };
        let app = Root::Image(source.image(Sha::from(&digest("app"))).unwrap());
        let entries: Vec<_> = source.entries.iter().collect();
        let told: Vec<_> =
            entries.iter().map(|entry| (name(entry.image), entry.tag.map(|tag| source.tag(tag).as_str()))).collect();
        assert_eq!(
            told,
            [("platform", None), ("chart", Some("chart")), ("app", Some("latest")), ("app", Some("v1"))],
            "the oldest first"
        );
        assert_eq!(entries[1].subject, Some(app), "what has a tag of its own is judged by what it refers to");
        let of_app: Vec<&str> = source.referrers_of(app).map(|(_, referrer)| name(referrer.image)).collect();
        assert_eq!(of_app, ["chart", "sbom", "signature of sbom", "signature"], "and comes with that all the same");
        let of_sbom = source.referrers.iter().find(|referrer| name(referrer.image) == "signature of sbom").unwrap();
        assert_eq!(of_sbom.subject, Root::Image(source.image(Sha::from(&digest("sbom"))).unwrap()));
        assert_eq!(source.strangers, [Sha::from(&digest("gone"))]);
        let of_gone: Vec<&str> =
            source.referrers_of(Root::Stranger(0)).map(|(_, referrer)| name(referrer.image)).collect();
        assert_eq!(of_gone, ["lost"]);
    }

    #[test]
    fn what_refers_to_itself_refers_to_nothing() {
        let itself = cosign("app", "sig");
        let source = Source::new(vec![listed("app", 1, &[&itself], None)]);
        assert_eq!((source.entries, source.referrers), (vec![], vec![]));
    }

    #[test]
    fn an_image_that_two_pages_have_is_one() {
        let source = Source::new(vec![listed("app", 1, &["v1"], None), listed("app", 1, &["v1"], None)]);
        assert_eq!((source.images.len(), source.entries.len()), (1, 1));
    }
}
