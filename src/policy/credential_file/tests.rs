//! What is found in each kind of file, and that nothing of a value, or of what is not understood, is in what stands for it.

use super::*;

/// What a file is made into: each credential's key, value and first site, and the look-alike.
fn read(name: &str, file: &str, beside: &str) -> (Vec<String>, String, Vec<String>) {
    let texts = Texts { file, beside };
    let known = CredentialFile::named(name).unwrap();
    let outline = known.contents(&texts).unwrap().outline;
    let told = outline.credentials.iter().map(|credential| {
        let value = known.contents(&texts).unwrap().value(&credential.key).unwrap();
        let sites: Vec<_> = credential.sites.iter().map(ToString::to_string).collect();
        format!("{} {} {}", credential.key, *value, sites.join(" + "))
    });
    let held: Vec<_> = (0..outline.credentials.len()).map(|number| Placeholder(format!("P{number}"))).collect();
    let look_alike = outline.look_alike(&held.iter().collect::<Vec<_>>(), &nobody());
    assert!(!look_alike.contains("canary"), "{look_alike}");
    (told.collect(), look_alike, outline.left_out.clone())
}

fn nobody() -> Nobody {
    Nobody { certificate: "a certificate".to_owned(), key: "its key".to_owned() }
}

fn basic(user: &str, place: &str) -> String {
    format!("the password of `{user}` in basic authorization of requests to https://{place}")
}

#[test]
fn netrc() {
    let file = "# a canary\nmachine a.example login me password canary1\nmachine b.example\n  login you\n\tpassword \"canary \\\"2\"\n\
        macdef init\ncd canary\n\nmachine 192.0.2.1 login x password canary3\ndefault login y password canary4\n";
    let (told, look_alike, left_out) = read("netrc", file, "");
    let expected = [
        format!("a.example canary1 {}", basic("me", "a.example:443")),
        format!("b.example canary \"2 {}", basic("you", "b.example:443")),
    ];
    assert_eq!(told, expected);
    let lines = "machine a.example login me password P0\nmachine b.example login you password P1\n";
    assert_eq!((look_alike.as_str(), left_out.len()), (lines, 2));
    let texts = Texts { file: "what is canary", beside: "" };
    assert!(CredentialFile::named("netrc").unwrap().contents(&texts).is_none());
}

#[test]
fn git_credentials() {
    let file = "https://me:canary%201%2F@a.example\nhttps://canary2:x-oauth-basic@b.example:8443/group\n\
        http://me:canary3@c.example\nhttps://me:canary4@a.example\n";
    let (told, look_alike, left_out) = read("git-credentials", file, "");
    let user = "the user of basic authorization of requests to https://b.example:8443/group";
    let expected = [
        format!("a.example canary 1/ {}", basic("me", "a.example:443")),
        format!("b.example-8443 canary2 {user}"),
        format!("a.example-2 canary4 {}", basic("me", "a.example:443")),
    ];
    assert_eq!(told, expected);
    let lines = "https://me:P0@a.example\nhttps://P1:x-oauth-basic@b.example:8443/group\nhttps://me:P2@a.example\n";
    assert_eq!((look_alike.as_str(), left_out.len()), (lines, 1));
}

#[test]
fn npmrc() {
    let file = "registry=https://a.example/npm/\n@scope:registry = https://b.example/\n//a.example/npm/:_authToken=canary1\n\
        //b.example/:_auth = bWU6Y2FuYXJ5Mg==\n//c.example/:username=you\n//c.example/:_password=\"Y2FuYXJ5Mw==\"\n\
        //d.example/:_authToken=${CANARY}\n; canary\nemail=canary\nregistry=https://me:canary@e.example/\n";
    let (told, look_alike, left_out) = read("npmrc", file, "");
    let expected = [
        "a.example canary1 the header `authorization`, after `Bearer`, of requests to https://a.example:443/npm/"
            .to_owned(),
        format!("b.example canary2 {}", basic("me", "b.example:443")),
        format!("c.example canary3 {}", basic("you", "c.example:443")),
    ];
    assert_eq!(told, expected);
    let lines = format!(
        "registry=https://a.example/npm/\n@scope:registry=https://b.example/\n//a.example/npm/:_authToken=P0\n\
        //b.example/:_auth={}\n//c.example/:_auth={}\n",
        BASE64_STANDARD.encode("me:P1"),
        BASE64_STANDARD.encode("you:P2")
    );
    assert_eq!((look_alike, left_out.len()), (lines, 1));
}

