//! Personal text for those who may not read it. Parsed part by part; what is not understood is
//! hidden whole. The formats are in the README, under "Operating it".

/// What stands for all that is hidden.
const HIDDEN: &str = "***";
/// Letters of a local part that are shown at most; never more than half of it.
const LETTERS_MAX: usize = 2;
/// Bytes of a domain at most (RFC 1035 §2.3.4).
const DOMAIN_BYTES_MAX: usize = 253;

/// `ta***@tsubaki.test`: at most two letters of the local part and never more than half of it,
/// then the domain. A local part's letters are shown up to the first that is no letter A to Z and
/// no digit; a domain that is no plain name is hidden; two signs `@` hide everything.
pub fn email(address: &str) -> String {
    let parts: Vec<&str> = address.trim().split('@').collect();
    let &[local, domain] = parts.as_slice() else { return HIDDEN.to_owned() };
    let shown = LETTERS_MAX.min(local.chars().count() / 2);
    let start: String = local.chars().take(shown).take_while(char::is_ascii_alphanumeric).collect();
    let domain = if is_plain_domain(domain) { domain } else { HIDDEN };
    format!("{start}{HIDDEN}@{domain}")
}

/// `090-***-5678`: the first three and the last four of 10 or 11 digits, `+81` read as a 0; of a
/// number abroad, `+` and 10 to 15 digits, the last four: `***-5678`. All else is hidden.
pub fn phone(number: &str) -> String {
    let Some(Digits { is_abroad, digits }) = Digits::read(number) else { return HIDDEN.to_owned() };
    let (Some(start), Some(end)) = (digits.get(..3), digits.get(digits.len() - 4..)) else {
        return HIDDEN.to_owned();
    };
    if is_abroad { format!("{HIDDEN}-{end}") } else { format!("{start}-{HIDDEN}-{end}") }
}

/// `[REDACTED]`, whatever it says; nothing when there is nothing.
pub fn note(text: &str) -> &'static str {
    if text.trim().is_empty() { "" } else { "[REDACTED]" }
}

/// `****abcd`: the last four characters of a secret that is much longer.
pub fn secret(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    match letters.len().checked_sub(4) {
        Some(hidden) if hidden >= 16 => {
            format!("****{}", letters.iter().skip(hidden).collect::<String>())
        }
        Some(_) | None => "****".to_owned(),
    }
}

/// Labels of letters, digits and hyphens with dots between them.
fn is_plain_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    domain.len() <= DOMAIN_BYTES_MAX && domain.split('.').all(is_label)
}

/// The digits of a telephone number.
struct Digits {
    is_abroad: bool,
    digits: String,
}

impl Digits {
    /// Full-width signs count as their narrow ones. None: it is no number of a usual length.
    fn read(number: &str) -> Option<Self> {
        let narrow: String = number.trim().chars().map(narrow).collect();
        let (is_international, rest) = match narrow.strip_prefix('+') {
            Some(rest) => (true, rest),
            None => (false, narrow.as_str()),
        };
        let is_sign = |letter: char| matches!(letter, ' ' | '-' | '(' | ')' | '.');
        if !rest.chars().all(|letter| letter.is_ascii_digit() || is_sign(letter)) {
            return None;
        }
        let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
        let national = match digits.strip_prefix("81") {
            Some(rest) if is_international => Some(format!("0{}", rest.trim_start_matches('0'))),
            _ if is_international => None,
            _ => Some(digits.clone()),
        };
        let is_abroad = national.is_none();
        let digits = national.unwrap_or(digits);
        let usual = if is_abroad { 10..=15 } else { 10..=11 };
        usual.contains(&digits.len()).then_some(Self { is_abroad, digits })
    }
}

/// The narrow form of a full-width digit or sign.
fn narrow(letter: char) -> char {
    match letter {
        '０'..='９' | '＋' | '（' | '）' | '．' | '－' => {
            char::from_u32(u32::from(letter) - 0xFEE0).unwrap_or(letter)
        }
        '\u{3000}' => ' ',
        'ー' | '‐' | '−' => '-',
        other => other,
    }
}
