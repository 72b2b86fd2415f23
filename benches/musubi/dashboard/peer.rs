//! The limit: a handler on axum and the bare driver. It checks the token and its person, reads the
//! account and a page of its ledger, and writes the same JSON: three statements, no GraphQL.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, SecondsFormat, Utc};
use http::{HeaderMap, StatusCode};
use musubi::ids::TransactionId;
use musubi::tokens::{Claims, Tokens};
use serde::Serialize;
use serde_json::json;
use sqlx::Row;
use sqlx::postgres::{PgPool, PgPoolOptions, PgRow};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::stage::{self, CONNECTIONS};

/// Entries of a page.
const FIRST: usize = 20;

const STANDING: &str = "SELECT u.is_platform_admin, m.role FROM users u
    LEFT JOIN tenants t ON t.id = $2 AND t.deleted_at IS NULL
    LEFT JOIN memberships m ON m.user_id = u.id AND m.tenant_id = t.id
    WHERE u.id = $1 AND u.deleted_at IS NULL AND t.id IS NOT NULL";
const ACCOUNT: &str = "SELECT id, current_balance, held, version, updated_at
    FROM ai_credit_accounts WHERE tenant_id = $1 AND deleted_at IS NULL";
const LEDGER: &str = "SELECT id, transaction_type, credits_amount, balance_after, total_cost_yen,
    created_at, version FROM ai_credit_transactions WHERE account_id = $1
    ORDER BY version DESC, id DESC LIMIT 21";

struct Server {
    pool: PgPool,
    tokens: Tokens,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    balance: Balance,
    transactions: Page,
}

#[derive(Serialize)]
struct Balance {
    current: i64,
    held: i64,
    available: i64,
    version: i64,
    at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    nodes: Vec<Line>,
    page_info: PageInfo,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    credits: i64,
    balance_after: i64,
    total_cost: Option<Money>,
    created_at: String,
}

#[derive(Serialize)]
struct Money {
    amount: String,
    currency: &'static str,
}

/// Serves until it is killed.
pub(crate) async fn serve(arguments: &[String]) {
    let url = &arguments[0];
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .test_before_acquire(false)
        .connect(url)
        .await
        .unwrap();
    let config = stage::config(url);
    let tokens = Tokens::new(&config.token_issuer, &config.jwt_keys).unwrap();
    let server = Arc::new(Server { pool, tokens });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/graphql", post(answer)).with_state(server);
    axum::serve(listener, routes).await.unwrap();
}

async fn answer(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let bearer = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer "));
    let claims = token.and_then(|token| server.tokens.verify(token, Utc::now()).ok());
    let mut response = match claims {
        None => Response::new(Body::empty()),
        Some(claims) => match server.account(&claims).await.unwrap() {
            None => Response::new(Body::empty()),
            Some(account) => {
                let body = serde_json::to_vec(&json_of(&account)).unwrap();
                let mut response = Response::new(Body::from(body));
                let json = http::HeaderValue::from_static("application/json");
                response.headers_mut().insert(http::header::CONTENT_TYPE, json);
                return response;
            }
        },
    };
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response
}

#[derive(Serialize)]
struct Answer<'a> {
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    credit_account: &'a Account,
}

fn json_of(account: &Account) -> Answer<'_> {
    Answer { data: Data { credit_account: account } }
}

impl Server {
    async fn account(&self, claims: &Claims) -> sqlx::Result<Option<Account>> {
        let tenant = claims.tid.map(|tenant| tenant.0);
        let standing = sqlx::query(STANDING)
            .bind(claims.sub.0)
            .bind(tenant)
            .fetch_optional(&self.pool)
            .await?;
        let role = standing.and_then(|row| row.get::<Option<String>, _>(1));
        if !role.is_some_and(|role| role == "ADMIN" || role == "MANAGER") {
            return Ok(None);
        }
        let account = sqlx::query(ACCOUNT).bind(tenant).fetch_one(&self.pool).await?;
        let id: Uuid = account.get(0);
        let mut rows = sqlx::query(LEDGER).bind(id).fetch_all(&self.pool).await?;
        let has_next_page = rows.len() > FIRST;
        rows.truncate(FIRST);
        let (current, held): (i64, i64) = (account.get(1), account.get(2));
        Ok(Some(Account {
            balance: Balance {
                current,
                held,
                available: current - held,
                version: account.get(3),
                at: instant(account.get(4)),
            },
            transactions: Page {
                page_info: PageInfo { has_next_page, end_cursor: rows.last().map(cursor) },
                nodes: rows.iter().map(line).collect(),
            },
        }))
    }
}

fn line(row: &PgRow) -> Line {
    Line {
        id: TransactionId(row.get(0)).to_string(),
        kind: row.get(1),
        credits: row.get(2),
        balance_after: row.get(3),
        total_cost: row
            .get::<Option<i64>, _>(4)
            .map(|yen| Money { amount: yen.to_string(), currency: "JPY" }),
        created_at: instant(row.get(5)),
    }
}

fn cursor(row: &PgRow) -> String {
    let (version, id): (i64, Uuid) = (row.get(6), row.get(0));
    let cells = json!(["CreditTransactionOrderField-SEQUENCE", [{ "i": version }, { "u": id }]]);
    BASE64_URL_SAFE_NO_PAD.encode(cells.to_string())
}

fn instant(at: DateTime<Utc>) -> String {
    let format = match at.timestamp_subsec_micros() {
        0 => SecondsFormat::Secs,
        micros if micros % 1000 == 0 => SecondsFormat::Millis,
        _ => SecondsFormat::Micros,
    };
    at.to_rfc3339_opts(format, true)
}
