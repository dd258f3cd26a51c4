"""Recording, folding, asking and proving, and how each grows with the ledger."""

import re
import shutil
import subprocess

from report import aim, table

APPEND_US, FSYNC_RATE, FSYNC_P99_MS, FOLD_RATE = 5, 5_000, 20, 20_000
OPEN_MS, ASK_MS, PROOF_MS, VERIFY_RATE, REQUEST_BYTES = 100, 1_000, 5, 500_000, 600
# Microseconds of the units in which Rust writes durations.
UNITS = {"ns": 1e-3, "µs": 1, "ms": 1e3, "s": 1e6}


def run(stage, _contenders):
    """Measures everything once; each figure is a median of many by itself."""
    program = stage.asked.ledger or stage.built("--bench", "ledger")
    missed = recording(program)
    return missed + growing(program, stage.place, sizes(stage.asked.entries))


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


def sizes(text):
    """The sizes that were asked for."""
    return [int(part) for part in text.replace("_", "").split(",")]


def found(text, *patterns):
    """Durations out of a text, in milliseconds."""
    return [microseconds(text, pattern) / 1000 for pattern in patterns]


def growing(program, place, wanted):
    """The same at several sizes, each in a directory that is gone before the next."""
    rows, missed = [], []
    for size in wanted:
        home = place / f"ledger-{size}"
        made = said(program, "make", home, size)
        plain = said(program, "plain", home)
        asked, verified = said(program, "ask", home), said(program, "verify", home)
        taken = sum(part.stat().st_blocks * 512 for part in home.rglob("*"))
        shutil.rmtree(home)
        print(f"```\n{size} events, {taken / 1e6:.0f} MB on the disk\n{made}{plain}{asked}{verified}```\n", flush=True)
        opened, whole, proof = found(asked, "open: median", "open, with a look at every session: median", "proof: median")
        questions = [line for line in asked.splitlines() if ", first " in line]
        slowest = max(microseconds(line, "first") for line in questions) / 1000
        (scanned,) = found(plain, "first")
        own_bytes = sum(int(each) for each in re.findall(r"(?:journals|database|ledger) ([0-9]+)", asked))
        plain_bytes = int(re.search(r"plain rows ([0-9]+)", plain).group(1))
        own, peer, check = rate(made), rate(plain), rate(verified)
        rows.append((f"{size:,}", f"{own:,.0f}", f"{peer:,.0f}", f"{opened:.1f}", f"{whole:.1f}", f"{slowest:.1f}", f"{scanned:.0f}", f"{proof:.2f}", f"{check:,.0f}", own_bytes, plain_bytes))
        missed += aim(f"{own:,.0f} events a second are folded (aim: {FOLD_RATE:,})", own >= FOLD_RATE)
        missed += aim(f"it is open in {opened:.1f} ms (aim: {OPEN_MS})", opened <= OPEN_MS)
        missed += aim(f"with a look at every session, in {whole:.1f} ms (aim: {OPEN_MS})", whole <= OPEN_MS)
        missed += aim(f"the slowest of {len(questions)} questions takes {slowest:.0f} ms (aim: {ASK_MS})", slowest <= ASK_MS)
        missed += aim(f"a proof takes {proof:.2f} ms (aim: {PROOF_MS})", proof <= PROOF_MS)
        missed += aim(f"{check:,.0f} entries a second are verified (aim: {VERIFY_RATE:,})", check >= VERIFY_RATE)
        missed += aim(f"a request takes {own_bytes} bytes (aim: {REQUEST_BYTES})", own_bytes <= REQUEST_BYTES)
    columns = ("events", "folded a second", "plain rows a second", "open, ms", "open after a change, ms", "slowest question, ms", "one word in plain rows, ms", "proof, ms", "verified a second", "bytes a request", "in plain rows")
    table("How a ledger grows", columns, rows)
    return missed
