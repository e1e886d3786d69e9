use axum::Json;
use axum::http::StatusCode;
use axum::http::header::LINK;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::Exchange;
use super::error::Refusal;
use crate::names::RepositoryName;

/// The documented most of a page.
const MAX_PAGE: usize = 1000;

pub(super) fn list(exchange: &Exchange, name: &RepositoryName) -> Result<Response, Refusal> {
    let query = exchange.query();
    let size = match query.get("n") {
        None => MAX_PAGE,
        Some(size) => size.parse().ok().filter(|size| (1..=MAX_PAGE).contains(size)).ok_or_else(|| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "PAGINATION_NUMBER_INVALID",
                format!("n must be between 1 and {MAX_PAGE}"),
            )
        })?,
    };
    let after = query.get("last").map_or("", String::as_str);
    let store = exchange.ecr.store.lock();
    let mut rest = store.repository(&exchange.registry, name)?.tags().filter(|tag| tag.as_str() > after).peekable();
    let page: Vec<_> = rest.by_ref().take(size).collect();
    let next = page.last().filter(|_| rest.peek().is_some());
    let link = next.map(|last| [(LINK, format!("</v2/{name}/tags/list?last={last}&n={size}>; rel=\"next\""))]);
    let body = Json(json!({ "name": name, "tags": page }));
    Ok(match link {
        Some(link) => (link, body).into_response(),
        None => body.into_response(),
    })
}
