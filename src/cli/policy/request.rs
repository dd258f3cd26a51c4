//! A request as a person types it, and what becomes of it.

use super::explain::{Answer, Args, Named};
use crate::model::{Host, Port, RequestLine, Scheme};
use crate::policy::{Act, Change, Effect, NamedRule, Particulars, Policy, RefUpdate, Refusal, RequestFacts, Verdict};
use anyhow::{Context, bail};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

/// What becomes of one request.
#[derive(Serialize)]
pub(super) struct OfRequest {
    verdict: &'static str,
    because: Option<String>,
    by: Option<Named>,
    outweighed: Vec<Named>,
    limited_by: Vec<Named>,
    act: Option<&'static str>,
    rule_to_add: Option<String>,
}

/// The verdict, the rule that made it, and the other rules that are about the request.
///
/// # Errors
/// For a header or reference that is none.
pub(super) fn explain(
    policy: &Policy,
    line: RequestLine,
    query: Option<&str>,
    args: &Args,
) -> anyhow::Result<OfRequest> {
    let headers = args.header.iter().map(|text| header(text)).collect::<anyhow::Result<HeaderMap>>()?;
    let updates = args.references.iter().map(|text| reference(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let act = Act::of(&line, query, &headers);
    let by = Particulars { query, headers: Some(&headers), act, updates: &updates, ..Particulars::default() };
    let rules = policy.matching(&line, &by);
    let mut deciding = rules.iter().filter(|rule| rule.effect() != Effect::Limit);
    let first = deciding.next();
    let outweighed: Vec<Named> = deciding.map(|rule| Named::of(rule)).collect();
    let limits = rules.iter().filter(|rule| !rule.quota().is_none() && Some(*rule) != first);
    let limits: Vec<Named> = limits.map(|rule| Named::of(rule)).collect();
    let first = first.map(|rule| Named::of(rule));
    let is_one = |named: &NamedRule| rules.iter().any(|rule| rule.text() == named.text);
    let (verdict, because, first, rule_to_add) = match policy
        .decide_with(RequestFacts { line, disagreement: None }, &by)
    {
        Verdict::Allow(_) => ("allow", None, first, None),
        Verdict::Ask(question) if !is_one(&question.rule) => ("ask", Some(by_condition(&question.rule)), None, None),
        Verdict::Ask(_) => ("ask", None, first, None),
        Verdict::Deny(Refusal { rule: Some(rule), reason, .. }) if !is_one(&rule) => ("deny", Some(reason), None, None),
        Verdict::Deny(refusal) if refusal.rule.is_some() => ("deny", None, first, None),
        Verdict::Deny(refusal) => ("deny", Some(refusal.reason), None, refusal.rule_to_add),
    };
    // What does not go is not limited.
    let limited_by = if verdict == "allow" { limits } else { Vec::new() };
    let act = act.map(Act::as_str);
    Ok(OfRequest { verdict, because, by: first, outweighed, limited_by, act, rule_to_add })
}

fn by_condition(rule: &NamedRule) -> String {
    format!("the condition `{}` of the {} asks", rule.text, rule.from)
}

fn header(text: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').with_context(|| format!("`{text}` is no header: write `NAME: VALUE`"))?;
    let name = name.trim().parse().with_context(|| format!("`{name}` is not the name of a header"))?;
    Ok((name, value.trim().parse().with_context(|| format!("`{value}` is not the value of a header"))?))
}

/// A reference that is changed; from and to what does not matter to rules.
fn reference(text: &str) -> anyhow::Result<RefUpdate> {
    let (change, name) = match text.split_once(':') {
        None => (Change::Update, text),
        Some((change, name)) => (
            Change::named(change)
                .with_context(|| format!("`{change}` is not create, update, forward, force or delete"))?,
            name,
        ),
    };
    let name = if name.starts_with("refs/") { name.to_owned() } else { format!("refs/heads/{name}") };
    Ok(RefUpdate { name, change, old: String::new(), new: String::new() })
}

impl Answer for OfRequest {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.verdict.to_owned()];
        lines.extend(self.because.iter().map(|reason| format!("because {reason}")));
        lines.extend(self.rule_to_add.iter().map(|rule| format!("to allow it, add   allow: {rule}")));
        lines.extend(self.by.iter().map(|rule| format!("by {}", rule.line())));
        lines.extend(self.outweighed.iter().map(|rule| format!("outweighed: {}", rule.line())));
        lines.extend(self.limited_by.iter().map(|rule| format!("limited by {}", rule.line())));
        lines.extend(self.act.map(|act| format!("it is a {act}")));
        lines
    }
}

/// Reads a method and a URL as the line of a request, and its query.
pub(super) fn request_line(method: &str, url: &str) -> anyhow::Result<(RequestLine, Option<String>)> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("tcp", rest)) => (Scheme::Tcp, rest),
        Some(("tls", rest)) => (Scheme::Tls, rest),
        Some((scheme, _)) if !scheme.contains('/') => {
            bail!("`{scheme}` is not a scheme of requests: write http or https")
        }
        _ => (Scheme::Https, url),
    };
    let rest = rest.split('#').next().unwrap_or(rest);
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query.to_owned())));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[after_brackets..].rfind(':') {
        Some(colon) => authority.split_at(after_brackets + colon),
        None => (authority, ""),
    };
    let host = Host::parse(host).with_context(|| format!("`{url}` is not a URL"))?;
    let port = match port.strip_prefix(':') {
        None => scheme.default_port(),
        Some(port) => Port(port.parse().with_context(|| format!("`{port}` is not a port"))?),
    };
    let path = if path.is_empty() { "/" } else { path };
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        bail!("`{path}` is not how a path is judged: leave `.` and `..` out");
    }
    Ok((RequestLine { method: method.to_ascii_uppercase(), scheme, host, port, path: path.to_owned() }, query))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_url() {
        for url in ["ftp://a.com", "https://", "https://a.com:x/", "https://a.com/../b", "https://u@a.com/"] {
            assert!(request_line("GET", url).is_err(), "{url}");
        }
        assert_eq!(request_line("GET", "https://[::1]:8443/x").expect("a request").0.port, Port(8443));
    }
}
