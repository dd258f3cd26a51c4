//! The desktop's secret service, a real one on a real bus, as the keeper of the secret store's key.

use crate::secrets::fresh_key;
use crate::support::{Outcome, World, finish};

/// Opens a keyring on a bus of its own, and runs a script with `$OMNI` there.
fn on_a_desktop(world: &World, script: &str) -> Outcome {
    on_a_bus(world, "printf %s opens | gnome-keyring-daemon --components=secrets --unlock", script)
}

fn on_a_bus(world: &World, service: &str, script: &str) -> Outcome {
    let runtime = world.place().join("runtime");
    if !runtime.exists() {
        world.write(&runtime.join("x"), "");
        std::fs::set_permissions(&runtime, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
    // What runs it as the user is said before it.
    let omni = world.omni().get_args().last().unwrap().to_owned();
    let mut command = world.command("dbus-run-session".as_ref());
    command.args(["--", "sh", "-c", &format!("{service} >&2 || exit 9; {script}")]);
    command.env("OMNI", omni).env("XDG_RUNTIME_DIR", &runtime).env("KEY", world.place().join("key"));
    finish(command, b"")
}

attack! {
    fn the_desktop_keeps_the_key_of_the_secret_store_and_nobody_else_does(world) {
        let key = fresh_key();
        world.write(&world.place().join("key"), &key);
        let script = "$OMNI secret set anthropic < $KEY && ls $OMNI_HOME && \
            $OMNI exec --secret anthropic -- sh -c 'echo held $ANTHROPIC_API_KEY; env | grep DBUS; true' && echo again";
        let first = on_a_desktop(world, script);
        let (said, names) = (first.text(), |text: &str| text.lines().any(|line| line == "secrets.key"));
        assert!(first.code() == Some(0) && said.contains("held sk-ant-api03-"), "{first:?}");
        assert!(!names(&said) && said.contains("again") && !said.contains("DBUS") && !said.contains(&key), "{first:?}");
        // Another desktop of the same user's, later.
        let later = on_a_desktop(world, "$OMNI exec --secret anthropic -- sh -c 'echo held $ANTHROPIC_API_KEY'");
        assert!(later.text().contains("held sk-ant-api03-"), "{later:?}");
        // Without one it stays closed, and says whose the key is.
        let mut alone = world.exec(&["--secret", "anthropic"], &["echo", "started"]);
        alone.env_remove("DBUS_SESSION_BUS_ADDRESS");
        let alone = finish(alone, b"");
        assert_eq!((alone.code(), alone.text().as_str()), (Some(125), ""), "{alone:?}");
        assert!(alone.stderr.contains("the desktop's secret service keeps the key"), "{alone:?}");
        // A keyring that nobody opened gives nothing.
        let locked = on_a_bus(world, "gnome-keyring-daemon --components=secrets", "$OMNI exec --secret anthropic -- echo started");
        assert_eq!((locked.code(), locked.text().contains("started")), (Some(125), false), "{locked:?}");
        assert!(locked.stderr.contains("its keyring is locked"), "{locked:?}");
        // It gives the key up to a file, and takes it again.
        let moved = on_a_desktop(world, "$OMNI secret passphrase --none && ls $OMNI_HOME && $OMNI secret passphrase --desktop && \
            echo then && ls $OMNI_HOME && $OMNI exec --secret anthropic -- echo started");
        let moved_said = moved.text();
        let (file, desktop) = moved_said.split_once("then\n").expect("both were done");
        assert!(names(file) && !names(desktop) && desktop.contains("started"), "{moved:?}");
    }
}
