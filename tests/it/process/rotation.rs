//! Keys of access tokens are rotated on two nodes, one after the other, while people go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::sync::Mutex;

use crate::support::database::is_postgres;
use crate::support::process::{Client, Home, Process};

const WHO: &str = "{ viewer { role } }";

/// A token of the command line, signed by a node's first key.
async fn fresh_token(home: &Home) -> String {
    let email = home.guests().emails[0].clone();
    let said = home.gets(&["token", "--email", &email]).await;
    said.lines().last().unwrap().to_owned()
}

/// Asks with every token at every node that is up, again and again. Answers how often.
async fn keep_asking(
    nodes: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
) {
    while !is_over.load(Ordering::Relaxed) {
        let (nodes, tokens) = (nodes.lock().await.clone(), tokens.lock().await.clone());
        for node in &nodes {
            for token in &tokens {
                // A node that is being replaced may not answer, but never says that they are out.
                let reply = Client::new(node, token).tries(WHO, json!({})).await;
                let Ok(reply) = reply else { continue };
                let code = &reply["errors"][0]["extensions"]["code"];
                assert_ne!(code, "UNAUTHENTICATED", "{reply}");
                if reply["data"]["viewer"]["role"] == "ADMIN" {
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_rotation_of_keys_on_two_nodes_under_load_signs_nobody_out() {
    if !is_postgres() {
        // SQLite is for one node.
        return;
    }
    let key = |kid: &str, byte: u8| format!("{kid}:{}", STANDARD.encode([byte; 32]));
    let (old, new) = (key("jwt1", 1), key("jwt2", 9));
    let mut home = Home::hotel(10).await;
    let tokens = Arc::new(Mutex::new(vec![home.guests().admin.clone()]));
    let mut processes: Vec<Process> = vec![home.serve().await, home.serve().await];
    let addresses = processes.iter().map(|it| it.address().to_owned()).collect();
    let nodes = Arc::new(Mutex::new(addresses));
    let (is_over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking = tokio::spawn(keep_asking(
        Arc::clone(&nodes),
        Arc::clone(&tokens),
        Arc::clone(&is_over),
        Arc::clone(&asked),
    ));
    // Appended, then moved to the front: the steps that the README tells.
    for keys in [format!("{old},{new}"), format!("{new},{old}")] {
        home = home.with("JWT_KEYS", &keys);
        for (at, process) in processes.iter_mut().enumerate() {
            process.stop().await;
            *process = home.serve().await;
            nodes.lock().await[at] = process.address().to_owned();
            // Signed by the node that was replaced, good at the one that was not yet.
            let token = fresh_token(&home).await;
            tokens.lock().await.push(token);
            let before = asked.load(Ordering::Relaxed);
            crate::support::process::until("everybody is let in by both", async || {
                (asked.load(Ordering::Relaxed) >= before + 20).then_some(())
            })
            .await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    asking.await.unwrap();
    for mut process in processes {
        process.stop().await;
    }
}
