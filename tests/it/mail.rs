//! Mail: whole, at least once, given up when it is refused, and nowhere in the log.

mod tls;

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::{BoxFuture, FutureExt};
use musubi::config::Secret;
use musubi::db;
use musubi::external::mail::{
    InvalidMailSettings, Letter, Mail, MailFailure, MailFolder, Mailer, SmtpMailer,
};
use musubi::mail;
use sea_orm::FromQueryResult;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::doubles::{MailServer, MailSettings, quiet_port};
use crate::support::log::Log;
use crate::support::process::until;
use crate::support::{Setting, TestApp, beginning};

const FROM: &str = "結び <no-reply@musubi.example>";
const PUBLIC_URL: &str = "https://musubi.example";
/// Long enough for more than one encoded word.
const SUBJECT: &str =
    "【結び】サインイン用リンクのご案内(有効期限は十五分です。お早めにお使いください)";
const TEXT: &str = "山田 花子 様\n\n下のリンクからサインインしてください。\n\
                    https://musubi.example/sign-in/0123456789-ABCDEF\n.\n..二つの点で始まる行\n";
const HTML: &str =
    "<p lang=\"ja\">下の<a href=\"https://musubi.example/x?a=1&amp;b=2\">リンク</a></p>";

fn smtp(url: &str) -> SmtpMailer {
    // Never short of time: nothing here measures it.
    smtp_within(url, Duration::from_secs(60))
}

fn smtp_within(url: &str, patience: Duration) -> SmtpMailer {
    SmtpMailer::new((&Secret(url.to_owned()), None), FROM, PUBLIC_URL, patience).unwrap()
}

fn mail_to(to: &str) -> Mail {
    Mail {
        to: to.to_owned(),
        subject: SUBJECT.to_owned(),
        text: TEXT.to_owned(),
        html: Some(HTML.to_owned()),
        expires_at: None,
    }
}

fn letter(id: &str, mail: Mail) -> Letter {
    Letter { id: id.to_owned(), written_at: beginning(), mail }
}

async fn push(app: &TestApp, mail: &Mail, key: Option<&str>) {
    let mut txn = app.app.db.begin().await.unwrap();
    mail::push(&app.app, &mut txn, mail, key.map(str::to_owned)).await.unwrap();
    txn.commit().await.unwrap();
}

#[derive(FromQueryResult)]
struct Row {
    state: String,
    attempts: i32,
    last_error: Option<String>,
}

async fn rows(app: &TestApp) -> Vec<Row> {
    let sql = "SELECT state, attempts, last_error FROM queue_items ORDER BY id";
    db::all(app.app.db.writer(), sql, vec![]).await.unwrap()
}

#[tokio::test]
async fn a_mail_in_japanese_arrives_whole() {
    let Some(server) = MailServer::start().await else { return };
    let app = Setting::default().mailer(smtp(&server.url())).start().await;

    push(&app, &mail_to("hanako@tsubaki.test"), None).await;
    let plain = Mail { html: None, ..mail_to("taro@tsubaki.test") };
    push(&app, &plain, None).await;
    assert_eq!(app.send_mails().await, 2);

    let mut mails = server.takes(2).await;
    mails.sort_by_key(|mail| mail["to"].to_string());
    for (mail, to) in mails.iter().zip(["hanako@tsubaki.test", "taro@tsubaki.test"]) {
        assert_eq!(mail["to"], json!([to]));
        assert_eq!(mail["envelope"], json!({ "from": "no-reply@musubi.example", "to": [to] }));
        assert_eq!(mail["subject"], SUBJECT);
        assert_eq!(lines_of(&mail["text"]), TEXT.trim_end());
        assert!(mail["from"].as_str().unwrap().contains("結び"), "{mail}");
        let headers = mail["headers"].as_array().unwrap();
        assert!(headers.contains(&json!("Date: Sat, 21 Nov 2026 03:00:00 +0000")), "{mail}");
        assert!(headers.contains(&json!("Auto-Submitted: auto-generated")), "{mail}");
        let id = mail["messageId"].as_str().unwrap();
        assert!(id.starts_with('<') && id.ends_with("@musubi.example>"), "{id}");
    }
    assert_ne!(mails[0]["messageId"], mails[1]["messageId"]);
    assert_eq!(lines_of(&mails[0]["html"]), HTML);
    assert_eq!(mails[1]["html"], Value::Null);
    assert!(rows(&app).await.iter().all(|row| row.state == "DONE"));
}

