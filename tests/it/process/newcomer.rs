//! The first minutes: an empty folder in development, and a production that refuses to guess.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::database::is_postgres;
use crate::support::model_server::ModelServer;
use crate::support::process::{Home, Process, until};

const REQUIRED: [&str; 11] = [
    "DATABASE_URL",
    "PUBLIC_URL",
    "JWT_KEYS",
    "ENCRYPTION_KEYS",
    "INDEX_KEY",
    "OPENAI_API_KEY",
    "EMAIL_SERVER",
    "EMAIL_FROM",
    "STRIPE_SECRET_KEY",
    "STRIPE_PUBLISHABLE_KEY",
    "STRIPE_WEBHOOK_SECRET",
];
const VIEWER: &str = "{ viewer { user { name } tenant { name } role isPlatformAdmin } }";

#[tokio::test]
async fn an_empty_folder_becomes_a_working_demo() {
    // Without settings the database is a file, whatever this run is on.
    if is_postgres() {
        return;
    }
    let home = Home::empty();
    let mut process = home.serve().await;
    let said = process.said();
    assert!(said.contains("the empty database"), "{said}");
    let port = process.address().rsplit_once(':').unwrap().1;
    assert!(said.contains(&format!("http://localhost:{port}/graphiql")), "{said}");
    let (status, page) = process.fetch("/graphiql").await.unwrap();
    assert_eq!(status, 200);
    assert!(page.to_lowercase().contains("<!doctype html"), "{page}");

    let data = home.folder().join("data");
    assert!(data.join("musubi.db").is_file());
    let keys = data.join("keys.env");
    assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
    let first_keys = fs::read_to_string(&keys).unwrap();
    for secret in secrets(&first_keys) {
        assert!(!home.printed().contains(secret), "a key was printed");
    }

    let token = token(&home, &["--email", "admin@tsubaki.test"]).await;
    let client = process.client(&token);
    let viewer = client.gets(VIEWER, json!({})).await;
    assert_eq!(viewer["viewer"]["role"], "ADMIN");
    assert_eq!(viewer["viewer"]["isPlatformAdmin"], false);
    let execution = client.executes("Hello?", "newcomer-1").await;
    assert_eq!(execution["status"], "SUCCEEDED", "{execution}");
    assert_eq!(execution["provider"], "sandbox");
    process.stop().await;
    home.adds_up().await;

    // Nothing is filled or made a second time.
    let mut process = home.serve().await;
    assert!(!process.said().contains("the empty database"), "{}", process.said());
    assert_eq!(fs::read_to_string(&keys).unwrap(), first_keys);
    let client = process.client(&token);
    assert_eq!(client.executes("Hello?", "newcomer-1").await, execution);
    let said = home.gets(&["demo"]).await;
    assert!(said.contains("nothing was done"), "{said}");
    assert_eq!(client.executions_of("newcomer-1").await.len(), 1);

    people_sign_in(&home, &process).await;
    process.stop().await;
    home.adds_up().await;
}

async fn people_sign_in(home: &Home, process: &Process) {
    for (email, role) in [("user@studio.test", json!("USER")), ("ROOT@musubi.test", json!(null))] {
        let token = token(home, &["--email", email]).await;
        let viewer = process.client(&token).gets(VIEWER, json!({})).await;
        assert_eq!(viewer["viewer"]["role"], role, "{email}: {viewer}");
    }
    let root = token(home, &["--email", "root@musubi.test", "--tenant", "studio"]).await;
    let viewer = process.client(&root).gets(VIEWER, json!({})).await;
    assert_eq!(viewer["viewer"]["isPlatformAdmin"], true);
    assert!(!viewer["viewer"]["tenant"].is_null());

    let foreign = ["token", "--email", "admin@tsubaki.test", "--tenant", "studio"];
    let refused = home.run(&foreign).await;
    assert!(!refused.status.success());
    assert!(refused.out.is_empty(), "{}", refused.out);
}

