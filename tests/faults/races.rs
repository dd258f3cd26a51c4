//! The host changes between what was planned and what is opened.

use crate::starts::Stage;
use crate::support::{Who, World, try_as};
use crate::tracer::{Deed, Role, Target};
use std::fs;
use std::os::unix::fs::symlink;

/// Exchanges what stands at `.agent` just before the first place is opened, by whoever opens it.
fn swapped(world: &World, exchange: fn(&World), says: &str) {
    let stage = Stage::new(world);
    let role = if world.who == Who::Root { Role::Session } else { Role::Sandbox };
    let target = Target { role, call: libc::SYS_open_tree, occurrence: 1 };
    let start = stage.start(Some((target, Deed::Swap)), &|| exchange(world));
    assert!(start.trace.struck, "nothing was opened");
    assert_eq!((start.trace.ended, start.stdout.as_str()), (125, ""), "{}", start.stderr);
    assert!(start.stderr.contains(says), "{}", start.stderr);
}

fn granted(world: &World) -> (std::path::PathBuf, std::path::PathBuf) {
    (world.home().join(".agent"), world.home().join(".was"))
}

fn a_link(world: &World) {
    let (place, aside) = granted(world);
    fs::rename(&place, aside).unwrap();
    symlink(world.home().join(".ssh"), place).unwrap();
}

fn another_directory(world: &World) {
    let (place, aside) = granted(world);
    fs::rename(&place, aside).unwrap();
    fs::rename(world.home().join(".ssh"), place).unwrap();
}

fn nothing(world: &World) {
    let (place, aside) = granted(world);
    fs::rename(place, aside).unwrap();
}

macro_rules! swaps {
    ($($name:ident: $who:expr, $exchange:expr, $says:expr;)*) => {
        $(#[test]
        fn $name() {
            try_as($who, |world| swapped(world, $exchange, $says));
        })*
    };
}

swaps! {
    a_grant_that_becomes_a_link_is_refused_to_root: Who::Root, a_link, "is not what it was";
    a_grant_that_becomes_a_link_is_refused_to_a_user: Who::Ordinary, a_link, "is not what it was";
    a_grant_that_becomes_another_directory_is_refused_to_root: Who::Root, another_directory, "is not what it was";
    a_grant_that_becomes_another_directory_is_refused_to_a_user: Who::Ordinary, another_directory, "is not what it was";
    a_grant_that_is_gone_is_refused_to_root: Who::Root, nothing, "cannot open";
    a_grant_that_is_gone_is_refused_to_a_user: Who::Ordinary, nothing, "cannot open";
}

/// The same exchange at a moment when everything is open already changes nothing.
#[test]
fn what_is_opened_stays_what_it_is() {
    try_as(Who::Ordinary, |world| {
        let stage = Stage::new(world);
        let target = Target { role: Role::Sandbox, call: libc::SYS_pivot_root, occurrence: 1 };
        let start = stage.start(Some((target, Deed::Swap)), &|| a_link(world));
        assert!(start.trace.struck);
        assert_eq!(start.trace.ended, 0, "{}", start.stderr);
        assert!(!start.stdout.contains("the user's"), "{}", start.stdout);
    });
}
