//! Discord and GitHub tell who somebody is, and what happens when they do not.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use musubi::config::{OauthSettings, Secret};
use musubi::external::oauth::{Identity, InvalidProvider, OauthFailure, Provider, Providers};
use serde_json::json;

use crate::support::Setting;
use crate::support::doubles::{OauthServer, query, quiet_port};
use crate::support::log::Log;
use crate::support::process::Home;

const REDIRECT_URI: &str = "http://localhost:3200/auth/callback?from=アプリ";
const VERIFIER: &str = "a-verifier-of-43-characters-at-least_0123456789";

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, VERIFIER.as_bytes()))
}

fn authorize_url(providers: &Providers, provider: Provider) -> String {
    providers.authorize_url(provider, "the state & more", &challenge(), REDIRECT_URI).unwrap()
}

/// Somebody says yes: the code that comes back.
async fn code(server: &OauthServer, providers: &Providers, provider: Provider) -> String {
    let back = server.follow(&authorize_url(providers, provider)).await;
    query(&back, "code").unwrap()
}

/// From the button to the answer.
async fn identify(
    server: &OauthServer,
    providers: &Providers,
    provider: Provider,
) -> Result<Identity, OauthFailure> {
    let code = code(server, providers, provider).await;
    providers.identify(provider, &code, VERIFIER, REDIRECT_URI).await
}

#[tokio::test]
async fn both_providers_tell_who_somebody_is() {
    let Some(server) = OauthServer::start().await else { return };
    let app = Setting::default().oauth(server.providers()).start().await.app;
    assert_eq!(app.oauth.offered().collect::<Vec<_>>(), Provider::ALL);

    for (provider, scope) in
        [(Provider::Discord, "identify email"), (Provider::Github, "read:user,user:email")]
    {
        server.is("583231", "椿 花子", Some("hanako@tsubaki.test"), true).await;
        let back = server.follow(&authorize_url(&app.oauth, provider)).await;
        assert!(back.as_str().starts_with("http://localhost:3200/auth/callback?"), "{back}");
        assert_eq!(query(&back, "state").unwrap(), "the state & more");
        assert_eq!(query(&back, "from").unwrap(), "アプリ");
        let code = query(&back, "code").unwrap();
        // Whoever says yes later is somebody else.
        server.is("1", "Eve", Some("eve@evil.test"), true).await;

        let told = app.oauth.identify(provider, &code, VERIFIER, REDIRECT_URI).await.unwrap();
        assert_eq!(told.provider_account_id, "583231");
        assert_eq!(told.name, "椿 花子");
        assert_eq!(told.email.as_deref(), Some("hanako@tsubaki.test"));
        assert!(told.is_email_verified);
        assert_eq!(told.scope, scope);
        assert_eq!(format!("{told:?}"), "Identity");
    }
}

#[tokio::test]
async fn only_a_primary_and_verified_address_is_told() {
    let Some(server) = OauthServer::start().await else { return };
    let providers = server.providers();
    let told = async |provider| {
        let told = identify(&server, &providers, provider).await.unwrap();
        assert_eq!(told.provider_account_id, "583231");
        assert_eq!(told.is_email_verified, told.email.is_some());
        told.email
    };
    for provider in [Provider::Discord, Provider::Github] {
        server.is("583231", "花子", Some("hanako@tsubaki.test"), false).await;
        assert_eq!(told(provider).await, None);
        server.is("583231", "花子", None, true).await;
        assert_eq!(told(provider).await, None);
        for email in ["", "hanako", "a b@c.test", "a@b.test\r\nBcc: eve@evil.test", "@", "a@"] {
            server.is("583231", "花子", Some(email), true).await;
            assert_eq!(told(provider).await, None, "{email}");
        }
    }
    let entry = |email: &str, is_primary: bool, is_verified: bool| {
        json!({ "email": email, "primary": is_primary, "verified": is_verified,
                "visibility": null })
    };
    let others = entry("other@tsubaki.test", false, true);
    server.control(json!({ "emails": [others, entry("own@tsubaki.test", true, false)] })).await;
    assert_eq!(told(Provider::Github).await, None);
    server.control(json!({ "emails": [others, entry("own@tsubaki.test", true, true)] })).await;
    assert_eq!(told(Provider::Github).await.as_deref(), Some("own@tsubaki.test"));
    // GitHub does not let us see them.
    server.fails("emails", "403").await;
    assert_eq!(told(Provider::Github).await, None);
}

