//! Label sets of metrics.

/// A fixed number of labels with fixed values.
pub(super) type Labels<const N: usize> = [(&'static str, &'static str); N];
