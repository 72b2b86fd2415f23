//! Customers and payments of the double.

use axum::http::Method;
use serde_json::{Value, json};

use super::{Account, Form, error};

/// One of Stripe's own objects.
pub(super) fn fixture(name: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("fixtures.json")).unwrap();
    assert!(!all[name].is_null(), "no fixture {name}");
    all[name].clone()
}

const FIELDS: &[&str] = &[
    "allowed_payment_method_types",
    "amount",
    "confirm",
    "confirmation_token",
    "currency",
    "customer",
    "metadata",
    "off_session",
    "payment_method",
    "return_url",
    "setup_future_usage",
    "use_stripe_sdk",
];

impl Account {
    pub(super) fn act(&mut self, method: &Method, path: &str, form: &Form) -> (u16, Value) {
        let steps: Vec<&str> = path.split('/').skip(1).collect();
        match (method.as_str(), steps.as_slice()) {
            ("POST", ["v1", "customers"]) => (200, self.make_customer(form)),
            ("POST", ["v1", "payment_intents"]) => self.make_intent(form),
            ("GET", ["v1", "payment_intents"]) => (200, self.list(form)),
            ("GET", ["v1", "payment_intents", id]) => match self.intents.get(*id) {
                Some(intent) => (200, intent.clone()),
                None => (404, error("invalid_request_error", "resource_missing")),
            },
            ("POST", ["v1", "payment_intents", id, "cancel"]) => self.cancel(id),
            steps @ (
                _,
                ["v1", "setup_intents" | "payment_methods", ..]
                | ["v1", "customers", _, "payment_methods", ..],
            ) => self.act_on_cards(steps, form),
            (
                _,
                ["v1", "prices" | "products" | "subscriptions", ..]
                | ["v1", "invoices", "create_preview"],
            ) => self.act_on_plans(method, &steps, form),
            (method, ["v1", "refunds", rest @ ..]) => self.act_on_refunds(method, rest, form),
            (method, [_, steps @ ..]) => self.act_on_papers(method, steps, form),
            (method, path) => panic!("the double knows no {method} {path:?}"),
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.time.unwrap_or(1_795_000_000)
    }

    pub(super) fn next_id(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}_double{:08}", self.made)
    }

    fn make_customer(&mut self, form: &Form) -> Value {
        assert_eq!(form.unknown(&["metadata"]), None);
        let mut customer = fixture("customer");
        let id = self.next_id("cus");
        customer["id"] = json!(id);
        customer["metadata"] = json!(form.group("metadata"));
        self.customers.insert(id, customer.clone());
        customer
    }

    fn make_intent(&mut self, form: &Form) -> (u16, Value) {
        assert_eq!(form.unknown(FIELDS), None);
        let amount: i64 = form.get("amount").unwrap().parse().unwrap();
        let currency = form.get("currency").unwrap();
        assert_eq!(currency, currency.to_lowercase());
        // ¥50 is the least that Stripe takes.
        if amount < 50 {
            return (400, error("invalid_request_error", "amount_too_small"));
        }
        let customer = form.get("customer").unwrap();
        if !self.customers.contains_key(customer) {
            return (400, super::cards::no_such_customer());
        }
        let id = self.next_id("pi");
        let mut intent = fixture("payment_intent");
        for (field, value) in [
            ("id", json!(id)),
            ("amount", json!(amount)),
            ("currency", json!(currency)),
            ("customer", json!(customer)),
            ("metadata", json!(form.group("metadata"))),
            ("client_secret", json!(format!("{id}_secret_double"))),
            ("created", json!(1_795_000_000 + self.made)),
            ("canceled_at", Value::Null),
            ("last_payment_error", Value::Null),
            ("next_action", Value::Null),
            ("setup_future_usage", json!(form.get("setup_future_usage"))),
        ] {
            intent[field] = value;
        }
        let method = form.get("payment_method").or(form.get("confirmation_token")).unwrap();
        let card = self.make_card(method);
        let is_off_session = form.get("off_session") == Some("true");
        self.order.push(id.clone());
        self.intents.insert(id.clone(), intent);
        self.tell("payment_intent.created", self.intents[&id].clone());
        self.try_card(&id, (&card, customer), is_off_session)
    }

