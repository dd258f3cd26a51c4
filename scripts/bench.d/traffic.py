"""Requests through the proxy beside the same requests straight to the server."""

import subprocess

from measure import median
from report import table

ROUNDS = 5
CONNECTIONS = 200
NAME = "bench.example"


def run(stage, _contenders):
    """Measures both, by turns."""
    load, authority = stage.load(), stage.place / "ca.pem"
    with subprocess.Popen([load, "serve", authority], stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip()
        direct = lambda *words: [load, words[0], f"127.0.0.1:{port}", authority, *words[1:]]  # noqa: E731
        options = ["--allow", f"GET {NAME}/**", "--connect-to", f"{NAME}:443:127.0.0.1:{port}",
                   "--upstream-ca", str(authority), "--mount", f"{load}:/tmp/load:ro"]
        inside = lambda *words: [*stage.session(*options), "/tmp/load", words[0], f"{NAME}:443",  # noqa: E731
                                 "/run/omni/ca.pem", *words[1:]]
        rows = []
        for name, words in (("kept-alive request of 1 KiB", ("load", str(stage.asked.requests))),
                            ("new connection for each", ("connect", str(CONNECTIONS)))):
            rounds = [(measured(stage, direct(*words)), measured(stage, inside(*words))) for _ in range(ROUNDS)]
            (straight, straight99), (through, through99) = (
                [median([each[way][n] for each in rounds]) for n in range(2)] for way in range(2))
            rows.append((name, straight, straight99, through, through99, through - straight, words[1]))
        server.terminate()
    columns = ("in µs", "straight", "p99", "through the proxy", "p99", "added", f"requests in each of {ROUNDS} rounds")
    table("Requests", columns, rows)
    return []


def measured(stage, argv):
    """The median and the 99th percentile that the client prints."""
    output = subprocess.run(argv, env=stage.environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    return [int(word) for word in output.split()]
