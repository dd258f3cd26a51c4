"""A repository of many files with a C program in it, made anew for every run."""

import pathlib
import shutil
import subprocess

FILES_IN_DIRECTORY = 50
CHANGED_FILES = 2000
C_FILES = 8
C_HEADERS = 80
C_FUNCTIONS = 20
MAKEFILE = """\
CC = cc
OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))
program: $(OBJECTS)
\t$(CC) -o $@ $^
%.o: %.c
\t$(CC) -O1 -c -o $@ $<
clean:
\trm -f program *.o
"""
FUNCTION = """\
int f{file}_{n}(int x) {{
    char text[64];
    for (int i = 0; i < (x & 15); i++) {{ snprintf(text, sizeof text, "%d %d", x, i); x += strlen(text) * C{n}; }}
    switch (x % 5) {{ case 0: return x + 1; case 1: return x * 3; case 2: return abs(x) / 7; default: return x ^ {n}; }}
}}
"""


def copies(stage, changed):
    """Two copies of the repository: they lie on the disk alike, and neither is changed by work in the other."""
    origin = stage.place / "origin"
    write_files(origin, stage.asked.files)
    write_program(origin / "c")
    (origin / ".gitignore").write_text("/.bench/\n*.o\n/c/program\n")
    git(stage, origin, "init", "-q", "-b", "main")
    settle = (("user.name", "bench"), ("user.email", "bench@bench.example"), ("gc.auto", "0"), ("maintenance.auto", "false"))
    for key, value in settle:
        git(stage, origin, "config", key, value)
    commit(stage, origin, "all")
    git(stage, origin, "checkout", "-q", "-b", changed)
    for number in range(CHANGED_FILES):
        path = path_of(origin, number * (stage.asked.files // CHANGED_FILES or 1))
        path.write_text(path.read_text() + "changed\n")
    commit(stage, origin, "changed")
    git(stage, origin, "checkout", "-q", "main")
    (origin / ".bench").mkdir()
    some = [path_of(pathlib.Path(), number).parent.name for number in range(0, CHANGED_FILES, FILES_IN_DIRECTORY)]
    git(stage, origin, "archive", "-o", ".bench/some.tar", "main", *some)
    subprocess.run(["tar", "-xf", ".bench/some.tar", "-C", ".bench", "--one-top-level=out"], cwd=origin, check=True)
    places = [stage.place / "outside", stage.place / "inside"]
    for place in places:
        subprocess.run(["cp", "-a", origin, place], check=True)
    shutil.rmtree(origin)
    subprocess.run(["sync"], check=True)
    return places


def git(stage, place, *words):
    """Runs git."""
    subprocess.run(["git", "-C", str(place), *words], env=stage.environment, check=True)


def commit(stage, place, message):
    """Commits everything."""
    git(stage, place, "add", "-A")
    git(stage, place, "commit", "-q", "-m", message)


def path_of(origin, number):
    """Where a file lies."""
    return origin / f"{number // FILES_IN_DIRECTORY:03}" / f"file{number:05}.txt"


def write_files(origin, count):
    """Writes small files of different lengths, some fifty to a directory."""
    for number in range(count):
        path = path_of(origin, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"line {number} of a file like many others\n" * (1 + number % 97))


def write_program(place):
    """Writes C files that all include many headers."""
    place.mkdir()
    (place / "Makefile").write_text(MAKEFILE)
    for number in range(C_HEADERS):
        (place / f"h{number}.h").write_text(f"#define C{number} {number}\n")
    includes = "".join(f"#include <{name}.h>\n" for name in ("stdio", "stdlib", "string", "errno", "fcntl", "unistd"))
    includes += "".join(f'#include "h{number}.h"\n' for number in range(C_HEADERS))
    for file in range(C_FILES):
        functions = "".join(FUNCTION.format(file=file, n=n) for n in range(C_FUNCTIONS))
        main = "int main(void) { return 0; }\n" if file == 0 else ""
        (place / f"part{file}.c").write_text(includes + functions + main)
