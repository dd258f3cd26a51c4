//! What is known of the secrets of known vendors, so that nobody writes their sites by hand.

use super::login::{Login, LoginToken};
use super::secret::{LOGIN_REFRESH, Place, PlaceholderFile, SecretSource, SecretSpec, Site};
use super::shape::Shape;
use crate::model::{HostName, Port};
use std::time::Duration;

/// The preset of the key of a GitHub App, which is exchanged for tokens.
pub(super) const GITHUB_APP: &str = "github-app";
/// The preset of a Google account, whose key is.
pub(super) const GOOGLE_ACCOUNT: &str = "gcp-service-account";
/// What presets are called besides.
const ALIASES: [(&str, &str); 1] = [("gcp", GOOGLE_ACCOUNT)];
/// What stands for the host of a site that each customer of the vendor's has of their own.
const OWN_HOST: &str = "";
/// What stands in a host for each region in which Amazon Bedrock is. Others share Amazon's domain, and so none is left open.
const REGION: &str = "REGION";
const REGIONS: [&str; 20] = [
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ca-central-1",
    "sa-east-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
];
/// Where Google's programs keep a user's own.
const GOOGLE_FILE: &str = "~/.config/gcloud/application_default_credentials.json";

/// What is known of one vendor's secrets.
#[derive(Debug)]
pub struct Preset {
    /// What it is called, by the vendor.
    pub name: &'static str,
    /// What the secret is, for a person who is asked for one.
    pub about: &'static str,
    /// The variables that the vendor's own programs look into, and that hold the placeholder.
    variables: &'static [&'static str],
    /// What its keys look like.
    pub(super) shape: Shape,
    sites: &'static [(&'static str, &'static str, At)],
    /// The files that the vendor's own programs look into, each with what stands in it.
    files: &'static [(&'static str, &'static str)],
    /// A file of JSON in which the vendor's own programs keep a login, and where in it the token is.
    login: Option<&'static str>,
}

