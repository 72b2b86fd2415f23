//! `musubi verify` finds what somebody changed behind the program's back, and names the rule.

use crate::support::model_server::{Behaviour, ModelServer};
use crate::support::process::{Books, Home};

/// What is changed, how it is put right again, and the rules that must be named.
struct Forgery {
    change: &'static str,
    undo: &'static str,
    rules: &'static [&'static str],
}

const FORGERIES: &[Forgery] = &[
    Forgery {
        change: "UPDATE ai_credit_accounts SET current_balance = current_balance + 1",
        undo: "UPDATE ai_credit_accounts SET current_balance = current_balance - 1",
        rules: &["the ledger's sum is the balance", "the grants' remainder is the balance"],
    },
    Forgery {
        change: "UPDATE ai_credit_accounts SET held = held + 1",
        undo: "UPDATE ai_credit_accounts SET held = held - 1",
        rules: &["the active holds are what is held"],
    },
    Forgery {
        change: "UPDATE ai_credit_accounts SET version = version - 1",
        undo: "UPDATE ai_credit_accounts SET version = version + 1",
        rules: &["no line is newer than its account"],
    },
    Forgery {
        change: "UPDATE ai_credit_accounts SET total_used_credits = total_used_credits + 1",
        undo: "UPDATE ai_credit_accounts SET total_used_credits = total_used_credits - 1",
        rules: &["the daily use is what was charged"],
    },
    Forgery {
        change: "UPDATE ai_credit_grants SET remaining = remaining - 1",
        undo: "UPDATE ai_credit_grants SET remaining = remaining + 1",
        rules: &["the grants' remainder is the balance"],
    },
    Forgery {
        change: "UPDATE ai_credit_grants SET cost_left = cost_left - 1",
        undo: "UPDATE ai_credit_grants SET cost_left = cost_left + 1",
        rules: &["every yen paid is left, used or taken back"],
    },
    // Nothing is lost in sum: one credit moves from a grant that was bought to another.
    Forgery {
        change: "UPDATE ai_credit_grants SET remaining = remaining
                 + CASE WHEN granted = 500 THEN -1 ELSE 1 END",
        undo: "UPDATE ai_credit_grants SET remaining = remaining
               + CASE WHEN granted = 500 THEN 1 ELSE -1 END",
        rules: &["a grant holds what came less what went"],
    },
    Forgery {
        change: "UPDATE ai_credit_holds SET charge = charge - 1 WHERE state = 'SETTLED'",
        undo: "UPDATE ai_credit_holds SET charge = charge + 1 WHERE state = 'SETTLED'",
        rules: &[
            "a USAGE line is its hold's charge",
            "the draws of a hold are its charge",
            "an execution shows its hold's charge",
        ],
    },
    Forgery {
        change: "UPDATE ai_credit_holds SET state = 'EXPIRED' WHERE state = 'SETTLED'",
        undo: "UPDATE ai_credit_holds SET state = 'SETTLED' WHERE state = 'EXPIRED'",
        rules: &[
            "a settled hold has one USAGE line, any other has none",
            "every success was settled",
        ],
    },
    Forgery {
        change: "UPDATE ai_credit_holds SET state = 'SETTLED' WHERE state = 'RELEASED'",
        undo: "UPDATE ai_credit_holds SET state = 'RELEASED' WHERE charge = 0",
        rules: &["a settled hold has one USAGE line, any other has none"],
    },
    Forgery {
        change: "UPDATE ai_executions SET status = 'RUNNING' WHERE status = 'FAILED'",
        undo: "UPDATE ai_executions SET status = 'FAILED' WHERE status = 'RUNNING'",
        rules: &["an execution runs while its hold is active, and only then"],
    },
    Forgery {
        change: "UPDATE ai_executions SET credits_used = credits_used - 1 WHERE credits_used > 0",
        undo: "UPDATE ai_executions SET credits_used = credits_used + 1 WHERE credits_used > 0",
        rules: &["an execution shows its hold's charge"],
    },
    Forgery {
        change: "UPDATE usage_daily SET credits = credits + 1",
        undo: "UPDATE usage_daily SET credits = credits - 1",
        rules: &["the daily use is what was charged"],
    },
    Forgery {
        change: "UPDATE ai_credit_draws SET credits = credits + 1",
        undo: "UPDATE ai_credit_draws SET credits = credits - 1",
        rules: &["the draws of a hold are its charge"],
    },
    Forgery {
        change: "UPDATE ai_credit_draws SET cost = cost + 1",
        undo: "UPDATE ai_credit_draws SET cost = cost - 1",
        rules: &["every yen paid is left, used or taken back"],
    },
    // What cannot be put right comes last.
    Forgery {
        change: "DELETE FROM ai_credit_draws",
        undo: "",
        rules: &[
            "the draws of a hold are its charge",
            "every yen paid is left, used or taken back",
        ],
    },
];

