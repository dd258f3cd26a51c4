//! What pushes look like, and what they may not look like.

#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const A: &str = "1111111111111111111111111111111111111111";
const B: &str = "2222222222222222222222222222222222222222";
const ZERO: &str = "0000000000000000000000000000000000000000";

/// Lines as git writes them, and a flush.
fn lines(lines: &[&str]) -> Vec<u8> {
    let mut out: Vec<u8> =
        lines.iter().flat_map(|line| format!("{:04x}{line}", line.len() + LENGTH_BYTES).into_bytes()).collect();
    out.extend_from_slice(b"0000");
    out
}

fn whole(body: &[u8]) -> Result<Option<Push>, PushError> {
    PushReader::default().read(body)
}

fn read(written: &[&str]) -> Result<Vec<String>, PushError> {
    whole(&lines(written)).map(|push| push.unwrap().updates.iter().map(ToString::to_string).collect())
}

#[test]
fn every_kind_of_change_is_read() {
    let first = format!("{A} {B} refs/heads/main\0 report-status side-band-64k agent=git/2.47");
    let written = [first.as_str(), &format!("{ZERO} {A} refs/heads/new"), &format!("{A} {ZERO} refs/tags/v1\n")];
    let mut body = lines(&written);
    body.extend_from_slice(b"PACK....");
    let push = whole(&body).unwrap().unwrap();
    let told: Vec<String> = push.updates.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["update refs/heads/main", "create refs/heads/new", "delete refs/tags/v1"]);
    assert_eq!((push.signed, push.reports, push.bands), (false, true, true));
    assert_eq!((push.updates[0].old.as_str(), push.updates[0].new.as_str()), (A, B));
}

#[test]
fn shallow_clones_probes_and_long_ids_are_read() {
    assert_eq!(
        read(&[&format!("shallow {A}\n"), &format!("{A} {B} refs/heads/a\0")]).unwrap(),
        ["update refs/heads/a"]
    );
    assert_eq!(read(&[]), Ok(Vec::new()));
    let (long, other) = ("a".repeat(64), "b".repeat(64));
    assert_eq!(read(&[&format!("{long} {other} refs/heads/a")]).unwrap(), ["update refs/heads/a"]);
}

#[test]
fn a_signed_push_is_read_from_its_certificate() {
    let command = format!("{A} {B} refs/heads/main\n");
    let certificate = [
        "push-cert\0 report-status\n",
        "certificate version 0.1\n",
        "pusher me 0 +0000\n",
        "\n",
        &command,
        "-----BEGIN PGP SIGNATURE-----\n",
        "abc\n",
        "-----END PGP SIGNATURE-----\n",
        "push-cert-end\n",
    ];
    let push = whole(&lines(&certificate)).unwrap().unwrap();
    assert!(push.signed && push.reports);
    assert_eq!(push.updates[0].name, "refs/heads/main");
    let mut beside = certificate.to_vec();
    let plain = format!("{A} {B} refs/heads/other");
    beside.push(&plain);
    assert_eq!(whole(&lines(&beside)), Err(PushError::Malformed));
    beside.rotate_right(1);
    assert_eq!(whole(&lines(&beside)), Err(PushError::Malformed));
    // Two lines in one would be two commands to git.
    let smuggled = format!("{A} {B} refs/heads/a\n{A} {B} refs/heads/main\n");
    let mut hidden = certificate;
    hidden[4] = &smuggled;
    assert_eq!(whole(&lines(&hidden)), Err(PushError::Malformed));
    assert_eq!(whole(&lines(&certificate[..8])), Err(PushError::Malformed));
}

#[test]
fn what_git_would_not_write_is_refused() {
    let line = |text: String| read(&[&text]);
    for text in [
        format!("{A} {B}"),
        format!("{A} {B} main"),
        format!("{A} {B} refs/heads/a b"),
        format!("{A} {B} refs/heads/../main"),
        format!("{A} {B} refs/heads//main"),
        format!("{A} {B} refs/heads/a.lock"),
        format!("{A} {B} refs/heads/a\nb"),
        format!("{A}  {B} refs/heads/a"),
        format!("{ZERO} {ZERO} refs/heads/a"),
        format!("{} {B} refs/heads/a", "A".repeat(40)),
        format!("{A} {} refs/heads/a", "b".repeat(64)),
        "shallow nothing".to_owned(),
        "push-cert".to_owned(),
    ] {
        assert_eq!(line(text.clone()), Err(PushError::Malformed), "{text:?}");
    }
    let twice = format!("{A} {B} refs/heads/a");
    assert_eq!(read(&[&twice, &twice]), Err(PushError::Twice));
    for raw in [&b"0001"[..], b"0004", b"00zz", b"+005a", b"GET /"] {
        assert_eq!(whole(raw), Err(PushError::Malformed), "{raw:?}");
    }
}

#[test]
fn a_list_without_end_is_given_up() {
    let many: Vec<String> = (0..20_000).map(|number| format!("{A} {B} refs/heads/{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(whole(&lines(&many)), Err(PushError::Long));
    assert_eq!(read(&many[..5_000]).unwrap().len(), 5_000);
    let body = lines(&many);
    assert_eq!(whole(&body[..UPDATES_BYTES_MAX / 2]), Ok(None));
}

proptest! {
    #[test]
    fn it_does_not_matter_where_the_body_is_cut(cut in 0usize..200) {
        let body = lines(&[&format!("{A} {B} refs/heads/main\0 report-status"), &format!("{A} {ZERO} refs/heads/b")]);
        let cut = cut.min(body.len());
        let expected = if cut == body.len() { whole(&body).unwrap() } else { None };
        let mut reader = PushReader::default();
        prop_assert_eq!(reader.read(&body[..cut]), Ok(expected.clone()));
        if expected.is_none() {
            prop_assert_eq!(reader.read(&body), whole(&body));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = whole(&body);
    }
}
