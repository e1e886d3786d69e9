//! Answers that a fault alters on their way, and requests that it slows down.

use std::time::Duration;

use axum::Error;
use axum::body::{Body, HttpBody as _};
use axum::http::header::{CONTENT_LENGTH, LOCATION};
use axum::http::response::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use crate::connection::Connection;
use crate::faults::Fault;

const ZEROS: &[u8] = &[0; 64 * 1024];
const PIECES_PER_SECOND: u64 = 10;

pub(crate) type Content = BoxStream<'static, Result<Bytes, Error>>;

impl Fault {
    /// The request's body as it is read.
    pub(crate) fn slow_down(&self, body: Body) -> Body {
        match self.read_bytes_per_second {
            Some(bytes_per_second) => {
                Body::from_stream(trickling(body.into_data_stream().boxed(), bytes_per_second.max(1)))
            }
            None => body,
        }
    }

    /// The answer as the client gets it, over its connection.
    pub(crate) async fn alter(&self, answer: Response, connection: &Connection) -> Response {
        let (mut head, mut body) = answer.into_parts();
        if let Some(location) = self.location.as_deref().and_then(|location| HeaderValue::from_str(location).ok()) {
            head.headers.insert(LOCATION, location);
        }
        if let Some(content) = &self.body {
            head.headers.remove(CONTENT_LENGTH);
            body = Body::from(replace(body, content).await);
        }
        let alterations = [self.corrupt, self.truncate, self.extend, self.cut_answer_after, self.bytes_per_second];
        if alterations.iter().any(Option::is_some) {
            return self.alter_content(head, body, connection);
        }
        Response::from_parts(head, body)
    }

