//! Each call that brings a repository which exists to the source's settings, times each fault, once and for ever, through all
//! functions and the retriers of the state machine.

use std::{cell::Cell, panic::AssertUnwindSafe, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_ecr::types::{ImageScanningConfiguration, ImageTagMutability, Tag};
use ecr_local::Fault;
use futures::{FutureExt as _, StreamExt as _, stream};
use serde_json::json;
use shared::{contract::Put, error::Class};

use crate::{
    execution::{Course, Failed, Functions, State},
    matrix::{Kind, of_any},
    sample::{Sample, Way, execution_input},
    world::{LIFECYCLE_POLICY, REPOSITORY, SOURCE, TARGET, sdk_config},
};

/// After this, an execution hangs.
const PATIENCE: Duration = Duration::from_secs(80);

/// Which side has policies: the other one is to get them, or to lose them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policies {
    AtSource,
    AtTarget,
}

/// What any call may meet; the rest is as in the matrix.
const KEPT: [&str; 8] = [
    "`ThrottleException`",
    "500 `ServerException`",
    "done, and the answer lost",
    "connection cut in the answer",
    "answer is no JSON",
    "redirect to another host",
    "`AccessDeniedException`",
    "`InvalidParameterException`",
];

/// The calls at the target, which side has policies when they are made, and what else each may be answered.
const CALLS: [(&str, Policies, &[&str]); 11] = [
    ("ListTagsForResource", Policies::AtSource, &[]),
    ("GetLifecyclePolicy", Policies::AtSource, &["ValidationException"]),
    ("GetRepositoryPolicy", Policies::AtSource, &[]),
    ("PutImageTagMutability", Policies::AtSource, &[]),
    ("PutImageScanningConfiguration", Policies::AtSource, &["ValidationException"]),
    ("UntagResource", Policies::AtSource, &["InvalidTagParameterException", "TooManyTagsException"]),
    ("TagResource", Policies::AtSource, &["InvalidTagParameterException", "TooManyTagsException"]),
    ("PutLifecyclePolicy", Policies::AtSource, &["ValidationException"]),
    ("SetRepositoryPolicy", Policies::AtSource, &[]),
    ("DeleteLifecyclePolicy", Policies::AtTarget, &["ValidationException"]),
    ("DeleteRepositoryPolicy", Policies::AtTarget, &[]),
];

#[derive(Debug)]
struct Row {
    policies: Policies,
    kind: Kind,
    fault: Fault,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (operation, policies, codes) in CALLS {
        let of_all = of_any(operation).into_iter().filter(|(name, ..)| KEPT.contains(name));
        let of_all = of_all.map(|(_, kind, fault)| (kind, fault));
        let own = codes.iter().map(|code| (Kind::Lasting, Fault::new(operation, 400, code)));
        // Somebody was faster.
        let gone = match operation {
            "DeleteLifecyclePolicy" => Some("LifecyclePolicyNotFoundException"),
            "DeleteRepositoryPolicy" => Some("RepositoryPolicyNotFoundException"),
            _ => None,
        };
        let gone = gone.map(|code| (Kind::Passing, Fault::new(operation, 400, code).after_effect()));
        let faults = of_all.chain(own).chain(gone);
        rows.extend(faults.map(|(kind, fault)| Row { policies, kind, fault: fault.in_region(TARGET) }));
    }
    rows
}

/// Gives the source's repository a tag, and makes the target's, which differs in all that can be changed.
async fn differ(sample: &Sample, policies: Policies) {
    let [source, target] = [sample.world.client(SOURCE).await, sample.world.client(TARGET).await];
    let tag = |key: &str| Tag::builder().key(key).value("1").build().unwrap();
    let arn = format!("arn:aws:ecr:{SOURCE}:123456789012:repository/{REPOSITORY}");
    source.tag_resource().resource_arn(arn).tags(tag("team")).send().await.unwrap();
    let create = target.create_repository().repository_name(REPOSITORY).tags(tag("old"));
    let create = create.image_tag_mutability(ImageTagMutability::Immutable);
    let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
    create.image_scanning_configuration(scanning).send().await.unwrap();
    if policies == Policies::AtTarget {
        source.delete_lifecycle_policy().repository_name(REPOSITORY).send().await.unwrap();
        source.delete_repository_policy().repository_name(REPOSITORY).send().await.unwrap();
        let put = target.put_lifecycle_policy().repository_name(REPOSITORY).lifecycle_policy_text(LIFECYCLE_POLICY);
        put.send().await.unwrap();
        let set = target.set_repository_policy().repository_name(REPOSITORY).policy_text(r#"{"Statement": []}"#);
        set.send().await.unwrap();
    }
}

/// An execution that meets the fault in EnsureRepository.
struct Armed<'a> {
    sample: &'a Sample,
    fault: Fault,
    has_begun: Cell<bool>,
}

