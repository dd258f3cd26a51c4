"""The proxy beside no proxy, the least there can be, and others of its kind: how much later, how fast, in how much memory."""

import os
import subprocess
import time

from measure import median
from memory import KIB, sizes_of, tree
from proxies import HUDSUCKER, NAME, RELAY, Ways, measured
from report import aim, table

ROUNDS = 5
SMALL = 1024
MIB = 1024 * 1024
CONNECTIONS = 200
RATES = (1, 16, 64, 256)
# Up to so many, hudsucker is to be no faster.
RATE_AIM_MAX = 64
SIZES = (SMALL, 64 * SMALL, MIB, 16 * MIB)
RULES = (10, 100, 1000, 10_000)
WEBSOCKETS = 1000
KEPT_ALIVE_US, CONNECT_US, FIRST_US = 40, 300, 500
THROUGHPUT_MIN = 0.85
# Two runs of the same differ by so much on a machine that does other things; more than this is a cost.
SAME = 1.1
WEBSOCKETS_MIB, LOADED_MIB = 30, 25


def run(stage, _contenders):
    """Measures everything, by turns."""
    with Ways(stage) as ways:
        print("\n".join(ways.absent), end="\n\n", flush=True)
        requests = stage.asked.requests
        missed = latency(ways, "kept-alive request of 1 KiB", KEPT_ALIVE_US, requests, "kept-alive", SMALL)
        missed += latency(ways, "new connection to a known host", CONNECT_US, CONNECTIONS, "connect")
        missed += latency(ways, "first visit to a host", FIRST_US, CONNECTIONS, "first")
        missed += rates(ways, requests)
        missed += throughput(ways, stage.asked.bytes)
        growing_bodies(ways, requests)
        missed += rules(ways, requests)
        return missed + memory(ways, requests)


def rounds(ways, what, amounts):
    """The median figures of each way, which take turns."""
    found = {way.name: [] for way in ways}
    for _ in range(ROUNDS):
        for way in ways:
            found[way.name].append(measured(way, what, *amounts(way)))
    return {name: [median(each) for each in zip(*figures)] for name, figures in found.items()}


