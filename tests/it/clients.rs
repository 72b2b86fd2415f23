//! What front ends use, run against the real program: npm's audits of GraphQL over HTTP, its
//! WebSocket client, typed documents, a browser. The scripts are in the folder `clients`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::database::is_postgres;
use crate::support::doubles::{MailServer, OauthServer, quiet_port};
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

#[tokio::test]
async fn a_person_signs_in_by_each_way_in_a_browser() {
    if !npm::is_ready().await {
        return;
    }
    let Some(chromium) = npm::chromium() else { return };
    let (Some(mail), Some(oauth)) = (MailServer::start().await, OauthServer::start().await) else {
        return;
    };
    let port = quiet_port().to_string();
    let base = format!("http://localhost:{port}");
    let settings = oauth.settings();
    let (discord, github) = (settings.discord.unwrap(), settings.github.unwrap());
    let mut home = Home::empty()
        .with("PORT", &port)
        .with("PUBLIC_URL", &base)
        .with("EMAIL_SERVER", &mail.url())
        .with("EMAIL_FROM", "no-reply@musubi.test")
        .with("GITHUB_EMAILS_URL", github.emails_url.as_ref().unwrap());
    for (name, client) in [("DISCORD", discord), ("GITHUB", github)] {
        home = home
            .with(&format!("{name}_CLIENT_ID"), &client.id)
            .with(&format!("{name}_CLIENT_SECRET"), &client.secret.0)
            .with(&format!("{name}_AUTHORIZE_URL"), &client.authorize_url)
            .with(&format!("{name}_TOKEN_URL"), &client.token_url)
            .with(&format!("{name}_USER_URL"), &client.user_url);
    }
    let mut process = home.serve().await;
    let email = "user@tsubaki.test";
    oauth.is("583231", "椿 花子", Some(email), true).await;
    let body = serde_json::json!({ "email": email, "returnTo": format!("{base}/graphiql") });
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = http
        .post(format!("{base}/auth/email"))
        .header("content-type", "application/json")
        .body(body.to_string());
    assert_eq!(asked.send().await.unwrap().status().as_u16(), 202);
    let mails = mail.takes(1).await;
    let text = mails[0]["text"].as_str().unwrap();
    let link = text.split_whitespace().find(|word| word.starts_with("http")).unwrap();
    let settings = [
        ("MUSUBI_URL", base),
        ("MUSUBI_LINK", link.to_owned()),
        ("MUSUBI_EMAIL", email.to_owned()),
        ("MUSUBI_CHROMIUM", chromium),
    ];
    Script::start("node", &["sign-in.mjs"], folder(), &settings).succeeds().await;
    process.stop().await;
    let logged = process.logged();
    let token = link.rsplit('=').next().unwrap();
    for secret in [token, email, "mrt_", "musubi-secret"] {
        assert!(!logged.contains(secret), "the log holds {secret}");
    }
}

fn script(name: &str, process: &Process, token: &str) -> Script {
    let settings = [("MUSUBI_URL", url(process)), ("MUSUBI_TOKEN", token.to_owned())];
    Script::start("node", &[name], folder(), &settings)
}

fn url(process: &Process) -> String {
    format!("http://{}", process.address())
}
