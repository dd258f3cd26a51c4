//! What holds and budgets do, with real databases and journals.

use super::*;
use crate::model::{Event, Writer, Zone};
use crate::store::tests::of_three_calls;
use crate::store::{Journal, Recorder, Sqlite};

const NOW: Timestamp = Timestamp(1_795_000_000_000_000);
const MOMENT: Moment = Moment { at: NOW, turn: RequestNumber(0) };

fn home() -> (tempfile::TempDir, Home) {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(&directory.path().join("state")).unwrap();
    (directory, home)
}

fn account(session: u8) -> Account {
    let session = SessionId::from_entropy([session; 10]);
    Account { session, user: "ada".to_owned(), team: None, project: None, agent: "trial".to_owned() }
}

fn policy(hard: i64) -> SpendPolicy {
    SpendPolicy { scope: Scope::User, window: Window::Day, ..SpendPolicy::budget(NanoUsd(hard)) }
}

fn claim(request: u64, full: i64, least: i64) -> Claim {
    let wish = Wish { full: NanoUsd(full), least: NanoUsd(least), consented: false };
    let (waived, raised) = (BTreeSet::new(), BTreeMap::new());
    Claim { request: RequestNumber(request), moment: MOMENT, wish, waived, raised }
}

fn stands(holds: &mut Holds, policy: &SpendPolicy) -> (i64, i64) {
    stands_at(holds, policy, MOMENT)
}

fn stands_at(holds: &mut Holds, policy: &SpendPolicy, moment: Moment) -> (i64, i64) {
    let budgets = holds.budgets(std::slice::from_ref(policy), moment).unwrap();
    (budgets[0].spent.0, budgets[0].held.0)
}

#[test]
fn each_scope_counts_the_calls_of_whoever_it_is_about() {
    let (_directory, home) = home();
    let named = |session, user: &str, team: Option<&str>, project: Option<&str>, agent: &str| Account {
        user: user.to_owned(),
        team: team.map(str::to_owned),
        project: project.map(str::to_owned),
        agent: agent.to_owned(),
        ..account(session)
    };
    let accounts = [
        named(1, "ada", Some("web"), Some("shop"), "codex"),
        named(2, "ada", Some("web"), Some("blog"), "claude"),
        named(3, "bob", Some("web"), Some("shop"), "codex"),
        named(4, "bob", None, None, "claude"),
    ];
    for (account, cost) in accounts.iter().zip([1, 10, 100, 1_000]) {
        let mut holds = Holds::open(&home, account.clone()).unwrap();
        holds.place(&[], &[claim(1, cost, cost)]).unwrap();
        holds.settle(&[(RequestNumber(1), NanoUsd(cost))]).unwrap();
    }
    let mut holds = Holds::open(&home, accounts[0].clone()).unwrap();
    for (scope, spent) in [
        (Scope::Session, 1),
        (Scope::User, 11),
        (Scope::Team, 111),
        (Scope::Project, 101),
        (Scope::Agent, 101),
        (Scope::Organisation, 1_111),
    ] {
        let policy = SpendPolicy { scope, window: Window::Day, ..policy(9_999) };
        assert_eq!(stands(&mut holds, &policy), (spent, 0), "{scope}");
        let tomorrow = Moment { at: Timestamp(NOW.0 + 86_400_000_000), ..MOMENT };
        assert_eq!(stands_at(&mut holds, &policy, tomorrow), (0, 0), "{scope}");
    }
}