#[tokio::test]
async fn verify_names_the_rule_that_a_forgery_breaks() {
    let home = used_hotel().await;
    home.adds_up().await;
    let books = home.connect().await;
    for Forgery { change, undo, rules } in FORGERIES {
        assert!(books.execute(change).await.unwrap() > 0, "{change}");
        let ran = home.run(&["verify"]).await;
        assert_eq!(ran.status.code(), Some(1), "{change} was not found");
        for rule in *rules {
            assert!(ran.out.contains(&format!("{rule}: ")), "{change}: {rule}: {}", ran.out);
        }
        let named = ran.out.lines().count();
        assert!(ran.err.contains(&format!("{named} rows do not add up")), "{}", ran.err);
        if !undo.is_empty() {
            books.execute(undo).await.unwrap();
            home.adds_up().await;
        }
    }
}

#[tokio::test]
async fn a_line_that_nobody_earned_is_found_and_stays() {
    let home = used_hotel().await;
    let books = home.connect().await;
    for change in [
        "UPDATE ai_credit_transactions SET credits_amount = credits_amount + 1",
        "UPDATE ai_credit_transactions SET description = 'x'",
        "DELETE FROM ai_credit_transactions",
    ] {
        let error = books.execute(change).await.unwrap_err().to_string();
        assert!(error.contains("append-only"), "{change}: {error}");
    }
    home.adds_up().await;
    forge_line(&books).await;
    let ran = home.run(&["verify"]).await;
    assert_eq!(ran.status.code(), Some(1));
    for rule in ["the ledger's sum is the balance", "each line's balance is the sum up to it"] {
        assert!(ran.out.contains(rule), "{}", ran.out);
    }
    // The nightly job says so too, and alerts.
    let said = home.gets(&["job", "ledger-proof"]).await;
    assert!(said.contains("do not add up"), "{said}");
    let alerts = "SELECT COUNT(*) FROM alerts WHERE kind = 'LEDGER_DRIFT'";
    assert_eq!(books.number(alerts).await, 1);
}

/// A bonus without a grant, copied from the line of the purchase.
async fn forge_line(books: &Books) {
    let sql = "INSERT INTO ai_credit_transactions
        (id, account_id, version, transaction_type, credits_amount, balance_after, created_at)
        SELECT a.id, a.id, 1000000, 'BONUS', 7, a.current_balance, a.created_at
        FROM ai_credit_accounts a";
    assert_eq!(books.execute(sql).await.unwrap(), 1);
    let sql = "UPDATE ai_credit_accounts SET version = 1000000";
    assert_eq!(books.execute(sql).await.unwrap(), 1);
}

/// A hotel of two purchases with a failed call and three that succeeded.
async fn used_hotel() -> Home {
    let models = ModelServer::start().await;
    let home = Home::hotel(500).await.with_models(&models);
    let mut process = home.serve().await;
    let client = process.client(&home.guests().user);
    models.respond(Behaviour::NumericError { status: 503 });
    models.respond(Behaviour::NumericError { status: 503 });
    models.respond(Behaviour::NumericError { status: 503 });
    let failed = client.executes("Hello?", "fails-0001").await;
    assert_eq!(failed["status"], "FAILED", "{failed}");
    for number in 0..3 {
        client.executes("Hello?", &format!("works-{number:04}")).await;
    }
    process.stop().await;
    let calls = "SELECT COUNT(*) FROM ai_executions WHERE status = 'SUCCEEDED'";
    assert_eq!(home.connect().await.number(calls).await, 3);
    home
}
