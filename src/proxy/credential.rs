//! The keys that are exchanged for tokens, as they are held: ready to sign, and never as a text that could be sent.

use super::exchange::form;
use super::spot::percent_encoded;
use crate::policy::{Endpoint, Exchange, github_claims, google_claims, jwt_form};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Where Google's tokens are made, unless an account's file says so.
const GOOGLE_TOKENS: &str = "https://oauth2.googleapis.com/token";

/// What shows who asks for a token.
pub(super) enum Credential {
    /// The key of a GitHub App.
    App(RsaKeyPair),
    /// A service account of Google's.
    Account {
        key: RsaKeyPair,
        key_id: Option<String>,
        email: String,
        at: Endpoint,
        /// The endpoint as the account's file has it, for whom the claims are.
        audience: String,
    },
    /// A user of Google's, as `gcloud auth application-default login` keeps one.
    User { id: String, secret: Zeroizing<String>, renewal: Zeroizing<String>, at: Endpoint },
}

/// A request that exchanges a key: where it goes, its headers and its body.
pub(super) type Asking = (Endpoint, Vec<(HeaderName, HeaderValue)>, Bytes);

/// A file of a Google account's. Each kind has its own fields.
#[derive(Deserialize)]
struct AccountFile {
    #[serde(rename = "type")]
    kind: String,
    token_uri: Option<String>,
    client_email: Option<String>,
    private_key_id: Option<String>,
    private_key: Option<Zeroizing<String>>,
    client_id: Option<String>,
    client_secret: Option<Zeroizing<String>>,
    refresh_token: Option<Zeroizing<String>>,
}

impl Credential {
    /// Reads the value of a secret that is exchanged.
    ///
    /// The error is for a person and holds nothing of the value.
    pub(super) fn parse(exchange: &Exchange, value: &str) -> Result<Self, String> {
        match exchange {
            Exchange::GitHubApp { .. } => key(value).map(Self::App),
            Exchange::Google { .. } => Self::google(value),
        }
    }

    fn google(value: &str) -> Result<Self, String> {
        // What is wrong with it is not said in its words, which may be secret.
        let file: AccountFile =
            serde_json::from_str(value).map_err(|_| "it is no file of a Google account (JSON)".to_owned())?;
        let audience = file.token_uri.unwrap_or_else(|| GOOGLE_TOKENS.to_owned());
        let at = Endpoint::parse(&audience).ok_or("its `token_uri` is no plain https URL")?;
        let lacks = |field: &str| format!("its file has no `{field}`");
        match file.kind.as_str() {
            "service_account" => Ok(Self::Account {
                key: key(&file.private_key.ok_or_else(|| lacks("private_key"))?)?,
                key_id: file.private_key_id,
                email: file.client_email.ok_or_else(|| lacks("client_email"))?,
                at,
                audience,
            }),
            "authorized_user" => Ok(Self::User {
                id: file.client_id.ok_or_else(|| lacks("client_id"))?,
                secret: file.client_secret.ok_or_else(|| lacks("client_secret"))?,
                renewal: file.refresh_token.ok_or_else(|| lacks("refresh_token"))?,
                at,
            }),
            _ => Err("its file is neither a `service_account` nor an `authorized_user`".to_owned()),
        }
    }

    /// The request that exchanges it, by a time in seconds since 1970.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub(super) fn request(&self, exchange: &Exchange, now: i64) -> Result<Asking, String> {
        match (self, exchange) {
            (Self::App(key), Exchange::GitHubApp { app, at, narrowed }) => {
                let jwt = signed(key, None, &github_claims(app, now))?;
                let mut bearer =
                    HeaderValue::from_str(&format!("Bearer {}", *jwt)).map_err(|error| error.to_string())?;
                bearer.set_sensitive(true);
                let json = HeaderValue::from_static("application/json");
                let headers = vec![(AUTHORIZATION, bearer), (CONTENT_TYPE, json)];
                Ok((at.clone(), headers, narrowed.to_string().into()))
            }
            (Self::Account { key, key_id, email, at, audience }, Exchange::Google { scopes }) => {
                let claims = google_claims(email, scopes, audience, now);
                let jwt = signed(key, key_id.as_deref(), &claims)?;
                Ok((at.clone(), vec![form()], jwt_form(&jwt).into()))
            }
            (Self::User { id, secret, renewal, at }, _) => {
                let [id, secret, renewal] = [id.as_str(), secret, renewal].map(percent_encoded);
                let form_of =
                    format!("grant_type=refresh_token&client_id={id}&client_secret={secret}&refresh_token={renewal}");
                Ok((at.clone(), vec![form()], form_of.into()))
            }
            _ => Err("its key is of another kind than what it is exchanged for".to_owned()),
        }
    }
}