#[test]
fn a_day_begins_at_its_own_zones_midnight() {
    let (_directory, home) = home();
    let tokyo = SpendPolicy { zone: Zone::named("Asia/Tokyo").unwrap(), ..policy(9_999) };
    // The clocks there show midnight at 15:00 of UTC.
    let midnight = NOW.0.div_euclid(86_400_000_000) * 86_400_000_000 + 15 * 3_600_000_000;
    let mut holds = Holds::open(&home, account(1)).unwrap();
    for (request, at, cost) in [(1, midnight - 1, 10), (2, midnight, 1)] {
        let claim = Claim { moment: Moment { at: Timestamp(at), ..MOMENT }, ..claim(request, cost, cost) };
        holds.place(&[], &[claim]).unwrap();
        holds.settle(&[(RequestNumber(request), NanoUsd(cost))]).unwrap();
    }
    let after = Moment { at: Timestamp(midnight + 1), ..MOMENT };
    assert_eq!(stands_at(&mut holds, &tokyo, after), (1, 0));
    assert_eq!(stands_at(&mut holds, &policy(9_999), after), (11, 0), "of UTC's day");
    assert!(holds.reached(&tokyo, 50, after).unwrap() && holds.reached(&policy(9_999), 50, after).unwrap());
}

#[test]
fn what_was_counted_by_days_is_counted_on() {
    let (_directory, home) = home();
    drop(Holds::open(&home, account(1)).unwrap());
    let raw = Connection::open(home.database()).unwrap();
    raw.execute_batch(
        "DROP TABLE spent; CREATE TABLE spends (session TEXT NOT NULL, day INTEGER NOT NULL, nano INTEGER NOT NULL, \
         PRIMARY KEY (session, day)) STRICT, WITHOUT ROWID; CREATE INDEX spends_day ON spends (day);",
    )
    .unwrap();
    let day = NOW.0.div_euclid(86_400_000_000);
    for (day, nano) in [(day - 1, 70), (day, 7)] {
        raw.execute("INSERT INTO spends VALUES (?1, ?2, ?3)", params![account(1).session.as_str(), day, nano]).unwrap();
    }
    drop(raw);
    for _ in 0..2 {
        let mut holds = Holds::open(&home, account(2)).unwrap();
        assert_eq!(stands(&mut holds, &policy(9_999)), (7, 0));
        let month = SpendPolicy { window: Window::Month, ..policy(9_999) };
        assert_eq!(stands(&mut holds, &month), (77, 0));
    }
}

#[test]
fn a_turn_counts_its_own_calls_and_a_raised_limit_lets_more_go() {
    let (_directory, home) = home();
    let policy = SpendPolicy { window: Window::Turn, ..SpendPolicy::budget(NanoUsd(100)) };
    let policies = std::slice::from_ref(&policy);
    let mut holds = Holds::open(&home, account(1)).unwrap();
    let in_turn =
        |request, turn| Claim { moment: Moment { turn: RequestNumber(turn), ..MOMENT }, ..claim(request, 60, 50) };
    for (request, turn, expected) in
        [(1, 1, Admission::Hold(NanoUsd(60))), (2, 1, Admission::Refuse(0)), (3, 3, Admission::Hold(NanoUsd(60)))]
    {
        assert_eq!(holds.place(policies, &[in_turn(request, turn)]).unwrap().remove(0).0, expected, "{request}");
        holds.settle(&[(RequestNumber(request), NanoUsd(60))]).unwrap();
    }
    let raised = Claim { raised: BTreeMap::from([(0, NanoUsd(100))]), ..in_turn(4, 3) };
    assert_eq!(holds.place(policies, &[raised]).unwrap().remove(0).0, Admission::Hold(NanoUsd(60)));
}

#[test]
fn a_part_of_a_budget_is_told_once_to_all_who_count_in_it() {
    let (_directory, home) = home();
    let [mut one, mut other] = [1, 2].map(|session| Holds::open(&home, account(session)).unwrap());
    assert!(one.reached(&policy(100), 50, MOMENT).unwrap());
    assert!(!one.reached(&policy(100), 50, MOMENT).unwrap());
    assert!(!other.reached(&policy(100), 50, MOMENT).unwrap());
    assert!(other.reached(&policy(100), 80, MOMENT).unwrap());
    assert!(other.reached(&policy(200), 50, MOMENT).unwrap());
    assert!(one.reached(&policy(100), 50, Moment { at: Timestamp(NOW.0 + 86_400_000_000), ..MOMENT }).unwrap());
    let own = SpendPolicy::budget(NanoUsd(100));
    assert!(one.reached(&own, 50, MOMENT).unwrap() && other.reached(&own, 50, MOMENT).unwrap());
}

