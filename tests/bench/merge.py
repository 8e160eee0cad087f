"""Journals from many workers to one snapshot, against forks of the official library."""
import asyncio
import os
import pickle
import pty
import re
import shutil
import statistics
from concurrent.futures import ThreadPoolExecutor

from common import child_main, create_official, get, hwm, official, put_array, put_virtual, timed

SHORT = ("virtual", 16, 100_000), ("virtual", 64, 10_000), ("inline", 64, 10_000)
LONG = ("inline", 16, 100_000), ("native", 64, 10_000), ("native", 16, 100_000)
LARGE, JOURNALS = 10_000_000, 100
PADDING = 592               # of native chunks: 600 bytes, more than is kept inline


# ---- timed processes ----

def child_blank(path, n, file):
    """A new repository with one array of n chunks, and a fork of it as a worker gets it."""
    repo = create_official(path)
    put_array(repo, int(n))
    with open(file, "wb") as out:
        pickle.dump(repo.writable_session("main").fork(), out)
    return {}


async def fill(store, lo, hi, padding):
    from zarr.core.buffer import cpu
    for k in range(lo, hi, 1000):
        await asyncio.gather(*(store.set(f"a/c/{i}", cpu.Buffer.from_bytes(b"%08d" % i + b"x" * padding))
                               for i in range(k, min(k + 1000, hi))))


def child_forks(kind, blank, pickles, m, *workers):
    """What these workers hand back: a pickled fork with m chunks each."""
    m = int(m)
    for w in map(int, workers):
        with open(blank, "rb") as f:
            fork = pickle.load(f)
        if kind == "virtual":
            put_virtual(fork.store, w * m, m)
        else:
            asyncio.run(fill(fork.store, w * m, (w + 1) * m, PADDING if kind == "native" else 0))
        with open(f"{pickles}/{w}.pickle", "wb") as out:
            pickle.dump(fork, out)
    return {}


def child_merge(path, pickles):
    s = official(path).writable_session("main")

    def merge():
        forks = []
        for name in os.listdir(pickles):
            with open(f"{pickles}/{name}", "rb") as f:
                forks.append(pickle.load(f))
        s.merge(*forks)
        s.commit("merged")

    return {"seconds": timed(merge)[0], "mb": hwm()}


def child_import():
    """What the official library's processes need before they do anything."""
    import icechunk  # noqa: F401
    import zarr  # noqa: F401
    return {"mb": hwm()}


def child_sample(path, kind, n):
    """Some of what was committed."""
    s, n = official(path).readonly_session("main"), int(n)
    at = [n * k // 100 for k in range(100)] + [n - 1]
    return {"types": [str(s.chunk_type("/a", [i])) for i in at],
            "data": [get(s.store, f"a/c/{i}").decode() for i in at] if kind != "virtual" else []}


# ---- the parts ----

class Kept:
    """A repository that is put back as it was: all but its chunks, of which a commit of journals makes none."""

    def __init__(self, repo):
        self.repo, self.copy = repo, repo.with_name(repo.name + ".base")
        shutil.copytree(repo, self.copy, symlinks=True, ignore=lambda d, names: ["chunks"] if d == str(repo) else [])

    def restore(self):
        for path in self.repo.iterdir():
            if path.is_dir() and path.name != "chunks":
                shutil.rmtree(path)
            elif not path.is_dir():
                path.unlink()
        shutil.copytree(self.copy, self.repo, symlinks=True, dirs_exist_ok=True)


def one(b, kind, n, m):
    b.say(f"merge: making {n} forks and journals of {m:,} {kind} refs")
    d = b.dir / "merge"
    theirs, pickles = d / "theirs", d / "pickles"
    pickles.mkdir(parents=True)
    b.child("merge", "blank", theirs, n * m, d / "blank")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda k: b.child("merge", "forks", kind, d / "blank", pickles, m, *range(k, n, 2)), (0, 1)))
    ours = b.new("merge/ours", n * m)
    journals = b.journals(ours, n, m, kind)
    kept = {d: Kept(d) for d in (theirs, ours)}
    os.sync()                   # workers' chunks are usually written back by the time that all have finished

    def firn(rep):
        kept[ours].restore()
        return b.firn("commit", *sorted(journals.iterdir()), "-m", "merged")

    def icechunk(rep):
        kept[theirs].restore()
        return b.child("merge", "merge", theirs, pickles)

    row = b.measure(f"merge and commit {n} journals x {m:,} {kind} refs", firn=firn, official=icechunk)
    row["bytes"] = {x.name: sum(f.stat().st_size for f in x.iterdir()) for x in (journals, pickles)}
    a, c = (b.child("merge", "sample", x, kind, n * m) for x in (ours, theirs))
    assert a == c, (a, c)       # the figures are of the same work
    shutil.rmtree(d)


def short(b):
    for kind, n, m in SHORT:
        one(b, kind, n, m)
    b.note(f"a process with zarr-python and the official library in it has {b.child('merge', 'import')['mb']:.0f} MB before it begins")


def long(b):
    for kind, n, m in LONG:
        one(b, kind, n, m)


def filled(b, name, n, journals):
    """A repository with n virtual refs, and what their commit cost."""
    repo = b.new(name, n)
    handed_in = b.journals(repo, journals, n // journals, "virtual")
    r = staged(b, "commit", *sorted(handed_in.iterdir()), "-m", "filled")
    shutil.rmtree(handed_in)
    return repo, r


def ten_million(b):
    """Several parts of `make bench-long` begin with it."""
    return filled(b, "ten-million", LARGE, JOURNALS)


def huge(b):
    runs = []
    for _ in range(min(b.reps, 3)):
        b.forget("ten million")
        b.say(f"merge: {JOURNALS} journals x {LARGE // JOURNALS:,} virtual refs")
        runs.append(b.fixture("ten million", ten_million)[1])
    b.row(f"merge and commit {JOURNALS} journals x {LARGE // JOURNALS:,} virtual refs", {"firn": runs})
    stages = "; ".join(f"{name} {statistics.median(r['stages'].get(name, 0) for r in runs) / LARGE * 1e6:.2f}" for name in STAGES)
    b.note(f"processor time for each of {LARGE:,} refs: {statistics.median(r['cpu'] for r in runs) / LARGE * 1e6:.2f} us ({stages})")


# What the command's progress bar tells: a stage is said to go on from its first step done.
STAGES = "until the first manifest is written", "manifests", "snapshot and the rest"


def staged(b, *args):
    """firn, with the processor time of each stage."""
    ours, its = pty.openpty()
    at = {}

    def watch(pid):
        os.close(its)
        while text := read(ours):
            for label in re.findall(rb"\x1b\[K(\w+) \[", text):
                at.setdefault(label.decode(), cpu_of_child(pid))

    r = b.firn(*args, stderr=its, while_it_runs=watch)
    os.close(ours)
    first = at.get("manifests", r["cpu"])
    last = at.get("snapshot", r["cpu"])
    r["stages"] = dict(zip(STAGES, (first, last - first, r["cpu"] - last)))
    return r


def read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:             # nobody has its other end any more
        return b""


def cpu_of_child(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            child = f.read().split()[0]
        with open(f"/proc/{child}/stat") as f:
            return sum(map(int, f.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0


if __name__ == "__main__":
    child_main(globals())