async fn token(home: &Home, arguments: &[&str]) -> String {
    let arguments = [&["token"], arguments].concat();
    home.gets(&arguments).await.lines().last().unwrap().to_owned()
}

fn secrets(keys: &str) -> Vec<&str> {
    let values = keys.lines().filter_map(|line| line.split_once('='));
    values.map(|(_, value)| value.rsplit(':').next().unwrap()).collect()
}

#[tokio::test]
async fn a_demo_that_is_killed_leaves_books_that_add_up() {
    if is_postgres() {
        return;
    }
    let home = Home::empty();
    let file = home.folder().join("data/musubi.db");
    let home = home.with("DATABASE_URL", &format!("sqlite:{}", file.display()));
    // An empty folder: the demo migrates by itself.
    let mut process = home.launch(&["demo"]);
    until("the file is there", async || file.exists().then_some(())).await;
    let books = home.connect().await;
    until("the history grows", async || {
        books.try_number("SELECT COUNT(*) FROM ai_executions").await.filter(|runs| *runs > 100)
    })
    .await;
    process.kill();
    books.close().await;
    home.adds_up().await;
    let said = home.gets(&["demo"]).await;
    assert!(said.contains("nothing was done"), "{said}");
}

#[tokio::test]
async fn production_names_all_that_is_missing_at_once() {
    for command in [&["serve"][..], &[], &["verify"], &["token", "--email", "a@b.test"]] {
        let home = Home::empty().with("MUSUBI_ENV", "production");
        let ran = home.run(command).await;
        assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
        assert_eq!(ran.out, "");
        for name in REQUIRED {
            let told = ran.err.lines().filter(|line| line.contains(&format!(" {name} ")));
            assert_eq!(told.count(), 1, "{name}: {}", ran.err);
        }
        assert_eq!(ran.err.matches("is not complete").count(), 1, "{}", ran.err);
        assert!(!home.folder().join("data").exists(), "nothing is made in production");
    }
}

#[tokio::test]
async fn a_bad_setting_does_not_hide_what_else_is_missing_and_is_not_repeated() {
    let home = Home::empty()
        .with("MUSUBI_ENV", "production")
        .with("PORT", "port-secret")
        .with("JWT_KEYS", "jwt-secret")
        .with("ENCRYPTION_KEYS", "enc1:c2hvcnQtc2VjcmV0")
        .with("INDEX_KEY_FILE", "/nowhere/index-key")
        .with("MUSUBI_HOLD_LEASE_SECONDS", "1");
    let ran = home.run(&["serve"]).await;
    assert_eq!(ran.status.code(), Some(1));
    for name in REQUIRED {
        assert!(ran.err.contains(name), "{name}: {}", ran.err);
    }
    for name in ["PORT", "INDEX_KEY_FILE", "MUSUBI_HOLD_LEASE_SECONDS"] {
        assert!(ran.err.contains(name), "{name}: {}", ran.err);
    }
    for secret in ["port-secret", "jwt-secret", "c2hvcnQtc2VjcmV0", "short-secret"] {
        assert!(!ran.err.contains(secret), "{}", ran.err);
    }
}

