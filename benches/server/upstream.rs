//! A static upstream for all: HTTP/1.1 with keep-alive, the answers of an Azure Batch account, of its token endpoint and of
//! an HMC, as they stand in their documents, at once and without a thought.

use std::{net::SocketAddr, sync::mpsc, thread};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

use crate::cpus;

const TOKEN: &str = r#"{"token_type":"Bearer","expires_in":86399,"access_token":"eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL2JhdGNoLmNvcmUud2luZG93cy5uZXQvIn0.c2lnbmF0dXJl"}"#;
const SESSION: &str = r#"{"api-session":"4j0u1wj3oasr4hnl6xqnkd1exhnq1e2nt6pj23kaw3mdtnewyy"}"#;
const USER: &str = r#"{"object-id":"11111111-2222-3333-4444-555555555555","object-uri":"/api/users/11111111-2222-3333-4444-555555555555","name":"alice","type":"standard","class":"user","parent":null}"#;
const CLIENT_REQUEST_ID: &[u8] = b"\r\nclient-request-id: ";

/// Starts it on this CPU.
pub fn start(cpu: usize) -> SocketAddr {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        cpus::pin(cpu);
        let runtime = Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream));
            }
        });
    });
    told.recv().unwrap()
}

async fn serve(mut stream: TcpStream) {
    let (mut read, mut answer) = (Vec::with_capacity(4096), Vec::with_capacity(512));
    loop {
        let Some(head) = read.windows(4).position(|end| end == b"\r\n\r\n") else {
            match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let length = head + 4 + body_length(&read[..head]);
        if read.len() < length {
            if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                return;
            }
            continue;
        }
        answer.clear();
        reply(&read[..head], &mut answer);
        read.drain(..length);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// Only logons and requests for tokens have one.
fn body_length(head: &[u8]) -> usize {
    if !head.starts_with(b"POST") {
        return 0;
    }
    let head = String::from_utf8_lossy(head).to_lowercase();
    let length = head.split("content-length: ").nth(1);
    length.map_or(0, |text| text.lines().next().unwrap().parse().unwrap())
}

fn reply(head: &[u8], answer: &mut Vec<u8>) {
    if head.starts_with(b"DELETE /pools") || head.starts_with(b"GET /pools") {
        answer.extend_from_slice(
            b"HTTP/1.1 200 OK\r\nrequest-id: 6b1e4a1c-0d5f-4a3e-8f63-0c8f1c7d9a01",
        );
        // As the vendor does when it is asked to.
        if let Some(at) = head
            .windows(CLIENT_REQUEST_ID.len())
            .position(|line| line == CLIENT_REQUEST_ID)
        {
            let line = &head[at..];
            let end = line[2..]
                .iter()
                .position(|byte| *byte == b'\r')
                .map_or(line.len(), |end| end + 2);
            answer.extend_from_slice(&line[..end]);
        } else {
            answer.extend_from_slice(CLIENT_REQUEST_ID);
            answer.extend_from_slice(b"11111111-1111-1111-1111-111111111111");
        }
        let node = br#"{"id":"node-1","state":"idle"}"#;
        let body: &[u8] = if head.starts_with(b"GET") {
            node
        } else {
            b"{}"
        };
        finish(answer, body);
    } else if head.starts_with(b"DELETE") {
        answer.extend_from_slice(b"HTTP/1.1 204 No Content\r\n\r\n");
    } else {
        answer.extend_from_slice(b"HTTP/1.1 200 OK");
        let body = if head.starts_with(b"GET /api/users/") {
            USER
        } else if head.starts_with(b"POST /api/sessions") {
            SESSION
        } else {
            TOKEN
        };
        finish(answer, body.as_bytes());
    }
}

fn finish(answer: &mut Vec<u8>, body: &[u8]) {
    answer.extend_from_slice(b"\r\ncontent-type: application/json\r\ncontent-length: ");
    answer.extend_from_slice(body.len().to_string().as_bytes());
    answer.extend_from_slice(b"\r\n\r\n");
    answer.extend_from_slice(body);
}
