//! Access tokens with which an account is called under the identities of its callers: a cache for each person, so that
//! the failures of one person do not affect another.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    causes::{TOKEN_TIMED_OUT, unreachable},
    source::record_token_request,
    token::Token,
    token_exchange::TokenExchange,
};
use crate::{
    caller_token::CallerToken,
    config::{self, Roots, secret::unprintable},
    error::{Failure, Repeat},
    metrics::RequestMetrics,
    proto::ErrorReason,
    upstream::{
        call_limits::CallLimits,
        client::Change,
        credential_cache::{CredentialCache, CredentialSource, Lease, ObtainFuture},
        retry_budget::RetryBudget,
    },
};

/// Maximum number of persons whose tokens are cached. Beyond it, the tokens of the least recently active one are
/// dropped.
const MAX_PERSONS: usize = 1_024;
/// Number of look-ups between two searches for expired tokens.
const SWEEP_INTERVAL: u64 = 256;

/// The tokens of one account for all persons.
pub struct OnBehalfOf {
    exchange: Arc<TokenExchange>,
    persons: Mutex<Persons>,
}

unprintable!(OnBehalfOf, PersonTokens);

#[derive(Default)]
struct Persons {
    /// By issuer and subject.
    by_name: HashMap<Arc<str>, Person>,
    /// Number of look-ups, which is the clock of [`Person::last_use`].
    uses: u64,
}

struct Person {
    last_use: u64,
    tokens: Arc<PersonTokens>,
}

/// The token that was obtained with one token of a person. It serves all calls of the person.
pub struct PersonTokens {
    cache: CredentialCache<Token, Assertion>,
    /// The person's budget of renewals after refusals. It is not that of the account, which all persons share.
    budget: Arc<RetryBudget>,
}

/// Exchanges one token of a person.
struct Assertion {
    caller: Arc<CallerToken>,
    exchange: Arc<TokenExchange>,
}

impl OnBehalfOf {
    pub fn new(
        settings: &config::OnBehalfOf,
        roots: &Roots,
        metrics: &RequestMetrics,
    ) -> Result<Self, String> {
        Ok(Self {
            exchange: Arc::new(TokenExchange::new(settings, roots, metrics)?),
            persons: Mutex::default(),
        })
    }

    /// Returns the change that applies new certificate authorities to the client for the token endpoint.
    pub fn prepare_roots(&self, roots: &Roots) -> Result<Option<Change>, String> {
        self.exchange.client.prepare_roots(roots)
    }

    /// Returns a token of the caller's own identity. Exchanges the caller's token within the limits of the call if
    /// necessary. Concurrent calls of a person wait for the same exchange. If it fails for the token of another call,
    /// the token of this call is exchanged.
    pub async fn obtain(
        &self,
        caller: Option<&Arc<CallerToken>>,
        limits: &CallLimits,
    ) -> Result<(Arc<PersonTokens>, Arc<Lease<Token>>), Failure> {
        // The service refuses such calls before. The account must never be called under another identity.
        let caller = caller.ok_or_else(|| Failure::internal("no token of a caller"))?;
        let mut tokens = self.tokens_of(caller, PersonTokens::serves, limits);
        let mut lease = tokens.cache.get(limits).await;
        if lease.as_ref().is_err_and(is_refusal_of_caller) && !tokens.is_of(caller) {
            tokens = self.tokens_of(caller, PersonTokens::has_token, limits);
            lease = tokens.cache.get(limits).await;
        }
        // Other persons do not wait for this renewal, so its repetition costs a token of the account's retry budget.
        let lease = lease.map_err(|failure| match failure.repeat {
            Repeat::Coalesced => failure.repeatable(),
            _ => failure,
        });
        Ok((tokens, lease?))
    }

    /// Returns the cache of a person if it exchanges the token of this call or if `serves` returns true. Otherwise
    /// replaces it with a cache that exchanges the token of this call. Starts an exchange if it is due, so that
    /// concurrent calls find it in progress.
    fn tokens_of(
        &self,
        caller: &Arc<CallerToken>,
        serves: fn(&PersonTokens) -> bool,
        limits: &CallLimits,
    ) -> Arc<PersonTokens> {
        let mut persons = crate::lock(&self.persons);
        persons.uses += 1;
        let now = persons.uses;
        let known = persons.by_name.get(&caller.person);
        let known = known.map(|person| Arc::clone(&person.tokens));
        let evicted = match &known {
            Some(_) => Vec::new(),
            None => persons.evict(),
        };
        let tokens = match known {
            Some(tokens) if tokens.is_of(caller) || serves(&tokens) => tokens,
            known => self.create(caller, known.as_deref()),
        };
        tokens.cache.start(&limits.trace);
        let person = Person {
            last_use: now,
            tokens: Arc::clone(&tokens),
        };
        let replaced = persons.by_name.insert(Arc::clone(&caller.person), person);
        // Erasing the secrets takes time.
        drop(persons);
        drop((evicted, replaced));
        tokens
    }