    fn try_card(
        &mut self,
        id: &str,
        (card, owner): (&str, &str),
        is_off_session: bool,
    ) -> (u16, Value) {
        self.intents.get_mut(id).unwrap()["payment_method"] = json!(card);
        let name = self.behaviour(card, owner, is_off_session);
        let decline = match name.as_deref().unwrap_or("pm_used_up") {
            "pm_card_chargeCustomerFail" => ("card_declined", json!("generic_decline")),
            "pm_card_authenticationRequired" if is_off_session => {
                ("authentication_required", json!("authentication_required"))
            }
            "pm_card_authenticationRequired" => {
                let action = json!({ "type": "use_stripe_sdk", "use_stripe_sdk": {
                    "type": "three_d_secure_redirect", "stripe_js": "https://x.test" } });
                self.set(id, "requires_action", &[("next_action", action)]);
                self.tell("payment_intent.requires_action", self.intents[id].clone());
                return (200, self.intents[id].clone());
            }
            "pm_card_chargeDeclined" => ("card_declined", json!("generic_decline")),
            "pm_card_chargeDeclinedInsufficientFunds" => {
                ("card_declined", json!("insufficient_funds"))
            }
            "pm_card_chargeDeclinedExpiredCard" => ("expired_card", Value::Null),
            "pm_card_chargeDeclinedIncorrectCvc" => ("incorrect_cvc", Value::Null),
            "pm_card_chargeDeclinedProcessingError" => ("processing_error", Value::Null),
            "pm_card_unheardOf" => ("card_declined", json!("a_reason_of_next_year")),
            "pm_used_up" => {
                // Nothing is left of a payment whose method is none.
                self.intents.remove(id);
                self.order.retain(|it| it != id);
                self.events.pop();
                return (400, error("invalid_request_error", "payment_method_unexpected_state"));
            }
            _ => {
                self.pay(id);
                return (200, self.intents[id].clone());
            }
        };
        self.decline(id, decline.0, &decline.1);
        let mut refusal = error("card_error", decline.0);
        refusal["error"]["decline_code"] = decline.1;
        refusal["error"]["payment_intent"] = self.intents[id].clone();
        (402, refusal)
    }

    pub(super) fn pay(&mut self, id: &str) {
        let amount = self.intents[id]["amount"].clone();
        let charge = json!(id.replace("pi_", "ch_"));
        let fields = [
            ("amount_received", amount),
            ("latest_charge", charge),
            ("next_action", Value::Null),
            ("last_payment_error", Value::Null),
        ];
        self.set(id, "succeeded", &fields);
        // Who fails their bank and pays by another card after all pays with none of ours.
        let paid = self.intents[id].clone();
        let keeps = paid["setup_future_usage"] == "off_session";
        if let Some(card) = paid["payment_method"].as_str().filter(|_| keeps) {
            self.attach(card, &paid["customer"]);
        }
        self.tell("payment_intent.succeeded", self.intents[id].clone());
    }

    fn decline(&mut self, id: &str, code: &str, decline_code: &Value) {
        let why = json!({ "type": "card_error", "code": code, "decline_code": decline_code,
            "message": "Your card was declined.", "charge": "ch_double" });
        let fields = [
            ("last_payment_error", why),
            ("next_action", Value::Null),
            ("payment_method", Value::Null),
        ];
        self.set(id, "requires_payment_method", &fields);
        self.tell("payment_intent.payment_failed", self.intents[id].clone());
    }

    pub(super) fn authenticate(&mut self, id: &str, is_successful: bool) {
        assert_eq!(self.intents[id]["status"], "requires_action");
        if is_successful {
            self.pay(id);
        } else {
            self.decline(id, "payment_intent_authentication_failure", &Value::Null);
        }
    }

    fn cancel(&mut self, id: &str) -> (u16, Value) {
        let Some(intent) = self.intents.get(id) else {
            return (404, error("invalid_request_error", "resource_missing"));
        };
        if matches!(intent["status"].as_str().unwrap(), "succeeded" | "canceled") {
            return (400, error("invalid_request_error", "payment_intent_unexpected_state"));
        }
        self.set(id, "canceled", &[("canceled_at", json!(1_795_000_000))]);
        self.tell("payment_intent.canceled", self.intents[id].clone());
        (200, self.intents[id].clone())
    }

    fn list(&self, form: &Form) -> Value {
        let customer = form.get("customer").unwrap();
        let since: u64 = form.get("created[gte]").unwrap().parse().unwrap();
        assert!(since > 1_700_000_000);
        let limit: usize = form.get("limit").unwrap().parse().unwrap();
        let newest_first = self.order.iter().rev().map(|id| &self.intents[id]);
        let mut all: Vec<&Value> =
            newest_first.filter(|intent| intent["customer"] == customer).collect();
        if let Some(last) = form.get("starting_after") {
            let at = all.iter().position(|intent| intent["id"] == last).unwrap();
            all.drain(..=at);
        }
        let has_more = all.len() > limit;
        all.truncate(limit);
        json!({ "object": "list", "url": "/v1/payment_intents", "has_more": has_more, "data": all })
    }

    pub(super) fn set(&mut self, id: &str, status: &str, fields: &[(&str, Value)]) {
        let intent = self.intents.get_mut(id).unwrap();
        intent["status"] = json!(status);
        for (field, value) in fields {
            intent[*field] = value.clone();
        }
    }

    pub(super) fn tell(&mut self, kind: &str, object: Value) {
        let mut event = fixture("event");
        event["id"] = json!(self.next_id("evt"));
        event["type"] = json!(kind);
        event["created"] = json!(self.now());
        // Not every object says so.
        event["livemode"] = json!(object["livemode"].as_bool().unwrap_or(false));
        event["data"] = json!({ "object": object });
        self.events.push(event);
    }
}
