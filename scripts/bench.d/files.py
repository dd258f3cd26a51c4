"""File-heavy work inside a session, in a workspace that it changes directly, beside the same work outside."""

import json
import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass

import sources
from measure import median, ratio_of_medians
from report import aim, table

# What an aim holds for may take so many times as long inside.
RATIO_MAX = 1.03
# Before all that is scheduled as usual. A write inside wakes process 1 on the core that it comes from, as no process with
# a real-time priority is woken: there it takes twice as long as for a harness that anybody runs.
NICE = -20
CHANGED = "changed"


@dataclass
class Job:
    """Work that is done by turns outside and inside."""

    name: str
    prepare: list
    run: list
    turns: int
    aimed: bool = False


class Worker:
    """A process that runs commands in a copy of the sources and takes their times."""

    def __init__(self, place, before, environment):
        command = [*before, "python3", ".bench/worker.py"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=place, env=environment, text=True, **pipes)

    def time_of(self, job):
        """Milliseconds of one run."""
        self.process.stdin.write(json.dumps({"prepare": job.prepare, "run": job.run}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{job.name}: the worker ended with {self.process.wait()}")
        return float(answer)

    def end(self):
        """Lets it end."""
        self.process.stdin.close()
        if self.process.wait():
            raise RuntimeError("a worker failed at its end")


def jobs():
    """What is done. Making ready for a run is not counted."""
    shell = lambda text: ["sh", "-c", text]  # noqa: E731
    touch = shell("for n in $(seq 100); do echo $$ > 000/new$n; done; git add 000")
    return [
        Job("`git status`", [], ["git", "status", "--porcelain"], 60, aimed=True),
        Job(f"`make -j2`, a C program of {sources.C_FILES} files", [shell("cd c && make -s clean")],
            shell("cd c && make -s -j2"), 40, aimed=True),
        Job("`git commit` of 100 files", [touch], ["git", "commit", "-q", "-m", "more"], 20),
        Job("`git checkout`, 2,000 files", [["git", "checkout", "-q", "main"]], ["git", "checkout", "-q", CHANGED], 8),
        Job("`tar -x`, 2,000 files", [["rm", "-rf", ".bench/out"], ["mkdir", ".bench/out"]],
            ["tar", "-xf", ".bench/some.tar", "-C", ".bench/out"], 8),
        Job("`cp -r`, 2,000 files", [["rm", "-rf", ".bench/copy"]], ["cp", "-r", ".bench/out", ".bench/copy"], 8),
        Job("`rm -r`, 2,000 files", [["rm", "-rf", ".bench/copy"], ["cp", "-r", ".bench/out", ".bench/copy"]],
            ["rm", "-r", ".bench/copy"], 8),
    ]


def run(stage, _contenders):
    """Measures all jobs, for the ordinary scheduler."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    if os.geteuid() == 0:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    try:
        return measured(stage)
    finally:
        if os.geteuid() == 0:
            os.setpriority(os.PRIO_PROCESS, 0, 0)
            os.sched_setscheduler(0, *before)


def measured(stage):
    """Measures all jobs."""
    outside, inside = sources.copies(stage, CHANGED)
    for place in (outside, inside):
        (place / ".bench" / "worker.py").write_bytes(pathlib.Path(__file__).with_name("worker.py").read_bytes())
    workers = [Worker(outside, [], stage.environment), Worker(inside, stage.session(), stage.environment)]
    rows, missed = [], []
    for job in jobs():
        if (stage.asked.jobs or "") not in job.name:
            continue
        print(f"bench: {job.name}", file=sys.stderr, flush=True)
        times = [[], []]
        for turn in range(-1, job.turns):
            for worker, into in zip(workers, times):
                took = worker.time_of(job)
                # The first run brings what it reads into memory.
                into.extend([took] if turn >= 0 else [])
        ratio, low, high = ratio_of_medians(times[1], times[0])
        rows.append((job.name, f"{median(times[0]):.1f}", f"{median(times[1]):.1f}", f"{ratio:.3f}",
                     f"{low:.3f} to {high:.3f}", job.turns))
        if job.aimed:
            missed.append((f"{job.name} takes {ratio:.3f} times as long inside (aim: {RATIO_MAX})", ratio <= RATIO_MAX))
    for worker in workers:
        worker.end()
    columns = (f"{stage.asked.files:,} files, in ms", "outside", "inside", "ratio", "19 of 20 times", "runs")
    table("File-heavy work", columns, rows)
    return [text for pair in missed for text in aim(*pair)]
