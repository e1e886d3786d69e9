//! Calls that get no answer, or no more of it: they are given up while there is time to say which call it was.

use std::time::Duration;

use ecr_local::Fault;
use shared::{config, error::ErrorName};

use crate::{
    execution::{Failed, Functions, State, Undisturbed},
    sample::{Sample, Way, execution_input},
    world::{REPOSITORY, SOURCE, TARGET, sdk_config_with},
};

/// Shorter than the functions' own, and long for a call that is answered: one that is not, is tried again.
const ATTEMPT: Duration = Duration::from_millis(500);

/// An execution that meets the fault, if it does: where it fails, or that the image has arrived.
async fn replicate(fault: Fault) -> Result<(), Failed> {
    let config = sdk_config_with("123456789012", "http://127.0.0.1:9/", SOURCE, ATTEMPT).await;
    let sample = Sample::set(Way::Unsigned, &config).await;
    let functions = Functions::new(&sample.config, &sample.config, Way::Unsigned.uploads());
    sample.world.ecr.fault(fault);
    let round = functions.resolve(&Undisturbed, &execution_input(Way::Unsigned)).await?.unwrap();
    functions.replicate(&Undisturbed, &round, &round.targets[0]).await.ended?;
    let met = sample.world.ecr.faults()[0].met;
    assert!(met > 0 && sample.has_image(Way::Unsigned, TARGET), "met {met} times");
    Ok(())
}

async fn meets(state: State, operation: &str, region: &str) {
    // An error that nobody waits for: nothing takes effect.
    let silent = || Fault::new(operation, 500, "ServerException").delay(Duration::from_hours(1)).in_region(region);
    replicate(silent()).await.unwrap();
    let failed = replicate(silent().for_ever()).await.unwrap_err();
    assert_eq!((failed.state, failed.name.as_str()), (state, ErrorName::RegistryUnavailable.as_str()), "{failed:?}");
    for part in [operation, region, REPOSITORY] {
        assert!(failed.message.contains(part), "{part} is not in {}", failed.message);
    }
}

#[tokio::test]
async fn resolve_image_names_a_call_without_an_answer() {
    Box::pin(meets(State::ResolveImage, "BatchGetImage", SOURCE)).await;
}

#[tokio::test]
async fn ensure_repository_names_a_call_without_an_answer() {
    Box::pin(meets(State::EnsureRepository, "CreateRepository", TARGET)).await;
}

#[tokio::test]
async fn copy_layers_names_a_call_without_an_answer() {
    Box::pin(meets(State::CopyLayers, "BatchCheckLayerAvailability", TARGET)).await;
}

#[tokio::test]
async fn put_manifest_names_a_call_without_an_answer() {
    Box::pin(meets(State::PutManifest, "PutImage", TARGET)).await;
}

/// CopyLayers alone has attempts of another length, and a time-out that the user sets.
#[test]
fn every_attempt_of_a_call_fits_into_a_functions_time() {
    let functions = include_str!("../../terraform/functions.tf");
    let timeouts = functions.lines().filter_map(|line| line.trim().strip_prefix("timeout_seconds = ")?.parse().ok());
    let timeouts: Vec<u64> = timeouts.collect();
    assert_eq!(timeouts.len(), 6, "{timeouts:?}");
    let attempts = config::ATTEMPT * config::ATTEMPTS;
    assert!(timeouts.iter().all(|timeout| Duration::from_secs(*timeout) >= attempts + config::ATTEMPT), "{timeouts:?}");
}
