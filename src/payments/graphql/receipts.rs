//! Receipts in the API.

use async_graphql::{Context, Description, ID, Object};

use crate::graphql::caller::{Answer, answer, caller};
use crate::graphql::scalars::DateTime;
use crate::ids::{PurchaseId, TypedId};
use crate::payments::receipts::issue::{self, Issued};

/// The receipt of a purchase: a Japanese 適格請求書 as PDF.
#[derive(Description)]
pub struct CreditPurchaseReceipt(Issued);

#[Object(use_type_description)]
impl CreditPurchaseReceipt {
    /// Its number, out of one series without gaps. It stays the purchase's.
    async fn number(&self) -> &str {
        &self.0.number
    }

    /// Where the PDF is. Whoever has this address may read the receipt until `expiresAt`.
    async fn url(&self) -> &str {
        &self.0.url
    }

    /// The end of the address; ask again for another.
    async fn expires_at(&self) -> DateTime {
        DateTime(self.0.expires_at)
    }

    /// Whether the receipt was handed out before; it then says that it is a copy (再発行).
    async fn is_reissue(&self) -> bool {
        self.0.is_reissue
    }
}

/// Receipts of the caller's tenant.
#[derive(Default)]
pub struct ReceiptQuery;

#[Object]
impl ReceiptQuery {
    /// The receipt of a purchase that was paid, refunded or not, made out to the tenant's name.
    /// For ADMIN.
    async fn credit_purchase_receipt(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The purchase's id.")] purchase_id: ID,
    ) -> Answer<CreditPurchaseReceipt> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let actor = caller.actor()?;
                let id = PurchaseId::parse(&purchase_id)?;
                Ok(CreditPurchaseReceipt(issue::issue(&caller.app, actor, id).await?))
            }),
        )
        .await
    }
}
