//! Whoever writes to the database, and not through Musubi, is found out, and the line is named.

use musubi::audit::proof::{CHANGED, CUT, Flaw, HEAD, MOVED, ORIGIN_CHANGED, REMOVED, UNSEALED};
use musubi::audit::{self, seal};
use musubi::db;
use musubi::entity::system_event;
use musubi::ids::AuditEventId;
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::json;
use uuid::Uuid;

use super::{a_chain_of, flaws, heads, lines, runs};
use crate::support::TestApp;
use crate::support::database::is_postgres;

/// Takes the database's own guards away, as its owner can.
pub(super) async fn without_guards(app: &TestApp) {
    if is_postgres() {
        runs(app, "ALTER TABLE system_event DISABLE TRIGGER ALL", vec![]).await;
    } else {
        for trigger in ["system_event_no_update", "system_event_no_delete"] {
            runs(app, &format!("DROP TRIGGER {trigger}"), vec![]).await;
        }
    }
}

fn named(flaws: &[Flaw]) -> Vec<(&'static str, Uuid)> {
    flaws.iter().map(|flaw| (flaw.rule, flaw.row)).collect()
}

#[tokio::test]
async fn a_chain_that_nobody_touched_proves_itself() {
    let app = TestApp::start().await;
    let hotel = a_chain_of(&app, 1_203).await;
    a_chain_of(&app, 3).await;
    assert_eq!(flaws(&app).await, []);
    let own: Vec<_> =
        lines(&app).await.into_iter().filter(|it| it.tenant_id == Some(hotel.id)).collect();
    let places: Vec<i64> = own.iter().filter_map(|line| line.seq).collect();
    assert_eq!(places, (1..=1_203).collect::<Vec<i64>>(), "no gap");
    assert_eq!(heads(&app).await.iter().map(|head| head.seq).max(), Some(1_203));
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_or_remove_a_line_of_the_record() {
    let app = TestApp::start().await;
    a_chain_of(&app, 2).await;
    let hotel = app.hotel().await;
    super::writes(&app, &hotel.admin, 1).await;
    for sql in [
        "UPDATE system_event SET action = 'X'",
        "UPDATE system_event SET user_id = NULL",
        "UPDATE system_event SET times = 9 WHERE seq IS NULL",
        "UPDATE system_event SET seq = 7 WHERE seq = 1",
        "UPDATE system_event SET chain_hash = NULL WHERE seq = 1",
        "UPDATE system_event SET digest = origin_digest WHERE seq IS NULL",
        "DELETE FROM system_event WHERE seq = 1",
        "DELETE FROM system_event WHERE seq IS NULL",
    ] {
        let txn = app.app.db.begin().await.unwrap();
        let refused = db::execute(&*txn, sql, vec![]).await;
        let error = format!("{:?}", refused.expect_err(sql));
        assert!(error.contains("append-only"), "{sql}: {error}");
    }
    if is_postgres() {
        let txn = app.app.db.begin().await.unwrap();
        assert!(db::execute(&*txn, "TRUNCATE system_event", vec![]).await.is_err());
    }
    assert_eq!(lines(&app).await.len(), 3);
    assert_eq!(flaws(&app).await, []);
}

#[tokio::test]
async fn a_changed_line_is_found_and_named() {
    let app = TestApp::start().await;
    let hotel = a_chain_of(&app, 9).await;
    without_guards(&app).await;
    let all = lines(&app).await;
    let another = hotel.user.id;
    let changes: [(&str, sea_orm::Value); 6] = [
        ("event_data", json!({ "number": 77 }).into()),
        ("user_id", another.into()),
        ("action", "NOTHING_HAPPENED".into()),
        ("is_success", false.into()),
        ("occurred_at", (all[5].occurred_at + chrono::TimeDelta::microseconds(1)).into()),
        ("risk_level", "LOW".into()),
    ];
    for (at, (column, value)) in changes.into_iter().enumerate() {
        let sql = format!("UPDATE system_event SET {column} = $2 WHERE id = $1");
        assert_eq!(runs(&app, &sql, vec![all[at].id.into(), value]).await, 1);
    }
    let expected: Vec<_> = all[..6].iter().map(|line| (CHANGED, line.id.0)).collect();
    assert_eq!(named(&flaws(&app).await), expected);
    let told = app.drifts().await;
    assert!(told[0].contains(&all[0].id.0.to_string()), "{told:?}");
}

#[tokio::test]
async fn a_line_whose_digest_was_made_without_the_key_is_found_and_named() {
    let app = TestApp::start().await;
    a_chain_of(&app, 5).await;
    without_guards(&app).await;
    let all = lines(&app).await;
    let sql = "UPDATE system_event SET action = 'X', digest = $2 WHERE id = $1";
    runs(&app, sql, vec![all[2].id.into(), vec![7_u8; 32].into()]).await;
    let id = all[2].id.0;
    assert_eq!(named(&flaws(&app).await), [(CHANGED, id), (MOVED, id)]);
}

#[tokio::test]
async fn a_removed_line_is_found_wherever_it_stood() {
    let app = TestApp::start().await;
    let hotel = a_chain_of(&app, 9).await;
    without_guards(&app).await;
    let all = lines(&app).await;
    for at in [0, 4, 5] {
        runs(&app, "DELETE FROM system_event WHERE id = $1", vec![all[at].id.into()]).await;
    }
    let found = flaws(&app).await;
    assert_eq!(named(&found), [(REMOVED, all[1].id.0), (REMOVED, all[6].id.0)]);
    assert_eq!((found[1].expected, found[1].actual), (5, 7), "places 5 and 6 are missing");
    for at in [7, 8] {
        runs(&app, "DELETE FROM system_event WHERE id = $1", vec![all[at].id.into()]).await;
    }
    let found = flaws(&app).await;
    assert_eq!(named(&found)[2..], [(CUT, hotel.id.0)]);
    assert_eq!((found[2].expected, found[2].actual), (9, 7), "the head remembers");
    runs(&app, "DELETE FROM system_event", vec![]).await;
    assert_eq!(named(&flaws(&app).await), [(CUT, hotel.id.0)]);
}

#[tokio::test]
async fn a_head_that_was_moved_back_is_found_and_named() {
    let app = TestApp::start().await;
    let hotel = a_chain_of(&app, 4).await;
    without_guards(&app).await;
    let all = lines(&app).await;
    runs(&app, "DELETE FROM system_event WHERE seq = 4", vec![]).await;
    let sql = "UPDATE audit_chains SET seq = 3, hash = $1";
    runs(&app, sql, vec![all[2].chain_hash.clone().into()]).await;
    assert_eq!(named(&flaws(&app).await), [(HEAD, hotel.id.0)]);
    runs(&app, "DELETE FROM audit_chains", vec![]).await;
    assert_eq!(named(&flaws(&app).await), [(HEAD, hotel.id.0)], "no head at all");
}

/// A line as somebody would make it who has the database and not the key.
fn forged(like: &system_event::Model) -> system_event::Model {
    system_event::Model { id: AuditEventId::new(), ..like.clone() }
}

async fn inserts(app: &TestApp, row: system_event::Model) {
    let row = row.into_active_model();
    system_event::Entity::insert(row).exec(app.app.db.writer()).await.unwrap();
}

#[tokio::test]
async fn an_inserted_line_is_found_and_named() {
    let app = TestApp::start().await;
    a_chain_of(&app, 4).await;
    without_guards(&app).await;
    let all = lines(&app).await;
    // Between the second and the third, with all places after it moved up.
    for seq in [4, 3] {
        runs(&app, "UPDATE system_event SET seq = seq + 1 WHERE seq = $1", vec![seq.into()]).await;
    }
    let inside = system_event::Model { seq: Some(3), ..forged(&all[1]) };
    inserts(&app, inside.clone()).await;
    let found = named(&flaws(&app).await);
    for flaw in [(CHANGED, inside.id.0), (MOVED, inside.id.0)] {
        assert!(found.contains(&flaw), "{found:?}");
    }
}

#[tokio::test]
async fn an_inserted_line_is_found_before_it_is_sealed_and_after() {
    let app = TestApp::start().await;
    a_chain_of(&app, 4).await;
    let like = lines(&app).await[0].clone();
    let waiting = system_event::Model { seq: None, chain_hash: None, ..forged(&like) };
    inserts(&app, waiting.clone()).await;
    assert_eq!(named(&flaws(&app).await), [(CHANGED, waiting.id.0)]);
    // Sealing does not make it ours.
    seal::seal_all(&app.app).await.unwrap();
    assert_eq!(named(&flaws(&app).await), [(CHANGED, waiting.id.0)]);
}

#[tokio::test]
async fn lines_that_changed_places_are_found_and_named() {
    let app = TestApp::start().await;
    a_chain_of(&app, 6).await;
    without_guards(&app).await;
    let all = lines(&app).await;
    let (one, other) = (&all[1], &all[3]);
    let sql = "UPDATE system_event SET seq = $2, chain_hash = $3 WHERE id = $1";
    for (row, seq, hash) in
        [(one, 100, &one.chain_hash), (other, 2, &one.chain_hash), (one, 4, &other.chain_hash)]
    {
        let seq: i64 = seq;
        runs(&app, sql, vec![row.id.into(), seq.into(), hash.clone().into()]).await;
    }
    assert_eq!(named(&flaws(&app).await), [(MOVED, other.id.0), (MOVED, one.id.0)]);
}

#[tokio::test]
async fn erasing_where_a_request_came_from_leaves_the_chain_valid_and_forging_it_does_not() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let source = musubi::actor::Source {
        request_id: "r-1".into(),
        address: Some("203.0.113.7".parse().unwrap()),
        user_agent: Some("Firefox".into()),
        ..musubi::actor::Source::default()
    };
    let mut admin = hotel.admin.clone();
    admin.actor.source = std::sync::Arc::new(source);
    super::writes(&app, &admin, 3).await;
    seal::seal_all(&app.app).await.unwrap();
    assert_eq!(super::origins(&app).await.len(), 3);
    assert_eq!(flaws(&app).await, []);

    let all = lines(&app).await;
    let erase = "DELETE FROM system_event_origins WHERE event_id = $1";
    runs(&app, erase, vec![all[0].id.into()]).await;
    assert_eq!(flaws(&app).await, [], "erased");
    let part = "UPDATE system_event_origins SET user_agent = NULL WHERE event_id = $1";
    runs(&app, part, vec![all[1].id.into()]).await;
    assert_eq!(named(&flaws(&app).await), [(ORIGIN_CHANGED, all[1].id.0)], "one half of it");
    runs(&app, "DELETE FROM system_event_origins", vec![]).await;
    assert_eq!(flaws(&app).await, []);
    assert_eq!(lines(&app).await, all, "the lines are as they were");
}

#[tokio::test]
async fn a_line_that_is_never_sealed_is_named_after_an_hour() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    super::writes(&app, &hotel.admin, 1).await;
    assert_eq!(flaws(&app).await, []);
    app.clock.advance(chrono::TimeDelta::minutes(61));
    let line = lines(&app).await[0].id.0;
    assert_eq!(named(&flaws(&app).await), [(UNSEALED, line)]);
    audit::seal::seal_all(&app.app).await.unwrap();
    assert_eq!(flaws(&app).await, []);
}
