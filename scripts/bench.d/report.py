"""What is printed: Markdown, so that it can be put into docs/performance.md as it is."""

import os
import pathlib
import platform
import subprocess
import time


def heading(stage, contenders):
    """On what this was measured, and what could not be."""
    policy = {os.SCHED_FIFO: "first in, first out", os.SCHED_RR: "round robin"}.get(os.sched_getscheduler(0), "as usual")
    who = "root" if os.geteuid() == 0 else "an ordinary user"
    load = " ".join(f"{share:.1f}" for share in os.getloadavg())
    print(f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, commit {commit(stage)}, as {who}, scheduled {policy}")
    print(f"{processor()}, {os.cpu_count()} cores, load {load}, Linux {platform.release()}")
    for peer in contenders:
        print(f"{peer.name}: {peer.version if peer.command else 'not run: ' + peer.absent}")
    print(flush=True)


def commit(stage):
    """The commit that is checked out, with a mark if something is changed."""
    command = ["git", "-c", "safe.directory=*", "-C", str(stage.root), "describe", "--always", "--dirty"]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return found.stdout.strip() or "unknown"


def processor():
    """The model of the processor."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def table(title, columns, rows):
    """Prints a table."""
    print(f"### {title}\n")
    widths = [max(len(str(row[n])) for row in [columns, *rows]) for n in range(len(columns))]
    cell = lambda n, text: str(text).ljust(widths[n]) if n == 0 else str(text).rjust(widths[n])  # noqa: E731
    line = lambda row: "| " + " | ".join(cell(n, text) for n, text in enumerate(row)) + " |"  # noqa: E731
    print(line(columns))
    print("|" + "|".join("-" * (width + 2) if n == 0 else "-" * (width + 1) + ":" for n, width in enumerate(widths)) + "|")
    for row in rows:
        print(line(row))
    print(flush=True)


def aim(text, met):
    """Prints an aim and whether it is met; gives it back if it is not."""
    print(f"{'met' if met else 'MISSED'}: {text}\n", flush=True)
    return [] if met else [text]
