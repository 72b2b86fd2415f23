//! Invoices, disputes and the list of events of the double.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::cards::no_such_customer;
use super::intents::fixture;
use super::{Account, Form, StripeServer, error};

/// Seconds of a day.
const DAY: i64 = 86_400;
const NEW_INVOICE: &[&str] = &[
    "auto_advance",
    "collection_method",
    "currency",
    "customer",
    "days_until_due",
    "expand",
    "metadata",
    "pending_invoice_items_behavior",
    "rendering",
];

/// What the account has of paper.
#[derive(Default)]
pub(super) struct Papers {
    invoices: BTreeMap<String, Value>,
    disputes: BTreeMap<String, Value>,
    /// Days that the payer of an invoice has.
    days: BTreeMap<String, i64>,
    /// Invoices that were mailed, and to whom.
    mailed: Vec<(String, String)>,
}

type Reply = (u16, Value);

impl StripeServer {
    /// All invoices, oldest first.
    pub(crate) fn invoices(&self) -> Vec<Value> {
        self.shared.state().papers.invoices.values().cloned().collect()
    }

    /// Invoices that were mailed, and to whom.
    pub(crate) fn mailed(&self) -> Vec<(String, String)> {
        self.shared.state().papers.mailed.clone()
    }

    /// The payer of an invoice pays it on its page.
    pub(crate) fn pay_invoice(&self, id: &str) {
        self.shared.state().pay_invoice(id);
    }

    /// A card was refused on an invoice's page.
    pub(crate) fn refuse_invoice(&self, id: &str) {
        self.shared.state().tell_invoice("invoice.payment_failed", id);
    }

    /// Stripe finds an invoice overdue.
    pub(crate) fn find_overdue(&self, id: &str) {
        self.shared.state().tell_invoice("invoice.overdue", id);
    }

    /// The operator writes an invoice off.
    pub(crate) fn write_off(&self, id: &str) {
        let mut state = self.shared.state();
        assert_eq!(state.papers.invoices[id]["status"], "open");
        state.set_invoice(id, &[("status", json!("uncollectible"))]);
        state.tell_invoice("invoice.marked_uncollectible", id);
    }

    /// Changes an invoice behind everybody's back.
    pub(crate) fn change_invoice(&self, id: &str, change: impl FnOnce(&mut Value)) {
        change(self.shared.state().papers.invoices.get_mut(id).unwrap());
    }

    /// The payer's bank disputes a payment. Stripe's id of it.
    pub(crate) fn dispute(&self, intent: &str, amount: i64, status: &str) -> String {
        self.shared.state().dispute(intent, amount, status)
    }

    /// A dispute goes on; how it is told.
    pub(crate) fn decide(&self, id: &str, status: &str, kind: &str) {
        let mut state = self.shared.state();
        let dispute = state.papers.disputes.get_mut(id).unwrap();
        dispute["status"] = json!(status);
        let dispute = dispute.clone();
        state.tell(kind, dispute);
    }

    /// Changes a dispute behind everybody's back.
    pub(crate) fn change_dispute(&self, id: &str, change: impl FnOnce(&mut Value)) {
        change(self.shared.state().papers.disputes.get_mut(id).unwrap());
    }
}

impl Account {
    /// Whether the payer's bank has the money of a payment, or may have.
    pub(super) fn is_disputed(&self, intent: &str) -> bool {
        let mut disputes = self.papers.disputes.values();
        disputes.any(|dispute| {
            let status = dispute["status"].as_str().unwrap();
            dispute["payment_intent"] == intent
                && matches!(status, "needs_response" | "under_review" | "lost")
        })
    }

    pub(super) fn act_on_papers(&mut self, method: &str, steps: &[&str], form: &Form) -> Reply {
        let missing = || (404, error("invalid_request_error", "resource_missing"));
        if let ["invoices", id, ..] = steps
            && !self.papers.invoices.contains_key(*id)
        {
            return missing();
        }
        match (method, steps) {
            ("POST", ["customers", id]) => self.address(id, form),
            ("POST", ["invoices"]) => self.make_invoice(form),
            ("POST", ["invoices", id, "add_lines"]) => self.add_line(id, form),
            ("POST", ["invoices", id, "finalize"]) => self.finalize(id, form),
            ("POST", ["invoices", id, "send"]) => self.send(id, form),
            ("POST", ["invoices", id, "void"]) => self.void(id, form),
            ("DELETE", ["invoices", id]) => self.delete(id),
            ("GET", ["invoices", id]) => self.show(id, form, &["expand"]),
            ("GET", ["invoices"]) => (200, self.list_invoices(form)),
            ("GET", ["invoice_payments"]) => (200, self.list_payments(form)),
            ("GET", ["disputes", id]) => match self.papers.disputes.get(*id) {
                Some(dispute) => (200, dispute.clone()),
                None => missing(),
            },
            ("GET", ["events"]) => (200, self.list_events(form)),
            (method, path) => panic!("the double knows no {method} {path:?}"),
        }
    }

