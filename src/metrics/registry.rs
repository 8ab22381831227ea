//! Macro that declares groups of metrics, and their registration.

use std::sync::{PoisonError, RwLock};

use prometheus_client::registry::{Metric, Registry, Unit};

/// A fixed number of labels with static names and values.
pub(super) type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Declares a group of metrics as a struct. Each field has a type, a name and a help text. `in` specifies the unit,
/// and `as` the initial value if it differs from the default of the type.
macro_rules! metrics {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $group:ident {
            $($(#[$doc:meta])* $scope:vis $field:ident: $metric:ty =
                $name:literal $(in $unit:ident)? $(as $new:expr)?, $help:literal;)*
        }
    ) => {
        $(#[$attribute])*
        $visibility struct $group {
            $($(#[$doc])* $scope $field: $metric,)*
        }

        impl $group {
            pub(super) fn new(registry: &mut prometheus_client::registry::Registry) -> Self {
                use $crate::metrics::registry::{initial, register};
                Self {
                    $($field: {
                        let unit = None $(.or(Some(prometheus_client::registry::Unit::$unit)))?;
                        register(registry, $name, $help, unit, initial!($($new)?))
                    },)*
                }
            }
        }
    };
}

/// Expands to the given value, or to the default of the type.
macro_rules! initial {
    () => {
        Default::default()
    };
    ($value:expr) => {
        $value
    };
}

pub(super) use {initial, metrics};

pub(super) fn register<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    metric: M,
) -> M {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
    metric
}

/// Maximum number of handles that are kept, which are those of the labels that occur first.
const MAX_HANDLES: usize = 16;

/// Handles of metrics by their labels. Finding one of them is faster than a look-up in the family, which hashes all
/// labels.
pub(super) struct Handles<K, M>(RwLock<Vec<(K, M)>>);

impl<K, M> Default for Handles<K, M> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: PartialEq, M: Clone> Handles<K, M> {
    /// Returns the handle for these labels. `look_up` returns it at its first use.
    pub(super) fn get(&self, labels: K, look_up: impl FnOnce() -> M) -> M {
        let handles = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, handle)) = handles.iter().find(|(known, _)| *known == labels) {
            return handle.clone();
        }
        let is_full = handles.len() >= MAX_HANDLES;
        drop(handles);
        let handle = look_up();
        if !is_full {
            let mut handles = self.0.write().unwrap_or_else(PoisonError::into_inner);
            handles.push((labels, handle.clone()));
        }
        handle
    }
}
