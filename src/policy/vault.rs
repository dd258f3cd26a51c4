//! Secrets that HashiCorp Vault keeps, or OpenBao, in its key-value store of version 2: what `from:` and `vault:` say of one.

use super::document::{Fields, Node, text};
use super::error::Complaint;
use super::read_secret::read_sources;
use super::secret::SecretSource;

/// The variables by which Vault's own programs know where it is, as whom, and by which authority.
pub const VAULT_VARIABLES: [&str; 4] = ["VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE", "VAULT_CACERT"];
/// The file in which they keep a token.
pub const VAULT_TOKEN_FILE: &str = "~/.vault-token";
/// How a source is written.
const SHAPE: &str = "write it like `vault:secret/data/ci#token`: the path as Vault's interface has it, and the field";

/// One field of a secret in Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultField {
    /// The path in Vault's interface, behind `/v1/`.
    pub path: String,
    /// The field.
    pub field: String,
    /// Where Vault is, beyond its variables.
    pub settings: VaultSettings,
}

/// Where Vault is, and as whom it is asked; what is not said is looked for in Vault's own variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VaultSettings {
    /// The address, as a URL without a path.
    pub address: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// Where the token is looked for.
    pub token: Vec<SecretSource>,
    /// A file with its authority, which counts alone then, as written.
    pub ca: Option<String>,
}

impl VaultField {
    /// Reads `PATH#FIELD`.
    pub(super) fn read(written: &str, node: &Node) -> Result<Self, Complaint> {
        let (path, field) =
            written.split_once('#').ok_or_else(|| node.complaint("the source names no field", SHAPE))?;
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let parts = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !plain(path) || !plain(field) || !parts || path.contains(['?', '%', '\\']) {
            return Err(node.complaint(format!("`{written}` is no path and field of Vault's"), SHAPE));
        }
        if !path.split('/').skip(1).any(|part| part == "data") {
            return Err(node.complaint(format!("`{path}` has no `data` in it, as version 2 of the store does"), SHAPE));
        }
        Ok(Self { path: path.to_owned(), field: field.to_owned(), settings: VaultSettings::default() })
    }

    /// The variables that hold its token.
    pub(super) fn variables(&self) -> Vec<&str> {
        match self.settings.token.is_empty() {
            true => vec![VAULT_VARIABLES[1]],
            false => self.settings.token.iter().flat_map(SecretSource::variables).collect(),
        }
    }
}

impl VaultSettings {
    /// Reads `vault: { address, namespace, token, ca }`.
    pub(super) fn read(node: Node, complaints: &mut Vec<Complaint>) -> Self {
        let mut fields = Fields::of(node, "`vault`", complaints);
        let (address, namespace) = (fields.take("address"), fields.take("namespace"));
        let (token, ca) = (fields.take("token"), fields.take("ca"));
        fields.finish(complaints);
        let address = address.and_then(|node| {
            let address = text(node.clone(), "`address`", complaints)?;
            let sound = ["https://", "http://"].iter().any(|scheme| address.starts_with(scheme));
            if !sound {
                complaints.push(node.complaint(format!("`{address}` is no address"), "begin it with `https://`"));
            }
            Some(address)
        });
        let namespace = namespace.and_then(|node| text(node, "`namespace`", complaints));
        let ca = ca.and_then(|node| {
            let file = text(node.clone(), "`ca`", complaints)?;
            if !file.starts_with('/') && !file.starts_with("~/") {
                complaints.push(node.complaint(format!("`{file}` is not a full path"), "begin it with `/` or `~/`"));
            }
            Some(file)
        });
        let token = token.map(|node| (node.clone(), read_sources(node, complaints)));
        if let Some((node, sources)) = &token
            && sources.iter().any(|source| matches!(source, SecretSource::Vault(_)))
        {
            complaints.push(node.complaint("Vault's token cannot be in Vault", "name a file or a variable"));
        }
        Self { address, namespace, token: token.map(|(_, sources)| sources).unwrap_or_default(), ca }
    }

    /// Reads `vault:`, and has the sources of Vault's among these go by it.
    pub(super) fn settle(node: Option<Node>, sources: [&mut [SecretSource]; 2], complaints: &mut Vec<Complaint>) {
        let Some(node) = node else { return };
        let hint = "add `from: vault:PATH#FIELD`, or remove it";
        let unused = node.complaint("`vault` says where Vault is, and the secret is of no source there", hint);
        let settings = Self::read(node, complaints);
        let mut used = false;
        for source in sources.into_iter().flatten() {
            if let SecretSource::Vault(field) = source {
                field.settings = settings.clone();
                used = true;
            }
        }
        complaints.extend((!used).then_some(unused));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::SecretSpec;
    use super::*;

    fn read(from: &str, more: &str) -> Result<SecretSpec, String> {
        let text = format!("name: a\nhost: a.example\nbearer: true\nfrom: '{from}'\n{more}");
        SecretSpec::parse("test", &text).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_field_of_vaults_has_its_path_and_where_it_is() {
        let more = "vault: { address: 'https://v.example:8200', namespace: team, token: 'env:T', ca: /ca.pem }";
        let spec = read("vault:kv/team/data/ci/x#key", more).unwrap();
        let SecretSource::Vault(field) = &spec.from[0] else { panic!("no vault") };
        assert_eq!((field.path.as_str(), field.field.as_str()), ("kv/team/data/ci/x", "key"));
        assert_eq!(field.settings.address.as_deref(), Some("https://v.example:8200"));
        assert_eq!(
            (field.variables(), spec.from[0].to_string()),
            (vec!["T"], "vault:kv/team/data/ci/x#key".to_owned())
        );
        assert_eq!(read("vault:secret/data/ci#k", "").unwrap().from[0].variables(), ["VAULT_TOKEN"]);
    }

    #[test]
    fn what_is_no_place_in_vault_is_said() {
        for (from, more, expected) in [
            ("vault:secret/data/ci", "", "names no field"),
            ("vault:secret/ci#k", "", "has no `data`"),
            ("vault:data/ci#k", "", "has no `data`"),
            ("vault:secret/data/../ci#k", "", "no path and field"),
            ("vault:secret/data/ci?x#k", "", "no path and field"),
            ("vault:secret/data/ci#", "", "no path and field"),
            ("vault:secret/data/ci#k", "vault: { address: v.example }", "is no address"),
            ("vault:secret/data/ci#k", "vault: { ca: ca.pem }", "is not a full path"),
            ("vault:secret/data/ci#k", "vault: { token: 'vault:secret/data/t#t' }", "cannot be in Vault"),
            ("env:A", "vault: { namespace: a }", "is of no source there"),
        ] {
            let said = read(from, more).unwrap_err();
            assert!(said.contains(expected), "{from} {more}: {said}");
        }
    }
}
