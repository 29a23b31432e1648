//! Owns what the tests ask of a running server by its API, beyond single requests.
//! It must not judge: what is right is the test's to say.

use std::collections::BTreeMap;

use serde_json::Value;

use super::server::Server;
use super::time::wait_for;

impl Server {
    /// `POST` with JSON at the admin listener; the test fails where the answer is not 2xx. Gives its JSON, or null
    /// where there is no body.
    pub(crate) fn order(&self, path: &str, body: &Value) -> Value {
        let answer = self.call("POST", path, Some(body));
        let fine = (200..300).contains(&answer.status);
        assert!(fine, "POST {path}: {} {}", answer.status, answer.text());
        if answer.body.is_empty() {
            Value::Null
        } else {
            answer.json()
        }
    }

    /// All items of a list, over all its pages.
    pub(crate) fn list(&self, path: &str) -> Vec<Value> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{path}{mark}limit=1000{cursor}"));
            items.extend(page["data"].as_array().expect("a page has data").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    /// The one event with that id of the provider's, with its deliveries.
    pub(crate) fn event(&self, provider_id: &str) -> Value {
        let found = self.list(&format!("/api/v1/events?provider_id={provider_id}"));
        assert_eq!(found.len(), 1, "events with the id {provider_id}: {found:?}");
        self.get(&format!("/api/v1/events/{}", text(&found[0]["id"])))
    }

    /// The one delivery of the event with that id of the provider's, with its attempts.
    pub(crate) fn delivery(&self, provider_id: &str) -> Value {
        let event = self.event(provider_id);
        let deliveries = event["deliveries"].as_array().expect("an event has deliveries");
        assert_eq!(deliveries.len(), 1, "{event}");
        self.get(&format!("/api/v1/deliveries/{}", text(&deliveries[0]["id"])))
    }

    /// Waits until that delivery is in that state, and gives it.
    pub(crate) fn wait_for_state(&self, provider_id: &str, state: &str) -> Value {
        wait_for(&format!("{provider_id} to be {state}"), || {
            let delivery = self.delivery(provider_id);
            (delivery["state"] == state).then_some(delivery)
        })
    }

    /// How many deliveries are in each state that has any.
    pub(crate) fn states(&self) -> BTreeMap<String, u64> {
        let stats = self.get("/api/v1/stats");
        let states = stats["deliveries"].as_object().expect("stats have deliveries");
        let count = |(state, count): (&String, &Value)| (state.clone(), count.as_u64().unwrap_or(0));
        states.iter().map(count).filter(|(_, count)| *count > 0).collect()
    }

    /// Waits until exactly so many deliveries are in these states, and none in another. The counts that are shown
    /// may be a moment old.
    pub(crate) fn wait_for_states(&self, states: &[(&str, u64)]) {
        let counts = states.iter().map(|(state, count)| ((*state).to_owned(), *count));
        let wanted: BTreeMap<String, u64> = counts.collect();
        wait_for(&format!("the deliveries to be {wanted:?}"), || {
            (self.states() == wanted).then_some(())
        });
    }

    /// Waits until that many deliveries have been made and none is left to make.
    pub(crate) fn wait_for_delivered(&self, count: u64) {
        self.wait_for_states(&[("delivered", count)]);
    }
}

/// A JSON string as it is; the test fails where it is none.
pub(crate) fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("expected a text, found {value}"))
}
