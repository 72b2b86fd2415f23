//! Reading a request's body: within its length, within its time.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::BytesMut;
use futures_util::StreamExt;
use http::header::{self, HeaderMap};
use tokio::time::timeout;

use crate::http::reply::Refusal;

/// A body beyond the limit is read on for so long and so far, so that a client that still writes
/// sees the refusal and not a reset connection.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 8 * 1024 * 1024;

/// Reads the body within its limit and its time.
pub(super) async fn read(
    body: Body,
    headers: &HeaderMap,
    (bytes_max, patience): (usize, Duration),
) -> Result<BytesMut, Refusal> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    let mut stream = body.into_data_stream();
    let result = if announced > bytes_max {
        Err(Refusal::too_large())
    } else {
        let collected = collect(&mut stream, announced, bytes_max);
        timeout(patience, collected).await.unwrap_or_else(|_| Err(Refusal::too_slow()))
    };
    // A client that waits for "100 Continue" has sent nothing yet, and reading would ask for it.
    if result.is_err() && !headers.contains_key(header::EXPECT) {
        // However it ends, the refusal goes out.
        let _ = timeout(LINGER, linger(&mut stream)).await;
    }
    result
}

async fn collect(
    stream: &mut BodyDataStream,
    announced: usize,
    bytes_max: usize,
) -> Result<BytesMut, Refusal> {
    let mut bytes = BytesMut::with_capacity(announced);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Refusal::malformed("The body broke off."))?;
        if bytes.len() + chunk.len() > bytes_max {
            return Err(Refusal::too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn linger(stream: &mut BodyDataStream) {
    let mut seen = 0;
    while let Some(Ok(chunk)) = stream.next().await {
        seen += chunk.len();
        if seen > LINGER_BYTES {
            return;
        }
    }
}
