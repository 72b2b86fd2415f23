//! `kill -9` at random moments under load: no charge is lost, none is made twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::model_server::{ANSWER, Behaviour, ModelServer};
use crate::support::process::{Books, Client, EXECUTE, Home, START, execute_input, until};

/// In a row, at random moments; all of it takes about half a minute.
const KILLS: usize = 20;

const CREDITS: i64 = 100_000;
const CUSTOMERS: usize = 8;
/// What a CHATBOT call of 46 tokens costs.
const CHARGE: i64 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_loses_a_charge_or_makes_it_twice() {
    let models = ModelServer::start().await;
    let home = Home::hotel(CREDITS).await.with_models(&models);
    let address = watch::Sender::new(String::new());
    let closing_time = CancellationToken::new();
    let customers = (0..CUSTOMERS).map(|number| {
        let customer = Customer {
            number,
            token: home.guests().user.clone(),
            address: address.subscribe(),
            closing_time: closing_time.clone(),
        };
        customer.comes_and_asks()
    });
    let killed = async {
        kill_again_and_again(&home, &models, &address).await;
        let process = home.serve().await;
        address.send_replace(process.address().to_owned());
        closing_time.cancel();
        process
    };
    let (answers, mut process) = tokio::join!(join_all(customers), killed);
    let answers: BTreeMap<String, Value> = answers.into_iter().flatten().collect();
    let books = home.connect().await;
    books.until_nothing_is_held().await;

    // A key keeps its answer.
    let client = process.client(&home.guests().user);
    for (key, answer) in answers.iter().take(50) {
        assert_eq!(&client.executes(question(key).as_str(), key).await, answer);
    }
    process.stop().await;
    home.adds_up().await;

    let successes = judge(&answers);
    println!("{successes} of {} answers, {} calls", answers.len(), models.calls());
    books_agree(&books, successes).await;
    books.close().await;
    assert!(models.calls() >= usize::try_from(successes).unwrap());
    let mut called = BTreeSet::new();
    for headers in models.headers() {
        let execution = headers["idempotency-key"].to_str().unwrap().to_owned();
        assert!(called.insert(execution), "the provider was asked twice for one execution");
    }
}

/// Every answer is whole: paid for with a result, or interrupted and free. How many succeeded.
fn judge(answers: &BTreeMap<String, Value>) -> i64 {
    let mut successes = 0;
    for answer in answers.values() {
        match answer["status"].as_str().unwrap() {
            "SUCCEEDED" => {
                assert_eq!(answer["charge"]["creditsUsed"], CHARGE);
                assert_eq!(answer["result"]["output"], ANSWER);
                successes += 1;
            }
            "FAILED" => {
                assert_eq!(answer["charge"]["creditsUsed"], 0);
                assert_eq!(answer["failure"], json!({ "code": "INTERRUPTED", "retryable": true }));
            }
            other => panic!("{other}: {answer}"),
        }
    }
    assert!(successes > 0);
    successes
}

/// What the customers were told is what the books say.
async fn books_agree(books: &Books, successes: i64) {
    let number = async |sql: &str| books.number(sql).await;
    assert_eq!(
        number("SELECT COUNT(*) FROM ai_executions WHERE status = 'SUCCEEDED'").await,
        successes,
        "somebody was told of every success, and every success they were told of is kept"
    );
    assert_eq!(
        number(
            "SELECT COUNT(*) FROM ai_executions e WHERE status = 'SUCCEEDED' AND
             (SELECT COUNT(*) FROM ai_credit_transactions t
              WHERE t.execution_id = e.id AND t.transaction_type = 'USAGE'
              AND t.credits_amount = -e.credits_used) <> 1"
        )
        .await,
        0,
        "every success is charged once"
    );
    assert_eq!(
        number(
            "SELECT COUNT(*) FROM (SELECT e.idempotency_key FROM ai_executions e
             JOIN ai_credit_transactions t
             ON t.execution_id = e.id AND t.transaction_type = 'USAGE'
             GROUP BY e.idempotency_key HAVING COUNT(*) > 1) twice"
        )
        .await,
        0,
        "no key is charged twice"
    );
    assert_eq!(
        number(
            "SELECT COUNT(*) FROM (SELECT idempotency_key FROM ai_executions
             GROUP BY idempotency_key HAVING COUNT(*) > 1) twice"
        )
        .await,
        0,
        "no key ran twice"
    );
    assert_eq!(number("SELECT COUNT(*) FROM ai_executions WHERE status = 'RUNNING'").await, 0);
    assert_eq!(
        number("SELECT current_balance - held FROM ai_credit_accounts").await,
        CREDITS - successes * CHARGE
    );
}

