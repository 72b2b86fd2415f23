//! Currencies with no, two and three decimals, and those that Stripe counts otherwise: what we ask
//! for is what we recorded, and what we hear is what was paid.

use musubi::external::stripe::{
    Method, NewPayment, Payments, StripeClient, StripeFailure, from_stripe, read_payment, to_stripe,
};
use proptest::prelude::*;
use serde_json::json;

use super::Shop;
use crate::support::stripe::StripeServer;

/// A currency, and how much Stripe's number is for so many minor units, as its page of currencies
/// says: ¥500 is 500, $5.00 is 500, KD 5.120 is 5120, 5 ISK is 500, 5 UGX is 500.
const CASES: [(&str, i64, i64); 8] = [
    ("JPY", 500, 500),
    ("USD", 500, 500),
    ("KWD", 5_120, 5_120),
    ("KRW", 500, 500),
    ("ISK", 5, 500),
    ("UGX", 5, 500),
    ("MGA", 500, 5),
    ("TND", 10, 10),
];

#[test]
fn amounts_are_told_as_stripe_publishes() {
    for (currency, minor, told) in CASES {
        assert_eq!(to_stripe(minor, currency), Some(told), "{currency}");
        assert_eq!(to_stripe(minor, &currency.to_lowercase()), Some(told), "{currency}");
        assert_eq!(from_stripe(told, currency), Some(minor), "{currency}");
    }
    // What there is no coin for at Stripe.
    assert_eq!(to_stripe(5_124, "KWD"), None);
    assert_eq!(to_stripe(501, "MGA"), None);
    assert_eq!(from_stripe(501, "ISK"), None);
    assert_eq!(to_stripe(i64::MAX, "UGX"), None);
    assert_eq!(from_stripe(i64::MAX, "MGA"), None);
}

proptest! {
    #[test]
    fn an_amount_comes_back_as_it_was_recorded(
        minor in 1..=1_000_000_000_i64,
        which in 0..CASES.len(),
    ) {
        let (currency, _, _) = CASES[which];
        // An event of Stripe's about a payment of what it was told.
        if let Some(told) = to_stripe(minor, currency) {
            let event = json!({ "object": "payment_intent", "id": "pi_1", "status": "succeeded",
                "amount": told, "amount_received": told, "currency": currency.to_lowercase(),
                "livemode": false, "metadata": {} });
            let payment = read_payment(&event).unwrap();
            prop_assert_eq!((payment.amount, payment.received), (minor, minor));
            prop_assert_eq!(payment.currency.as_str(), currency);
        } else {
            prop_assert!(matches!(currency, "KWD" | "TND" | "MGA"));
        }
    }
}

fn payment(customer: &str, amount: i64, currency: &str) -> NewPayment {
    NewPayment {
        key: format!("{currency}-{amount}"),
        amount,
        currency: currency.to_owned(),
        customer: customer.to_owned(),
        method: Method::Card("pm_card_visa".to_owned()),
        return_url: None,
        saves_card: false,
        off_session: false,
        purchase: format!("of-{amount}-{currency}"),
        account: "account".to_owned(),
    }
}

#[tokio::test]
async fn what_is_on_stripes_form_arrives_as_recorded() {
    let stripe = StripeServer::start().await;
    let client = StripeClient::new(stripe.options(None)).unwrap();
    let customer = client.create_customer("a-customer", "a-tenant").await.unwrap();
    for (currency, minor, told) in CASES.map(|(currency, minor, told)| {
        // Stripe takes no less than fifty of the smallest.
        (currency, minor * 100, told * 100)
    }) {
        let paid = client.pay(&payment(&customer, minor, currency)).await.unwrap();

        let form = stripe.asked("POST /payment_intents").pop().unwrap().form;
        assert_eq!(form.get("amount"), Some(&*told.to_string()), "{currency}");
        assert_eq!(form.get("currency"), Some(&*currency.to_lowercase()));
        assert_eq!((paid.amount, paid.received), (minor, minor), "{currency}");
        assert_eq!(paid.currency, currency);
        assert_eq!(client.payment(&paid.id).await.unwrap(), paid);
        let event = stripe.events().pop().unwrap();
        assert_eq!(read_payment(&event["data"]["object"]).unwrap(), paid);
    }
    let asked = stripe.asked("POST /payment_intents").len();
    for (amount, currency) in [(5_124, "KWD"), (501, "MGA"), (i64::MAX, "UGX")] {
        let refused = client.pay(&payment(&customer, amount, currency)).await;
        assert!(matches!(refused, Err(StripeFailure::Refused(_))), "{refused:?}");
    }
    assert_eq!(stripe.asked("POST /payment_intents").len(), asked, "nothing was asked");
}

#[tokio::test]
async fn the_same_number_in_another_currency_or_unit_grants_nothing() {
    let shop = Shop::open().await;
    let asked = shop.buys_with("the-bank-asks", "pm_card_authenticationRequired").await;
    let intent = asked["purchase"]["paymentIntentId"].as_str().unwrap();
    let lies = [
        (500, "usd"),
        (500, "kwd"),
        (500, "isk"),
        (500, "eur"),
        (500, "of nobody"),
        (50_000, "jpy"),
        (5, "jpy"),
        (499, "jpy"),
        (501, "jpy"),
        (0, "jpy"),
        (-500, "jpy"),
    ];
    for (amount, currency) in lies {
        let mut told = shop.stripe.intents().remove(0);
        told["status"] = json!("succeeded");
        told["amount"] = json!(amount);
        told["amount_received"] = json!(amount);
        told["currency"] = json!(currency);
        shop.hears(&shop.stripe.makes_event("payment_intent.succeeded", &told)).await;
        shop.adds_up(0, 0).await;
    }
    assert!(shop.alerts().await.iter().all(|(kind, _)| kind == "PAYMENT_MISMATCH"));

    shop.stripe.authenticate(intent, true);
    shop.hears(&shop.stripe.events().pop().unwrap()).await;
    shop.adds_up(500, 1).await;
}
