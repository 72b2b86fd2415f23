//! Doubles of third parties that are packages of npm: a mail server, and Discord with GitHub. The
//! scripts are in the folder `clients`.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use musubi::config::{OauthClient, OauthSettings, Secret};
use musubi::external::oauth::Providers;
use reqwest::Url;
use serde_json::{Value, json};

use super::npm::{self, Script};
use super::process::until;

/// A mail server; gone when dropped.
pub(crate) struct MailServer {
    script: Script,
    port: u16,
}

/// How a mail server listens.
#[derive(Default)]
pub(crate) struct MailSettings {
    /// A free one when absent.
    pub(crate) port: Option<u16>,
    /// Whether it talks TLS from the first byte.
    pub(crate) is_encrypted: bool,
    /// Whether it offers STARTTLS.
    pub(crate) offers_encryption: bool,
    /// Its key and its certificate, in files; one that nobody trusts when absent.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// Whether it takes mails only from who signs in.
    pub(crate) needs_auth: bool,
}

impl MailServer {
    /// None when Node is not there, which is told.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(MailSettings::default()).await
    }

    pub(crate) async fn start_with(settings: MailSettings) -> Option<Self> {
        if !npm::is_ready().await {
            return None;
        }
        let flag = |is_on: bool| if is_on { "1" } else { "0" }.to_owned();
        let mut environment = vec![
            ("SMTP_PORT", settings.port.unwrap_or(0).to_string()),
            ("SMTP_TLS", flag(settings.is_encrypted)),
            ("SMTP_STARTTLS", flag(settings.offers_encryption)),
            ("SMTP_NEEDS_AUTH", flag(settings.needs_auth)),
        ];
        if let Some((key, certificate)) = &settings.certificate {
            environment.push(("SMTP_KEY", key.to_str().unwrap().to_owned()));
            environment.push(("SMTP_CERT", certificate.to_str().unwrap().to_owned()));
        }
        let mut script = Script::start("node", &["smtp.mjs"], npm::folder(), &environment);
        script.says("\"port\"").await;
        let lines = said(&script);
        let port = lines.iter().find_map(|line| line["port"].as_u64()).unwrap();
        Some(Self { script, port: port.try_into().unwrap() })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// For `EMAIL_SERVER`.
    pub(crate) fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// All mails that it took, oldest first: `from`, `to`, `subject`, `text`, `html`, `messageId`,
    /// `headers`, `envelope`.
    pub(crate) fn mails(&self) -> Vec<Value> {
        self.said_of("mail")
    }

    /// Waits for so many mails.
    pub(crate) async fn takes(&self, count: usize) -> Vec<Value> {
        until("the mails come in", async || {
            let mails = self.mails();
            (mails.len() >= count).then_some(mails)
        })
        .await
    }

    /// How often somebody connected.
    pub(crate) fn connections(&self) -> usize {
        self.said_of("connection").len()
    }

    /// Who signed in, and whether anybody could listen: `user`, `password`, `isEncrypted`.
    pub(crate) fn sign_ins(&self) -> Vec<Value> {
        self.said_of("auth")
    }

    fn said_of(&self, what: &str) -> Vec<Value> {
        let said = said(&self.script);
        said.into_iter()
            .filter(|line| !line[what].is_null())
            .map(|line| line[what].clone())
            .collect()
    }
}

/// A free port that the system gives to nobody who asks for any.
pub(crate) fn quiet_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// The script's whole lines.
fn said(script: &Script) -> Vec<Value> {
    let text = script.said();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Discord and GitHub; gone when dropped.
pub(crate) struct OauthServer {
    _script: Script,
    base: String,
    http: reqwest::Client,
}

impl OauthServer {
    /// None when Node is not there, which is told.
    pub(crate) async fn start() -> Option<Self> {
        if !npm::is_ready().await {
            return None;
        }
        let mut script = Script::start("node", &["oauth.mjs"], npm::folder(), &[]);
        script.says("\"base\"").await;
        let base = said(&script).iter().find_map(|line| line["base"].as_str().map(str::to_owned));
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Some(Self { _script: script, base: base.unwrap(), http })
    }

    /// Our clients at both.
    pub(crate) fn settings(&self) -> OauthSettings {
        let client = |name: &str| OauthClient {
            id: "musubi-client".to_owned(),
            secret: Secret("musubi-secret".to_owned()),
            authorize_url: format!("{}/{name}/authorize", self.base),
            token_url: format!("{}/{name}/token", self.base),
            user_url: format!("{}/{name}/user", self.base),
            emails_url: (name == "github").then(|| format!("{}/{name}/emails", self.base)),
        };
        OauthSettings { discord: Some(client("discord")), github: Some(client("github")) }
    }

    /// Both, with patience that suits a test in which they answer.
    pub(crate) fn providers(&self) -> Providers {
        self.providers_within(Duration::from_secs(60))
    }

    pub(crate) fn providers_within(&self, patience: Duration) -> Providers {
        Providers::new(&self.settings(), patience).unwrap()
    }

    /// Says what they do from now on: see the script's head.
    pub(crate) async fn control(&self, wish: Value) {
        let url = format!("{}/control", self.base);
        let reply = self.http.post(url).body(wish.to_string()).send().await.unwrap();
        assert!(reply.status().is_success());
    }

    /// How often a path such as `/github/user` was asked.
    pub(crate) async fn asked(&self, path: &str) -> u64 {
        let reply = self.http.get(format!("{}/control", self.base)).send().await.unwrap();
        let asked: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
        asked[path].as_u64().unwrap_or(0)
    }

    /// Who says yes from now on.
    pub(crate) async fn is(&self, id: &str, name: &str, email: Option<&str>, is_verified: bool) {
        let user = json!({ "id": id, "name": name, "email": email, "verified": is_verified });
        self.control(json!({ "user": user })).await;
    }

    /// Goes where a browser is sent, says yes, and is sent back there: the address with its query.
    pub(crate) async fn follow(&self, authorize_url: &str) -> Url {
        let reply = self.http.get(authorize_url).send().await.unwrap();
        assert_eq!(reply.status().as_u16(), 302, "{authorize_url}");
        let location = reply.headers()["location"].to_str().unwrap();
        Url::parse(location).unwrap()
    }

    /// Makes one path fail.
    pub(crate) async fn fails(&self, at: &str, kind: &str) {
        self.control(json!({ "fault": { "at": at, "kind": kind } })).await;
    }
}

/// A value in the query of an address.
pub(crate) fn query(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
