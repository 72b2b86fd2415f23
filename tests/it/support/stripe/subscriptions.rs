//! Plans of the double: products, subscriptions, their invoices, and months that go by.

use std::collections::BTreeMap;

use axum::http::Method;
use chrono::{DateTime, Months};
use serde_json::{Value, json};

use super::cards::no_such_customer;
use super::intents::fixture;
use super::{Account, Form, StripeServer, error};

/// What the double has of plans.
#[derive(Default)]
pub(super) struct Plans {
    products: BTreeMap<String, Value>,
    subscriptions: BTreeMap<String, Value>,
    invoices: BTreeMap<String, Value>,
    prices: BTreeMap<String, Value>,
    /// Whether the card of a change wants to hear from its owner.
    asks: bool,
}

impl StripeServer {
    /// A monthly price that somebody made at Stripe.
    pub(crate) fn has_price(&self, id: &str, yen: i64) {
        let mut price = a_price();
        (price["id"], price["unit_amount"]) = (json!(id), json!(yen));
        self.shared.state().plans.prices.insert(id.to_owned(), price);
    }

    /// A customer that somebody made at Stripe.
    pub(crate) fn has_customer(&self, id: &str) {
        let mut customer = fixture("customer");
        customer["id"] = json!(id);
        self.shared.state().customers.insert(id.to_owned(), customer);
    }

    /// From now on cards ask their owner when a subscription is changed, or do not.
    pub(crate) fn card_asks(&self, asks: bool) {
        self.shared.state().plans.asks = asks;
    }

    /// All subscriptions, by their ids.
    pub(crate) fn subscriptions(&self) -> Vec<Value> {
        self.shared.state().plans.subscriptions.values().cloned().collect()
    }

    /// Invoices that were paid, in yen, oldest first.
    pub(crate) fn paid_invoices(&self) -> Vec<i64> {
        let state = self.shared.state();
        let paid = state.plans.invoices.values().filter(|invoice| invoice["status"] == "paid");
        paid.map(|invoice| invoice["amount_paid"].as_i64().unwrap()).collect()
    }

    /// The buyer pays what is open on their page.
    pub(crate) fn pays_open_invoice(&self, id: &str) {
        self.shared.state().pay_open(id);
    }

    /// A month ends: the next one is paid, or is not; what was to end ends.
    pub(crate) fn month_ends(&self, id: &str, is_paid: bool) {
        self.shared.state().end_month(id, is_paid);
    }

    /// Nobody paid a subscription in time.
    pub(crate) fn gives_up(&self, id: &str) {
        self.shared.state().end(id, "incomplete_expired", "customer.subscription.updated");
    }

    /// A change that nobody paid for is forgotten.
    pub(crate) fn forgets_change(&self, id: &str) {
        let mut state = self.shared.state();
        let invoice = state.plans.subscriptions[id]["latest_invoice"].as_str().unwrap().to_owned();
        state.plans.invoices.get_mut(&invoice).unwrap()["status"] = json!("void");
        state.set_subscription(id, &[("pending_update", Value::Null)]);
        state.tell_subscription(id, "customer.subscription.pending_update_expired");
    }

    /// Changes a subscription behind everybody's back.
    pub(crate) fn change_subscription(&self, id: &str, change: impl FnOnce(&mut Value)) {
        change(self.shared.state().plans.subscriptions.get_mut(id).unwrap());
    }
}

/// A monthly price in yen.
fn a_price() -> Value {
    let mut price = fixture("subscription")["items"]["data"][0]["price"].clone();
    price["currency"] = json!("jpy");
    price
}

impl Account {
    pub(super) fn act_on_plans(
        &mut self,
        method: &Method,
        steps: &[&str],
        form: &Form,
    ) -> (u16, Value) {
        let missing = || (404, error("invalid_request_error", "resource_missing"));
        match (method.as_str(), steps) {
            ("POST", ["v1", "products"]) => self.make_product(form),
            ("GET", ["v1", "products", id]) => {
                self.plans.products.get(*id).map_or_else(missing, |it| (200, it.clone()))
            }
            ("POST", ["v1", "prices"]) => self.make_price(form),
            ("GET", ["v1", "prices"]) => (200, self.list_prices(form)),
            ("GET", ["v1", "prices", id]) => {
                self.plans.prices.get(*id).map_or_else(missing, |it| (200, it.clone()))
            }
            ("POST", ["v1", "subscriptions"]) => self.make_subscription(form),
            ("GET", ["v1", "subscriptions"]) => (200, self.list_subscriptions(form)),
            (_, ["v1", "subscriptions", id]) if !self.plans.subscriptions.contains_key(*id) => {
                missing()
            }
            ("GET", ["v1", "subscriptions", id]) => (200, self.expanded(id, form)),
            ("POST", ["v1", "subscriptions", id]) => self.update_subscription(id, form),
            ("DELETE", ["v1", "subscriptions", id]) => match self.status_of(id).as_str() {
                "canceled" | "incomplete_expired" => missing(),
                _ => {
                    self.end(id, "canceled", "customer.subscription.deleted");
                    (200, self.plans.subscriptions[*id].clone())
                }
            },
            ("POST", ["v1", "invoices", "create_preview"]) => self.preview(form),
            (method, path) => panic!("the double knows no {method} {path:?}"),
        }
    }

