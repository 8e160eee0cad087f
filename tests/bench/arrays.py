"""zarr-python, TensorStore and zarrs on arrays of small, large and tiny chunks."""
import shutil
import statistics

from common import GROUP, child_main, create_official, drop_caches, hwm, official, put, syncfs, timed, together
from harness import MEMORY

ARRAYS = {"small": (4000, 16 * 1024), "large": (256, 4 * 1024 * 1024), "tiny": (20_000, 8)}
STEP = 64 * 1024 * 1024     # bytes read or written at a time


def text(name):
    n, size = ARRAYS[name]
    unit = f"{size} bytes" if size < 1024 else f"{size // 1024} KiB" if size < 1 << 20 else f"{size >> 20} MiB"
    return f"{n:,} x {unit}"


# ---- timed processes ----

def child_create(kind, path, *names):
    """Arrays without chunks; the first part of a name says which."""
    import zarr
    s = None
    if kind == "official":
        s = official(path).writable_session("main")
    for name in names:
        n, size = ARRAYS[name.split("-")[0]]
        zarr.create_array(s.store if s else path, name=name, shape=(n * size,), chunks=(size,), dtype="u1", compressors=None)
    if s:
        s.commit("arrays")
    return {}


def child_official(path):
    s = create_official(path).writable_session("main")
    put(s.store, "zarr.json", GROUP)
    s.commit("group")
    return {}


