"""Recording, folding, asking and proving, and how each grows with the ledger."""

import re
import subprocess

from report import aim, table

SIZES = (10_000, 100_000, 1_000_000)
APPEND_US, FSYNC_RATE, FSYNC_P99_MS, FOLD_RATE = 5, 5_000, 20, 20_000
OPEN_MS, ASK_MS, PROOF_MS, VERIFY_RATE, REQUEST_BYTES = 100, 1_000, 5, 500_000, 600
# Microseconds of the units in which Rust writes durations.
UNITS = {"ns": 1e-3, "µs": 1, "ms": 1e3, "s": 1e6}


def run(stage, _contenders):
    """Measures everything once; each figure is a median of many by itself."""
    program = stage.asked.ledger or stage.built("--bench", "ledger")
    missed = recording(program)
    return missed + growing(program, stage.place)


def said(program, *words):
    """What a measurement printed."""
    command = [str(program), *map(str, words)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def microseconds(text, pattern):
    """A duration out of a text."""
    number, unit = re.search(pattern + r" ([0-9.]+)(ns|µs|ms|s)", text).groups()
    return float(number) * UNITS[unit]


def rate(text):
    """A rate out of a text."""
    return float(re.search(r"([0-9]+)/s", text).group(1))


def recording(program):
    """One fact into a journal, and many that are on the disk when they are recorded."""
    appended, synced = said(program, "append"), said(program, "fsync")
    print(f"```\n{appended}{synced}```\n", flush=True)
    median, p99 = microseconds(appended, "median"), microseconds(synced, "p99") / 1000
    return (
        aim(f"a record takes {median:.1f} µs at the median (aim: {APPEND_US})", median <= APPEND_US)
        + aim(f"50 writers bring {rate(synced):.0f} facts a second to the disk (aim: {FSYNC_RATE})", rate(synced) >= FSYNC_RATE)
        + aim(f"99 of 100 are there in {p99:.1f} ms (aim: {FSYNC_P99_MS})", p99 <= FSYNC_P99_MS)
    )


def growing(program, place):
    """The same at several sizes."""
    rows, missed = [], []
    for size in SIZES:
        folded = said(program, "fold", size)
        home = place / f"ledger-{size}"
        said(program, "make", home, size)
        asked, verified = said(program, "ask", home), said(program, "verify", home)
        print(f"```\n{size} events\n{folded}{asked}{verified}```\n", flush=True)
        own, plain = (rate(line) for line in folded.splitlines()[:2])
        slowest = max(microseconds(line, "first") for line in asked.splitlines() if ", first " in line) / 1000
        opened, proof = (microseconds(asked, f"{what}: median") / 1000 for what in ("open", "proof"))
        bytes_each = sum(int(found) for found in re.findall(r"(?:journals|database|ledger) ([0-9]+)", asked))
        rows.append((f"{size:,}", f"{own:,.0f}", f"{plain:,.0f}", f"{opened:.1f}", f"{slowest:.1f}", f"{proof:.2f}", f"{rate(verified):,.0f}", f"{bytes_each}"))
        missed += aim(f"{own:,.0f} events a second are folded (aim: {FOLD_RATE:,})", own >= FOLD_RATE)
        missed += aim(f"it is open in {opened:.1f} ms (aim: {OPEN_MS})", opened <= OPEN_MS)
        missed += aim(f"the slowest question takes {slowest:.0f} ms (aim: {ASK_MS})", slowest <= ASK_MS)
        missed += aim(f"a proof takes {proof:.2f} ms (aim: {PROOF_MS})", proof <= PROOF_MS)
        missed += aim(f"{rate(verified):,.0f} entries a second are verified (aim: {VERIFY_RATE:,})", rate(verified) >= VERIFY_RATE)
        missed += aim(f"a request takes {bytes_each} bytes (aim: {REQUEST_BYTES})", bytes_each <= REQUEST_BYTES)
    columns = ("events", "folded a second", "plain rows a second", "open, ms", "slowest question, ms", "proof, ms", "verified a second", "bytes for each request")
    table("How a ledger grows", columns, rows)
    return missed
