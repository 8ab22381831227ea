//! The formats in which token endpoints state the expiry of a token.

use futures_util::future::join_all;
use time::{Duration, OffsetDateTime};
use tonic::Code;
use useradmin::proto::DeleteOutcome::Deleted;
use useradmin_testkit::{Reply, batch_deleted, batch_request, now};

use super::{sent_authorizations, start_account, token_requests};

/// Returns a date an hour from now, in the formats of App Service and others.
fn date_formats() -> [String; 7] {
    let expires_at = OffsetDateTime::now_utc() + Duration::hours(1);
    let (year, month, day) = expires_at.to_calendar_date();
    let month = u8::from(month);
    let (hour, minute, second) = expires_at.to_hms();
    let (hour_of_12, half) = ((hour + 11) % 12 + 1, if hour < 12 { "AM" } else { "PM" });
    let iso = format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    [
        format!("{iso}Z"),
        format!("{iso}+00:00"),
        format!("{iso}.1234567Z"),
        iso.replace('T', " "),
        format!("{month:02}/{day:02}/{year} {hour:02}:{minute:02}:{second:02} +00:00"),
        format!("{month}/{day}/{year} {hour_of_12:02}:{minute:02}:{second:02} {half} +00:00"),
        httpdate::fmt_http_date(expires_at.into()),
    ]
}

