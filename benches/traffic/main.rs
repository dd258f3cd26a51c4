//! Both ends of the measurements that `scripts/bench proxy` makes: an HTTPS server, and a client that asks it and prints
//! figures; between them, if wanted, the least that a proxy has to do.
//!
//! The same client runs on the host, straight to the server or through an explicit proxy, and in a sandbox, where its
//! connections are caught. Names are looked up before any clock starts, and TLS sessions are never resumed, so that all
//! do the same work.

mod client;
mod relay;
mod server;
mod way;

use way::Way;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.as_slice() {
        ["serve", ca_out] => runtime.block_on(server::serve(ca_out)),
        ["relay", server, server_ca, ca_out] => runtime.block_on(relay::relay(server, server_ca, ca_out)),
        [what, address, proxy, ca, amounts @ ..] => {
            let amounts = amounts.iter().map(|word| word.parse()).collect::<Result<Vec<usize>, _>>()?;
            runtime.block_on(async {
                let way = Way::open(address, proxy, ca).await?;
                client::measure(what, &way, &amounts).await
            })
        }
        // `cargo bench` and `cargo test --all-targets` call it without a word: there is nothing to do alone.
        _ => Ok(()),
    }
}
