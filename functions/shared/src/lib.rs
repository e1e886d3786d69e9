//! What the replication functions share.
//!
//! - [`names`]: digests, repository names, tags and regions, parsed once at the boundary
//! - [`contract`]: what the state machine passes from function to function
//! - [`config`]: the AWS SDK's configuration
//! - [`error`]: the error names that the state machine's retriers and catchers match on
//! - [`manifest`]: manifests as they are stored, and the walk over an image's tree
//! - [`reconcile`]: what reconcile-registry passes from function to function, and keeps in S3
//! - [`referrers`]: what belongs to an image and is not in its tree
//! - [`registry`]: one repository of one region, through the ECR API
//! - [`rules`]: what a replication rule selects
//! - [`service`]: the AWS services beside ECR
//! - [`settings`]: a repository's settings, what they are to be at a target, and what differs
//! - [`layer`]: reading a layer from the source, hashed as it streams
//! - [`copy`]: the copy engine, with its two roads `stream` and `parts`
//! - [`patience`]: waiting out a registry that throttles
//! - [`plan`]: how many functions copy an image side by side
//! - [`serve`](mod@serve): the runtime loop of each function

pub mod config;
pub mod contract;
pub mod copy;
pub mod error;
pub mod layer;
pub mod manifest;
pub mod names;
mod parts;
pub mod patience;
pub mod plan;
pub mod reconcile;
pub mod referrers;
pub mod registry;
pub mod rules;
pub mod serve;
pub mod service;
pub mod settings;
mod stream;
