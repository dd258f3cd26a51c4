//! The client: one measurement a run, its figures on one line.

use crate::server::Zeroes;
use crate::way::{DOMAIN, NAME, WEBSOCKET_KEY, Way, read_head};
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Empty};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

/// Requests before those that count.
const WARM_UP: usize = 200;
/// Connections, and hosts, before those that count.
const FEW: usize = 10;
const SMALL: usize = 1024;
const MIB: f64 = 1024.0 * 1024.0;

/// What requests are made with.
type Sender = hyper::client::conn::http1::SendRequest<Either<Empty<Bytes>, Zeroes>>;

/// Does what is asked for and prints its figures.
pub async fn measure(what: &str, way: &Way, amounts: &[usize]) -> anyhow::Result<()> {
    match (what, amounts) {
        ("kept-alive", [count, size]) => print_quantiles(kept_alive(way, *count, *size).await?),
        ("connect", [count]) => print_quantiles(connect_often(way, *count).await?),
        ("first", [count]) => print_quantiles(visit_new_hosts(way, *count).await?),
        ("rate", [connections, count]) => println!("{:.0}", rate(way, *connections, *count).await?),
        ("download", [size]) => println!("{:.0}", download(way, *size).await?),
        ("upload", [size]) => println!("{:.0}", upload(way, *size).await?),
        ("idle", [count]) => idle(way, *count).await?,
        _ => anyhow::bail!("unknown: {what} {amounts:?}"),
    }
    Ok(())
}

async fn open(way: &Way, name: &str, address: SocketAddr) -> anyhow::Result<Sender> {
    let stream = way.connect(name, address).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One request and its whole answer; how long that took.
async fn ask(sender: &mut Sender, name: &str, size: usize) -> anyhow::Result<Duration> {
    let request = hyper::Request::get(format!("/bytes/{size}")).header("host", name);
    let request = request.body(Either::Left(Empty::new()))?;
    let started = Instant::now();
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status() == 200, "answered {}", response.status());
    let mut body = response.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, Bytes::len);
    }
    anyhow::ensure!(read == size, "a body of {read} bytes instead of {size}");
    Ok(started.elapsed())
}

/// Requests over one connection.
async fn kept_alive(way: &Way, count: usize, size: usize) -> anyhow::Result<Vec<Duration>> {
    let mut sender = open(way, NAME, way.find(NAME).await?).await?;
    let mut times = Vec::with_capacity(count);
    for turn in 0..WARM_UP.min(count) + count {
        sender.ready().await?;
        let time = ask(&mut sender, NAME, size).await?;
        if turn >= WARM_UP.min(count) {
            times.push(time);
        }
    }
    Ok(times)
}

/// A new connection to the same host for every request.
async fn connect_often(way: &Way, count: usize) -> anyhow::Result<Vec<Duration>> {
    let address = way.find(NAME).await?;
    let mut times = Vec::with_capacity(count);
    for turn in 0..FEW + count {
        let started = Instant::now();
        ask(&mut open(way, NAME, address).await?, NAME, SMALL).await?;
        if turn >= FEW {
            times.push(started.elapsed());
        }
    }
    Ok(times)
}

/// A new host for every request.
async fn visit_new_hosts(way: &Way, count: usize) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    for turn in 0..FEW + count {
        // A proxy that serves more than one run must not know the names of the one before.
        let name = format!("h{turn}-{}.{DOMAIN}", std::process::id());
        let address = way.find(&name).await?;
        let started = Instant::now();
        ask(&mut open(way, &name, address).await?, &name, SMALL).await?;
        if turn >= FEW {
            times.push(started.elapsed());
        }
    }
    Ok(times)
}

/// Requests a second over so many connections at a time, `count` requests in all.
async fn rate(way: &Way, connections: usize, count: usize) -> anyhow::Result<f64> {
    let address = way.find(NAME).await?;
    let mut senders = Vec::new();
    for _ in 0..connections {
        let mut sender = open(way, NAME, address).await?;
        ask(&mut sender, NAME, SMALL).await?;
        senders.push(sender);
    }
    let each = count / connections;
    let started = Instant::now();
    let mut asking = JoinSet::new();
    for mut sender in senders {
        asking.spawn(async move {
            for _ in 0..each {
                sender.ready().await?;
                ask(&mut sender, NAME, SMALL).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(done) = asking.join_next().await {
        done??;
    }
    Ok((each * connections) as f64 / started.elapsed().as_secs_f64())
}

/// MiB a second of one long answer.
async fn download(way: &Way, size: usize) -> anyhow::Result<f64> {
    let mut sender = open(way, NAME, way.find(NAME).await?).await?;
    Ok(size as f64 / MIB / ask(&mut sender, NAME, size).await?.as_secs_f64())
}

/// MiB a second of one long request.
async fn upload(way: &Way, size: usize) -> anyhow::Result<f64> {
    let mut sender = open(way, NAME, way.find(NAME).await?).await?;
    let request = hyper::Request::post("/").header("host", NAME).body(Either::Right(Zeroes { left: size }))?;
    let started = Instant::now();
    let answer = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
    let took = started.elapsed().as_secs_f64();
    anyhow::ensure!(answer == size.to_string(), "{answer:?} arrived of {size}");
    Ok(size as f64 / MIB / took)
}

/// Opens so many WebSockets, says so, and keeps them until its input ends.
async fn idle(way: &Way, count: usize) -> anyhow::Result<()> {
    let address = way.find(NAME).await?;
    let mut kept = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = way.connect(NAME, address).await?;
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let answer = read_head(&mut stream).await?;
        anyhow::ensure!(answer.starts_with("HTTP/1.1 101"), "no WebSocket: {answer}");
        kept.push(stream);
    }
    println!("open");
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(())
}

/// `p50 p99` in microseconds.
fn print_quantiles(mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0, Duration::as_micros);
    println!("{} {}", at(50), at(99));
}
