//! Keys that clients give to writes: the same key and body get the first result.
//!
//! A key belongs to a tenant, a person or an API key, and an operation. The body is kept as a keyed
//! digest; what the key made is read again by its id. The row is written in the transaction of the
//! write itself, so that a refused write leaves no key behind.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use uuid::Uuid;

use crate::crypto::Crypto;
use crate::db::{self, Rows, Txn};
use crate::error::{Code, DomainError, Error, Lang, Result};
use crate::ids::{IdempotencyId, TenantId};

/// A key with what it stands for.
#[derive(Clone, Debug)]
pub struct Key {
    /// The tenant.
    pub tenant: TenantId,
    /// The person or the API key that writes.
    pub actor: Uuid,
    /// The mutation; two mutations may share one name.
    pub operation: &'static str,
    /// The client's key, 8 to 255 characters.
    pub key: String,
    /// A keyed digest of the body.
    pub digest: Vec<u8>,
    /// What the write will make.
    pub object: Uuid,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is new: write.
    New,
    /// It was used with the same body and made this.
    Known(Uuid),
    /// It was used with another body.
    Conflict,
}

/// Refused: the key was used before with another body.
#[derive(Debug)]
pub struct KeyConflict;

impl DomainError for KeyConflict {
    fn code(&self) -> Code {
        Code::IdempotencyConflict
    }

    fn message(&self, lang: Lang) -> String {
        lang.pick(
            "このidempotencyKeyは別の内容ですでに使われています。",
            "This idempotencyKey was already used with another body.",
        )
    }

    fn field(&self) -> Option<Vec<String>> {
        Some(vec!["input".to_owned(), "idempotencyKey".to_owned()])
    }
}

impl Key {
    /// A key of an operation; refuses keys that are too short or too long.
    pub fn new(
        crypto: &Crypto,
        (tenant, actor): (TenantId, Uuid),
        operation: &'static str,
        (key, body): (&str, &serde_json::Value),
        object: Uuid,
    ) -> Result<Self> {
        // PostgreSQL refuses a text with NUL.
        if !(8..=255).contains(&key.chars().count()) || key.contains('\0') {
            return Err(Error::invalid(
                "input.idempotencyKey",
                "8〜255文字で指定してください。",
                "must have 8 to 255 characters, none of them NUL",
            ));
        }
        let digest = crypto.digest(operation, body.to_string().as_bytes());
        Ok(Self { tenant, actor, operation, key: key.to_owned(), digest, object })
    }

    fn identity(&self) -> Identity {
        (self.tenant, self.actor, self.operation.to_owned(), self.key.clone())
    }
}

type Identity = (TenantId, Uuid, String, String);

#[derive(FromQueryResult)]
struct Row {
    tenant_id: TenantId,
    actor_id: Uuid,
    operation: String,
    key: String,
    body_digest: Vec<u8>,
    object_id: Uuid,
}

/// Claims keys, in their order: one statement, and a second one when some are known. Another
/// transaction that holds the same key is waited for.
pub async fn claim(txn: &Txn, keys: &[Key], now: DateTime<Utc>) -> Result<Vec<Claim>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    // In one order everywhere, lest two nodes with the same keys wait for each other.
    let mut ordered: Vec<&Key> = keys.iter().collect();
    ordered.sort_by_key(|key| (key.tenant, key.actor, key.operation, &key.key));
    let mut rows = Rows::default();
    ordered.into_iter().for_each(|key| rows.push(insert_values(key, now)));
    let (table, values) = rows.table(&**txn, 1);
    let sql = format!(
        "INSERT INTO idempotency_keys
         (id, tenant_id, actor_id, operation, key, body_digest, object_id, created_at)
         SELECT * FROM {table} WHERE TRUE ON CONFLICT DO NOTHING RETURNING object_id"
    );
    let inserted: Vec<Inserted> = db::all(&**txn, sql, values).await?;
    let inserted: HashSet<Uuid> = inserted.into_iter().map(|row| row.object_id).collect();
    let is_new = |key: &Key| inserted.contains(&key.object);
    let known: Vec<&Key> = keys.iter().filter(|key| !is_new(key)).collect();
    let rows = find(&**txn, &known).await?;
    Ok(keys.iter().map(|key| if is_new(key) { Claim::New } else { judge(&rows, key) }).collect())
}

/// Forgets keys whose write was refused: by what they are unique in, as the table grows.
pub async fn forget<'a>(txn: &Txn, keys: impl Iterator<Item = &'a Key>) -> Result<()> {
    let mut rows = Rows::default();
    for key in keys {
        let whose = [key.tenant.into(), key.actor.into()];
        rows.push(whose.into_iter().chain([key.operation.into(), Value::from(key.key.clone())]));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let (table, values) = rows.table(&**txn, 1);
    let sql = format!(
        "DELETE FROM idempotency_keys WHERE (tenant_id, actor_id, operation, key) IN
         (SELECT column1, column2, column3, column4 FROM {table})"
    );
    db::execute(&**txn, sql, values).await?;
    Ok(())
}

/// Claims the key of a single write; a known key answers what it made.
pub async fn claim_one(txn: &Txn, key: &Key, now: DateTime<Utc>) -> Result<Option<Uuid>> {
    match claim(txn, std::slice::from_ref(key), now).await?.first() {
        Some(Claim::New) => Ok(None),
        Some(Claim::Known(object)) => Ok(Some(*object)),
        Some(Claim::Conflict) => Err(KeyConflict.into()),
        None => Err(Error::broken("a key was neither new nor known")),
    }
}

#[derive(FromQueryResult)]
struct Inserted {
    object_id: Uuid,
}

fn insert_values(key: &Key, now: DateTime<Utc>) -> [Value; 8] {
    [
        IdempotencyId::new().into(),
        key.tenant.into(),
        key.actor.into(),
        key.operation.into(),
        key.key.clone().into(),
        key.digest.clone().into(),
        key.object.into(),
        now.into(),
    ]
}

/// What a key made, if it was used; refused as [`KeyConflict`] when that was with another body.
/// Claims nothing.
pub async fn look(conn: &impl ConnectionTrait, key: &Key) -> Result<Option<Uuid>> {
    let rows = find(conn, &[key]).await?;
    match (rows.is_empty(), judge(&rows, key)) {
        (true, _) | (_, Claim::New) => Ok(None),
        (false, Claim::Known(object)) => Ok(Some(object)),
        (false, Claim::Conflict) => Err(KeyConflict.into()),
    }
}

async fn find(conn: &impl ConnectionTrait, keys: &[&Key]) -> Result<HashMap<Identity, Row>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = format!(
        "SELECT tenant_id, actor_id, operation, key, body_digest, object_id
         FROM idempotency_keys WHERE (tenant_id, actor_id, operation, key) IN (VALUES {})",
        db::tuples(keys.len(), 4, 1)
    );
    let values = keys
        .iter()
        .flat_map(|key| -> [Value; 4] {
            [key.tenant.into(), key.actor.into(), key.operation.into(), key.key.clone().into()]
        })
        .collect();
    let rows: Vec<Row> = db::all(conn, sql, values).await?;
    let keyed = rows
        .into_iter()
        .map(|row| ((row.tenant_id, row.actor_id, row.operation.clone(), row.key.clone()), row));
    Ok(keyed.collect())
}

fn judge(rows: &HashMap<Identity, Row>, key: &Key) -> Claim {
    match rows.get(&key.identity()) {
        Some(row) if row.body_digest == key.digest => Claim::Known(row.object_id),
        Some(_) | None => Claim::Conflict,
    }
}