    /// Creates a cache, which replaces `before`.
    fn create(
        &self,
        caller: &Arc<CallerToken>,
        before: Option<&PersonTokens>,
    ) -> Arc<PersonTokens> {
        let source = Assertion {
            caller: Arc::clone(caller),
            exchange: Arc::clone(&self.exchange),
        };
        let was_refused = before.is_some_and(|before| before.cache.was_refused());
        let budget = before.map(|before| Arc::clone(&before.budget));
        Arc::new(PersonTokens {
            cache: CredentialCache::after(source, was_refused),
            budget: budget.unwrap_or_default(),
        })
    }
}

impl Persons {
    /// Removes persons whose tokens have expired if it is time for that and, if there are too many, the least recently
    /// active one. Returns the removed ones.
    fn evict(&mut self) -> Vec<Person> {
        let is_full = self.by_name.len() >= MAX_PERSONS;
        if !is_full && !self.uses.is_multiple_of(SWEEP_INTERVAL) {
            return Vec::new();
        }
        let expired = self.by_name.extract_if(|_, person| {
            let tokens = &person.tokens;
            tokens.cache.source.caller.remaining().is_zero() && !tokens.cache.is_renewing()
        });
        let mut removed: Vec<_> = expired.map(|(_, person)| person).collect();
        if self.by_name.len() >= MAX_PERSONS {
            let persons = self.by_name.iter();
            let oldest = persons.min_by_key(|(_, person)| person.last_use);
            let oldest = oldest.map(|(name, _)| Arc::clone(name));
            removed.extend(oldest.and_then(|name| self.by_name.remove(&name)));
        }
        removed
    }
}

impl PersonTokens {
    fn is_of(&self, caller: &CallerToken) -> bool {
        self.cache.source.caller.is_same_as(caller)
    }

    fn has_token(&self) -> bool {
        self.cache.has_credential()
    }

    /// Returns whether the cache serves calls with another token: it has a token or obtains one, or it pauses after a
    /// failure that does not concern the exchanged token.
    fn serves(&self) -> bool {
        let failure = self.cache.pausing();
        self.has_token()
            || self.cache.is_renewing()
            || failure.is_some_and(|failure| !is_refusal_of_caller(&failure))
    }

    /// Returns the text of the token that was exchanged.
    pub fn callers_token(&self) -> &str {
        self.cache.source.caller.expose()
    }

    /// Drops a token that the account refused.
    pub fn discard(&self, refused: &Arc<Lease<Token>>) {
        self.cache.discard(refused);
    }

    /// Returns whether the request with a refused token may be repeated with another one.
    pub fn refuse(&self, refused: &Arc<Lease<Token>>) -> bool {
        self.cache.discard_refused(refused, &self.budget)
    }
}

/// Returns whether the failure concerns the token of the caller, so that another token may be accepted.
fn is_refusal_of_caller(failure: &Failure) -> bool {
    failure.reason == ErrorReason::CallerUnauthenticated
}

impl CredentialSource<Token> for Assertion {
    fn obtain(self: Arc<Self>) -> ObtainFuture<Token> {
        Box::pin(async move { self.exchange.exchange(&self.caller).await })
    }

    fn timeout(&self) -> Duration {
        self.exchange.settings.token_timeout
    }

    fn timeout_failure(&self) -> Failure {
        unreachable(TOKEN_TIMED_OUT, "there was no token in time")
    }

    /// Refusals of the caller's token are not counted: they are no failure of the service's own credentials.
    fn on_renewal_finished(&self, failure: Option<&Failure>) {
        let metrics = &self.exchange.metrics;
        match failure.filter(|failure| is_refusal_of_caller(failure)) {
            None => record_token_request(metrics, failure),
            Some(failure) => {
                let target = &*metrics.target().target;
                let (cause, context) = (failure.cause, failure.context.as_str());
                tracing::info!(target, cause, context, "token of a caller refused");
            }
        }
    }
}
