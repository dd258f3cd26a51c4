//! Tiers of isolation: in a place like a container, in gVisor, and where `/proc` is masked. Each is made by the test itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// The stage is that of the attacks on the tier `full`, of which not everything is needed here.
#![allow(dead_code)]

#[macro_use]
#[path = "../sandbox/support.rs"]
mod support;

/// As `attack!`, where the kernel's Landlock is whole. Where it is not there is no weaker tier to attack, which
/// `demand::an_older_landlock_is_no_tier` holds.
macro_rules! enclosed {
    ($(#[$about:meta])* fn $name:ident($world:ident) $body:block) => {
        attack! {
            $(#[$about])*
            fn $name($world) {
                if $crate::stage::has_whole_landlock() {
                    $body
                }
            }
        }
    };
}

mod demand;
mod landlock;
mod reach;
mod stage;
mod strangers;