#[tokio::test]
async fn a_code_is_good_once_for_its_own_verifier_address_and_client() {
    let Some(server) = OauthServer::start().await else { return };
    let providers = server.providers();
    let mut settings = server.settings();
    for client in [&mut settings.discord, &mut settings.github] {
        client.as_mut().unwrap().secret = Secret("another-secret".to_owned());
    }
    let strangers = Providers::new(&settings, Duration::from_secs(60)).unwrap();
    let other_verifier = VERIFIER.replace("verifier", "VERIFIER");
    for provider in [Provider::Discord, Provider::Github] {
        let fresh = async || code(&server, &providers, provider).await;
        let is_refused = async |providers: &Providers, code: &str, verifier: &str, uri: &str| {
            let failure = providers.identify(provider, code, verifier, uri).await.unwrap_err();
            assert!(matches!(failure, OauthFailure::Refused(_)), "{failure}");
            let text = failure.to_string();
            assert!(!text.contains("secret") && !text.contains(code), "{text}");
            text
        };
        let code = fresh().await;
        is_refused(&providers, &code, &other_verifier, REDIRECT_URI).await;
        is_refused(&providers, &code, VERIFIER, REDIRECT_URI).await;
        let code = fresh().await;
        let text = is_refused(&providers, &code, VERIFIER, "http://localhost:3200/auth").await;
        assert_eq!(text, "refused: invalid_grant");
        let code = fresh().await;
        let text = is_refused(&strangers, &code, VERIFIER, REDIRECT_URI).await;
        assert_eq!(text, "refused: invalid_client");
        let code = fresh().await;
        providers.identify(provider, &code, VERIFIER, REDIRECT_URI).await.unwrap();
        is_refused(&providers, &code, VERIFIER, REDIRECT_URI).await;
        is_refused(&providers, "no-such-code", VERIFIER, REDIRECT_URI).await;
    }
}

#[tokio::test]
async fn who_says_no_comes_back_without_a_code() {
    let Some(server) = OauthServer::start().await else { return };
    server.control(json!({ "denies": true })).await;
    for provider in [Provider::Discord, Provider::Github] {
        let back = server.follow(&authorize_url(&server.providers(), provider)).await;
        assert_eq!(query(&back, "error").as_deref(), Some("access_denied"));
        assert_eq!(query(&back, "code"), None);
        assert_eq!(query(&back, "state").as_deref(), Some("the state & more"));
    }
}

#[tokio::test]
async fn a_provider_that_fails_is_told_from_one_that_talks_nonsense() {
    let Some(server) = OauthServer::start().await else { return };
    let providers = server.providers();
    let places = [
        (Provider::Discord, "token"),
        (Provider::Discord, "user"),
        (Provider::Github, "token"),
        (Provider::Github, "user"),
        (Provider::Github, "emails"),
    ];
    for (provider, place) in places {
        let fails = async |kind: &str| {
            server.fails(place, kind).await;
            identify(&server, &providers, provider).await.unwrap_err()
        };
        let away = OauthFailure::Unavailable("HTTP 500".to_owned());
        assert_eq!(fails("500").await, away, "{provider} {place}");
        for kind in ["huge", "garbage", "redirect"] {
            let failure = fails(kind).await;
            let is_nonsense = matches!(failure, OauthFailure::Nonsense(_));
            assert!(is_nonsense, "{provider} {place} {kind}: {failure}");
        }
        if place != "emails" {
            assert_eq!(fails("403").await, OauthFailure::Refused("HTTP 403".to_owned()));
        }
    }
    // Five times for its own faults, four times before those of `emails`, never for a redirection.
    assert_eq!(server.asked("/github/user").await, 9);

    server.control(json!({ "fault": null })).await;
    server.is("../users/1", "花子", None, false).await;
    let failure = identify(&server, &providers, Provider::Discord).await.unwrap_err();
    assert_eq!(failure, OauthFailure::Nonsense("has no id of the person"));
}

