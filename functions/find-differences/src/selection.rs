//! What a run takes: rules, and what the request narrows them to.

use std::collections::{BTreeMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use shared::{
    contract::Target,
    names::{Region, RegistryId, RepositoryName},
    reconcile::{Request, Total},
    rules::{self, Filter, Rule, Unusable, resolve_targets},
};

use crate::source::{Entry, Image, Referrer, Root, Source};

/// The rules of a run, and what it takes of them.
pub(crate) struct Selection {
    rules: Vec<(String, Rule)>,
    repositories: Filter,
    tags: Filter,
    request: Request,
    region: Region,
    pushed_until: Timestamp,
}

/// What one rule takes of one repository.
pub(crate) struct Selected {
    /// The entries, in their order, as places in the source's.
    pub(crate) entries: Vec<u32>,
    /// Their images.
    pub(crate) images: HashSet<u32>,
    /// Referrers that none of those brings, and that pass the rule by themselves, as places in the source's, in order.
    pub(crate) loose: Vec<u32>,
}

fn invalid(field: &str, problem: &str) -> Unusable {
    Unusable { field: format!("input.{field}"), problem: problem.to_owned() }
}

/// The filter of what a request names; of everything where it names nothing.
fn filter(patterns: &[String]) -> Filter {
    Filter::of(if patterns.is_empty() { vec!["*".to_owned()] } else { patterns.to_vec() })
}

impl Selection {
    /// The selection of `request`, of the deployment's `rules`, in the region `source`, for a round that began at `began_at`.
    ///
    /// # Errors
    /// When the request names what there is not, or narrows to nothing.
    pub(crate) fn new(
        request: Request,
        rules: &BTreeMap<String, Value>,
        source: &Region,
        began_at: Timestamp,
    ) -> Result<Self, Unusable> {
        for (field, patterns) in [("repositories", &request.repositories), ("tags", &request.tags)] {
            if patterns.iter().any(String::is_empty) {
                return Err(invalid(field, "has an empty pattern"));
            }
        }
        if request.newest == Some(0) {
            return Err(invalid("newest", "is 0: leave it out to take all"));
        }
        if let (Some(since), Some(before)) = (request.pushed_since, request.pushed_before)
            && since >= before
        {
            return Err(invalid("pushedBefore", &format!("is {before}, and pushedSince is not before that")));
        }
        if request.bytes_per_second.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
            return Err(invalid("bytesPerSecond", "is no number above 0"));
        }
        if request.price_per_gb.is_some_and(|price| !(price.is_finite() && price >= 0.0)) {
            return Err(invalid("pricePerGb", "is no price"));
        }
        let age = i64::try_from(request.minimum_age_seconds).ok().map(SignedDuration::from_secs);
        let pushed_until = age.and_then(|age| began_at.checked_sub(age).ok());
        let pushed_until = pushed_until.ok_or_else(|| invalid("minimumAgeSeconds", "is more than there ever was"))?;
        let mut seen = HashSet::new();
        let names =
            if request.rules.is_empty() { rules.keys().collect::<Vec<_>>() } else { request.rules.iter().collect() };
        let names = names.into_iter().filter(|name| seen.insert(*name));
        let rules = names.map(|name| Ok((name.clone(), rules::find(name, rules)?))).collect::<Result<_, Unusable>>()?;
        let (repositories, tags) = (filter(&request.repositories), filter(&request.tags));
        Ok(Self { rules, repositories, tags, request, region: source.clone(), pushed_until })
    }

    /// Images that were pushed after this are left out: those that have events of their own.
    pub(crate) fn pushed_until(&self) -> Timestamp {
        self.pushed_until
    }

    /// The rule in the place `rule`, and its name.
    pub(crate) fn rule(&self, rule: usize) -> (&str, &Rule) {
        let (name, rule) = &self.rules[rule];
        (name, rule)
    }

    /// A total of nothing for each rule and target.
    pub(crate) fn totals(&self) -> Vec<Total> {
        let mut totals: Vec<Total> = Vec::new();
        for (rule, definition) in &self.rules {
            for target in &definition.targets {
                total(&mut totals, rule, &target.region, target.registry_id.as_ref());
            }
        }
        totals
    }

    /// The places of the rules that take a repository.
    pub(crate) fn rules_of(&self, repository: &RepositoryName) -> Vec<usize> {
        let name = repository.as_str();
        if !self.repositories.selects(name) {
            return Vec::new();
        }
        (0..self.rules.len()).filter(|&rule| self.rules[rule].1.repositories.selects(name)).collect()
    }

    /// Where a rule's images of a repository go.
    ///
    /// # Errors
    /// When a target cannot be used for it.
    pub(crate) fn targets(&self, rule: usize, repository: &RepositoryName) -> Result<Vec<Target>, Unusable> {
        resolve_targets(&self.rules[rule].1.targets, repository, &self.region)
    }

    /// What the rule takes of a repository's images.
    pub(crate) fn select(&self, rule: usize, source: &Source) -> Selected {
        let (_, rule) = &self.rules[rule];
        let takes = |entry: &Entry| self.takes(rule, source, *entry) && self.is_in_time(source.at(entry.image));
        let entries = (0u32..).zip(&source.entries).filter(|(_, entry)| takes(entry));
        let mut entries: Vec<u32> = entries.map(|(place, _)| place).collect();
        if let Some(newest) = self.request.newest {
            let image = |place: &u32| source.entries[*place as usize].image;
            let mut images = HashSet::new();
            // The oldest come first.
            for place in entries.iter().rev() {
                if images.len() == newest {
                    break;
                }
                images.insert(image(place));
            }
            entries.retain(|place| images.contains(&image(place)));
        }
        let images: HashSet<u32> = entries.iter().map(|place| source.entries[*place as usize].image).collect();
        // They have no tag, and are none of the newest images: they are what belongs to an image.
        let is_narrowed = !self.request.tags.is_empty() || self.request.newest.is_some();
        let loose = (0u32..).zip(&source.referrers).filter(|(_, referrer)| {
            !is_narrowed && is_loose(rule, source, **referrer, &images) && self.is_in_time(source.at(referrer.image))
        });
        let loose = loose.map(|(place, _)| place).collect();
        Selected { entries, images, loose }
    }

    fn takes(&self, rule: &Rule, source: &Source, entry: Entry) -> bool {
        let Some(tag) = entry.tag.map(|tag| source.tag(tag).as_str()) else {
            return rule.untagged && self.request.tags.is_empty() && self.request.newest.is_none();
        };
        rule.tags.selects(tag)
            && self.tags.selects(tag)
            && entry.subject.is_none_or(|subject| passes(rule, source, subject))
    }

    fn is_in_time(&self, image: &Image) -> bool {
        let Request { pushed_since, pushed_before, .. } = self.request;
        pushed_since.is_none_or(|since| image.pushed_at.is_some_and(|at| at >= since))
            && pushed_before.is_none_or(|before| image.pushed_at.is_some_and(|at| at < before))
    }
}

