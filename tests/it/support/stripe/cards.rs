//! Cards and their setups of the double, and customers that are deleted.

use serde_json::{Value, json};

use super::intents::fixture;
use super::{Account, Form, StripeServer, error};

const FIELDS: &[&str] = &[
    "allowed_payment_method_types",
    "confirm",
    "confirmation_token",
    "customer",
    "metadata",
    "payment_method",
    "return_url",
    "usage",
    "use_stripe_sdk",
];

/// A card: Stripe's object, and the test method that it behaves as.
#[derive(Clone)]
pub(super) struct Card {
    object: Value,
    name: String,
}

impl StripeServer {
    /// The buyer gives a setup this test method in the page.
    pub(crate) fn page_gives(&self, setup: &str, name: &str) {
        self.shared.state().try_setup(setup, name);
    }

    /// The buyer answers their bank about a setup.
    pub(crate) fn authenticate_setup(&self, setup: &str) {
        self.shared.state().finish_setup(setup);
    }

    /// The page confirms a payment that was declined for want of the buyer, with them.
    pub(crate) fn page_confirms(&self, intent: &str, is_successful: bool) {
        let mut state = self.shared.state();
        let failed = &state.intents[intent];
        assert_eq!(failed["last_payment_error"]["code"], "authentication_required");
        assert_eq!(failed["status"], "requires_payment_method");
        state.set(intent, "requires_action", &[("last_payment_error", Value::Null)]);
        state.authenticate(intent, is_successful);
    }

    /// Changes a card as its network does, and tells of it.
    pub(crate) fn updates_card(&self, id: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut state = self.shared.state();
        change(&mut state.cards.get_mut(id).unwrap().object["card"]);
        let object = state.cards[id].object.clone();
        state.tell("payment_method.automatically_updated", object);
        state.events.last().unwrap().clone()
    }

    /// A card that was as good as any when it was stored behaves as this test method from now on.
    pub(crate) fn turns(&self, id: &str, name: &str) {
        self.shared.state().cards.get_mut(id).unwrap().name = name.to_owned();
    }

    /// Somebody gives a card up on the dashboard.
    pub(crate) fn detaches(&self, id: &str) -> Value {
        let mut state = self.shared.state();
        assert_eq!(state.detach(id).0, 200);
        state.events.last().unwrap().clone()
    }

    /// Somebody deletes a customer on the dashboard, with all that it has.
    pub(crate) fn deletes_customer(&self, id: &str) -> Value {
        let mut state = self.shared.state();
        state.end_all_of(id);
        let customer = state.customers.remove(id).unwrap();
        let is_theirs = |card: &&Card| card.object["customer"] == id;
        let cards: Vec<Value> =
            state.cards.values().filter(is_theirs).map(|card| card.object["id"].clone()).collect();
        for card in cards {
            state.detach(card.as_str().unwrap());
        }
        state.tell("customer.deleted", customer);
        state.events.last().unwrap().clone()
    }

