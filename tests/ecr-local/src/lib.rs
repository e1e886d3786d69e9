//! A regional, per-account Amazon ECR on loopback: a test double, not a registry to keep images in.
//!
//! One process answers the ECR API (JSON 1.1), `AssumeRole` of STS, the Distribution protocol below `/v2/`, layer downloads by
//! expiring URLs, and an admin endpoint below `/_admin/`. It listens on 127.0.0.1 only, checks no signature, keeps its index in memory and
//! its layers in a directory that it deletes when it stops. What it answers, and where the sources for that disagree, is in
//! the crate's README.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use ecr_local::{Config, EcrLocal, Fault};
//!
//! let ecr = EcrLocal::start(Config::default()).await?;
//! ecr.fault(Fault::new("PutImage", 500, "ServerException").in_region("eu-west-1"));
//! println!("{} {:?}", ecr.endpoint(), ecr.stats());
//! # Ok(())
//! # }
//! ```

mod access;
mod admin;
mod altered;
mod api;
mod asked;
mod blobs;
mod caller;
mod chance;
mod config;
mod connection;
mod downloads;
mod ecr;
mod error;
mod events;
mod faults;
mod gate;
mod guarded;
mod halt;
mod manifest;
mod names;
mod policy;
mod quota;
mod repository;
mod scope;
mod secret;
mod server;
mod sessions;
mod shape;
mod stats;
mod store;
mod sts;
mod tokens;
mod uploads;
mod v2;
mod wildcard;
mod wire;
mod xml;

pub use asked::Asked;
pub use caller::{InvalidRole, Role};
pub use config::{Config, MissingLayerAnswer, RepeatedImmutableTagAnswer};
pub use faults::{Fault, FaultState, Meanwhile};
pub use halt::Moment;
pub use repository::{RepositorySettings, RepositoryView};
pub use server::EcrLocal;
pub use shape::Shape;
pub use stats::{RegionStats, Stats};
