use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::ecr::Ecr;
use crate::names::Registry;
use crate::tokens::{Claim, Unauthorized};
use crate::wire::Interface;

/// The listener that a request came through: the main one, that of one registry, or that of one client.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) ecr: Arc<Ecr>,
    pub(crate) port: u16,
    /// The one registry that is answered for. Elsewhere `/v2` answers for the one that the token was asked for.
    pub(crate) registry: Option<Registry>,
    pub(crate) interface: Option<Arc<Interface>>,
}

impl Gate {
    /// The URL that the client knows this listener by.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where a client of `/v2` gets layers: by another host name than that of the registries. HTTP clients drop credentials
    /// when a redirect leads to another host, as it does in AWS; some of them do not count another port as another host.
    pub(crate) fn download_endpoint(&self) -> String {
        let port = if self.registry.is_some() { self.ecr.listeners.port() } else { self.port };
        format!("http://localhost:{port}")
    }

    /// What the token of a request of `/v2` says.
    pub(crate) fn claim_of(&self, headers: &HeaderMap) -> Result<Claim, Unauthorized> {
        self.ecr.read_token(headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()))
    }
}
