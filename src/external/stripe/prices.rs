//! Prices at Stripe: what a plan is changed to must be one, as a change that waits for its payment
//! takes no price that is only told.

use stripe_client_core::{RequestBuilder, StripeRequest};
use stripe_product::price::{
    CreatePrice, CreatePriceRecurring, CreatePriceRecurringInterval, ListPrice, RetrievePrice,
};
use stripe_shared::PriceTaxBehavior;
use stripe_types::Currency;

use super::invoices::entries_of;
use super::subscriptions::read_price;
use super::{Price, Rate, StripeClient, StripeFailure};

impl StripeClient {
    /// The rate with its price at Stripe, which is made when there is none. One that asks for
    /// something else is refused.
    pub(super) async fn ask_to_sell(&self, rate: &Rate) -> Result<Rate, StripeFailure> {
        let price = match &rate.price {
            Some(id) => self.ask_price(RetrievePrice::new(id.clone()).build(), None).await?,
            None => self.keep_price(rate).await?,
        };
        let is_it = price.amount == Some(rate.amount) && price.currency == "JPY";
        if !is_it || !price.is_monthly {
            return Err(StripeFailure::Refused("the price is not the plan's".to_owned()));
        }
        Ok(Rate { price: Some(price.id), ..rate.clone() })
    }

    async fn keep_price(&self, rate: &Rate) -> Result<Price, StripeFailure> {
        let name = format!("{}_{}", rate.product, rate.amount);
        if let Some(known) = self.find_price(&name).await? {
            return Ok(known);
        }
        let request = CreatePrice::new(Currency::JPY)
            .product(rate.product.clone())
            .unit_amount(rate.amount)
            .recurring(CreatePriceRecurring::new(CreatePriceRecurringInterval::Month))
            .tax_behavior(PriceTaxBehavior::Inclusive)
            .lookup_key(name.clone())
            .build();
        match self.ask_price(request, Some(&format!("price:{name}"))).await {
            // Somebody else was first.
            Err(failure @ StripeFailure::Refused(_)) => {
                self.find_price(&name).await?.ok_or(failure)
            }
            made => made,
        }
    }

    async fn find_price(&self, name: &str) -> Result<Option<Price>, StripeFailure> {
        let list = ListPrice::new().lookup_keys(vec![name.to_owned()]).active(true).limit(1);
        let page = self.ask(list.build(), None).await?;
        Ok(entries_of(&page)?.first().and_then(read_price))
    }

    async fn ask_price(
        &self,
        request: RequestBuilder,
        key: Option<&str>,
    ) -> Result<Price, StripeFailure> {
        let json = self.ask(request, key).await?;
        let unread = || StripeFailure::Unavailable("the answer is no price".to_owned());
        read_price(&json).ok_or_else(unread)
    }
}