    fn plans_now(&self) -> i64 {
        let beginning = || crate::support::beginning().timestamp();
        self.time.unwrap_or_else(beginning)
    }

    fn status_of(&self, id: &str) -> String {
        self.plans.subscriptions[id]["status"].as_str().unwrap().to_owned()
    }

    fn make_product(&mut self, form: &Form) -> (u16, Value) {
        assert_eq!(form.unknown(&["id", "name"]), None);
        let id = form.get("id").unwrap();
        if self.plans.products.contains_key(id) {
            return (400, error("invalid_request_error", "resource_already_exists"));
        }
        let mut product = fixture("product");
        product["id"] = json!(id);
        product["name"] = json!(form.get("name").unwrap());
        self.plans.products.insert(id.to_owned(), product.clone());
        (200, product)
    }

    fn make_price(&mut self, form: &Form) -> (u16, Value) {
        let known =
            &["currency", "lookup_key", "product", "recurring", "tax_behavior", "unit_amount"];
        assert_eq!(form.unknown(known), None);
        let name = form.get("lookup_key").unwrap();
        if self.plans.prices.values().any(|price| price["lookup_key"] == name) {
            return (400, error("invalid_request_error", "resource_already_exists"));
        }
        let (product, amount) = (form.get("product").unwrap(), form.get("unit_amount").unwrap());
        if !self.plans.products.contains_key(product) {
            return (400, error("invalid_request_error", "resource_missing"));
        }
        assert_eq!(form.get("recurring[interval]"), Some("month"));
        let id = self.next_id("price");
        let mut price = a_price();
        for (field, value) in [
            ("id", json!(id)),
            ("lookup_key", json!(name)),
            ("product", json!(product)),
            ("tax_behavior", json!(form.get("tax_behavior").unwrap())),
            ("unit_amount", json!(amount.parse::<i64>().unwrap())),
        ] {
            price[field] = value;
        }
        self.plans.prices.insert(id, price.clone());
        (200, price)
    }

    fn list_prices(&self, form: &Form) -> Value {
        assert_eq!(form.unknown(&["active", "limit", "lookup_keys"]), None);
        let name = form.get("lookup_keys[0]").unwrap();
        let found = self.plans.prices.values().filter(|price| price["lookup_key"] == name);
        let found: Vec<&Value> = found.collect();
        json!({ "object": "list", "url": "/v1/prices", "has_more": false, "data": found })
    }

    /// The price that a form tells in a group, such as `items[0]`; none when it can be no price.
    fn price(&mut self, form: &Form, group: &str) -> Option<Value> {
        let told = |name: &str| form.get(&format!("{group}{name}"));
        let mut price = a_price();
        if let Some(id) = told("[price]") {
            price = self.plans.prices.get(id)?.clone();
        } else {
            let product = told("[price_data][product]").unwrap();
            let amount = told("[price_data][unit_amount]").unwrap();
            assert_eq!(told("[price_data][currency]"), Some("jpy"));
            assert_eq!(told("[price_data][recurring][interval]"), Some("month"));
            assert_eq!(told("[price_data][tax_behavior]"), Some("inclusive"));
            self.plans.products.get(product)?;
            price["id"] = json!(self.next_id("price"));
            price["product"] = json!(product);
            price["unit_amount"] = json!(amount.parse::<i64>().unwrap());
            price["tax_behavior"] = json!("inclusive");
        }
        price["unit_amount_decimal"] = json!(price["unit_amount"].to_string());
        Some(price)
    }

