"""System calls of the command and the driver: counted, failed, killed at, recorded (calls.c)."""
import errno
import fcntl
import json
import mmap
import os
import re
import struct
import subprocess

from conftest import BUILD, HERE

LIBRARY = BUILD / "tests/crash/calls.so"
KILL, KILL_AFTER = 0, -1
ALWAYS = 1 << 60
DELAY = 1000                     # and milliseconds: the call takes so long, and goes well
# Whoever looks at what a dead driver left wants none that takes over.
ALONE = ("-o", "restart=off")
CONTROL = struct.Struct("<QQQiI16s200s")
ENTRY = struct.Struct("<8sQQQIIII")


def points():
    """The steps core/base/crash.h names: {text: whether the driver's}."""
    text = (HERE.parent / "core/base/crash.h").read_text()
    found = [(m.start(), m.group(1)) for m in re.finditer(r'X\([A-Z_]+, "([a-z-]+)"\)', text)]
    assert len(found) > 20
    driver = text.index("/* the driver */")
    return {name: at > driver for at, name in found}


def runtime():
    """What has to be loaded before anything else: a sanitizer's library, in its builds."""
    libraries = subprocess.run(["ldd", BUILD / "bin/firnfs"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"/\S*/lib[at]san\.so\S*", libraries)


class Calls:
    """What calls.c shares with us; `env` is for the processes that are to be watched."""

    def __init__(self, home, root, record=False):
        assert LIBRARY.exists(), f"{LIBRARY} is not built: make programs"
        home.mkdir(parents=True, exist_ok=True)
        control = home / "control"
        control.write_bytes(bytes(CONTROL.size))
        self.file = open(control, "r+b")
        self.map = mmap.mmap(self.file.fileno(), CONTROL.size)
        self.log = home / "log" if record else None
        self.env = {"LD_PRELOAD": ":".join([*runtime(), str(LIBRARY)]), "FIRN_CALLS_CONTROL": str(control), "FIRN_CALLS_ROOT": str(root)}
        if record:
            self.log.write_bytes(b"")
            self.env["FIRN_CALLS_LOG"] = str(self.log)

    def arm(self, at, times, how):
        """From now on, fail `times` calls from the `at`-th on with errno `how`, or die, or wait."""
        CONTROL.pack_into(self.map, 0, 0, at, times, how, 0, b"", b"")

    def disarm(self):
        """How many calls failed, what the last one was, and its path."""
        count, _, _, _, failed, what, path = CONTROL.unpack_from(self.map)
        self.arm(0, 0, 0)
        self.count = count
        return failed, what.rstrip(b"\0").decode(), path.partition(b"\0")[0].decode()

    def mark(self, name, text=""):
        """Something the test did, in its place in the log."""
        name, text = name.encode(), text.encode()
        with open(self.log, "ab", buffering=0) as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            f.write(ENTRY.pack(b"MARK", 0, 0, 0, len(name), len(text), 0, 0) + name + text)

    def entries(self):
        data, at = self.log.read_bytes(), 0
        while at < len(data):
            what, ino, offset, length, n1, n2, n3, _ = ENTRY.unpack_from(data, at)
            at += ENTRY.size
            parts = []
            for n in (n1, n2, n3):
                parts.append(data[at:at + n])
                at += n
            what = what.rstrip(b"\0").decode()
            # What a hole is punched into are zeros.
            yield what, ino, offset, length, parts[0].decode(), parts[1].decode(), bytes(length) if what == "punch" else parts[2]


class Committing:
    """A commit of a mount in slow motion."""

    def __init__(self, m):
        self.m, self.fd = m, os.open(m.path / ".firn/ctl", os.O_RDWR)

    def ask(self, **request):
        os.write(self.fd, json.dumps(request).encode())
        reply = json.loads(os.pread(self.fd, 1 << 20, 0))
        assert reply["ok"], reply
        return reply


def say(errnum):
    return os.strerror(errnum).lower()


ERRORS = [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT]
