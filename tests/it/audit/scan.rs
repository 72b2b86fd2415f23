//! After a long day nothing that people said, and nothing that opens a door, is in the record, the
//! export or the log.

use serde_json::{Value, json};

use super::{lines, origins};
use crate::http::stage::eventually;
use crate::http::{Reply, exchange, request};
use crate::sign_in::{mail_to, mails_to, token_of};
use crate::support::TestServer;
use crate::support::log::Log;

const PROMPT: &str = "小林様は蕎麦アレルギーです";
const NAME: &str = "小林花子";
const AGENT: &str = "Kobayashi-Browser/7";
const GUEST: &str = "hanako@kobayashi.test";

async fn post(server: &TestServer, path: &str, bearer: Option<&str>, body: Value) -> Reply {
    let bearer = bearer.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("content-type", "application/json"), ("user-agent", AGENT)];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    exchange(server, &request("POST", path, &headers, body.to_string().as_bytes())).await
}

async fn ask(server: &TestServer, token: &str, document: &str) -> Value {
    let reply = post(server, "/graphql", Some(token), json!({ "query": document })).await;
    assert_eq!(reply.status, 200);
    reply.json()
}

/// Changes and calls by GraphQL. Answers the API key that was made.
async fn a_day_of_work(server: &TestServer) -> String {
    let admin = &server.hotel.admin.token;
    let profile = format!(
        "mutation {{ profileUpdate(input: {{ name: \"{NAME}\", displayName: \"{NAME}\",
         bio: \"{PROMPT}\" }}) {{ userErrors {{ code }} }} }}"
    );
    ask(server, admin, &profile).await;
    let tenant = "mutation { tenantUpdate(input: { name: \"小林旅館\",
        billingEmail: \"bills@kobayashi.test\", slackChannel: \"#kobayashi\" }) {
        userErrors { code } } }";
    ask(server, admin, tenant).await;
    let key = "mutation { apiKeyCreate(input: { name: \"小林のサーバー\",
        permissions: [AI_EXECUTE] }) { key userErrors { code } } }";
    let key = ask(server, admin, key).await["data"]["apiKeyCreate"]["key"].clone();
    let key = key.as_str().unwrap().to_owned();
    let invite = format!(
        "mutation {{ membershipInvite(input: {{ email: \"{GUEST}\", role: ADMIN }}) {{
         userErrors {{ code }} }} }}"
    );
    ask(server, admin, &invite).await;
    let run = format!(
        "mutation {{ aiExecute(input: {{ functionType: CHATBOT, idempotencyKey: \"scan-0001\",
         parameters: {{ input: \"{PROMPT}\" }} }}) {{ execution {{ status }}
         userErrors {{ code }} }} }}"
    );
    let run = ask(server, &key, &run).await;
    assert_eq!(run["data"]["aiExecute"]["execution"]["status"], "SUCCEEDED", "{run}");
    // The caller's own words as names of fields, on a field that is refused.
    ask(server, &key, "{ Kobayashi_Hanako: tenants { totalCount } }").await;
    key
}

/// An invitation is taken, a link asked for and taken, and bad ones tried. Answers all secrets.
async fn a_day_at_the_door(server: &TestServer) -> Vec<String> {
    let invitation = token_of(&mail_to(&server.app, GUEST).await);
    let form = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("user-agent", AGENT),
        ("origin", "http://musubi.test"),
        ("sec-fetch-site", "same-origin"),
    ];
    let body = format!("token={invitation}");
    let taken = request("POST", "/auth/invitation", &form, body.as_bytes());
    assert_eq!(exchange(server, &taken).await.status, 303);
    let asked = post(server, "/auth/email", None, json!({ "email": GUEST })).await;
    assert_eq!(asked.status, 202);
    // The invitation was the first; a worker of the server's may be sending the second.
    let second = async || mails_to(&server.app, GUEST).await.into_iter().nth(1);
    let link = token_of(&eventually(second).await);
    let body = json!({ "token": link });
    let tokens = post(server, "/auth/email/confirm", None, body.clone()).await.json();
    let text = |name: &str| tokens[name].as_str().unwrap().to_owned();
    let (refresh, access) = (text("refreshToken"), text("accessToken"));
    assert_ne!(post(server, "/auth/email/confirm", None, body).await.status, 200, "good once");
    let body = json!({ "refreshToken": refresh });
    assert_eq!(post(server, "/auth/refresh", None, body).await.status, 200);
    let bad = "not.a.token".to_owned();
    let query = json!({ "query": "{ viewer { role } }" });
    assert_eq!(post(server, "/graphql", Some(&bad), query).await.status, 401);
    vec![invitation, link, refresh, access, bad]
}

#[tokio::test]
async fn no_token_address_prompt_or_name_is_in_the_record_the_export_or_the_log() {
    let log = Log::start();
    let server = TestServer::start().await;
    let admin = &server.hotel.admin.token;
    server.hotel.buys(100, 1_000).await;
    let key = a_day_of_work(&server).await;
    let mut secrets = a_day_at_the_door(&server).await;
    secrets.extend([key, admin.clone()]);

    let rows = lines(&server.app).await;
    assert!(rows.len() >= 8, "{} lines", rows.len());
    let export = ask(&server, admin, "{ auditExport(format: JSONL) { content count } }").await;
    let export = export["data"]["auditExport"]["content"].as_str().unwrap().to_owned();
    let told: Vec<_> = rows.iter().map(|row| json!([row.event_data, row.changes])).collect();
    let record = format!("{rows:?}{}", json!(told));
    let sealed = format!("{:?}", origins(&server.app).await);
    let said = [PROMPT, NAME, "小林", "蕎麦", "kobayashi.test", "hanako", "Kobayashi", AGENT];
    for text in secrets.iter().map(String::as_str).chain(said) {
        assert!(!record.contains(text), "the record holds {text}");
        assert!(!export.contains(text), "the export holds {text}");
        assert!(!log.text().contains(text), "the log holds {text}");
        assert!(!sealed.contains(text), "the origins are sealed, and show {text}");
    }
    tracing::info!("The log is on");
    assert!(log.text().contains("The log is on"));
    for word in ["MEMBER_INVITED", "MEMBER_JOINED", "SIGNED_IN", "SIGN_IN_REFUSED", "[changed]"] {
        assert!(record.contains(word), "{word}");
    }
    // The admin may read where it came from.
    let events = "{ auditEvents(first: 100, where: { action: { eq: \"PROFILE_UPDATED\" } }) {
        nodes { userAgent ipAddress actor { name } } } }";
    let told = ask(&server, admin, events).await;
    let node = json!({ "userAgent": AGENT, "ipAddress": "127.0.0.1", "actor": { "name": NAME } });
    assert_eq!(told["data"]["auditEvents"]["nodes"][0], node);
}