/// Returns members of a response that state a lifetime of about an hour.
fn valid_documents() -> Vec<String> {
    let expires_at = now() + 3_600;
    let mut rows = vec![
        r#""expires_in":3599"#.to_owned(),
        r#""expires_in":"3599""#.to_owned(),
        r#""expires_in":" 3599 ""#.to_owned(),
        r#""expires_in":3599.5"#.to_owned(),
        r#""expires_in":"3599.5""#.to_owned(),
        r#""expires_in":3.599e3"#.to_owned(),
        r#""expires_in":"3599","ext_expires_in":"soon","not_before":{}"#.to_owned(),
        r#""expires_in":"soon","expires_on":"#.to_owned() + &expires_at.to_string(),
        r#""expires_in":null,"expires_on":"#.to_owned() + &expires_at.to_string(),
        format!(r#""expires_on":{expires_at}"#),
        format!(r#""expires_on":"{expires_at}""#),
        format!(r#""expires_on":{expires_at}.75"#),
        format!(r#""expires_on":"{expires_at}.75""#),
        // No expiry: the token is used until the account refuses it.
        r#""token_type":"Bearer""#.to_owned(),
        r#""expires_in":null"#.to_owned(),
        r#""expires_in":"""#.to_owned(),
        r#""expires_in":"","expires_on":" ","expiresOn":null"#.to_owned(),
        format!(r#""expires_in":"","expires_on":{expires_at}"#),
        r#""expires_in":3599,"expiresIn":"3599""#.to_owned(),
        r#""expires_in":3599,"accessToken":"kanari-token-1""#.to_owned(),
        r#""expires_in":3599,"accessToken":"""#.to_owned(),
        // Longer than the maximum time for which a token is kept.
        r#""expires_in":99999999"#.to_owned(),
    ];
    rows.extend(date_formats().map(|date| format!(r#""expires_on":"{date}""#)));
    rows
}

#[tokio::test]
async fn all_expiry_formats_are_parsed() {
    let calls = valid_documents().into_iter().map(|members| async move {
        let body = format!(r#"{{{members},"access_token":"kanari-token-1"}}"#);
        let (app, upstream) =
            start_account(move |_| Reply::json(200, &body), |_| batch_deleted()).await;
        for _ in 0..2 {
            let response = app.delete_batch_node_user(batch_request("alice")).await;
            let response = response.unwrap_or_else(|failure| panic!("{members}: {failure:?}"));
            assert_eq!(response.outcome(), Deleted, "{members}");
        }
        assert_eq!(token_requests(&upstream).len(), 1, "{members}");
        assert_eq!(
            sent_authorizations(&upstream),
            ["Bearer kanari-token-1"; 2],
            "{members}"
        );
    });
    join_all(calls).await;
}

#[tokio::test]
async fn invalid_token_document_is_rejected() {
    let past = now() - 60;
    let access_token = r#""access_token":"kanari-token-1""#;
    let rows = [
        format!(r#"{{"expires_in":0,{access_token}}}"#),
        format!(r#"{{"expires_in":-1,{access_token}}}"#),
        format!(r#"{{"expires_in":"-3599",{access_token}}}"#),
        format!(r#"{{"expires_in":"0.0",{access_token}}}"#),
        format!(r#"{{"expires_in":1e300,{access_token}}}"#),
        format!(r#"{{"expires_in":1e400,{access_token}}}"#),
        format!(r#"{{"expires_in":"NaN",{access_token}}}"#),
        format!(r#"{{"expires_in":"inf",{access_token}}}"#),
        format!(r#"{{"expires_in":"9223372036854775808",{access_token}}}"#),
        format!(r#"{{"expires_in":true,{access_token}}}"#),
        format!(r#"{{"expires_in":[3599],{access_token}}}"#),
        format!(r#"{{"expires_on":{past},{access_token}}}"#),
        format!(r#"{{"expires_on":"{past}",{access_token}}}"#),
        format!(r#"{{"expires_on":0,{access_token}}}"#),
        format!(r#"{{"expires_on":"soon",{access_token}}}"#),
        format!(r#"{{"expires_on":"1/1/2020 1:00:00 AM +00:00",{access_token}}}"#),
        format!(r#"{{"expires_on":"2020-01-01T00:00:00Z",{access_token}}}"#),
        r#"{"expires_in":3599}"#.to_owned(),
        r#"{"expires_in":3599,"access_token":null}"#.to_owned(),
        r#"{"expires_in":3599,"access_token":""}"#.to_owned(),
        r#"{"expires_in":3599,"access_token":"","accessToken":""}"#.to_owned(),
        format!(r#"{{"expires_in":"soon","expires_on":"",{access_token}}}"#),
        r#"{"expires_in":3599,"access_token":"with a blank"}"#.to_owned(),
        r#"{"expires_in":3599,"access_token":"with a line end\n"}"#.to_owned(),
        r#"{"expires_in":3599,"access_token":"schlüssel"}"#.to_owned(),
        r#"[{"expires_in":3599}]"#.to_owned(),
        "null".to_owned(),
    ];
    join_all(rows.map(|body| async move {
        let case = body.clone();
        let (app, upstream) =
            start_account(move |_| Reply::json(200, &body), |_| batch_deleted()).await;
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        let failure = failure.unwrap_err();
        failure.expect(Code::Unavailable, "UPSTREAM_UNREACHABLE");
        assert_eq!(
            failure.metadata_value("cause"),
            "token_response_not_understood",
            "{case}"
        );
        assert_eq!(failure.metadata_value("outcome"), "not_sent", "{case}");
        assert!(sent_authorizations(&upstream).is_empty(), "{case}");
    }))
    .await;
}

/// An absolute expiry is relative to the clock of the endpoint.
#[tokio::test]
async fn expiry_is_relative_to_response_date() {
    for (ahead, is_token) in [(-7_200, true), (7_200, true), (0, true), (3_700, false)] {
        let moment = if is_token { ahead + 3_600 } else { 3_600 };
        let expires_at = |seconds: i64| OffsetDateTime::now_utc() + Duration::seconds(seconds);
        let body = format!(
            r#"{{"expires_on":"{}","access_token":"kanari-token-1"}}"#,
            expires_at(moment).unix_timestamp()
        );
        let date = httpdate::fmt_http_date(expires_at(ahead).into());
        let token = move |_| Reply::json(200, &body).with_header("Date", &date);
        let (app, _upstream) = start_account(token, |_| batch_deleted()).await;
        let response = app.delete_batch_node_user(batch_request("alice")).await;
        assert_eq!(response.is_ok(), is_token, "{ahead}: {response:?}");
    }
}
