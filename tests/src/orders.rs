//! orders-service as its operator calls it: orders, drivers, devices and intents.

use std::collections::BTreeMap;
use std::ops::Deref;

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};

use freehold_harness::Service;
use freehold_harness::http::{Api, Reply};

#[derive(Clone, Debug)]
pub struct OrderApi(Api);

impl OrderApi {
    pub fn of(service: &Service) -> OrderApi {
        OrderApi(Api::of(service))
    }

    pub async fn place(&self, user_id: &str, amount_minor: i64, currency: &str) -> Reply {
        let order = json!({"user_id": user_id, "amount_minor": amount_minor, "currency": currency});
        self.send(Method::POST, "/orders", &order).await
    }

    pub async fn order(&self, id: &str) -> Reply {
        self.get(&format!("/orders/{id}")).await
    }

    /// The same, and its user: from the cache, or from user-service when the cache lacks it.
    pub async fn order_with_user(&self, id: &str) -> Reply {
        self.get(&format!("/orders/{id}?include=user")).await
    }

    pub async fn orders_of(&self, user_id: &str) -> Reply {
        self.get(&format!("/orders?user_id={user_id}")).await
    }

    pub async fn enrol_driver(&self, name: &str) -> Reply {
        self.send(Method::POST, "/drivers", &json!({"name": name}))
            .await
    }

    pub async fn driver(&self, id: &str) -> Reply {
        self.get(&format!("/drivers/{id}")).await
    }

    /// For one device.
    pub async fn code(&self, driver_id: &str) -> Reply {
        self.send(
            Method::POST,
            &format!("/drivers/{driver_id}/codes"),
            &json!({}),
        )
        .await
    }

    /// At any version.
    pub async fn revoke_driver(&self, id: &str) -> Reply {
        self.change(&format!("/drivers/{id}/revoke"), None, &json!({}))
            .await
    }

    pub async fn revoke_device(&self, id: &str) -> Reply {
        self.change(&format!("/devices/{id}/revoke"), None, &json!({}))
            .await
    }

    pub async fn history(&self, id: &str) -> Reply {
        self.get(&format!("/orders/{id}/history?limit=200")).await
    }

    /// If the order is at this version; `None` for any.
    pub async fn assign(&self, id: &str, version: Option<u64>, driver_id: &str) -> Reply {
        let body = json!({"driver_id": driver_id});
        self.change(&format!("/orders/{id}/assign"), version, &body)
            .await
    }

    pub async fn unassign(&self, id: &str, version: Option<u64>) -> Reply {
        self.change(&format!("/orders/{id}/unassign"), version, &json!({}))
            .await
    }

    /// `customer_request`, `out_of_stock`, `undeliverable`.
    pub async fn cancel(&self, id: &str, version: Option<u64>, reason: &str) -> Reply {
        let body = json!({"reason": reason});
        self.change(&format!("/orders/{id}/cancel"), version, &body)
            .await
    }

    pub async fn intent(&self, id: &str) -> Reply {
        self.get(&format!("/intents/{id}")).await
    }

    /// All of them, page by page; `query` narrows it: `driver_id=…`, `open=true`.
    pub async fn intents(&self, query: &str) -> Result<BTreeMap<String, Value>> {
        let mut intents = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page = self
                .get(&format!("/intents?limit=200&{query}{cursor}"))
                .await;
            let items = page.body["items"].as_array();
            let items =
                items.with_context(|| format!("/intents answers {} {}", page.status, page.body))?;
            for item in items {
                let id = item["id"].as_str().context("an intent has an id")?;
                intents.insert(id.to_owned(), item.clone());
            }
            match page.body["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(intents),
            }
        }
    }

    /// `upheld` or `dismissed`, if the intent still has this tag; `None` for any.
    pub async fn decide(&self, intent_id: &str, tag: Option<&str>, decision: &str) -> Reply {
        let (path, tag) = (format!("/intents/{intent_id}/decision"), tag.unwrap_or("*"));
        self.change_at(&path, tag, &json!({"decision": decision}))
            .await
    }

    async fn change(&self, path: &str, version: Option<u64>, body: &Value) -> Reply {
        let tag = version.map_or_else(|| "*".to_owned(), |version| format!("\"{version}\""));
        self.change_at(path, &tag, body).await
    }

    async fn change_at(&self, path: &str, tag: &str, body: &Value) -> Reply {
        let request = self.request(Method::POST, path).header("If-Match", tag);
        Reply::of(request.json(body)).await
    }
}

impl Deref for OrderApi {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.0
    }
}
