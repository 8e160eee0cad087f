"""firn against the official library, on this machine: `make bench`.

Every figure is the median of interleaved runs, each in a fresh process; memory is the peak
(VmHWM) of the process that does the work, of a mount's driver too where one is part of it.

    bench.py [--json FILE] [--against FILE] [--reps N] [--only merge,refs,commit,write,read] [--dir DIRECTORY]
"""
import argparse
import json
import os
import pathlib
import pickle
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("ICECHUNK_LOG", "error")
ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = (ROOT / os.environ.get("FIRN_BUILD", "build/release")).resolve() / "bin"
FORKS, PER_FORK = 16, 20_000
REFS_ONLY = (16, 100_000), (64, 10_000)
REFS = 1_000_000
ARRAYS = {"small": (4000, 16 * 1024), "large": (256, 4 * 1024 * 1024)}


# ---- what runs in fresh processes: one JSON line on stdout ----

def array_json(n, chunk=1, dtype="int8"):
    return json.dumps({
        "zarr_format": 3, "node_type": "array", "shape": [n], "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": [{"name": "bytes"}], "attributes": {}}).encode()


GROUP = b'{"zarr_format":3,"node_type":"group","attributes":{}}'


def hwm(pid="self"):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))


def official(path):
    import icechunk
    return icechunk.Repository.open(icechunk.local_filesystem_storage(path))


def put(store, key, data):
    from zarr.core.buffer import cpu
    from zarr.core.sync import sync
    sync(store.set(key, cpu.Buffer.from_bytes(data)))


def holds(store, key):
    from zarr.core.sync import sync
    return sync(store.exists(key))


def blank_fork(path, n):
    """A new repository with one array of n chunks, and a fork of it as a worker gets it."""
    import icechunk
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(path))
    s = repo.writable_session("main")
    put(s.store, "zarr.json", GROUP)
    put(s.store, "a/zarr.json", array_json(n))
    s.commit("base")
    return pickle.dumps(repo.writable_session("main").fork())


def child_make_official(path, pickles):
    """A pickled fork for each worker with its chunks set."""
    import asyncio

    from zarr.core.buffer import cpu
    blank = blank_fork(path, FORKS * PER_FORK)

    async def fill(store, lo):
        for k in range(lo, lo + PER_FORK, 1000):
            await asyncio.gather(*(store.set(f"a/c/{i}", cpu.Buffer.from_bytes(b"%08d" % i)) for i in range(k, k + 1000)))

    for w in range(FORKS):
        f = pickle.loads(blank)
        asyncio.run(fill(f.store, w * PER_FORK))
        with open(f"{pickles}/{w}.pickle", "wb") as out:
            pickle.dump(f, out)
    return {}


def child_make_refs(path, pickles, n, m):
    """The same with virtual refs, set as arrays."""
    import numpy as np
    n, m = int(n), int(m)
    blank = blank_fork(path, n * m)
    for w in range(n):
        f = pickle.loads(blank)
        at = np.arange(w * m, (w + 1) * m, dtype="u8")
        f.store.set_virtual_refs_arr("/a", (m,), [f"s3://bucket/file_{i // 1000:06d}.nc" for i in at],
                                     at % 1000 * 100_000, np.full(m, 100_000, dtype="u8"), arr_offset=(w * m,),
                                     validate_containers=False)
        with open(f"{pickles}/{w}.pickle", "wb") as out:
            pickle.dump(f, out)
    return {}


def child_merge_official(path, pickles):
    s = official(path).writable_session("main")
    t = time.perf_counter()
    forks = []
    for w in range(len(os.listdir(pickles))):
        with open(f"{pickles}/{w}.pickle", "rb") as f:
            forks.append(pickle.load(f))
    s.merge(*forks)
    s.commit("merged")
    return {"seconds": time.perf_counter() - t, "mb": hwm()}


def child_virtual(path):
    """A million references in the array /a of a repository that is there."""
    import numpy as np
    s = official(path).writable_session("main")
    if not holds(s.store, "a/zarr.json"):
        put(s.store, "zarr.json", GROUP)
        put(s.store, "a/zarr.json", array_json(REFS))
    at = np.arange(REFS, dtype="u8")
    s.store.set_virtual_refs_arr("/a", (REFS,), [f"s3://bucket/file_{i // 1000:06d}.nc" for i in range(REFS)],
                                 at % 1000 * 100_000, np.full(REFS, 100_000, dtype="u8"), validate_containers=False)
    s.commit("a million")
    return {}


