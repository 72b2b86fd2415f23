//! What front ends use, run against the real program: npm's audits of GraphQL over HTTP, its
//! WebSocket client, typed documents, a browser. The scripts are in the folder `clients`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::database::is_postgres;
use crate::support::doubles::quiet_port;
use crate::support::npm::{self, Script, folder};
use crate::support::process::{Home, Process};

#[tokio::test]
async fn the_audits_of_graphql_over_http_find_nothing() {
    if !npm::is_ready().await {
        return;
    }
    let home = Home::hotel(10).await;
    let mut process = home.serve().await;
    let said = script("audit.mjs", &process, "").succeeds().await;
    assert!(said.contains("warn 0, error 0"), "{said}");
    process.stop().await;
}

#[tokio::test]
async fn the_websocket_client_of_npm_goes_on_when_the_server_is_replaced() {
    if !npm::is_ready().await {
        return;
    }
    let home = Home::hotel(1_000).await.with("PORT", &quiet_port().to_string());
    let mut process = home.serve().await;
    let mut script = script("live.mjs", &process, &home.guests().admin);
    script.says("watching").await;
    process.stop().await;
    let mut process = home.serve().await;
    script.succeeds().await;
    process.stop().await;
    home.adds_up().await;
}

#[tokio::test]
async fn a_typed_dashboard_runs_pages_and_watches() {
    if !npm::is_built().await {
        return;
    }
    // Little enough to be spent.
    let home = Home::hotel(16).await;
    let mut process = home.serve().await;
    script("build/main.js", &process, &home.guests().admin).succeeds().await;
    process.stop().await;
    home.adds_up().await;
}

#[tokio::test]
async fn a_typed_dashboard_of_the_platform_gives_and_gives_back() {
    // The demo without settings is on SQLite, whatever this run is on.
    if is_postgres() || !npm::is_built().await {
        return;
    }
    let home = Home::empty();
    let mut process = home.serve().await;
    let admin = token(&home, &["--email", "admin@tsubaki.test"]).await;
    let root = token(&home, &["--email", "root@musubi.test", "--tenant", "tsubaki"]).await;
    let settings =
        [("MUSUBI_URL", url(&process)), ("MUSUBI_TOKEN", admin), ("MUSUBI_PLATFORM_TOKEN", root)];
    Script::start("node", &["build/main.js"], folder(), &settings).succeeds().await;
    process.stop().await;
    home.adds_up().await;
}

async fn token(home: &Home, arguments: &[&str]) -> String {
    let arguments = [&["token"], arguments].concat();
    home.gets(&arguments).await.lines().last().unwrap().to_owned()
}

#[tokio::test]
async fn typed_documents_fit_the_schema_and_others_are_refused() {
    // What was built fits: it is checked before.
    if !npm::is_built().await {
        return;
    }
    let copy = TempDir::new().unwrap();
    let clients = copy_of_the_documents(copy.path());
    let documents = clients.join("typed/documents.ts");
    let text = fs::read_to_string(&documents).unwrap();
    fs::write(&documents, text.replace("usedThisMonth", "usedThisWeek")).unwrap();
    let refused = Script::start("npm", &["run", "check"], &clients, &[]).fails().await;
    assert!(refused.contains(r#"Cannot query field "usedThisWeek""#), "{refused}");

    // A document that fits, but whose answer is read otherwise.
    fs::write(&documents, text.replace("          balanceAfter\n", "")).unwrap();
    let main = clients.join("typed/main.ts");
    let reads = fs::read_to_string(&main).unwrap().replace("line.type", "line.balanceAfter");
    fs::write(&main, reads).unwrap();
    let compiler = ["node_modules/typescript/bin/tsc", "--noEmit"];
    let refused = Script::start("node", &compiler, &clients, &[]).fails().await;
    assert!(refused.contains("'balanceAfter' does not exist"), "{refused}");
}

/// The typed client beside a schema of its own.
fn copy_of_the_documents(place: &Path) -> PathBuf {
    let clients = place.join("clients");
    fs::create_dir_all(clients.join("typed")).unwrap();
    fs::copy(folder().join("../schema.graphql"), place.join("schema.graphql")).unwrap();
    for name in ["package.json", "tsconfig.json"] {
        fs::copy(folder().join(name), clients.join(name)).unwrap();
    }
    for entry in fs::read_dir(folder().join("typed")).unwrap() {
        let file = entry.unwrap();
        fs::copy(file.path(), clients.join("typed").join(file.file_name())).unwrap();
    }
    symlink(folder().join("node_modules"), clients.join("node_modules")).unwrap();
    clients
}

#[tokio::test]
async fn graphiql_works_in_a_browser_that_reaches_nobody_else() {
    if is_postgres() || !npm::is_ready().await {
        return;
    }
    let Some(chromium) = npm::chromium() else { return };
    let home = Home::empty();
    let mut process = home.serve().await;
    let settings = [("MUSUBI_URL", url(&process)), ("MUSUBI_CHROMIUM", chromium)];
    Script::start("node", &["browser.mjs"], folder(), &settings).succeeds().await;
    process.stop().await;
}

fn script(name: &str, process: &Process, token: &str) -> Script {
    let settings = [("MUSUBI_URL", url(process)), ("MUSUBI_TOKEN", token.to_owned())];
    Script::start("node", &[name], folder(), &settings)
}

fn url(process: &Process) -> String {
    format!("http://{}", process.address())
}