    fn make_subscription(&mut self, form: &Form) -> (u16, Value) {
        let known = &[
            "customer",
            "default_payment_method",
            "expand",
            "items",
            "metadata",
            "payment_behavior",
            "payment_settings",
        ];
        assert_eq!(form.unknown(known), None);
        assert_eq!(form.get("payment_behavior"), Some("default_incomplete"));
        let settings = "payment_settings[save_default_payment_method]";
        assert_eq!(form.get(settings), Some("on_subscription"));
        let customer = form.get("customer").unwrap();
        if !self.customers.contains_key(customer) {
            return (400, no_such_customer());
        }
        let has_card = form.get("default_payment_method") != Some("pm_of_somebody_else");
        let Some(price) = self.price(form, "items[0]").filter(|_| has_card) else {
            return (400, error("invalid_request_error", "resource_missing"));
        };
        let (id, item) = (self.next_id("sub"), self.next_id("si"));
        let mut made = fixture("subscription");
        for (field, value) in [
            ("id", json!(id)),
            ("status", json!("incomplete")),
            ("customer", json!(customer)),
            ("currency", json!("jpy")),
            ("created", json!(self.plans_now())),
            ("metadata", json!(form.group("metadata"))),
            ("default_payment_method", json!(form.get("default_payment_method"))),
            ("cancel_at_period_end", json!(false)),
            ("cancel_at", Value::Null),
            ("canceled_at", Value::Null),
            ("ended_at", Value::Null),
            ("pending_update", Value::Null),
            ("pause_collection", Value::Null),
            ("trial_end", Value::Null),
            ("trial_start", Value::Null),
        ] {
            made[field] = value;
        }
        made["items"]["data"][0]["id"] = json!(item);
        made["items"]["data"][0]["subscription"] = json!(id);
        made["items"]["data"][0]["price"] = price;
        self.plans.subscriptions.insert(id.clone(), made);
        self.begin_month(&id, self.plans_now());
        self.tell_subscription(&id, "customer.subscription.created");
        let whole = self.whole_line(&id);
        self.bill(&id, vec![whole], "subscription_create");
        (200, self.expanded(&id, form))
    }

    fn begin_month(&mut self, id: &str, start: i64) {
        let item = &mut self.plans.subscriptions.get_mut(id).unwrap()["items"]["data"][0];
        item["current_period_start"] = json!(start);
        item["current_period_end"] = json!(a_month_after(start));
    }

    fn whole_line(&self, id: &str) -> (i64, i64, i64) {
        let item = &self.plans.subscriptions[id]["items"]["data"][0];
        let number = |value: &Value| value.as_i64().unwrap();
        (
            number(&item["price"]["unit_amount"]),
            number(&item["current_period_start"]),
            number(&item["current_period_end"]),
        )
    }

    /// What a change to a price that begins a month now is billed.
    fn change_lines(&self, id: &str, price: &Value) -> Vec<(i64, i64, i64)> {
        let (old, start, end) = self.whole_line(id);
        let now = self.plans_now();
        let credit = (2 * old * (end - now) + (end - start)) / (2 * (end - start));
        let whole = price["unit_amount"].as_i64().unwrap();
        vec![(-credit, now, end), (whole, now, a_month_after(now))]
    }

    /// Makes an invoice of lines, open and the latest.
    fn bill(&mut self, id: &str, lines: Vec<(i64, i64, i64)>, reason: &str) {
        let invoice = self.invoice(id, &lines, reason);
        let number = invoice["id"].as_str().unwrap().to_owned();
        self.set_subscription(id, &[("latest_invoice", json!(number))]);
        self.plans.invoices.insert(number, invoice);
    }

    fn invoice(&mut self, id: &str, lines: &[(i64, i64, i64)], reason: &str) -> Value {
        let number = self.next_id("in");
        let secret = format!("{}_secret_double", self.next_id("pi"));
        let total: i64 = lines.iter().map(|line| line.0).sum();
        let subscription = &self.plans.subscriptions[id];
        let mut invoice = fixture("invoice");
        let line = invoice["lines"]["data"][0].clone();
        let lines = lines.iter().enumerate().map(|(place, (amount, start, end))| {
            let mut line = line.clone();
            line["id"] = json!(format!("il_{number}_{place}"));
            line["amount"] = json!(amount);
            line["currency"] = json!("jpy");
            line["period"] = json!({ "start": start, "end": end });
            line
        });
        let details = json!({ "metadata": subscription["metadata"], "subscription": id });
        for (field, value) in [
            ("id", json!(number)),
            ("status", json!("open")),
            ("billing_reason", json!(reason)),
            ("currency", json!("jpy")),
            ("customer", subscription["customer"].clone()),
            ("amount_due", json!(total)),
            ("amount_remaining", json!(total)),
            ("subtotal", json!(total)),
            ("total", json!(total)),
            (
                "parent",
                json!({ "type": "subscription_details", "quote_details": null,
                "subscription_details": details }),
            ),
            ("confirmation_secret", json!({ "client_secret": secret, "type": "payment_intent" })),
        ] {
            invoice[field] = value;
        }
        invoice["lines"]["data"] = json!(lines.collect::<Vec<_>>());
        invoice
    }