async fn kill_again_and_again(home: &Home, models: &ModelServer, address: &watch::Sender<String>) {
    for round in 0..KILLS {
        // Models that think, and models so quick that most time goes by in the database.
        let delay = Duration::from_millis(if round % 2 == 0 { 10 } else { 0 });
        models.respond_by_default(Behaviour::Answer {
            text: ANSWER.to_owned(),
            usage: Some((12, 34)),
            pieces: 4,
            delay,
        });
        let mut process = home.launch(&["serve"]);
        match round % 5 {
            // While it starts: connects, migrates, sweeps.
            4 => sleep(Duration::from_millis(fastrand::u64(0..400))).await,
            // Whatever it does then, most likely while customers wait for the sweep.
            3 => {
                process.ready().await;
                address.send_replace(process.address().to_owned());
                sleep(Duration::from_millis(fastrand::u64(0..1_500))).await;
            }
            // In the thick of it, and then a moment that no step of the program decides.
            _ => {
                process.ready().await;
                address.send_replace(process.address().to_owned());
                let calls = models.calls() + fastrand::usize(1..20);
                timeout(Duration::from_secs(60), models.wait_for_calls(calls)).await.unwrap();
                sleep(Duration::from_millis(fastrand::u64(0..60))).await;
            }
        }
        process.kill();
    }
}

fn question(key: &str) -> String {
    format!("May {key} bring a dog?")
}

struct Customer {
    number: usize,
    token: String,
    address: watch::Receiver<String>,
    closing_time: CancellationToken,
}

impl Customer {
    /// Asks one question after the other, each until it is answered. Answers by key.
    async fn comes_and_asks(self) -> Vec<(String, Value)> {
        let mut answers = Vec::new();
        while !self.closing_time.is_cancelled() {
            let key = format!("customer-{}-{:04}", self.number, answers.len());
            let mut known_id = None;
            let mut tries = 0;
            let answer = until("a key is answered", async || {
                tries += 1;
                let is_started_first = tries == 1 && answers.len() % 3 == 2;
                let execution = self.ask(&key, is_started_first).await?;
                let id = execution["id"].clone();
                assert_eq!(known_id.get_or_insert(id.clone()), &id, "{key} has two executions");
                (!is_started_first && execution["status"] != "RUNNING").then_some(execution)
            })
            .await;
            answers.push((key, answer));
        }
        answers
    }

    /// None: nobody answered.
    async fn ask(&self, key: &str, is_started: bool) -> Option<Value> {
        let address = self.address.borrow().clone();
        let (mutation, field) =
            if is_started { (START, "aiExecutionStart") } else { (EXECUTE, "aiExecute") };
        let client = Client::new(&address, &self.token);
        let reply = client.tries(mutation, execute_input(&question(key), key)).await.ok()?;
        if reply["errors"][0]["extensions"]["code"] == "UNAVAILABLE" {
            return None;
        }
        assert!(reply["errors"].is_null(), "{key}: {reply}");
        let payload = &reply["data"][field];
        assert_eq!(payload["userErrors"], json!([]), "{key}: {payload}");
        Some(payload["execution"].clone())
    }
}
