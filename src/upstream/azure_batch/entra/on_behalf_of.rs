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
    error::Failure,
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
    /// The budget of renewals after refusals. It is not that of the account, which all persons share.
    budget: RetryBudget,
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
        numbers: &RequestMetrics,
    ) -> Result<Self, String> {
        Ok(Self {
            exchange: Arc::new(TokenExchange::new(settings, roots, numbers)?),
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
        let mut tokens = self.tokens_of(caller);
        let mut lease = tokens.cache.get(limits).await;
        if lease.is_err() && !tokens.is_of(caller) {
            tokens = self.tokens_of(caller);
            lease = tokens.cache.get(limits).await;
        }
        Ok((tokens, lease?))
    }

    /// Returns the cache of a person that has a token or obtains one, or that exchanges the token of this call. Otherwise
    /// creates a cache that exchanges it.
    fn tokens_of(&self, caller: &Arc<CallerToken>) -> Arc<PersonTokens> {
        let mut persons = crate::lock(&self.persons);
        persons.uses += 1;
        let now = persons.uses;
        if let Some(person) = persons.by_name.get_mut(&caller.person) {
            person.last_use = now;
            if !person.tokens.cache.is_in_use() && !person.tokens.is_of(caller) {
                person.tokens = self.create(caller);
            }
            return Arc::clone(&person.tokens);
        }
        persons.evict();
        let tokens = self.create(caller);
        let person = Person {
            last_use: now,
            tokens: Arc::clone(&tokens),
        };
        persons.by_name.insert(Arc::clone(&caller.person), person);
        tokens
    }

    fn create(&self, caller: &Arc<CallerToken>) -> Arc<PersonTokens> {
        let exchange = Arc::clone(&self.exchange);
        Arc::new(PersonTokens::new(Arc::clone(caller), exchange))
    }
}

impl Persons {
    /// Removes persons whose tokens have expired and, if there are still too many, the least recently active one.
    fn evict(&mut self) {
        self.by_name.retain(|_, person| {
            let exchanged = &person.tokens.cache.source.caller;
            !exchanged.remaining().is_zero()
        });
        if self.by_name.len() < MAX_PERSONS {
            return;
        }
        let persons = self.by_name.iter();
        let oldest = persons.min_by_key(|(_, person)| person.last_use);
        if let Some(name) = oldest.map(|(name, _)| Arc::clone(name)) {
            self.by_name.remove(&name);
        }
    }
}

impl PersonTokens {
    fn new(caller: Arc<CallerToken>, exchange: Arc<TokenExchange>) -> Self {
        Self {
            cache: CredentialCache::new(Assertion { caller, exchange }),
            budget: RetryBudget::default(),
        }
    }

    fn is_of(&self, caller: &CallerToken) -> bool {
        self.cache.source.caller.is_same_as(caller)
    }

    /// Returns the text of the token that was exchanged.
    pub fn callers_token(&self) -> &str {
        self.cache.source.caller.expose()
    }

    /// Records that the account refused a token. Returns whether the request may be repeated with another one.
    pub fn refuse(&self, refused: &Arc<Lease<Token>>) -> bool {
        self.cache.discard_refused(refused, &self.budget)
    }
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

    /// Refusals of the caller's token are not recorded here: they are no failure of the service's own credentials, and
    /// the call itself is counted and logged.
    fn on_renewal_finished(&self, failure: Option<&Failure>) {
        let reason = failure.map(|failure| failure.reason);
        if reason != Some(ErrorReason::CallerUnauthenticated) {
            record_token_request(&self.exchange.numbers, failure);
        }
    }
}
