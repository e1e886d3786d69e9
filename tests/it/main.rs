//! Integration tests: one binary, a module for each subject.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod accounts;
#[path = "../../picture/tests/it/browser.rs"]
mod browser;
mod convergence;
mod copy_layers;
mod dead_letters;
mod deploying;
mod documents;
mod ecr_local;
mod ensure_repo;
mod execution;
mod foreign_registry;
mod hostile;
mod iam;
mod lies;
mod local_stack;
mod matrix;
mod metrics;
mod notifications;
mod operator;
mod pacing;
mod permissions;
mod picture;
mod put_manifest;
mod reconcile;
mod reconcile_registry;
mod redrive;
mod repair;
mod replication;
mod report;
mod report_faults;
mod resolve_image;
mod rules;
mod runbook;
mod runs;
mod sample;
mod scene;
mod schedule;
mod secrets;
mod stalls;
mod state_machine_faults;
mod statemachine;
mod syncing;
mod waiting;
mod world;