#[test]
fn pypirc() {
    let file = "[distutils]\nindex-servers =\n    pypi\n    own\n\n[pypi]\nusername = __token__\npassword = pypi-canary1\n\n\
        [own]\nrepository: https://own.example/up/\nusername: me\npassword: canary2\nnote = canary\n";
    let (told, look_alike, left_out) = read("pypirc", file, "");
    let expected = [
        format!("pypi pypi-canary1 {}", basic("__token__", "upload.pypi.org:443/legacy/")),
        format!("own canary2 {}", basic("me", "own.example:443/up/")),
    ];
    assert_eq!((told, left_out), (expected.to_vec(), Vec::new()));
    let lines = "[distutils]\nindex-servers =\n  pypi\n  own\n\n[pypi]\nrepository = https://upload.pypi.org/legacy/\nusername = __token__\npassword = P0\n\n\
        [own]\nrepository = https://own.example/up/\nusername = me\npassword = P1\n";
    assert_eq!(look_alike, lines);
}

#[test]
fn cargo_login() {
    let file = "[registry]\ntoken = \"canary1\"\n[registries.own]\ntoken = \"canary2\" # canary\n[registries.other]\ntoken=\"canary3\"\n";
    let beside = "[registries.own]\nindex = \"sparse+https://own.example/index/\"\n";
    let (told, look_alike, left_out) = read("cargo-login", file, beside);
    let expected = [
        "crates.io canary1 the header `authorization` of requests to https://crates.io:443/api/".to_owned(),
        "own canary2 the header `authorization` of requests to https://own.example:443".to_owned(),
    ];
    assert_eq!((told, left_out.len()), (expected.to_vec(), 1));
    assert_eq!(look_alike, "[registry]\ntoken = \"P0\"\n[registries.own]\ntoken = \"P1\"\n");
}

#[test]
fn docker_login() {
    let auth = |text: &str| BASE64_STANDARD.encode(text);
    let file = format!(
        r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{}"}}, "own.example:5000": {{"auth": "{}", "email": "canary"}},
            "azure.example": {{"auth": "{}", "identitytoken": "canary3"}},
            "kept.example": {{}}}}, "credsStore": "canary"}}"#,
        auth("me:canary1"),
        auth("you:canary:2"),
        auth("id:")
    );
    let (told, look_alike, left_out) = read("docker-login", &file, "");
    let hub = [basic("me", "auth.docker.io:443/token"), basic("me", "index.docker.io:443")].join(" + ");
    let form = "the field `refresh_token` of a form's body of requests to https://azure.example:443";
    let expected = [
        format!("azure.example canary3 {form}"),
        format!("index.docker.io canary1 {hub}"),
        format!("own.example-5000 canary:2 {}", basic("you", "own.example:5000")),
    ];
    assert_eq!((told, left_out.len()), (expected.to_vec(), 1));
    let made: serde_json::Value = serde_json::from_str(&look_alike).unwrap();
    let expected = serde_json::json!({"auths": {"https://index.docker.io/v1/": {"auth": auth("me:P1")},
        "own.example:5000": {"auth": auth("you:P2")},
        "azure.example": {"auth": auth("id:"), "identitytoken": "P0"}}});
    assert_eq!(made, expected);
}

#[test]
fn gh_login() {
    let file = "github.com:\n    oauth_token: canary1\n    user: me\n    git_protocol: ssh\n\
        ghe.example:\n    user: you\n    users:\n        you:\n            oauth_token: canary2\nkept.example:\n    user: me\n";
    let (told, look_alike, left_out) = read("gh-login", file, "");
    assert_eq!((told.len(), left_out.len()), (2, 1));
    let of = |host: &str| told.iter().find(|told| told.starts_with(host)).unwrap();
    assert!(
        of("github.com canary1").contains("the header `authorization` of requests to https://api.github.com:443"),
        "{told:?}"
    );
    assert!(of("ghe.example canary2").contains("https://ghe.example:443"), "{told:?}");
    let made: serde_json::Value = serde_saphyr::from_str(&look_alike).unwrap();
    assert_eq!(made["github.com"]["oauth_token"], "P1");
    assert_eq!(
        (&made["ghe.example"]["users"]["you"]["oauth_token"], &made["ghe.example"]["user"]),
        (&"P0".into(), &"you".into())
    );
}

