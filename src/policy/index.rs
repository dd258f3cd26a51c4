//! Which rules could be about a request, found by its host and the beginning of its path, so that deciding costs the same
//! with ten rules and with ten thousand.
//!
//! It only ever leaves out rules that cannot match; whether one does is the rule's own to say.

use super::host_pattern::HostPattern;
use super::matcher::{Matcher, has_several_readings};
use crate::model::{Host, RequestLine};
use std::collections::HashMap;
use std::net::IpAddr;

/// The numbers of rules in their list.
type Numbers = Vec<usize>;

/// The rules by what they are about.
#[derive(Debug, Default)]
pub(super) struct Index {
    any: Paths,
    names: HashMap<Box<str>, Paths>,
    below: HashMap<Box<str>, Paths>,
    /// Blocks of addresses, by their length and first address.
    blocks: HashMap<(u8, IpAddr), Paths>,
    /// The lengths that there are.
    lengths: Vec<u8>,
}

/// Rules for the same hosts, by the segments that their paths begin with.
#[derive(Debug, Default)]
struct Paths {
    here: Numbers,
    children: HashMap<Box<str>, Paths>,
}

impl Index {
    /// Adds the rule of this number.
    pub(super) fn add(&mut self, number: usize, matcher: &Matcher) {
        let paths = match matcher.host() {
            HostPattern::Any => &mut self.any,
            HostPattern::Name(name) => self.names.entry(name.as_str().into()).or_default(),
            HostPattern::Below(name) => self.below.entry(name.as_str().into()).or_default(),
            HostPattern::Block { address, bits } => {
                if !self.lengths.contains(bits) {
                    self.lengths.push(*bits);
                }
                self.blocks.entry((*bits, *address)).or_default()
            }
        };
        paths.add(number, matcher.path().literal_segments());
    }

    /// The numbers of the rules that could match, in the order of the list.
    pub(super) fn candidates(&self, line: &RequestLine) -> Numbers {
        // Of a path that servers read in several ways, no beginning is certain.
        let path = (!has_several_readings(&line.path)).then_some(line.path.as_str());
        let mut found = Numbers::new();
        self.any.collect(path, &mut found);
        match &line.host {
            Host::Name(name) => {
                let name = name.as_str();
                if let Some(paths) = self.names.get(name) {
                    paths.collect(path, &mut found);
                }
                for (dot, _) in name.match_indices('.') {
                    if let Some(paths) = self.below.get(&name[dot + 1..]) {
                        paths.collect(path, &mut found);
                    }
                }
            }
            Host::Address(address) => {
                for bits in &self.lengths {
                    if let Some(first) = HostPattern::first_of_block(*address, *bits)
                        && let Some(paths) = self.blocks.get(&(*bits, first))
                    {
                        paths.collect(path, &mut found);
                    }
                }
            }
        }
        found.sort_unstable();
        found
    }
}

impl Paths {
    fn add<'a>(&mut self, number: usize, mut segments: impl Iterator<Item = &'a str>) {
        match segments.next() {
            None => self.here.push(number),
            Some(segment) => self.children.entry(segment.into()).or_default().add(number, segments),
        }
    }

    /// Those whose paths begin as this one does; without a path, all.
    fn collect(&self, path: Option<&str>, found: &mut Numbers) {
        found.extend(&self.here);
        let Some(path) = path else {
            self.children.values().for_each(|paths| paths.collect(None, found));
            return;
        };
        let mut now = self;
        for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
            let Some(next) = now.children.get(segment) else { return };
            found.extend(&next.here);
            now = next;
        }
    }
}