    fn address(&mut self, id: &str, form: &Form) -> Reply {
        assert_eq!(form.unknown(&["email", "name", "preferred_locales"]), None);
        let Some(customer) = self.customers.get_mut(id) else {
            return (404, error("invalid_request_error", "resource_missing"));
        };
        if !form.get("email").unwrap().contains('@') {
            return (400, error("invalid_request_error", "email_invalid"));
        }
        customer["email"] = json!(form.get("email"));
        customer["name"] = json!(form.get("name"));
        (200, customer.clone())
    }

    fn make_invoice(&mut self, form: &Form) -> Reply {
        assert_eq!(form.unknown(NEW_INVOICE), None);
        assert_eq!(form.get("collection_method"), Some("send_invoice"));
        assert_eq!(form.get("pending_invoice_items_behavior"), Some("exclude"));
        let customer = form.get("customer").unwrap();
        if !self.customers.contains_key(customer) {
            return (400, no_such_customer());
        }
        let id = self.next_id("in");
        let mut invoice = fixture_of("invoice");
        for (field, value) in [
            ("id", json!(id)),
            ("customer", json!(customer)),
            ("currency", json!(form.get("currency").unwrap())),
            ("collection_method", json!("send_invoice")),
            ("auto_advance", json!(form.get("auto_advance") == Some("true"))),
            ("metadata", json!(form.group("metadata"))),
            ("created", json!(self.now())),
            ("due_date", Value::Null),
            ("status", json!("draft")),
            ("from_invoice", Value::Null),
            ("last_finalization_error", Value::Null),
            ("parent", Value::Null),
        ] {
            invoice[field] = value;
        }
        invoice["lines"]["data"] = json!([]);
        invoice["payments"] = list(Vec::new(), false);
        self.papers.invoices.insert(id.clone(), invoice);
        let days = form.get("days_until_due").unwrap().parse().unwrap();
        self.papers.days.insert(id.clone(), days);
        self.total(&id, 0);
        self.tell_invoice("invoice.created", &id);
        self.show(&id, form, NEW_INVOICE)
    }

    /// One line whose tax, reckoned by us, is in its amount.
    fn add_line(&mut self, id: &str, form: &Form) -> Reply {
        if self.papers.invoices[id]["status"] != "draft" {
            return (400, error("invalid_request_error", "invoice_not_editable"));
        }
        let number = |name: &str| -> i64 {
            let field = format!("lines[0]{name}");
            form.get(&field).unwrap_or_else(|| panic!("no {field}")).parse().unwrap()
        };
        let amount = number("[amount]");
        let tax = number("[tax_amounts][0][amount]");
        let taxable = number("[tax_amounts][0][taxable_amount]");
        let rate = "lines[0][tax_amounts][0][tax_rate_data]";
        assert_eq!(form.get(&format!("{rate}[inclusive]")), Some("true"));
        assert!(form.get(&format!("{rate}[display_name]")).is_some());
        assert!(form.get(&format!("{rate}[percentage]")).is_some());
        assert_eq!(tax + taxable, amount, "the tax is in the amount");
        let mut line = fixture_of("line_item");
        line["id"] = json!(self.next_id("il"));
        line["invoice"] = json!(id);
        line["amount"] = json!(amount);
        line["subtotal"] = json!(amount);
        line["currency"] = self.papers.invoices[id]["currency"].clone();
        line["description"] = json!(form.get("lines[0][description]"));
        line["taxes"] = json!([{ "amount": tax, "tax_behavior": "inclusive",
            "taxability_reason": "standard_rated", "taxable_amount": taxable,
            "tax_rate_details": { "tax_rate": "txr_double" }, "type": "tax_rate_details" }]);
        let invoice = self.papers.invoices.get_mut(id).unwrap();
        invoice["lines"]["data"].as_array_mut().unwrap().push(line);
        let total = invoice["total"].as_i64().unwrap() + amount;
        self.total(id, total);
        self.tell_invoice("invoice.updated", id);
        self.show(id, form, &["expand", "lines"])
    }

