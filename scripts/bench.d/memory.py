"""What an idle session takes: the proportional set size of its processes, without the harness's own."""

import os
import pathlib
import signal
import time

from measure import spawn
from report import aim, table

IDLE = ["sh", "-c", "echo x; exec sleep 600"]
HARNESS = "sleep"
# How long a session is left alone before it is looked at.
SETTLE_SECONDS = 3
SESSION_MIB_MAX = 10
KIB = 1024


def run(stage, contenders):
    """Measures one idle sandbox of each kind."""
    if os.geteuid() != 0:
        print("memory: not run: omni's processes let only root look into them\n")
        return []
    rows = [looked_at("omni exec", [*stage.session(), *IDLE], stage.environment)]
    for peer in contenders:
        if peer.command:
            # srt takes one word for its options, if it looks like one.
            rows.append(looked_at(peer.name, [*peer.command, *IDLE], peer.environment))
    columns = ("idle sandbox, in MiB", "together", "of it not of files", "processes", "each")
    table("Memory", columns, [(name, f"{sum(all_):.1f}", f"{own:.1f}", len(all_),
                               " + ".join(f"{each:.1f}" for each in all_)) for name, all_, own in rows])
    ours = sum(rows[0][1])
    return aim(f"an idle session takes {ours:.1f} MiB (aim: {SESSION_MIB_MAX} at most)", ours <= SESSION_MIB_MAX)


def looked_at(name, argv, environment):
    """Starts an idle sandbox, looks at it, and ends it."""
    reader, writer = os.pipe()
    pid = spawn(argv, environment, writer)
    os.close(writer)
    if not os.read(reader, 1):
        raise RuntimeError(f"{name}: no idle sandbox")
    time.sleep(SETTLE_SECONDS)
    own, everyone = 0, []
    for each in tree(pid):
        if command_of(each) != HARNESS:
            sizes = sizes_of(each)
            everyone.append(sizes["Pss"] / KIB)
            own += sizes["Pss_Anon"] / KIB
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    os.close(reader)
    return name, everyone, own


def tree(root):
    """A process and all below it."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, rest = [], [root]
    while rest:
        pid = rest.pop(0)
        found.append(pid)
        rest += sorted(children.get(pid, []))
    return found


def command_of(pid):
    """The name of the program that a process runs."""
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()


def sizes_of(pid):
    """The sums over a process's mappings (proc_pid_smaps_rollup(5)), in KiB."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}
