//! Which means is chosen, and what would be written.

use super::*;

const NOTHING: Limits = Limits {
    memory: None,
    pids: None,
    cpus: None,
    duration: None,
    files: None,
    tmp: None,
    disk: None,
    disk_free: None,
};

fn first(controllers: &[&str], own: &Path) -> Hierarchy {
    let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
    Hierarchy { version: Version::V1, controllers, own: own.to_owned() }
}

/// Directories that stand for groups of version 1 of this user's.
fn offers(place: &tempfile::TempDir) -> Offers {
    Offers {
        hierarchies: vec![
            first(&["memory"], place.path()),
            first(&["cpu", "cpuacct", "pids"], &place.path().join(".")),
        ],
        ..Offers::default()
    }
}

fn written(plan: &LimitPlan) -> Vec<String> {
    let settings = plan.groups.iter().flat_map(|group| &group.settings);
    settings.map(|setting| format!("{}={}", setting.file, setting.value)).collect()
}

#[test]
fn what_version_1_offers_is_used_and_what_is_written_is_exact() {
    let place = tempfile::tempdir().expect("a directory");
    let asked = Limits { memory: Some(64 << 20), pids: Some(64), cpus: Some(1.5), ..NOTHING };
    let plan = decide(&asked, &offers(&place)).expect("it can be held");
    let held: Vec<_> = plan.held.iter().map(ToString::to_string).collect();
    assert_eq!(held, ["memory 64 MiB (cgroup v1)", "pids 64 (cgroup v1)", "cpus 1.5 (cgroup v1)"]);
    assert_eq!(
        written(&plan),
        [
            "memory.limit_in_bytes=67108864",
            "memory.memsw.limit_in_bytes=67108864",
            "memory.swappiness=0",
            "pids.max=65",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=150000",
        ]
    );
}

#[test]
fn version_2_is_preferred_where_it_offers_the_controller() {
    let place = tempfile::tempdir().expect("a directory");
    let group = |file: &str, text: &str| std::fs::write(place.path().join(file), text).expect("written");
    group("cgroup.controllers", "memory pids\n");
    group("cgroup.subtree_control", "memory pids\n");
    group("cgroup.procs", "");
    group("cgroup.type", "domain\n");
    let second = Hierarchy { version: Version::V2, controllers: Vec::new(), own: place.path().to_owned() };
    let mut offers = offers(&tempfile::tempdir().expect("a directory"));
    offers.hierarchies = vec![first(&["memory", "cpu"], place.path()), second];
    let asked = Limits { memory: Some(1 << 30), pids: Some(10), ..NOTHING };
    let plan = decide(&asked, &offers).expect("it can be held");
    assert_eq!(written(&plan), ["memory.max=1073741824", "memory.swap.max=0", "memory.oom.group=1", "pids.max=11"]);
    assert_eq!(plan.groups.len(), 1);
    let plan = decide(&Limits { cpus: Some(0.5), ..NOTHING }, &offers).expect("version 1 has it");
    assert_eq!(plan.held[0].held_by, LimitHolder::CgroupV1);
}

#[test]
fn without_groups_processes_are_counted_by_user_and_the_rest_is_refused_with_the_way_to_get_it() {
    let nothing = Offers { systemd: true, ..Offers::default() };
    let plan = decide(&Limits { pids: Some(64), ..NOTHING }, &nothing).expect("an rlimit holds it");
    assert_eq!(plan.held, [HeldLimit { limit: LimitKind::Pids, amount: 64, held_by: LimitHolder::Rlimit }]);
    for asked in [Limits { memory: Some(1 << 30), ..NOTHING }, Limits { cpus: Some(1.0), ..NOTHING }] {
        let refused = decide(&asked, &nothing).expect_err("nothing holds it").to_string();
        assert!(refused.ends_with("systemd-run --user --scope -p Delegate=yes omni exec …"), "{refused}");
    }
}

#[test]
fn a_sliver_of_a_processor_is_refused() {
    let refused = decide(&Limits { cpus: Some(0.001), ..NOTHING }, &Offers::default()).expect_err("too little");
    assert_eq!(refused.to_string(), "`cpus` cannot be 1 thousandths: the least is 0.01");
}

#[test]
fn a_limit_on_the_disk_needs_a_layer_to_hold() {
    let refused = plan_limits(&Limits { disk: Some(1), ..NOTHING }, false, None).expect_err("no overlay");
    assert!(matches!(refused, LimitError::NoOverlay));
}