    fn finalize(&mut self, id: &str, form: &Form) -> Reply {
        if self.papers.invoices[id]["status"] != "draft" {
            return (400, error("invalid_request_error", "invoice_not_editable"));
        }
        let total = self.papers.invoices[id]["total"].clone();
        let customer =
            self.customers[self.papers.invoices[id]["customer"].as_str().unwrap()].clone();
        let intent = self.next_id("pi");
        let mut payment = fixture("payment_intent");
        for (field, value) in [
            ("id", json!(intent)),
            ("amount", total.clone()),
            ("currency", self.papers.invoices[id]["currency"].clone()),
            ("customer", customer["id"].clone()),
            ("metadata", json!({})),
            ("canceled_at", Value::Null),
            ("last_payment_error", Value::Null),
            ("next_action", Value::Null),
        ] {
            payment[field] = value;
        }
        self.order.push(intent.clone());
        self.intents.insert(intent.clone(), payment);
        let mut entry = fixture_of("invoice_payment");
        for (field, value) in [
            ("id", json!(self.next_id("inpay"))),
            ("invoice", json!(id)),
            ("amount_requested", total),
            ("currency", self.papers.invoices[id]["currency"].clone()),
            ("livemode", json!(false)),
            ("payment", json!({ "type": "payment_intent", "payment_intent": intent })),
            ("status", json!("open")),
        ] {
            entry[field] = value;
        }
        let due = self.now() + self.papers.days[id] * DAY;
        let number = self.papers.days.len();
        self.set_invoice(
            id,
            &[
                ("status", json!("open")),
                ("number", json!(format!("DOUBLE-{number:04}"))),
                ("hosted_invoice_url", json!(format!("https://invoice.stripe.test/i/{id}"))),
                ("invoice_pdf", json!(format!("https://invoice.stripe.test/i/{id}/pdf"))),
                ("due_date", json!(due)),
                ("customer_email", customer["email"].clone()),
                ("customer_name", customer["name"].clone()),
                ("payments", list(vec![entry], false)),
            ],
        );
        self.tell_invoice("invoice.finalized", id);
        self.show(id, form, &["auto_advance", "expand"])
    }

    fn send(&mut self, id: &str, form: &Form) -> Reply {
        let invoice = &self.papers.invoices[id];
        let Some(email) =
            invoice["customer_email"].as_str().filter(|_| invoice["status"] == "open")
        else {
            return (400, error("invalid_request_error", "invoice_not_sendable"));
        };
        self.papers.mailed.push((id.to_owned(), email.to_owned()));
        self.tell_invoice("invoice.sent", id);
        self.show(id, form, &["expand"])
    }

    fn void(&mut self, id: &str, form: &Form) -> Reply {
        if !["open", "uncollectible"].map(Value::from).contains(&self.papers.invoices[id]["status"])
        {
            return (400, error("invalid_request_error", "invoice_not_voidable"));
        }
        self.set_invoice(id, &[("status", json!("void"))]);
        let intent = self.intent_of(id);
        self.set(&intent, "canceled", &[]);
        self.tell_invoice("invoice.voided", id);
        self.show(id, form, &["expand"])
    }

    fn delete(&mut self, id: &str) -> Reply {
        if self.papers.invoices[id]["status"] != "draft" {
            return (400, error("invalid_request_error", "invoice_not_deletable"));
        }
        self.tell_invoice("invoice.deleted", id);
        self.papers.invoices.remove(id);
        (200, json!({ "id": id, "object": "invoice", "deleted": true }))
    }

    fn pay_invoice(&mut self, id: &str) {
        let status = self.papers.invoices[id]["status"].clone();
        assert!(status == "open" || status == "uncollectible", "{status}");
        let intent = self.intent_of(id);
        self.pay(&intent);
        let invoice = self.papers.invoices.get_mut(id).unwrap();
        let total = invoice["total"].clone();
        let entry = &mut invoice["payments"]["data"][0];
        entry["status"] = json!("paid");
        entry["amount_paid"] = total.clone();
        let fields = [
            ("status", json!("paid")),
            ("amount_paid", total),
            ("amount_remaining", json!(0)),
            ("attempted", json!(true)),
        ];
        self.set_invoice(id, &fields);
        self.tell_invoice("invoice.paid", id);
        self.tell_invoice("invoice.payment_succeeded", id);
    }

