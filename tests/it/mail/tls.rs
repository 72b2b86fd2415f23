//! Mail over TLS, with an authority of our own: by either way, and to nobody else.

use std::time::Duration;

use musubi::config::Secret;
use musubi::external::mail::{InvalidMailSettings, MailFailure, Mailer, SmtpMailer};
use serde_json::json;

use super::{FROM, PUBLIC_URL, letter, mail_to};
use crate::support::authority::Authority;
use crate::support::doubles::{MailServer, MailSettings};
use crate::support::process::Home;

/// This machine under a name that is not known for it, so that nothing is said in the clear.
const NAMES: &str = "DNS:localhost,IP:0.0.0.0";
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that talks TLS from the first byte, or offers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Smtps,
    StartTls,
}

impl Way {
    async fn serve(self, authority: &Authority, names: &str) -> Option<MailServer> {
        MailServer::start_with(MailSettings {
            is_encrypted: self == Self::Smtps,
            offers_encryption: self == Self::StartTls,
            certificate: Some(authority.certify(names)),
            needs_auth: true,
            port: None,
        })
        .await
    }

    fn url(self, server: &MailServer) -> String {
        match self {
            Self::Smtps => format!("smtps://user:pass@localhost:{}", server.port()),
            Self::StartTls => format!("smtp://user:pass@0.0.0.0:{}", server.port()),
        }
    }
}

fn trusting(url: String, authority: Option<&Authority>) -> SmtpMailer {
    let pem = authority.map(Authority::pem);
    SmtpMailer::new((&Secret(url), pem.as_deref()), FROM, PUBLIC_URL, PATIENCE).unwrap()
}

#[tokio::test]
async fn mail_goes_by_smtps_and_by_starttls_where_the_authority_is_known() {
    let Some(authority) = Authority::make() else { return };
    for way in [Way::Smtps, Way::StartTls] {
        let Some(server) = way.serve(&authority, NAMES).await else { return };
        let mailer = trusting(way.url(&server), Some(&authority));
        for number in ["1", "2"] {
            mailer.send(&letter(number, mail_to("hanako@tsubaki.test"))).await.unwrap();
        }
        let seen = json!({ "user": "user", "password": "pass", "isEncrypted": true });
        assert_eq!(server.sign_ins(), [seen], "{way:?}: one connection for both");
        for mail in server.takes(2).await {
            assert_eq!(
                (&mail["isEncrypted"], &mail["to"][0]),
                (&json!(true), &json!("hanako@tsubaki.test"))
            );
        }
    }
}

#[tokio::test]
async fn a_relay_that_offers_starttls_is_talked_to_in_secret_and_never_otherwise() {
    let Some(authority) = Authority::make() else { return };
    let settings = MailSettings {
        offers_encryption: true,
        certificate: Some(authority.certify(NAMES)),
        ..MailSettings::default()
    };
    let Some(relay) = MailServer::start_with(settings).await else { return };
    let url = || format!("smtp://0.0.0.0:{}", relay.port());
    let mail = letter("1", mail_to("hanako@tsubaki.test"));

    let distrusted = trusting(url(), None).send(&mail).await;
    assert!(matches!(distrusted, Err(MailFailure::Unavailable(_))), "{distrusted:?}");
    assert!(relay.mails().is_empty());
    trusting(url(), Some(&authority)).send(&mail).await.unwrap();
    assert_eq!(relay.takes(1).await[0]["isEncrypted"], true);
}

#[tokio::test]
async fn a_server_of_another_name_or_of_another_authority_learns_no_password() {
    let (Some(authority), Some(other)) = (Authority::make(), Authority::make()) else { return };
    for way in [Way::Smtps, Way::StartTls] {
        let Some(elsewhere) = way.serve(&authority, "DNS:mail.elsewhere.test").await else {
            return;
        };
        let Some(here) = way.serve(&authority, NAMES).await else { return };
        let tries = [
            (&elsewhere, Some(&authority), "another name"),
            (&here, Some(&other), "another authority"),
            (&here, None, "no authority of ours"),
        ];
        for (server, trusted, what) in tries {
            let mailer = trusting(way.url(server), trusted);
            let sent = mailer.send(&letter("1", mail_to("hanako@tsubaki.test"))).await;
            let failure = sent.unwrap_err();
            assert!(matches!(failure, MailFailure::Unavailable(_)), "{way:?}, {what}: {failure}");
            assert!(!failure.to_string().contains("pass"), "{failure}");
            assert!(server.sign_ins().is_empty() && server.mails().is_empty(), "{what}");
        }
    }
}

#[tokio::test]
async fn the_program_trusts_the_authority_in_the_file_that_it_is_told() {
    let Some(authority) = Authority::make() else { return };
    let Some(server) = Way::Smtps.serve(&authority, NAMES).await else { return };
    let home = Home::hotel(1)
        .await
        .with("EMAIL_SERVER", &Way::Smtps.url(&server))
        .with("EMAIL_FROM", "no-reply@musubi.test")
        .with("EMAIL_CA_FILE", authority.path().to_str().unwrap());
    let mut process = home.serve().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = http
        .post(format!("http://{}/auth/email", process.address()))
        .header("content-type", "application/json")
        .body(json!({ "email": "nobody@example.test" }).to_string());
    assert_eq!(asked.send().await.unwrap().status().as_u16(), 202);
    let mail = server.takes(1).await.remove(0);
    assert_eq!(
        (&mail["isEncrypted"], &mail["to"][0]),
        (&json!(true), &json!("nobody@example.test"))
    );
    process.stop().await;
}

#[tokio::test]
async fn what_holds_no_certificate_is_no_authority() {
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in ["", "no certificate", "-----BEGIN CERTIFICATE-----\n!\n", broken] {
        let server = Secret("smtps://smtp.example".to_owned());
        let refused = SmtpMailer::new((&server, Some(pem)), FROM, PUBLIC_URL, PATIENCE);
        assert_eq!(refused.err(), Some(InvalidMailSettings::Authority), "{pem:?}");
    }
}
