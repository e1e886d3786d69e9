//! One repository of the source, held to its targets.
//!
//! The source's images are in memory, those of a target never: each page of them is held to the source's and let go.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use shared::{
    contract::{SettingsMode, Target},
    error::{ErrorName, Named as _, chain, shorten},
    manifest::References,
    names::{Digest, ImageTag, Region, RegistryId, RepositoryName},
    patience::Patience,
    reconcile::{Difference, Item, Kind, Mode, Problem, Total},
    registry::{Listed, Page, Registries, RegistryError, Repository},
    settings::{INCOMPLETE, SourceSettings},
};

use crate::{
    manifests, plan,
    selection::{Selected, Selection, total},
    source::{Entry, Referrer, Root, Sha, Source},
};

/// How many targets of a repository are listed at once: each has a page of images in memory.
const TARGETS_AT_ONCE: usize = 4;

/// How long one target's throttling is waited out for a repository: the others wait meanwhile.
const TARGET_PAUSES: Duration = Duration::from_secs(90);

/// The most of a problem's message that is kept, in bytes.
const MESSAGE_LIMIT: usize = 500;

/// What comparisons work with.
pub(crate) struct Comparer<'a> {
    pub(crate) registries: &'a Registries,
    pub(crate) selection: &'a Selection,
    pub(crate) patience: Patience,
    /// What came to a target later came meanwhile.
    pub(crate) began_at: Timestamp,
    pub(crate) mode: Mode,
}

/// A repository that was held to its targets.
pub(crate) struct Comparison {
    pub(crate) repository: RepositoryName,
    source: Source,
    rules: Vec<OfRule>,
    places: Vec<Place>,
    /// Images that are platforms of an index: it brings them. Only known where that matters.
    platforms: HashSet<u32>,
    /// The platforms of each index, as far.
    children: HashMap<u32, Vec<u32>>,
    pub(crate) problems: Vec<Problem>,
}

/// What one rule takes of a repository, and where that goes.
struct OfRule {
    /// Its place in the selection, and its name.
    rule: usize,
    name: String,
    selected: Selected,
    /// Each with the number of its place.
    targets: Vec<(Target, usize)>,
    /// The settings that differ, by target, as they are told.
    settings: Vec<Option<String>>,
    /// The entry that tells of settings.
    carrier: Option<u32>,
}

/// A target repository, and as whom it is reached: what is asked once, whatever the rules.
struct Place {
    target: Target,
    repository: Repository,
    /// What it has; nothing where it could not be asked.
    present: Option<Present>,
    /// In a plan, the bytes that go there for an image. Told once.
    bytes: HashMap<u32, u64>,
}

/// What of the source's images a target has.
pub(crate) struct Present {
    /// Whether the repository is there.
    pub(crate) exists: bool,
    /// By the places of images and strangers.
    digests: Vec<bool>,
    /// By the places of tags.
    tags: Vec<Tag>,
    /// What has a tag that is on another image.
    holders: HashMap<u32, Sha>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Absent,
    Same,
    Other,
    /// On another image, which came while this run was under way: so may have what the source has by now.
    Later,
}

impl Present {
    /// What a repository has that has nothing.
    fn nothing(source: &Source) -> Self {
        Self {
            exists: false,
            digests: vec![false; source.images.len() + source.strangers.len()],
            tags: vec![Tag::Absent; source.tags.len()],
            holders: HashMap::new(),
        }
    }

    fn mark(&mut self, source: &Source, image: &Listed, began_at: Timestamp) {
        let sha = Sha::from(&image.digest);
        let place = source.place(sha);
        if let Some(place) = place {
            self.digests[place] = true;
        }
        for tag in &image.tags {
            let Some(number) = source.tag_place(tag) else { continue };
            let is_same = place == Some(source.tags[number].1 as usize);
            let is_later = image.pushed_at.is_some_and(|at| at > began_at);
            self.tags[number] = match is_same {
                true => Tag::Same,
                false if is_later => Tag::Later,
                false => Tag::Other,
            };
            if self.tags[number] == Tag::Other
                && let Ok(number) = u32::try_from(number)
            {
                self.holders.insert(number, sha);
            }
        }
    }

