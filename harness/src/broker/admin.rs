//! What an operator can do to a stream by hand while clients are connected: delete, purge or trim it.
//!
//! It uses the credentials of the stream's owner; nats.conf permits no other user.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Broker;
use crate::wire::Wire;

impl Broker {
    /// Deletes the stream.
    pub async fn delete_stream(&self, stream: &str) -> Result<()> {
        let answer = self.command("DELETE", stream, &Value::Null).await?;
        ensure!(answer["success"] == true, "not deleted: {answer}");
        Ok(())
    }

    /// Removes every message; the sequence continues. Returns how many were removed.
    pub async fn purge_stream(&self, stream: &str) -> Result<u64> {
        let answer = self.command("PURGE", stream, &Value::Null).await?;
        purged(&answer)
    }

    /// Removes the messages before this sequence, as a retention limit does. Returns how many were removed.
    pub async fn trim_stream(&self, stream: &str, first_kept: u64) -> Result<u64> {
        let before = json!({"seq": first_kept});
        let answer = self.command("PURGE", stream, &before).await?;
        purged(&answer)
    }

    async fn command(&self, verb: &str, stream: &str, question: &Value) -> Result<Value> {
        let login = self.login(stream)?;
        let mut wire = Wire::connect(self.address(), &login).await?;
        let subject = format!("$JS.API.STREAM.{verb}.{stream}");
        wire.request_json(&subject, question).await
    }
}

/// A purge that removed nothing is a fault that did not happen.
fn purged(answer: &Value) -> Result<u64> {
    let purged = answer["purged"].as_u64().filter(|count| *count > 0);
    purged.with_context(|| format!("nothing was purged: {answer}"))
}
