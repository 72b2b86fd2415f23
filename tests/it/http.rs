//! GraphQL over HTTP and what surrounds it, byte for byte over raw connections.

mod compression;
mod connections;
mod faults;
mod overload;
mod shutdown;
pub(crate) mod stage;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::TestServer;

const JSON: &str = "application/json";
const GRAPHQL: &str = "application/graphql-response+json";

/// An answer as it came.
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// All lines of a header.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, it)| it.trim())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of the first error.
    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["extensions"]["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn address(server: &TestServer) -> String {
    server.url().trim_start_matches("http://").to_owned()
}

/// Sends bytes and reads one answer.
pub(crate) async fn exchange(server: &TestServer, request: &[u8]) -> Reply {
    let mut stream = connect(server).await;
    stream.write_all(request).await.unwrap();
    read_reply(&mut stream).await
}

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(address(server)).await.unwrap()
}

/// Whether the server ends the connection; what it says before is skipped.
async fn see_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.unwrap();
}

async fn read_reply(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let read = timeout(Duration::from_secs(20), stream.read_buf(&mut bytes)).await;
        assert!(read.unwrap().unwrap() > 0, "the connection ended before the answer");
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut reply = Reply { status: head[9..12].parse().unwrap(), head, body: Vec::new() };
    let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
    let is_chunked = reply.header("transfer-encoding") == Some("chunked");
    reply.body = bytes[head_end + 4..].to_vec();
    while reply.body.len() < length || (is_chunked && !reply.body.ends_with(b"\r\n0\r\n\r\n")) {
        assert!(stream.read_buf(&mut reply.body).await.unwrap() > 0);
    }
    if is_chunked {
        reply.body = join_chunks(&reply.body);
    }
    reply
}

