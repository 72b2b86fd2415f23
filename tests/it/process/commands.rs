//! The subcommands: they say what they did, and fail in words.

use musubi::jobs::JOBS;

use crate::support::process::{Home, Ran};

#[tokio::test]
async fn every_job_runs_twice() {
    let home = Home::hotel(100).await;
    let mut process = home.serve().await;
    process.client(&home.guests().user).executes("Hello?", "a-job-to-count").await;
    process.stop().await;
    for job in JOBS {
        for _ in 0..2 {
            let said = home.gets(&["job", job.name]).await;
            assert!(!said.trim().is_empty(), "{} says what it did", job.name);
        }
    }
    let books = home.connect().await;
    for job in JOBS {
        let runs = "SELECT COUNT(*) FROM job_runs WHERE state = 'SUCCEEDED' AND name = ";
        let runs = books.number(&format!("{runs}'{}'", job.name)).await;
        assert!(runs >= 2, "{}: {runs}", job.name);
    }
    let failed = "SELECT COUNT(*) FROM job_runs WHERE state <> 'SUCCEEDED'";
    assert_eq!(books.number(failed).await, 0);
    let rolled_up = "SELECT CAST(SUM(runs) AS bigint) FROM usage_hourly";
    assert_eq!(books.number(rolled_up).await, 1, "twice is once");
    home.adds_up().await;
}

#[tokio::test]
async fn a_wrong_name_is_told_in_words() {
    let home = Home::hotel(100).await;
    fails_with(&home.run(&["job", "no-such-job"]).await, "job");
    let nobody = home.run(&["token", "--email", "nobody@musubi.test"]).await;
    fails_with(&nobody, "there is no user nobody@musubi.test");
    let somebody = &home.guests().emails[0];
    let nowhere = home.run(&["token", "--email", somebody, "--tenant", "nowhere"]).await;
    fails_with(&nowhere, "there is no tenant nowhere");
    let too_long = home.run(&["token", "--email", somebody, "--hours", "169"]).await;
    fails_with(&too_long, "169");
    fails_with(&home.run(&["no-such-command"]).await, "no-such-command");
}

#[tokio::test]
async fn a_token_is_the_last_line_of_what_is_printed() {
    let home = Home::hotel(100).await;
    let printed = home.gets(&["token", "--email", &home.guests().emails[3].to_uppercase()]).await;
    let token = printed.lines().last().unwrap();
    let mut process = home.serve().await;
    let viewer = "{ viewer { role } }";
    let viewer = process.client(token).gets(viewer, serde_json::json!({})).await;
    assert_eq!(viewer["viewer"]["role"], "USER");
    process.stop().await;
    assert!(!process.logged().contains(token));
}

#[tokio::test]
async fn the_schema_needs_no_settings() {
    let home = Home::empty().with("MUSUBI_ENV", "production");
    let schema = musubi::graphql::schema::sdl();
    assert!(home.gets(&["schema"]).await.trim_end() == schema.trim_end());
}

#[tokio::test]
async fn migrations_that_are_in_place_stay_as_they_are() {
    let home = Home::hotel(100).await;
    for _ in 0..2 {
        assert_eq!(home.gets(&["migrate"]).await.trim(), "The database is up to date.");
    }
    home.adds_up().await;
}

#[tokio::test]
async fn who_issues_receipts_is_told_whole_or_not_at_all() {
    let home = Home::empty().with("RECEIPT_ISSUER_NAME", "株式会社むすび");
    fails_with(&home.run(&["migrate"]).await, "RECEIPT_ISSUER_NAME belongs with");
    let home = home.with("RECEIPT_ISSUER_ADDRESS", "東京都千代田区見本町1-2-3");
    for number in ["1234567890123", "T123456789012", "T12345678901234", "T123456789012x"] {
        let home = Home::empty()
            .with("RECEIPT_ISSUER_NAME", home.setting("RECEIPT_ISSUER_NAME"))
            .with("RECEIPT_ISSUER_ADDRESS", home.setting("RECEIPT_ISSUER_ADDRESS"))
            .with("INVOICE_REGISTRATION_NUMBER", number);
        let refused = "INVOICE_REGISTRATION_NUMBER is not T and thirteen digits";
        fails_with(&home.run(&["migrate"]).await, refused);
    }
    let home = home.with("INVOICE_REGISTRATION_NUMBER", "T1234567890123");
    home.gets(&["migrate"]).await;
}

/// It fails, says this and nothing of our insides.
fn fails_with(ran: &Ran, text: &str) {
    assert!(!ran.status.success());
    assert_eq!(ran.out, "");
    assert!(ran.err.contains(text), "{}", ran.err);
    assert!(!ran.err.contains("panicked") && !ran.err.contains("Error {"), "{}", ran.err);
}

#[tokio::test]
async fn documents_of_a_folder_are_registered_once_and_a_wrong_one_stops_all() {
    let home = Home::hotel(10).await;
    let folder = home.folder().join("documents");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("who.graphql", "query Who { viewer { role } }");
    write("manifest.json", r#"{ "1": "{ clientConfig { locales } }", "2": "{ plans { id } }" }"#);
    write("notes.txt", "no document");
    let path = folder.to_str().unwrap();
    let said = home.gets(&["documents", "register", path]).await;
    assert!(said.contains("3 documents, 3 of them new"), "{said}");
    let said = home.gets(&["documents", "register", path]).await;
    assert!(said.contains("3 documents, 0 of them new"), "{said}");
    write("later.graphql", "query Later { viewer { isPlatformAdmin } }");
    write("wrong.graphql", "query Wrong {");
    fails_with(&home.run(&["documents", "register", path]).await, "wrong.graphql");
    let books = home.connect().await;
    assert_eq!(books.number("SELECT COUNT(*) FROM registered_documents").await, 3);
}
