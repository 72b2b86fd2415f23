//! What filters mean, the same on both databases.

use super::stage::{Outcome, Stage, day, instant, row, thing};
use musubi::error::Code;
use musubi::ids::TransactionId;
use serde_json::{Value, json};

/// Six things whose ids come back as the digits of their ranks.
async fn filtered(stage: &Stage, things: &[thing::Model], filter: Value) -> Outcome<String> {
    let found = stage.ids(filter).await?;
    let ranks = found.iter().filter_map(|id| things.iter().find(|it| it.id.to_string() == *id));
    Ok(ranks.map(|it| it.rank.to_string()).collect())
}

fn six() -> Vec<thing::Model> {
    let names = [Some("Alpha"), Some("alpine"), Some("50%_off!"), Some("ÉCLAIR"), Some(""), None];
    let things = names.into_iter().zip(1..).map(|(name, rank)| thing::Model {
        score: (rank % 2 == 0).then_some(rank * 10),
        name: name.map(str::to_owned),
        kind: if rank < 3 { thing::Kind::FreeGift } else { thing::Kind::Bought },
        due_on: (rank > 1).then(|| day(rank)),
        ..row(rank)
    });
    things.collect()
}

#[tokio::test]
async fn every_operator_means_the_same_on_both_databases() -> Outcome {
    for stage in Stage::all().await? {
        let things = six();
        stage.fill(&things).await?;
        let [second, third] = [1, 2].map(|place: usize| things[place].id.to_string());
        let at = |micros| json!(instant(micros).to_rfc3339());
        for (filter, expected) in [
            (Value::Null, "123456"),
            (json!({}), "123456"),
            (json!({ "score": null, "name": { "eq": null, "in": null } }), "123456"),
            (json!({ "rank": { "eq": 3 } }), "3"),
            (json!({ "rank": { "ne": 3 } }), "12456"),
            (json!({ "rank": { "gt": 1, "lte": 3 } }), "23"),
            (json!({ "rank": { "gte": 5 } }), "56"),
            (json!({ "rank": { "lt": 2 } }), "1"),
            (json!({ "rank": { "in": [] } }), ""),
            (json!({ "rank": { "notIn": [] } }), "123456"),
            (json!({ "score": { "eq": 20 } }), "2"),
            (json!({ "score": { "ne": 20 } }), "13456"),
            (json!({ "score": { "in": [20, 60, 7] } }), "26"),
            (json!({ "score": { "notIn": [20, 60] } }), "1345"),
            (json!({ "score": { "isNull": true } }), "135"),
            (json!({ "score": { "isNull": false } }), "246"),
            (json!({ "name": { "eq": "alpha" } }), ""),
            (json!({ "name": { "startsWith": "ALP" } }), "12"),
            (json!({ "name": { "contains": "PH" } }), "1"),
            (json!({ "name": { "contains": "%" } }), "3"),
            (json!({ "name": { "contains": "_" } }), "3"),
            (json!({ "name": { "contains": "0%_O" } }), "3"),
            (json!({ "name": { "contains": "!" } }), "3"),
            (json!({ "name": { "contains": "é" } }), ""),
            (json!({ "name": { "contains": "Écl" } }), "4"),
            (json!({ "name": { "contains": "" } }), "12345"),
            (json!({ "name": { "startsWith": "'; DROP TABLE things; --\\" } }), ""),
            (json!({ "kind": { "eq": "FREE_GIFT" } }), "12"),
            (json!({ "kind": { "notIn": ["FREE_GIFT"] } }), "3456"),
            (json!({ "madeAt": { "gte": at(2), "lt": at(4) } }), "23"),
            (json!({ "madeAt": { "eq": at(5) } }), "5"),
            (json!({ "madeAt": { "ne": at(5) } }), "12346"),
            (json!({ "dueOn": { "lte": day(3).to_string() } }), "23"),
            (json!({ "dueOn": { "ne": day(3).to_string() } }), "12456"),
            (json!({ "id": { "in": [second, third] } }), "23"),
            (json!({ "id": { "ne": second } }), "13456"),
        ] {
            let found = filtered(&stage, &things, filter.clone()).await?;
            assert_eq!(found, expected, "{filter} on {:?}", stage.db.get_database_backend());
        }
        stage.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn and_or_and_not_follow_logic_also_where_values_are_absent() -> Outcome {
    for stage in Stage::all().await? {
        let things = six();
        stage.fill(&things).await?;
        let is = |rank| json!({ "rank": { "eq": rank } });
        for (filter, expected) in [
            (json!({ "AND": [] }), "123456"),
            (json!({ "OR": [] }), ""),
            (json!({ "OR": [{}] }), "123456"),
            (json!({ "NOT": {} }), ""),
            (json!({ "NOT": { "OR": [] } }), "123456"),
            (json!({ "OR": [is(1), is(4)] }), "14"),
            (json!({ "OR": [is(1), {}] }), "123456"),
            (json!({ "AND": [is(1), is(4)] }), ""),
            (json!({ "NOT": { "score": { "eq": 20 } } }), "13456"),
            (json!({ "NOT": { "score": { "ne": 20 } } }), "2"),
            (json!({ "NOT": { "score": { "gt": 20 } } }), "1235"),
            (json!({ "NOT": { "NOT": { "score": { "gt": 20 } } } }), "46"),
            (json!({ "NOT": { "OR": [is(1), { "score": { "eq": 40 } }] } }), "2356"),
            (json!({ "rank": { "gt": 1 }, "OR": [is(1), is(2), { "AND": [is(3)] }] }), "23"),
            (json!({ "OR": [{ "rank": { "gt": 1, "lt": 3 } }, is(6)], "NOT": is(6) }), "2"),
        ] {
            let found = filtered(&stage, &things, filter.clone()).await?;
            assert_eq!(found, expected, "{filter} on {:?}", stage.db.get_database_backend());
        }
        stage.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_filter_beyond_its_bounds_is_refused_at_its_path() -> Outcome {
    for stage in Stage::all().await? {
        let nested = |levels: usize| {
            (0..levels).fold(json!({ "rank": { "eq": 1 } }), |inner, _| json!({ "NOT": inner }))
        };
        assert!(stage.ids(nested(4)).await?.is_empty());
        let user = format!("user_{}", &TransactionId::new().to_string()[4..]);
        let ranks: Vec<_> = (0..251).collect();
        let branch = json!({ "rank": { "gt": 1, "lt": 9, "ne": 4 } });
        let branches: Vec<_> = std::iter::repeat_n(branch, 100).collect();
        for (filter, path, code) in [
            (nested(5), "where.NOT.NOT.NOT.NOT.NOT", Code::InvalidInput),
            (json!({ "rank": { "in": ranks } }), "where.rank.in", Code::InvalidInput),
            (json!({ "OR": branches }), "where", Code::InvalidInput),
            (json!({ "name": { "eq": "a\u{0}" } }), "where.name.eq", Code::InvalidInput),
            (json!({ "name": { "in": ["\u{0}"] } }), "where.name.in.0", Code::InvalidInput),
            (
                json!({ "name": { "contains": "x".repeat(1_001) } }),
                "where.name.contains",
                Code::InvalidInput,
            ),
            (json!({ "id": { "eq": user } }), "where.id.eq", Code::InvalidId),
            (json!({ "OR": [{ "id": { "in": ["x"] } }] }), "where.OR.0.id.in.0", Code::InvalidId),
        ] {
            let refusals = stage.refusals(json!({ "where": filter })).await?;
            assert_eq!(refusals, [(path.to_owned(), code)]);
        }
        // The largest filter that is allowed runs on both.
        let ranks: Vec<_> = (0..249).map(|rank| json!({ "rank": { "eq": rank } })).collect();
        let chain: Vec<_> = ranks.into_iter().take(124).collect();
        assert!(stage.ids(json!({ "OR": chain })).await?.is_empty());
        stage.close().await?;
    }
    Ok(())
}
