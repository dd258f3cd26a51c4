"""Start-up: from the start of the command to the harness's first byte, and to the command's end."""

from measure import Program, alternate, median, quantile
from report import aim, table

# What a start may take, in times what bubblewrap's takes, and how many times srt's has to be of it.
BUBBLEWRAP_TIMES_MAX = 2
SRT_TIMES_MIN = 50


def run(stage, contenders):
    """Measures both, and what each adds to the plain program."""
    ended = started(stage, contenders, "true")
    spoken = started(stage, contenders, "echo")
    plain, first = median(ended[0].done), median(spoken[0].first)
    rows = [
        (
            late.name,
            f"{median(late.done):.2f}", f"{quantile(late.done, 0.95):.2f}", f"{quantile(late.done, 0.99):.2f}",
            f"{median(late.done) - plain:.2f}",
            f"{median(soon.first):.2f}", f"{quantile(soon.first, 0.95):.2f}", f"{median(soon.first) - first:.2f}",
            len(late.done),
        )
        for late, soon in zip(ended, spoken)
    ]
    columns = ("`true`, in ms", "median", "p95", "p99", "added", "first byte", "p95", "added", "starts")
    table("Start-up", columns, rows)
    return aims(ended)


def started(stage, contenders, program):
    """The times of a program in each sandbox, and outside first."""
    programs = [
        Program("plain", [program], stage.environment),
        Program("omni exec", [*stage.session(), program], stage.environment),
    ]
    here = [peer for peer in contenders if peer.command]
    programs += [Program(peer.name, [*peer.command, program], peer.environment, peer.every) for peer in here]
    if program == "echo":
        for each in programs:
            each.argv.append("x")
    alternate(programs, stage.asked.turns)
    return programs


def aims(programs):
    """The ratios of what the sandboxes add."""
    plain, ours, *others = programs
    added = lambda program: median(program.done) - median(plain.done)  # noqa: E731
    missed = []
    for other in others:
        ratio = added(ours) / added(other)
        if other.name.startswith("bubblewrap"):
            text = f"omni adds {ratio:.2f} times what {other.name} adds (aim: {BUBBLEWRAP_TIMES_MAX} at most)"
            missed += aim(text, ratio <= BUBBLEWRAP_TIMES_MAX)
        elif other.name == "srt":
            text = f"srt adds {1 / ratio:.1f} times what omni adds (aim: {SRT_TIMES_MIN} at least)"
            missed += aim(text, 1 / ratio >= SRT_TIMES_MIN)
        else:
            print(f"omni adds {ratio:.2f} times what {other.name} adds\n")
    return missed
