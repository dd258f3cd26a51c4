import ctypes, errno, json, os, signal, socket, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def name(number):
    return errno.errorcode.get(number, str(number))
def call(number, *arguments):
    """A system call's outcome: "ok" or the error's name."""
    ctypes.set_errno(0)
    values = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *values)
    return name(ctypes.get_errno()) if result == -1 else "ok"
def attempt(action):
    """What an action came to: "ok" or the error's name."""
    try:
        action()
    except OSError as error:
        return name(error.errno) if error.errno else type(error).__name__
    return "ok"
def in_child(action):
    """How a child that did it ended: "exit N", or "signal N"."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
def say(value):
    print(json.dumps(value), flush=True)
arguments = sys.argv[1:]
