//! Pages over a small table of their own, on both databases.

mod filters;
mod stage;

use std::cmp::Ordering;
use std::sync::atomic;

use async_graphql::{EmptyMutation, EmptySubscription, Schema};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use musubi::error::Code;
use musubi::graphql::page::OrderDirection;
use musubi::ids::TransactionId;
use proptest::prelude::{Just, Strategy, any, prop};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use stage::{FIELDS, Outcome, Query, Stage, ThingOrderField, day, ids, instant, row, thing};

type Sort = Vec<(ThingOrderField, OrderDirection)>;

/// The order by the rule, told in plain Rust.
fn compare(one: &thing::Model, other: &thing::Model, sort: &Sort) -> Ordering {
    let turned = |ordering: Ordering, direction| match direction {
        OrderDirection::Asc => ordering,
        OrderDirection::Desc => ordering.reverse(),
    };
    for (field, direction) in sort {
        let nulls_last = match field {
            ThingOrderField::Score => one.score.is_none().cmp(&other.score.is_none()),
            ThingOrderField::Name => one.name.is_none().cmp(&other.name.is_none()),
            ThingOrderField::DueOn => one.due_on.is_none().cmp(&other.due_on.is_none()),
            ThingOrderField::Rank | ThingOrderField::Kind | ThingOrderField::MadeAt => {
                Ordering::Equal
            }
        };
        let by_value = match field {
            ThingOrderField::Rank => one.rank.cmp(&other.rank),
            ThingOrderField::Score => one.score.cmp(&other.score),
            ThingOrderField::Name => one.name.cmp(&other.name),
            ThingOrderField::Kind => one.kind.as_str().cmp(other.kind.as_str()),
            ThingOrderField::MadeAt => one.made_at.cmp(&other.made_at),
            ThingOrderField::DueOn => one.due_on.cmp(&other.due_on),
        };
        let ordering = nulls_last.then(turned(by_value, *direction));
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    let last = sort.last().map_or(OrderDirection::Asc, |(_, direction)| *direction);
    turned(one.id.cmp(&other.id), last)
}

fn rows() -> impl Strategy<Value = Vec<thing::Model>> {
    let name = prop::sample::select(vec!["", "a", "B", "b", "b%", "é", "Z", "結び", "結"]);
    // The texts of these instants on SQLite have different lengths.
    let micros = prop::sample::select(vec![0, 1, 120_000, 120_001, 123_456, 1_000_000]);
    let row = (
        any::<u128>(),
        -2_i64..3,
        prop::option::of(-1_i64..2),
        prop::option::of(name),
        any::<bool>(),
        micros,
        prop::option::of(0_i64..3),
    );
    let row = row.prop_map(|(id, rank, score, name, is_bought, micros, due)| thing::Model {
        id: TransactionId(uuid::Uuid::from_u128(id)),
        rank,
        score,
        name: name.map(str::to_owned),
        kind: if is_bought { thing::Kind::Bought } else { thing::Kind::FreeGift },
        made_at: instant(micros),
        due_on: due.map(day),
    });
    prop::collection::vec(row, 1..30)
}

fn sorts() -> impl Strategy<Value = Sort> {
    let fields = Just(FIELDS.map(|(field, _)| field).to_vec()).prop_shuffle();
    let directions = prop::collection::vec(any::<bool>(), 1..=3);
    (fields, directions).prop_map(|(fields, directions)| {
        let directions = directions.into_iter().map(|is_ascending| match is_ascending {
            true => OrderDirection::Asc,
            false => OrderDirection::Desc,
        });
        fields.into_iter().zip(directions).collect()
    })
}

fn order_by(sort: &Sort) -> Value {
    let orders = sort.iter().map(|(field, direction)| {
        let name = FIELDS.iter().find(|(other, _)| other == field).map(|(_, name)| *name);
        let direction = match direction {
            OrderDirection::Asc => "ASC",
            OrderDirection::Desc => "DESC",
        };
        json!({ "field": name, "direction": direction })
    });
    Value::Array(orders.collect())
}

/// Walks all pages from one end and returns the ids in the order of the list.
async fn walk(stage: &Stage, sort: &Sort, size: usize, forwards: bool) -> Outcome<Vec<String>> {
    let (number, place, cursor, more, back) = match forwards {
        true => ("first", "after", "endCursor", "hasNextPage", "hasPreviousPage"),
        false => ("last", "before", "startCursor", "hasPreviousPage", "hasNextPage"),
    };
    let fields = "nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }";
    let mut walked = Vec::new();
    let mut at = Value::Null;
    for page_number in 0.. {
        let arguments = json!({ number: size, place: at, "orderBy": order_by(sort) });
        let page = stage.ask(fields, arguments).await?;
        let mut found = ids(&page);
        assert!(!found.is_empty() && found.len() <= size, "an empty or too long page");
        assert_eq!(page["pageInfo"][back], json!(page_number > 0), "is there a page behind?");
        if forwards {
            walked.append(&mut found);
        } else {
            found.append(&mut walked);
            walked = found;
        }
        if page["pageInfo"][more] == json!(false) {
            break;
        }
        at = page["pageInfo"][cursor].clone();
    }
    Ok(walked)
}

#[test]
fn walking_pages_in_either_direction_meets_every_row_once() -> Outcome {
    let runtime = tokio::runtime::Runtime::new()?;
    for stage in runtime.block_on(Stage::all())? {
        let mut runner =
            TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
        let walked = runner.run(&(rows(), sorts(), 1_usize..8), |(mut rows, sort, size)| {
            let work = async {
                stage.fill(&rows).await?;
                let forwards = walk(&stage, &sort, size, true).await?;
                Outcome::Ok((forwards, walk(&stage, &sort, size, false).await?))
            };
            let (forwards, backwards) =
                runtime.block_on(work).map_err(|error| TestCaseError::fail(error.to_string()))?;
            rows.sort_by(|one, other| compare(one, other, &sort));
            let expected: Vec<_> = rows.iter().map(|row| row.id.to_string()).collect();
            proptest::prop_assert_eq!(&forwards, &expected, "forwards");
            proptest::prop_assert_eq!(&backwards, &expected, "backwards");
            Ok(())
        });
        runtime.block_on(stage.close())?;
        walked?;
    }
    Ok(())
}

#[tokio::test]
async fn a_page_is_one_statement_and_the_total_one_more() -> Outcome {
    for stage in Stage::all().await? {
        stage.fill(&(0..30).map(row).collect::<Vec<_>>()).await?;
        let count = |stage: &Stage| stage.statements.load(atomic::Ordering::Relaxed);
        let start = count(&stage);
        let page = stage.ask("nodes { id } pageInfo { hasNextPage }", json!({})).await?;
        assert_eq!((count(&stage) - start, ids(&page).len()), (1, 25));
        let arguments = json!({ "first": 2, "where": { "rank": { "gte": 20 } } });
        let page = stage.ask("totalCount edges { cursor node { id } }", arguments).await?;
        assert_eq!((count(&stage) - start, &page["totalCount"]), (3, &json!(10)));
        stage.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_cursors_enclose_a_stretch() -> Outcome {
    for stage in Stage::all().await? {
        stage.fill(&(0..9).map(row).collect::<Vec<_>>()).await?;
        let order = json!([{ "field": "RANK" }]);
        let all = stage.ask("edges { cursor } nodes { id }", json!({ "orderBy": order })).await?;
        let (after, before) = (&all["edges"][1]["cursor"], &all["edges"][7]["cursor"]);
        for (number, from) in [("first", 2), ("last", 4)] {
            let arguments =
                json!({ number: 3, "after": after, "before": before, "orderBy": order });
            let page = stage.ask("nodes { id } pageInfo { hasNextPage }", arguments).await?;
            assert_eq!(ids(&page), ids(&all)[from..from + 3]);
        }
        stage.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn arguments_out_of_range_are_refused_at_their_path() -> Outcome {
    for stage in Stage::all().await? {
        let twice = json!([{ "field": "RANK" }, { "field": "RANK", "direction": "DESC" }]);
        let many: Vec<_> = FIELDS.iter().map(|(_, name)| json!({ "field": name })).collect();
        for (arguments, path) in [
            (json!({ "first": 0 }), "first"),
            (json!({ "first": -1 }), "first"),
            (json!({ "first": 101 }), "first"),
            (json!({ "last": 101 }), "last"),
            (json!({ "last": i32::MIN }), "last"),
            (json!({ "first": 1, "last": 1 }), "last"),
            (json!({ "orderBy": twice }), "orderBy.1.field"),
            (json!({ "orderBy": many }), "orderBy"),
        ] {
            let refusals = stage.refusals(arguments).await?;
            assert_eq!(refusals, [(path.to_owned(), Code::InvalidInput)]);
        }
        let several = json!({ "first": 0, "after": "x", "where": { "id": { "eq": "x" } } });
        let paths: Vec<_> = stage.refusals(several).await?.into_iter().map(|it| it.0).collect();
        assert_eq!(paths, ["where.id.eq", "first", "after"]);
        stage.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_foreign_or_forged_cursor_is_refused_and_never_reaches_the_database() -> Outcome {
    for stage in Stage::all().await? {
        stage.fill(&[row(1), row(2)]).await?;
        let arguments = json!({ "orderBy": [{ "field": "RANK" }] });
        let page = stage.ask("pageInfo { endCursor }", arguments).await?;
        let of_rank = page["pageInfo"]["endCursor"].as_str().ok_or("no cursor")?;
        let before = stage.statements.load(atomic::Ordering::Relaxed);
        let forged = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        let id = r#"{"u":"00000000-0000-0000-0000-000000000000"}"#;
        let made_at = r#"["ThingOrderField-MADE_AT","#;
        for cursor in [
            of_rank.to_owned(),
            String::new(),
            "garbage!".to_owned(),
            "A".repeat(20_000),
            format!("{of_rank}="),
            forged("[]"),
            forged(&"[".repeat(5_000)),
            forged(&format!("{made_at}[{id}]]")),
            forged(&format!(r#"{made_at}["n",{id}]]"#)),
            forged(&format!(r#"{made_at}[{{"i":1}},{id}]]"#)),
            forged(&format!(r#"{made_at}[{{"s":"2026-01-01"}},{id}]]"#)),
            forged(&format!(r#"{made_at}[{{"t":"-262000-01-01T00:00:00Z"}},{id}]]"#)),
            forged(&format!(r#"{made_at}[{{"t":"2026-01-01T00:00:00Z"}},{{"i":1}}]]"#)),
            forged(&format!(r#"{made_at}[{{"t":"2026-01-01T00:00:00Z"}},{id},{id}]]"#)),
        ] {
            for place in ["after", "before"] {
                let refusals = stage.refusals(json!({ place: cursor })).await?;
                assert_eq!(refusals, [(place.to_owned(), Code::InvalidInput)], "{cursor}");
            }
        }
        let order = json!([{ "field": "NAME" }]);
        let with_nul = forged(&format!(r#"["ThingOrderField+NAME",[{{"s":"\u0000"}},{id}]]"#));
        let refusals = stage.refusals(json!({ "after": with_nul, "orderBy": order })).await?;
        assert_eq!(refusals, [("after".to_owned(), Code::InvalidInput)]);
        assert_eq!(stage.statements.load(atomic::Ordering::Relaxed), before);
        // A hand-made cursor of the right form is only a place, also past the row it names.
        let name = "'; DROP TABLE things; --";
        let place = forged(&format!(r#"["ThingOrderField+NAME",[{{"s":"{name}"}},{id}]]"#));
        let page = json!({ "after": place, "orderBy": order });
        assert_eq!(ids(&stage.ask("nodes { id }", page).await?).len(), 2);
        stage.close().await?;
    }
    Ok(())
}

#[test]
fn a_list_is_described_by_the_names_of_its_node() {
    let sdl = Schema::new(Query, EmptyMutation, EmptySubscription).sdl();
    for part in [
        "type ThingConnection {",
        "nodes: [Thing!]!",
        "edges: [ThingEdge!]!",
        "totalCount: Int!",
        "type ThingEdge {",
        "input ThingOrder {",
        "direction: OrderDirection! = ASC",
        "input ThingKindFilter {",
        "where: ThingWhere",
        "orderBy: [ThingOrder!]",
        "notIn: [ThingKind!]",
    ] {
        assert!(sdl.contains(part), "{part} is missing in\n{sdl}");
    }
}
