//! What identity refuses.

use crate::error::{Code, DomainError, Lang};

/// A refusal.
#[derive(Debug)]
pub enum IdentityError {
    /// A tenant has as many of these as it may.
    TooMany {
        /// What there are too many of, in English.
        what: &'static str,
        /// How many there may be.
        max: u64,
    },
    /// The last ADMIN of a tenant stays one.
    LastAdmin,
    /// The object changed since the version that the caller named.
    StaleVersion {
        /// The version that it has now.
        current: i64,
    },
    /// The person is a member already.
    AlreadyMember,
    /// The invitation is over, used or revoked.
    InvitationOver,
    /// Another tenant has a site of that domain, or a name is taken.
    Taken {
        /// The input path, dots between its steps.
        field: &'static str,
    },
    /// Somebody else signs in with this account of the provider.
    AccountTaken,
    /// It is the only way left to sign in.
    LastWay,
    /// The tenant was closed.
    TenantClosed,
    /// The link or the code is over, or was used before.
    LinkOver,
    /// The provider does not say that the address is theirs.
    AddressUnverified,
    /// An account with this address is there, but never proved the address.
    LinkNeedsProof,
    /// Nobody with this address may come in here.
    Unknown,
    /// The hand-over was not begun in this browser.
    NotBegunHere,
    /// A hand-over needs the person's consent.
    ConsentMissing,
    /// The months of an open credit account are counted in the tenant's zone.
    ZoneInUse,
}

impl DomainError for IdentityError {
    fn code(&self) -> Code {
        match self {
            Self::StaleVersion { .. } => Code::StaleVersion,
            Self::TooMany { .. } => Code::LimitReached,
            Self::LastAdmin
            | Self::AlreadyMember
            | Self::InvitationOver
            | Self::AccountTaken
            | Self::LastWay
            | Self::TenantClosed
            | Self::LinkOver
            | Self::NotBegunHere
            | Self::AddressUnverified
            | Self::LinkNeedsProof
            | Self::Unknown
            | Self::ZoneInUse => Code::InvalidState,
            Self::Taken { .. } | Self::ConsentMissing => Code::InvalidInput,
        }
    }

    fn message(&self, lang: Lang) -> String {
        match self {
            Self::TooMany { what, max } => lang.pick(
                format!("上限（{max}件）に達しています。"),
                format!("There are {max} {what} already, as many as there may be."),
            ),
            Self::LastAdmin => lang.pick(
                "最後の管理者を外すことはできません。",
                "The last ADMIN of a tenant stays one.",
            ),
            Self::StaleVersion { .. } => lang.pick(
                "ほかの変更が先に行われました。読み直してください。",
                "It was changed meanwhile. Please read it again.",
            ),
            Self::AlreadyMember => lang.pick("すでにメンバーです。", "They are a member already."),
            Self::InvitationOver => lang.pick(
                "この招待は無効か、期限が切れています。",
                "This invitation is over or was used.",
            ),
            Self::Taken { .. } => lang.pick("すでに使われています。", "This is taken."),
            Self::AccountTaken => lang.pick(
                "このアカウントはほかのユーザーに連携されています。",
                "Somebody else signs in with this account.",
            ),
            Self::LastWay => lang.pick(
                "サインイン手段がなくなるため解除できません。",
                "It is the only way left to sign in.",
            ),
            Self::TenantClosed => {
                lang.pick("このテナントは閉鎖されています。", "The tenant was closed.")
            }
            Self::LinkOver => lang.pick(
                "このリンクは無効か、期限が切れています。もう一度お試しください。",
                "This link is over or was used before. Please ask for a new one.",
            ),
            Self::AddressUnverified => lang.pick(
                "連携先で確認済みのメールアドレスが必要です。",
                "The provider has no verified e-mail address of yours.",
            ),
            Self::LinkNeedsProof => lang.pick(
                "このメールアドレスのアカウントがあります。メールでサインインしてから連携してください。",
                "There is an account with this address. Sign in by e-mail, then link this one.",
            ),
            Self::Unknown => lang.pick(
                "このメールアドレスは登録されていません。管理者に招待を依頼してください。",
                "This address is not known here. Ask an administrator to invite you.",
            ),
            Self::NotBegunHere => lang.pick(
                "このブラウザーで開始されていないため、引き継ぎを完了できません。",
                "This was not begun in this browser. Please begin again.",
            ),
            Self::ConsentMissing => lang.pick(
                "サイト間の引き継ぎには同意が必要です。",
                "Going on to the other site needs your consent.",
            ),
            Self::ZoneInUse => lang.pick(
                "クレジット口座の開設後は、タイムゾーンを変更できません。",
                "The time zone stays once the tenant has a credit account.",
            ),
        }
    }

    fn field(&self) -> Option<Vec<String>> {
        match self {
            Self::Taken { field } => Some(field.split('.').map(str::to_owned).collect()),
            Self::ZoneInUse => Some(vec!["input".to_owned(), "timeZone".to_owned()]),
            _ => None,
        }
    }

    fn details(&self) -> crate::error::Details {
        match self {
            Self::StaleVersion { current } => {
                crate::error::Details::StaleVersion { current_version: *current }
            }
            _ => crate::error::Details::None,
        }
    }
}
