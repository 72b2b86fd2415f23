//! The table, the schema over it and the databases they stand on. The schema is also the worked
//! example of what a domain's `graphql.rs` declares for a list.

use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};

use async_graphql::{
    Context, EmptyMutation, EmptySubscription, Enum, ID, InputObject, Object, Request, Schema,
    Variables,
};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use musubi::error::{Code, Error};
use musubi::graphql::filter::{
    DateFilter, DateTimeFilter, EnumFilter, IdFilter, IntFilter, Nested, StringFilter, Terms, Where,
};
use musubi::graphql::page::{Connection, List, Order, OrderDirection, OrderField, PageArgs};
use musubi::ids::{TransactionId, new_uuid};
use sea_orm::{
    ConnectionTrait as _, Database, DatabaseConnection, DbBackend, EntityTrait as _,
    IntoActiveModel as _,
};
use serde_json::{Value, json};

pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Outcome<T = ()> = Result<T, Fault>;

pub(crate) mod thing {
    use chrono::{DateTime, NaiveDate, Utc};
    use musubi::ids::TransactionId;
    use musubi::text_enum;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "things")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) id: TransactionId,
        pub(crate) rank: i64,
        pub(crate) score: Option<i64>,
        pub(crate) name: Option<String>,
        pub(crate) kind: Kind,
        pub(crate) made_at: DateTime<Utc>,
        pub(crate) due_on: Option<NaiveDate>,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}

    text_enum! {
        /// A kind.
        Kind {
            /// One.
            FreeGift = "FREE_GIFT",
            /// Another.
            Bought = "BOUGHT",
        }
    }
}

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "thing::Kind")]
pub(crate) enum ThingKind {
    /// One.
    FreeGift,
    /// Another.
    Bought,
}

/// What things can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub(crate) enum ThingOrderField {
    /// The rank.
    Rank,
    /// The score.
    Score,
    /// The name.
    Name,
    /// The kind.
    Kind,
    /// When it was made.
    MadeAt,
    /// When it is due.
    DueOn,
}

pub(crate) const FIELDS: [(ThingOrderField, &str); 6] = [
    (ThingOrderField::Rank, "RANK"),
    (ThingOrderField::Score, "SCORE"),
    (ThingOrderField::Name, "NAME"),
    (ThingOrderField::Kind, "KIND"),
    (ThingOrderField::MadeAt, "MADE_AT"),
    (ThingOrderField::DueOn, "DUE_ON"),
];

impl OrderField for ThingOrderField {
    type Entity = thing::Entity;

    fn column(self) -> thing::Column {
        match self {
            Self::Rank => thing::Column::Rank,
            Self::Score => thing::Column::Score,
            Self::Name => thing::Column::Name,
            Self::Kind => thing::Column::Kind,
            Self::MadeAt => thing::Column::MadeAt,
            Self::DueOn => thing::Column::DueOn,
        }
    }
}

/// Which things to list.
#[derive(Debug, InputObject)]
pub(crate) struct ThingWhere {
    /// By id.
    id: Option<IdFilter>,
    /// By rank.
    rank: Option<IntFilter>,
    /// By score.
    score: Option<IntFilter>,
    /// By name.
    name: Option<StringFilter>,
    /// By kind.
    kind: Option<EnumFilter<ThingKind>>,
    /// By instant.
    made_at: Option<DateTimeFilter>,
    /// By day.
    due_on: Option<DateFilter>,
    /// Each of these holds; an empty list matches everything.
    #[graphql(name = "AND")]
    and: Option<Vec<ThingWhere>>,
    /// One of these holds; an empty list matches nothing.
    #[graphql(name = "OR")]
    or: Option<Vec<ThingWhere>>,
    /// This does not hold.
    #[graphql(name = "NOT")]
    not: Option<Box<ThingWhere>>,
}

impl Where for ThingWhere {
    fn terms(self, terms: &mut Terms) -> Nested<Self> {
        use thing::Column;
        terms.id::<TransactionId>("id", Column::Id, self.id);
        terms.add("rank", Column::Rank, self.rank);
        terms.add("score", Column::Score, self.score);
        terms.add("name", Column::Name, self.name);
        terms.add("kind", Column::Kind, self.kind);
        terms.add("madeAt", Column::MadeAt, self.made_at);
        terms.add("dueOn", Column::DueOn, self.due_on);
        Nested { and: self.and, or: self.or, not: self.not }
    }
}

/// A thing.
pub(crate) struct Thing(thing::Model);

/// A thing.
#[Object]
impl Thing {
    /// Its id.
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }
}

pub(crate) struct Query;

#[Object]
impl Query {
    /// All things.
    #[expect(clippy::too_many_arguments, reason = "the arguments of a page are flat in GraphQL")]
    async fn things(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many from the front.")] first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the back.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
        #[graphql(name = "where", desc = "Only these.")] filter: Option<ThingWhere>,
        #[graphql(desc = "The order.")] order_by: Option<Vec<Order<ThingOrderField>>>,
    ) -> async_graphql::Result<Connection<Thing>> {
        let by_default = [(ThingOrderField::MadeAt, OrderDirection::Desc)];
        let page = List::new(ctx.data::<DatabaseConnection>()?, thing::Entity::find(), &by_default)
            .filter(filter)
            .order(order_by)
            .page(PageArgs { first, after, last, before })
            .await?;
        Ok(page.map(Thing))
    }
}

type TestSchema = Schema<Query, EmptyMutation, EmptySubscription>;