#[test]
fn two_sessions_share_one_budget_and_settling_twice_is_settling_once() {
    let (_directory, home) = home();
    let policy = policy(100);
    let [mut one, mut other] = [1, 2].map(|session| Holds::open(&home, account(session)).unwrap());
    let place = |holds: &mut Holds, request, full| {
        holds.place(std::slice::from_ref(&policy), &[claim(request, full, 10)]).unwrap().remove(0).0
    };
    assert_eq!(place(&mut one, 1, 60), Admission::Hold(NanoUsd(60)));
    assert_eq!(place(&mut other, 1, 60), Admission::Wait(0));
    one.settle(&[(RequestNumber(1), NanoUsd(30))]).unwrap();
    one.settle(&[(RequestNumber(1), NanoUsd(99))]).unwrap();
    assert_eq!(place(&mut other, 1, 60), Admission::Hold(NanoUsd(60)));
    assert_eq!(stands(&mut one, &policy), (30, 60));
    other.settle(&[(RequestNumber(1), NanoUsd(65))]).unwrap();
    assert_eq!(place(&mut one, 2, 60), Admission::Refuse(0));
}

#[test]
fn many_writers_never_hold_more_than_there_is() {
    let (_directory, home) = home();
    let policy = policy(1_000);
    let work = |session: u8| {
        let mut holds = Holds::open(&home, account(session)).unwrap();
        for request in 1..=40 {
            let wanted = claim(request, 90, 30);
            let (admission, _) = holds.place(std::slice::from_ref(&policy), &[wanted]).unwrap().remove(0);
            let (spent, held) = stands(&mut holds, &policy);
            assert!(spent + held <= 1_000, "{spent} spent and {held} held");
            if let Admission::Hold(amount) = admission {
                holds.settle(&[(RequestNumber(request), NanoUsd(amount.0 / 2))]).unwrap();
            }
        }
    };
    std::thread::scope(|scope| (1..=6).for_each(|session| drop(scope.spawn(move || work(session)))));
    let mut holds = Holds::open(&home, account(7)).unwrap();
    let (spent, held) = stands(&mut holds, &policy);
    assert!(held == 0 && spent > 0 && spent <= 1_000, "{spent} spent and {held} held");
}

/// What a session leaves that was killed: holds in the database, and a journal that tells how far each call came.
#[test]
fn what_a_killed_session_held_is_settled_by_its_journal() {
    let (_directory, home) = home();
    let policy = policy(1_000);
    let dead = account(1);
    let mut holds = Holds::open(&home, dead.clone()).unwrap();
    for request in 1..=3 {
        holds.place(std::slice::from_ref(&policy), &[claim(request, 100, 10)]).unwrap();
    }
    let text = "UPDATE accounts SET pid_started_ticks = 1 WHERE session = ?1";
    holds.connection.execute(text, [dead.session.as_str()]).unwrap();
    drop(holds);
    let mut journal = Journal::create(&home, &dead.session, Writer::Proxy).unwrap();
    for event in of_three_calls() {
        journal.record(NOW, &event).unwrap();
    }
    drop(journal);
    let mut living = Holds::open(&home, account(2)).unwrap();
    assert_eq!(stands(&mut living, &policy), (107, 0));
}

#[test]
fn a_dead_sessions_money_stays_held_while_its_proxy_may_still_write() {
    let (_directory, home) = home();
    let policy = policy(100);
    let dead = account(1);
    let mut holds = Holds::open(&home, dead.clone()).unwrap();
    holds.place(std::slice::from_ref(&policy), &[claim(1, 60, 10)]).unwrap();
    let text = "UPDATE accounts SET pid_started_ticks = 1 WHERE session = ?1";
    holds.connection.execute(text, [dead.session.as_str()]).unwrap();
    drop(holds);
    let mut proxy = Journal::create(&home, &dead.session, Writer::Proxy).unwrap();
    let mut living = Holds::open(&home, account(2)).unwrap();
    let mut place =
        |request| living.place(std::slice::from_ref(&policy), &[claim(request, 60, 50)]).unwrap().remove(0).0;
    assert_eq!(place(1), Admission::Wait(0), "the call may leave yet");
    let charged = NanoUsd(45);
    let settled = Event::HoldSettled { request: RequestNumber(1), held: NanoUsd(60), charged, estimated: true };
    proxy.record(NOW, &settled).unwrap();
    assert_eq!(place(1), Admission::Hold(NanoUsd(55)));
    drop(proxy);
}