    fn alter_content(&self, mut head: Parts, body: Body, connection: &Connection) -> Response {
        let mut length = told_length(&head.headers).or(body.size_hint().exact());
        let mut content: Content = body.into_data_stream().boxed();
        if let Some(index) = self.corrupt {
            content = corrupted(content, index).boxed();
        }
        if let Some(bytes) = self.truncate {
            content = truncated(content, bytes).boxed();
            length = length.map(|length| length.min(bytes));
        }
        if let Some(bytes) = self.extend {
            content = content.chain(zeros(bytes)).boxed();
            length = length.map(|length| length.saturating_add(bytes));
        }
        if let Some(bytes) = self.cut_answer_after {
            content = cut(content, bytes, connection.clone()).boxed();
        }
        if let Some(bytes_per_second) = self.bytes_per_second {
            content = trickling(content, bytes_per_second.max(1)).boxed();
        }
        if let Some(length) = length {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Response::from_parts(head, Body::from_stream(content))
    }
}

fn told_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn replace(body: Body, content: &Value) -> String {
    if let Value::String(text) = content {
        return text.clone();
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut answer = serde_json::from_slice(&body).unwrap_or_default();
    merge(&mut answer, content);
    answer.to_string()
}

/// As a JSON merge patch (RFC 7396), and an object is merged into each item of a list.
fn merge(answer: &mut Value, content: &Value) {
    match (answer, content) {
        (Value::Array(items), Value::Object(_)) => items.iter_mut().for_each(|item| merge(item, content)),
        (Value::Object(members), Value::Object(changes)) => {
            for (name, change) in changes {
                if change.is_null() {
                    members.remove(name);
                } else {
                    merge(members.entry(name).or_insert(Value::Null), change);
                }
            }
        }
        (answer, content) => answer.clone_from(content),
    }
}

fn corrupted(content: Content, index: u64) -> impl Stream<Item = Result<Bytes, Error>> {
    let mut passed = 0;
    content.map_ok(move |chunk| {
        let place = index.checked_sub(passed).and_then(|place| usize::try_from(place).ok());
        passed += chunk.len() as u64;
        match place.filter(|place| *place < chunk.len()) {
            Some(place) => {
                let mut chunk = Vec::from(chunk);
                chunk[place] ^= 1;
                Bytes::from(chunk)
            }
            None => chunk,
        }
    })
}

fn truncated(content: Content, bytes: u64) -> impl Stream<Item = Result<Bytes, Error>> {
    stream::try_unfold((content, bytes), async |(mut content, left)| {
        if left == 0 {
            return Ok(None);
        }
        let Some(mut chunk) = content.try_next().await? else { return Ok(None) };
        chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - chunk.len() as u64;
        Ok(Some((chunk, (content, left))))
    })
}

/// The content, of which no more than so many bytes are sent before the connection is closed.
pub(crate) fn cut(
    content: Content,
    bytes: u64,
    connection: Connection,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    stream::try_unfold((content, bytes, connection), async |(mut content, left, connection)| {
        if left == 0 {
            match connection.cut().await {}
        }
        let Some(mut chunk) = content.try_next().await? else { return Ok(None) };
        chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - chunk.len() as u64;
        Ok(Some((chunk, (content, left, connection))))
    })
}

fn zeros(bytes: u64) -> impl Stream<Item = Result<Bytes, Error>> {
    stream::iter(std::iter::successors(Some(bytes), |left| left.checked_sub(ZEROS.len() as u64)).map(|left| {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        Ok(Bytes::from_static(&ZEROS[..length]))
    }))
}

fn trickling(content: Content, bytes_per_second: u64) -> impl Stream<Item = Result<Bytes, Error>> {
    let size = usize::try_from(bytes_per_second.div_ceil(PIECES_PER_SECOND)).unwrap_or(usize::MAX);
    stream::try_unfold((content, Bytes::new()), move |(mut content, mut rest)| async move {
        while rest.is_empty() {
            match content.try_next().await? {
                Some(chunk) => rest = chunk,
                None => return Ok(None),
            }
        }
        let piece = rest.split_to(rest.len().min(size));
        let nanoseconds = (piece.len() as u64).saturating_mul(1_000_000_000) / bytes_per_second;
        tokio::time::sleep(Duration::from_nanos(nanoseconds)).await;
        Ok(Some((piece, (content, rest))))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(chunks: &'static [&'static str]) -> Response {
        Response::new(Body::from_stream(stream::iter(chunks.iter().map(|chunk| Ok::<_, Error>(Bytes::from(*chunk))))))
    }

    async fn altered(fault: &Fault, answer: Response) -> String {
        let answer = fault.alter(answer, &Connection::default()).await;
        let told = told_length(answer.headers());
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        assert!(told.is_none_or(|told| told == body.len() as u64), "{told:?}");
        String::from_utf8(body.into()).unwrap()
    }

    #[tokio::test]
    async fn an_object_is_merged_and_a_string_takes_the_place() {
        let own = r#"{"layers":[{"size":1,"type":"x"},{"size":2}],"failures":[],"next":"a"}"#;
        for (body, expected) in [
            (json!({}), json!({ "layers": [{ "size": 1, "type": "x" }, { "size": 2 }], "failures": [], "next": "a" })),
            (
                json!({ "next": null, "failures": null }),
                json!({ "layers": [{ "size": 1, "type": "x" }, { "size": 2 }] }),
            ),
            (
                json!({ "layers": { "size": 3, "type": null } }),
                json!({ "layers": [{ "size": 3 }, { "size": 3 }], "failures": [], "next": "a" }),
            ),
            (
                json!({ "layers": [{}], "next": { "new": 1 }, "more": true }),
                json!({ "layers": [{}], "failures": [], "next": { "new": 1 }, "more": true }),
            ),
        ] {
            let fault = Fault::of("X").body(body);
            let merged = altered(&fault, Response::new(Body::from(own))).await;
            assert_eq!(serde_json::from_str::<Value>(&merged).unwrap(), expected, "{fault:?}");
        }
        assert_eq!(altered(&Fault::of("X").body(json!({ "a": 1 })), answer(&["no", " json"])).await, r#"{"a":1}"#);
        assert_eq!(altered(&Fault::of("X").body("<html>"), Response::new(Body::from(own))).await, "<html>");
    }

    #[tokio::test]
    async fn bytes_are_altered_across_chunks() {
        for (fault, expected) in [
            (Fault::of("X").corrupt(0), "1123456789"),
            (Fault::of("X").corrupt(5), "0123446789"),
            (Fault::of("X").corrupt(10), "0123456789"),
            (Fault::of("X").truncate(0), ""),
            (Fault::of("X").truncate(4), "0123"),
            (Fault::of("X").truncate(99), "0123456789"),
            // More than there is: whole.
            (Fault::of("X").cut_answer_after(99), "0123456789"),
            (Fault::of("X").extend(2), "0123456789\0\0"),
            (Fault::of("X").corrupt(1).truncate(3).trickle(1_000_000), "002"),
            (Fault::of("X").body("another").truncate(2), "an"),
        ] {
            assert_eq!(altered(&fault, answer(&["01", "234", "", "56789"])).await, expected, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn the_told_length_is_that_of_what_is_sent() {
        for (fault, expected) in [
            (Fault::of("X").corrupt(1), "10"),
            (Fault::of("X").truncate(4), "4"),
            (Fault::of("X").extend(200_000), "200010"),
            (Fault::of("X").body("a").extend(1), "2"),
        ] {
            let mut answer = answer(&["01234", "56789"]);
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(10));
            let answer = fault.alter(answer, &Connection::default()).await;
            assert_eq!(answer.headers()[CONTENT_LENGTH], expected, "{fault:?}");
            let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            assert_eq!(body.len().to_string(), expected, "{fault:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_even() {
        let started = tokio::time::Instant::now();
        let content = answer(&["0123456789", "abcdefghij"]).into_body().into_data_stream().boxed();
        let pieces = trickling(content, 20).map_ok(|piece| (piece, started.elapsed().as_millis()));
        let pieces: Vec<_> = pieces.try_collect().await.unwrap();
        assert_eq!(pieces.len(), 10);
        for (number, (piece, elapsed)) in pieces.iter().enumerate() {
            assert_eq!(piece.len(), 2);
            let due = (number as u128 + 1) * 100;
            assert!((due..due + 20).contains(elapsed), "{number}: {elapsed}");
        }
    }
}
