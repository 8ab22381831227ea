//! Creates metrics in a registry.

use prometheus_client::registry::{Metric, Registry, Unit};

/// A fixed number of labels with fixed values.
pub(super) type Labels<const N: usize> = [(&'static str, &'static str); N];

pub(super) trait RegistryExt {
    /// Registers a new metric and returns it.
    fn metric<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M;

    /// Registers a metric whose unit is seconds and returns it.
    fn seconds<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M;
}

impl RegistryExt for Registry {
    fn metric<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.register(name, help, metric.clone());
        metric
    }

    fn seconds<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }
}