/// An RSA key out of PEM: as GitHub gives one (PKCS #1), or as Google does (PKCS #8).
fn key(pem: &str) -> Result<RsaKeyPair, String> {
    let unusable = |_| "its private key is no RSA key that can be used".to_owned();
    match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(unusable),
        Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(unusable),
        Ok(_) => Err("its private key is no RSA key that can be used".to_owned()),
        Err(_) => Err("it holds no private key in PEM, or one with a passphrase".to_owned()),
    }
}

/// A JSON Web Token by RS256 (RFC 7515, section 3.1).
fn signed(key: &RsaKeyPair, key_id: Option<&str>, claims: &Value) -> Result<Zeroizing<String>, String> {
    let mut head = json!({"alg": "RS256", "typ": "JWT"});
    if let Some(id) = key_id {
        head["kid"] = id.into();
    }
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let said = format!("{}.{}", part(&head), part(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), said.as_bytes(), &mut signature)
        .map_err(|_| "the key cannot sign".to_owned())?;
    Ok(Zeroizing::new(format!("{said}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    fn account(fields: &Value) -> Result<Credential, String> {
        Credential::parse(&Exchange::Google { scopes: vec!["s".to_owned()] }, &fields.to_string())
    }

    #[test]
    fn a_service_account_signs_its_claims_for_its_own_endpoint() {
        let made = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&made).unwrap();
        let text = base64::prelude::BASE64_STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        let fields = json!({"type": "service_account", "private_key": pem, "private_key_id": "k1",
            "client_email": "a@b.example", "token_uri": "https://token.example/t"});
        let exchange = Exchange::Google { scopes: vec!["one".to_owned(), "two".to_owned()] };
        let credential = Credential::parse(&exchange, &fields.to_string()).unwrap();
        let (at, _, body) = credential.request(&exchange, 1_000).unwrap();
        assert_eq!((at.host.as_str(), at.path.as_str()), ("token.example", "/t"));
        let body = String::from_utf8(body.to_vec()).unwrap();
        let jwt = body.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=");
        let (said, signature) = jwt.unwrap().rsplit_once('.').unwrap();
        let (head, claims) = said.split_once('.').unwrap();
        let read =
            |part: &str| -> Value { serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
        assert_eq!(read(head), json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
        let expected = json!({"iss": "a@b.example", "scope": "one two", "aud": "https://token.example/t", "iat": 1_000, "exp": 4_600});
        assert_eq!(read(claims), expected);
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, made.public_key().as_ref());
        public.verify(said.as_bytes(), &BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    }

    #[test]
    fn a_users_account_renews_by_its_token() {
        let fields =
            json!({"type": "authorized_user", "client_id": "i d", "client_secret": "s&t", "refresh_token": "1//r"});
        let (at, _, body) = account(&fields).unwrap().request(&Exchange::Google { scopes: Vec::new() }, 0).unwrap();
        assert_eq!(at, Endpoint::parse(GOOGLE_TOKENS).unwrap());
        assert_eq!(body, "grant_type=refresh_token&client_id=i%20d&client_secret=s%26t&refresh_token=1%2F%2Fr");
    }

    #[test]
    fn what_is_no_account_says_what_is_missing_and_nothing_of_itself() {
        for (fields, expected) in [
            (json!({"type": "canary"}), "neither"),
            (json!({"type": "service_account"}), "no `private_key`"),
            (json!({"type": "service_account", "private_key": "canary"}), "no private key in PEM"),
            (json!({"type": "authorized_user", "client_id": "canary"}), "no `client_secret`"),
            (json!({"type": "authorized_user", "token_uri": "http://canary.example/"}), "no plain https URL"),
            (json!("canary"), "no file of a Google account"),
        ] {
            let said = account(&fields).err().unwrap();
            assert!(said.contains(expected) && !said.contains("canary"), "{fields}: {said}");
        }
    }
}