def child_commit_official(path, i):
    s = official(path).writable_session("main")
    put(s.store, f"a/c/{i}", str(i).encode())
    t = time.perf_counter()
    s.commit("one chunk")
    return {"seconds": time.perf_counter() - t, "mb": hwm()}


def open_for(kind, path, name, mode):
    import zarr
    if kind == "official":
        r = official(path)
        s = r.readonly_session("main") if mode == "r" else r.writable_session("main")
        return s, zarr.open_array(s.store, path=name, mode=mode)
    return None, zarr.open_array(f"{path}/{name}", mode=mode)


def child_create_official(path):
    import icechunk
    icechunk.Repository.create(icechunk.local_filesystem_storage(path))
    return {}


def child_arrays(kind, path, reps):
    """Arrays without chunks, one of each size for each time that they will be written."""
    import zarr
    s = official(path).writable_session("main") if kind == "official" else None
    for name, (n, size) in ARRAYS.items():
        for rep in range(int(reps)):
            zarr.create_array(s.store if s else path, name=f"{name}{rep}", shape=(n * size,), chunks=(size,), dtype="u1",
                              compressors=None)
    if s:
        s.commit("arrays")
    return {}


def child_write(kind, path, name, rep):
    """All chunks of an array that has none; the official library's commit is counted too."""
    import numpy as np
    n, size = ARRAYS[name]
    s, a = open_for(kind, path, name + rep, "r+")
    step = max(1, 64 * 1024 * 1024 // size)
    data = np.random.default_rng(1).integers(1, 255, step * size, dtype="u1")
    t = time.perf_counter()
    for i in range(0, n, step):
        part = min(step, n - i) * size
        a[i * size:i * size + part] = data[:part]
    if s:
        s.commit("written")
    return {"seconds": time.perf_counter() - t, "mb": hwm()}


def child_read(kind, path, name, rep):
    n, size = ARRAYS[name]
    _, a = open_for(kind, path, name + rep, "r")
    step = max(1, 64 * 1024 * 1024 // size)
    t = time.perf_counter()
    total = 0
    for i in range(0, n, step):
        total += int(a[i * size:min(i + step, n) * size][::size].sum())
    assert total
    return {"seconds": time.perf_counter() - t, "mb": hwm()}


# ---- the other side ----

class Bench:
    script = __file__

    def __init__(self, directory, reps):
        self.dir, self.reps = directory, reps
        self.env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "XDG_STATE_HOME": str(directory / "state")}
        self.rows, self.notes, self.mounted = [], [], []

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def child_of(self, script, name, *args):
        p = subprocess.run([sys.executable, script, "--child", name, *map(str, args)], env=self.env,
                           stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(p.stdout.splitlines()[-1])

    def child(self, name, *args):
        return self.child_of(self.script, name, *args)

    def firn(self, *args):
        """Run the command: its time, as a user waits for it, its processor time and its peak memory."""
        used = self.dir / f"used-{threading.get_ident()}"
        t = time.perf_counter()
        p = subprocess.run([BIN.parent / "tests/bench/peak", used, BIN / "firn", *map(str, args)], env=self.env,
                           stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - t
        if p.returncode:
            raise SystemExit(f"bench: firn {' '.join(map(str, args))}: exit code {p.returncode}")
        kb, us = map(int, used.read_text().split())
        return {"seconds": seconds, "cpu": us / 1e6, "mb": kb / 1024}

    def mount(self, name, *args):
        m = self.dir / f"mnt-{name}"
        m.mkdir(exist_ok=True)
        self.firn("mount", *args, m)
        self.mounted.append(m)
        return m

    def umount(self, m, *args):
        self.firn("umount", m, *args)
        self.mounted.remove(m)

    def driver_mb(self, m):
        """The driver proper, and the process that replaces it should it die."""
        session = json.loads((m / ".firn/session").read_text())
        return sum(hwm(pid) for pid in {session["pid"], session["worker"]})

    def run(self, parts):
        for part in parts:
            if part not in ("write", "read"):
                getattr(self, f"bench_{part}")()
        if "write" in parts or "read" in parts:
            self.bench_zarr(parts)

    def measure(self, what, **sides):
        """Interleaved: every side once, then every side again."""
        runs = {side: [] for side in sides}
        for rep in range(self.reps):
            for side, f in sides.items():
                runs[side].append(f(rep))
        row = {"what": what, "runs": runs}
        for side, r in runs.items():
            row[side] = {"seconds": statistics.median(x["seconds"] for x in r),
                         "min": min(x["seconds"] for x in r), "max": max(x["seconds"] for x in r),
                         "mb": statistics.median(x["mb"] for x in r)}
            if "driver_mb" in r[0]:
                row[side]["driver_mb"] = statistics.median(x["driver_mb"] for x in r)
        self.rows.append(row)
        self.say(line(row))

    # 16 forks of 20,000 chunks each

    def bench_merge(self):
        self.say(f"merge: {FORKS} forks of {PER_FORK} chunks; making pickles and journals")
        theirs, pickles, ours = self.dir / "theirs", self.dir / "pickles", self.dir / "ours"
        pickles.mkdir()
        self.child("make_official", theirs, pickles)
        self.firn("init", ours)
        m = self.mount("c", ours)
        (m / "main/a").mkdir()
        (m / "main/zarr.json").write_bytes(GROUP)
        (m / "main/a/zarr.json").write_bytes(array_json(FORKS * PER_FORK))
        self.firn("commit", m, "-m", "base")
        token = self.dir / "fork.json"
        self.firn("fork", m, "-o", token)
        self.umount(m)

        def worker(w):
            k = self.mount(f"w{w}", "--fork", token)
            subprocess.run([sys.executable, "-c", WRITER, k / "main/a/c", str(w * PER_FORK), str((w + 1) * PER_FORK)], check=True)
            self.umount(k, "--export", self.dir / f"w{w}.journal")

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(worker, range(FORKS)))
        for d in theirs, ours:
            shutil.copytree(d, f"{d}.base", symlinks=True)
        journals = [self.dir / f"w{w}.journal" for w in range(FORKS)]

        def fresh(d):
            shutil.rmtree(d)
            shutil.copytree(f"{d}.base", d)

        def firn(rep):
            fresh(ours)
            return self.firn("commit", *journals, "-m", "merged")

        def icechunk(rep):
            fresh(theirs)
            return self.child("merge_official", theirs, pickles)

        self.measure(f"merge and commit {FORKS} forks x {PER_FORK:,} chunks", firn=firn, official=icechunk)
        self.check_same(theirs, ours)
        size = [sum(p.stat().st_size for p in self.dir.glob(g)) for g in ("w*.journal", "pickles/*")]
        self.rows[-1]["bytes"] = {"journals": size[0], "pickles": size[1]}

    def bench_refs(self):
        """Refs alone, from files to a snapshot."""
        for n, m in REFS_ONLY:
            self.say(f"merge: {n} journals of {m:,} virtual refs")
            d = self.dir / f"refs-{n}"
            theirs, ours, pickles, journals = (d / x for x in ("theirs", "ours", "pickles", "journals"))
            pickles.mkdir(parents=True)
            journals.mkdir()
            self.child("make_refs", theirs, pickles, n, m)
            self.firn("init", ours)
            k = self.mount("c", ours)
            (k / "main/a").mkdir()
            (k / "main/zarr.json").write_bytes(GROUP)
            (k / "main/a/zarr.json").write_bytes(array_json(n * m))
            self.firn("commit", k, "-m", "base")
            self.umount(k)
            subprocess.run([BIN.parent / "tests/bench/make-journals", ours, str(n), str(m), "virtual", journals], check=True)
            for x in theirs, ours:
                shutil.copytree(x, f"{x}.base", symlinks=True)

            def fresh(x):
                shutil.rmtree(x)
                shutil.copytree(f"{x}.base", x)

            def firn(rep):
                fresh(ours)
                return self.firn("commit", *sorted(journals.iterdir()), "-m", "merged")

            def icechunk(rep):
                fresh(theirs)
                return self.child("merge_official", theirs, pickles)

            self.measure(f"merge and commit {n} journals x {m:,} virtual refs", firn=firn, official=icechunk)
            shutil.rmtree(d)

    def check_same(self, theirs, ours):
        """The figures are of the same work: both committed the same chunks."""
        import zarr
        for i in (0, 1, PER_FORK, FORKS * PER_FORK - 1):
            a, b = (bytes(get(official(str(d)).readonly_session("main").store, f"a/c/{i}")) for d in (theirs, ours))
            assert a == b == b"%08d" % i, (zarr.__version__, i, a, b)

    # one chunk on top of a million

    def bench_commit(self):
        """Each side in a repository it made itself; then firn's first commit in one the other made."""
        theirs, ours = self.dir / "m-theirs", self.dir / "m-ours"
        self.say(f"commit: two repositories with {REFS:,} references")
        self.child("create_official", theirs)
        self.child("virtual", theirs)
        self.firn("init", ours)
        m = self.mount("m", ours)
        (m / "main/zarr.json").write_bytes(GROUP)
        (m / "main/a").mkdir()
        (m / "main/a/zarr.json").write_bytes(array_json(REFS))
        self.firn("commit", m, "-m", "array")
        self.umount(m)
        self.child("virtual", ours)
        shutil.copytree(theirs, f"{theirs}.base")

        def firn(repo, rep):
            m = self.mount("m", repo)
            (m / f"main/a/c/{rep * 7}").write_bytes(b"%d" % rep)
            r = self.firn("commit", m, "-m", "one chunk") | {"driver_mb": self.driver_mb(m)}
            self.umount(m)
            return r

        def first(rep):
            shutil.rmtree(ours, ignore_errors=True)
            shutil.copytree(f"{theirs}.base", ours)
            return firn(ours, rep)

        self.measure(f"commit 1 chunk of {REFS:,}", firn=lambda rep: firn(ours, rep),
                     official=lambda rep: self.child("commit_official", theirs, rep * 7))
        self.measure(f"commit 1 chunk of {REFS:,}, firn's first commit in a repository of the official library",
                     firn=first, official=lambda rep: self.child("commit_official", theirs, rep * 7 + 1))

    # zarr-python on chunks small and large

    def bench_zarr(self, parts):
        plain, theirs, ours = self.dir / "plain", self.dir / "z-theirs", self.dir / "z-ours"
        self.say("zarr-python: writing and reading small and large chunks")
        plain.mkdir()
        self.child("create_official", theirs)
        self.firn("init", ours)
        writes = self.reps if "write" in parts else 1
        self.child("arrays", "official", theirs, writes)
        self.child("arrays", "plain", plain, writes)
        m = self.mount("z", ours)
        self.child("arrays", "plain", m / "main", writes)
        self.firn("commit", m, "-m", "arrays")

        def text(name):
            n, size = ARRAYS[name]
            return f"{n:,} x {size // 1024:,} KiB" if size < 1 << 20 else f"{n:,} x {size >> 20} MiB"

        def written(*args):
            os.sync()                                             # nobody waits for what another wrote
            return self.child("write", *args)

        for name in ARRAYS:
            def write(rep):
                r = written("plain", m / "main", name, rep)
                r["seconds"] += self.firn("commit", m, "-m", f"{rep}")["seconds"]
                return r | {"driver_mb": self.driver_mb(m)}

            reps, self.reps = self.reps, writes
            self.measure(f"write {text(name)} with zarr-python, and commit", firn=write,
                         official=lambda rep: written("official", theirs, name, rep),
                         plain=lambda rep: written("plain", plain, name, rep))
            self.reps = reps
            if "write" not in parts:
                self.rows.pop()
        self.umount(m)
        if "read" not in parts:
            return
        for name in ARRAYS:
            def read(rep):
                k = self.mount("r", "--read-only", ours)          # nothing in the kernel's caches of it
                r = self.child("read", "plain", k / "main", name, writes - 1) | {"driver_mb": self.driver_mb(k)}
                self.umount(k)
                return r

            self.measure(f"read {text(name)} with zarr-python", firn=read,
                         official=lambda rep: self.child("read", "official", theirs, name, writes - 1),
                         plain=lambda rep: self.child("read", "plain", plain, name, writes - 1))


WRITER = """
import os, sys
d, lo, hi = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.makedirs(d, exist_ok=True)
d = os.open(d, os.O_RDONLY)
for i in range(lo, hi):
    f = os.open(str(i), os.O_WRONLY | os.O_CREAT, dir_fd=d)
    os.write(f, b"%08d" % i)
    os.close(f)
"""


def get(store, key):
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync
    return sync(store.get(key, default_buffer_prototype())).to_bytes()


def ms(x):
    """The median, and between what."""
    if x["seconds"] >= 1:
        return f"{x['seconds']:.2f} s ({x['min']:.2f}-{x['max']:.2f})"
    return f"{x['seconds'] * 1000:.0f} ms ({x['min'] * 1000:.0f}-{x['max'] * 1000:.0f})"


def compare(rows, earlier):
    """What firn takes, against an earlier run."""
    then = {row["what"]: row["firn"]["seconds"] for row in json.loads(earlier.read_text())["rows"]}
    print("\n| what | firn now / then |\n| --- | --- |")
    for row in rows:
        if row["what"] in then:
            print(f"| {row['what']} | {row['firn']['seconds'] / then[row['what']]:.2f} |")


def mb(x):
    return f"{x['mb']:.0f}" + (f"+{x['driver_mb']:.0f}" if "driver_mb" in x else "")


def own(row, side):
    """Peak memory, less what the same program needs on a plain directory."""
    x = row[side]
    return max(0, x["mb"] + x.get("driver_mb", 0) - row.get("plain", {}).get("mb", 0))


def line(row):
    def against(side):
        return f"{row[side]['seconds'] / row['firn']['seconds']:.2f}x" if side in row else ""
    def cell(show, side):
        return show(row[side]) if side in row else ""
    cells = [row["what"], ms(row["firn"]), cell(ms, "official"), against("official"), cell(ms, "plain"), against("plain"),
             mb(row["firn"]), cell(mb, "official"), cell(mb, "plain"),
             f"{own(row, 'firn') / own(row, 'official'):.2f}" if "official" in row and own(row, "official") else ""]
    return "| " + " | ".join(cells) + " |"


HEAD = ("| what | firn | official | official / firn | plain directory | plain / firn | MB firn (+ driver) | MB official | MB plain "
        "| own MB, firn / official |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")


def main(kind, parts, script):
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(script[f"child_{sys.argv[2]}"](*sys.argv[3:])))
        return
    ap = argparse.ArgumentParser(description=script["__doc__"], formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--json", type=pathlib.Path)
    ap.add_argument("--against", type=pathlib.Path, help="what --json wrote in an earlier run")
    ap.add_argument("--reps", type=int, default=5)
    ap.add_argument("--only", default=parts)
    ap.add_argument("--dir", type=pathlib.Path, default=ROOT / "build/bench")
    args = ap.parse_args()
    try:
        import icechunk
    except ImportError:
        raise SystemExit("bench: the official library is not here; it needs Python >= 3.12 (see make setup)") from None
    shutil.rmtree(args.dir, ignore_errors=True)
    args.dir.mkdir(parents=True)
    b, started = kind(args.dir, args.reps), time.monotonic()
    try:
        b.run(args.only.split(","))
    finally:
        for m in list(b.mounted):
            subprocess.run(["fusermount3", "-u", "-z", m], check=False)
        shutil.rmtree(args.dir, ignore_errors=True)
    print(HEAD)
    for row in b.rows:
        print(line(row))
    where = f"{os.cpu_count()} processors, Linux {platform.release()}, icechunk {icechunk.__version__}, " \
            f"median of {args.reps} interleaved runs; {time.monotonic() - started:.0f} s in all"
    if args.against:
        compare(b.rows, args.against)
    print("", *b.notes, where, sep="\n")
    if args.json:
        args.json.write_text(json.dumps({"where": where, "rows": b.rows, "notes": b.notes}, indent=1))


if __name__ == "__main__":
    main(Bench, "merge,refs,commit,write,read", globals())
