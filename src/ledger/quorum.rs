//! Which ledgers are trusted, and which witnesses must have signed (c2sp.org/tlog-policy).

use super::note::{CheckSignature, KeyKind, Note, Signed, VerifierKey};
use super::{Checkpoint, FormatError};
use std::collections::{BTreeMap, BTreeSet};

/// Largest policy that is read.
pub const POLICY_BYTES_MAX: usize = 1 << 20;
/// The word for a quorum of nobody.
const NOBODY: &str = "none";

/// A key with the address of its owner, where that is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// What the policy calls it; a log by its origin.
    pub name: String,
    /// Its key.
    pub key: VerifierKey,
    /// Where to reach it.
    pub url: Option<String>,
}

/// A policy of witnesses.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct WitnessPolicy {
    /// The ledgers that are trusted; none where whoever checks knows which one is meant.
    pub logs: Vec<Party>,
    /// The witnesses.
    pub witnesses: Vec<Party>,
    groups: BTreeMap<String, (usize, Vec<String>)>,
    quorum: Option<String>,
}

/// Why a checkpoint does not satisfy a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumFault {
    /// No trusted key of this ledger signed.
    #[error("no key that is trusted for `{0}` signed the checkpoint")]
    Unsigned(String),
    /// No ledger that is trusted.
    #[error("the ledger is none of those that are trusted: none of their keys ever signed for it")]
    Foreign,
    /// A signature is not its owner's.
    #[error("the signature of `{0}` under the checkpoint is forged")]
    Forged(String),
    /// Not enough witnesses.
    #[error("the quorum `{quorum}` is not reached: {}", said(signed))]
    Quorum {
        /// What was needed.
        quorum: String,
        /// The witnesses that signed.
        signed: Vec<String>,
    },
}

fn said(signed: &[String]) -> String {
    if signed.is_empty() {
        "no witness of the policy signed".to_owned()
    } else {
        format!("only {} signed", signed.join(", "))
    }
}

impl WitnessPolicy {
    /// A policy of some ledgers and no witnesses.
    #[must_use]
    pub fn of_logs(keys: impl IntoIterator<Item = VerifierKey>) -> Self {
        let party = |key: VerifierKey| Party { name: key.name().to_owned(), key, url: None };
        Self { logs: keys.into_iter().map(party).collect(), ..Self::default() }
    }

    /// Trusts the ledger of this key as well.
    pub fn trust(&mut self, key: VerifierKey) {
        self.logs.push(Party { name: key.name().to_owned(), key, url: None });
    }