def latency(ways, name, most, count, what, *rest):
    """What is added at the median."""
    found = rounds(ways.all, what, lambda way: (count // way.share, *rest))
    straight = found["straight"][0]
    rows = [(way, f"{p50:.0f}", f"{p99:.0f}", "" if way == "straight" else f"{p50 - straight:.0f}",
             f"{p50 / straight:.2f}") for way, (p50, p99) in found.items()]
    table(name, ("in µs", "median", "p99", "added", "of straight"), rows)
    added = found["omni"][0] - straight
    return aim(f"a {name} is {added:.0f} µs later (aim: {most} at most)", added <= most)


def rates(ways, count):
    """Requests a second at some connections."""
    rows, missed = [], []
    for connections in RATES:
        amounts = lambda way, n=connections: (n, max(count // way.share, n))  # noqa: E731
        found = rounds(ways.all, "rate", amounts)
        rows.append((connections, *(f"{found[way.name][0]:.0f}" for way in ways.all)))
        if HUDSUCKER in found and connections <= RATE_AIM_MAX:
            ratio = found["omni"][0] / found[HUDSUCKER][0]
            missed += aim(f"with {connections} connections {ratio:.2f} of hudsucker's requests a second (aim: 1)",
                          ratio >= 1)
    table("Requests a second", ("connections", *(way.name for way in ways.all)), rows)
    return missed


def throughput(ways, size):
    """MiB a second of one long body."""
    rows, missed = [], []
    for what in ("download", "upload"):
        found = rounds(ways.all, what, lambda way: (size // way.share,))
        rows.append((what, *(f"{found[way.name][0]:.0f}" for way in ways.all)))
        ratio, of_relay = (found["omni"][0] / found[name][0] for name in ("straight", RELAY))
        missed += aim(f"{what} at {ratio:.0%} of straight (aim: {THROUGHPUT_MIN:.0%}), {of_relay:.0%} of the relay",
                      ratio >= THROUGHPUT_MIN)
    table(f"MiB a second of {size // MIB} MiB", ("", *(way.name for way in ways.all)), rows)
    return missed


def growing_bodies(ways, count):
    """What is added to answers that grow."""
    few = [way for way in ways.all if way.share == 1]
    rows = []
    for size in SIZES:
        found = rounds(few, "kept-alive", lambda _, n=size: (max(count * SMALL // n, 10), n))
        rows.append((f"{size // SMALL} KiB", *(f"{found[way.name][0]:.0f}" for way in few)))
    table("Median of a kept-alive request, by the size of its answer", ("in µs", *(way.name for way in few)), rows)


def rules(ways, count):
    """What ten thousand rules cost beside ten."""
    ruled = []
    for number in RULES:
        file = ways.stage.place / f"rules-{number}.yaml"
        allowed = [f"* {NAME}/**", *(f"GET h{n}.other.example/**" for n in range(number - 1))]
        file.write_text("name: ruled\ncommand: load\ndescription: many rules\negress:\n" +
                        "".join(f"  - allow: '{rule}'\n" for rule in allowed))
        way = ways.omni("--profile", str(file))
        way.name = f"{number} rules"
        ruled.append(way)
    found = rounds(ruled, "kept-alive", lambda _: (count, SMALL))
    table("Rules", ("in µs", "median", "p99"), [(name, *map(round, figures)) for name, figures in found.items()])
    few, *_, many = (found[way.name][0] for way in ruled)
    return aim(f"{RULES[-1]} rules take {many / few:.2f} of {RULES[0]} (aim: no more, within {SAME})", many <= few * SAME)


def memory(ways, count):
    """What the proxy's process takes after a load, and with idle WebSockets."""
    omni = ways.find("omni")
    load = f"{omni.before[-1]} rate {' '.join(map(repr, omni.after))} {RATE_AIM_MAX} {count} >/dev/null"
    loaded = looked_at(omni, ["sh", "-c", f"{load}; echo x; exec cat"])
    rows, missed = [("after a load", f"{loaded:.1f}")], []
    missed += aim(f"the proxy takes {loaded:.1f} MiB after a load (aim: {LOADED_MIB})", loaded <= LOADED_MIB)
    try:
        idle = looked_at(omni, omni.argv("idle", WEBSOCKETS)[len(omni.before) - 1:])
        rows.append((f"with {WEBSOCKETS} idle WebSockets", f"{idle:.1f}"))
        missed += aim(f"{WEBSOCKETS} idle WebSockets take {idle:.1f} MiB (aim: {WEBSOCKETS_MIB})",
                      idle <= WEBSOCKETS_MIB)
    except RuntimeError as error:
        missed += aim(f"{WEBSOCKETS} idle WebSockets: {error}", False)
    table("Memory of the proxy's process, resident", ("in MiB", ""), rows)
    return missed


def looked_at(omni, harness):
    """Resident MiB of the proxy once the harness has said that it is ready."""
    argv = [*omni.before[:-1], *map(str, harness)]
    with subprocess.Popen(argv, env=omni.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
        if not session.stdout.readline():
            raise RuntimeError("the session ended before it was ready")
        # What was handed back to the allocator is handed back to the kernel after a second.
        time.sleep(3)
        found = max(sizes_of(pid)["Rss"] for pid in children(session.pid))
        session.stdin.close()
    return found / KIB


def children(pid):
    """Of the session's own processes, all but the one that supervises: the proxy is the largest of them."""
    return [each for each in tree(pid) if each != pid and exe(each) == exe(pid)]


def exe(pid):
    """The file that a process executes."""
    try:
        return os.stat(f"/proc/{pid}/exe").st_ino
    except OSError:
        return None
