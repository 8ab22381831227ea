//! Macro that declares groups of metrics, and their registration.

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
