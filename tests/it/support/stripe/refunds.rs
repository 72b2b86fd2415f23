//! Refunds of the double: asked for by us, or made on Stripe's own pages.

use serde_json::{Value, json};

use super::intents::fixture;
use super::{Account, Form, StripeServer, error};

const FIELDS: &[&str] = &["amount", "metadata", "payment_intent", "reason"];
const REASONS: &[&str] = &["duplicate", "fraudulent", "requested_by_customer"];

impl StripeServer {
    /// All refunds, oldest first.
    pub(crate) fn refunds(&self) -> Vec<Value> {
        self.shared.state().refunds.clone()
    }

    /// Somebody gives money back on Stripe's pages; the event of its charge.
    pub(crate) fn refunds_there(&self, intent: &str, amount: i64) -> Value {
        let mut state = self.shared.state();
        state.give(intent, amount, &Form::default());
        state.events.last().unwrap().clone()
    }

    /// A refund ends, or fails after it had ended; the event.
    pub(crate) fn ends_refund(&self, id: &str, status: &str, failure: Option<&str>) -> Value {
        let mut state = self.shared.state();
        let refund = state.refunds.iter_mut().find(|refund| refund["id"] == id).unwrap();
        refund["status"] = json!(status);
        refund["failure_reason"] = json!(failure);
        let refund = refund.clone();
        state.tell("charge.refund.updated", refund.clone());
        state.tell(if status == "failed" { "refund.failed" } else { "refund.updated" }, refund);
        state.events.last().unwrap().clone()
    }

    /// Changes a refund behind everybody's back.
    pub(crate) fn change_refund(&self, id: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.shared.state();
        change(state.refunds.iter_mut().find(|refund| refund["id"] == id).unwrap());
    }

    /// The charge of a payment as it is now.
    pub(crate) fn charge(&self, intent: &str) -> Value {
        self.shared.state().charge_of(intent)
    }
}

impl Account {
    pub(super) fn act_on_refunds(
        &mut self,
        method: &str,
        rest: &[&str],
        form: &Form,
    ) -> (u16, Value) {
        let missing = || (404, error("invalid_request_error", "resource_missing"));
        match (method, rest) {
            ("POST", []) => self.refund(form),
            ("GET", []) => (200, self.list_refunds(form)),
            ("GET", [id]) => match self.refunds.iter().find(|refund| refund["id"] == *id) {
                Some(refund) => (200, refund.clone()),
                None => missing(),
            },
            (method, rest) => panic!("the double knows no {method} refunds {rest:?}"),
        }
    }

    fn refund(&mut self, form: &Form) -> (u16, Value) {
        let refuse = |code| (400, error("invalid_request_error", code));
        assert_eq!(form.unknown(FIELDS), None);
        assert!(REASONS.contains(&form.get("reason").unwrap()));
        let intent = form.get("payment_intent").unwrap();
        let amount: i64 = form.get("amount").unwrap().parse().unwrap();
        let Some(payment) = self.intents.get(intent) else {
            return (404, error("invalid_request_error", "resource_missing"));
        };
        if payment["status"] != "succeeded" {
            return refuse("payment_intent_unexpected_state");
        }
        if self.is_disputed(intent) {
            return refuse("charge_disputed");
        }
        let left = payment["amount"].as_i64().unwrap() - self.refunded(intent);
        match amount {
            _ if left == 0 => refuse("charge_already_refunded"),
            1.. if amount <= left => (200, self.give(intent, amount, form)),
            _ => refuse("amount_too_large"),
        }
    }

    fn give(&mut self, intent: &str, amount: i64, form: &Form) -> Value {
        let payment = self.intents[intent].clone();
        assert!(self.refunded(intent) + amount <= payment["amount"].as_i64().unwrap());
        let card = payment["payment_method"].as_str().unwrap_or_default();
        let is_slow = self.is_named(card, "pm_card_pendingRefund");
        let id = self.next_id("re");
        let mut refund = fixture("refund");
        for (field, value) in [
            ("id", json!(id)),
            ("amount", json!(amount)),
            ("charge", payment["latest_charge"].clone()),
            ("created", json!(self.now())),
            ("currency", payment["currency"].clone()),
            ("metadata", json!(form.group("metadata"))),
            ("payment_intent", json!(intent)),
            ("reason", json!(form.get("reason"))),
            ("status", json!(if is_slow { "pending" } else { "succeeded" })),
        ] {
            refund[field] = value;
        }
        self.refunds.push(refund.clone());
        self.tell("refund.created", refund.clone());
        let charge = self.charge_of(intent);
        self.tell("charge.refunded", charge);
        refund
    }

    /// What went back of a payment.
    fn refunded(&self, intent: &str) -> i64 {
        let gone = |refund: &&Value| {
            let status = refund["status"].as_str().unwrap();
            refund["payment_intent"] == intent && !matches!(status, "failed" | "canceled")
        };
        self.refunds.iter().filter(gone).map(|refund| refund["amount"].as_i64().unwrap()).sum()
    }

    fn charge_of(&self, intent: &str) -> Value {
        let paid = &self.intents[intent];
        let mut charge = fixture("charge");
        for field in ["amount", "currency", "livemode", "metadata"] {
            charge[field] = paid[field].clone();
        }
        charge["id"] = paid["latest_charge"].clone();
        charge["payment_intent"] = paid["id"].clone();
        charge["amount_refunded"] = json!(self.refunded(intent));
        charge["refunded"] = json!(paid["amount"] == self.refunded(intent));
        charge
    }

    /// Newest first, as Stripe lists.
    fn list_refunds(&self, form: &Form) -> Value {
        assert_eq!(form.unknown(&["limit", "payment_intent", "starting_after"]), None);
        let limit: usize = form.get("limit").unwrap().parse().unwrap();
        let intent = form.get("payment_intent").unwrap();
        let mut all: Vec<&Value> =
            self.refunds.iter().rev().filter(|it| it["payment_intent"] == intent).collect();
        if let Some(last) = form.get("starting_after") {
            let at = all.iter().position(|refund| refund["id"] == last).unwrap();
            all.drain(..=at);
        }
        let has_more = all.len() > limit;
        all.truncate(limit);
        json!({ "object": "list", "url": "/v1/refunds", "has_more": has_more, "data": all })
    }
}
