//! What every body passes on its way: the counters of its region, and the shape of its client's network.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use futures::TryStreamExt as _;

use crate::gate::Gate;
use crate::names::Region;
use crate::shape::{Pacer, Sender, Shape};
use crate::stats::{Counter, Traffic};
use crate::{api, downloads};

/// The network interface of one client.
#[derive(Debug)]
pub(crate) struct Interface {
    shape: Shape,
    received: Option<Arc<Pacer>>,
    sent: Option<Arc<Pacer>>,
}

impl Interface {
    pub(crate) fn new(shape: Shape) -> io::Result<Self> {
        let rate = match shape.bits_per_second.map(NonZeroU64::new) {
            None => None,
            Some(Some(rate)) => Some(rate),
            Some(None) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface needs more than 0 bit/s"));
            }
        };
        let pacer = || rate.map(|rate| Arc::new(Pacer::new(rate)));
        Ok(Self { received: pacer(), sent: pacer(), shape })
    }

    fn is_near(&self, region: Option<&Region>) -> bool {
        self.shape.near.is_some() && self.shape.near.as_deref() == region.map(Region::as_str)
    }
}

/// Counts, paces and delays a request and its answer.
pub(crate) async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let is_admin = head.uri.path().starts_with("/_admin/");
    let region = region(&gate, &head);
    let traffic = region.as_ref().map(|region| gate.ecr.counters.traffic(region));
    let interface = gate.interface.filter(|interface| !is_admin && !interface.is_near(region.as_ref()));

    let pacer = interface.as_ref().and_then(|interface| interface.received.clone());
    let pacer = pacer.map(|pacer| (pacer, Sender::Client));
    let body = carry(body, traffic.clone(), Traffic::received, pacer);
    let response = next.run(Request::from_parts(head, body)).await;
    if let Some(interface) = &interface {
        tokio::time::sleep(interface.shape.round_trip).await;
    }

    let (mut head, body) = response.into_parts();
    // Told by the body's type until now.
    if let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    let pacer = interface.and_then(|interface| interface.sent.clone()).map(|pacer| (pacer, Sender::Server));
    let body = carry(body, traffic, Traffic::sent, pacer);
    Response::from_parts(head, body)
}

/// The region that a request is for, if it tells one that could be answered.
fn region(gate: &Gate, head: &Parts) -> Option<Region> {
    match head.uri.path() {
        "/" => api::region(&head.headers),
        path if path.starts_with("/v2/") => gate.claim_of(&head.headers).ok().map(|claim| claim.registry().region),
        path => downloads::region(path),
    }
}

fn carry(
    body: Body,
    traffic: Option<Arc<Traffic>>,
    counter: fn(&Traffic) -> &Counter,
    pacer: Option<(Arc<Pacer>, Sender)>,
) -> Body {
    if body.is_end_stream() || (traffic.is_none() && pacer.is_none()) {
        return body;
    }
    let count = move |chunk: &axum::body::Bytes| {
        if let Some(traffic) = &traffic {
            counter(traffic).add(chunk.len());
        }
    };
    let body = body.into_data_stream();
    match pacer {
        Some((pacer, sender)) => Body::from_stream(pacer.pace(sender, body).inspect_ok(count)),
        None => Body::from_stream(body.inspect_ok(count)),
    }
}
