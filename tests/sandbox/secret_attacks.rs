//! What a harness may try with the placeholders that it holds: every place that is not their own, every disguise.

use crate::secrets::{Provider, fresh_key};
use crate::support::{Outcome, World, finish};
use serde_json::Value;

/// Two keys, each for one host, and both hosts open to everything.
const PROFILE: &str = "\
name: two
command: sh
description: two keys for two hosts
filesystem: { workspace: direct }
egress:
  - allow: '* api.anthropic.com/**'
  - allow: '* api.openai.com/**'
  - allow: '* http://api.anthropic.com/**'
secrets:
  - name: first
    from: env:FIRST
    host: api.anthropic.com
    path: /v1
    header: x-api-key
    placeholder: { env: FIRST, shape: anthropic }
  - name: second
    from: env:SECOND
    host: api.openai.com
    bearer: true
    placeholder: { env: SECOND, shape: openai }
";

fn two_keys(world: &World, provider: &Provider, keys: [&str; 2], argv: &[&str]) -> Outcome {
    let profile = world.place().join("two.yaml");
    world.write(&profile, PROFILE);
    let to = |host: &str, port: u16| format!("{host}:{port}:{}", provider.address);
    let places = [to("api.anthropic.com", 443), to("api.openai.com", 443), to("api.anthropic.com", 80)];
    let mut flags =
        vec!["--profile", profile.to_str().unwrap(), "--upstream-ca", provider.certificate.to_str().unwrap()];
    flags.extend(places.iter().flat_map(|place| ["--connect-to", place.as_str()]));
    let mut command = world.exec(&flags, argv);
    command.env("FIRST", keys[0]).env("SECOND", keys[1]);
    finish(command, b"")
}

/// Sends the placeholder of the first secret everywhere it does not belong, and tells the status of each.
const ATTEMPTS: &str = r#"
import base64, gzip, json, os, socket, ssl, zlib
first, second = os.environ['FIRST'], os.environ['SECOND']
def send(host, path='/v1/messages', headers={}, body=b'', method='POST', pieces=None, port=443):
    raw = socket.create_connection((host, port), timeout=30)
    if port == 443: raw = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
    head = [f'{method} {path} HTTP/1.1', f'Host: {host}', 'Connection: close']
    head += [f'{name}: {value}' for name, value in headers.items()]
    if pieces is None:
        head.append(f'Content-Length: {len(body)}')
        raw.sendall('\r\n'.join(head).encode() + b'\r\n\r\n' + body)
    else:
        head.append('Transfer-Encoding: chunked')
        raw.sendall('\r\n'.join(head).encode() + b'\r\n\r\n')
        try:
            for piece in pieces: raw.sendall(b'%x\r\n%s\r\n' % (len(piece), piece))
            raw.sendall(b'0\r\n\r\n')
        except OSError: pass
    answer = b''
    try:
        while part := raw.recv(65536): answer += part
    except OSError: pass
    return int(answer.split()[1]) if answer else 0
