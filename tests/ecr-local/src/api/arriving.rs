use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::http::StatusCode;
use futures::TryStreamExt as _;

use super::{Addressed, Refusal};
use crate::faults::Fault;
use crate::uploads::MAX_PART_SIZE;

/// The largest part in base64, or the largest manifest with every character escaped, and room for the rest.
const MAX_BODY_SIZE: u64 = MAX_PART_SIZE / 3 * 4 + 1024 * 1024;

/// A request's body, of which a fault may want only the beginning.
#[derive(Debug)]
pub(super) struct Arriving {
    rest: BodyDataStream,
    received: Vec<u8>,
}

impl Arriving {
    pub(super) fn new(body: Body) -> Self {
        let expected = body.size_hint().lower().min(MAX_BODY_SIZE);
        let received = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
        Self { rest: body.into_data_stream(), received }
    }

    /// Has what has not come yet be read as a fault has it.
    pub(super) fn slow_down(&mut self, fault: &Fault) {
        let rest = std::mem::replace(&mut self.rest, Body::empty().into_data_stream());
        self.rest = fault.slow_down(Body::from_stream(rest)).into_data_stream();
    }

    /// All of it.
    pub(super) async fn whole(&mut self) -> Result<&[u8], Refusal> {
        while self.more().await? {}
        Ok(&self.received)
    }

    /// So many bytes, or all of a shorter body.
    pub(super) async fn up_to(&mut self, bytes: u64) -> Result<(), Refusal> {
        while (self.received.len() as u64) < bytes && self.more().await? {}
        Ok(())
    }

    /// The repository, from as little of the body as it takes: most clients write it before a part's bytes.
    pub(super) async fn repository(&mut self) -> Result<Option<String>, Refusal> {
        loop {
            if let Some(repository) = leading_repository(&self.received) {
                return Ok(Some(repository));
            }
            if !self.more().await? {
                return Ok(Addressed::by(&self.received).repository);
            }
        }
    }

    async fn more(&mut self) -> Result<bool, Refusal> {
        let refusal =
            |message: String| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException", message);
        let Some(chunk) = self.rest.try_next().await.map_err(|error| refusal(error.to_string()))? else {
            return Ok(false);
        };
        if (self.received.len() + chunk.len()) as u64 > MAX_BODY_SIZE {
            return Err(refusal("length limit exceeded".to_owned()));
        }
        self.received.extend_from_slice(&chunk);
        Ok(true)
    }
}

/// The repository's name at the start of a body that has not come to its end.
fn leading_repository(received: &[u8]) -> Option<String> {
    // Anything that stands before it is short.
    let start = &received[..received.len().min(4096)];
    let start = std::str::from_utf8(start).ok()?;
    let (_, value) = start.split_once("\"repositoryName\"")?;
    let (name, _) = value.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?.split_once('"')?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_read_before_the_body_ends() {
        for (received, repository) in [
            (r#"{"repositoryName":"app","layerPartBlob":"AAAA"#, Some("app")),
            (r#"{ "registryId": "123456789012", "repositoryName" : "a/b", "#, Some("a/b")),
            (r#"{"repositoryName":"ap"#, None),
            (r#"{"layerPartBlob":"AAAA"#, None),
        ] {
            assert_eq!(leading_repository(received.as_bytes()).as_deref(), repository, "{received}");
        }
    }
}
