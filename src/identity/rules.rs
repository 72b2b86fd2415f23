//! What values of people and tenants are accepted. Everything that is wrong is told at once.

use serde_json::Value;

use crate::error::{Error, Result, Violation};
use crate::text::email_address;

/// Origins that a site may have.
const ORIGINS_MAX: usize = 10;

/// Refusals while an input is read.
#[derive(Debug, Default)]
pub struct Refusals(Vec<Violation>);

impl Refusals {
    /// Refused, if anything was.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }

    /// Refuses a value.
    pub fn add(&mut self, field: &str, ja: impl Into<String>, en: impl Into<String>) {
        self.0.push(Violation::new(field, ja, en));
    }

    /// A name of 1 to 100 characters.
    pub fn name(&mut self, field: &str, name: &str) {
        let letters = name.trim().chars().count();
        if !(1..=100).contains(&letters) || name.contains(char::is_control) {
            self.add(field, "1〜100文字で指定してください。", "must have 1 to 100 characters");
        }
    }

    /// A text of at most so many characters.
    pub fn text(&mut self, field: &str, text: Option<&str>, max: usize) {
        if text.is_some_and(|text| text.chars().count() > max || text.contains('\0')) {
            let ja = format!("{max}文字以内で指定してください。");
            self.add(field, ja, format!("must have at most {max} characters"));
        }
    }

    /// A language that we write.
    pub fn locale(&mut self, field: &str, locale: &str) {
        if !matches!(locale, "ja" | "en") {
            self.add(field, "jaまたはenを指定してください。", "must be ja or en");
        }
    }

    /// A zone by its IANA name.
    pub fn time_zone(&mut self, field: &str, zone: &str) {
        if zone.parse::<chrono_tz::Tz>().is_err() {
            let ja = "IANAのタイムゾーン名を指定してください。";
            self.add(field, ja, "must be the IANA name of a zone");
        }
    }

    /// An address that mail can be sent to.
    pub fn email(&mut self, field: &str, email: &str) {
        if email_address(email).is_none() {
            let ja = "メールアドレスの形式が正しくありません。";
            self.add(field, ja, "must be an e-mail address");
        }
    }

    /// A tenant's name in addresses.
    pub fn slug(&mut self, field: &str, slug: &str) {
        let is_part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if !(3..=40).contains(&slug.len()) || !slug.split('-').all(is_part) {
            let ja = "英小文字・数字・ハイフンで3〜40文字を指定してください。";
            let en = "must be 3 to 40 lower-case letters, digits and single hyphens within";
            self.add(field, ja, en);
        }
    }

    /// An address of a page, by https.
    pub fn web_address(&mut self, field: &str, address: &str) {
        let host = address.strip_prefix("https://").and_then(|rest| rest.split('/').next());
        let is_plain = address.chars().all(|letter| letter.is_ascii_graphic());
        if !is_plain || address.len() > 300 || !host.is_some_and(is_host_and_port) {
            let ja = "https:// で始まるアドレスを300文字以内で指定してください。";
            self.add(field, ja, "must be an https address of at most 300 characters");
        }
    }

    /// A web hook of Slack.
    pub fn slack_hook(&mut self, field: &str, address: &str) {
        let path = address.strip_prefix("https://hooks.slack.com/services/");
        let is_path = path.is_some_and(|path| {
            let is_step = |step: &str| {
                !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_alphanumeric())
            };
            path.split('/').count() == 3 && path.split('/').all(is_step)
        });
        if !is_path || address.len() > 300 {
            let ja = "https://hooks.slack.com/services/ で始まるアドレスを指定してください。";
            let en = "must be an address https://hooks.slack.com/services/…/…/…";
            self.add(field, ja, en);
        }
    }

    /// A site's domain: a host name in lower case.
    pub fn domain(&mut self, field: &str, domain: &str) {
        let is_lower = !domain.bytes().any(|byte| byte.is_ascii_uppercase());
        if !is_lower || !is_host(domain) {
            let ja = "ドメイン名を英小文字で指定してください。";
            self.add(field, ja, "must be a host name in lower case");
        }
    }

    /// A site's origins: exact ones by https; while developing, also this machine's by http.
    pub fn origins(&mut self, field: &str, origins: &[String], is_production: bool) {
        if origins.len() > ORIGINS_MAX {
            let ja = format!("{ORIGINS_MAX}件以内で指定してください。");
            self.add(field, ja, format!("must be at most {ORIGINS_MAX}"));
        }
        for (place, origin) in origins.iter().enumerate().take(ORIGINS_MAX) {
            if !is_origin(origin, is_production) {
                let ja = "https://ホスト名 の形で、パスなしで指定してください。";
                let en = "must be https:// and a host in lower case, without a path";
                self.add(&format!("{field}.{place}"), ja, en);
            }
        }
    }
}

/// The texts of a JSON list.
pub fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn is_origin(origin: &str, is_production: bool) -> bool {
    let is_lower = !origin.bytes().any(|byte| byte.is_ascii_uppercase());
    if let Some(host) = origin.strip_prefix("https://") {
        return is_lower && is_host_and_port(host) && !host.ends_with(":443");
    }
    let Some(host) = origin.strip_prefix("http://") else { return false };
    let name = host.split(':').next().unwrap_or_default();
    let is_here = matches!(name, "localhost" | "127.0.0.1");
    !is_production && is_here && is_host_and_port(host)
}

fn is_host_and_port(text: &str) -> bool {
    match text.split_once(':') {
        Some((host, port)) => {
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            is_host(host) && is_number && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => is_host(text),
    }
}

/// A name of the DNS: labels of 1 to 63 letters, digits and inner hyphens.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}