/// A database with the table, and the schema over it.
pub(crate) struct Stage {
    pub(crate) db: DatabaseConnection,
    schema: TestSchema,
    pub(crate) statements: Arc<AtomicU64>,
    scratch: Option<String>,
    _file: Option<tempfile::TempDir>,
}

const POSTGRES: &str = "postgres://root@127.0.0.1:5432";

impl Stage {
    /// One stage for each database that answers; without PostgreSQL it says so, and fails in CI.
    pub(crate) async fn all() -> Outcome<Vec<Self>> {
        let directory = tempfile::tempdir()?;
        let url = format!("sqlite://{}/things.db?mode=rwc", directory.path().display());
        let mut stages = vec![Self::open(&url, None, Some(directory)).await?];
        match Database::connect(format!("{POSTGRES}/postgres")).await {
            Ok(admin) => {
                let name = format!("pages_{}", new_uuid().simple());
                create(&admin, &name).await?;
                admin.close().await?;
                stages.push(Self::open(&format!("{POSTGRES}/{name}"), Some(name), None).await?);
            }
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "PostgreSQL is needed in CI: {error}");
                eprintln!("SKIPPED on PostgreSQL, which does not answer: {error}");
            }
        }
        Ok(stages)
    }

    async fn open(
        url: &str,
        scratch: Option<String>,
        file: Option<tempfile::TempDir>,
    ) -> Outcome<Self> {
        let mut db = Database::connect(url).await?;
        let statements = Arc::<AtomicU64>::default();
        let count = Arc::clone(&statements);
        db.set_metric_callback(move |_| {
            count.fetch_add(1, atomic::Ordering::Relaxed);
        });
        let (uuid, instant) = match db.get_database_backend() {
            DbBackend::Postgres => ("uuid", "timestamptz"),
            _ => ("uuid_text", "timestamp_with_timezone_text"),
        };
        db.execute_unprepared(&format!(
            "CREATE TABLE things (id {uuid} NOT NULL PRIMARY KEY, rank bigint NOT NULL,
             score bigint, name text, kind text NOT NULL, made_at {instant} NOT NULL,
             due_on date)"
        ))
        .await?;
        let schema = Schema::build(Query, EmptyMutation, EmptySubscription).data(db.clone());
        Ok(Self { db, schema: schema.finish(), statements, scratch, _file: file })
    }

    pub(crate) async fn close(self) -> Outcome {
        drop(self.schema);
        self.db.close().await?;
        if let Some(name) = self.scratch {
            let admin = Database::connect(format!("{POSTGRES}/postgres")).await?;
            admin.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await?;
            admin.close().await?;
        }
        Ok(())
    }

    pub(crate) async fn fill(&self, rows: &[thing::Model]) -> Outcome {
        self.db.execute_unprepared("DELETE FROM things").await?;
        let rows = rows.iter().cloned().map(thing::Model::into_active_model);
        thing::Entity::insert_many(rows).exec(&self.db).await?;
        Ok(())
    }

    pub(crate) async fn ask(&self, fields: &str, arguments: Value) -> Outcome<Value> {
        let response = self.schema.execute(request(fields, arguments)).await;
        if let Some(error) = response.errors.first() {
            return Err(format!("{error:?}").into());
        }
        Ok(response.data.into_json()?["things"].take())
    }

    /// The names of the things that the filter lets through, in order of their rank.
    pub(crate) async fn ids(&self, filter: Value) -> Outcome<Vec<String>> {
        let order = json!([{ "field": "RANK", "direction": "ASC" }]);
        let arguments = json!({ "first": 100, "where": filter, "orderBy": order });
        Ok(ids(&self.ask("nodes { id }", arguments).await?))
    }

    /// The path and code of all that is refused.
    pub(crate) async fn refusals(&self, arguments: Value) -> Outcome<Vec<(String, Code)>> {
        let response = self.schema.execute(request("nodes { id }", arguments)).await;
        let error = response.errors.first().ok_or("nothing was refused")?;
        match error.source::<Error>() {
            Some(Error::Invalid(violations)) => {
                Ok(violations.iter().map(|it| (it.field.join("."), it.code)).collect())
            }
            _ => Err(format!("{error:?}").into()),
        }
    }
}

/// A collation that sorts `a b B` shows whether text is compared byte by byte nevertheless.
async fn create(admin: &DatabaseConnection, name: &str) -> Outcome {
    let plain = format!("CREATE DATABASE {name}");
    let icu = format!("{plain} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
    if admin.execute_unprepared(&icu).await.is_err() {
        admin.execute_unprepared(&plain).await?;
    }
    Ok(())
}

pub(crate) fn request(fields: &str, arguments: Value) -> Request {
    Request::new(format!(
        "query ($first: Int, $after: String, $last: Int, $before: String, $where: ThingWhere,
                $orderBy: [ThingOrder!]) {{
           things(first: $first, after: $after, last: $last, before: $before, where: $where,
                  orderBy: $orderBy) {{ {fields} }}
         }}"
    ))
    .variables(Variables::from_json(arguments))
}

pub(crate) fn ids(page: &Value) -> Vec<String> {
    let nodes = page["nodes"].as_array().into_iter().flatten();
    nodes.filter_map(|node| node["id"].as_str()).map(str::to_owned).collect()
}

pub(crate) fn instant(micros: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::microseconds(micros)
}

pub(crate) fn day(number: i64) -> NaiveDate {
    instant(0).date_naive() + TimeDelta::days(number)
}

pub(crate) fn row(rank: i64) -> thing::Model {
    thing::Model {
        id: TransactionId::new(),
        rank,
        score: None,
        name: None,
        kind: thing::Kind::Bought,
        made_at: instant(rank),
        due_on: None,
    }
}