    /// The policy for a ledger whose keys, each handed over to by the one before, are these: it is trusted if one of them
    /// is, or where no ledger is named at all.
    ///
    /// # Errors
    /// [`QuorumFault::Foreign`] when the policy trusts other ledgers.
    pub fn of_ledger(mut self, keys: impl IntoIterator<Item = VerifierKey>) -> Result<Self, QuorumFault> {
        let keys: Vec<_> = keys.into_iter().collect();
        let is_trusted = |log: &Party| keys.contains(&log.key);
        if !self.logs.is_empty() && !self.logs.iter().any(is_trusted) {
            return Err(QuorumFault::Foreign);
        }
        self.logs.clear();
        keys.into_iter().for_each(|key| self.trust(key));
        Ok(self)
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// [`FormatError::Policy`] with the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut policy = Self::default();
        let mut last = 0;
        for (number, line) in (1..).zip(text.split('\n')) {
            let failed = |why: String| FormatError::Policy { line: number, why };
            if line.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
                return Err(failed("it has control characters".to_owned()));
            }
            let words: Vec<_> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            if words.first().is_some_and(|word| !word.starts_with('#')) {
                policy.take(&words).map_err(failed)?;
            }
            last = number;
        }
        let missing = || FormatError::Policy { line: last, why: "there is no line with the quorum".to_owned() };
        policy.quorum.is_some().then_some(policy).ok_or_else(missing)
    }

    fn take(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["log", key, url @ ..] if url.len() < 2 => {
                let key = VerifierKey::parse(key).map_err(|error| error.to_string())?;
                let name = key.name().to_owned();
                add(&mut self.logs, Party { name, key, url: url.first().map(|url| (*url).to_owned()) }, KeyKind::Note)
            }
            ["witness", name, key, url @ ..] if url.len() < 2 => {
                self.is_new(name)?;
                let key = VerifierKey::parse(key).map_err(|error| error.to_string())?;
                let party = Party { name: (*name).to_owned(), key, url: url.first().map(|url| (*url).to_owned()) };
                add(&mut self.witnesses, party, KeyKind::Cosignature)
            }
            ["group", name, count, members @ ..] if !members.is_empty() => {
                self.is_new(name)?;
                self.are_free(members)?;
                let count = match *count {
                    "all" => members.len(),
                    "any" => 1,
                    number => number.parse().map_err(|_| format!("`{number}` is neither all, any nor a number"))?,
                };
                if count == 0 || count > members.len() {
                    return Err(format!("{count} of {} members cannot be a quorum", members.len()));
                }
                let members = members.iter().map(|member| (*member).to_owned()).collect();
                self.groups.insert((*name).to_owned(), (count, members));
                Ok(())
            }
            ["quorum", name] if self.quorum.is_some() => Err(format!("a second quorum, `{name}`")),
            ["quorum", name] if *name == NOBODY || self.is_known(name) => {
                self.quorum = Some((*name).to_owned());
                Ok(())
            }
            ["quorum", name] => Err(format!("there is no witness or group `{name}` above")),
            _ => Err("it is none of `log KEY [URL]`, `witness NAME KEY [URL]`, `group NAME COUNT MEMBER...`, \
                      `quorum NAME`"
                .to_owned()),
        }
    }

    fn is_known(&self, name: &str) -> bool {
        self.groups.contains_key(name) || self.witnesses.iter().any(|witness| witness.name == name)
    }

    fn is_new(&self, name: &str) -> Result<(), String> {
        if name == NOBODY || self.is_known(name) { Err(format!("the name `{name}` is taken")) } else { Ok(()) }
    }

    /// Each name is a member once, in all groups, so that nobody counts twice.
    fn are_free(&self, members: &[&str]) -> Result<(), String> {
        let mut taken: BTreeSet<&str> =
            self.groups.values().flat_map(|(_, of)| of.iter().map(String::as_str)).collect();
        members.iter().try_for_each(|member| match self.is_known(member) {
            false => Err(format!("there is no witness or group `{member}` above")),
            true if taken.insert(member) => Ok(()),
            true => Err(format!("`{member}` is a member twice")),
        })
    }

    /// Whether a checkpoint is to be believed: signed by a trusted ledger and by enough witnesses. Returns those.
    ///
    /// # Errors
    /// A [`QuorumFault`].
    pub fn accept(
        &self,
        note: &Note,
        checkpoint: &Checkpoint,
        check: CheckSignature,
    ) -> Result<Vec<String>, QuorumFault> {
        let forged = |party: &Party| QuorumFault::Forged(party.name.clone());
        let mut is_signed = false;
        for log in self.logs.iter().filter(|log| log.key.name() == checkpoint.origin) {
            match note.signed_by(&log.key, check) {
                Signed::Yes(_) => is_signed = true,
                Signed::Forged => return Err(forged(log)),
                Signed::No => {}
            }
        }
        if !is_signed {
            return Err(QuorumFault::Unsigned(checkpoint.origin.clone()));
        }
        let mut signed = Vec::new();
        for witness in &self.witnesses {
            match note.signed_by(&witness.key, check) {
                Signed::Yes(_) => signed.push(witness.name.clone()),
                Signed::Forged => return Err(forged(witness)),
                Signed::No => {}
            }
        }
        match &self.quorum {
            Some(quorum) if quorum != NOBODY && !self.is_reached(quorum, &signed) => {
                Err(QuorumFault::Quorum { quorum: quorum.clone(), signed })
            }
            _ => Ok(signed),
        }
    }

    /// Groups only have members that were there before them, so this ends.
    fn is_reached(&self, name: &str, signed: &[String]) -> bool {
        match self.groups.get(name) {
            Some((count, members)) => members.iter().filter(|member| self.is_reached(member, signed)).count() >= *count,
            None => signed.iter().any(|witness| witness == name),
        }
    }
}

fn add(parties: &mut Vec<Party>, party: Party, kind: KeyKind) -> Result<(), String> {
    if party.key.kind() != kind {
        return Err("the key is of the wrong kind: a log signs notes, a witness cosigns them".to_owned());
    }
    if parties.iter().any(|other| other.key.public() == party.key.public()) {
        return Err("this key stands here twice".to_owned());
    }
    parties.push(party);
    Ok(())
}
