//! What reconcile-registry passes from function to function, and what it keeps in S3.
//!
//! Step Functions carries 256 KiB, and a registry has any number of images: the payloads say where things are, and S3 has them.
//! Field names are camelCase in JSON; bytes are bytes, times RFC 3339 in UTC. What another release adds is left alone, as in
//! [`crate::contract`]; a request is what a person writes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    contract::Execution,
    names::{Digest, ImageTag, Region, RegistryId, RepositoryName},
};

/// How far a run goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It says what differs.
    #[default]
    Audit,
    /// As that; and what it would take to mend it.
    Plan,
    /// It mends it.
    Repair,
}

/// The input of an execution of reconcile-registry. What it does not name is not narrowed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// How far it goes.
    #[serde(default)]
    pub mode: Mode,
    /// The rules, by name; all of the deployment without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Patterns of source repositories, with `*` for any characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
    /// Patterns of tags. With any, images without a tag are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Only images that were pushed then or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_since: Option<Timestamp>,
    /// Only images that were pushed before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_before: Option<Timestamp>,
    /// Only so many images of each repository and rule: those with a tag that were pushed last. Images without one are left out,
    /// because no list tells which of them are platforms of an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<usize>,
    /// Only images that were pushed at least so many seconds before the round began: the executions for those that were pushed
    /// later may be under way. It narrows no rule: what is left out now is compared by a later run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub minimum_age_seconds: u64,
    /// What a GB, of 10^9 bytes, costs on its way to a target, in whatever currency: only for a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_gb: Option<f64>,
    /// The bytes that reach a target in a second: only for a plan, which else goes by what was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Request {
    /// Whether it takes every image of its rules that was pushed since `since`, and all where that is `None`.
    #[must_use]
    pub fn is_of_whole_rules(&self, since: Option<Timestamp>) -> bool {
        let Self { repositories, tags, pushed_since, pushed_before, newest, .. } = self;
        repositories.is_empty()
            && tags.is_empty()
            && *pushed_since == since
            && pushed_before.is_none()
            && newest.is_none()
    }
}

/// The input of FindDifferences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindInput {
    /// The execution.
    pub execution: Execution,
    /// The execution's input. It is read at the first call, so that its errors name its fields.
    pub input: Value,
    /// The rules of the deployment, by name. Each is read when it is named.
    #[serde(default)]
    pub rules: BTreeMap<String, Value>,
    /// The round: 1, and one more for each redrive that another one followed.
    pub round: u32,
    /// Whether this looks at what the round's repair left.
    #[serde(default)]
    pub verification: bool,
}

/// What FindDifferences answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Whether it is done. If not, it wants to be called again with the same input.
    pub done: bool,
    /// How far the run goes.
    pub mode: Mode,
    /// The ARN of the execution that was running already; this one has nothing to do then.
    pub already_running: Option<String>,
    /// Whether there is something to replicate, and it is to be.
    pub replicate: bool,
    /// Where the items are that differ.
    pub differences: Items,
}

/// Items in S3: every object below the prefix, each with one JSON text a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Items {
    /// The bucket.
    pub bucket: String,
    /// What their keys begin with.
    pub prefix: String,
    /// How many there are, so far.
    pub items: u64,
}

/// An image of the source that differs at a target: a line, and an item of ReplicateImages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// The rule that selects it.
    pub rule: String,
    /// The source repository.
    pub repository: RepositoryName,
    /// Its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<ImageTag>,
    /// Its digest, where it has no tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What differs, at one target after the other.
    pub differences: Vec<Difference>,
}

/// What differs at a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The target region.
    pub region: Region,
    /// The target repository.
    pub repository: RepositoryName,
    /// The account whose registry it is, where that is not the functions' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<RegistryId>,
    /// What kind it is of.
    pub kind: Kind,
    /// The digest that is to be there: the image's, or that of the first referrer that is not; of settings, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What is there instead: the digest that has the tag; or the settings that are not what they should be, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// In a plan, the bytes of blobs that would go there for it; a blob that several want is the first one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// How an image of the source and a target differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// The target has no such tag, or no such digest, or no repository.
    Missing,
    /// The target's tag is another image's.
    OtherDigest,
    /// The target has the image, and not what refers to it.
    ReferrersMissing,
    /// The target's repository, whose settings are synced, has others. It is told of one image of the repository.
    Settings,
}

/// Where a run stands: the object `state.json`. It is the last that a call writes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The execution's input.
    pub request: Request,
    /// When the round began. What was pushed since has events of its own, and is left out.
    pub began_at: Timestamp,
    /// Whether every repository was compared.
    pub done: bool,
    /// How often the execution had been redriven when it was last seen to be the only one.
    pub redrives: u32,
    /// The key of the object with the names of the source repositories that are to be compared.
    pub list: String,
    /// How many of them were compared, in their order.
    pub repositories: u64,
    /// How many images, each counted once, whatever the rules and the targets.
    pub images: u64,
    /// How many items were written.
    pub items: u64,
    /// The keys of the objects that they are in, in order.
    pub parts: Vec<String>,
    /// What differs, by rule and target; where nothing does, too.
    pub totals: Vec<Total>,
    /// Where it could not be told.
    pub problems: Vec<Problem>,
    /// In a plan that is done, what would go to each target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transfers: Vec<Transfer>,
}

