//! Sandboxes within the sandbox: they work where the profile allows them, and nothing that was kept from the harness
//! comes within its reach by them.

use crate::support::{Outcome, World, finish};
use std::path::Path;

const PROFILE: &str = "
name: nesting
nested_sandboxes: true
filesystem:
  workspace: read-only
  read: [~/shown]
  hide: [~/shown/key]
";

/// How Debian's bubblewrap makes a sandbox of what it finds.
const BWRAP: &str = "bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all --die-with-parent";

fn nesting(world: &World, profile: &str, flags: &[&str], script: &str) -> Outcome {
    let file = world.place().join("nesting.yaml");
    world.write(&file, profile);
    world.write(&world.home().join("shown/file"), "shown\n");
    world.write(&world.home().join("shown/key"), "the key\n");
    let file = file.display().to_string();
    let all: Vec<&str> = ["--profile", &file].into_iter().chain(flags.iter().copied()).collect();
    finish(world.exec(&all, &["sh", "-c", script]), b"")
}

attack! {
    fn bubblewrap_makes_its_sandbox_inside_where_the_profile_allows_it(world) {
        let script = format!("{BWRAP} sh -c 'id -u; echo $$; touch /tmp/x && echo made'");
        let inside = nesting(world, PROFILE, &[], &script);
        assert!(inside.text().ends_with("\nmade\n"), "{inside:?}");
        let without = nesting(world, &PROFILE.replace("nested_sandboxes: true", ""), &[], &script);
        assert!(without.code() != Some(0) && without.text().is_empty(), "{without:?}");
    }
}

/// Chromium asks for its own sandbox and goes without for no flag that is given here.
const BROWSE: &str = "chromium --headless=new --disable-gpu --no-first-run --user-data-dir=/tmp/browser --dump-dom \
                      'data:text/html,<p>before</p><script>document.body.textContent=6*7</script>'";

attack! {
    fn chromium_renders_in_its_own_sandbox_where_the_profile_allows_it(world) {
        if !Path::new("/usr/bin/chromium").exists() {
            println!("skipped: chromium is not installed");
            return;
        }
        let inside = nesting(world, PROFILE, &[], BROWSE);
        assert!(inside.text().contains("<body>42</body>"), "{inside:?}");
        let without = nesting(world, &PROFILE.replace("nested_sandboxes: true", ""), &[], BROWSE);
        assert!(!without.text().contains("42") && without.stderr.contains("sandbox"), "{without:?}");
    }
}

attack! {
    fn a_nested_root_cannot_uncover_what_is_hidden(world) {
        // The control: what it does shows what is under a mount of its own.
        let script = r#"unshare -Urm sh -c '
            mkdir -p /tmp/a /tmp/b && echo under > /tmp/a/f && mount -t tmpfs none /tmp/a && umount /tmp/a && cat /tmp/a/f
            shown="$HOME/shown"
            cat "$shown/key"; umount -l "$shown/key"; cat "$shown/key"
            mount --bind "$shown" /tmp/b && cat /tmp/b/key
            mount --rbind "$shown" /tmp/b && umount -l /tmp/b/key; cat /tmp/b/key
            umount -l /etc/passwd; umount -l "$shown"; cat "$shown/key"
            true'"#;
        let outcome = nesting(world, PROFILE, &[], script);
        assert!(outcome.text().starts_with("under\n"), "{outcome:?}");
        assert!(!outcome.text().contains("the key"), "{outcome:?}");
    }
}

attack! {
    fn a_nested_root_cannot_write_what_is_shown_for_reading(world) {
        let script = r#"unshare -Urm sh -c '
            mkdir -p /tmp/m && mount -t tmpfs none /tmp/m && mount -o remount,bind,ro /tmp/m && ! touch /tmp/m/x 2>/dev/null &&
                mount -o remount,bind,rw /tmp/m && touch /tmp/m/x && echo remounted
            mount -o remount,rw,bind . ; touch written
            mount --bind . /tmp/m && mount -o remount,rw,bind /tmp/m; touch /tmp/m/written
            mount -o remount,rw,bind "$HOME/shown"; touch "$HOME/shown/written"
            chroot /proc/1/root touch "$PWD/written"
            true'"#;
        let outcome = nesting(world, PROFILE, &[], script);
        assert_eq!(outcome.text(), "remounted\n", "{outcome:?}");
        assert!(!world.workspace().join("written").exists() && !world.home().join("shown/written").exists());
    }
}

attack! {
    fn a_nested_network_leads_nowhere(world) {
        let witness = crate::support::Witness::listen();
        let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{}", witness.port());
        let script = format!("unshare -Urn bash -c 'ip link set lo up; {connect} && echo reached'; true");
        let outcome = nesting(world, PROFILE, &[], &script);
        assert_eq!((outcome.code(), outcome.text().as_str(), witness.visitors()), (Some(0), "", 0), "{outcome:?}");
        let outside = finish({ let mut command = world.command(Path::new("bash")); command.args(["-c", &connect]); command }, b"");
        assert_eq!((outside.code(), witness.visitors()), (Some(0), 1), "{outside:?}");
    }
}

attack! {
    fn a_nested_root_makes_no_file_that_runs_as_its_owner_and_no_device(world) {
        let script = r#"unshare -Urm sh -c 'cp /bin/true /tmp/t; chmod 755 /tmp/t && echo plain; chmod 4755 /tmp/t;
            mknod /tmp/d b 8 0; stat -c %a /tmp/t; test -b /tmp/d && echo device; true'"#;
        let outcome = nesting(world, PROFILE, &[], script);
        assert_eq!(outcome.text(), "plain\n755\n", "{outcome:?}");
    }
}

attack! {
    /// What is mounted elsewhere has another name, so that protected names in it would be writable.
    fn nesting_is_refused_where_something_of_the_host_s_can_be_written(world) {
        let direct = PROFILE.replace("read-only", "direct");
        let grant = PROFILE.replace("read: [~/shown]", "write: [~/shown]");
        let mount = format!("{}:/mnt", world.home().join("shown").display());
        for (profile, flags) in [(direct.as_str(), &[][..]), (&grant, &[]), (PROFILE, &["--mount", &mount])] {
            let outcome = nesting(world, profile, flags, "touch ran");
            assert_eq!(outcome.code(), Some(125), "{outcome:?}");
            assert!(outcome.stderr.contains("nested_sandboxes"), "{outcome:?}");
        }
        let overlay = nesting(world, &direct, &["--fs", "overlay"], &format!("touch ran; {BWRAP} echo nested"));
        assert_eq!(overlay.text(), "nested\n", "{overlay:?}");
        assert!(!world.workspace().join("ran").exists());
    }
}

attack! {
    fn the_plan_and_the_record_say_what_nesting_opens(world) {
        let plan = nesting(world, PROFILE, &["--dry-run"], "true").text();
        assert_eq!(plan.matches("gap: nested sandboxes: ").count(), 2, "{plan}");
        assert!(!plan.contains("landlock: write only below"), "{plan}");
        assert_eq!(nesting(world, PROFILE, &[], "true").code(), Some(0));
        let events = world.list(&["audit", "log"]);
        let mut told = events.iter().map(ToString::to_string);
        let started = told.find(|event| event.contains("session_started")).unwrap();
        assert!(started.contains("nested sandboxes: no Landlock on files"), "{started}");
    }
}