#[test]
fn kubeconfig() {
    let file = "apiVersion: v1\nkind: Config\ncurrent-context: work\nclusters:\n- name: c\n  cluster:\n    \
        server: https://k8s.example:6443\n    certificate-authority-data: canary\ncontexts:\n- name: work\n  context: {cluster: c, user: me}\n\
        - name: other\n  context: {cluster: c, user: cert}\nusers:\n- name: me\n  user:\n    token: canary1\n- name: cert\n  user:\n    \
        client-key-data: canary2\n";
    let (told, look_alike, left_out) = read("kubeconfig", file, "");
    let place = "the header `authorization`, after `Bearer`, of requests to https://k8s.example:6443";
    assert_eq!((told, left_out.len()), (vec![format!("me canary1 {place}")], 1));
    let made: serde_json::Value = serde_json::from_str(&look_alike).unwrap();
    assert_eq!(made["users"], serde_json::json!([{"name": "me", "user": {"token": "P0"}}]));
    assert_eq!(
        made["clusters"][0],
        serde_json::json!({"name": "c", "cluster": {"server": "https://k8s.example:6443"}})
    );
    assert_eq!((&made["current-context"], &made["contexts"][0]["context"]["user"]), (&"work".into(), &"me".into()));
}

/// A kubeconfig in which two users have certificates for one cluster, one a token, and one is at a cluster of their own.
fn kubeconfig_of_certificates(current: &str) -> String {
    let pem = |what: &str| BASE64_STANDARD.encode(format!("canary {what}"));
    let user = |name: &str| {
        format!(
            "- name: {name}\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            pem(&format!("certificate of {name}")),
            pem(&format!("key of {name}"))
        )
    };
    let context =
        |user: &str, cluster: &str| format!("- name: {user}\n  context: {{cluster: {cluster}, user: {user}}}\n");
    let cluster =
        |name: &str, rest: &str| format!("- name: {name}\n  cluster: {{server: \"https://{name}.example{rest}\"}}\n");
    format!(
        "current-context: {current}\nclusters:\n{}{}contexts:\n{}{}{}{}users:\n{}{}{}- name: token\n  user: {{token: canary}}\n\
        - name: files\n  user: {{client-certificate: /c.pem, client-key: /k.pem}}\n",
        cluster("one", ":6443"),
        cluster("two", "/k8s/clusters/a"),
        context("a", "one"),
        context("b", "one"),
        context("token", "one"),
        context("c", "two"),
        user("a"),
        user("b"),
        user("c")
    )
}

#[test]
fn a_kubeconfigs_certificates_are_presented_to_their_clusters_and_a_certificate_of_nobodys_is_inside() {
    let (told, look_alike, left_out) = read("kubeconfig", &kubeconfig_of_certificates("b"), "");
    let place = |port: &str| format!("the client's certificate of requests to https://{port}");
    let pem = |user: &str| format!("canary key of {user}\ncanary certificate of {user}\n");
    let expected = [
        format!("b {} {}", pem("b"), place("one.example:6443")),
        format!("c {} {}", pem("c"), place("two.example:443")),
    ];
    assert_eq!(told, expected);
    assert_eq!(left_out.len(), 3, "{left_out:?}");
    let made: serde_json::Value = serde_json::from_str(&look_alike).unwrap();
    let coded = |text: &str| BASE64_STANDARD.encode(text);
    let shown =
        serde_json::json!({"client-certificate-data": coded("a certificate"), "client-key-data": coded("its key")});
    assert_eq!(made["users"], serde_json::json!([{"name": "b", "user": shown}, {"name": "c", "user": shown}]));
    let (told, _, left_out) = read("kubeconfig", &kubeconfig_of_certificates("token"), "");
    assert!(told.len() == 2 && told[0].starts_with("token canary the header"), "{told:?}");
    assert!(left_out.iter().any(|why| why.starts_with("a: ")) && left_out.iter().any(|why| why.starts_with("b: ")));
}

#[test]
fn every_file_is_a_preset_and_nothing_that_is_not_one_is_taken_for_one() {
    for file in CredentialFile::all() {
        assert_eq!(Preset::named(file.name).unwrap().credential_file(), Some(file));
        let nothing = file.contents(&Texts { file: "\u{1}[", beside: "" });
        assert!(nothing.is_none_or(|contents| contents.outline.credentials.is_empty()), "{}", file.name);
    }
}
