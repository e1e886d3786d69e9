//! A client that is killed in the middle of its work, as its registry sees it: nothing more is answered.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::oneshot;

use crate::gate::Gate;
use crate::guarded::Guarded;

/// Where in a request the client is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it took effect.
    Before,
    /// All of it did, and nobody was told.
    After,
}

/// Set while a halt is to come, or has come.
#[derive(Debug, Default)]
pub(crate) struct Halt(Guarded<Option<Halting>>);

#[derive(Debug)]
enum Halting {
    /// After so many requests.
    Coming {
        left: u64,
        moment: Moment,
        reached: oneshot::Sender<()>,
    },
    /// When a request has taken effect, for which others may have to pass.
    TakingEffect,
    Halted,
}

/// How a request is cut off.
enum Cut {
    /// It is as good as never sent.
    Off,
    /// The halt comes with it.
    Here(Moment, oneshot::Sender<()>),
}

impl Halt {
    pub(crate) fn set(&self, requests: u64, moment: Moment) -> oneshot::Receiver<()> {
        let (reached, halted) = oneshot::channel();
        *self.0.lock() = Some(Halting::Coming { left: requests, moment, reached });
        halted
    }

    pub(crate) fn clear(&self) {
        *self.0.lock() = None;
    }

    /// How a request that arrives now is cut off, if it is.
    fn arrives(&self) -> Option<Cut> {
        let mut halt = self.0.lock();
        match halt.take()? {
            Halting::Coming { left: 0, moment, reached } => {
                *halt = Some(if moment == Moment::Before { Halting::Halted } else { Halting::TakingEffect });
                Some(Cut::Here(moment, reached))
            }
            Halting::Coming { left, moment, reached } => {
                *halt = Some(Halting::Coming { left: left - 1, moment, reached });
                None
            }
            Halting::TakingEffect => {
                *halt = Some(Halting::TakingEffect);
                None
            }
            Halting::Halted => {
                *halt = Some(Halting::Halted);
                Some(Cut::Off)
            }
        }
    }

    fn has_come(&self) {
        *self.0.lock() = Some(Halting::Halted);
    }
}

/// Lets a request pass, or keeps its client waiting until that goes away.
pub(crate) async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    match gate.ecr.halt.arrives() {
        None => return next.run(request).await,
        Some(Cut::Off) => {}
        Some(Cut::Here(moment, reached)) => {
            if moment == Moment::After {
                next.run(request).await;
                gate.ecr.halt.has_come();
            }
            // Whoever waits for the halt may have gone.
            let _ = reached.send(());
        }
    }
    std::future::pending().await
}