#[tokio::test]
async fn a_provider_that_is_slow_or_away_is_unavailable() {
    let Some(server) = OauthServer::start().await else { return };
    let hasty = server.providers_within(Duration::from_millis(500));
    for (provider, place) in [(Provider::Discord, "token"), (Provider::Github, "user")] {
        server.fails(place, "hang").await;
        let failure = identify(&server, &hasty, provider).await.unwrap_err();
        assert!(matches!(failure, OauthFailure::Unavailable(_)), "{failure}");
    }

    let mut settings = server.settings();
    let discord = settings.discord.as_mut().unwrap();
    discord.token_url = format!("http://127.0.0.1:{}/token", quiet_port());
    let providers = Providers::new(&settings, Duration::from_secs(60)).unwrap();
    let failure = identify(&server, &providers, Provider::Discord).await.unwrap_err();
    assert!(matches!(failure, OauthFailure::Unavailable(_)), "{failure}");
}

#[tokio::test]
async fn nothing_of_a_sign_in_is_logged() {
    let Some(server) = OauthServer::start().await else { return };
    let providers = server.providers();
    let log = Log::start();
    tracing::info!("the log is on");
    let mut codes = Vec::new();
    for fault in [json!(null), json!({ "at": "user", "kind": "403" })] {
        server.control(json!({ "fault": fault })).await;
        let code = code(&server, &providers, Provider::Discord).await;
        let outcome = providers.identify(Provider::Discord, &code, VERIFIER, REDIRECT_URI).await;
        if let Err(failure) = outcome {
            tracing::warn!("{failure}");
        }
        codes.push(code);
    }

    let text = log.text();
    assert!(text.contains("the log is on") && text.contains("HTTP 403"), "{text}");
    let secrets = ["musubi-secret", VERIFIER, "hanako@tsubaki.test", "花子", "eyJ"];
    for secret in secrets.into_iter().chain(codes.iter().map(String::as_str)) {
        assert!(!text.contains(secret), "the log holds {secret}: {text}");
    }
}

#[tokio::test]
async fn only_providers_with_a_client_of_ours_are_offered() {
    let none = Providers::new(&OauthSettings::default(), Duration::from_secs(1)).unwrap();
    assert_eq!(none.offered().count(), 0);
    let refusal = none.authorize_url(Provider::Github, "s", "c", REDIRECT_URI).unwrap_err();
    assert_eq!(refusal, OauthFailure::NotOffered);
    let refusal = none.identify(Provider::Github, "c", VERIFIER, REDIRECT_URI).await.unwrap_err();
    assert_eq!(refusal, OauthFailure::NotOffered);

    let Some(server) = OauthServer::start().await else { return };
    let one = OauthSettings { discord: None, ..server.settings() };
    let one = Providers::new(&one, Duration::from_secs(1)).unwrap();
    assert_eq!(one.offered().collect::<Vec<_>>(), [Provider::Github]);

    for url in ["ftp://127.0.0.1/token", "token", "http://user:pass@127.0.0.1/", "http://a/#b"] {
        let mut settings = server.settings();
        settings.github.as_mut().unwrap().token_url = url.to_owned();
        let refusal = Providers::new(&settings, Duration::from_secs(1)).err();
        assert_eq!(refusal, Some(InvalidProvider::Endpoint(Provider::Github)), "{url}");
    }
}

#[tokio::test]
async fn an_id_without_its_secret_keeps_the_program_from_starting() {
    for (given, missing) in [
        ("DISCORD_CLIENT_ID", "DISCORD_CLIENT_SECRET"),
        ("GITHUB_CLIENT_SECRET", "GITHUB_CLIENT_ID"),
    ] {
        let ran = Home::empty().with(given, "the-value").run(&["serve"]).await;
        assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
        let told = format!("{missing} is missing beside {given}");
        assert!(ran.err.contains(&told) && !ran.err.contains("the-value"), "{}", ran.err);
    }
}