/// A text as it was before it went through the wire.
fn lines_of(text: &Value) -> String {
    text.as_str().unwrap().replace("\r\n", "\n").trim_end().to_owned()
}

#[tokio::test]
async fn a_mail_is_sent_after_the_commit_and_once_for_its_key() {
    let app = TestApp::start().await;
    let mail = mail_to("hanako@tsubaki.test");
    let mut txn = app.app.db.begin().await.unwrap();
    mail::push(&app.app, &mut txn, &mail_to("never@tsubaki.test"), None).await.unwrap();
    txn.rollback().await.unwrap();
    push(&app, &mail, Some("invitation:1")).await;
    push(&app, &mail, Some("invitation:1")).await;

    assert_eq!(app.send_mails().await, 1);
    assert_eq!(app.send_mails().await, 0);
    assert!(app.outbox.mails() == [mail]);
}

#[tokio::test]
async fn connections_are_used_again() {
    let Some(server) = MailServer::start().await else { return };
    let mailer = smtp(&server.url());
    for number in ["1", "2", "3"] {
        mailer.send(&letter(number, mail_to("hanako@tsubaki.test"))).await.unwrap();
    }
    assert_eq!(server.takes(3).await.len(), 3);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_mail_waits_for_its_server_to_come_back() {
    let port = quiet_port();
    let app = Setting::default().mailer(smtp(&format!("smtp://127.0.0.1:{port}"))).start().await;
    push(&app, &mail_to("hanako@tsubaki.test"), None).await;
    assert_eq!(app.send_mails().await, 1);
    assert_eq!(app.send_mails().await, 0, "there is a pause between attempts");
    let row = rows(&app).await.remove(0);
    assert_eq!((row.state.as_str(), row.attempts), ("READY", 1));
    assert!(row.last_error.unwrap().contains("the mail server, connecting"));

    let settings = MailSettings { port: Some(port), ..MailSettings::default() };
    let Some(server) = MailServer::start_with(settings).await else { return };
    app.clock.advance(TimeDelta::minutes(1));
    assert_eq!(app.send_mails().await, 1);
    assert_eq!(server.takes(1).await[0]["subject"], SUBJECT);
    assert_eq!(rows(&app).await[0].state, "DONE");
}

#[tokio::test]
async fn a_mail_that_is_refused_for_good_is_given_up_and_others_are_tried_again() {
    let Some(server) = MailServer::start().await else { return };
    let app = Setting::default().mailer(smtp(&server.url())).start().await;
    for to in ["refuse-550@tsubaki.test", "refuse-mail-554@tsubaki.test", "refuse-451@tsubaki.test"]
    {
        push(&app, &mail_to(to), None).await;
    }
    assert_eq!(app.send_mails().await, 3);

    let rows = rows(&app).await;
    let seen: Vec<_> = rows.iter().map(|row| (row.state.as_str(), row.attempts)).collect();
    assert_eq!(seen, [("DEAD", 1), ("DEAD", 1), ("READY", 1)]);
    let errors: Vec<_> = rows.iter().map(|row| row.last_error.clone().unwrap()).collect();
    for (error, code) in errors.iter().zip(["550", "554", "451"]) {
        assert!(error.ends_with(code), "{error}");
        assert!(!error.contains("tsubaki") && !error.contains("サインイン"), "{error}");
    }
    assert_eq!(server.mails(), Vec::<Value>::new());

    // It is not the server that was wrong.
    push(&app, &mail_to("hanako@tsubaki.test"), None).await;
    app.send_mails().await;
    assert_eq!(server.takes(1).await.len(), 1);
}

#[tokio::test]
async fn nothing_of_a_mail_is_logged() {
    let Some(server) = MailServer::start().await else { return };
    let app = Setting::default().mailer(smtp(&server.url())).start().await;
    let log = Log::start();
    for to in ["hanako@tsubaki.test", "refuse-550@tsubaki.test", "refuse-mail-451@tsubaki.test"] {
        push(&app, &mail_to(to), None).await;
    }
    assert_eq!(app.send_mails().await, 3);

    let text = log.text();
    assert!(text.contains("Gave up mail"), "the log was on: {text}");
    for secret in ["tsubaki.test", "サインイン", "花子", "0123456789-ABCDEF", "href", "not wanted"]
    {
        assert!(!text.contains(secret), "the log holds {secret}: {text}");
    }
}

#[tokio::test]
async fn a_mail_that_is_out_of_date_is_not_sent() {
    let app = TestApp::start().await;
    let expires_at = Some(beginning() + TimeDelta::minutes(15));
    let link = |to: &str| Mail { expires_at, ..mail_to(to) };
    push(&app, &link("early@tsubaki.test"), None).await;
    app.clock.advance(TimeDelta::minutes(14));
    assert_eq!(app.send_mails().await, 1);
    push(&app, &link("late@tsubaki.test"), None).await;
    app.clock.advance(TimeDelta::minutes(1));
    assert_eq!(app.send_mails().await, 1);

    let sent: Vec<_> = app.outbox.mails().into_iter().map(|mail| mail.to).collect();
    assert_eq!(sent, ["early@tsubaki.test"]);
    assert_eq!(rows(&app).await[1].state, "DEAD");
}

/// Takes the first mail and fails all the same, as when the answer is lost.
struct Forgetful {
    mailer: SmtpMailer,
    has_forgotten: AtomicBool,
}

impl Mailer for Forgetful {
    fn send<'a>(&'a self, letter: &'a Letter) -> BoxFuture<'a, Result<(), MailFailure>> {
        async {
            self.mailer.send(letter).await?;
            match self.has_forgotten.swap(true, Ordering::SeqCst) {
                true => Ok(()),
                false => Err(MailFailure::Unavailable("the answer was lost".to_owned())),
            }
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_mail_whose_answer_was_lost_is_sent_again_under_the_same_id() {
    let Some(server) = MailServer::start().await else { return };
    let mailer = Forgetful { mailer: smtp(&server.url()), has_forgotten: AtomicBool::new(false) };
    let app = Setting::default().mailer(mailer).start().await;
    push(&app, &mail_to("hanako@tsubaki.test"), None).await;
    for _ in 0..3 {
        app.send_mails().await;
        app.clock.advance(TimeDelta::minutes(1));
    }

    let mails = server.takes(2).await;
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0]["messageId"], mails[1]["messageId"]);
    assert_eq!(mails[0]["headers"].as_array().unwrap()[0], mails[1]["headers"][0]);
}

#[tokio::test]
async fn no_address_and_no_subject_brings_a_header_of_its_own() {
    let folder = TempDir::new().unwrap();
    let Some(server) = MailServer::start().await else { return };
    let files = MailFolder::new(folder.path().join("mail"), FROM, PUBLIC_URL).unwrap();
    let mailers: [&dyn Mailer; 2] = [&smtp(&server.url()), &files];
    let app = TestApp::start().await;
    let mut bad = Vec::new();
    for end in ["\r\nBcc: eve@evil.test", "\nBcc: eve@evil.test", "\r", "\0", "\u{2028}X: y"] {
        let subject = format!("Hello{end}");
        bad.push(Mail { subject, ..mail_to("hanako@tsubaki.test") });
        bad.push(mail_to(&format!("hanako@tsubaki.test{end}")));
        bad.push(mail_to(&format!("hanako{end}@tsubaki.test")));
    }
    for to in ["", "hanako", "a@b.test, eve@evil.test", "<eve@evil.test>", "花子@tsubaki.test"] {
        bad.push(mail_to(to));
    }

    for mail in bad {
        let mut txn = app.app.db.begin().await.unwrap();
        assert!(mail::push(&app.app, &mut txn, &mail, None).await.is_err(), "{}", mail.to);
        txn.rollback().await.unwrap();
        for mailer in mailers {
            let outcome = mailer.send(&letter("1", mail.clone())).await;
            let refusal = outcome.unwrap_err();
            assert!(matches!(refusal, MailFailure::Refused(_)), "{refusal} {:?}", mail.to);
        }
    }
    assert_eq!(server.connections(), 0);
    assert!(!folder.path().join("mail").exists());
}

#[tokio::test]
async fn a_password_is_told_to_nobody_but_the_server() {
    let settings = MailSettings { needs_auth: true, ..MailSettings::default() };
    let Some(plain) = MailServer::start_with(settings).await else { return };
    let settings = MailSettings { is_encrypted: true, ..MailSettings::default() };
    let Some(untrusted) = MailServer::start_with(settings).await else { return };
    let mail = letter("1", mail_to("hanako@tsubaki.test"));

    // Not this machine by its name, and no STARTTLS; then a certificate that nobody trusts.
    for url in [
        format!("smtp://user:pass@0.0.0.0:{}", plain.port()),
        format!("smtps://user:pass@localhost:{}", untrusted.port()),
    ] {
        let failure = smtp(&url).send(&mail).await.unwrap_err();
        assert!(matches!(failure, MailFailure::Unavailable(_)), "{failure}");
        assert!(!failure.to_string().contains("pass"), "{failure}");
    }
    assert_eq!(plain.connections(), 1);
    for server in [&plain, &untrusted] {
        assert!(server.sign_ins().is_empty() && server.mails().is_empty());
    }

    // On this machine nobody else listens.
    let url = format!("smtp://no-reply%40musubi.example:p%25%3A%2F@127.0.0.1:{}", plain.port());
    smtp(&url).send(&mail).await.unwrap();
    let seen =
        json!({ "user": "no-reply@musubi.example", "password": "p%:/", "isEncrypted": false });
    assert_eq!(plain.sign_ins(), [seen]);
    assert_eq!(plain.takes(1).await.len(), 1);
}

#[tokio::test]
async fn a_talk_that_was_cut_off_does_not_confuse_the_next() {
    let Some(server) = MailServer::start().await else { return };
    let mailer = smtp_within(&server.url(), Duration::from_secs(2));
    let hung = mailer.send(&letter("1", mail_to("hang@tsubaki.test"))).await;
    assert!(matches!(hung, Err(MailFailure::Unavailable(_))), "{hung:?}");

    let good = letter("2", mail_to("hanako@tsubaki.test"));
    until("the server takes a mail", async || mailer.send(&good).await.ok()).await;
    for mail in server.takes(1).await {
        assert_eq!(mail["to"], json!(["hanako@tsubaki.test"]));
        assert_eq!(mail["messageId"], "<2@musubi.example>");
    }
    assert!(server.connections() >= 2);
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_refused_without_the_password() {
    let new = |url: &str, from: &str, public_url: &str| {
        SmtpMailer::new((&Secret(url.to_owned()), None), from, public_url, Duration::from_secs(1))
            .map(|mailer| format!("{mailer:?}"))
    };
    for url in [
        "http://127.0.0.1:25",
        "smtp://",
        "smtp://user@127.0.0.1",
        "smtp://u:pass@127.0.0.1/path",
        "smtp://u:pass@127.0.0.1?tls=none",
        "smtp://u:pass%zz@127.0.0.1",
        "127.0.0.1:25",
    ] {
        let refusal = new(url, FROM, PUBLIC_URL).unwrap_err();
        assert_eq!(refusal, InvalidMailSettings::Server, "{url}");
        assert!(!refusal.to_string().contains("pass@"), "{refusal}");
    }
    for url in ["smtp://localhost", "smtp://[::1]:2525", "smtps://u:pass@smtp.example"] {
        let mailer = new(url, "no-reply@musubi.example", PUBLIC_URL).unwrap();
        assert!(!mailer.contains("pass"), "{mailer}");
    }
    let from = |from: &str| new("smtp://localhost", from, PUBLIC_URL).unwrap_err();
    assert_eq!(from("Musubi"), InvalidMailSettings::From);
    assert_eq!(from("Musubi <a@b.test>\r\nBcc: c@d.test"), InvalidMailSettings::From);
    let host = new("smtp://localhost", FROM, "musubi").unwrap_err();
    assert_eq!(host, InvalidMailSettings::PublicUrl);
}

#[tokio::test]
async fn without_a_server_mails_are_files_that_only_we_may_read() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("mail");
    let log = Log::start();
    // Another start goes on counting.
    for id in ["a", "b"] {
        let mailer = MailFolder::new(folder.clone(), FROM, PUBLIC_URL).unwrap();
        mailer.send(&letter(id, mail_to("hanako@tsubaki.test"))).await.unwrap();
    }

    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["001.eml", "002.eml"]);
    let path = folder.join("002.eml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    for part in [SUBJECT, TEXT, HTML, "To: hanako@tsubaki.test\n", "<b@musubi.example>", FROM] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let logged = log.text();
    assert!(logged.contains("002.eml"), "{logged}");
    assert!(!logged.contains("hanako") && !logged.contains("サインイン"), "{logged}");
}
