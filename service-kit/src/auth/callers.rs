//! Extractors that say for whom a route is. They read the request's head alone and so come before every body: who may not
//! come in learns nothing about what a body should look like.

use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::{Caller, forbidden, unauthorized};
use crate::http::Problem;

/// A person who looks after the service, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator(pub String);

/// Another service, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherService(pub String);

/// Who may read: an operator or another service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader(pub Caller);

/// A driver's device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub device_id: String,
    pub driver_id: String,
}

impl Caller {
    /// Without the gate in front nobody is known.
    pub(crate) fn of(parts: &Parts) -> Self {
        let known = parts.extensions.get::<Self>().cloned();
        known.unwrap_or(Self::Anonymous)
    }

    /// Why somebody else is turned away.
    fn refuse(self, whom: &str) -> Problem {
        match self {
            Self::Anonymous => unauthorized("send `Authorization: Bearer` and a token"),
            _ => forbidden(whom),
        }
    }
}

/// Whose a request is, as it is kept beside the reply to it. Nothing of a token is in it.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Operator(name) => write!(f, "operator {name}"),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Device { device_id, .. } => write!(f, "device {device_id}"),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self::of(parts))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Caller::of(parts) {
            Caller::Operator(name) => Ok(Self(name)),
            other => Err(other.refuse("operators")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OtherService {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Caller::of(parts) {
            Caller::Service(name) => Ok(Self(name)),
            other => Err(other.refuse("other services")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Caller::of(parts) {
            reader @ (Caller::Operator(_) | Caller::Service(_)) => Ok(Self(reader)),
            other => Err(other.refuse("operators and other services")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Device {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Caller::of(parts) {
            Caller::Device {
                device_id,
                driver_id,
            } => Ok(Self {
                device_id,
                driver_id,
            }),
            other => Err(other.refuse("drivers' devices")),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn callers() -> [Option<Caller>; 5] {
        [
            None,
            Some(Caller::Anonymous),
            Some(Caller::Operator("ada".to_owned())),
            Some(Caller::Service("orders".to_owned())),
            Some(Caller::Device {
                device_id: "d1".to_owned(),
                driver_id: "eve".to_owned(),
            }),
        ]
    }

    /// What each of them is answered: 200 stands for "let in".
    async fn answers<E: FromRequestParts<(), Rejection = Problem>>() -> [u16; 5] {
        let mut answers = [200; 5];
        for (answer, caller) in answers.iter_mut().zip(callers()) {
            let mut request = Request::new(());
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            let (mut parts, ()) = request.into_parts();
            if let Err(problem) = E::from_request_parts(&mut parts, &()).await {
                *answer = problem.code().status().as_u16();
            }
        }
        answers
    }

    #[tokio::test]
    async fn each_extractor_lets_its_own_in_and_tells_strangers_from_others() {
        assert_eq!(answers::<Caller>().await, [200; 5]);
        assert_eq!(answers::<Operator>().await, [401, 401, 200, 403, 403]);
        assert_eq!(answers::<OtherService>().await, [401, 401, 403, 200, 403]);
        assert_eq!(answers::<Reader>().await, [401, 401, 200, 200, 403]);
        assert_eq!(answers::<Device>().await, [401, 401, 403, 403, 200]);
    }
}