    /// The ids of cards that customers have.
    pub(crate) fn attached(&self) -> Vec<String> {
        let state = self.shared.state();
        let kept = state.cards.values().filter(|card| !card.object["customer"].is_null());
        kept.map(|card| card.object["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The only customer's id.
    pub(crate) fn customer(&self) -> String {
        let state = self.shared.state();
        assert_eq!(state.customers.len(), 1);
        state.customers.keys().next().unwrap().clone()
    }
}

impl Account {
    pub(super) fn act_on_cards(&mut self, steps: (&str, &[&str]), form: &Form) -> (u16, Value) {
        let missing = || (404, error("invalid_request_error", "resource_missing"));
        match steps {
            ("POST", ["v1", "setup_intents"]) => self.make_setup(form),
            ("GET", ["v1", "setup_intents", id]) => {
                self.setups.get(*id).map_or_else(missing, |setup| (200, setup.clone()))
            }
            ("GET", ["v1", "customers", owner, "payment_methods", id]) => {
                if !self.customers.contains_key(*owner) {
                    return (404, no_such_customer());
                }
                let card = self.cards.get(*id).filter(|card| card.object["customer"] == *owner);
                card.map_or_else(missing, |card| (200, card.object.clone()))
            }
            ("POST", ["v1", "payment_methods", id, "detach"]) => self.detach(id),
            (method, path) => panic!("the double knows no {method} {path:?}"),
        }
    }

    fn make_setup(&mut self, form: &Form) -> (u16, Value) {
        assert_eq!(form.unknown(FIELDS), None);
        assert_eq!(form.get("usage"), Some("off_session"));
        let customer = form.get("customer").unwrap();
        if !self.customers.contains_key(customer) {
            return (400, no_such_customer());
        }
        let id = self.next_id("seti");
        let mut setup = fixture("setup_intent");
        for (field, value) in [
            ("id", json!(id)),
            ("customer", json!(customer)),
            ("client_secret", json!(format!("{id}_secret_double"))),
            ("metadata", json!(form.group("metadata"))),
            ("last_setup_error", Value::Null),
            ("next_action", Value::Null),
        ] {
            setup[field] = value;
        }
        self.setups.insert(id.clone(), setup);
        self.tell("setup_intent.created", self.setups[&id].clone());
        let method = form.get("payment_method").or(form.get("confirmation_token"));
        assert_eq!(method.is_some(), form.get("confirm") == Some("true"));
        match method {
            Some(name) => self.try_setup(&id, name),
            None => (200, self.setups[&id].clone()),
        }
    }

    fn try_setup(&mut self, id: &str, name: &str) -> (u16, Value) {
        if name.starts_with("pm_card_chargeDeclined") {
            let why = json!({ "type": "card_error", "code": "card_declined",
                "decline_code": "generic_decline", "message": "Your card was declined." });
            self.set_setup(id, &[("last_setup_error", why)]);
            self.tell("setup_intent.setup_failed", self.setups[id].clone());
            let mut refusal = error("card_error", "card_declined");
            refusal["error"]["decline_code"] = json!("generic_decline");
            refusal["error"]["setup_intent"] = self.setups[id].clone();
            return (402, refusal);
        }
        let card = self.make_card(name);
        self.set_setup(id, &[("payment_method", json!(card))]);
        if name == "pm_card_authenticationRequired" {
            self.set_setup(id, &[("status", json!("requires_action"))]);
            self.tell("setup_intent.requires_action", self.setups[id].clone());
        } else {
            self.finish_setup(id);
        }
        (200, self.setups[id].clone())
    }

    fn finish_setup(&mut self, id: &str) {
        let (card, owner) = (&self.setups[id]["payment_method"], &self.setups[id]["customer"]);
        let (card, owner) = (card.as_str().unwrap().to_owned(), owner.clone());
        self.attach(&card, &owner);
        self.set_setup(id, &[("status", json!("succeeded"))]);
        self.tell("setup_intent.succeeded", self.setups[id].clone());
    }

    fn set_setup(&mut self, id: &str, fields: &[(&str, Value)]) {
        let setup = self.setups.get_mut(id).unwrap();
        for (field, value) in fields {
            setup[*field] = value.clone();
        }
    }

    /// A card of its own for each use of a test method's name; a known card is itself.
    pub(super) fn make_card(&mut self, name: &str) -> String {
        if self.cards.contains_key(name) {
            return name.to_owned();
        }
        let id = self.next_id("pm");
        let mut object = fixture("payment_method");
        let name = if name.starts_with("ctoken_") { "pm_card_visa" } else { name };
        let (brand, last4) = match name {
            "pm_card_mastercard" => ("mastercard", "4444"),
            "pm_card_authenticationRequired" => ("visa", "3184"),
            "pm_card_chargeCustomerFail" => ("visa", "0341"),
            _ => ("visa", "4242"),
        };
        object["id"] = json!(id);
        object["card"]["brand"] = json!(brand);
        object["card"]["last4"] = json!(last4);
        self.cards.insert(id.clone(), Card { object, name: name.to_owned() });
        id
    }

    /// The test method that a card behaves as; none when it may not be used for this customer.
    pub(super) fn behaviour(
        &self,
        card: &str,
        owner: &str,
        is_off_session: bool,
    ) -> Option<String> {
        let card = &self.cards[card];
        let kept_for = &card.object["customer"];
        let is_free = kept_for.is_null() && card.object["metadata"]["detached"].is_null();
        let may = *kept_for == owner || (is_free && !is_off_session);
        may.then(|| card.name.clone())
    }

    pub(super) fn is_named(&self, card: &str, name: &str) -> bool {
        self.cards.get(card).is_some_and(|card| card.name == name)
    }

    pub(super) fn attach(&mut self, card: &str, owner: &Value) {
        let object = &mut self.cards.get_mut(card).unwrap().object;
        if object["customer"] != *owner {
            object["customer"] = owner.clone();
            let object = object.clone();
            self.tell("payment_method.attached", object);
        }
    }

    fn detach(&mut self, id: &str) -> (u16, Value) {
        let Some(card) = self.cards.get_mut(id) else {
            return (404, error("invalid_request_error", "resource_missing"));
        };
        let owner = card.object["customer"].take();
        if owner.is_null() {
            return (400, error("invalid_request_error", "payment_method_unexpected_state"));
        }
        card.object["metadata"]["detached"] = json!("true");
        let object = card.object.clone();
        self.tell("payment_method.detached", object.clone());
        let event = self.events.last_mut().unwrap();
        event["data"]["previous_attributes"] = json!({ "customer": owner });
        (200, object)
    }
}

/// What is answered where a customer is named that is none.
pub(super) fn no_such_customer() -> Value {
    let mut refusal = error("invalid_request_error", "resource_missing");
    refusal["error"]["param"] = json!("customer");
    refusal
}
