//! Which secrets go where in one request, found out before anything of it has left.

use super::inject::{Misplaced, Plan, TextKind, Vault};
use super::screen::{Screen, Stop, is_form};
use super::signing;
use super::spot::{self, Slot, Spot};
use super::watch::percent_decoded;
use crate::model::{Host, RequestLine};
use crate::policy::{ANYWHERE, LoginToken, Mode, Place, RENEWAL_GRANT, Site};
use http::header::{AUTHORIZATION, HeaderMap};
use std::ops::Range;

impl Vault {
    /// Finds out which secrets a request is to get, or that it must not go. Of its body nothing is known yet.
    pub(super) fn plan(&self, line: &RequestLine, target: &str, headers: &HeaderMap) -> Result<Plan, Misplaced> {
        let mut plan = Plan::default();
        if self.watch.is_idle() {
            return Ok(plan);
        }
        for (index, number) in self.sites_of(line) {
            let (entry, place) = (&self.entries[index], &self.site(index, number).place);
            match (entry.binding.mode, place) {
                (_, Place::ClientCertificate) => plan.certificates.push(index),
                (Mode::Inject, _) => plan.injections.push((index, number)),
                (Mode::Placeholder, Place::FirstMessage(_)) => plan.message_sites.push((index, number)),
                (Mode::Placeholder, Place::Json(_) | Place::Form(_)) => plan.body_sites.push((index, number)),
                (Mode::Placeholder, place) => {
                    let placeholder = entry.binding.placeholder.as_str();
                    let spots = spot::spots(place, placeholder, target, headers).into_iter();
                    // One spot may be in two sites, such as any header `authorization` and a bearer's.
                    let new: Vec<_> =
                        spots.map(|spot| (index, spot)).filter(|swap| !plan.swaps.contains(swap)).collect();
                    plan.swaps.extend(new);
                    if *place == Place::Aws && plan.swaps.iter().any(|(_, spot)| matches!(spot, Spot::Signature(_))) {
                        plan.hashes_body = signing::of(headers)?;
                    }
                }
            }
        }
        self.expect_none_elsewhere(&plan, line, target, headers)?;
        self.settle_injections(&mut plan);
        Ok(plan)
    }

    /// The sites that a request goes to, with whose they are.
    fn sites_of(&self, line: &RequestLine) -> impl Iterator<Item = (usize, usize)> {
        let of_host = match &line.host {
            Host::Name(name) => self.by_host.get(name).map_or(&[][..], Vec::as_slice),
            Host::Address(_) => &[],
        };
        of_host.iter().chain(&self.wide).copied().filter(|(index, number)| self.site(*index, *number).takes(line))
    }

    pub(super) fn site(&self, index: usize, number: usize) -> &Site {
        &self.entries[index].binding.sites[number]
    }

    /// Refuses a request that has a placeholder anywhere but where it is to be swapped.
    fn expect_none_elsewhere(
        &self,
        plan: &Plan,
        line: &RequestLine,
        target: &str,
        headers: &HeaderMap,
    ) -> Result<(), Misplaced> {
        let host = &line.host;
        let misplaced = |index: usize, found: String| Err(self.entries[index].misplaced(found));
        if let Host::Name(name) = host
            && let Some(index) = self.watch.in_lowered(name.as_str())
        {
            return misplaced(index, "the name of a host".to_owned());
        }
        let planned = |holds: &dyn Fn(&Spot) -> bool| {
            plan.swaps.iter().filter(|(_, spot)| holds(spot)).map(|(index, _)| *index).collect::<Vec<_>>()
        };
        let in_query = planned(&|spot| matches!(spot, Spot::Query(_)));
        if let Some(index) = left_over(self.watch.all(target.as_bytes()), in_query) {
            return misplaced(index, format!("the URL of a request to {host}"));
        }
        for name in headers.keys() {
            if let Some(index) = self.watch.in_lowered(name.as_str()) {
                return misplaced(index, format!("the name of a header of a request to {host}"));
            }
            for (nth, value) in headers.get_all(name).iter().enumerate() {
                let here = planned(&|spot| match spot {
                    Spot::Header(of, at) => of == name && *at == nth,
                    Spot::Basic(at) | Spot::Signature(at) => *name == AUTHORIZATION && *at == nth,
                    Spot::Query(_) => false,
                });
                if let Some(index) = left_over(self.watch.all(value.as_bytes()), here) {
                    return misplaced(index, format!("the header `{name}` of a request to {host}"));
                }
            }
        }
        Ok(())
    }

    /// Of injections into one slot the one with the longest path stays, and none where a placeholder is swapped already.
    fn settle_injections(&self, plan: &mut Plan) {
        let mut settled: Vec<(usize, usize)> = Vec::new();
        let slot = |(index, number): &(usize, usize)| Slot::of(&self.site(*index, *number).place);
        let length = |(index, number): &(usize, usize)| self.site(*index, *number).path.len();
        for injection in std::mem::take(&mut plan.injections) {
            let swapped = plan.swaps.iter().any(|(_, spot)| match (spot, slot(&injection)) {
                (Spot::Header(name, _), Some(Slot::Header(taken))) => *name == taken,
                (Spot::Basic(_) | Spot::Signature(_), Some(Slot::Header(taken))) => taken == AUTHORIZATION,
                _ => false,
            });
            match settled.iter_mut().find(|other| slot(other) == slot(&injection)) {
                _ if swapped => {}
                Some(other) if length(other) < length(&injection) => *other = injection,
                Some(_) => {}
                None => settled.push(injection),
            }
        }
        plan.injections = settled;
    }