/// What differs of one rule at one target: numbers of items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Total {
    /// The rule.
    pub rule: String,
    /// The target region.
    pub region: Region,
    /// The account whose registry it is, where that is not the functions' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<RegistryId>,
    /// Those that were compared.
    pub compared: u64,
    /// [`Kind::Missing`].
    pub missing: u64,
    /// [`Kind::OtherDigest`].
    pub other_digest: u64,
    /// [`Kind::ReferrersMissing`].
    pub referrers_missing: u64,
    /// [`Kind::Settings`]: repositories.
    pub settings: u64,
}

impl Total {
    /// All that differs.
    #[must_use]
    pub fn differences(&self) -> u64 {
        self.missing + self.other_digest + self.referrers_missing + self.settings
    }
}

/// Why it is not known what differs of one rule at one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The rule.
    pub rule: String,
    /// The target region.
    pub region: Region,
    /// The account whose registry it is, where that is not the functions' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<RegistryId>,
    /// The error's name.
    pub error: String,
    /// What it says of the first source repository that it came up with.
    pub message: String,
    /// That repository.
    pub repository: RepositoryName,
    /// How many repositories it came up with.
    pub repositories: u64,
}

/// What would go to one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// The target region.
    pub region: Region,
    /// The account whose registry it is, where that is not the functions' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<RegistryId>,
    /// The bytes of the blobs that it does not have, each once for a repository.
    pub bytes: u64,
    /// How long they would take, where a rate is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The rate, in bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    /// Whether that rate was observed, and not given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
    /// What they would cost at the price that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// The input of ReportDifferences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportInput {
    /// The execution.
    pub execution: Execution,
    /// The round.
    pub round: u32,
    /// How often the execution had been redriven when that was found, or verified.
    pub redrives: u32,
}

/// What ReportDifferences answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reported {
    /// Whether another round is due.
    pub reconcile: bool,
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<u32>,
    /// The report, as the event has it, when no round is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// The report of a round: `docs/reconcile-report.schema.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The version of this document's schema.
    pub version: u32,
    /// The execution.
    pub execution: Execution,
    /// The round.
    pub round: u32,
    /// Whether a redrive tells it, before the next round: it may have been told before, and may not.
    pub repeated: bool,
    /// The execution's input.
    pub request: Request,
    /// Whether nothing differs, as far as the request goes, and every target could be asked.
    pub complete: bool,
    /// The outcome for a person: a sentence, and a line for each rule and target where something differs.
    pub summary: String,
    /// How many source repositories were compared.
    pub repositories: u64,
    /// How many images.
    pub images: u64,
    /// How many items differed before a repair.
    pub found: u64,
    /// How many differ now.
    pub items: u64,
    /// What differs now, by rule and target.
    pub totals: Vec<Total>,
    /// Where it could not be told.
    pub problems: Vec<Problem>,
    /// In a plan, what would go to each target.
    pub transfers: Vec<Transfer>,
    /// The first items that differ now.
    pub differences: Vec<Item>,
    /// Replications of a repair that failed, the first of them.
    pub failures: Vec<ReplicationFailure>,
    /// Where all items are that differ now.
    pub all: Items,
    /// The object with this report, in that bucket.
    pub document: String,
    /// Whether totals or differences are left out here: the object has them.
    pub shortened: bool,
    /// When this was known.
    pub finished_at: Timestamp,
    /// From the execution's start to then.
    pub duration_ms: i64,
}

/// A replication of a repair that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationFailure {
    /// The rule.
    pub rule: String,
    /// The source repository.
    pub repository: RepositoryName,
    /// The image's tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<ImageTag>,
    /// Its digest, where it has no tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The ARN of the replication's execution, or else that of the Map Run's.
    pub execution: String,
    /// The error's name.
    pub error: String,
    /// What it says, shortened.
    pub message: String,
}

/// Where a round's objects are: below `runs/<execution>/<round>/`, those of its verification below `verification/` there.
#[must_use]
pub fn prefix(execution: &str, round: u32, verification: bool) -> String {
    format!("runs/{execution}/{round}/{}", if verification { "verification/" } else { "" })
}

/// The key of an execution's report.
#[must_use]
pub fn report_key(execution: &str) -> String {
    format!("runs/{execution}/report.json")
}

/// The key of where a pass stands, below its `prefix`.
#[must_use]
pub fn state_key(prefix: &str) -> String {
    format!("{prefix}state.json")
}

/// What the keys of a pass's items begin with, below its `prefix`.
#[must_use]
pub fn items_prefix(prefix: &str) -> String {
    format!("{prefix}differences/")
}

/// The key of the object number `part` of items, from 1 on, that the invocation `invocation` writes. Its own, because another one
/// may still be under way that Lambda gave up.
#[must_use]
pub fn part_key(prefix: &str, part: usize, invocation: u64) -> String {
    format!("{}{part:06}-{invocation:016x}.jsonl", items_prefix(prefix))
}

/// The key of a list of source repositories, a JSON array of their names, that the invocation `invocation` writes.
#[must_use]
pub fn list_key(prefix: &str, invocation: u64) -> String {
    format!("{prefix}repositories-{invocation:016x}.json")
}