    pub(crate) fn has_image(&self, image: u32) -> bool {
        self.digests[image as usize]
    }

    pub(crate) fn has_referrer(&self, referrer: Referrer) -> bool {
        match referrer.tag {
            Some(tag) => matches!(self.tags[tag as usize], Tag::Same | Tag::Later),
            None => self.has_image(referrer.image),
        }
    }

    /// How it differs from an entry of the source, its referrers aside.
    fn differs(&self, source: &Source, entry: Entry) -> Option<(Kind, Sha, Option<Sha>)> {
        let sha = source.at(entry.image).sha;
        match entry.tag.map(|tag| (tag, self.tags[tag as usize])) {
            Some((_, Tag::Absent)) => Some((Kind::Missing, sha, None)),
            Some((tag, Tag::Other)) => Some((Kind::OtherDigest, sha, self.holders.get(&tag).copied())),
            None if !self.has_image(entry.image) => Some((Kind::Missing, sha, None)),
            Some((_, Tag::Same | Tag::Later)) | None => None,
        }
    }

    /// Whether it lacks a referrer of something that it has.
    fn lacks(&self, source: &Source, referrer: Referrer) -> bool {
        self.digests[source.place_of(referrer.subject)] && !self.has_referrer(referrer)
    }
}

impl Comparer<'_> {
    /// Holds a repository to its targets; `None` when it is gone.
    ///
    /// # Errors
    /// Those of reading the source: `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub(crate) async fn compare(&self, repository: RepositoryName) -> Result<Option<Comparison>, RegistryError> {
        match self.compare_images(repository).await {
            Err(error) if error.name() == ErrorName::ImageNotFound => Ok(None),
            comparison => comparison,
        }
    }

    async fn compare_images(&self, repository: RepositoryName) -> Result<Option<Comparison>, RegistryError> {
        let home = self.registries.repository(self.registries.source(), &repository);
        let mut listed = Vec::new();
        self.pages(&home, &self.patience, |images| listed.extend(images)).await?;
        let is_in_time = |image: &Listed| image.pushed_at.is_none_or(|at| at <= self.selection.pushed_until());
        let (mut listed, later): (Vec<Listed>, Vec<Listed>) = listed.into_iter().partition(is_in_time);
        // A tag that was moved while the pages came is on two of them.
        let moved: HashSet<&ImageTag> = later.iter().flat_map(|image| &image.tags).collect();
        for image in &mut listed {
            image.tags.retain(|tag| !moved.contains(tag));
        }
        let later = later.iter().filter(|image| image.is_index).map(|image| image.digest.clone()).collect();
        let source = Source::new(listed);
        let mut comparison = Comparison {
            repository,
            source,
            rules: Vec::new(),
            places: Vec::new(),
            platforms: HashSet::new(),
            children: HashMap::new(),
            problems: Vec::new(),
        };
        self.choose(&mut comparison).await;
        self.look(&mut comparison).await;
        // Boxed, as each of these is large and hardly ever needed.
        if !Box::pin(self.hold_settings(&home, &mut comparison)).await? {
            return Ok(None);
        }
        Box::pin(self.find_platforms(&home, &mut comparison, later)).await?;
        if self.mode == Mode::Plan {
            Box::pin(self.weigh(&home, &mut comparison)).await?;
        }
        comparison.choose_carriers();
        Ok(Some(comparison))
    }

    /// Reads all pages of a repository's images.
    async fn pages(
        &self,
        repository: &Repository,
        patience: &Patience,
        mut take: impl FnMut(Vec<Listed>),
    ) -> Result<(), RegistryError> {
        let mut token = None;
        loop {
            let page = patience.ask(repository, async || repository.images(token.clone()).await).await?;
            let Page { entries, next } = page;
            take(entries);
            match next {
                Some(next) => token = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// The patience with one target.
    fn target_patience(&self) -> Patience {
        self.patience.with_pauses_of(TARGET_PAUSES)
    }

    /// What the rules take, and the places where it goes.
    async fn choose(&self, comparison: &mut Comparison) {
        for rule in self.selection.rules_of(&comparison.repository) {
            let (name, definition) = self.selection.rule(rule);
            let targets = match self.selection.targets(rule, &comparison.repository) {
                Ok(targets) => targets,
                Err(problem) => {
                    for target in &definition.targets {
                        let place = (target.region.clone(), target.registry_id.clone());
                        comparison.add_problem(name, place, ErrorName::InvalidInput, &problem.to_string());
                    }
                    continue;
                }
            };
            let selected = self.selection.select(rule, &comparison.source);
            let mut placed = Vec::new();
            for target in targets {
                let known = comparison.places.iter().position(|place| is_same_place(&place.target, &target));
                let number = known.unwrap_or(comparison.places.len());
                if known.is_none() {
                    let repository = self.registries.target(&target).await;
                    let (target, bytes) = (target.clone(), HashMap::new());
                    comparison.places.push(Place { target, repository, present: None, bytes });
                }
                placed.push((target, number));
            }
            let settings = vec![None; placed.len()];
            comparison.rules.push(OfRule {
                rule,
                name: name.to_owned(),
                selected,
                targets: placed,
                settings,
                carrier: None,
            });
        }
    }

    /// Asks every place what it has, unless nothing is compared with it.
    async fn look(&self, comparison: &mut Comparison) {
        let source = &comparison.source;
        let looks = comparison.places.iter().enumerate().map(|(number, place)| {
            let is_asked = !comparison.asking(number).is_empty();
            async move {
                if !is_asked {
                    return (number, Ok(Present::nothing(source)));
                }
                let mut present = Present::nothing(source);
                let mark =
                    |images: Vec<Listed>| images.iter().for_each(|image| present.mark(source, image, self.began_at));
                let looked = self.pages(&place.repository, &self.target_patience(), mark).await;
                (
                    number,
                    match looked {
                        Err(error) if error.name() == ErrorName::RepositoryNotFound => Ok(Present::nothing(source)),
                        Err(error) => Err(error),
                        Ok(()) => {
                            present.exists = true;
                            Ok(present)
                        }
                    },
                )
            }
        });
        let mut looked: Vec<_> = stream::iter(looks).buffer_unordered(TARGETS_AT_ONCE).collect().await;
        looked.sort_by_key(|(number, _)| *number);
        for (number, looked) in looked {
            match looked {
                Ok(present) => comparison.places[number].present = Some(present),
                Err(error) => comparison.tell(number, &comparison.asking(number), &error),
            }
        }
    }

    /// Finds out which images are platforms of an index, or of one of `later`, which are left out themselves. Only where that
    /// matters are indexes read.
    async fn find_platforms(
        &self,
        home: &Repository,
        comparison: &mut Comparison,
        later: Vec<Digest>,
    ) -> Result<(), RegistryError> {
        if !comparison.rules.iter().any(|rule| self.needs_platforms(comparison, rule)) {
            return Ok(());
        }
        let Comparison { source, platforms, children, .. } = comparison;
        let indexes = source.images.iter().filter(|image| image.is_index).filter_map(|image| image.sha.digest());
        let indexes: Vec<Digest> = indexes.chain(later).collect();
        let take = |index: Sha, references: References| {
            let named = references.children.iter().filter_map(|child| source.image(Sha::from(child)));
            let named: Vec<u32> = named.collect();
            platforms.extend(&named);
            children.extend(source.image(index).map(|index| (index, named)));
        };
        manifests::read(home, &indexes, &self.patience, take).await
    }

    /// Whether what a rule tells depends on what is a platform: an image without a tag that is missing, or the only one that could
    /// tell of settings; a referrer that is missing, whose image the rule does not take, and in a plan, any that is missing.
    fn needs_platforms(&self, comparison: &Comparison, rule: &OfRule) -> bool {
        let Comparison { source, places, .. } = comparison;
        let Selected { entries, images, loose } = &rule.selected;
        let present = || rule.targets.iter().filter_map(|(_, place)| places[*place].present.as_ref());
        let mut entries = entries.iter().map(|place| source.entries[*place as usize]);
        let is_untagged = |entry: Entry| entry.tag.is_none();
        let tells_settings = rule.settings.iter().any(Option::is_some);
        if tells_settings && entries.clone().all(is_untagged)
            || entries.any(|entry| is_untagged(entry) && present().any(|present| !present.has_image(entry.image)))
        {
            return true;
        }
        let mut referrers = (0u32..).zip(&source.referrers);
        referrers.any(|(place, referrer)| match referrer.root {
            Root::Stranger(_) => false,
            Root::Image(_) if self.mode == Mode::Plan => present().any(|present| !present.has_referrer(*referrer)),
            Root::Image(image) => {
                !images.contains(&image)
                    && loose.binary_search(&place).is_err()
                    && present().any(|present| present.lacks(source, *referrer))
            }
        })
    }

    /// Holds the settings of targets that are synced to the source's. Whether the source is still there.
    async fn hold_settings(&self, home: &Repository, comparison: &mut Comparison) -> Result<bool, RegistryError> {
        let mut wanted = Vec::new();
        for (number, rule) in comparison.rules.iter().enumerate() {
            for (target, (of_rule, place)) in rule.targets.iter().enumerate() {
                let is_there = comparison.places[*place].present.as_ref().is_some_and(|present| present.exists);
                if of_rule.settings == SettingsMode::Sync && is_there && !rule.selected.entries.is_empty() {
                    wanted.push((number, target, *place));
                }
            }
        }
        if wanted.is_empty() {
            return Ok(true);
        }
        let Some(described) = self.patience.ask(home, async || home.describe().await).await? else { return Ok(false) };
        let place = described.place.clone();
        let settings = self.patience.ask(home, async || home.settings(described.clone()).await).await?;
        let Some(settings) = settings else { return Ok(false) };
        let source = SourceSettings { place, settings };
        // Each target's once, whatever the rules.
        let mut numbers: Vec<usize> = wanted.iter().map(|(_, _, place)| *place).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            let target = comparison.places[number].repository.clone();
            let patience = self.target_patience();
            let has = patience.ask(&target, async || {
                let Some(described) = target.describe().await? else { return Ok(None) };
                let place = described.place.clone();
                Ok(target.settings(described).await?.map(|settings| (place, settings)))
            });
            let (place, mut has) = match has.await {
                Ok(Some(has)) => has,
                // Deleted since.
                Ok(None) => continue,
                Err(error) => {
                    let rules = wanted.iter().filter(|(_, _, place)| *place == number).map(|(rule, ..)| *rule);
                    comparison.tell(number, &rules.collect::<Vec<_>>(), &error);
                    continue;
                }
            };
            // What is missing of one that is being made is set by whoever makes it.
            has.tags.remove(INCOMPLETE);
            for (rule, target, _) in wanted.iter().filter(|(_, _, place)| *place == number) {
                let rule = &mut comparison.rules[*rule];
                let own = self.selection.rule(rule.rule).1.repository_settings.clone();
                let key = rule.targets[*target].0.kms_key_arn.clone();
                let wants = source.wanted(own, key.as_deref(), Some(&place));
                let differences = has.differences(&wants, &place.registry_id);
                // What nothing mends would differ for ever.
                let names = differences.into_iter().filter(|it| it.change.is_some()).map(|it| it.told.setting);
                let names: Vec<String> = names.collect();
                rule.settings[*target] = Some(names.join(", ")).filter(|names| !names.is_empty());
            }
        }
        Ok(true)
    }

    /// The bytes that would go to each place.
    async fn weigh(&self, home: &Repository, comparison: &mut Comparison) -> Result<(), RegistryError> {
        let wanted: Vec<Vec<u32>> = (0..comparison.places.len()).map(|number| comparison.images_for(number)).collect();
        let source = &comparison.source;
        let all: HashSet<Sha> = wanted.iter().flatten().map(|image| source.at(*image).sha).collect();
        if all.is_empty() {
            return Ok(());
        }
        let trees = plan::Trees::read(home, all, &self.patience).await?;
        let weighs = comparison.places.iter().zip(&wanted).enumerate().map(|(number, (place, images))| {
            let trees = &trees;
            async move {
                let exists = place.present.as_ref().is_some_and(|present| present.exists);
                let images = images.iter().map(|image| (*image, source.at(*image).sha));
                let target = exists.then_some(&place.repository);
                (number, trees.weigh(images, target, &self.target_patience()).await)
            }
        });
        let weighed: Vec<_> = stream::iter(weighs).buffer_unordered(TARGETS_AT_ONCE).collect().await;
        for (number, weighed) in weighed {
            match weighed {
                Ok(bytes) => comparison.places[number].bytes = bytes,
                Err(error) => comparison.tell(number, &comparison.asking(number), &error),
            }
        }
        Ok(())
    }
}

fn is_same_place(one: &Target, other: &Target) -> bool {
    let key = |target: &Target| {
        let Target { region, repository, registry_id, role_arn, external_id, .. } = target.clone();
        (region, repository, registry_id, role_arn, external_id)
    };
    key(one) == key(other)
}

impl Comparison {
    /// How many images of the source were compared, or could have been.
    pub(crate) fn images(&self) -> usize {
        self.source.images.len()
    }

    /// The bytes that would go to each target, in a plan.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = (&Target, u64)> {
        self.places.iter().map(|place| (&place.target, place.bytes.values().sum()))
    }

    /// The rules that compare something with a place.
    fn asking(&self, number: usize) -> Vec<usize> {
        let goes_there = |rule: &OfRule| rule.targets.iter().any(|(_, place)| *place == number);
        let takes = |rule: &OfRule| !rule.selected.entries.is_empty() || !rule.selected.loose.is_empty();
        (0..self.rules.len()).filter(|&rule| goes_there(&self.rules[rule]) && takes(&self.rules[rule])).collect()
    }

    /// Something of a place could not be asked for `rules`: it is not known all that differs there.
    fn tell(&mut self, number: usize, rules: &[usize], error: &RegistryError) {
        for rule in rules {
            let Target { region, registry_id, .. } = self.places[number].target.clone();
            let name = self.rules[*rule].name.clone();
            self.add_problem(&name, (region, registry_id), error.name(), &chain(error));
        }
    }

    /// A rule may have several targets in a registry, and several things to ask there: the repository is one.
    fn add_problem(&mut self, rule: &str, place: (Region, Option<RegistryId>), error: ErrorName, message: &str) {
        let (region, registry_id) = place;
        let is_it = |it: &Problem| {
            it.rule == rule && it.region == region && it.registry_id == registry_id && it.error == error.as_str()
        };
        if !self.problems.iter().any(is_it) {
            self.problems.push(Problem {
                rule: rule.to_owned(),
                region,
                registry_id,
                error: error.to_string(),
                message: shorten(message, MESSAGE_LIMIT),
                repository: self.repository.clone(),
                repositories: 1,
            });
        }
    }

    /// Whether an image's referrers are told of by this entry: the first of the image that the rule takes.
    fn is_first(&self, rule: &OfRule, entry: usize) -> bool {
        let image = |entry: usize| self.source.entries[rule.selected.entries[entry] as usize].image;
        entry == 0 || image(entry - 1) != image(entry)
    }

    /// How the entry in a place of the rule's differs at a target; `None` where it does not, or is not known to.
    fn difference(&self, rule: &OfRule, entry: usize, place: usize) -> Option<(Kind, Sha, Option<Sha>)> {
        let present = self.places[place].present.as_ref()?;
        let compared = self.source.entries[rule.selected.entries[entry] as usize];
        match present.differs(&self.source, compared) {
            Some((Kind::Missing, ..)) if self.is_platform(compared) => None,
            // An image's referrers go with one of its tags.
            None if self.is_first(rule, entry) && present.has_image(compared.image) => {
                let missing = self.missing_referrer(rule, present, compared.image)?;
                Some((Kind::ReferrersMissing, self.source.at(missing.image).sha, None))
            }
            difference => difference,
        }
    }

    /// Whether an index brings it.
    fn is_platform(&self, entry: Entry) -> bool {
        entry.tag.is_none() && self.platforms.contains(&entry.image)
    }

    /// The first referrer of an image and of its platforms that is not there. What the rule compares for itself tells of itself.
    fn missing_referrer(&self, rule: &OfRule, present: &Present, image: u32) -> Option<Referrer> {
        let Selected { images, loose, .. } = &rule.selected;
        let members = self.tree(image).into_iter().filter(|member| *member == image || !images.contains(member));
        let mut referrers = members.flat_map(|member| self.source.referrers_of(Root::Image(member)));
        let is_told = |place: u32, referrer: Referrer| {
            loose.binary_search(&place).is_ok() || (referrer.tag.is_none() && images.contains(&referrer.image))
        };
        let missing =
            referrers.find(|(place, referrer)| !present.has_referrer(*referrer) && !is_told(*place, *referrer));
        missing.map(|(_, referrer)| referrer)
    }

    /// An image and, as far as they are known, the platforms below it.
    fn tree(&self, image: u32) -> Vec<u32> {
        let (mut tree, mut read) = (vec![image], 0);
        while let Some(member) = tree.get(read) {
            for child in self.children.get(member).into_iter().flatten() {
                if !tree.contains(child) {
                    tree.push(*child);
                }
            }
            read += 1;
        }
        tree
    }

    /// An image, and what is replicated with it.
    fn with_referrers(&self, image: u32) -> impl Iterator<Item = u32> {
        let referrers = self.tree(image).into_iter().flat_map(|member| self.source.referrers_of(Root::Image(member)));
        [image].into_iter().chain(referrers.map(|(_, referrer)| referrer.image))
    }

    /// The images that go to a place, in the order in which they do, each once.
    fn images_for(&self, number: usize) -> Vec<u32> {
        let Some(present) = &self.places[number].present else { return Vec::new() };
        let mut images = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.targets.iter().any(|(_, place)| *place == number)) {
            for (entry, &compared) in rule.selected.entries.iter().enumerate() {
                if self.difference(rule, entry, number).is_some() {
                    images.extend(self.with_referrers(self.source.entries[compared as usize].image));
                }
            }
            let loose = rule.selected.loose.iter().map(|referrer| self.source.referrers[*referrer as usize]);
            images.extend(loose.filter(|it| present.lacks(&self.source, *it)).map(|referrer| referrer.image));
        }
        let mut seen = HashSet::new();
        images.retain(|image| !present.has_image(*image) && seen.insert(*image));
        images
    }

    /// Settings are told of an image that differs anyway, or else of the newest, one with a tag if there is one.
    fn choose_carriers(&mut self) {
        let carriers: Vec<Option<u32>> = self
            .rules
            .iter()
            .map(|rule| {
                rule.settings.iter().flatten().next()?;
                let differs = |entry: &usize| {
                    rule.targets.iter().any(|(_, place)| self.difference(rule, *entry, *place).is_some())
                };
                let entry = |entry: &usize| self.source.entries[rule.selected.entries[*entry] as usize];
                let entries = || (0..rule.selected.entries.len()).filter(|it| !self.is_platform(entry(it)));
                let newest = || entries().rfind(|it| entry(it).tag.is_some()).or_else(|| entries().next_back());
                u32::try_from(entries().find(differs).or_else(newest)?).ok()
            })
            .collect();
        for (rule, carrier) in self.rules.iter_mut().zip(carriers) {
            rule.carrier = carrier;
        }
    }

    /// Adds what was compared to `totals`.
    pub(crate) fn count(&self, totals: &mut Vec<Total>) {
        for rule in &self.rules {
            for (target, place) in &rule.targets {
                if self.places[*place].present.is_some() {
                    let total = total(totals, &rule.name, &target.region, target.registry_id.as_ref());
                    total.compared += rule.selected.entries.len() as u64;
                }
            }
        }
    }

    /// Hands every item that differs to `take`, each rule's in the order of its images: first one for each image, and then those
    /// for other tags of it. Side by side, they would copy the same blobs at once.
    pub(crate) async fn items<E>(mut self, mut take: impl AsyncFnMut(Item) -> Result<(), E>) -> Result<(), E> {
        let (mut begun, mut put_off) = (HashSet::new(), Vec::new());
        for number in 0..self.rules.len() {
            for entry in 0..self.rules[number].selected.entries.len() {
                let image = self.source.entries[self.rules[number].selected.entries[entry] as usize].image;
                if begun.contains(&image) {
                    put_off.push((number, entry));
                } else if let Some(item) = self.entry_item(number, entry) {
                    begun.insert(image);
                    take(item).await?;
                }
            }
            for loose in 0..self.rules[number].selected.loose.len() {
                if let Some(item) = self.loose_item(number, loose) {
                    take(item).await?;
                }
            }
        }
        for (number, entry) in put_off {
            if let Some(item) = self.entry_item(number, entry) {
                take(item).await?;
            }
        }
        Ok(())
    }

    fn entry_item(&mut self, number: usize, entry: usize) -> Option<Item> {
        let rule = &self.rules[number];
        let Entry { image, tag, .. } = self.source.entries[rule.selected.entries[entry] as usize];
        let is_carrier = rule.carrier.is_some_and(|carrier| carrier as usize == entry);
        let mut differences = Vec::new();
        for ((target, place), settings) in rule.targets.iter().zip(&rule.settings) {
            if let Some((kind, expected, found)) = self.difference(rule, entry, *place) {
                differences.push((
                    *place,
                    difference(target, kind, Some(expected.to_string()), found.map(|it| it.to_string())),
                ));
            }
            if let Some(names) = settings.as_ref().filter(|_| is_carrier) {
                differences.push((*place, difference(target, Kind::Settings, None, Some(names.clone()))));
            }
        }
        self.item(number, image, tag, differences)
    }

    fn loose_item(&mut self, number: usize, loose: usize) -> Option<Item> {
        let rule = &self.rules[number];
        let referrer = self.source.referrers[rule.selected.loose[loose] as usize];
        let sha = self.source.at(referrer.image).sha;
        let mut differences = Vec::new();
        for (target, place) in &rule.targets {
            if self.places[*place].present.as_ref().is_some_and(|present| present.lacks(&self.source, referrer)) {
                differences.push((*place, difference(target, Kind::ReferrersMissing, Some(sha.to_string()), None)));
            }
        }
        self.item(number, referrer.image, referrer.tag, differences)
    }

    fn item(&mut self, rule: usize, image: u32, tag: Option<u32>, found: Vec<(usize, Difference)>) -> Option<Item> {
        if found.is_empty() {
            return None;
        }
        let images: Vec<u32> = self.with_referrers(image).collect();
        let mut differences = Vec::new();
        for (place, mut difference) in found {
            let bytes = &mut self.places[place].bytes;
            let bytes = images.iter().filter_map(|image| bytes.remove(image)).sum::<u64>();
            difference.bytes = Some(bytes).filter(|bytes| *bytes > 0);
            differences.push(difference);
        }
        let digest = if tag.is_none() { self.source.at(image).sha.digest() } else { None };
        Some(Item {
            rule: self.rules[rule].name.clone(),
            repository: self.repository.clone(),
            tag: tag.map(|tag| self.source.tag(tag).clone()),
            digest,
            differences,
        })
    }
}

fn difference(target: &Target, kind: Kind, expected: Option<String>, found: Option<String>) -> Difference {
    Difference {
        region: target.region.clone(),
        repository: target.repository.clone(),
        registry_id: target.registry_id.clone(),
        kind,
        expected,
        found,
        bytes: None,
    }
}
