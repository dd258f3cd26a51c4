//! Figures of a trial period: how long a task takes, what it costs, and how often people are asked.
//!
//! A task is a session whose harness ended by itself and said that it succeeded. What failed cost money and time too, so
//! all of it is shared out among the tasks that were done.

use crate::model::{EndReason, Event, ExitStatus, NanoUsd, SessionId, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;

/// What is counted of one session.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    done: bool,
    cost: NanoUsd,
    asked: u64,
}

/// The count.
#[derive(Debug, Default)]
pub(super) struct Pilot {
    runs: BTreeMap<SessionId, Run>,
}

/// What it comes to. What cannot be said, since there was nothing to say it of, is null.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Sessions that started.
    pub sessions: u64,
    /// Those that ended well.
    pub tasks: u64,
    /// From start to end of a task, in seconds: half of them took less.
    pub seconds_to_task_median: Option<u64>,
    /// What one in ten took longer than.
    pub seconds_to_task_p90: Option<u64>,
    /// What all sessions cost.
    pub cost_usd: String,
    /// For each task that was done.
    pub cost_per_task_usd: Option<String>,
    /// Questions to people.
    pub approvals: u64,
    /// For each hour that a session ran.
    pub approvals_per_hour: Option<f64>,
}

impl Pilot {
    /// Takes an event in.
    pub(super) fn take(&mut self, session: &SessionId, at: Timestamp, event: &Event) {
        let run = self.runs.entry(session.clone()).or_default();
        match event {
            Event::SessionStarted { .. } => run.started = Some(at),
            Event::UsageMetered { cost, .. } => run.cost = run.cost.plus(*cost),
            Event::ApprovalAsked { .. } => run.asked += 1,
            Event::SessionEnded { reason, exit } => {
                run.ended = Some(at);
                run.done = *reason == EndReason::Finished && *exit == ExitStatus::Code(0);
            }
            _ => {}
        }
    }

    /// The figures of the sessions that started in the period. `now` is when those end that still run.
    pub(super) fn figures(&self, now: Timestamp) -> Figures {
        let runs: Vec<(&Run, i64)> = self.runs.values().filter_map(|run| Some((run, lasted(run, now)?))).collect();
        let mut seconds: Vec<u64> =
            runs.iter().filter(|(run, _)| run.done).map(|(_, took)| whole_seconds(*took)).collect();
        seconds.sort_unstable();
        let tasks = seconds.len();
        let cost: NanoUsd = runs.iter().map(|(run, _)| run.cost).sum();
        let approvals = runs.iter().map(|(run, _)| run.asked).sum();
        let hours = runs.iter().map(|(_, took)| *took).fold(0_i64, i64::saturating_add) as f64 / (3600 * SECOND) as f64;
        let share = i64::try_from(tasks).ok().and_then(|tasks| cost.0.checked_div(tasks));
        Figures {
            sessions: runs.len() as u64,
            tasks: tasks as u64,
            seconds_to_task_median: seconds.get(tasks / 2).copied(),
            seconds_to_task_p90: seconds.get(tasks * 9 / 10).copied(),
            cost_usd: cost.to_decimal(),
            cost_per_task_usd: share.map(|share| NanoUsd(share).to_decimal()),
            approvals,
            approvals_per_hour: (hours > 0.0).then(|| (approvals as f64 / hours * 100.0).round() / 100.0),
        }
    }
}

/// How long a session ran, in microseconds; none where it never started. A clock that was set back says nothing.
fn lasted(run: &Run, now: Timestamp) -> Option<i64> {
    Some(run.ended.unwrap_or(now).0.saturating_sub(run.started?.0).max(0))
}

fn whole_seconds(microseconds: i64) -> u64 {
    (microseconds / SECOND).max(0).cast_unsigned()
}

/// The figures for a person.
pub(super) fn human(figures: &Figures) -> String {
    let Figures { sessions, tasks, cost_usd, approvals, .. } = figures;
    let seconds = |seconds: Option<u64>| seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s"));
    let (median, p90) = (seconds(figures.seconds_to_task_median), seconds(figures.seconds_to_task_p90));
    let per_task = figures.cost_per_task_usd.as_ref().map_or_else(|| "-".to_owned(), |cost| format!("${cost}"));
    let per_hour = figures.approvals_per_hour.map_or_else(|| "-".to_owned(), |count| count.to_string());
    format!(
        "sessions            {sessions}, of which {tasks} did their task\n\
         time to task        {median} (half took less), {p90} (nine in ten took less)\n\
         cost per task       {per_task}, of ${cost_usd} in all\n\
         approvals per hour  {per_hour}, {approvals} in all\n"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::RequestNumber;

    #[test]
    fn what_failed_is_shared_out_among_what_was_done() {
        let mut pilot = Pilot::default();
        let mut run = |number: u8, seconds: i64, code: i32| {
            let session = SessionId::from_entropy([number; 10]);
            let started: Event = serde_json::from_value(serde_json::json!({
                "event": "session_started", "session": session, "name": null, "user": "ada", "profile": "p", "argv": [],
                "workspace": "/", "policy_hash": "", "omni_version": "", "pid": 1, "pid_started_ticks": 1,
                "isolation": { "namespaces": [], "landlock_abi": 0, "seccomp": true, "network": "" },
            }))
            .unwrap();
            let asked = Event::ApprovalAsked {
                question: 1,
                request: RequestNumber(1),
                what: String::new(),
                why: String::new(),
                rule: None,
                digest: String::new(),
                expires: 0,
            };
            let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(code) };
            pilot.take(&session, Timestamp(0), &started);
            pilot.take(&session, Timestamp(1), &asked);
            pilot.take(&session, Timestamp(seconds * SECOND), &ended);
        };
        for (number, seconds, code) in [(1, 600, 0), (2, 1_200, 0), (3, 1_800, 1)] {
            run(number, seconds, code);
        }
        let figures = pilot.figures(Timestamp(i64::MAX));
        assert_eq!((figures.sessions, figures.tasks, figures.approvals), (3, 2, 3));
        assert_eq!((figures.seconds_to_task_median, figures.approvals_per_hour), (Some(1_200), Some(3.0)));
    }
}
