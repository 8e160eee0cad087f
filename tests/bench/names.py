"""Names alone: ls and find over chunks, against the same files on the local file system."""
import os
import shutil
import subprocess

import merge
from common import GROUP, array_json, child_main, timed
from harness import HELPERS

FEW, MANY = 200_000, 1_000_000
SIDE = 1_000                # of a nested array: 1,000 directories of 1,000 chunks
COMMANDS = {
    "ls -f": lambda d: ["ls", "-f", d],
    "ls -l": lambda d: ["ls", "-l", d],
    "find -name": lambda d: ["find", d, "-name", "*7"],
    "find -size": lambda d: ["find", d, "-type", "f", "-size", "+0"],
}
KEPT = set(COMMANDS) - {"ls -l"}     # what is faster when the kernel knows the names; attributes that ls asks for are never kept


# ---- processes of their own ----

def child_make(root, n, side):
    """n files of 8 bytes, in one directory or in `side` of them."""
    def fill(d, n):
        os.makedirs(d)
        d = os.open(d, os.O_RDONLY)
        for i in range(n):
            f = os.open(str(i), os.O_WRONLY | os.O_CREAT, dir_fd=d)
            os.write(f, b"%08d" % i)
            os.close(f)
        os.close(d)

    n, side = int(n), int(side)
    seconds, _ = timed(lambda: [fill(f"{root}/{k}", n // side) for k in range(side)] if side else fill(root, n))
    return {"seconds": seconds}


def child_list(used, command, path):
    """The time until the first name, and until the last."""
    argv = COMMANDS[command](path)
    first = names = 0

    def run():
        nonlocal first, names
        p = subprocess.Popen([HELPERS / "peak", used, *argv], stdout=subprocess.PIPE, env=os.environ | {"LC_ALL": "C"})
        started = os.times().elapsed
        while block := os.read(p.stdout.fileno(), 1 << 20):
            first = first or os.times().elapsed - started
            names += block.count(b"\n")
        assert p.wait() == 0

    seconds = timed(run)[0]
    with open(used) as f:
        return {"seconds": seconds, "first": first, "names": names, "mb": int(f.read().split()[0]) / 1024}


# ---- the parts ----

def make(b, name, n, nested, before_commit=None):
    """The same names in a repository and in a plain directory."""
    plain, repo = b.dir / f"{name}-plain", b.dir / name
    shape = (SIDE, n // SIDE) if nested else (n,)
    plain.mkdir()
    b.firn("init", repo)
    m = b.mount("n", repo)
    (m / "main/zarr.json").write_bytes(GROUP)
    (m / "main/a").mkdir()
    (m / "main/a/zarr.json").write_bytes(array_json(*shape))
    for root in m / "main/a/c", plain / "c":
        b.child("names", "make", root, n, SIDE if nested else 0)
    if before_commit:
        before_commit(m)
    b.firn("commit", m, "-m", "names")
    b.umount(m)
    return repo, plain


def listed(b, command, path):
    return b.child("names", "list", b.dir / "used-list", command, path)


def lists(b, what, repo, plain, commands):
    """Each command in a mount that is new to the kernel, and then again."""
    def fresh(rep):
        m = b.mount("n", "--read-only", repo)
        r = listed(b, command, m / "main/a/c") | {"driver_mb": b.driver_mb(m)}
        if command in KEPT:
            r["again"] = listed(b, command, m / "main/a/c")["seconds"]
        b.umount(m)
        return r

    def local(rep):
        r = listed(b, command, plain / "c")
        return r | {"again": r["seconds"]}

    for command in commands:
        runs = b.interleave(firn=fresh, plain=local)
        b.row(f"{command} of {what}, new mount", runs)
        if command in KEPT:
            b.row(f"{command} of {what}, again", runs, "again")
        assert len({r["names"] for side in runs.values() for r in side}) == 1


def short(b):
    b.say(f"names: {FEW:,}")
    repo, plain = make(b, "few", FEW, False)
    lists(b, f"{FEW:,} chunks in one directory", repo, plain, COMMANDS)
    for d in repo, plain:
        shutil.rmtree(d)


def long(b):
    """Also what `firn status` takes while a million changes are not committed."""
    def status(m):
        b.measure(f"firn status with {MANY:,} changes", firn=lambda rep: b.firn("status", m) | {"driver_mb": b.driver_mb(m)})

    for nested in False, True:
        where = f"{SIDE:,} directories" if nested else "one directory"
        b.say(f"names: {MANY:,} in {where}")
        repo, plain = make(b, "many", MANY, nested, None if nested else status)
        lists(b, f"{MANY:,} chunks in {where}", repo, plain, ["find -name"] if nested else ["ls -f", "find -name"])
        for d in repo, plain:
            shutil.rmtree(d)


def huge(b):
    repo = b.fixture("ten million", merge.ten_million)[0]
    m = b.mount("n", "--read-only", repo)
    before = b.driver_mb(m)
    runs = b.interleave(firn=lambda rep: listed(b, "ls -f", m / "main/a/c") | {"driver_mb": b.driver_mb(m)})
    b.row(f"ls -f of {merge.LARGE:,} chunks in one directory", runs)
    b.note(f"in that, the first names come after {runs['firn'][0]['first'] * 1000:.0f} ms, and the driver grows from {before:.0f} MB "
           f"to {b.driver_mb(m):.0f} MB")
    b.umount(m)


if __name__ == "__main__":
    child_main(globals())
