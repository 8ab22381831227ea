//! Health and reflection have a setting of their own, and what is not gRPC gets nowhere.

use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use super::{House, uri};
use crate::{
    access::upstream,
    support::{Failed, Secure, batch_section},
};

async fn house(settings: &str) -> House {
    let upstream = upstream().await;
    House::start(upstream, batch_section, settings).await
}

async fn health(client: &Secure) -> Result<(), Failed> {
    let request = client.request(HealthCheckRequest::default());
    let answer = HealthClient::new(client.channel()).check(request).await;
    answer.map(|_| ()).map_err(Failed::from)
}

async fn reflection(client: &Secure) -> Result<(), Failed> {
    let wanted = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let request: Request<_> = client.request(futures_util::stream::iter([wanted]));
    let mut client = ServerReflectionClient::new(client.channel());
    let answer = client.server_reflection_info(request).await;
    answer.map(|_| ()).map_err(Failed::from)
}

#[tokio::test]
async fn health_and_reflection_ask_for_an_identity_only_where_they_are_told_to() {
    for (settings, health_open, reflection_open) in [
        ("", true, true),
        ("health_needs_identity = true", false, true),
        ("reflection_needs_identity = true", true, false),
        (
            "health_needs_identity = true\nreflection_needs_identity = true",
            false,
            false,
        ),
    ] {
        let house = house(settings).await;
        // An identity is enough; rights are for deletions.
        let known = house.with_names(vec![uri("spiffe://corp/unlisted")]);
        let token = house.with_subject("unlisted");
        let nobody = house.client(None);
        let rubbish = nobody.with_token("rubbish");
        for (client, known) in [
            (known, true),
            (token, true),
            (nobody, false),
            (rubbish, false),
        ] {
            for (answer, open) in [
                (health(&client).await, health_open),
                (reflection(&client).await, reflection_open),
            ] {
                match answer {
                    Ok(()) => assert!(known || open, "{settings}"),
                    Err(failed) => {
                        assert!(!known && !open, "{settings} {failed:?}");
                        assert_eq!(failed.code, Code::Unauthenticated);
                        assert_eq!(failed.reason, "ERROR_REASON_CALLER_UNAUTHENTICATED");
                        assert!(!failed.meta("cause").is_empty() && failed.trailer_id.is_some());
                    }
                }
            }
        }
    }
}