/// A [`Place`] as a constant.
#[derive(Debug, Clone, Copy)]
enum At {
    Header(&'static str),
    Bearer,
    /// The password of whoever.
    Basic,
    Query(&'static str),
    /// A signature.
    Aws,
}

/// Where GitHub's tokens go, of whatever kind.
const GITHUB_SITES: &[(&str, &str, At)] = &[
    ("api.github.com", "/", At::Header("authorization")),
    ("api.github.com", "/", At::Basic),
    ("uploads.github.com", "/", At::Header("authorization")),
    ("github.com", "/", At::Basic),
    ("github.com", "/", At::Header("authorization")),
];
/// Where GitHub's own programs look for one.
const GITHUB_VARIABLES: &[&str] = &["GH_TOKEN", "GITHUB_TOKEN"];
const GITHUB_FILES: &[(&str, &str)] = &[("~/.netrc", "machine github.com login x-access-token password PLACEHOLDER\n")];

/// Every preset. The sites are those that the vendors document for their command lines and libraries.
static PRESETS: &[Preset] = &[
    Preset {
        name: "anthropic",
        about: "an API key of Anthropic's, from platform.claude.com",
        variables: &["ANTHROPIC_API_KEY"],
        shape: Shape::Anthropic,
        sites: &[("api.anthropic.com", "/", At::Header("x-api-key")), ("api.anthropic.com", "/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "claude-code",
        about: "a token of a Claude subscription, as `claude setup-token` prints it, or your own login's",
        variables: &["CLAUDE_CODE_OAUTH_TOKEN"],
        shape: Shape::AnthropicToken,
        sites: &[("api.anthropic.com", "/", At::Bearer)],
        login: Some("~/.claude/.credentials.json#/claudeAiOauth/accessToken"),
        files: &[],
    },
    Preset {
        name: "claude-login",
        about: "your own login of Claude Code's, which is renewed as the session goes on",
        variables: &[],
        shape: Shape::AnthropicToken,
        sites: &[("api.anthropic.com", "/", At::Bearer)],
        login: Some("~/.claude/.credentials.json#/claudeAiOauth/accessToken"),
        files: &[],
    },
    Preset {
        name: "codex-login",
        about: "your own login of Codex's with ChatGPT, which is renewed as the session goes on",
        variables: &[],
        shape: Shape::Signature,
        sites: &[("chatgpt.com", "/backend-api/", At::Bearer)],
        login: Some("~/.codex/auth.json#/tokens/access_token"),
        files: &[],
    },
    Preset {
        name: "openai",
        about: "an API key of OpenAI's, from platform.openai.com",
        variables: &["OPENAI_API_KEY"],
        shape: Shape::OpenAi,
        sites: &[("api.openai.com", "/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "google",
        about: "an API key of Google's Gemini API, from aistudio.google.com",
        variables: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        shape: Shape::Google,
        sites: &[
            ("generativelanguage.googleapis.com", "/", At::Header("x-goog-api-key")),
            ("generativelanguage.googleapis.com", "/", At::Query("key")),
            ("generativelanguage.googleapis.com", "/", At::Bearer),
        ],
        login: None,
        files: &[],
    },
    Preset {
        name: "openrouter",
        about: "an API key of OpenRouter's, from openrouter.ai",
        variables: &["OPENROUTER_API_KEY"],
        shape: Shape::OpenRouter,
        sites: &[("openrouter.ai", "/api/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "github",
        about: "a personal access token of GitHub's, from github.com/settings/tokens",
        variables: GITHUB_VARIABLES,
        shape: Shape::GitHub,
        sites: GITHUB_SITES,
        login: None,
        files: GITHUB_FILES,
    },
    Preset {
        name: GITHUB_APP,
        about: "the private key of a GitHub App, as PEM, from the app's settings",
        variables: GITHUB_VARIABLES,
        shape: Shape::GitHubInstallation,
        sites: GITHUB_SITES,
        login: None,
        files: GITHUB_FILES,
    },
    Preset {
        name: GOOGLE_ACCOUNT,
        about: "a service account of Google Cloud's, as the JSON file of its key, or your own application default credentials",
        variables: &["CLOUDSDK_AUTH_ACCESS_TOKEN", "GOOGLE_OAUTH_ACCESS_TOKEN"],
        shape: Shape::GoogleToken,
        sites: &[("googleapis.com", "/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "gitlab",
        about: "a personal access token of GitLab's, from gitlab.com/-/user_settings/personal_access_tokens",
        variables: &["GITLAB_TOKEN"],
        shape: Shape::GitLab,
        sites: &[
            ("gitlab.com", "/", At::Header("private-token")),
            ("gitlab.com", "/", At::Bearer),
            ("gitlab.com", "/", At::Basic),
        ],
        login: None,
        files: &[("~/.netrc", "machine gitlab.com login oauth2 password PLACEHOLDER\n")],
    },
    Preset {
        name: "npm",
        about: "an access token of npm's, from npmjs.com",
        variables: &["NPM_TOKEN", "NODE_AUTH_TOKEN"],
        shape: Shape::Npm,
        sites: &[("registry.npmjs.org", "/", At::Bearer)],
        login: None,
        files: &[("~/.npmrc", "//registry.npmjs.org/:_authToken=PLACEHOLDER\n")],
    },
    Preset {
        name: "pypi",
        about: "an API token of PyPI's, from pypi.org/manage/account/token",
        variables: &["TWINE_PASSWORD", "UV_PUBLISH_TOKEN"],
        shape: Shape::PyPi,
        sites: &[("upload.pypi.org", "/legacy/", At::Basic)],
        login: None,
        files: &[("~/.pypirc", "[pypi]\nusername = __token__\npassword = PLACEHOLDER\n")],
    },
    Preset {
        name: "crates-io",
        about: "an API token of crates.io's, from crates.io/settings/tokens",
        variables: &["CARGO_REGISTRY_TOKEN"],
        shape: Shape::CratesIo,
        sites: &[("crates.io", "/api/", At::Header("authorization"))],
        login: None,
        files: &[("~/.cargo/credentials.toml", "[registry]\ntoken = \"PLACEHOLDER\"\n")],
    },
    Preset {
        name: "docker-hub",
        about: "a personal access token of Docker Hub's, from app.docker.com",
        variables: &["DOCKERHUB_TOKEN"],
        shape: Shape::DockerHub,
        sites: &[("auth.docker.io", "/token", At::Basic)],
        login: None,
        files: &[],
    },
    Preset {
        name: "hugging-face",
        about: "a user access token of Hugging Face's, from huggingface.co/settings/tokens",
        variables: &["HF_TOKEN"],
        shape: Shape::HuggingFace,
        sites: &[("huggingface.co", "/", At::Bearer), ("router.huggingface.co", "/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "bedrock",
        about: "an API key of Amazon Bedrock's",
        variables: &["AWS_BEARER_TOKEN_BEDROCK"],
        shape: Shape::Bedrock,
        sites: &[
            ("bedrock-runtime.REGION.amazonaws.com", "/", At::Bearer),
            ("bedrock.REGION.amazonaws.com", "/", At::Bearer),
        ],
        login: None,
        files: &[],
    },
    Preset {
        name: "aws",
        about: "an access key of AWS's, as ID:SECRET or ID:SECRET:TOKEN",
        variables: &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
        shape: Shape::AwsKey,
        sites: &[("amazonaws.com", "/", At::Aws), ("amazonaws.com.cn", "/", At::Aws), ("api.aws", "/", At::Aws)],
        login: None,
        files: &[(
            "~/.aws/credentials",
            "[default]\naws_access_key_id = PLACEHOLDER\naws_secret_access_key = PLACEHOLDER_SECRET\n",
        )],
    },
    Preset {
        name: "slack",
        about: "a bot token of Slack's, from api.slack.com/apps",
        variables: &["SLACK_BOT_TOKEN"],
        shape: Shape::Slack,
        sites: &[("slack.com", "/api/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "mistral",
        about: "an API key of Mistral's, from console.mistral.ai",
        variables: &["MISTRAL_API_KEY"],
        shape: Shape::Mistral,
        sites: &[("api.mistral.ai", "/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "groq",
        about: "an API key of Groq's, from console.groq.com",
        variables: &["GROQ_API_KEY"],
        shape: Shape::Groq,
        sites: &[("api.groq.com", "/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "xai",
        about: "an API key of xAI's, from console.x.ai",
        variables: &["XAI_API_KEY"],
        shape: Shape::Xai,
        sites: &[("api.x.ai", "/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "deepseek",
        about: "an API key of DeepSeek's, from platform.deepseek.com",
        variables: &["DEEPSEEK_API_KEY"],
        shape: Shape::DeepSeek,
        sites: &[("api.deepseek.com", "/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "stripe",
        about: "a secret key of Stripe's, from dashboard.stripe.com/apikeys",
        variables: &["STRIPE_API_KEY"],
        shape: Shape::Stripe,
        sites: &[("api.stripe.com", "/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "cloudflare",
        about: "an API token of Cloudflare's, from dash.cloudflare.com",
        variables: &["CLOUDFLARE_API_TOKEN"],
        shape: Shape::Cloudflare,
        sites: &[("api.cloudflare.com", "/client/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "digitalocean",
        about: "a personal access token of DigitalOcean's, from cloud.digitalocean.com",
        variables: &["DIGITALOCEAN_ACCESS_TOKEN"],
        shape: Shape::DigitalOcean,
        sites: &[("api.digitalocean.com", "/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset::of_file("netrc", "your own ~/.netrc: what each of its machines is told"),
    Preset::of_file("git-credentials", "your own ~/.git-credentials, as `git credential-store` keeps it"),
    Preset::of_file("npmrc", "your own ~/.npmrc: the tokens of its registries"),
    Preset::of_file("pypirc", "your own ~/.pypirc: the passwords of its indexes"),
    Preset::of_file("cargo-login", "your own tokens of `cargo login`, in ~/.cargo/credentials.toml"),
    Preset::of_file("docker-login", "your own ~/.docker/config.json, as `docker login` keeps it"),
    Preset::of_file("gh-login", "your own login of GitHub's command line, in ~/.config/gh/hosts.yml"),
    Preset::of_file("kubeconfig", "your own ~/.kube/config: the tokens of its users"),
    Preset {
        name: "jira",
        about: "an API token of Atlassian's, from id.atlassian.com, for a site such as NAME.atlassian.net",
        variables: &["JIRA_API_TOKEN", "ATLASSIAN_API_TOKEN"],
        shape: Shape::Atlassian,
        // The password of its owner's e-mail address; what a server of one's own takes, by itself.
        sites: &[(OWN_HOST, "/", At::Basic), (OWN_HOST, "/", At::Bearer)],
        login: None,
        files: &[],
    },
    Preset {
        name: "linear",
        about: "an API key of Linear's, from linear.app",
        variables: &["LINEAR_API_KEY"],
        shape: Shape::Linear,
        sites: &[("api.linear.app", "/", At::Header("authorization"))],
        login: None,
        files: &[],
    },
];

impl Preset {
    /// What a file of credentials holds, each for its own host.
    const fn of_file(name: &'static str, about: &'static str) -> Self {
        Self { name, about, variables: &[], shape: Shape::Opaque, sites: &[], login: None, files: &[] }
    }

    /// The preset of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// The preset whose secret a variable holds, as the vendor's programs know it.
    #[must_use]
    pub fn of_variable(variable: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.variables.contains(&variable) && !preset.exchanges())
    }

    /// The secret of a login or a file of credentials that is used as a whole, under some name; none for other presets.
    pub(super) fn login(&self, name: &str) -> Option<SecretSpec> {
        if let Some(file) = self.credential_file() {
            return Some(file.secret(name));
        }
        Some(SecretSpec::of_login(name, LoginToken { login: Login::named(self.name)?, number: 0 }))
    }

    /// The user's own file that it is read from, as `~/…`.
    #[must_use]
    pub fn own_file(&self) -> Option<&'static str> {
        let of_login = self.login.map(|login| login.split('#').next().unwrap_or(login));
        self.credential_file().map(|file| file.path).or(of_login)
    }

    /// Whether its value is a login or a file of the user's own, of which nothing is kept.
    #[must_use]
    pub fn is_read_as_it_is(&self) -> bool {
        self.credential_file().is_some() || Login::named(self.name).is_some()
    }

    /// The names of all.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|preset| preset.name)
    }

    /// Whether each customer has a host of their own, which only they know.
    #[must_use]
    pub fn wants_host(&self) -> bool {
        self.sites.iter().any(|(host, ..)| *host == OWN_HOST)
    }

    /// Where the secret may be sent to; nowhere where that is known to its owner alone ([`Preset::sites_at`]).
    #[must_use]
    pub fn sites(&self) -> Vec<Site> {
        self.sites_of(None)
    }

    /// The same, where this is the owner's own host.
    #[must_use]
    pub fn sites_at(&self, own: &HostName) -> Vec<Site> {
        self.sites_of(Some(own))
    }

    fn sites_of(&self, own: Option<&HostName>) -> Vec<Site> {
        let site = |host: &str, (_, path, at): &(&str, &str, At)| {
            let place = match at {
                At::Header(name) => Place::Header((*name).to_owned()),
                At::Bearer => Place::Bearer,
                At::Basic => Place::BasicPassword(None),
                At::Aws => Place::Aws,
                At::Query(name) => Place::Query((*name).to_owned()),
            };
            // Every host of a preset is one: a test parses them all.
            let host = if host == OWN_HOST { own.cloned()? } else { HostName::parse(host).ok()? };
            Some(Site { host, port: Port(443), path: (*path).to_owned(), place })
        };
        let in_regions = |known: &&(&'static str, _, _)| known.0.contains(REGION);
        let named = self.sites.iter().filter(|known| !in_regions(known)).filter_map(|known| site(known.0, known));
        let regional = self.sites.iter().filter(in_regions);
        let regional = regional
            .flat_map(|known| REGIONS.iter().filter_map(move |region| site(&known.0.replace(REGION, region), known)));
        named.chain(regional).collect()
    }

    /// Where its value is looked for where nothing else is written: omni's store, then the vendor's own variables, then a login of
    /// its programs'.
    #[must_use]
    pub fn sources(&self) -> Vec<SecretSource> {
        let stored = std::iter::once(SecretSource::Store(self.name.to_owned()));
        if self.shape == Shape::AwsKey {
            return stored.chain([SecretSource::Aws(None)]).collect();
        }
        if self.exchanges() {
            // Their variables hold tokens, and not the key.
            let known = (self.name == GOOGLE_ACCOUNT).then(|| SecretSource::File(GOOGLE_FILE.to_owned()));
            return stored.chain(known).collect();
        }
        let variables = self.variables.iter().map(|name| SecretSource::Env((*name).to_owned()));
        stored.chain(variables).chain(self.login.map(SecretSource::of_file)).collect()
    }

    /// Whether it is a key that is exchanged for tokens, which programs know by variables of their own.
    #[must_use]
    pub fn exchanges(&self) -> bool {
        [GITHUB_APP, GOOGLE_ACCOUNT].contains(&self.name)
    }

    /// For how long a value is used: a login's token is renewed by the program whose login it is.
    #[must_use]
    pub fn refresh(&self) -> Option<Duration> {
        self.login.map(|_| LOGIN_REFRESH)
    }

    /// The files that hold the placeholder.
    #[must_use]
    pub fn files(&self) -> Vec<PlaceholderFile> {
        let file = |(path, text): &(&str, &str)| PlaceholderFile { path: (*path).to_owned(), text: (*text).to_owned() };
        self.files.iter().map(file).collect()
    }

    /// The variables that hold the placeholder.
    #[must_use]
    pub fn variables(&self) -> Vec<String> {
        self.variables.iter().map(|name| (*name).to_owned()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_preset_has_its_sites_and_no_two_share_a_name_or_a_variable() {
        let mut taken = BTreeSet::new();
        for preset in PRESETS {
            let known_by_file = preset.credential_file().is_some();
            let own = HostName::parse("name.example").unwrap();
            let regional = preset.sites.iter().filter(|(host, ..)| host.contains(REGION)).count();
            let expected = preset.sites.len() + regional * (REGIONS.len() - 1);
            let sound = preset.sites_at(&own).len() == expected && preset.sites.is_empty() == known_by_file;
            assert!(sound, "{}", preset.name);
            let held = !preset.variables.is_empty() || !preset.files.is_empty() || preset.is_read_as_it_is();
            assert!(held, "{}: no program inside would find its placeholder", preset.name);
            let variables = preset.variables.iter().filter(|_| !preset.exchanges());
            assert!(variables.chain([&preset.name]).all(|name| taken.insert(name)), "{}", preset.name);
            assert!(super::super::is_secret_name(preset.name), "{}", preset.name);
            assert_eq!(Preset::named(preset.name).map(|found| found.name), Some(preset.name));
        }
    }
}
