//! All `unsafe` of the package: one system call, one safe function each.
//!
//! Knows nothing of profiles, plans or sessions. Calls that a safe wrapper of `rustix` or `nix` already offers are
//! made through those, by whoever needs them; only what they lack, or offer as `unsafe`, is here.
#![allow(unsafe_code)]

mod environment;
mod keyring;
mod memory;
mod mount;
mod netlink;
mod notify;
mod notify_place;
mod peer;
mod process;
mod shared_word;
mod signal;
mod socket;

pub use environment::{environment_has, erase_environment, replace_command_line};
pub use keyring::{forget_key, keep_key, keeps_key, kept_key};
pub use memory::{let_go_of_code, return_free_memory};
pub use mount::{MountAttributes, set_mount_attributes};
pub use netlink::{Attributes, Netlink, NetlinkMessage};
pub use notify::{
    CallAnswer, NotifiedCall, answer_call, load_notifying_filter, notified_call_waits, read_memory_of,
    receive_notified_call, wake_callers_in_place,
};
pub use notify_place::replace_descriptor_of;
pub use peer::{peer_groups, peer_process};
pub use process::{
    Forked, NamespaceHolder, Namespaces, clone_into_namespaces, close_descriptors_from, close_inherited_except,
    end_with_parent, file_size_limit_of, fork_single_threaded, fork_without_handle, landlock_abi,
    set_file_size_of_core, unshare_control_groups,
};
pub use shared_word::shared_word;
pub use signal::{is_ignored, reset_signal};
pub use socket::{set_ip_transparent, set_ipv6_receive_packet_info, set_ipv6_transparent};
