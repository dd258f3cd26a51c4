//! Client programs that find their trusted certificates each in its own way, as a session sets them up: docs/trust.md.

use crate::clients::{Client, HELLO, PLAIN, STATUS, Tool, hello, package_index, page};
use crate::host;
use crate::server::ALLOWED;
use crate::stage::Stage;
use std::path::{Path, PathBuf};

/// A program that `scripts/test` installs beside the harnesses.
fn beside_harnesses(stage: &Stage, path: &str) -> Option<Tool> {
    let program = host::tool(stage.actor, path)?;
    Some(Tool { program, shown: host::tools_directory() })
}

/// The interpreter of the virtual environment whose packages come from PyPI, with roots of their own.
fn venv_python(stage: &Stage) -> Option<Tool> {
    beside_harnesses(stage, "agents/bin/python3")
}

fn uv_program(stage: &Stage) -> Option<Tool> {
    beside_harnesses(stage, "agents/bin/uv")
}

fn deno_program(stage: &Stage) -> Option<Tool> {
    beside_harnesses(stage, "node_modules/deno/deno")
}

fn opencode_program(stage: &Stage) -> Option<Tool> {
    beside_harnesses(stage, "node_modules/opencode-ai/bin/opencode.exe")
}

/// The cargo that runs these tests, where everybody reaches it.
fn cargo_program(stage: &Stage) -> Option<Tool> {
    let program = stage.path("cargo");
    if !program.exists() {
        std::fs::copy(std::env::var_os("CARGO").map(PathBuf::from)?, &program).unwrap();
    }
    Some(Tool { shown: program.clone(), program })
}

/// Ant fetches a file, as it finds Java set up.
const ANT: &str = r#"cat > build.xml <<END
<project default="get"><target name="get"><get src="$URL" dest="got" verbose="true"/></target></project>
END
ant && cat got"#;

#[test]
fn java() {
    Client { program: "ant", command: ANT, refusal: STATUS, ..PLAIN }.try_everybody(hello);
}

/// A Java that is told nothing finds the system's key store, in front of which the session's stands.
#[test]
fn java_without_options() {
    if Path::new("/etc/ssl/certs/java/cacerts").exists() {
        let command = ["unset JAVA_TOOL_OPTIONS", ANT].join("\n").leak();
        Client { program: "ant", command, refusal: STATUS, ..PLAIN }.try_everybody(hello);
    }
}

#[test]
fn ruby() {
    let command = r#"ruby -r net/http -e 'puts Net::HTTP.get(URI(ENV["URL"]))'"#;
    Client { program: "ruby", command, ..PLAIN }.try_everybody(hello);
}

/// git-lfs is a Go program; without git's own variable it trusts what Go's library does.
#[test]
fn go() {
    let command = r#"unset GIT_SSL_CAINFO
cd /tmp && git init -q . && git config lfs.url "$URL" && git-lfs locks"#;
    let locks = format!(r#"{{"locks":[{{"id":"1","path":"{HELLO}","locked_at":"2026-01-02T03:04:05Z"}}]}}"#);
    let client = Client { program: "git-lfs", command, page: "/lfs", ..PLAIN };
    client.try_everybody(|| page("/lfs/locks", "application/vnd.git-lfs+json", locks.clone()));
}

#[test]
fn apt() {
    let command = r#"/usr/lib/apt/apt-helper -o Acquire::Retries=0 download-file "$URL" got && cat got"#;
    Client { program: "apt-get", command, refusal: STATUS, ..PLAIN }.try_everybody(hello);
}

#[test]
fn cargo() {
    let command = r#""$TOOL" search --index "sparse+$URL" omni-probe"#;
    let index = format!(r#"{{"dl":"https://{ALLOWED}/dl","api":"https://{ALLOWED}"}}"#);
    let probe = format!(r#"{{"name":"omni-probe","max_version":"1.0.0","description":"{HELLO}"}}"#);
    let found = format!(r#"{{"crates":[{probe}],"meta":{{"total":1}}}}"#);
    let tool = Some(cargo_program as fn(&Stage) -> Option<Tool>);
    Client { program: "cargo", command, page: "/index/", refusal: STATUS, tool, ..PLAIN }.try_everybody(|| {
        let mut pages = page("/index/config.json", "application/json", index.clone());
        pages.extend(page("/api/v1/crates", "application/json", found.clone()));
        pages
    });
}

#[test]
fn uv() {
    let command = r#"rm -rf installed; export UV_HTTP_RETRIES=0; "$TOOL" --no-cache pip install --index-url "$URL" --target installed omni-probe \
        && cat installed/omni_probe.py"#;
    Client { program: "uv", command, page: "/simple/", refusal: STATUS, tool: Some(uv_program), ..PLAIN }
        .try_everybody(package_index);
}

#[test]
fn python_requests_with_its_own_roots() {
    let command = r#""$TOOL" -c '
import os, requests, certifi
assert "site-packages" in certifi.where(), certifi.where()
print(requests.get(os.environ["URL"], timeout=20).text)'"#;
    Client { program: "requests", command, tool: Some(venv_python), ..PLAIN }.try_everybody(hello);
}

#[test]
fn python_httpx() {
    let command = r#""$TOOL" -c '
import os, httpx
print(httpx.get(os.environ["URL"], timeout=20).text)'"#;
    Client { program: "httpx", command, tool: Some(venv_python), ..PLAIN }.try_everybody(hello);
}

#[test]
fn python_aiohttp() {
    let command = r#""$TOOL" -c '
import aiohttp, asyncio, os
async def ask():
    async with aiohttp.ClientSession() as session:
        async with session.get(os.environ["URL"]) as answer: print(await answer.text())
asyncio.run(ask())'"#;
    Client { program: "aiohttp", command, tool: Some(venv_python), ..PLAIN }.try_everybody(hello);
}

/// Asks over QUIC first, which is refused at once: the request comes over TCP.
#[test]
fn python_over_http3() {
    let command = r#"PYTHONPATH="${TOOL%/agents/*}/http3" "$TOOL" -c '
import os, socket, sys, urllib.parse, niquests
tried = []
def hear(event, words):
    if event == "socket.connect" and words[0].type == socket.SOCK_DGRAM:
        tried.append(words[1][1])
sys.addaudithook(hear)
session = niquests.Session()
session.quic_cache_layer.add_domain(urllib.parse.urlsplit(os.environ["URL"]).hostname)
answer = session.get(os.environ["URL"], timeout=20)
print(answer.text)
assert 443 in tried and answer.http_version != 30, (tried, answer.http_version)'"#;
    Client { program: "niquests", command, tool: Some(venv_python), ..PLAIN }.try_everybody(hello);
}

#[test]
fn node_https() {
    let command = r#"node -e '
const client = process.env.URL.startsWith("https:") ? "https" : "http";
require(client).get(process.env.URL, answer => answer.on("data", data => console.log(String(data))))'"#;
    Client { program: "node", command, ..PLAIN }.try_everybody(hello);
}

#[test]
fn deno() {
    let command = r#""$TOOL" eval 'console.log(await (await fetch(Deno.env.get("URL"))).text())'"#;
    Client { program: "deno", command, tool: Some(deno_program), ..PLAIN }.try_everybody(hello);
}

/// opencode is Bun with a program in it, and Bun alone where it is told so.
#[test]
fn bun() {
    let command = r#"BUN_BE_BUN=1 "$TOOL" -e 'console.log(await (await fetch(process.env.URL)).text())'"#;
    Client { program: "bun", command, tool: Some(opencode_program), ..PLAIN }.try_everybody(hello);
}
