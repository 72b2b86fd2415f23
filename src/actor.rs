//! Who asks, and what they may do. Every service function begins with [`Actor::require`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::error::{Error, Lang, Result};
use crate::ids::{ApiKeyId, SessionId, TenantId, UserId};
use crate::text_enum;

text_enum! {
    /// A person's role within a tenant.
    Role {
        /// Everything of the tenant, money included.
        Admin = "ADMIN",
        /// Leads, projects, figures and the ledger.
        Manager = "MANAGER",
        /// Inquiries.
        Support = "SUPPORT",
        /// Their own data, and the AI functions.
        User = "USER",
    }
}

text_enum! {
    /// What a role may be allowed. The table is [`Permission::roles`].
    Permission {
        /// Run AI functions, see one's own executions and the balance.
        AiExecute = "AI_EXECUTE",
        /// Run AI functions in the name of another member.
        AiExecuteForOthers = "AI_EXECUTE_FOR_OTHERS",
        /// See executions of everyone in the tenant.
        AiReadAll = "AI_READ_ALL",
        /// See the balance, grants and packages.
        CreditsRead = "CREDITS_READ",
        /// See the ledger.
        LedgerRead = "LEDGER_READ",
        /// See analytics.
        AnalyticsRead = "ANALYTICS_READ",
        /// Buy credits, keep cards, change the plan.
        MoneyManage = "MONEY_MANAGE",
        /// See the tenant's members; addresses are masked for all but ADMINs.
        MembersRead = "MEMBERS_READ",
        /// Invite, change roles, remove.
        MembersManage = "MEMBERS_MANAGE",
        /// Change the tenant's settings and sites, close it.
        TenantManage = "TENANT_MANAGE",
        /// Make and revoke API keys.
        ApiKeysManage = "API_KEYS_MANAGE",
        /// See the audit record.
        AuditRead = "AUDIT_READ",
        /// See leads; personal fields are masked for all but ADMINs.
        LeadsRead = "LEADS_READ",
        /// Make leads and change them.
        LeadsWrite = "LEADS_WRITE",
        /// Merge leads, import and export them.
        LeadsTransfer = "LEADS_TRANSFER",
        /// See inquiries.
        InquiriesRead = "INQUIRIES_READ",
        /// Make inquiries, answer them, keep canned replies.
        InquiriesWrite = "INQUIRIES_WRITE",
        /// See and change companies and their contacts.
        CompaniesWrite = "COMPANIES_WRITE",
        /// See projects, deliverables and tasks.
        ProjectsRead = "PROJECTS_READ",
        /// Make and change projects, deliverables and tasks.
        ProjectsWrite = "PROJECTS_WRITE",
        /// See and change one's own data.
        OwnData = "OWN_DATA",
        /// What costs us money or crosses tenants: only for platform admins, whatever their role.
        Platform = "PLATFORM",
    }
}

impl Permission {
    /// The roles that have it. This is the whole table.
    pub fn roles(self) -> &'static [Role] {
        use Role::{Admin, Manager, Support, User};
        match self {
            Self::AiExecute | Self::CreditsRead | Self::OwnData => &[Admin, Manager, Support, User],
            Self::MembersRead | Self::LeadsRead => &[Admin, Manager, Support],
            Self::AiReadAll
            | Self::LedgerRead
            | Self::AnalyticsRead
            | Self::LeadsWrite
            | Self::LeadsTransfer
            | Self::CompaniesWrite
            | Self::ProjectsRead
            | Self::ProjectsWrite => &[Admin, Manager],
            Self::InquiriesRead | Self::InquiriesWrite => &[Admin, Support],
            Self::AiExecuteForOthers
            | Self::MoneyManage
            | Self::MembersManage
            | Self::TenantManage
            | Self::ApiKeysManage
            | Self::AuditRead => &[Admin],
            Self::Platform => &[],
        }
    }

    /// Whether an API key may have it: what a server does, not what people decide.
    pub fn is_for_keys(self) -> bool {
        match self {
            Self::AiExecute
            | Self::AiExecuteForOthers
            | Self::AiReadAll
            | Self::CreditsRead
            | Self::LedgerRead
            | Self::AnalyticsRead
            | Self::LeadsRead
            | Self::LeadsWrite
            | Self::InquiriesRead
            | Self::InquiriesWrite
            | Self::ProjectsRead => true,
            Self::MoneyManage
            | Self::MembersRead
            | Self::MembersManage
            | Self::TenantManage
            | Self::ApiKeysManage
            | Self::AuditRead
            | Self::LeadsTransfer
            | Self::CompaniesWrite
            | Self::ProjectsWrite
            | Self::OwnData
            | Self::Platform => false,
        }
    }
}

