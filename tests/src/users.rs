//! user-service as its operator calls it.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;

use anyhow::{Context, Result, bail};
use freehold_harness::http::{Api, Reply};
use freehold_harness::{Password, Service, outbox};
use reqwest::Method;
use rusqlite::types::Value::{Integer, Text};
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub struct UserApi(Api);

/// Name and version of each user, by id.
pub type Users = BTreeMap<String, (String, u64)>;

/// The users in `users` of user-service, or in `user_cache` of orders-service.
pub fn users_in(database: &Path, table: &str) -> Result<Users> {
    let rows = outbox::rows(database, &format!("select id, name, version from {table}"))?;
    let user = |row: Vec<_>| match <[_; 3]>::try_from(row) {
        Ok([Text(id), Text(name), Integer(version)]) => Ok((id, (name, version.try_into()?))),
        other => bail!("a user has two texts and a number, not {other:?}"),
    };
    let users: Result<_> = rows.into_iter().map(user).collect();
    users.with_context(|| format!("in {table} of {}", database.display()))
}

impl UserApi {
    pub fn of(service: &Service) -> UserApi {
        UserApi(Api::of(service))
    }

    pub fn new(base: impl Into<String>, token: Option<Password>) -> UserApi {
        UserApi(Api::new(base, token))
    }

    pub async fn register(&self, name: &str, email: &str) -> Reply {
        self.send(
            Method::POST,
            "/users",
            &json!({"name": name, "email": email}),
        )
        .await
    }

    pub async fn rename(&self, id: &str, name: &str) -> Reply {
        self.change(id, &json!({"name": name})).await
    }

    pub async fn change_email(&self, id: &str, email: &str) -> Reply {
        self.change(id, &json!({"email": email})).await
    }

    pub async fn change(&self, id: &str, change: &Value) -> Reply {
        self.send(Method::PATCH, &format!("/users/{id}"), change)
            .await
    }

    /// Only if the user is still at this version.
    pub async fn change_if(&self, id: &str, version: u64, change: &Value) -> Reply {
        let request = self.request(Method::PATCH, &format!("/users/{id}"));
        Reply::of(
            request
                .header("If-Match", format!("\"{version}\""))
                .json(change),
        )
        .await
    }

    pub async fn delete(&self, id: &str) -> Reply {
        Reply::of(self.request(Method::DELETE, &format!("/users/{id}"))).await
    }

    pub async fn user(&self, id: &str) -> Reply {
        self.get(&format!("/users/{id}")).await
    }

    /// One page; `query` is what follows the `?`, say `limit=100&cursor=…`.
    pub async fn list(&self, query: &str) -> Reply {
        self.get(&format!("/users?{query}")).await
    }
}

impl Deref for UserApi {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.0
    }
}
