"""Many sessions side by side: how long the start of each takes while all before it stay up."""

import os
import pathlib
import selectors
import signal
import time

from measure import median, quantile, spawn
from memory import HARNESS, IDLE, KIB, SETTLE_SECONDS, command_of, sizes_of, tree
from report import aim, table

START_P99_MS_MAX = 250
# How long the last processes of ended sessions may take to go.
GONE_SECONDS_MAX = 10


class Crowd:
    """Idle sessions, each in a workspace of its own."""

    def __init__(self, stage):
        self.stage = stage
        self.looks = selectors.DefaultSelector()
        self.pids, self.times, self.pipes = [], [], []

    def add(self):
        """Starts one more."""
        workspace = self.stage.place / "crowd" / str(len(self.pids))
        workspace.mkdir(parents=True, exist_ok=True)
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        argv = [*self.stage.session("--workspace", str(workspace)), *IDLE]
        self.looks.register(reader, selectors.EVENT_READ, time.perf_counter())
        self.pids.append(spawn(argv, self.stage.environment, writer))
        self.pipes.append(reader)
        os.close(writer)

    def take(self):
        """Waits for first bytes of those that are starting."""
        for key, _ in self.looks.select():
            now = time.perf_counter()
            if not os.read(key.fd, 1):
                raise RuntimeError("a session ended before its harness spoke")
            self.looks.unregister(key.fd)
            self.times.append((now - key.data) * 1000)

    def starting(self):
        """How many have not spoken yet."""
        return len(self.looks.get_map())

    def alive(self):
        """How many are up."""
        return sum(os.waitpid(pid, os.WNOHANG) == (0, 0) for pid in self.pids)

    def disperse(self):
        """Ends all, by a signal that a session cannot answer to, and says what is left."""
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            os.waitpid(pid, 0)
        for pipe in self.pipes:
            os.close(pipe)
        until = time.monotonic() + GONE_SECONDS_MAX
        while (left := processes_of(self.stage.omni)) and time.monotonic() < until:
            time.sleep(0.05)
        return left


def run(stage, _contenders):
    """As fast as every core takes one at a time, then all at once."""
    count, missed, rows = stage.asked.sessions, [], []
    for name, at_once in ((f"{os.cpu_count()} starting at a time", os.cpu_count()), ("all at once", count)):
        crowd = Crowd(stage)
        before = time.perf_counter()
        while len(crowd.times) < count:
            while crowd.starting() < at_once and len(crowd.pids) < count:
                crowd.add()
            crowd.take()
        took = time.perf_counter() - before
        times, alive = crowd.times, crowd.alive()
        memory = f"{size_of(crowd.pids):.1f}" if os.geteuid() == 0 else "-"
        left = crowd.disperse()
        rows.append((name, f"{median(times):.1f}", f"{quantile(times, 0.95):.1f}", f"{quantile(times, 0.99):.1f}",
                     f"{max(times):.1f}", f"{took:.1f}", alive, memory, left))
        if at_once < count:
            text = f"{alive} sessions side by side, start-up p99 {quantile(times, 0.99):.0f} ms (aim: {START_P99_MS_MAX})"
            met = alive == count and quantile(times, 0.99) < START_P99_MS_MAX
            verdict = (text, met)
        if left:
            missed.append(f"{left} processes are left of {count} sessions")
    columns = ("first byte, in ms", "median", "p95", "p99", "longest", "all, in s", "up", "MiB each", "left")
    table(f"{count} sessions side by side", columns, rows)
    return missed + aim(*verdict)


def size_of(pids):
    """Mean of what a session takes, in MiB."""
    time.sleep(SETTLE_SECONDS)
    below = [each for pid in pids for each in tree(pid) if command_of(each) != HARNESS]
    return sum(sizes_of(pid)["Pss"] for pid in below) / KIB / len(pids)


def processes_of(program):
    """How many processes run this file."""
    count = 0
    for link in pathlib.Path("/proc").glob("[0-9]*/exe"):
        try:
            count += os.readlink(link) == str(program)
        except OSError:
            continue
    return count
