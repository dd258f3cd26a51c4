//! What the embedded store does, and this one as well.

use super::*;
use crate::store::search::scan;
use crate::store::{Search, Turn};

/// What is asked for by no term is asked of the server, and is what going through the log finds.
#[test]
fn a_search_by_the_server_finds_what_going_through_the_log_does() {
    let Some(world) = world() else { return };
    record(&world.home("one"), 1, 2_500);
    drop(world.folded("one"));
    record(&world.home("other"), 2, 30);
    let store = world.folded("other");
    let any = Search::default;
    let session = Some(id(1));
    for search in [
        any(),
        Search { session: session.clone(), ..any() },
        Search { since: Some(Timestamp(20)), until: Some(Timestamp(2_200)), ..any() },
        Search { session, until: Some(Timestamp(40)), ..any() },
        Search { text: Some("answer".to_owned()), until: Some(Timestamp(40)), ..any() },
    ] {
        for (turn, count) in
            [(Turn::After(0), u32::MAX), (Turn::After(7), 20), (Turn::Before(u64::MAX), 2_100), (Turn::Before(9), 3)]
        {
            let wanted =
                scan(|entry, count| store.log(search.session.as_ref(), entry, count), &search, turn, count).unwrap();
            assert_eq!(store.search(&search, turn, count).unwrap(), wanted, "{search:?} {turn:?}");
        }
    }
}

#[test]
fn a_dead_sessions_money_stays_held_while_its_proxy_may_still_write() {
    let Some(world) = world() else { return };
    let (policy, home) = (policy(100), world.home("one"));
    let mut holds = open_holds(&home, account(1)).unwrap();
    holds.place(std::slice::from_ref(&policy), &[claim(1, 60, 10)]).unwrap();
    drop(holds);
    world.sql("UPDATE accounts SET pid_started_ticks = 1");
    let mut proxy = Journal::create(&home, &id(1), Writer::Proxy).unwrap();
    let mut living = open_holds(&home, account(2)).unwrap();
    let mut place =
        |request| living.place(std::slice::from_ref(&policy), &[claim(request, 60, 50)]).unwrap().remove(0).0;
    assert_eq!(place(1), Admission::Wait(0), "the call may leave yet");
    let charged = NanoUsd(45);
    let settled = Event::HoldSettled { request: RequestNumber(1), held: NanoUsd(60), charged, estimated: true };
    proxy.record(*NOW, &settled).unwrap();
    assert_eq!(place(1), Admission::Hold(NanoUsd(55)));
}

#[test]
fn a_part_of_a_budget_is_told_once_on_all_machines() {
    let Some(world) = world() else { return };
    let mut holds = ["one", "other"].map(|name| open_holds(&world.home(name), account(1)).unwrap());
    let told = holds.each_mut().map(|holds| holds.reached(&policy(100), 50, moment()).unwrap());
    assert_eq!(told, [true, false]);
    assert_eq!(holds.each_mut().map(|holds| holds.reached(&policy(100), 80, moment()).unwrap()), [true, false]);
}

/// What was recorded before the table of sessions said so is known too.
#[test]
fn a_team_pays_for_sessions_that_no_policy_counted() {
    let Some(world) = world() else { return };
    let home = world.home("one");
    let mut supervisor = Journal::create(&home, &id(5), Writer::Session).unwrap();
    let mut start = crate::store::tests::started(&id(5), 1, 1);
    if let Event::SessionStarted { team, .. } = &mut start {
        *team = Some("x".to_owned());
    }
    supervisor.record(*NOW, &start).unwrap();
    supervisor.record(*NOW, &metered("m", 70)).unwrap();
    drop(world.folded("one"));
    let account = Account { team: Some("x".to_owned()), ..account(1) };
    let policy = SpendPolicy { scope: Scope::Team, ..policy(100) };
    assert_eq!(stands(open_holds(&home, account.clone()).unwrap().as_mut(), &policy), (70, 0));
    world.sql("DROP TABLE alerts; ALTER TABLE sessions DROP COLUMN team, DROP COLUMN project; DELETE FROM migrations WHERE number = 2");
    assert_eq!(stands(open_holds(&home, account).unwrap().as_mut(), &policy), (70, 0));
}