def child_write(kind, path, name):
    """All chunks of an array that has none; what the official library's commit takes is told apart."""
    import numpy as np
    import zarr
    n, size = ARRAYS[name.split("-")[0]]
    s = official(path).writable_session("main") if kind == "official" else None
    a = zarr.open_array(s.store, path=name, mode="r+") if s else zarr.open_array(f"{path}/{name}", mode="r+")
    step = min(n, max(1, STEP // size))
    data = np.random.default_rng(1).integers(1, 255, step * size, dtype="u1")

    def write():
        for i in range(0, n, step):
            part = min(step, n - i) * size
            a[i * size:i * size + part] = data[:part]

    written = timed(write)[0]
    commit = timed(lambda: s.commit("written"))[0] if s else 0
    return {"written": written, "seconds": written + commit, "mb": hwm()}


def opened(tool, kind, path, name):
    """What gives the elements from `lo` up to `hi`."""
    if tool == "tensorstore":
        import tensorstore
        a = tensorstore.open({"driver": "zarr3", "kvstore": f"file://{path}/{name}"}, read=True).result()
        return lambda lo, hi: a[lo:hi].read().result()
    import zarr
    if kind == "official":
        a = zarr.open_array(official(path).readonly_session("main").store, path=name, mode="r")
    else:
        a = zarr.open_array(f"{path}/{name}", mode="r")
    return lambda lo, hi: a[lo:hi]


def child_read(tool, kind, path, name, processes, state):
    """An array opened and read, by so many processes that share it; imports are not counted."""
    n, size = ARRAYS[name.split("-")[0]]
    processes = int(processes)

    def prepare(k):
        import zarr
        if tool == "tensorstore":
            import tensorstore  # noqa: F401
        if tool == "zarrs":
            import zarrs  # noqa: F401
            zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
        if kind == "official":
            import icechunk  # noqa: F401
        if k == 0 and state == "cold":
            drop_caches()
        return lambda: read(n * k // processes, n * (k + 1) // processes)

    def read(first, last):
        elements = opened(tool, kind, path, name)
        step = max(1, STEP // size)
        return sum(int(elements(i * size, min(i + step, last) * size)[::size].sum(dtype="u8")) for i in range(first, last, step))

    result, sums = together(processes, prepare)
    return result | {"sum": sum(sums)}


# ---- the parts ----

class Stores:
    """A plain directory and a repository of each side, and which arrays in them are filled."""

    def __init__(self, b):
        self.b, self.filled = b, {}
        self.plain, self.theirs, self.ours = (b.dir / f"arrays-{x}" for x in ("plain", "theirs", "ours"))
        self.plain.mkdir()
        (self.plain / "zarr.json").write_bytes(GROUP)
        b.child("arrays", "official", self.theirs)
        b.firn("init", self.ours)

    def write(self, name, reps):
        """A new array for each repetition, filled; what it took each side."""
        b, names = self.b, [f"{name}-{rep}" for rep in range(reps)]
        m = b.mount("z", self.ours)
        b.child("arrays", "create", "official", self.theirs, *names)
        for root in self.plain, m / "main":
            b.child("arrays", "create", "plain", root, *names)
        b.firn("commit", m, "-m", "arrays")

        def written(kind, path, rep):
            syncfs(self.plain)                                  # nobody waits for what another wrote
            r = b.child("arrays", "write", kind, path, names[rep])
            if kind != "firn":                                  # firn's commit makes all of it durable
                r["durable"] = r["seconds"] + timed(lambda: syncfs(path))[0]
            return r

        def firn(rep):
            r = written("firn", m / "main", rep)
            commit = b.firn("commit", m, "-m", f"{rep}")
            r["seconds"] += commit["seconds"]
            return r | {"durable": r["seconds"], "mb": max(r["mb"], commit["mb"]), "driver_mb": b.driver_mb(m)}

        def in_memory(rep):
            b.child("arrays", "create", "plain", MEMORY, names[rep])
            r = written("plain", MEMORY, rep)
            shutil.rmtree(MEMORY)
            return r

        sides = {"firn": firn, "official": lambda rep: written("official", self.theirs, rep),
                 "plain": lambda rep: written("plain", self.plain, rep)}
        if MEMORY.parent.is_dir() and ARRAYS[name][1] < 1 << 20:
            sides["memory"] = in_memory
        was, b.reps = b.reps, reps
        runs = b.interleave(**sides)
        b.reps = was
        b.umount(m)
        self.filled[name] = names[-1]
        return runs

    def array(self, name):
        if name not in self.filled:
            self.b.say(f"arrays: writing {text(name)}")
            self.write(name, 1)
        return self.filled[name]


def write(b, *names):
    stores = b.fixture("arrays", Stores)
    for name in names or ("small", "large"):
        b.say(f"zarr-python: writing {text(name)}")
        runs = stores.write(name, b.reps)
        what = f"write {text(name)} with zarr-python"
        b.row(f"{what}, not committed", runs, "written")
        b.row(f"{what}, and commit (plain directory: no more)", runs)
        b.row(f"{what}, and make durable (commit; commit and syncfs; syncfs)", runs, "durable")
        if "memory" in runs:
            floor = statistics.median(r["seconds"] for r in runs["memory"])
            b.note(f"{what}: {floor:.2f} s in a directory in memory ({MEMORY.parent})")


def write_tiny(b):
    write(b, "tiny")


def read(b, tool, name, state, processes=1):
    """`state` of the caches: "cold"; "new mount": the files are in the page cache; "warm": all was read before."""
    stores = b.fixture("arrays", Stores)
    array = stores.array(name)

    def once(kind, path):
        if state == "warm":
            b.child("arrays", "read", tool, kind, path, array, processes, state)
        return b.child("arrays", "read", tool, kind, path, array, processes, state)

    def firn(rep):
        m = b.mount("r", "--read-only", stores.ours)            # nothing in the kernel's caches of it
        r = once("plain", m / "main") | {"driver_mb": b.driver_mb(m)}
        b.umount(m)
        return r

    sides = {"firn": firn, "plain": lambda rep: once("plain", stores.plain)}
    if tool == "zarr-python":
        sides["official"] = lambda rep: once("official", stores.theirs)
    many = "" if processes == 1 else f", {processes} processes"
    row = b.measure(f"read {text(name)} with {tool}{many}, {state}", **sides)
    assert len({r["sum"] for side in row["runs"].values() for r in side}) == 1


def read_each(b, state):
    for name in "small", "large":
        for tool in "zarr-python", "tensorstore", "zarrs":
            read(b, tool, name, state)


def read_warm(b):
    read_each(b, "warm")


def read_new(b):
    read_each(b, "new mount")


def read_cold(b):
    if b.can_drop_caches():
        read_each(b, "cold")


def read_many(b):
    for state in ("warm", "new mount", "cold") if b.can_drop_caches() else ("warm", "new mount"):
        for name in "small", "large":
            read(b, "zarr-python", name, state, 4)


if __name__ == "__main__":
    child_main(globals())
