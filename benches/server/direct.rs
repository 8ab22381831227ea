//! Requests that are sent directly to the upstream, from one CPU to the other: a lower bound for the latency of any
//! server in between.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
};

const REQUEST: &[u8] = b"DELETE /pools/pool-1/nodes/node-1/users/alice?api-version=2023-11-01.18.0 HTTP/1.1\r\nhost: upstream\r\naccept: application/json\r\n\r\n";

/// Returns the median latency of sequential requests, in microseconds.
pub fn p50(runtime: &Runtime, upstream: SocketAddr, time: Duration) -> f64 {
    runtime.block_on(async {
        let mut stream = TcpStream::connect(upstream).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut durations, mut read) = (Vec::new(), vec![0; 4096]);
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            let started = Instant::now();
            stream.write_all(REQUEST).await.unwrap();
            let length = stream.read(&mut read).await.unwrap();
            assert!(read[..length].starts_with(b"HTTP/1.1 200 "));
            durations.push(started.elapsed());
        }
        durations.sort_unstable();
        durations[durations.len() / 2].as_secs_f64() * 1e6
    })
}
