"""Runs programs and takes their times. A program is started by posix_spawn(3), which costs the same for all."""

import os
import random
import time
from dataclasses import dataclass, field

WARM_UP = 5
# How often the samples are drawn anew to tell how sure a ratio of medians is.
RESAMPLED = 400


@dataclass
class Program:
    """What is started again and again."""

    name: str
    argv: list
    environment: dict
    # It takes part in every so many turns: what takes a second need not do so two hundred times.
    every: int = 1
    first: list = field(default_factory=list)
    done: list = field(default_factory=list)


def spawn(argv, environment, stdout):
    """Starts a program with nothing to read, writing to the descriptor."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, stdout, 1),
    ]
    return os.posix_spawnp(argv[0], argv, environment, file_actions=actions)


def run_once(program):
    """Milliseconds from the start to the first byte of output, if there is any, and to the end."""
    reader, writer = os.pipe()
    before = time.perf_counter()
    pid = spawn(program.argv, program.environment, writer)
    os.close(writer)
    first = time.perf_counter() if os.read(reader, 1) else None
    _, status = os.waitpid(pid, 0)
    after = time.perf_counter()
    os.close(reader)
    if status:
        raise RuntimeError(f"{' '.join(program.argv)} ended with {os.waitstatus_to_exitcode(status)}")
    return (first - before) * 1000 if first else None, (after - before) * 1000


def alternate(programs, turns):
    """Runs them one after the other, over and over, so that what else the machine does hits all alike."""
    for turn in range(-WARM_UP, turns):
        for program in programs:
            if turn % program.every:
                continue
            first, done = run_once(program)
            if turn >= 0:
                program.done.append(done)
                if first is not None:
                    program.first.append(first)


def quantile(samples, share):
    """The sample that so large a share of all lies below."""
    ordered = sorted(samples)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def median(samples):
    """The middle of the samples."""
    ordered = sorted(samples)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def ratio_of_medians(above, below):
    """The ratio, and the range that nineteen of twenty resampled ratios lie in."""
    draw = random.Random(1)
    anew = lambda samples: median(draw.choices(samples, k=len(samples)))  # noqa: E731
    ratios = [anew(above) / anew(below) for _ in range(RESAMPLED)]
    return median(above) / median(below), quantile(ratios, 0.025), quantile(ratios, 0.975)
