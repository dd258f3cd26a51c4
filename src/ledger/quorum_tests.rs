//! Policies of witnesses, and what a witness signs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::merkle_tests::check;
use super::*;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

#[derive(Debug)]
struct Signer {
    pair: Ed25519KeyPair,
    key: VerifierKey,
}

fn signer(name: &str, seed: u8, kind: KeyKind) -> Signer {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let public = pair.public_key().as_ref().try_into().unwrap();
    Signer { pair, key: VerifierKey::new(name, kind, public).unwrap() }
}

impl Signer {
    fn sign(&self, text: &str) -> NoteSignature {
        match self.key.kind() {
            KeyKind::Note => NoteSignature::new(&self.key, self.pair.sign(text.as_bytes()).as_ref().to_vec()),
            KeyKind::Cosignature => {
                let signature = self.pair.sign(cosigned_text(1_700_000_000, text).as_bytes());
                NoteSignature::cosignature(&self.key, 1_700_000_000, signature.as_ref())
            }
        }
    }
}

fn checkpoint(origin: &str, leaves: &[Hash]) -> Checkpoint {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf, |_, _, _| {}));
    Checkpoint { origin: origin.to_owned(), size: frontier.size(), root: frontier.root() }
}

fn note(checkpoint: &Checkpoint, signers: &[&Signer]) -> Note {
    let text = checkpoint.to_string();
    Note { signatures: signers.iter().map(|signer| signer.sign(&text)).collect(), text }
}

/// Two of three of one kind and one of another, as in the specification's example.
fn example(log: &Signer, witnesses: &[Signer]) -> String {
    let lines: Vec<_> =
        witnesses.iter().map(|witness| format!("witness {} {}", witness.key.name(), witness.key)).collect();
    format!(
        "# whom we trust\nlog {} https://log.example/\n\n{}\n\tgroup X-witnesses 2 X1 X2 X3\ngroup Y-witnesses any Y1 Y2\n\
         group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n",
        log.key,
        lines.join("\n")
    )
}

#[test]
fn a_quorum_is_what_its_groups_say() {
    let log = signer("log.example", 1, KeyKind::Note);
    let witnesses: Vec<_> = ["X1", "X2", "X3", "Y1", "Y2"]
        .iter()
        .zip(2..)
        .map(|(name, seed)| signer(name, seed, KeyKind::Cosignature))
        .collect();
    let policy = WitnessPolicy::parse(&example(&log, &witnesses)).unwrap();
    let checkpoint = checkpoint("log.example", &[leaf_hash(b"a")]);
    let accept = |signers: &[&Signer]| policy.accept(&note(&checkpoint, signers), &checkpoint, check);
    let [x1, x2, x3, y1, y2] = witnesses.iter().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(accept(&[&log, x1, x3, y2]), Ok(vec!["X1".to_owned(), "X3".to_owned(), "Y2".to_owned()]));
    for short in [&[&log][..], &[&log, x1, y1], &[&log, x1, x2, x3], &[&log, y1, y2]] {
        assert!(matches!(accept(short), Err(QuorumFault::Quorum { .. })), "{}", short.len());
    }
    assert!(matches!(accept(&[x1, x2, y1]), Err(QuorumFault::Unsigned(_))));
    let mut forged = note(&checkpoint, &[&log, x1, x2, y1]);
    let other = signer("X2", 77, KeyKind::Cosignature);
    let line = other.sign(&forged.text).to_string();
    // In the name and id of a witness, by another key.
    let bytes = line.trim_end().rsplit(' ').next().unwrap().to_owned();
    let mut raw = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, bytes).unwrap();
    raw[..4].copy_from_slice(&x2.key.id());
    let raw = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, raw);
    forged.signatures[2] = NoteSignature::parse(&format!("\u{2014} X2 {raw}")).unwrap();
    assert_eq!(policy.accept(&forged, &checkpoint, check), Err(QuorumFault::Forged("X2".to_owned())));
}