json_of = lambda text: json.dumps({'messages': [text]}).encode()
escaped = ''.join('\\u%04x' % ord(c) for c in first)
percent = ''.join('%%%02x' % ord(c) for c in first)
boundary = 'multipart/form-data; boundary=b'
part = f'--b\r\nContent-Disposition: form-data; name="f"; filename="k"\r\n\r\nkey={first}\r\n--b--\r\n'.encode()
J, U = {'Content-Type': 'application/json'}, {'Content-Type': 'application/x-www-form-urlencoded'}
raw_deflate = zlib.compressobj(wbits=-15)
tries = dict(
    other_host=lambda: send('api.openai.com', headers={'x-api-key': first}),
    other_host_bearer=lambda: send('api.openai.com', headers={'Authorization': f'Bearer {first}'}),
    other_header=lambda: send('api.anthropic.com', headers={'x-other': first}),
    other_path=lambda: send('api.anthropic.com', '/v2/messages', headers={'x-api-key': first}),
    swapped=lambda: send('api.anthropic.com', headers={'x-api-key': second}),
    cookie=lambda: send('api.anthropic.com', headers={'Cookie': f'k={first}'}),
    referer=lambda: send('api.openai.com', headers={'Referer': f'https://api.anthropic.com/?k={first}'}),
    basic=lambda: send('api.openai.com', headers={'Authorization': 'Basic ' + base64.b64encode(f'u:{first}'.encode()).decode()}),
    header_name=lambda: send('api.anthropic.com', headers={first: 'x'}),
    path=lambda: send('api.anthropic.com', f'/v1/{first}'),
    query=lambda: send('api.anthropic.com', f'/v1/messages?k={first}'),
    query_percent=lambda: send('api.openai.com', f'/v1/messages?k={percent}'),
    body=lambda: send('api.anthropic.com', headers=J, body=json_of(first)),
    body_elsewhere=lambda: send('api.openai.com', headers=J, body=json_of(first)),
    body_escaped=lambda: send('api.openai.com', headers=J, body=b'{"a":"' + escaped.encode() + b'"}'),
    body_base64=lambda: send('api.openai.com', headers=J, body=json_of(base64.b64encode(b'x' + first.encode()).decode())),
    form=lambda: send('api.openai.com', headers=U, body=f'k={percent}'.encode()),
    gzip=lambda: send('api.openai.com', headers=J | {'Content-Encoding': 'gzip'}, body=gzip.compress(json_of(first))),
    gzip_unsaid=lambda: send('api.openai.com', body=gzip.compress(json_of(first))),
    deflate=lambda: send('api.openai.com', headers=J | {'Content-Encoding': 'deflate'}, body=zlib.compress(json_of(first))),
    deflate_bare=lambda: send('api.openai.com', headers=J | {'Content-Encoding': 'deflate'},
                              body=raw_deflate.compress(json_of(first)) + raw_deflate.flush()),
    multipart=lambda: send('api.openai.com', headers={'Content-Type': boundary}, body=part),
    split=lambda: send('api.openai.com', pieces=[bytes([byte]) for byte in json_of(first)]),
    split_late=lambda: send('api.openai.com', pieces=[b'x' * 65536] * 6 + [first[:40].encode(), first[40:].encode()]),
    plain_http=lambda: send('api.anthropic.com', headers={'x-api-key': first}, port=80),
)
refused = {name: attempt() for name, attempt in tries.items()}
right = send('api.anthropic.com', '/v1/models', headers={'x-api-key': first}, method='GET')
print(json.dumps(dict(refused=refused, right=right, held=[first, second])))
"#;

attack! {
    /// Not one of them reaches the provider whole, not one is swapped, and each is on record by the secret's name.
    fn a_placeholder_goes_nowhere_but_to_its_own_place(world) {
        let (provider, keys) = (Provider::start(world), [fresh_key(), fresh_key()]);
        let argv = ["/usr/bin/python3", "-I", "-c", ATTEMPTS];
        let outcome = two_keys(world, &provider, [&keys[0], &keys[1]], &argv);
        let told = outcome.json();
        let refused = told["refused"].as_object().unwrap();
        let passed: Vec<_> = refused.iter().filter(|(_, status)| **status != 403).collect();
        assert!(passed.is_empty() && refused.len() == 25, "{passed:?} {outcome:?}");
        let (text, heard) = provider.heard();
        for held in told["held"].as_array().unwrap().iter().filter_map(Value::as_str) {
            assert!(!text.contains(held), "a placeholder came through");
        }
        assert!(!text.contains(&keys[1]), "nobody asked for the second");
        let with_key: Vec<_> = heard.iter().filter(|line| line.to_string().contains(&keys[0])).collect();
        assert!(with_key.len() == 1 && with_key[0]["headers"]["x-api-key"] == keys[0].as_str(), "{with_key:?}");
        assert_eq!(told["right"].as_u64(), Some(200), "the same placeholder in its place: {outcome:?}");
        let events = world.list(&["audit", "log"]);
        let recorded = events.iter().filter(|event| {
            let event = event.to_string();
            event.contains("the placeholder of the secret `first`") || event.contains("the placeholder of the secret `second`")
        });
        assert_eq!(recorded.count(), refused.len());
        let all: String = events.iter().map(Value::to_string).collect();
        assert!(!keys.iter().any(|key| all.contains(key.as_str())));
    }
}