    fn intent_of(&self, id: &str) -> String {
        let entry = &self.papers.invoices[id]["payments"]["data"][0];
        entry["payment"]["payment_intent"].as_str().unwrap().to_owned()
    }

    fn total(&mut self, id: &str, total: i64) {
        let fields = ["total", "subtotal", "amount_due", "amount_remaining"];
        for field in fields {
            self.papers.invoices.get_mut(id).unwrap()[field] = json!(total);
        }
    }

    fn set_invoice(&mut self, id: &str, fields: &[(&str, Value)]) {
        for (field, value) in fields {
            self.papers.invoices.get_mut(id).unwrap()[*field] = value.clone();
        }
    }

    /// As it stands in an answer: its payments only when they are asked for.
    fn show(&self, id: &str, form: &Form, known: &[&str]) -> Reply {
        assert_eq!(form.unknown(known), None);
        let mut invoice = self.papers.invoices[id].clone();
        if form.get("expand[0]") != Some("payments") {
            invoice.as_object_mut().unwrap().remove("payments");
        }
        (200, invoice)
    }

    /// No event has what must be asked for.
    fn tell_invoice(&mut self, kind: &str, id: &str) {
        let mut invoice = self.papers.invoices[id].clone();
        invoice.as_object_mut().unwrap().remove("payments");
        self.tell(kind, invoice);
    }

    fn list_invoices(&self, form: &Form) -> Value {
        let since: i64 = form.get("created[gte]").unwrap().parse().unwrap();
        let customer = form.get("customer").unwrap();
        assert_eq!(form.get("expand[0]"), Some("data.payments"));
        let mut all: Vec<Value> = self.papers.invoices.values().cloned().collect();
        all.retain(|it| it["customer"] == customer && it["created"].as_i64().unwrap() >= since);
        all.reverse();
        page(all, form)
    }

    fn list_payments(&self, form: &Form) -> Value {
        assert_eq!(form.get("payment[type]"), Some("payment_intent"));
        let intent = form.get("payment[payment_intent]").unwrap();
        let payments = self.papers.invoices.values();
        let payments = payments.flat_map(|it| it["payments"]["data"].as_array().unwrap().clone());
        let of = payments.filter(|entry| entry["payment"]["payment_intent"] == intent);
        page(of.collect(), form)
    }

    fn list_events(&self, form: &Form) -> Value {
        let bound = |name: &str| form.get(name).unwrap().parse::<i64>().unwrap();
        let (from, until) = (bound("created[gte]"), bound("created[lt]"));
        let types: BTreeSet<String> =
            (0..).map_while(|at| form.get(&format!("types[{at}]")).map(str::to_owned)).collect();
        assert!((1..=20).contains(&types.len()), "{types:?}");
        let mut all = self.events.clone();
        all.retain(|event| {
            let created = event["created"].as_i64().unwrap();
            types.contains(event["type"].as_str().unwrap()) && (from..until).contains(&created)
        });
        all.sort_by_key(|event| event["created"].as_i64());
        all.reverse();
        page(all, form)
    }

    fn dispute(&mut self, intent: &str, amount: i64, status: &str) -> String {
        let id = self.next_id("dp");
        let mut dispute = fixture_of("dispute");
        let payment = &self.intents[intent];
        assert_eq!(payment["status"], "succeeded");
        for (field, value) in [
            ("id", json!(id)),
            ("amount", json!(amount)),
            ("currency", payment["currency"].clone()),
            ("charge", payment["latest_charge"].clone()),
            ("payment_intent", json!(intent)),
            ("reason", json!("fraudulent")),
            ("status", json!(status)),
        ] {
            dispute[field] = value;
        }
        self.papers.disputes.insert(id.clone(), dispute.clone());
        self.tell("charge.dispute.created", dispute);
        id
    }
}

/// One of Stripe's own objects.
fn fixture_of(name: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("invoice-fixtures.json")).unwrap();
    assert!(!all[name].is_null(), "no fixture {name}");
    all[name].clone()
}

fn list(data: Vec<Value>, has_more: bool) -> Value {
    json!({ "object": "list", "url": "/v1/double", "has_more": has_more, "data": data })
}

/// A page of a list, newest first.
fn page(mut all: Vec<Value>, form: &Form) -> Value {
    if let Some(last) = form.get("starting_after") {
        let at = all.iter().position(|entry| entry["id"] == last).unwrap();
        all.drain(..=at);
    }
    let limit: usize = form.get("limit").unwrap().parse().unwrap();
    let has_more = all.len() > limit;
    all.truncate(limit);
    list(all, has_more)
}
