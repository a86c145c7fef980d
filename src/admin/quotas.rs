//! `GET /api/v1/quotas`: how full the quotas are, for who has the administrator's token. `tenant` and `key` in the
//! query narrow it.

use std::sync::OnceLock;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Shown, json, refusal};

pub(crate) const PATH: &str = "/api/v1/quotas";

/// One quota of a tenant or a key. Amounts are counts, or billionths of a dollar where the quota's name ends in `usd`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Quota {
    pub(crate) tenant: String,
    /// The id; none: the quota of all the tenant's keys together.
    pub(crate) key: Option<String>,
    /// As `x-weir-limit` has it: `key-daily-tokens`.
    pub(crate) quota: String,
    pub(crate) used: u64,
    /// By requests in flight; none where that is not known.
    pub(crate) reserved: Option<u64>,
    pub(crate) limit: u64,
    /// In Unix milliseconds.
    pub(crate) resets_at_ms: i64,
}

/// Whose quotas are asked for; of all, if nothing narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) tenant: Option<String>,
    /// A key's id.
    pub(crate) key: Option<String>,
}

/// Who knows the quotas, once the server knows its keys, and who may ask.
pub(crate) struct Quotas {
    /// The digest of the administrator's token; none: nobody may.
    token: Option<[u8; 32]>,
    known: OnceLock<Known>,
}

type Known = Box<dyn Fn(&Wanted) -> Vec<Quota> + Send + Sync>;

impl std::fmt::Debug for Quotas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quotas").finish_non_exhaustive()
    }
}

impl Quotas {
    pub(crate) fn new(token: Option<&SecretString>) -> Self {
        let token = token.map(|token| Sha256::digest(token.expose_secret()).into());
        Self { token, known: OnceLock::new() }
    }

    /// Says who knows them, which only the first one does.
    pub(crate) fn answered_by(
        &self,
        known: impl Fn(&Wanted) -> Vec<Quota> + Send + Sync + 'static,
    ) {
        let _ = self.known.set(Box::new(known));
    }

    fn find(&self, token: Option<&str>, wanted: &Wanted) -> Result<Vec<Quota>, Refused> {
        let ours = self.token.ok_or(Refused::NoToken)?;
        // Digests are compared, so that the time tells nothing about the token.
        let theirs: Option<[u8; 32]> = token.map(|token| Sha256::digest(token).into());
        if theirs != Some(ours) {
            return Err(Refused::OtherToken);
        }
        Ok(self.known.get().ok_or(Refused::Starting)?(wanted))
    }
}

/// Why nothing is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    NoToken,
    OtherToken,
    Starting,
}

impl Wanted {
    /// Names and ids have no characters that a query would encode.
    fn of(query: &str) -> Self {
        let mut wanted = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "tenant" => wanted.tenant = Some(value.to_owned()),
                "key" => wanted.key = Some(value.to_owned()),
                _ => {}
            }
        }
        wanted
    }

    /// What is asked for, as path and query.
    pub(crate) fn path(&self) -> String {
        let pairs = [("tenant", &self.tenant), ("key", &self.key)];
        let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
        format!("{PATH}?{}", pairs.join("&"))
    }
}

pub(super) async fn answer(State(shown): State<Shown>, request: Request) -> Response {
    let header = request.headers().get(header::AUTHORIZATION);
    let token = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let wanted = Wanted::of(request.uri().query().unwrap_or_default());
    match shown.quotas.find(token, &wanted) {
        Ok(quotas) => json(StatusCode::OK, &serde_json::json!({ "quotas": quotas })),
        Err(Refused::NoToken) => refusal(
            StatusCode::FORBIDDEN,
            "no_admin_token",
            "This needs a token, and the server has none: set admin.token and restart it.",
        ),
        Err(Refused::OtherToken) => refusal(
            StatusCode::UNAUTHORIZED,
            "invalid_admin_token",
            "Authorization must be Bearer with the server's admin.token.",
        ),
        Err(Refused::Starting) => {
            refusal(StatusCode::SERVICE_UNAVAILABLE, "starting", "The server is starting.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_told_to_the_token_only_and_once_they_are_known() {
        let none = Quotas::new(None);
        assert_eq!(none.find(Some("x"), &Wanted::default()).unwrap_err(), Refused::NoToken);
        let quotas = Quotas::new(Some(&SecretString::from("secret")));
        for token in [None, Some(""), Some("other"), Some("secret ")] {
            let refused = quotas.find(token, &Wanted::default()).unwrap_err();
            assert_eq!(refused, Refused::OtherToken, "{token:?}");
        }
        let refused = quotas.find(Some("secret"), &Wanted::default()).unwrap_err();
        assert_eq!(refused, Refused::Starting);
        quotas.answered_by(|wanted| {
            assert_eq!(wanted.tenant.as_deref(), Some("acme"));
            Vec::new()
        });
        let acme = Wanted { tenant: Some("acme".to_owned()), key: None };
        assert!(quotas.find(Some("secret"), &acme).unwrap().is_empty());
    }

    #[test]
    fn what_is_wanted_is_the_same_at_both_ends() {
        for (tenant, key) in [(None, None), (Some("a.b-c_d"), None), (Some("a"), Some("key_1"))] {
            let [tenant, key] = [tenant, key].map(|name: Option<&str>| name.map(str::to_owned));
            let wanted = Wanted { tenant, key };
            let path = wanted.path();
            let (_, query) = path.split_once('?').unwrap();
            assert_eq!(Wanted::of(query), wanted);
        }
    }
}