/// What let the caller in.
#[derive(Clone, Debug)]
pub enum Credential {
    /// An access token by itself: it ends at its own time.
    Token,
    /// An access token of a session: it ends with the session, too.
    Session(SessionId),
    /// An API key.
    Key(Arc<KeyRights>),
}

/// An API key, and what it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRights {
    /// The key's row.
    pub id: ApiKeyId,
    /// The beginning of its text, by which it is found.
    pub prefix: String,
    /// What it may.
    pub permissions: Vec<Permission>,
}

/// Where a request came from: for the record and for limits.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Names the request in errors and in the log.
    pub request_id: Box<str>,
    /// The sender's address, as far as proxies are trusted; none for what no request asked for.
    pub address: Option<IpAddr>,
    /// What the sender's program calls itself; cut to 256 characters.
    pub user_agent: Option<Box<str>>,
    /// Lines of the audit record that were written for this request.
    pub records: Records,
}

/// Counts the lines of the audit record that a request wrote. A clone is another request's.
#[derive(Debug, Default)]
pub struct Records(AtomicU32);

impl Records {
    /// Counts one more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clone for Records {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Who asks. Made by `identity` from a verified token and the database, for one request or socket.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The signed-in person; with an API key, the person who made it.
    pub user_id: UserId,
    /// The tenant that they act in.
    pub tenant_id: Option<TenantId>,
    /// Their role in it. A platform admin who is no member has none and acts as ADMIN; an API key
    /// has none and may what it lists.
    pub role: Option<Role>,
    /// May do what crosses tenants.
    pub is_platform_admin: bool,
    /// What let them in.
    pub credential: Credential,
    /// When the credential ends by itself.
    pub expires_at: DateTime<Utc>,
    /// The language of messages.
    pub lang: Lang,
    /// Where their request came from.
    pub source: Arc<Source>,
}

impl Actor {
    /// May they? Refused as [`Error::Forbidden`].
    pub fn require(&self, permission: Permission) -> Result<()> {
        if self.may(permission) { Ok(()) } else { Err(Error::Forbidden) }
    }

    /// Whether they have the permission.
    pub fn may(&self, permission: Permission) -> bool {
        if let Some(key) = self.key() {
            return permission.is_for_keys() && key.permissions.contains(&permission);
        }
        match permission {
            Permission::Platform => self.is_platform_admin,
            Permission::OwnData => true,
            _ => {
                let acts_as_admin = self.is_platform_admin && self.tenant_id.is_some();
                let has_it = |role: Role| permission.roles().contains(&role);
                acts_as_admin || self.role.is_some_and(has_it)
            }
        }
    }

    /// Whether they act as an ADMIN of their tenant, in person.
    pub fn is_admin(&self) -> bool {
        self.may(Permission::MembersManage)
    }

    /// The tenant that they act in; a token without a tenant is refused.
    pub fn tenant(&self) -> Result<TenantId> {
        self.tenant_id.ok_or(Error::Forbidden)
    }

    /// The person; an API key is none, and is refused.
    pub fn person(&self) -> Result<UserId> {
        match &self.credential {
            Credential::Key(_) => Err(Error::Forbidden),
            Credential::Token | Credential::Session(_) => Ok(self.user_id),
        }
    }

    /// The API key, if it is one.
    pub fn key(&self) -> Option<&KeyRights> {
        match &self.credential {
            Credential::Key(key) => Some(key),
            Credential::Token | Credential::Session(_) => None,
        }
    }

    /// Who is behind a write: the API key, or the person.
    pub fn principal(&self) -> Uuid {
        self.key().map_or(self.user_id.0, |key| key.id.0)
    }
}