    /// The subscription with its invoice, when that was asked for.
    fn expanded(&self, id: &str, form: &Form) -> Value {
        let mut told = self.plans.subscriptions[id].clone();
        if form.get("expand[0]") == Some("latest_invoice.confirmation_secret") {
            let invoice = told["latest_invoice"].as_str().unwrap();
            told["latest_invoice"] = self.plans.invoices[invoice].clone();
        }
        told
    }

    fn list_subscriptions(&self, form: &Form) -> Value {
        assert_eq!(form.get("status"), Some("all"));
        let (customer, limit) = (form.get("customer").unwrap(), form.get("limit").unwrap());
        let of_customer = |it: &&Value| it["customer"] == customer;
        let all = self.plans.subscriptions.values().rev().filter(of_customer);
        let after = form.get("starting_after");
        let mut all: Vec<&Value> =
            all.skip_while(|it| after.is_some_and(|after| it["id"] != after)).collect();
        if after.is_some() {
            all.remove(0);
        }
        let limit = limit.parse().unwrap();
        let has_more = all.len() > limit;
        all.truncate(limit);
        json!({ "object": "list", "url": "/v1/subscriptions", "has_more": has_more, "data": all })
    }

    fn update_subscription(&mut self, id: &str, form: &Form) -> (u16, Value) {
        let known = &[
            "billing_cycle_anchor",
            "cancel_at_period_end",
            "expand",
            "items",
            "metadata",
            "payment_behavior",
            "proration_behavior",
        ];
        assert_eq!(form.unknown(known), None);
        let invalid = (400, error("invalid_request_error", "invalid_request"));
        if matches!(&*self.status_of(id), "canceled" | "incomplete_expired") {
            return invalid;
        }
        // What waits for its payment may be no more than this.
        let waits = form.get("payment_behavior") == Some("pending_if_incomplete");
        if waits && (form.get("items[0][price]").is_none() || !form.group("metadata").is_empty()) {
            return invalid;
        }
        let metadata = form.group("metadata");
        for (name, value) in metadata {
            self.plans.subscriptions.get_mut(id).unwrap()["metadata"][name] = json!(value);
        }
        if let Some(is_ending) = form.get("cancel_at_period_end") {
            self.set_subscription(id, &[("cancel_at_period_end", json!(is_ending == "true"))]);
        }
        if let Some(item) = form.get("items[0][id]") {
            assert_eq!(self.plans.subscriptions[id]["items"]["data"][0]["id"], item);
            let Some(price) = self.price(form, "items[0]") else { return invalid };
            if form.get("proration_behavior") == Some("none") {
                self.plans.subscriptions.get_mut(id).unwrap()["items"]["data"][0]["price"] = price;
            } else {
                assert_eq!(form.get("proration_behavior"), Some("always_invoice"));
                assert_eq!(form.get("payment_behavior"), Some("pending_if_incomplete"));
                assert_eq!(form.get("billing_cycle_anchor[type]"), Some("now"));
                self.change_price(id, price);
                return (200, self.expanded(id, form));
            }
        }
        self.tell_subscription(id, "customer.subscription.updated");
        (200, self.expanded(id, form))
    }

    fn change_price(&mut self, id: &str, price: Value) {
        let lines = self.change_lines(id, &price);
        self.bill(id, lines, "subscription_update");
        let mut item = self.plans.subscriptions[id]["items"]["data"][0].clone();
        item["price"] = price;
        let waits = json!({ "billing_cycle_anchor": self.plans_now(), "discounts": [],
            "expires_at": self.plans_now() + 82_800, "subscription_items": [item], "metadata": null,
            "trial_end": null, "trial_from_plan": null });
        self.set_subscription(id, &[("pending_update", waits)]);
        if self.plans.asks {
            self.tell_subscription(id, "customer.subscription.updated");
        } else {
            self.pay_open(id);
        }
    }

