//! The listeners, all on 127.0.0.1.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::middleware;
use axum::routing::{any, get, post};
use tokio::sync::{oneshot, watch};

use crate::asked::Asked;
use crate::blobs::Blobs;
use crate::caller::Role;
use crate::config::Config;
use crate::connection::{Connection, Door};
use crate::ecr::Ecr;
use crate::events::Events;
use crate::faults::{Fault, FaultState, Faults};
use crate::gate::Gate;
use crate::guarded::Guarded;
use crate::halt::{self, Halt, Moment};
use crate::names::{Account, Region, Registry, RepositoryName};
use crate::quota::Quota;
use crate::repository::{Repository, RepositorySettings, RepositoryView};
use crate::secret::Secret;
use crate::sessions::Sessions;
use crate::shape::Shape;
use crate::stats::{Counters, Stats};
use crate::wire::{self, Interface};
use crate::{admin, api, downloads, v2};

/// A running local ECR. It stops, and deletes its layers, when it is dropped.
#[derive(Debug)]
pub struct EcrLocal {
    ecr: Arc<Ecr>,
    /// Dropping it is the sign to stop.
    _closing: watch::Sender<()>,
}

impl EcrLocal {
    /// Starts a local ECR on the current tokio runtime.
    ///
    /// # Errors
    /// If the port is taken, or the directory for the layers cannot be made.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[expect(clippy::unused_async, reason = "it must be called on a runtime, which an async function makes plain")]
    pub async fn start(config: Config) -> io::Result<Self> {
        let (closing, closed) = watch::channel(());
        let main = listen(config.port)?;
        let counters = Arc::new(Counters::default());
        let events = config.events_endpoint.as_deref().map(|endpoint| Events::new(endpoint, Arc::clone(&counters)));
        let ecr = Arc::new(Ecr {
            blobs: Blobs::new(config.data_dir.as_deref())?,
            store: Guarded::default(),
            counters,
            questions: Guarded::default(),
            faults: Faults::new(config.seed),
            halt: Halt::default(),
            put_image_quota: Quota::new(config.put_image_rate),
            events,
            secret: Secret::random(),
            sessions: Sessions::new(&config.roles),
            url_generation: AtomicU64::new(0),
            listeners: Listeners { port: main.local_addr()?.port(), registries: Guarded::default(), closed },
            config,
        });
        ecr.open(main, None)?;
        Ok(Self { ecr, _closing: closing })
    }

    /// The main port's URL: the ECR API, `/v2`, downloads, `/_admin`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ecr.listeners.port())
    }

    /// Opens a network interface: one more listener, for one client, which gets and sends in the given shape there. It answers
    /// what the main port answers, and stays open as long as the local ECR runs.
    ///
    /// # Errors
    /// If no port is free, or the rate is zero.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn interface(&self, shape: Shape) -> io::Result<String> {
        self.ecr.interface(shape)
    }

    /// What happened since the start, or since the last reset.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.ecr.counters.snapshot()
    }

    /// What IAM would have been asked since the start, or since the last reset: about every call that came so far as to be answered
    /// by more than a fault, whatever the answer.
    #[must_use]
    pub fn asked(&self) -> BTreeSet<Asked> {
        self.ecr.questions.lock().clone()
    }

    /// Sets every counter to zero, and forgets what IAM would have been asked.
    pub fn reset_stats(&self) {
        self.ecr.counters.reset();
        self.ecr.questions.lock().clear();
    }

    /// Sets how many images a second an account may put in a region; `None` is as many as it likes.
    pub fn limit_put_image(&self, per_second: Option<u32>) {
        self.ecr.put_image_quota.set(per_second);
    }

    /// What is in a repository now, without a call that the counters, faults or quotas know of; `None` where there is no such
    /// repository.
    #[must_use]
    pub fn view(&self, account: &str, region: &str, repository: &str) -> Option<RepositoryView> {
        self.look(account, region, repository, Repository::view)
    }

    /// The size of each layer of a repository, as [`EcrLocal::view`].
    #[must_use]
    pub fn layers(&self, account: &str, region: &str, repository: &str) -> Option<BTreeMap<String, u64>> {
        self.look(account, region, repository, Repository::layer_sizes)
    }

    /// How a repository is set up now, as [`EcrLocal::view`].
    #[must_use]
    pub fn settings(&self, account: &str, region: &str, repository: &str) -> Option<RepositorySettings> {
        self.look(account, region, repository, Repository::settings)
    }

    fn look<T>(&self, account: &str, region: &str, repository: &str, what: fn(&Repository) -> T) -> Option<T> {
        let registry = Registry { account: Account::try_from(account).ok()?, region: Region::try_from(region).ok()? };
        let name = RepositoryName::try_from(repository).ok()?;
        self.ecr.store.lock().repository(&registry, &name).ok().map(what)
    }

    /// Adds a fault.
    pub fn fault(&self, fault: Fault) {
        self.ecr.faults.add(fault);
    }

    /// The faults and what is left of them, used up ones too.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultState> {
        self.ecr.faults.list()
    }

    /// Removes every fault.
    pub fn clear_faults(&self) {
        self.ecr.faults.clear();
    }

    /// Has the faults with a probability be drawn by another seed, from the start.
    pub fn seed(&self, seed: u64) {
        self.ecr.faults.seed(seed);
    }

    /// Lets so many requests of any kind pass. From the next one on nothing is answered any more, until [`EcrLocal::go_on`]: for
    /// a client that is killed there, and whose requests are given up then. What this gives back resolves when it is so far.
    #[must_use]
    pub fn halt_after(&self, requests: u64, moment: Moment) -> oneshot::Receiver<()> {
        self.ecr.halt.set(requests, moment)
    }

    /// Answers again. Requests that were not answered stay so.
    pub fn go_on(&self) {
        self.ecr.halt.clear();
    }

    /// Forgets all open uploads of a region: whoever goes on with one is told that it is unknown.
    pub fn forget_uploads(&self, region: &str) {
        if let Ok(region) = Region::try_from(region) {
            self.ecr.store.lock().forget_uploads(&region);
        }
    }

    /// Adds a role that `AssumeRole` gives credentials of, in place of one with the same ARN.
    pub fn add_role(&self, role: Role) {
        self.ecr.sessions.add_role(role);
    }

    /// Has all credentials expire that `AssumeRole` gave out.
    pub fn expire_sessions(&self) {
        self.ecr.sessions.expire();
    }

    /// Has all download URLs that were given out expire.
    pub fn expire_urls(&self) {
        self.ecr.expire_urls();
    }
}

