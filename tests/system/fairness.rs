//! However much one user wants, another gets their turn, and their part of the processors.

use crate::machine::{Files, Machine, harnesses, on_a_machine};

/// Processor time that each of the modest user's programs needs, in seconds.
const WORK: u64 = 1;
/// The unit of proc_pid_stat(5), USER_HZ, on every architecture that omni runs on.
const TICKS_PER_SECOND: u64 = 100;

#[test]
fn forty_sessions_of_one_user_do_not_keep_another_waiting() {
    on_a_machine(Files { system: "sessions: 6\nsessions_per_user: 3\n", ..Files::default() }, |machine| {
        let script = "echo up; read word; echo $word";
        let mut adas: Vec<_> = (0..40).map(|_| machine.start(&machine.ada, &[], script)).collect();
        // Which of them are in is for the server to say; the others wait, and are told so.
        let waiting: Vec<_> = (0..40).filter(|index| is_waiting(&mut adas[*index])).collect();
        assert_eq!(waiting.len(), 37);
        // All of another's first sessions run from beginning to end while nothing of the first user's moves.
        for _ in 0..3 {
            let bobs = machine.shell(&machine.bob, &[], "echo served");
            assert_eq!(bobs.stdout, "served\n", "{bobs:?}");
        }
        // Each end lets the next one in, to the last.
        let mut started = Vec::new();
        for (index, mut session) in adas.into_iter().enumerate() {
            if !waiting.contains(&index) {
                session.say("bye\n");
                assert_eq!(session.line(), "bye");
                session.end();
            } else {
                started.push(session);
            }
        }
        // In which order is the server's affair.
        started.iter_mut().for_each(|session| session.say("bye\n"));
        for mut session in started {
            assert_eq!(session.line(), "up");
            assert_eq!(session.line(), "bye");
            assert_eq!(session.end().code(), Some(0));
        }
        assert_eq!(machine.list(&machine.ada, &["sessions"]).len(), 40);
    });
}

/// Whether a session is told that it waits, or says that it is up: whichever comes.
fn is_waiting(session: &mut crate::machine::Running) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let is_up = {
        let (stdout, stderr) = session.outputs();
        let mut waits =
            [PollFd::from_borrowed_fd(stdout, PollFlags::IN), PollFd::from_borrowed_fd(stderr, PollFlags::IN)];
        poll(&mut waits, None).unwrap();
        !waits[0].revents().is_empty()
    };
    if is_up {
        assert_eq!(session.line(), "up");
    } else {
        assert!(session.error_line().contains("3 of your sessions run"));
    }
    !is_up
}

#[test]
fn a_line_that_is_too_long_is_refused() {
    on_a_machine(Files { system: "sessions_per_user: 1\nwaiting_per_user: 1\n", ..Files::default() }, |machine| {
        let mut first = machine.start(&machine.ada, &[], "echo up; read word");
        first.line();
        let mut second = machine.start(&machine.ada, &[], "echo second");
        assert!(second.error_line().contains("waiting"));
        let third = machine.shell(&machine.ada, &[], "echo third");
        assert_eq!((third.code(), third.stdout.as_str()), (Some(125), ""), "{third:?}");
        assert!(third.stderr.contains("as many as may"), "{third:?}");
        first.say("\n");
        first.end();
        assert_eq!(second.line(), "second");
        second.end();
    });
}

#[test]
fn each_user_has_a_group_with_an_equal_share_of_the_processors() {
    on_a_machine(Files::default(), |machine| {
        let mut adas = machine.start(&machine.ada, &[], "echo up; read word; : harness 40811");
        let mut bobs = machine.start(&machine.bob, &[], "echo up; read word; : harness 40812");
        adas.line();
        bobs.line();
        let group_of = |number: u32| {
            let pid = harnesses(&format!("harness {number}"))[0];
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            let shared = groups.lines().find(|line| line.contains("omni-user-")).map(str::to_owned);
            shared.unwrap_or_else(|| panic!("in no user's group: {groups}"))
        };
        let (adas_group, bobs_group) = (group_of(40811), group_of(40812));
        assert!(adas_group.contains(&format!("/omni-user-{}", machine.ada.uid)), "{adas_group}");
        assert!(bobs_group.contains(&format!("/omni-user-{}", machine.bob.uid)), "{bobs_group}");
        for mut session in [adas, bobs] {
            session.signal(nix::sys::signal::Signal::SIGTERM);
            session.end();
        }
    });
}

#[test]
fn forty_busy_sessions_of_one_user_leave_another_half_of_the_processors() {
    on_a_machine(Files { system: "sessions: 200\nsessions_per_user: 100\n", ..Files::default() }, |machine| {
        share_with_busy_sessions(machine, 40, 1);
    });
}

/// One user's sessions spin, in so many loops each, while another does a piece of work on each processor: what the first
/// got meanwhile is about what the second needed, since both want more than there is. As single processes they would have got
/// a multiple of it. What the machine does otherwise takes from both alike.
pub fn share_with_busy_sessions(machine: &Machine, sessions: usize, loops: usize) {
    let processors = std::thread::available_parallelism().unwrap().get();
    let spin =
        format!("echo up; read word; for i in $(seq {loops}); do (while :; do :; done) & done; wait; : harness 40821");
    let mut busy: Vec<_> = (0..sessions).map(|_| machine.start(&machine.ada, &[], &spin)).collect();
    let work = format!(
        "exec python3 -c 'import time\nprint(\"up\", flush=True)\ninput()\nbegun = time.process_time()\n\
         while time.process_time() < begun + {WORK}: pass\nprint(\"done\")'"
    );
    let mut modest: Vec<_> = (0..processors).map(|_| machine.start(&machine.bob, &[], &work)).collect();
    busy.iter_mut().chain(&mut modest).for_each(|session| assert_eq!(session.line(), "up"));
    busy.iter_mut().for_each(|session| session.say("go\n"));
    let before = ticks_of("harness 40821");
    modest.iter_mut().for_each(|session| session.say("go\n"));
    for session in &mut modest {
        assert_eq!(session.line(), "done");
    }
    let got = ticks_of("harness 40821") - before;
    let needed = WORK * processors as u64 * TICKS_PER_SECOND;
    println!("{} loops of one user got {got} ticks while another's {processors} used {needed}", sessions * loops);
    assert!(got < 3 * needed, "no equal share: {got} to {needed} ticks");
    assert!(sessions * loops < 2 * processors || got > needed / 3, "nobody was in the way: {got} to {needed} ticks");
    busy.iter().for_each(|session| session.signal(nix::sys::signal::Signal::SIGTERM));
    for session in busy.iter_mut().chain(&mut modest) {
        session.end();
    }
}

/// Processor time that harnesses with this text had so far (proc_pid_stat(5), fields 14 and 15).
fn ticks_of(text: &str) -> u64 {
    let ticks = |pid: u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = line.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>()
    };
    harnesses(text).into_iter().map(ticks).sum()
}