    fn pay_open(&mut self, id: &str) {
        let number = self.plans.subscriptions[id]["latest_invoice"].as_str().unwrap().to_owned();
        let now = self.plans_now();
        let invoice = self.plans.invoices.get_mut(&number).unwrap();
        assert_eq!(invoice["status"], "open");
        invoice["status"] = json!("paid");
        invoice["amount_paid"] = invoice["amount_due"].clone();
        invoice["amount_remaining"] = json!(0);
        invoice["status_transitions"]["paid_at"] = json!(now);
        let invoice = invoice.clone();
        if matches!(&*self.status_of(id), "canceled" | "incomplete_expired") {
            return self.tell("invoice.paid", invoice);
        }
        let pending = self.plans.subscriptions[id]["pending_update"]["subscription_items"].clone();
        if let Some(item) = pending.get(0) {
            self.plans.subscriptions.get_mut(id).unwrap()["items"]["data"][0] = item.clone();
            self.begin_month(id, self.plans_now());
        }
        self.set_subscription(id, &[("status", json!("active")), ("pending_update", Value::Null)]);
        self.tell("invoice.paid", invoice.clone());
        self.tell("invoice.payment_succeeded", invoice);
        self.tell_subscription(id, "customer.subscription.updated");
    }

    fn end_month(&mut self, id: &str, is_paid: bool) {
        let (_, _, end) = self.whole_line(id);
        assert!(self.plans_now() >= end, "the month goes on until {end}");
        if self.plans.subscriptions[id]["cancel_at_period_end"] == true {
            return self.end(id, "canceled", "customer.subscription.deleted");
        }
        self.begin_month(id, end);
        let whole = self.whole_line(id);
        self.bill(id, vec![whole], "subscription_cycle");
        if is_paid {
            return self.pay_open(id);
        }
        self.set_subscription(id, &[("status", json!("past_due"))]);
        let number = self.plans.subscriptions[id]["latest_invoice"].as_str().unwrap();
        self.tell("invoice.payment_failed", self.plans.invoices[number].clone());
        self.tell_subscription(id, "customer.subscription.updated");
    }

    fn end(&mut self, id: &str, status: &str, event: &str) {
        let (_, _, end) = self.whole_line(id);
        let is_due = self.plans.subscriptions[id]["cancel_at_period_end"] == true;
        let at = if is_due { end.min(self.plans_now()) } else { self.plans_now() };
        let fields =
            [("status", json!(status)), ("ended_at", json!(at)), ("canceled_at", json!(at))];
        self.set_subscription(id, &fields);
        self.tell_subscription(id, event);
    }

    /// Ends what a customer pays by the month.
    pub(super) fn end_all_of(&mut self, customer: &str) {
        let is_over =
            |it: &Value| it["status"] == "canceled" || it["status"] == "incomplete_expired";
        let all = self.plans.subscriptions.values();
        let open = all.filter(|it| it["customer"] == customer && !is_over(it));
        let open: Vec<String> = open.map(|it| it["id"].as_str().unwrap().to_owned()).collect();
        for id in open {
            self.end(&id, "canceled", "customer.subscription.deleted");
        }
    }

    fn preview(&mut self, form: &Form) -> (u16, Value) {
        assert_eq!(form.unknown(&["subscription", "subscription_details"]), None);
        let id = form.get("subscription").unwrap();
        let told = |name: &str| form.get(&format!("subscription_details[{name}]"));
        assert_eq!(told("proration_behavior"), Some("always_invoice"));
        assert_eq!(told("billing_cycle_anchor][type"), Some("now"));
        let price = self.price(form, "subscription_details[items][0]").unwrap();
        let lines = self.change_lines(id, &price);
        let mut invoice = self.invoice(id, &lines, "upcoming");
        invoice["status"] = json!("draft");
        invoice["confirmation_secret"] = Value::Null;
        (200, invoice)
    }

    fn set_subscription(&mut self, id: &str, fields: &[(&str, Value)]) {
        let subscription = self.plans.subscriptions.get_mut(id).unwrap();
        for (field, value) in fields {
            subscription[*field] = value.clone();
        }
    }

    fn tell_subscription(&mut self, id: &str, kind: &str) {
        self.tell(kind, self.plans.subscriptions[id].clone());
    }
}

fn a_month_after(seconds: i64) -> i64 {
    let start = DateTime::from_timestamp(seconds, 0).unwrap();
    start.checked_add_months(Months::new(1)).unwrap().timestamp()
}
