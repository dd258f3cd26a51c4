import json, os, signal, socket, ctypes
libc = ctypes.CDLL(None, use_errno=True)
def attempt(action):
    try:
        return action() or "ok"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else type(error).__name__
def system_call(number, *arguments):
    ctypes.set_errno(0)
    values = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return "ok" if libc.syscall(ctypes.c_long(number), *values) != -1 else os.strerror(ctypes.get_errno())
status = dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
def mount(line):
    fields = line.split(" - ")
    left, right = fields[0].split(), fields[1].split()
    return [left[4], left[5], " ".join(left[6:]).split(":")[0], right[0]]
def ask():
    with socket.create_connection(("203.0.113.9", 80), 20) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: 203.0.113.9\r\n\r\n")
        return s.recv(12).decode()
def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(20); s.connect(("203.0.113.9", 443)); s.send(b"x"); s.recv(1)
host = json.load(open("host.json"))
def processes_at_once():
    children = []
    try:
        while len(children) < 60:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    except OSError:
        pass
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return len(children)
print(json.dumps(dict(
    status={name: status[name] for name in ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "SigBlk", "SigIgn")},
    mounts=sorted(mount(line) for line in open("/proc/self/mountinfo")),
    namespaces={kind: os.readlink("/proc/self/ns/" + kind) != link for kind, link in sorted(host["namespaces"].items())},
    processes=sorted(int(pid) for pid in os.listdir("/proc") if pid.isdigit()),
    descriptors=sorted(os.listdir("/proc/self/fd")),
    first=[attempt(lambda: os.kill(1, 0)), attempt(lambda: open("/proc/1/environ").read(1)), open("/proc/1/cmdline").read()],
    hidden=[attempt(lambda: open(os.path.expanduser(path)).read()) for path in ("~/.agent/key", "~/.agent/deep/key", "~/.ssh/id_ed25519")],
    read_only=[attempt(lambda: open(os.path.expanduser(path), "a").close()) for path in ("~/.agent/look", "/etc/hosts", "/usr/x", "/x")],
    writable=[attempt(lambda: open(os.path.expanduser(path), "a").close()) for path in ("~/.agent/own", "own", "/tmp/own")],
    calls=[system_call(165, b"none", b"/tmp", b"tmpfs", 0, None), system_call(425, 4, None), system_call(272, 0x10000000), system_call(321, 99, None, 0),
        system_call(41, 40, 1, 0)],
    network=[attempt(ask), attempt(datagram), attempt(lambda: socket.create_connection(("127.0.0.1", host["port"]), 5).close()),
        sorted(name for _, name in socket.if_nameindex())],
    hosts=open("/etc/hosts").read(), resolver=open("/etc/resolv.conf").read(), hostname=os.uname().nodename,
    certificates="BEGIN" in open("/run/omni/ca.pem").read(),
    at_once=processes_at_once(), devices=sorted(os.listdir("/dev")), environment=sorted(os.environ), directory=os.getcwd(), core=open("/proc/self/limits").read(),
)))
