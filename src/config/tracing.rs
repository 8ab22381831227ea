//! `[tracing]`.

use url::Url;

use super::{
    table::table,
    urls::AllowedComponents,
    values::{Roots, ca_file, flag, ratio, url},
};
use crate::client_tls::Trust;

table! {
    /// `[tracing]`
    #[table("tracing")]
    pub struct Tracing {
        /// The OpenTelemetry collector, such as `https://collector.example:4317`, to which traces are sent by OTLP
        /// over gRPC. Without `insecure`, http is allowed for a loopback host only.
        #[key("otlp_endpoint")]
        collector: Url = url("https URL without path", AllowedComponents::Origin, |reader| reader.is_true("insecure"));
        /// Allows http on a host other than loopback. Spans name targets, pools, nodes and users.
        insecure: bool = flag().default(false);
        /// More certificate authorities for `otlp_endpoint`, beside the system's; reloaded when the file changes.
        #[key("ca_file")]
        roots: Roots = ca_file(Trust::AddToSystem);
        /// Sampling ratio for calls without a `traceparent`. Other calls are sampled if their `traceparent` has the
        /// flag.
        sample_ratio: f64 = ratio().default_as("1.0", 1.0);
    }
}
