//! Stub for compiling.
use crate::entity::linked_account::Provider;
/// Who.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Id.
    pub provider_account_id: String,
    /// Name.
    pub name: Option<String>,
    /// Email.
    pub email: Option<String>,
    /// Verified.
    pub is_email_verified: bool,
    /// Scope.
    pub scope: Option<String>,
}
/// Why.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Refused.
    #[error("refused {0}")]
    Refused(String),
    /// Unavailable.
    #[error("unavailable {0}")]
    Unavailable(String),
    /// Nonsense.
    #[error("nonsense {0}")]
    Nonsense(String),
}
/// Providers.
#[derive(Clone, Debug, Default)]
pub struct Providers;
impl Providers {
    /// Offered.
    pub fn is_offered(&self, _: Provider) -> bool {
        false
    }
    /// Url.
    pub fn authorize_url(&self, _: Provider, _: &str, _: &str, _: &str) -> Option<String> {
        None
    }
    /// Who.
    pub async fn identify(
        &self,
        _: Provider,
        _: &str,
        _: &str,
        _: &str,
    ) -> Result<Identity, Failure> {
        Err(Failure::Unavailable(String::new()))
    }
}
