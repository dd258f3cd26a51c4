//! Looking into a sandbox from outside, while a server keeps its client waiting for the answer: whether anything in there holds a
//! value that must stay outside, be it memory, with arguments and environments, or a file.

use crate::memory;
use crate::stage::{Running, Stage, text};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Condvar, Mutex};

/// Where a process of a sandbox may have written, beside its home and its workspace.
const WRITABLE: [&str; 6] = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/etc", "/root"];

/// How often is looked whether somebody waits.
const GLANCE: std::time::Duration = std::time::Duration::from_millis(20);

/// What is looked for in a sandbox.
pub struct Lookout {
    /// Every form of the values that must not be there.
    forbidden: Vec<Vec<u8>>,
    /// Every form of what must be, the plain one first, so that it is known that the search finds.
    control: Vec<Vec<u8>>,
    /// Where its files are, as the sandbox has them.
    places: Vec<PathBuf>,
    /// The process of the omni whose sandbox it is, once it runs.
    omni: Mutex<Option<u32>>,
    begun: Condvar,
    seen: Mutex<Seen>,
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    looks: usize,
    control: Control,
    /// Where which form of a value stood.
    held: BTreeSet<String>,
}

/// Where the control was found.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    pub in_memory: bool,
    pub in_files: bool,
}

impl Lookout {
    /// For values that must stay outside of the sandboxes of a stage, and one that must be inside.
    pub fn new(stage: &Stage, values: &[impl AsRef<[u8]>], control: &str) -> Arc<Self> {
        let places = WRITABLE.iter().map(PathBuf::from).chain([stage.path("home"), stage.workspace()]).collect();
        Arc::new(Self {
            forbidden: values.iter().flat_map(forms).collect(),
            control: forms(control),
            places,
            omni: Mutex::default(),
            begun: Condvar::new(),
            seen: Mutex::default(),
        })
    }

    /// Runs an omni to its end; who looks meanwhile looks into its sandbox.
    pub fn run(&self, stage: &Stage, command: &mut Command) -> Output {
        let running = self.start(stage, command);
        let output = running.finish();
        *self.omni.lock().unwrap() = None;
        output
    }

    /// Runs an omni to its end, and looks into its sandbox when a script in there has made the file `ready` and waits for a line in
    /// the fifo `gate`, both in the workspace.
    pub fn run_to_gate(&self, stage: &Stage, command: &mut Command) -> Output {
        let [gate, ready] = ["gate", "ready"].map(|name| stage.workspace().join(name));
        nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        stage.hand_over(&gate);
        let mut running = self.start(stage, command);
        while !ready.exists() && running.is_running() {
            std::thread::sleep(GLANCE);
        }
        if running.is_running() {
            self.look();
            // Whoever waited may have been ended for it, which its output tells then.
            let opened = fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&gate);
            let _ = opened.and_then(|mut gate| gate.write_all(b"go\n"));
        }
        running.finish()
    }

    /// Starts an omni into whose sandbox is looked from now on.
    pub fn start(&self, stage: &Stage, command: &mut Command) -> Running {
        let running = stage.start(command);
        *self.omni.lock().unwrap() = Some(running.pid());
        self.begun.notify_all();
        running
    }

    /// Looks into the sandbox as it is now.
    pub fn look(&self) {
        let omni = {
            let running = self.begun.wait_while(self.omni.lock().unwrap(), |omni| omni.is_none()).unwrap();
            running.unwrap()
        };
        let inside = memory::inside(omni);
        let (mut held, mut control) = (BTreeSet::new(), Control::default());
        let mut needles = self.forbidden.clone();
        needles.push(self.control[0].clone());
        for pid in &inside {
            for found in memory::held(*pid, &needles) {
                if self.control.contains(found) {
                    control.in_memory = true;
                } else {
                    held.insert(format!("{} in the memory of {}", found.escape_ascii(), program(*pid)));
                }
            }
        }
        for root in roots(&inside) {
            control.in_files |= !self.files_with(&self.control, root).is_empty();
            held.extend(self.files_with(&self.forbidden, root));
        }
        let mut seen = self.seen.lock().unwrap();
        seen.looks += 1;
        seen.control.in_memory |= control.in_memory;
        seen.control.in_files |= control.in_files;
        seen.held.extend(held);
    }

    /// The files of the sandbox of this process that hold one of these.
    fn files_with(&self, needles: &[Vec<u8>], pid: u32) -> Vec<String> {
        let root = format!("/proc/{pid}/root");
        let mut find = Command::new("find");
        find.args(self.places.iter().map(|place| format!("{root}{}", place.display())));
        // Not what is shown of this machine, below them.
        find.args(["-xdev", "-type", "f", "-exec", "grep", "-laF"]);
        // No argument has a zero, and to grep a line break ends a pattern.
        needles.iter().filter(|needle| !needle.contains(&0) && !needle.contains(&b'\n')).for_each(|needle| {
            find.arg("-e").arg(OsStr::from_bytes(needle));
        });
        find.args(["{}", "+"]);
        // What goes away meanwhile, or is not there at all, holds nothing.
        text(&find.output().unwrap().stdout).lines().map(|line| format!("a form in the file {line}")).collect()
    }

    /// Fails unless it was looked, nothing was found that must not be inside, and the control was.
    pub fn assert_found_nothing(&self, control: Control, who: &dyn std::fmt::Debug) {
        let seen = self.seen.lock().unwrap();
        assert!(seen.looks > 0, "{who:?}: nobody looked");
        assert_eq!(seen.held, BTreeSet::new(), "{who:?}: inside, of {} looks", seen.looks);
        assert_eq!(seen.control, control, "{who:?}: where the search found what is there, in {} looks", seen.looks);
    }
}

/// One process of each mount namespace among these.
fn roots(pids: &[u32]) -> impl Iterator<Item = u32> {
    let namespace = |pid: &u32| Some((fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?, *pid));
    pids.iter().filter_map(namespace).collect::<BTreeMap<_, _>>().into_values()
}

fn program(pid: u32) -> String {
    let told = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} ({})", text(&told).replace('\0', " "))
}

/// Every form in which a value may stand: plain, escaped as JSON and URLs have it, in hexadecimal, and in base64, wherever in what
/// was encoded it begins.
pub fn forms(plain: impl AsRef<[u8]>) -> Vec<Vec<u8>> {
    let plain = plain.as_ref();
    let escaped = |escape: fn(u8) -> String| -> Vec<u8> {
        plain
            .iter()
            .flat_map(|byte| if byte.is_ascii_alphanumeric() { vec![*byte] } else { escape(*byte).into() })
            .collect()
    };
    let url = escaped(|byte| if b"-._~".contains(&byte) { char::from(byte).into() } else { format!("%{byte:02X}") });
    let json = escaped(|byte| if byte == b'/' { "\\/".into() } else { char::from(byte).into() });
    let hex: String = plain.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut all = vec![plain.to_owned(), url, hex.to_uppercase().into(), hex.into()];
    if plain.is_ascii() {
        all.push(json);
    }
    all.extend((0..3).map(|before| {
        let encoded = BASE64_STANDARD.encode([&b"xx"[..before], plain].concat());
        // What stands for what was before, or is still to come, is not known.
        let whole = (before + plain.len()) / 3 * 4;
        encoded[(before * 8).div_ceil(6)..whole].into()
    }));
    let mut known = BTreeSet::new();
    all.retain(|form| known.insert(form.clone()));
    all
}