/// The ports: the main one, and one for each registry, so that to a client of `/v2` each region is a registry of its own.
#[derive(Debug)]
pub(crate) struct Listeners {
    port: u16,
    registries: Guarded<BTreeMap<Registry, u16>>,
    closed: watch::Receiver<()>,
}

impl Listeners {
    /// The main port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Ecr {
    /// The host and port of a registry, opened when first asked for.
    pub(crate) fn registry_host(self: &Arc<Self>, registry: &Registry) -> io::Result<String> {
        let mut registries = self.listeners.registries.lock();
        let port = if let Some(port) = registries.get(registry) {
            *port
        } else {
            let listener = listen(0)?;
            let gate = Gate {
                ecr: Arc::clone(self),
                port: listener.local_addr()?.port(),
                registry: Some(registry.clone()),
                interface: None,
            };
            let port = gate.port;
            serve(listener, v2_router(&gate), gate)?;
            registries.insert(registry.clone(), port);
            port
        };
        Ok(format!("127.0.0.1:{port}"))
    }

    /// Opens a listener for one client, and gives back its URL.
    pub(crate) fn interface(self: &Arc<Self>, shape: Shape) -> io::Result<String> {
        self.open(listen(0)?, Some(Arc::new(Interface::new(shape)?)))
    }

    /// Answers everything at a listener, and gives back its URL.
    fn open(self: &Arc<Self>, listener: TcpListener, interface: Option<Arc<Interface>>) -> io::Result<String> {
        let port = listener.local_addr()?.port();
        let gate = Gate { ecr: Arc::clone(self), port, registry: None, interface };
        let endpoint = gate.endpoint();
        let router = Router::new()
            .route("/", post(api::call))
            .with_state(gate.clone())
            .route("/_admin/stats", get(admin::stats).delete(admin::reset_stats))
            .route("/_admin/faults", get(admin::faults).post(admin::add_fault).delete(admin::clear_faults))
            .route("/_admin/interfaces", post(admin::add_interface))
            .route("/{bucket}/{*key}", get(downloads::download))
            .with_state(Arc::clone(self))
            .merge(v2_router(&gate));
        serve(listener, router, gate)?;
        Ok(endpoint)
    }
}

fn v2_router(gate: &Gate) -> Router {
    Router::new().route("/v2/", any(v2::handle)).route("/v2/{*path}", any(v2::handle)).with_state(gate.clone())
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn serve(listener: TcpListener, router: Router, gate: Gate) -> io::Result<()> {
    let door = Door(tokio::net::TcpListener::from_std(listener)?);
    let mut closed = gate.ecr.listeners.closed.clone();
    let router = router.layer(middleware::from_fn_with_state(gate.clone(), wire::pass));
    let router = router.layer(middleware::from_fn_with_state(gate, halt::pass));
    tokio::spawn(async move {
        let stop = async move {
            // Nothing is ever sent: the change is that the sender is gone.
            let _ = closed.changed().await;
        };
        let service = router.into_make_service_with_connect_info::<Connection>();
        let _ = axum::serve(door, service).with_graceful_shutdown(stop).await;
    });
    Ok(())
}
