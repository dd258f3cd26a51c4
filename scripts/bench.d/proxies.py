"""The ways to the benchmark's server: straight, through omni, and through other proxies of its kind."""

import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from peers import CACHE

NAME = "bench.example"
MITMPROXY = "mitmproxy==11.0.2"
# What the egress proxy of the system that we follow wants at least.
OMNIGENT_PYTHON = (3, 12)
HUDSUCKER = "hudsucker"
RELAY = "relay"
START_SECONDS_MAX = 60


@dataclass
class Way:
    """How the client reaches the server."""

    name: str
    # What stands before the measurement's name, and what between that and its amounts.
    before: list
    after: list
    # What is too slow to do all the work of the others does one in so many.
    share: int = 1
    environment: dict = field(default_factory=dict)

    def argv(self, what, *amounts):
        """The command line of one measurement."""
        return [*self.before, what, *self.after, *map(str, amounts)]


class Ways(ExitStack):
    """The server and every proxy that can be run, for as long as the context lasts."""

    def __init__(self, stage):
        super().__init__()
        self.stage, self.load = stage, stage.load()
        self.server_ca = stage.place / "server.pem"
        self.port = self.served([self.load, "serve", self.server_ca])
        self.all = [self.straight(), self.relay(), self.omni()]
        self.absent = ["Omnigent's egress proxy: not run: it wants Python "
                       f"{'.'.join(map(str, OMNIGENT_PYTHON))}, and this is {sys.version.split()[0]}"]
        if not stage.asked.no_peers:
            self.add_peers()

    def add_peers(self):
        """Those that can be built or installed here."""
        for name, make in ((HUDSUCKER, self.hudsucker), ("mitmproxy", self.mitmproxy)):
            try:
                self.all.append(make())
            except (OSError, subprocess.CalledProcessError) as error:
                self.absent.append(f"{name}: not run: {error}")

    def served(self, argv):
        """Starts what serves until the end, and gives the port that it prints."""
        process = self.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
        self.callback(process.terminate)
        return process.stdout.readline().strip()

    def straight(self):
        """No proxy."""
        return Way("straight", [self.load], [f"127.0.0.1:{self.port}", "-", str(self.server_ca)])

    def relay(self):
        """The least that a proxy does which ends TLS, on one thread: it copies what passes, and has no kept connections."""
        authority = self.stage.place / "relay.pem"
        port = self.served([self.load, "relay", f"127.0.0.1:{self.port}", self.server_ca, authority])
        return Way(RELAY, [self.load], ["*", f"127.0.0.1:{port}", str(authority)])

    def omni(self, *options):
        """A session, in which connections are caught."""
        allow = ["--allow", f"* {NAME}/**", "--allow", f"* *.{NAME}/**"]
        rest = ["--connect-to", f"::127.0.0.1:{self.port}", "--upstream-ca", str(self.server_ca),
                "--mount", f"{self.load}:ro"]
        session = self.stage.session(*allow, *rest, *options)
        return Way("omni", [*session, str(self.load)], ["*", "-", "/run/omni/ca.pem"],
                   environment=self.stage.environment)

    def hudsucker(self):
        """hudsucker, changing nothing, on as many threads as there are cores."""
        program = self.stage.asked.peer or self.stage.built("--bin", "omni-bench-peer", "benches/peer")
        authority = self.stage.place / "hudsucker.pem"
        port = self.served([program, self.port, self.server_ca, authority])
        return Way(HUDSUCKER, [self.load], ["*", f"127.0.0.1:{port}", str(authority)])

    def mitmproxy(self):
        """mitmproxy, changing nothing, with long bodies streamed."""
        place = CACHE / "mitmproxy"
        if not (place / "bin" / "mitmdump").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
            subprocess.run([place / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", MITMPROXY],
                           check=True, stdout=subprocess.DEVNULL)
        home = self.stage.place / "mitmproxy"
        options = {"confdir": home, "ssl_verify_upstream_trusted_ca": self.server_ca, "http2": "false",
                   "stream_large_bodies": "1m", "connection_strategy": "lazy", "termlog_verbosity": "info",
                   "flow_detail": "0"}
        settings = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
        argv = [place / "bin" / "mitmdump", "--listen-host", "127.0.0.1", "--listen-port", "0", *settings]
        # What it says of connections must go somewhere, or it waits for a reader.
        told = self.stage.place / "mitmproxy.log"
        with open(told, "w", encoding="utf-8") as log:
            process = self.enter_context(subprocess.Popen(argv, stdout=log, env=dict(os.environ, PYTHONUNBUFFERED="1")))
        self.callback(process.terminate)
        port = listening(told, process)
        return Way("mitmproxy", [self.load],
                   [f"127.0.0.1:{self.port}", f"127.0.0.1:{port}", str(home / "mitmproxy-ca-cert.pem")], share=20)

    def find(self, name):
        """The way of a name, if it is there."""
        return next((way for way in self.all if way.name == name), None)


def listening(told, process):
    """The port that a program says it listens at, once it does."""
    for _ in range(START_SECONDS_MAX * 10):
        found = re.search(r"listening at .*:(\d+)", told.read_text(encoding="utf-8"))
        if found:
            return found.group(1)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise OSError(f"it does not listen: {told.read_text(encoding='utf-8')}")


def measured(way, what, *amounts):
    """The figures that the client prints."""
    output = subprocess.run(list(map(str, way.argv(what, *amounts))), env=way.environment or None,
                            stdout=subprocess.PIPE, check=True, text=True).stdout
    return [float(word) for word in output.split()]