#[tokio::test]
async fn production_has_no_sandbox_no_demo_and_no_graphiql() {
    let home = Home::hotel(100).await.with("MUSUBI_ENV", "production");
    let ran = home.run(&["serve"]).await;
    let told = "MUSUBI_RATE_LIMITS is off, which is for load tests only";
    assert!(ran.err.contains(told), "{}", ran.err);
    let home = home.without("MUSUBI_RATE_LIMITS");
    let ran = home.run(&["serve"]).await;
    assert_eq!(ran.status.code(), Some(1));
    assert!(ran.err.contains("OPENAI_API_KEY"), "{}", ran.err);
    assert!(!ran.err.contains("JWT_KEYS") && !ran.err.contains(&STANDARD.encode([1; 32])));

    let models = ModelServer::start().await;
    let home = home
        .with_models(&models)
        .with("EMAIL_SERVER", "smtp://127.0.0.1:9")
        .with("EMAIL_FROM", "Musubi <no-reply@musubi.test>")
        .with("STRIPE_SECRET_KEY", "sk_test_nobody")
        .with("STRIPE_PUBLISHABLE_KEY", "pk_test_nobody")
        .with("STRIPE_WEBHOOK_SECRET", "whsec_nobody");
    let mut process = home.serve().await;
    assert_eq!(process.said(), "");
    assert_eq!(process.fetch("/graphiql").await.unwrap().0, 404);
    let client = process.client(&home.guests().user);
    let execution = client.executes("Hello?", "production-1").await;
    assert_eq!(execution["status"], "SUCCEEDED", "{execution}");
    assert_ne!(execution["provider"], "sandbox");
    process.stop().await;
    assert!(!home.folder().join("data").exists());
    home.adds_up().await;
}

#[tokio::test]
async fn keys_may_come_as_files() {
    let home = Home::hotel(100).await;
    let file = home.folder().join("index-key");
    fs::write(&file, format!("{}\n", home.setting("INDEX_KEY"))).unwrap();
    let home = home.without("INDEX_KEY").with("INDEX_KEY_FILE", file.to_str().unwrap());
    let email = &home.guests().emails[0];
    home.gets(&["token", "--email", email]).await;
}

#[tokio::test]
async fn keys_that_were_lost_are_named_and_not_made_anew() {
    let home = Home::empty();
    let file = home.folder().join("data/keys.env");
    fs::create_dir(home.folder().join("data")).unwrap();
    for left in ["", "JWT_KEYS=dev1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"] {
        fs::write(&file, left).unwrap();
        let ran = home.run(&["serve"]).await;
        assert_eq!(ran.status.code(), Some(1));
        for name in ["ENCRYPTION_KEYS", "INDEX_KEY"] {
            let told = format!("{name} is missing in data/keys.env");
            assert!(ran.err.contains(&told), "{}", ran.err);
        }
        assert_eq!(ran.err.contains("JWT_KEYS"), left.is_empty(), "{}", ran.err);
        assert_eq!(fs::read_to_string(&file).unwrap(), left);
    }
}

#[tokio::test]
async fn processes_that_start_together_agree_on_the_keys() {
    let home = Home::empty();
    let mut processes: Vec<_> = (0..8).map(|_| home.launch(&["verify"])).collect();
    for process in &mut processes {
        process.exit().await;
        let err = process.logged();
        assert!(!err.contains("configuration is not complete"), "{err}");
    }
    let data = fs::read_dir(home.folder().join("data")).unwrap();
    let names: Vec<_> = data.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("draft")), "{names:?}");
    let keys = fs::read_to_string(home.folder().join("data/keys.env")).unwrap();
    assert_eq!(keys.lines().count(), 3);
}

#[tokio::test]
async fn no_address_is_told_with_its_password() {
    for url in [
        "mysql://bob:hunter2@127.0.0.1:1/x",
        "postgres://bob:hunter2@127.0.0.1:none/x",
        "postgresql://bob:hunter2@[::/x",
        "hunter2",
    ] {
        let ran = Home::empty().with("DATABASE_URL", url).run(&["verify"]).await;
        assert_eq!(ran.status.code(), Some(1), "{url}");
        assert!(ran.err.contains("DATABASE_URL") || ran.err.contains("address"), "{}", ran.err);
        assert!(!ran.err.contains("hunter2"), "{}", ran.err);
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
    }
    let home = Home::hotel(10).await.with("REDIS_URL", "redis://bob:hunter2@:x");
    assert!(!home.run(&["verify"]).await.err.contains("hunter2"));
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let home = Home::hotel(10).await;
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let home = home.with("PORT", &port);
    let ran = home.run(&["serve"]).await;
    assert_eq!(ran.status.code(), Some(1));
    assert!(ran.err.contains(&format!("port {port}")), "{}", ran.err);
}