fn join_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").unwrap();
        let length = std::str::from_utf8(&rest[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: musubi.test\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

pub(crate) async fn send(
    server: &TestServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Reply {
    exchange(server, &request(method, path, headers, body.as_ref())).await
}

/// A POST of JSON with some more headers.
async fn post(server: &TestServer, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
    let headers = [&[("content-type", JSON)], headers].concat();
    send(server, "POST", "/graphql", &headers, body).await
}

fn query(text: &str) -> String {
    json!({ "query": text }).to_string()
}

#[tokio::test]
async fn the_answer_comes_in_the_type_that_the_client_prefers() {
    let server = TestServer::start().await;
    let cases = [
        (None, Some(JSON)),
        (Some(""), Some(JSON)),
        (Some("*/*"), Some(JSON)),
        (Some("application/*"), Some(JSON)),
        (Some(JSON), Some(JSON)),
        (Some(GRAPHQL), Some(GRAPHQL)),
        (Some("application/graphql-response+json, application/json;q=0.9"), Some(GRAPHQL)),
        (Some("application/graphql-response+json, */*"), Some(GRAPHQL)),
        (Some("application/json, application/graphql-response+json"), Some(JSON)),
        (Some("Application/JSON;q=0.1, application/graphql-response+json;q=0.2"), Some(GRAPHQL)),
        (Some("*/*, application/json;q=0"), Some(GRAPHQL)),
        (Some("text/html, */*;q=0.1"), Some(JSON)),
        (Some("text/html"), None),
        (Some("multipart/mixed"), None),
        (Some("application/json;q=0"), None),
    ];
    for (accept, expected) in cases {
        let headers: Vec<_> = accept.iter().map(|accept| ("accept", *accept)).collect();
        let reply = post(&server, &headers, query("{ __typename }")).await;
        match expected {
            Some(media) => {
                assert_eq!(reply.status, 200, "{accept:?}");
                let content_type = format!("{media}; charset=utf-8");
                assert_eq!(reply.header("content-type"), Some(&*content_type), "{accept:?}");
                assert_eq!(reply.json()["data"], json!({ "__typename": "Query" }));
            }
            None => {
                assert_eq!(reply.status, 406, "{accept:?}");
                assert_eq!(reply.code(), "NOT_ACCEPTABLE");
            }
        }
    }
}

#[tokio::test]
async fn a_refused_document_has_no_data_and_a_status_by_media_type() {
    let server = TestServer::start().await;
    let bodies = [
        query("{"),
        query(""),
        query("{ thereIsNoSuchField }"),
        query("query($v: Int!) { __type(name: $v) { name } }"),
        json!({ "query": "query A { __typename }", "operationName": "B" }).to_string(),
    ];
    for body in bodies {
        for (accept, status) in [(JSON, 200), (GRAPHQL, 400)] {
            let reply = post(&server, &[("accept", accept)], &body).await;
            assert_eq!(reply.status, status, "{body}");
            let answer = reply.json();
            assert!(answer.get("data").is_none(), "{body} answered {answer}");
            assert!(!answer["errors"].as_array().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn malformed_parameters_are_refused_with_400_and_a_code() {
    let server = TestServer::start().await;
    let cases: &[&[u8]] = &[
        b"",
        b"{",
        b"not json",
        b"7",
        b"\"{ __typename }\"",
        b"[]",
        br#"[{"query":"{ __typename }"}]"#,
        b"{}",
        br#"{"query":null}"#,
        br#"{"query":7}"#,
        br#"{"query":["{ __typename }"]}"#,
        br#"{"query":"{ __typename }","operationName":7}"#,
        br#"{"query":"{ __typename }","operationName":{}}"#,
        br#"{"query":"{ __typename }","variables":"{}"}"#,
        br#"{"query":"{ __typename }","variables":[]}"#,
        br#"{"query":"{ __typename }","extensions":true}"#,
        b"{\"query\":\"{ __typename } # \xff\"}",
    ];
    for body in cases {
        for accept in [JSON, GRAPHQL] {
            let reply = post(&server, &[("accept", accept)], body).await;
            let text = String::from_utf8_lossy(body);
            assert_eq!(reply.status, 400, "{text}");
            assert_eq!(reply.code(), "BAD_REQUEST", "{text}");
            assert!(reply.json().get("data").is_none());
        }
    }
}

#[tokio::test]
async fn null_is_absent_and_unknown_members_are_ignored() {
    let server = TestServer::start().await;
    let body = json!({
        "query": "{ __typename }", "operationName": null, "variables": null, "extensions": null,
        "somethingElse": [1],
    });
    let reply = post(&server, &[], body.to_string()).await;
    assert_eq!(reply.json()["data"], json!({ "__typename": "Query" }));
}

#[tokio::test]
async fn only_json_in_utf8_is_read() {
    let server = TestServer::start().await;
    let cases = [
        (Some("application/json"), 200),
        (Some("application/json; charset=utf-8"), 200),
        (Some("APPLICATION/JSON;Charset=\"UTF-8\""), 200),
        (Some("application/json; charset=iso-8859-1"), 415),
        (Some("application/graphql"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some("multipart/form-data; boundary=x"), 415),
        (Some("text/plain"), 415),
        (Some("application/jsonp"), 415),
        (None, 415),
    ];
    for (content_type, status) in cases {
        let headers: Vec<_> = content_type.iter().map(|value| ("content-type", *value)).collect();
        let reply = send(&server, "POST", "/graphql", &headers, query("{ __typename }")).await;
        assert_eq!(reply.status, status, "{content_type:?}");
    }
    let packed = post(&server, &[("content-encoding", "gzip")], query("{ __typename }")).await;
    assert_eq!((packed.status, packed.code().as_str()), (415, "UNSUPPORTED_MEDIA_TYPE"));
}

#[tokio::test]
async fn a_body_over_one_mebibyte_is_refused_fixed_and_chunked() {
    let server = TestServer::start().await;
    let long = vec![b' '; 1024 * 1024 + 1];
    let fixed = post(&server, &[], &long).await;
    assert_eq!((fixed.status, fixed.code().as_str()), (413, "PAYLOAD_TOO_LARGE"));

    let head = request(
        "POST",
        "/graphql",
        &[("content-type", JSON), ("transfer-encoding", "chunked")],
        b"",
    );
    let chunk = format!("{:x}\r\n", long.len());
    let chunked = [&head, chunk.as_bytes(), &long, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(exchange(&server, &chunked).await.status, 413);

    let mut fits = query("{ __typename }").into_bytes();
    fits.resize(1024 * 1024, b' ');
    assert_eq!(post(&server, &[], &fits).await.status, 200);
}

#[tokio::test]
async fn a_client_that_asks_first_is_refused_before_it_sends() {
    let server = TestServer::start().await;
    let head = b"POST /graphql HTTP/1.1\r\nhost: musubi.test\r\ncontent-type: application/json\r\n\
        content-length: 2000000\r\nexpect: 100-continue\r\n\r\n";
    assert_eq!(exchange(&server, head).await.status, 413);
}

#[tokio::test]
async fn a_get_reads_queries_and_nothing_else() {
    let server = TestServer::start().await;
    let accept = [("accept", JSON)];
    let typename = "query=query%20A%7B__typename%7D";
    let cases = [
        (format!("{typename}&operationName=A&variables=%7B%7D&extensions=%7B%7D&x=1"), 200),
        (format!("{typename}&operationName=&variables=&extensions="), 200),
        ("query={+__typename+}".to_owned(), 200),
        (format!("{typename}&variables=7"), 400),
        (format!("{typename}&variables=%7B"), 400),
        (format!("{typename}&{typename}"), 400),
        ("variables=%7B%7D".to_owned(), 400),
        (String::new(), 400),
    ];
    for (parameters, status) in cases {
        let path = format!("/graphql?{parameters}");
        assert_eq!(send(&server, "GET", &path, &accept, "").await.status, status, "{path}");
    }
    let path = format!("/graphql?{typename}");
    for headers in [&[][..], &[("accept", "*/*")], &[("accept", "text/html,*/*;q=0.8")]] {
        assert_eq!(send(&server, "GET", &path, headers, "").await.status, 406, "{headers:?}");
    }
    let mutation = send(&server, "GET", "/graphql?query=mutation{__typename}", &accept, "").await;
    assert_eq!((mutation.status, mutation.header("allow")), (405, Some("POST")));
}

#[tokio::test]
async fn a_subscription_over_http_is_pointed_to_the_websocket() {
    let server = TestServer::start().await;
    let body = query("subscription { creditBalance { current } }");
    for accept in [JSON, GRAPHQL] {
        let reply = post(&server, &[("accept", accept)], &body).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "BAD_REQUEST"));
        assert!(reply.json()["errors"][0]["message"].as_str().unwrap().contains("WebSocket"));
    }
}

#[tokio::test]
async fn other_methods_are_told_which_are_allowed() {
    let server = TestServer::start().await;
    for method in ["PUT", "PATCH", "DELETE", "OPTIONS"] {
        let reply = send(&server, method, "/graphql", &[("content-type", JSON)], "").await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, POST")), "{method}");
    }
    let health = send(&server, "POST", "/health/live", &[], "").await;
    assert_eq!(health.status, 405);
    assert!(health.header("allow").unwrap().contains("GET"));
    assert_eq!(health.code(), "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let server = TestServer::start().await;
    let cases: &[(&[(&str, &str)], u16)] = &[
        (&[("origin", "https://evil.test")], 403),
        (&[("origin", "null")], 403),
        (&[("origin", "https://musubi.test.evil.test")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "cross-site"), ("origin", "http://musubi.test")], 403),
        (&[("sec-fetch-site", "same-origin"), ("origin", "http://musubi.test")], 200),
        (&[("sec-fetch-site", "none")], 200),
    ];
    for (headers, status) in cases {
        let reply = post(&server, headers, query("{ __typename }")).await;
        assert_eq!(reply.status, *status, "{headers:?}");
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn a_token_that_is_not_valid_is_refused_with_401() {
    let server = TestServer::start().await;
    for value in ["Bearer", "Bearer ", "Basic YTpi", "Bearer not.a.token", "Bearer a b", "token"] {
        let reply = post(&server, &[("authorization", value)], query("{ __typename }")).await;
        assert_eq!((reply.status, reply.code().as_str()), (401, "UNAUTHENTICATED"), "{value}");
        assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer"));
    }
    let token = server.token("admin");
    let twice = format!("Bearer {token}");
    let headers = [("authorization", &*twice), ("authorization", &*twice)];
    assert_eq!(post(&server, &headers, query("{ __typename }")).await.status, 401);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let value = format!("{scheme} {token}");
        let reply = post(&server, &[("authorization", &value)], query("{ __typename }")).await;
        assert_eq!(reply.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn messages_speak_the_language_that_the_caller_prefers() {
    let server = TestServer::start().await;
    let message = async |language: &str| {
        let headers = [("authorization", "Bearer x"), ("accept-language", language)];
        let reply = post(&server, &headers, query("{ __typename }")).await;
        reply.json()["errors"][0]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(message("en-GB, ja;q=0.5").await, "Sign-in is required.");
    assert_eq!(message("ja").await, "サインインが必要です。");
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let server = TestServer::start().await;
    let given = post(&server, &[("x-request-id", "abc-1.2_3")], "{").await;
    assert_eq!(given.header("x-request-id"), Some("abc-1.2_3"));
    assert_eq!(given.json()["errors"][0]["extensions"]["requestId"], "abc-1.2_3");
    let long = "a".repeat(65);
    for bad in ["two words", "a/b", long.as_str()] {
        let reply = post(&server, &[("x-request-id", bad)], "{").await;
        assert_eq!(reply.header("x-request-id").unwrap().len(), 32, "{bad}");
    }
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let server = TestServer::start().await;
    for path in ["/", "/graphiql", "/health/live", "/nothing"] {
        let reply = send(&server, "GET", path, &[], "").await;
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{path} has {policy}");
    }
}

#[tokio::test]
async fn an_unknown_path_answers_404_in_json() {
    let server = TestServer::start().await;
    let reply = send(&server, "GET", "/no/such/path", &[], "").await;
    assert_eq!((reply.status, reply.code().as_str()), (404, "NOT_FOUND"));
}

#[tokio::test]
async fn health_tells_whether_the_process_lives_is_ready_and_how_its_services_are() {
    let server = TestServer::start().await;
    for path in ["/health/live", "/health/ready"] {
        let reply = send(&server, "GET", path, &[], "").await;
        assert_eq!((reply.status, reply.json()), (200, json!({ "status": "ok" })));
    }
    let first = send(&server, "GET", "/health", &[], "").await.json();
    assert_eq!(first["status"], "ok");
    assert_eq!(first["services"]["database"], "up");
    assert_eq!(first["services"]["models"], "up");
    // Answered from memory: not even the time is another.
    assert_eq!(send(&server, "GET", "/health", &[], "").await.json(), first);
}

#[tokio::test]
async fn graphiql_is_served_whole_under_a_strict_policy() {
    let server = TestServer::start().await;
    let front = send(&server, "GET", "/", &[], "").await;
    assert_eq!((front.status, front.header("location")), (302, Some("/graphiql")));

    let page = send(&server, "GET", "/graphiql", &[], "").await;
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert!(page.header("content-security-policy").unwrap().contains("script-src 'self'"));
    let text = String::from_utf8(page.body).unwrap();
    let (_, rest) = text.split_once("type=\"application/json\">").unwrap();
    let (config, _) = rest.split_once("</script>").unwrap();
    let config: Value = serde_json::from_str(config).unwrap();
    assert!(config["headers"]["authorization"].as_str().unwrap().starts_with("Bearer "));

    for asset in text.split('"').filter(|part| part.starts_with("/graphiql/assets/")) {
        let fresh = send(&server, "GET", asset, &[], "").await;
        assert_eq!(fresh.status, 200, "{asset}");
        let tag = fresh.header("etag").unwrap();
        let known = send(&server, "GET", asset, &[("if-none-match", tag)], "").await;
        assert_eq!((known.status, known.body.len()), (304, 0), "{asset}");
    }
    assert_eq!(send(&server, "GET", "/graphiql/assets/other.js", &[], "").await.status, 404);
}

#[tokio::test]
async fn two_requests_travel_on_one_connection() {
    let server = TestServer::start().await;
    let mut stream = connect(&server).await;
    let body = query("{ __typename }");
    let bytes = request("POST", "/graphql", &[("content-type", JSON)], body.as_bytes());
    for _ in 0..2 {
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(read_reply(&mut stream).await.status, 200);
    }
}
