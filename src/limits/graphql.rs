//! Limits in the API.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::credits::graphql::AiFunctionType;
use crate::graphql::caller::{Answer, caller, payload};
use crate::graphql::payload::int;
use crate::ids::{TenantId, TypedId};
use crate::limits::function::{self, LimitChange};
use crate::payloads;

/// Changing limits.
#[derive(Default)]
pub struct LimitMutation;

#[Object]
impl LimitMutation {
    /// Sets how often each member of a tenant may run a function. For platform admins.
    async fn tenant_function_limit_set(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The limit.")] input: TenantFunctionLimitSetInput,
    ) -> Answer<TenantFunctionLimitPayload> {
        let caller = caller(ctx);
        let function_type = input.function_type;
        let work = Box::pin(async {
            let actor = caller.actor()?;
            function::set(&caller.app, actor, change(input)?).await
        });
        let done = |per_hour| TenantFunctionLimitPayload::done(function_type, per_hour);
        payload(ctx, work, done, TenantFunctionLimitPayload::refused).await
    }
}

/// How often each member of a tenant may run a function.
#[derive(Debug, InputObject)]
pub struct TenantFunctionLimitSetInput {
    /// The tenant.
    tenant_id: ID,
    /// The function.
    function_type: AiFunctionType,
    /// Calls in any hour for each member, 0 to 10 000; null for the usual number.
    per_hour: Option<i32>,
}

fn change(input: TenantFunctionLimitSetInput) -> crate::error::Result<LimitChange> {
    Ok(LimitChange {
        tenant: TenantId::parse(&input.tenant_id)?,
        function: input.function_type.into(),
        per_hour: input.per_hour.map(i64::from),
    })
}

/// How often each member of a tenant may run a function.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct TenantFunctionLimit {
    /// The function.
    function_type: AiFunctionType,
    /// Calls in any hour for each member.
    per_hour: i32,
}

payloads! {
    /// The result of `tenantFunctionLimitSet`.
    TenantFunctionLimitPayload {
        /// The limit that holds now.
        function_limit: TenantFunctionLimit,
    }
}

impl TenantFunctionLimitPayload {
    fn done(function_type: AiFunctionType, per_hour: i64) -> Self {
        let limit = TenantFunctionLimit { function_type, per_hour: int(per_hour) };
        Self { function_limit: Some(limit), ..Self::default() }
    }
}
