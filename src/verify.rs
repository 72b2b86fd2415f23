//! Proves the books: folds the whole ledger and compares it with every counter; and the audit
//! record: walks its chains. Read only.

use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::app::App;
use crate::audit::proof;
use crate::error::Result;

/// Rows that one check names at most.
const NAMED_MAX: usize = 20;

/// Something that does not add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The rule that is broken.
    pub rule: &'static str,
    /// The row, in its table's key.
    pub row: Uuid,
    /// What it should be.
    pub expected: i64,
    /// What it is.
    pub actual: i64,
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rule, row, expected, actual } = self;
        write!(f, "{rule}: {row}: expected {expected}, found {actual}")
    }
}

/// A rule as a query that answers the rows breaking it: `id`, `expected`, `actual`.
struct Rule {
    name: &'static str,
    sql: &'static str,
}

#[derive(FromQueryResult)]
struct Broken {
    id: Uuid,
    expected: i64,
    actual: i64,
}

/// Checks every rule; answers what is broken, at most 20 rows for each. Of the audit record the
/// numbers are places in a chain.
pub async fn verify(app: &App) -> Result<Vec<Drift>> {
    let mut drifts = Vec::new();
    for rule in RULES {
        let sql = format!("{} LIMIT {NAMED_MAX}", rule.sql);
        let rows: Vec<Broken> = app.db.all_unhurried(sql).await?;
        drifts.extend(rows.into_iter().map(|row| Drift {
            rule: rule.name,
            row: row.id,
            expected: row.expected,
            actual: row.actual,
        }));
    }
    for flaw in proof::prove(app).await? {
        let proof::Flaw { rule, row, expected, actual } = flaw;
        drifts.push(Drift { rule, row, expected, actual });
    }
    Ok(drifts)
}