#[test]
fn a_book_made_anew_has_what_the_journals_tell_and_is_not_made_while_a_session_holds_money() {
    let (_directory, home) = home();
    let policies = [policy(1_000)];
    let mut holds = Holds::open(&home, account(1)).unwrap();
    holds.place(&policies, &[claim(1, 100, 10)]).unwrap();
    assert!(matches!(Sqlite::rebuild(&home, "aside"), Err(StoreError::MoneyInUse { .. })));
    let mut journal = Journal::create(&home, &account(1).session, Writer::Proxy).unwrap();
    let placed =
        |request| Event::HoldPlaced { request: RequestNumber(request), amount: NanoUsd(100), bound: NanoUsd(100) };
    let settled =
        Event::HoldSettled { request: RequestNumber(1), held: NanoUsd(100), charged: NanoUsd(7), estimated: true };
    for event in [placed(1), settled, placed(2)] {
        journal.record(NOW, &event).unwrap();
    }
    let ended = "UPDATE accounts SET pid_started_ticks = 1";
    holds.connection.execute(ended, []).unwrap();
    let (store, moved) = Sqlite::rebuild(&home, "aside").unwrap();
    assert!(moved.is_some());
    drop(store);
    // The old connection is let go of at the next call.
    let (admission, budgets) = holds.place(&policies, &[claim(3, 100, 10)]).unwrap().remove(0);
    assert_eq!(
        (admission, budgets[0].spent),
        (Admission::Hold(NanoUsd(100)), NanoUsd(0)),
        "of a user that no start names"
    );
    let everybody = SpendPolicy { scope: Scope::Organisation, ..policies[0].clone() };
    assert_eq!(stands(&mut holds, &everybody), (7, 100));
}

#[test]
fn a_book_made_anew_counts_what_was_settled_where_the_record_of_its_hold_is_lost() {
    let (_directory, home) = home();
    let mut journal = Journal::create(&home, &account(1).session, Writer::Proxy).unwrap();
    let settled =
        Event::HoldSettled { request: RequestNumber(1), held: NanoUsd(100), charged: NanoUsd(7), estimated: false };
    journal.record(NOW, &settled).unwrap();
    drop(journal);
    Sqlite::rebuild(&home, "aside").unwrap();
    let everybody = SpendPolicy { scope: Scope::Organisation, ..policy(1_000) };
    assert_eq!(stands(&mut Holds::open(&home, account(2)).unwrap(), &everybody), (7, 0));
}

#[test]
fn calls_that_ask_at_one_time_are_decided_one_after_the_other() {
    let (_directory, home) = home();
    let mut holds = Holds::open(&home, account(1)).unwrap();
    let policy = policy(100);
    let claims = [claim(1, 60, 10), claim(2, 30, 10), claim(3, 60, 10)];
    let placed = holds.place(std::slice::from_ref(&policy), &claims).unwrap();
    let admissions: Vec<_> = placed.iter().map(|(admission, _)| *admission).collect();
    assert_eq!(admissions, [Admission::Hold(NanoUsd(60)), Admission::Hold(NanoUsd(30)), Admission::Wait(0)]);
    assert_eq!(stands(&mut holds, &policy), (0, 90));
    holds
        .settle(&[(RequestNumber(1), NanoUsd(5)), (RequestNumber(2), NanoUsd(6)), (RequestNumber(1), NanoUsd(9))])
        .unwrap();
    assert_eq!(stands(&mut holds, &policy), (11, 0));
}
