"""The place of a run: the binary under test, a home, a workspace. Everything is in a temporary directory."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile


class Stage:
    """A temporary directory with a copy of omni in it, whose pages no other session of the machine shares."""

    def __init__(self, root, asked):
        self.root, self.asked = root, asked
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="omni-bench-"))
        self.place.chmod(0o755)
        self.home = self.place / "user"
        self.work = self.place / "work"
        self.omni = self.place / "omni"
        self.environment = dict(os.environ, HOME=str(self.home), OMNI_HOME=str(self.place / "home"), LC_ALL="C")

    def __enter__(self):
        self.home.mkdir()
        self.work.mkdir()
        shutil.copy2(self.asked.omni or self.built("--bin", "omni"), self.omni)
        os.chdir(self.work)
        return self

    def __exit__(self, *_):
        os.chdir("/")
        shutil.rmtree(self.place, ignore_errors=True)

    def built(self, kind, name, package="."):
        """The release build of a target of the package, or of another in the tree."""
        command = ["cargo", "build", "--release", "--locked", kind, name, "--message-format=json-render-diagnostics"]
        output = subprocess.run(command, cwd=self.root / package, stdout=subprocess.PIPE, check=True, text=True).stdout
        messages = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
        # The package's programs are built along with what may run them.
        made = (message["executable"] for message in messages if message.get("executable") and message["target"]["name"] == name)
        return pathlib.Path(next(made))

    def load(self):
        """The program that makes requests and answers them."""
        return self.asked.load or self.built("--bench", "traffic")

    def session(self, *options):
        """The command line of a session, to which the harness's is added."""
        return [str(self.omni), "exec", "-q", *options, "--"]