const RULES: &[Rule] = &[
    Rule {
        name: "the ledger's sum is the balance",
        sql: "SELECT a.id, a.current_balance AS actual,
              CAST(COALESCE(SUM(t.credits_amount), 0) AS bigint) AS expected
              FROM ai_credit_accounts a
              LEFT JOIN ai_credit_transactions t ON t.account_id = a.id
              GROUP BY a.id, a.current_balance
              HAVING a.current_balance <> COALESCE(SUM(t.credits_amount), 0)",
    },
    Rule {
        name: "each line's balance is the sum up to it",
        sql: "SELECT s.id, CAST(s.running AS bigint) AS expected, s.balance_after AS actual FROM
              (SELECT id, balance_after, SUM(credits_amount)
               OVER (PARTITION BY account_id ORDER BY version) AS running
               FROM ai_credit_transactions) s
              WHERE s.running <> s.balance_after",
    },
    Rule {
        name: "no line is newer than its account",
        sql: "SELECT t.id, a.version AS expected, t.version AS actual
              FROM ai_credit_transactions t JOIN ai_credit_accounts a ON a.id = t.account_id
              WHERE t.version > a.version",
    },
    Rule {
        name: "the grants' remainder is the balance",
        sql: "SELECT a.id, a.current_balance AS actual,
              CAST(COALESCE(SUM(g.remaining), 0) AS bigint) AS expected
              FROM ai_credit_accounts a LEFT JOIN ai_credit_grants g ON g.account_id = a.id
              GROUP BY a.id, a.current_balance
              HAVING a.current_balance <> COALESCE(SUM(g.remaining), 0)",
    },
    Rule {
        name: "the active holds are what is held",
        sql: "SELECT a.id, a.held AS actual, CAST(COALESCE(SUM(h.amount), 0) AS bigint) AS expected
              FROM ai_credit_accounts a
              LEFT JOIN ai_credit_holds h ON h.account_id = a.id AND h.state = 'ACTIVE'
              GROUP BY a.id, a.held HAVING a.held <> COALESCE(SUM(h.amount), 0)",
    },
    Rule {
        name: "the active holds are the calls that run",
        sql: "SELECT a.id, a.running AS actual, CAST(COUNT(h.id) AS bigint) AS expected
              FROM ai_credit_accounts a
              LEFT JOIN ai_credit_holds h ON h.account_id = a.id AND h.state = 'ACTIVE'
              GROUP BY a.id, a.running HAVING a.running <> COUNT(h.id)",
    },
    Rule {
        name: "held is between 0 and the balance",
        sql: "SELECT id, current_balance AS expected, held AS actual FROM ai_credit_accounts
              WHERE held < 0 OR held > current_balance",
    },
    Rule {
        name: "no grant is below zero or above what came",
        sql: "SELECT id, granted AS expected, remaining AS actual FROM ai_credit_grants
              WHERE remaining < 0 OR remaining > granted OR cost_left < 0",
    },
    Rule {
        // Credits that are given back go to their grant, or to a REFUND grant when it has ended.
        name: "a grant holds what came less what went",
        sql: "SELECT s.id, CAST(s.kept - s.drawn AS bigint) AS expected, s.remaining AS actual FROM
              (SELECT g.id, g.remaining,
               g.granted - (SELECT COALESCE(SUM(w.taken - w.put_back), 0)
                            FROM ai_credit_withdrawals w WHERE w.grant_id = g.id) AS kept,
               (SELECT COALESCE(SUM(d.credits), 0) FROM ai_credit_draws d
                WHERE d.grant_id = g.id) AS drawn,
               (SELECT COALESCE(SUM(d.returned), 0) FROM ai_credit_draws d
                WHERE d.grant_id = g.id) AS returned
               FROM ai_credit_grants g) s
              WHERE s.remaining NOT BETWEEN s.kept - s.drawn AND s.kept - s.drawn + s.returned",
    },
    Rule {
        name: "a settled hold has one USAGE line, any other has none",
        sql: "SELECT h.id, CAST(CASE WHEN h.state = 'SETTLED' THEN 1 ELSE 0 END AS bigint)
              AS expected, CAST(COUNT(t.id) AS bigint) AS actual
              FROM ai_credit_holds h LEFT JOIN ai_credit_transactions t
              ON t.hold_id = h.id AND t.transaction_type = 'USAGE'
              GROUP BY h.id, h.state
              HAVING COUNT(t.id) <> CASE WHEN h.state = 'SETTLED' THEN 1 ELSE 0 END",
    },
    Rule {
        name: "a USAGE line is its hold's charge",
        sql: "SELECT t.id, h.charge AS expected, -t.credits_amount AS actual
              FROM ai_credit_transactions t JOIN ai_credit_holds h ON h.id = t.hold_id
              WHERE t.transaction_type = 'USAGE' AND h.charge <> -t.credits_amount",
    },
    Rule {
        name: "the draws of a hold are its charge",
        sql: "SELECT h.id, h.charge AS expected,
              CAST(COALESCE(SUM(d.credits), 0) AS bigint) AS actual
              FROM ai_credit_holds h LEFT JOIN ai_credit_draws d ON d.hold_id = h.id
              GROUP BY h.id, h.charge HAVING h.charge <> COALESCE(SUM(d.credits), 0)",
    },
    Rule {
        name: "an execution shows its hold's charge",
        sql: "SELECT e.id, h.charge AS expected, e.credits_used AS actual
              FROM ai_executions e JOIN ai_credit_holds h ON h.execution_id = e.id
              WHERE h.state <> 'ACTIVE' AND h.charge <> e.credits_used",
    },
    Rule {
        name: "an execution runs while its hold is active, and only then",
        sql: "SELECT e.id, CAST(CASE WHEN h.state = 'ACTIVE' THEN 1 ELSE 0 END AS bigint)
              AS expected, CAST(CASE WHEN e.status = 'RUNNING' THEN 1 ELSE 0 END AS bigint)
              AS actual
              FROM ai_executions e LEFT JOIN ai_credit_holds h ON h.execution_id = e.id
              WHERE h.id IS NULL OR (h.state = 'ACTIVE') <> (e.status = 'RUNNING')",
    },
    Rule {
        name: "every success was settled",
        sql: "SELECT e.id, CAST(1 AS bigint) AS expected, CAST(0 AS bigint) AS actual
              FROM ai_executions e JOIN ai_credit_holds h ON h.execution_id = e.id
              WHERE e.status = 'SUCCEEDED' AND h.state <> 'SETTLED'",
    },
    Rule {
        name: "the daily use is what was charged",
        sql: "SELECT a.id, a.total_used_credits AS expected,
              CAST(COALESCE(SUM(u.credits), 0) AS bigint) AS actual
              FROM ai_credit_accounts a LEFT JOIN usage_daily u ON u.account_id = a.id
              GROUP BY a.id, a.total_used_credits
              HAVING a.total_used_credits <> COALESCE(SUM(u.credits), 0)",
    },
    Rule {
        name: "every yen paid is left, used or taken back",
        sql: "SELECT a.id,
              CAST((SELECT COALESCE(SUM(price_minor), 0) FROM ai_credit_grants
                    WHERE account_id = a.id AND kind <> 'REFUND') AS bigint) AS expected,
              CAST((SELECT COALESCE(SUM(cost_left), 0) FROM ai_credit_grants
                    WHERE account_id = a.id)
                 + (SELECT COALESCE(SUM(d.cost - d.returned_cost), 0) FROM ai_credit_draws d
                    JOIN ai_credit_holds h ON h.id = d.hold_id WHERE h.account_id = a.id)
                 + (SELECT COALESCE(SUM(cost_taken), 0) FROM ai_credit_withdrawals
                    WHERE account_id = a.id) AS bigint) AS actual
              FROM ai_credit_accounts a
              WHERE (SELECT COALESCE(SUM(price_minor), 0) FROM ai_credit_grants
                     WHERE account_id = a.id AND kind <> 'REFUND')
                <> (SELECT COALESCE(SUM(cost_left), 0) FROM ai_credit_grants
                    WHERE account_id = a.id)
                 + (SELECT COALESCE(SUM(d.cost - d.returned_cost), 0) FROM ai_credit_draws d
                    JOIN ai_credit_holds h ON h.id = d.hold_id WHERE h.account_id = a.id)
                 + (SELECT COALESCE(SUM(cost_taken), 0) FROM ai_credit_withdrawals
                    WHERE account_id = a.id)",
    },
    Rule {
        name: "a payment has one PURCHASE line",
        sql: "SELECT t.reference_id AS id, CAST(1 AS bigint) AS expected,
              CAST(COUNT(*) AS bigint) AS actual
              FROM ai_credit_transactions t WHERE t.transaction_type = 'PURCHASE'
              GROUP BY t.reference_id HAVING COUNT(*) > 1",
    },
    Rule {
        name: "a purchase that was paid has one PURCHASE line of its credits, any other has none",
        sql: "SELECT p.id, CAST(CASE WHEN p.completed_at IS NULL THEN 0 ELSE p.credits END
              AS bigint) AS expected, CAST(COALESCE(SUM(t.credits_amount), 0) AS bigint) AS actual
              FROM credit_purchases p LEFT JOIN ai_credit_transactions t
              ON t.reference_id = p.id AND t.transaction_type = 'PURCHASE'
              AND t.account_id = p.account_id
              GROUP BY p.id, p.completed_at, p.credits
              HAVING COUNT(t.id) <> CASE WHEN p.completed_at IS NULL THEN 0 ELSE 1 END
              OR COALESCE(SUM(t.credits_amount), 0)
                 <> CASE WHEN p.completed_at IS NULL THEN 0 ELSE p.credits END",
    },
    Rule {
        name: "a purchase that was paid has its grant at its price, any other has none",
        sql: "SELECT p.id, CAST(CASE WHEN p.completed_at IS NULL THEN 0 ELSE p.amount END
              AS bigint) AS expected, CAST(COALESCE(SUM(g.price_minor), 0) AS bigint) AS actual
              FROM credit_purchases p LEFT JOIN ai_credit_grants g
              ON g.reference_id = p.id AND g.kind = 'PURCHASED' AND g.account_id = p.account_id
              GROUP BY p.id, p.completed_at, p.amount, p.grant_id
              HAVING COALESCE(SUM(g.price_minor), 0)
                 <> CASE WHEN p.completed_at IS NULL THEN 0 ELSE p.amount END
              OR COUNT(CASE WHEN g.id = p.grant_id THEN 1 END)
                 <> CASE WHEN p.completed_at IS NULL THEN 0 ELSE 1 END",
    },
    Rule {
        name: "what went back of a purchase is what its refunds say",
        sql: "SELECT p.id, CAST(COALESCE(SUM(r.amount), 0) AS bigint) AS expected,
              p.refunded AS actual
              FROM credit_purchases p LEFT JOIN purchase_refunds r
              ON r.purchase_id = p.id AND r.status <> 'FAILED'
              GROUP BY p.id, p.refunded HAVING COALESCE(SUM(r.amount), 0) <> p.refunded",
    },
    Rule {
        name: "an automatic attempt succeeded if it was paid, and is under way as its purchase is",
        sql: "SELECT a.id, CAST(CASE WHEN p.completed_at IS NULL THEN 0 ELSE 1 END AS bigint)
              AS expected, CAST(CASE WHEN a.state = 'SUCCEEDED' THEN 1 ELSE 0 END AS bigint)
              AS actual
              FROM auto_purchase_attempts a JOIN credit_purchases p ON p.id = a.purchase_id
              WHERE (p.completed_at IS NOT NULL) <> (a.state = 'SUCCEEDED')
              OR (p.status IN ('PENDING', 'REQUIRES_ACTION')) <> (a.state = 'OPEN')",
    },
    Rule {
        name: "the numbers of receipts have no gaps",
        sql: "SELECT r.purchase_id AS id, s.last AS expected,
              (SELECT COUNT(*) FROM credit_receipts) AS actual
              FROM receipt_series s JOIN credit_receipts r
              ON r.number = (SELECT MAX(number) FROM credit_receipts)
              WHERE s.name = 'RECEIPT' AND (s.last <> r.number
              OR s.last <> (SELECT COUNT(*) FROM credit_receipts))",
    },
    Rule {
        name: "a period has one reset",
        sql: "SELECT account_id AS id, CAST(1 AS bigint) AS expected,
              CAST(COUNT(*) AS bigint) AS actual
              FROM monthly_credit_resets GROUP BY account_id, reset_date HAVING COUNT(*) > 1",
    },
];
