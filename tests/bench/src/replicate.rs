//! What the state machine does for one target, with the functions' packaged programs.

use std::path::Path;
use std::time::Duration;

use copy_layers::Input;
use futures::future::try_join_all;
use shared::contract::{Blob, Copied, Image, Put, Target, TargetInput};

use crate::error::Error;
use crate::function::Function;
use crate::resources::Resources;
use crate::workload::{Ours, Workload};
use crate::world::{World, environment};

/// The memory of the functions in MiB, and PutManifest's time, as the module deploys them.
const COPY_LAYERS_MEMORY: u32 = 2048;
const PUT_MANIFEST_MEMORY: u32 = 256;
const PUT_MANIFEST_TIME: Duration = Duration::from_mins(5);

/// More invocations than any workload needs.
const MOST_INVOCATIONS: u32 = 500;

/// The functions for one target, started and warm, each with a network interface of its own.
#[derive(Debug)]
pub(crate) struct Functions {
    copy_layers: Vec<Function>,
    put_manifest: Function,
}

impl Functions {
    pub(crate) async fn start(world: &World, workload: &Workload, ours: &Ours, packages: &Path) -> Result<Self, Error> {
        let mut copy_layers = Vec::new();
        for _ in 0..ours.shards {
            let mut environment = environment(world.interface(workload.network)?);
            environment.push(("UPLOADS", ours.uploads.to_owned()));
            environment.push(("MAX_SHARDS", ours.shards.to_string()));
            let log = world.fresh("copy-layers.log");
            let function = Function::start("copy-layers", packages, COPY_LAYERS_MEMORY, &environment, log).await?;
            copy_layers.push(function);
        }
        let (environment, log) = (environment(world.interface(workload.network)?), world.fresh("put-manifest.log"));
        let put_manifest = Function::start("put-manifest", packages, PUT_MANIFEST_MEMORY, &environment, log).await?;
        Ok(Self { copy_layers, put_manifest })
    }

    /// Copies the image, and tells how many invocations that took.
    pub(crate) async fn run(&mut self, image: &Image, target: &Target, time: Duration) -> Result<u32, Error> {
        let input = |layers: Option<Vec<Blob>>| Input {
            execution: "bench".into(),
            image: image.clone(),
            referrers: Vec::new(),
            target: target.clone(),
            layers,
            cursor: None,
        };
        let Some(first) = self.copy_layers.first_mut() else { return Ok(0) };
        let (copied, mut invocations) = copy(first, input(None), time).await?;
        if copied.shards.len() > self.copy_layers.len() {
            return Err(Error::Failed(format!("{} shards are more than MAX_SHARDS", copied.shards.len())));
        }
        // The first function is free again.
        let shards = self.copy_layers.iter_mut().zip(copied.shards);
        let shards = shards.map(|(function, shard)| copy(function, input(Some(shard.layers)), time));
        for (_, more) in try_join_all(shards).await? {
            invocations += more;
        }
        let (image, target) = (image.clone(), target.clone());
        let input = TargetInput {
            execution: "bench".into(),
            image,
            referrers: Vec::new(),
            repairs: 0,
            target,
            started_at: None,
            repository_settings: None,
        };
        let put: Put = self.put_manifest.invoke(&input, PUT_MANIFEST_TIME).await?;
        if !put.status.is_complete() {
            return Err(Error::Failed(format!("PutManifest ended with {:?}", put.status)));
        }
        Ok(invocations + 1)
    }

    /// What they used, and how long each took to start.
    pub(crate) fn resources(&self) -> (Resources, Vec<f64>) {
        let (mut resources, mut starts) = (Resources::default(), Vec::new());
        for function in self.copy_layers.iter().chain([&self.put_manifest]) {
            resources += function.resources();
            starts.push(function.init.as_secs_f64());
        }
        (resources, starts)
    }
}

/// Calls CopyLayers until it is done or hands out shards.
async fn copy(function: &mut Function, mut input: Input, time: Duration) -> Result<(Copied, u32), Error> {
    for invocations in 1..=MOST_INVOCATIONS {
        let copied: Copied = function.invoke(&input, time).await?;
        if copied.done || !copied.shards.is_empty() {
            return Ok((copied, invocations));
        }
        input.cursor = Some(copied.cursor);
    }
    Err(Error::Failed(format!("CopyLayers was not done after {MOST_INVOCATIONS} invocations")))
}
