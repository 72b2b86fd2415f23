//! Sealing: by several nodes at once, in bounded steps, after a kill; and what retention leaves.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use futures_util::future::join_all;
use musubi::audit::{self, seal};

use super::{a_chain_of, flaws, heads, lines, runs, writes};
use crate::support::TestApp;

#[tokio::test]
async fn two_nodes_that_seal_at_once_never_fork_a_chain() {
    let app = TestApp::start().await;
    let (one, other) = (app.hotel().await, app.hotel().await);
    let replica = app.replica().await;
    for round in 0..4 {
        writes(&app, &one.admin, 700).await;
        writes(&app, &other.admin, 150 + round).await;
        let nodes = [&app.app, &replica, &app.app, &replica];
        let sealed = join_all(nodes.map(seal::seal_all)).await;
        let sealed: u64 = sealed.into_iter().map(Result::unwrap).sum();
        assert_eq!(sealed, 850 + round as u64, "each line once");
    }
    assert_eq!(flaws(&app).await, []);
    let all = lines(&app).await;
    let places: BTreeSet<_> = all.iter().map(|line| (line.chain_id, line.seq)).collect();
    assert_eq!(places.len(), all.len());
    assert!(all.iter().all(|line| line.seq.is_some() && line.chain_hash.is_some()));
}

#[tokio::test]
async fn a_chain_that_was_tampered_with_keeps_no_other_open() {
    let app = TestApp::start().await;
    let hotels = [a_chain_of(&app, 3).await, a_chain_of(&app, 3).await];
    for hotel in &hotels {
        writes(&app, &hotel.admin, 1).await;
    }
    // The next place of the first one's chain is taken.
    let taken = "UPDATE audit_chains SET seq = seq - 1 WHERE chain_id = $1";
    runs(&app, taken, vec![hotels[0].id.0.into()]).await;

    let sealed = seal::seal_all(&app.app).await.unwrap();

    assert_eq!(sealed, 1);
    let open: Vec<_> = lines(&app).await.into_iter().filter(|line| line.seq.is_none()).collect();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].chain_id, hotels[0].id.0);
}

#[tokio::test]
async fn ten_thousand_lines_are_sealed_in_bounded_steps() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    for _ in 0..10 {
        writes(&app, &hotel.admin, 1_000).await;
    }
    let before = app.app.db.statements();
    let first = seal::seal_some(&app.app, hotel.id.0).await.unwrap();
    let statements = app.app.db.statements() - before;
    assert_eq!(first, seal::BATCH);
    assert!(statements <= 8, "{statements} statements for one step");
    assert_eq!(seal::seal_all(&app.app).await.unwrap(), 10_000 - seal::BATCH);
    assert_eq!(flaws(&app).await, []);
    assert_eq!(heads(&app).await[0].seq, 10_000);
}

#[tokio::test]
async fn a_node_that_dies_while_it_seals_leaves_nothing_half_done() {
    let app = TestApp::start().await;
    let hotel = a_chain_of(&app, 3).await;
    writes(&app, &hotel.admin, 400).await;
    for steps in [1, 3, 5, 8, 13, 21, 34, 55] {
        // The work is dropped at some point on its way, as a kill does it.
        let sealing = seal::seal_some(&app.app, hotel.id.0);
        let mut sealing = std::pin::pin!(sealing);
        for _ in 0..steps {
            if futures_util::poll!(sealing.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(flaws(&app).await, []);
    seal::seal_all(&app.app).await.unwrap();
    assert_eq!(flaws(&app).await, []);
    assert_eq!(heads(&app).await[0].seq, 403);
}

#[tokio::test]
async fn a_line_that_is_committed_late_is_sealed_next() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    writes(&app, &hotel.admin, 3).await;
    let mut late = lines(&app).await[1].clone();
    seal::seal_all(&app.app).await.unwrap();
    // Its id is older than any that is sealed.
    late.id = musubi::ids::AuditEventId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000 << 48));
    let note = musubi::journal::Note { row: late.clone(), address: None, user_agent: None };
    app.app.journal.push(note);
    assert_eq!(lines(&app).await.len(), 4);
    assert_eq!(seal::seal_all(&app.app).await.unwrap(), 1);
    let all = lines(&app).await;
    assert_eq!((all[3].id, all[3].seq), (late.id, Some(4)));
    assert_eq!(flaws(&app).await, []);
}

#[tokio::test]
async fn a_chain_stays_provable_after_retention_removed_its_beginning() {
    let app = TestApp::start().await;
    let hotel = a_chain_of(&app, 1_100).await;
    app.clock.advance(TimeDelta::days(2_000));
    writes(&app, &hotel.admin, 5).await;
    seal::seal_all(&app.app).await.unwrap();
    app.clock.advance(TimeDelta::days(556));
    let cutoff = app.app.clock.db_now() - TimeDelta::days(2_555);
    assert_eq!(seal::remove_before(&app.app, cutoff).await.unwrap(), 1_100);
    assert_eq!(seal::remove_before(&app.app, cutoff).await.unwrap(), 0, "twice is once");
    seal::seal_all(&app.app).await.unwrap();
    assert_eq!(flaws(&app).await, []);
    let left = lines(&app).await;
    let noted: Vec<_> = left.iter().filter(|line| line.action == "RECORDS_REMOVED").collect();
    assert_eq!(left.len(), 5 + noted.len());
    assert_eq!(noted.len(), 3, "one for each step");
    assert_eq!(left[0].seq, Some(1_101));
    // The anchor itself cannot be moved on to hide more.
    let sql = "UPDATE audit_chains SET anchor_seq = 1103, anchor_hash = $1";
    runs(&app, sql, vec![left[2].chain_hash.clone().into()]).await;
    runs(&app, "DELETE FROM system_event WHERE seq <= 1103", vec![]).await;
    let found = flaws(&app).await;
    assert_eq!(found[0].rule, audit::proof::HEAD, "{found:?}");
}