    /// Begins to watch a request's body; none where there is nothing to watch for.
    pub(super) fn screen(&self, headers: &HeaderMap) -> Result<Option<Screen>, Misplaced> {
        let screen = (!self.watch.is_idle()).then(|| Screen::new(headers)).transpose();
        screen.map_err(|stop| self.explain(stop))
    }

    /// Looks at the next piece of a body that is watched.
    pub(super) fn look(&self, screen: &mut Screen, piece: &[u8]) -> Result<(), Misplaced> {
        screen.next(&self.watch, piece).map_err(|stop| self.explain(stop))
    }

    /// Looks at a trailer.
    pub(super) fn look_at_trailers(&self, trailers: &HeaderMap) -> Result<(), Misplaced> {
        let found = trailers.iter().find_map(|(_, value)| self.watch.all(value.as_bytes()).first().copied());
        found.map_or(Ok(()), |index| Err(self.entries[index].misplaced("a trailer of a request".to_owned())))
    }

    fn explain(&self, stop: Stop) -> Misplaced {
        match stop {
            Stop::Placeholder(index) => self.entries[index].misplaced("the body of a request".to_owned()),
            Stop::Unreadable(why) => Misplaced::Unreadable(why),
        }
    }

    /// Finds out which secrets a whole body is to get, or that it must not go.
    pub(super) fn plan_body(&self, plan: &mut Plan, headers: &HeaderMap, body: &[u8]) -> Result<(), Misplaced> {
        let Some(mut screen) = self.screen(headers)? else { return Ok(()) };
        plan.body_kind = if is_form(headers) { TextKind::Form } else { TextKind::Json };
        plan.body_swaps = match plan.body_kind {
            TextKind::Form => self.form_swaps(&plan.body_sites, body),
            TextKind::Json | TextKind::Plain => self.body_swaps(&plan.body_sites, body),
        };
        plan.body_swaps.sort_by_key(|(_, range)| range.start);
        if plan.body_swaps.is_empty() {
            return self.look(&mut screen, body);
        }
        let mut rest = body.to_vec();
        plan.body_swaps.iter().for_each(|(_, range)| rest[range.clone()].fill(b'-'));
        self.look(&mut screen, &rest)
    }

    /// Puts secrets into the first message of a WebSocket; none where none belongs there. What is misplaced in it stays, and is met with
    /// where all messages are watched.
    pub(super) fn put_into_message(&self, sites: &[(usize, usize)], text: &[u8]) -> Option<Vec<u8>> {
        let mut swaps = self.body_swaps(sites, text);
        swaps.sort_by_key(|(_, range)| range.start);
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
        let kind = if is_json { TextKind::Json } else { TextKind::Plain };
        (!swaps.is_empty()).then(|| self.swapped(&swaps, text, kind))
    }

    /// Where placeholders stand as the whole value of their fields of a form.
    fn form_swaps(&self, sites: &[(usize, usize)], body: &[u8]) -> Vec<(usize, Range<usize>)> {
        let Ok(text) = std::str::from_utf8(body) else { return Vec::new() };
        let mut swaps: Vec<(usize, Range<usize>)> = Vec::new();
        for (index, number) in sites {
            let Place::Form(name) = &self.site(*index, *number).place else { continue };
            let placeholder = self.entries[*index].binding.placeholder.as_str();
            let is_it = |(found, value): &(&str, Range<usize>)| {
                percent_decoded(found.as_bytes()) == name.as_bytes()
                    && percent_decoded(text[value.clone()].as_bytes()) == placeholder.as_bytes()
            };
            // One of them goes: what stands there again is met with where the body is watched.
            if let Some((_, range)) = spot::fields(text, 0).find(is_it)
                && !swaps.iter().any(|(_, taken)| *taken == range)
            {
                swaps.push((*index, range));
            }
        }
        swaps
    }

    fn body_swaps(&self, sites: &[(usize, usize)], body: &[u8]) -> Vec<(usize, Range<usize>)> {
        if sites.is_empty() {
            return Vec::new();
        }
        let document = serde_json::from_slice(body).unwrap_or(serde_json::Value::Null);
        let mut swaps: Vec<(usize, Range<usize>)> = Vec::new();
        for (index, number) in sites {
            let (Place::Json(pointer) | Place::FirstMessage(pointer)) = &self.site(*index, *number).place else {
                continue;
            };
            let placeholder = self.entries[*index].binding.placeholder.as_str();
            let stands = |at: &str, text: &str| document.pointer(at).and_then(serde_json::Value::as_str) == Some(text);
            let renews = self.entries[*index].binding.login.is_some_and(LoginToken::renews);
            let there = (pointer == ANYWHERE || stands(pointer, placeholder))
                && (!renews || stands(RENEWAL_GRANT.0, RENEWAL_GRANT.1));
            // Once in the whole text, so that this is where it stands.
            let mut found = memchr::memmem::find_iter(body, placeholder.as_bytes());
            let (first, second) = (found.next(), found.next());
            if let (true, Some(at), None) = (there, first, second)
                && !swaps.iter().any(|(other, _)| other == index)
            {
                swaps.push((*index, at..at + placeholder.len()));
            }
        }
        swaps
    }
}

/// The first of what was found that was not planned.
fn left_over(found: Vec<usize>, mut planned: Vec<usize>) -> Option<usize> {
    found.into_iter().find(|index| match planned.iter().position(|other| other == index) {
        Some(at) => {
            planned.swap_remove(at);
            false
        }
        None => true,
    })
}
