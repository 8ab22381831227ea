//! What gRPC's own documents say of health.

use futures_util::FutureExt as _;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{batch, batch_deleted};

/// health.proto: a service that is not known may become known, so that the stream goes on.
#[tokio::test]
async fn a_watch_of_an_unknown_service_reports_so_and_goes_on() {
    let (app, _upstream) = batch(|_| batch_deleted()).await;
    let mut health = HealthClient::new(app.channel());
    let request = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let (known, unknown) = (ServingStatus::Serving, ServingStatus::ServiceUnknown);
    let mut watches = Vec::new();
    for (service, expected) in [
        ("", known),
        ("useradmin.v1.UserAdmin", known),
        ("no.such.Service", unknown),
        ("grpc.health.v1.Health", unknown),
        ("useradmin.v1.useradmin", unknown),
        (" ", unknown),
    ] {
        let watch = health.watch(request(service)).await.unwrap();
        let mut watch = watch.into_inner();
        let report = watch.message().await.unwrap().unwrap();
        assert_eq!(report.status(), expected, "{service}");
        watches.push(watch);
        let check = health.check(request(service)).await;
        match check {
            Ok(check) => assert_eq!(check.into_inner().status(), known),
            Err(status) => assert_eq!((status.code(), expected), (Code::NotFound, unknown)),
        }
    }
    // Had one ended, its end would have come before the answers above.
    for watch in &mut watches {
        assert!(watch.message().now_or_never().is_none());
    }
}