#[test]
fn a_wrong_line_of_a_policy_is_named() {
    let (log, witness) = (signer("log.example", 1, KeyKind::Note), signer("w", 2, KeyKind::Cosignature));
    let (log, witness) = (log.key.to_string(), witness.key.to_string());
    let cases = [
        ("quorum w\n".to_owned(), 1),
        (format!("log {witness}\nquorum none\n"), 1),
        (format!("witness w {log}\nquorum none\n"), 1),
        (format!("witness w {witness}\nwitness v {witness}\nquorum none\n"), 2),
        (format!("witness w {witness}\ngroup g 2 w\nquorum g\n"), 2),
        (format!("witness w {witness}\ngroup g 1 w\ngroup h 1 w g\nquorum g\n"), 3),
        (format!("witness none {witness}\nquorum none\n"), 1),
        (format!("witness w {witness}\nquorum w\nquorum w\n"), 3),
        ("quorum none extra\n".to_owned(), 1),
        (format!("log {log}\n"), 2),
        ("quorum none\r\n".to_owned(), 1),
    ];
    for (text, wanted) in cases {
        match WitnessPolicy::parse(&text) {
            Err(FormatError::Policy { line, .. }) => assert_eq!(line, wanted, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(WitnessPolicy::parse("quorum none\n").is_ok());
}

#[test]
fn a_witness_signs_only_what_grew() {
    let log = signer("log.example", 1, KeyKind::Note);
    let leaves: Vec<_> = (0..9u8).map(|byte| leaf_hash(&[byte])).collect();
    let (four, nine) = (checkpoint("log.example", &leaves[..4]), checkpoint("log.example", &leaves));
    // Four entries are a complete subtree, and so are the next four: the ninth is alone.
    let proof = vec![checkpoint("", &leaves[4..8]).root, leaves[8]];
    let submission = |old, proof: &[Hash], checkpoint: &Checkpoint, signers: &[&Signer]| {
        let sent = Submission { old, proof: proof.to_vec(), note: note(checkpoint, signers) };
        let text = sent.to_string();
        let read = Submission::parse(text.as_bytes()).unwrap();
        assert_eq!((&read, read.to_string()), (&sent, text));
        read
    };
    let known = [log.key.clone()];
    let judge = |sent: Submission, checkpoint: &Checkpoint, latest: Option<&Checkpoint>| {
        sent.judge(checkpoint, &known, latest, check)
    };
    assert_eq!(judge(submission(0, &[], &four, &[&log]), &four, None), Ok(()));
    assert_eq!(judge(submission(4, &proof, &nine, &[&log]), &nine, Some(&four)), Ok(()));
    assert_eq!(judge(submission(9, &[], &nine, &[&log]), &nine, Some(&nine)), Ok(()));
    let refused = |sent, checkpoint, latest| judge(sent, checkpoint, latest).unwrap_err();
    assert_eq!(refused(submission(4, &proof[..1], &nine, &[&log]), &nine, Some(&four)), WitnessRefusal::Inconsistent);
    assert_eq!(refused(submission(0, &proof, &nine, &[&log]), &nine, None), WitnessRefusal::Inconsistent);
    assert_eq!(refused(submission(0, &[], &nine, &[&log]), &nine, Some(&four)), WitnessRefusal::Stale(4));
    assert_eq!(refused(submission(9, &[], &four, &[&log]), &four, Some(&nine)), WitnessRefusal::Backwards);
    let other = checkpoint("log.example", &leaves[1..5]);
    assert_eq!(refused(submission(4, &[], &other, &[&log]), &other, Some(&four)), WitnessRefusal::Forked(4));
    let thief = signer("log.example", 9, KeyKind::Note);
    assert_eq!(refused(submission(0, &[], &four, &[&thief]), &four, None), WitnessRefusal::Unsigned);
    let foreign = checkpoint("other.example", &leaves);
    assert_eq!(refused(submission(0, &[], &foreign, &[&log]), &foreign, None), WitnessRefusal::Unknown);
}