/// Whether a rule selects what refers to `subject`, which resolve-image judges in the same way: by a tag of that, if it has one.
fn passes(rule: &Rule, source: &Source, subject: Root) -> bool {
    let tags = match subject {
        Root::Image(image) => &source.at(image).tags[..],
        Root::Stranger(_) => &[],
    };
    let is_selected = |tag: &u32| rule.tags.selects(source.tag(*tag).as_str());
    rule.tags.selects_all() || tags.is_empty() || tags.iter().any(is_selected)
}

/// Whether a referrer is pushed by itself, and passes the rule as its event does. One that has a tag of its own is an entry.
fn is_loose(rule: &Rule, source: &Source, referrer: Referrer, images: &HashSet<u32>) -> bool {
    let is_entry = referrer.tag.is_none() && !source.at(referrer.image).tags.is_empty();
    let is_brought = matches!(referrer.root, Root::Image(image) if images.contains(&image));
    !is_entry && !is_brought && passes(rule, source, referrer.subject)
}

/// The total of one rule at one target, made where there is none.
pub(crate) fn total<'a>(
    totals: &'a mut Vec<Total>,
    rule: &str,
    region: &Region,
    registry_id: Option<&RegistryId>,
) -> &'a mut Total {
    let is_it =
        |total: &Total| total.rule == rule && total.region == *region && total.registry_id.as_ref() == registry_id;
    let place = totals.iter().position(is_it).unwrap_or_else(|| {
        totals.push(Total {
            rule: rule.to_owned(),
            region: region.clone(),
            registry_id: registry_id.cloned(),
            compared: 0,
            missing: 0,
            other_digest: 0,
            referrers_missing: 0,
            settings: 0,
        });
        totals.len() - 1
    });
    &mut totals[place]
}
