//! One configured target.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{
    breaker::Breaker,
    bulkhead::Bulkhead,
    client::{Change, Client},
    platform::{Order, Platform, TargetInputs},
    retry_budget::RetryBudget,
};
use crate::{
    config::{self, AuditSink, PlatformSettings as _, Roots},
    error::Failure,
    metrics::{Outcomes, RequestMetrics, TargetState},
    pattern::Pattern,
    postgres::Database,
    proto::ErrorReason as R,
};

pub struct Target<P> {
    pub platform: P,
    /// Counters of the outcomes of calls.
    pub outcomes: Outcomes,
    pub(super) client: Client,
    pub(super) budget: RetryBudget,
    pub(super) breaker: Breaker,
    pub(super) bulkhead: Bulkhead,
    protected: ArcSwap<Vec<Pattern>>,
}

impl<P: Platform> Target<P> {
    /// Creates a target. Nothing is sent yet. Fails if the URL, the authorities or the settings cannot be used.
    pub fn new(
        config: &config::Target<P::Settings>,
        others: Vec<&P>,
        audit: &AuditSink,
        database: Option<&Arc<Database>>,
        requests: &RequestMetrics,
        outcomes: Outcomes,
    ) -> Result<Self, String> {
        let (url, roots) = (&config.url, &config.roots);
        let client = Client::new(url, P::Settings::TRUST, roots, P::ALPN, requests.clone())?;
        let platform = P::new(TargetInputs {
            config,
            others,
            audit,
            database,
            client: client.clone(),
            requests,
        })?;
        Ok(Self {
            platform,
            outcomes,
            client,
            budget: RetryBudget::default(),
            breaker: Breaker::new(requests.target().clone()),
            bulkhead: Bulkhead::new(config.max_in_flight, config.max_queued),
            protected: ArcSwap::from_pointee(config.protected_users.clone()),
        })
    }

    pub fn set_protected_users(&self, protected: &[Pattern]) {
        self.protected.store(Arc::new(protected.to_vec()));
    }

    /// Returns whether a user with this name is never deleted.
    pub fn protects(&self, name: &str) -> bool {
        let protected = self.protected.load();
        protected.iter().any(|pattern| pattern.matches(name))
    }

    /// Returns closures that apply changed certificate authorities. Fails if these cannot be used.
    pub fn prepare_roots(&self, roots: &Roots) -> Result<Vec<Change>, String> {
        let mut changes = self.platform.prepare_roots(roots)?;
        changes.extend(self.client.prepare_roots(roots)?);
        Ok(changes)
    }

    pub fn state(&self) -> TargetState {
        TargetState {
            in_flight: self.bulkhead.in_flight(),
            max_in_flight: self.bulkhead.max_in_flight,
            queued: self.bulkhead.queued(),
            max_queued: self.bulkhead.max_queued,
            breaker_open: self.breaker.is_open(),
            openings: self.breaker.openings(),
            retry_budget: self.budget.tokens(),
            api_version: self.platform.api_version(),
            credential: self.platform.credential_state(),
        }
    }

    /// Checks that the user may be deleted. Fails for the user that the service logs on with and for protected users.
    pub(super) fn check_deletable(
        &self,
        order: &Order<P::User>,
        found: &P::UserFacts,
    ) -> Result<(), Failure> {
        let name = P::name(order, found);
        if name.is_empty() {
            return Err(Failure::internal("a user without a name"));
        }
        if self.platform.is_own_user(name) {
            return Err(Failure::new(R::OwnUser, "the configured userid"));
        }
        if self.protects(name) {
            return Err(Failure::new(R::ProtectedUser, "protected_users"));
        }
        Ok(())
    }
}
