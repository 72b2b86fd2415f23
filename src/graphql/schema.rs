//! The one schema: three lists of what the domains contribute.

use async_graphql::{MergedObject, MergedSubscription, SDLExportOptions, Schema};

use crate::ai::graphql::{AiMutation, AiQuery, AiSubscription};
use crate::anomaly::graphql::{AnomalyMutation, AnomalyQuery};
use crate::audit::graphql::AuditQuery;
use crate::compliance::graphql::ComplianceQuery;
use crate::credits::graphql::{
    CreditAdminMutation, CreditCatalogQuery, CreditQuery, CreditSubscription,
};
use crate::graphql::node::NodeQuery;
use crate::identity::graphql::{
    AccountMutation, ApiKeyMutation, ClientConfigQuery, IdentityQuery, MemberMutation,
    ProfileMutation, SessionMutation, SiteMutation, TenantMutation, TenantQuery,
};
use crate::limits::graphql::LimitMutation;
use crate::payments::graphql::auto::AutoPurchaseMutation;
use crate::payments::graphql::refunds::RefundMutation;
use crate::payments::graphql::{
    CardMutation, CardQuery, PaymentMutation, PaymentQuery, PaymentSubscription, ReceiptQuery,
};
use crate::plans::graphql::{PlanMutation, PlanQuery};

/// Everything that can be read. Each field is null when it fails, with the reason in `errors`.
#[derive(Default, MergedObject)]
pub struct Query(
    IdentityQuery,
    ClientConfigQuery,
    TenantQuery,
    NodeQuery,
    CreditQuery,
    CreditCatalogQuery,
    PaymentQuery,
    CardQuery,
    ReceiptQuery,
    PlanQuery,
    AiQuery,
    AnomalyQuery,
    AuditQuery,
    ComplianceQuery,
);

/// Everything that can be changed. Refusals of what was asked come in `userErrors` of the payload.
#[derive(Default, MergedObject)]
pub struct Mutation(
    TenantMutation,
    SiteMutation,
    MemberMutation,
    ApiKeyMutation,
    ProfileMutation,
    SessionMutation,
    AccountMutation,
    PaymentMutation,
    CardMutation,
    RefundMutation,
    AutoPurchaseMutation,
    PlanMutation,
    AiMutation,
    AnomalyMutation,
    CreditAdminMutation,
    LimitMutation,
);

/// Everything that can be watched: a snapshot first, then each change.
#[derive(Default, MergedSubscription)]
pub struct Subscription(CreditSubscription, PaymentSubscription, AiSubscription);

/// Musubi's schema.
pub type MusubiSchema = Schema<Query, Mutation, Subscription>;

/// Builds it. The document limits are ours (`guard`), not the library's.
pub fn build() -> MusubiSchema {
    Schema::build(Query::default(), Mutation::default(), Subscription::default())
        .register_output_type::<crate::graphql::node::Node>()
        .register_output_type::<crate::graphql::payload::UserError>()
        .disable_suggestions()
        .finish()
}

/// The schema as text: what `schema.graphql` holds.
pub fn sdl() -> String {
    let options = SDLExportOptions::new()
        .sorted_fields()
        .sorted_enum_items()
        .prefer_single_line_descriptions();
    let text = build().sdl_with_options(options);
    format!("{}\n", text.trim())
}
