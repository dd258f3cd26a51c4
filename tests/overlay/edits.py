"""Edits a directory at random, the same for the same seed: edits.py SEED COUNT, in the directory itself."""
import errno, os, random, shutil, sys
seed, count = int(sys.argv[1]), int(sys.argv[2])
dice = random.Random(seed)
NAMES = ["a", "b", "c", "d", "e", "F", "long name", "ü", "k.txt"]
def all_of(kind):
    found = []
    for place, directories, files in os.walk("."):
        directories.sort()
        for name in sorted(directories if kind == "directory" else files):
            path = os.path.join(place, name)
            if os.path.islink(path) == (kind == "link"):
                found.append(path)
    return sorted(found)
def new():
    return os.path.join(dice.choice(all_of("directory") + ["."]), dice.choice(NAMES))
def old(kind):
    found = all_of(kind)
    return dice.choice(found) if found else None
def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
def move(source, target):
    remove(target)
    try:
        os.rename(source, target)
    except OSError as error:
        # An overlay does not rename a directory that lies below it; programs then copy.
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(source, target, symlinks=True)
        shutil.rmtree(source)
def write(path):
    if os.path.islink(path) or os.path.isdir(path):
        remove(path)
    with open(path, "wb") as file:
        file.write(dice.randbytes(dice.choice([0, 3, 5000])))
def edit():
    what = dice.randrange(12)
    path = new()
    file, directory = old("file"), old("directory")
    if what <= 2:
        write(path)
    elif what == 3 and file:
        with open(file, "ab") as opened:
            opened.write(b"more\n")
    elif what == 4 and file:
        os.unlink(file)
    elif what == 5:
        remove(path)
        os.mkdir(path)
    elif what == 6 and directory:
        shutil.rmtree(directory)
    elif what == 7 and file and file != path:
        move(file, path)
    elif what == 8 and directory and not path.startswith(directory + "/") and not directory.startswith(path):
        move(directory, path)
    elif what == 9:
        remove(path)
        os.symlink(dice.choice(["a", "../b", "/nowhere", "c/d"]), path)
    elif what == 10 and file:
        os.chmod(file, dice.choice([0o600, 0o755, 0o444, 0o640]))
    elif what == 11 and file and not os.path.lexists(path):
        os.link(file, path)
        with open(path, "ab") as opened:
            opened.write(b"both\n")
os.umask(0o022)
for _ in range(count):
    try:
        edit()
    except PermissionError:
        pass  # A file whose bits forbid writing forbids it everywhere.