impl Course for Armed<'_> {
    fn enters(&self, state: State) {
        if state == State::EnsureRepository && !self.has_begun.replace(true) {
            self.sample.world.ecr.fault(self.fault.clone());
        }
    }
}

async fn execute(sample: &Sample, fault: Fault) -> Result<Put, Failed> {
    let functions = Functions::new(&sample.config, &sample.config, Way::Unsigned.uploads());
    let course = Armed { sample, fault, has_begun: Cell::new(false) };
    let mut input = execution_input(Way::Unsigned);
    input["targets"][0]["settings"] = json!("sync");
    let round = functions.resolve(&course, &input).await?.unwrap();
    functions.replicate(&course, &round, &round.targets[0]).await.ended
}

/// What is wrong with what came of a cell, if anything is.
async fn wrong(row: &Row, is_for_ever: bool, config: &SdkConfig, client: &reqwest::Client) -> Option<String> {
    let sample = Sample::set(Way::Unsigned, config).await;
    differ(&sample, row.policies).await;
    assert_eq!(sample.differences(), 5);
    let fault = if is_for_ever { row.fault.clone().for_ever() } else { row.fault.clone() };
    let execution = AssertUnwindSafe(Box::pin(execute(&sample, fault))).catch_unwind();
    let ended = match tokio::time::timeout(PATIENCE, execution).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(_)) => return Some("it panics".to_owned()),
        Err(_) => return Some("it hangs".to_owned()),
    };
    if sample.world.ecr.faults()[0].met == 0 {
        return Some("the fault was never met".to_owned());
    }
    if let Some(wrong) = sample.wrong(Way::Unsigned, ended.as_ref().ok(), client).await {
        return Some(format!("{wrong:?}"));
    }
    let Err(failed) = &ended else {
        // One that the registry does not take keeps neither the others nor the image back; nor does one that fails when another
        // was changed before, for only this attempt can tell of that. The SDK makes no call again that was redirected.
        let is_first = row.fault.operation == "PutImageTagMutability";
        let fails = is_for_ever || row.fault.location.is_some();
        let may_be_left = row.kind == Kind::Lasting || (fails && !is_first);
        let differences = sample.differences();
        return (differences > usize::from(may_be_left)).then(|| format!("{differences} settings differ"));
    };
    match failed.error() {
        None => Some(format!("an error without a name: {failed:?}")),
        Some(_) if row.kind != Kind::Lasting && !is_for_ever => {
            Some(format!("what passes kept the image from arriving: {failed:?}"))
        }
        Some(name) if name.class() == Class::Fatal && failed.attempts() > 1 => {
            Some(format!("what lasts was tried again: {failed:?}"))
        }
        Some(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_change_of_settings_meets_ends_in_the_settings_or_by_name() {
    let config = sdk_config("http://127.0.0.1:9/", SOURCE).await;
    let client = reqwest::Client::new();
    let rows = rows();
    let cells = rows.iter().flat_map(|row| [(row, false), (row, true)]);
    let (config, client) = (&config, &client);
    let cells = stream::iter(cells).map(|(row, is_for_ever)| async move {
        let wrong = wrong(row, is_for_ever, config, client).await?;
        let Fault { operation, status, code, .. } = &row.fault;
        Some(format!("{operation} {status:?} {code}, for ever {is_for_ever}: {wrong}"))
    });
    let wrong: Vec<String> = cells.buffer_unordered(16).filter_map(std::future::ready).collect().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}
