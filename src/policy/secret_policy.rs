//! Policies of the type `secret`: which secrets a session may use, whose sessions those are, and when a person is asked first.

use super::document::{Fields, Node, Value, list, text};
use super::error::Complaint;
use super::secret::{Approval, SecretSource, SecretSpec};
use crate::model::HostName;

/// The keys of the type, beyond `name` and `type`.
pub(super) const KEYS: &[&str] = &["secrets", "hosts", "users", "deny", "approve"];

/// What a policy says of some secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretPolicy {
    /// What it is called.
    pub name: String,
    /// The names of the secrets, of the logins and in the store; one may end with `*`.
    secrets: Vec<String>,
    /// The hosts of secrets, whatever those are called.
    hosts: Vec<HostName>,
    /// Who alone may use them; nobody where it is empty, and everybody where there is none.
    users: Option<Vec<String>>,
    /// When a person is asked at least.
    approval: Approval,
}

impl SecretPolicy {
    /// Reads one.
    pub(super) fn read(
        mut fields: Fields,
        name: Option<String>,
        written: &Node,
        complaints: &mut Vec<Complaint>,
    ) -> Option<Self> {
        let (secrets, hosts, users) = (fields.take("secrets"), fields.take("hosts"), fields.take("users"));
        let (deny, approve) = (fields.take("deny"), fields.take("approve"));
        fields.finish(complaints);
        let mut texts = |node: Option<Node>, what: &str| -> Option<Vec<String>> {
            let nodes = list(node?, what, true, complaints);
            Some(nodes.into_iter().filter_map(|node| text(node, what, complaints)).collect())
        };
        let (secrets, users) = (texts(secrets, "`secrets`").unwrap_or_default(), texts(users, "`users`"));
        let hosts = hosts.map(|node| list(node, "`hosts`", true, complaints)).unwrap_or_default();
        let hosts = hosts.into_iter().filter_map(|node| {
            let written = text(node.clone(), "a host", complaints)?;
            let read = HostName::parse(&written);
            read.map_err(|error| complaints.push(node.complaint(error.to_string(), "write its plain name"))).ok()
        });
        let hosts: Vec<HostName> = hosts.collect();
        let approval = approve.map(|node| Approval::read(node, complaints)).unwrap_or_default();
        let denies = match deny {
            Some(node) if !matches!(node.value, Value::Bool(true)) => {
                complaints.push(node.complaint("`deny` can only be `true`", "leave it out, or write `deny: true`"));
                true
            }
            other => other.is_some(),
        };
        if secrets.is_empty() && hosts.is_empty() {
            let hint = "add `secrets: [NAME]`, or `hosts: [HOST]` for whatever goes there";
            complaints.push(written.complaint("the policy is about no secret", hint));
        }
        if !denies && users.is_none() && approval == Approval::Never {
            let hint = "add `deny: true`, `users: [NAME]` or `approve: use`";
            complaints.push(written.complaint("the policy says nothing of its secrets", hint));
        }
        let users = if denies { Some(Vec::new()) } else { users };
        Some(Self { name: name.unwrap_or_else(|| "secret".to_owned()), secrets, hosts, users, approval })
    }

    /// Whether it is about a secret.
    fn concerns(&self, spec: &SecretSpec) -> bool {
        let stored = spec.sources().filter_map(|source| match source {
            SecretSource::Store(name) => Some(name.as_str()),
            SecretSource::Credential(file, _) => Some(file.name),
            _ => None,
        });
        let login = spec.login.map(|token| token.login.name);
        let mut names = stored.chain([spec.name.as_str()]).chain(login);
        let named = |name: &str| {
            self.secrets.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(begin) => name.starts_with(begin),
                None => pattern == name,
            })
        };
        names.any(named) || spec.sites.iter().any(|site| self.hosts.contains(&site.host))
    }

    /// Has a secret be used as this policy wants it, where it is about that: of several, the strictest counts. Whether this user may
    /// use it.
    #[must_use]
    pub fn apply(&self, spec: &mut SecretSpec, user: &str) -> bool {
        if !self.concerns(spec) {
            return true;
        }
        spec.approval = spec.approval.max(self.approval);
        self.users.as_ref().is_none_or(|users| users.iter().any(|known| known == user))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::parse_policy_file;
    use super::*;

    fn applied(policy: &str, secret: &str, user: &str) -> Result<Approval, String> {
        let file = parse_policy_file("test", &format!("type: secret\nname: p\n{policy}")).unwrap();
        let mut spec = SecretSpec::parse("test", secret).unwrap();
        match file.secrets.iter().find(|policy| !policy.apply(&mut spec, user)) {
            None => Ok(spec.approval),
            Some(policy) => Err(policy.name.clone()),
        }
    }

    #[test]
    fn a_policy_denies_a_secret_by_its_name_its_host_its_login_and_its_place_in_the_store() {
        let denied = |policy: &str, secret: &str| applied(&format!("{policy}\ndeny: true"), secret, "ann").is_err();
        let bot = "{name: prod-bot, from: 'store:bot', host: api.example, bearer: true}";
        for policy in
            ["secrets: prod-bot", "secrets: ['prod-*']", "secrets: [a, bot]", "hosts: api.example", "secrets: '*'"]
        {
            assert!(denied(policy, bot), "{policy}");
        }
        assert!(!denied("secrets: [prod, 'bots*']", bot) && !denied("hosts: other.example", bot));
        assert!(denied("secrets: claude-login", "{name: mine, preset: claude-login}"));
    }

    #[test]
    fn a_policy_says_who_may_use_a_secret_and_when_a_person_is_asked_at_least() {
        let secret = "{name: a, from: 'env:A', host: api.example, bearer: true, approve: host}";
        assert_eq!(applied("secrets: a\nusers: [ann, bob]", secret, "ann"), Ok(Approval::Host));
        assert_eq!(applied("secrets: a\nusers: [bob]", secret, "ann"), Err("p".to_owned()));
        assert_eq!(applied("secrets: a\napprove: session", secret, "ann"), Ok(Approval::Host));
        assert_eq!(applied("secrets: a\napprove: use", secret, "ann"), Ok(Approval::Use));
        assert_eq!(applied("secrets: b\napprove: use", secret, "ann"), Ok(Approval::Host));
    }

    #[test]
    fn a_policy_that_says_nothing_is_an_error() {
        for (policy, expected) in [
            ("secrets: a", "says nothing of its secrets"),
            ("deny: true", "is about no secret"),
            ("secrets: a\ndeny: false", "can only be `true`"),
            ("secrets: a\napprove: often", "is not when a person is asked"),
            ("hosts: 'https://a'\ndeny: true", "plain name"),
        ] {
            let said = parse_policy_file("test", &format!("type: secret\n{policy}")).unwrap_err().to_string();
            assert!(said.contains(expected), "{policy}: {said}");
        }
    }
}
