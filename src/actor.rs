//! Who asks, and what they may do. Every service function begins with [`Actor::require`].

use chrono::{DateTime, Utc};

use crate::error::{Error, Lang, Result};
use crate::ids::{TenantId, UserId};
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

/// What a role may be allowed. The table is [`Permission::roles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Run AI functions, see one's own executions and the balance.
    AiExecute,
    /// Run AI functions in the name of another member.
    AiExecuteForOthers,
    /// See executions of everyone in the tenant.
    AiReadAll,
    /// See the balance, grants and packages.
    CreditsRead,
    /// See the ledger.
    LedgerRead,
    /// See analytics.
    AnalyticsRead,
    /// Buy credits and change what is bought.
    MoneyManage,
    /// What costs us money or crosses tenants: only for platform admins, whatever their role.
    Platform,
}

impl Permission {
    /// Every permission.
    pub const ALL: &'static [Self] = &[
        Self::AiExecute,
        Self::AiExecuteForOthers,
        Self::AiReadAll,
        Self::CreditsRead,
        Self::LedgerRead,
        Self::AnalyticsRead,
        Self::MoneyManage,
        Self::Platform,
    ];

    /// The roles that have it. This is the whole table.
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::AiExecute | Self::CreditsRead => {
                &[Role::Admin, Role::Manager, Role::Support, Role::User]
            }
            Self::AiReadAll | Self::LedgerRead | Self::AnalyticsRead => {
                &[Role::Admin, Role::Manager]
            }
            Self::MoneyManage | Self::AiExecuteForOthers => &[Role::Admin],
            Self::Platform => &[],
        }
    }
}

/// Who asks. Made by `identity` from a verified token and the database, for one request or socket.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The signed-in person.
    pub user_id: UserId,
    /// The tenant that they act in.
    pub tenant_id: Option<TenantId>,
    /// Their role in it. A platform admin who is no member has none and acts as ADMIN.
    pub role: Option<Role>,
    /// May do what crosses tenants.
    pub is_platform_admin: bool,
    /// When the token ends.
    pub expires_at: DateTime<Utc>,
    /// The language of messages.
    pub lang: Lang,
}

impl Actor {
    /// May they? Refused as [`Error::Forbidden`].
    pub fn require(&self, permission: Permission) -> Result<()> {
        if self.may(permission) { Ok(()) } else { Err(Error::Forbidden) }
    }

    /// Whether they have the permission.
    pub fn may(&self, permission: Permission) -> bool {
        if permission == Permission::Platform {
            return self.is_platform_admin;
        }
        let acts_here = self.tenant_id.is_some();
        let acts_as_admin = self.is_platform_admin && acts_here;
        acts_as_admin || self.role.is_some_and(|role| permission.roles().contains(&role))
    }

    /// The tenant that they act in; a token without a tenant is refused.
    pub fn tenant(&self) -> Result<TenantId> {
        self.tenant_id.ok_or(Error::Forbidden)
    }
}
