"""Eight processes at once: writing, each in a mount of its own and all in one; looking at the same references."""
import os
import statistics

import commit
from common import GROUP, array_json, child_main, official, pss, timed, together

URING = "/sys/module/fuse/parameters/enable_uring"
WORKERS, EACH, SIZE = 8, 4_000, 16 * 1024


def child_write(*roots):
    """One process a directory, each writing its own chunks; a directory may be given several times."""
    data = os.urandom(SIZE)

    def prepare(k):
        os.makedirs(roots[k], exist_ok=True)
        d = os.open(roots[k], os.O_RDONLY)

        def write():
            for i in range(k * EACH, (k + 1) * EACH):
                f = os.open(str(i), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, dir_fd=d)
                os.write(f, data)
                os.close(f)
        return write

    return together(len(roots), prepare)[0]


def child_look(kind, *roots):
    """One process each: a chunk in every manifest of a million references."""
    keys = [f"a/c/{i}" for i in range(7, commit.SMALL, commit.SMALL // 10)]

    def prepare(k):
        if kind == "official":
            import icechunk  # noqa: F401
            from zarr.core.sync import sync
        before = pss()

        def look():
            if kind == "official":
                store = official(roots[k]).readonly_session("main").store
                assert all(sync(store.exists(key)) for key in keys)
            else:
                assert all(os.path.exists(f"{roots[k]}/main/{key}") for key in keys)
            return pss() - before
        return look

    r, grown = together(len(roots), prepare)
    return r | {"mb": max(0, sum(grown))}


def look(b):
    ours, other = b.fixture("million", commit.million)

    def mounts(rep, place):
        all_of_them = [b.mount(f"l{k}", "--read-only", "-o", f"cache_dir={place}", ours) for k in range(WORKERS)]
        r = b.child("workers", "look", "firn", *all_of_them)
        r["driver_mb"] = sum(b.driver_mb(m, pss) for m in all_of_them)
        for m in all_of_them:
            b.umount(m)
        return r

    runs = b.interleave(firn=lambda rep: mounts(rep, "/dev/shm"), alone=lambda rep: mounts(rep, "off"),
                        official=lambda rep: b.child("workers", "look", "official", *[other] * WORKERS))
    alone = runs.pop("alone")
    b.row(f"{WORKERS} processes look at {commit.SMALL:,} refs, each in a new mount", runs)
    b.note("without what the mounts of a host share (cache_dir=off) that takes "
           f"{statistics.median(r['seconds'] for r in alone) * 1000:.0f} ms and {statistics.median(r['driver_mb'] for r in alone):.0f} MB")


READS, BLOCK = 8_000, 16 * 1024


def child_read(n, root):
    """Plain read(2), by n processes."""
    n = int(n)

    def prepare(k):
        def read():
            for i in range(k, READS, n):
                f = os.open(f"{root}/{i}", os.O_RDONLY)
                assert len(os.read(f, BLOCK)) == BLOCK
                os.close(f)
        return read

    return together(n, prepare)[0]


def ring(b):
    """What io_uring changes for small files of a new read-only mount."""
    if not os.path.exists(URING) or open(URING).read().strip() != "Y":
        b.note(f"io_uring is not measured: 'echo Y > {URING}' as root allows it")
        return
    repo, plain = b.dir / "ring-repo", b.dir / "ring-plain"
    b.firn("init", repo)
    m = b.mount("c", repo)
    (m / "main/zarr.json").write_bytes(GROUP)
    (m / "main/a").mkdir()
    (m / "main/a/zarr.json").write_bytes(array_json(READS * BLOCK, chunk=BLOCK))
    plain.mkdir()
    (m / "main/a/c").mkdir()
    for i in range(READS):
        data = os.urandom(BLOCK)
        (m / f"main/a/c/{i}").write_bytes(data)
        (plain / f"{i}").write_bytes(data)
    b.firn("commit", m, "-m", "chunks")
    b.umount(m)

    def read(n, way):
        m = b.mount("r", "--read-only", "-o", f"io_uring={way}", repo)
        r = b.child("workers", "read", n, m / "main/a/c")
        r["driver_mb"] = b.driver_mb(m)
        b.umount(m)
        return r

    for n in 1, 4:
        runs = b.interleave(on=lambda rep: read(n, "on"), off=lambda rep: read(n, "off"),
                            plain=lambda rep: b.child("workers", "read", n, plain))
        for way in "on", "off":
            b.row(f"read {READS:,} x 16 KiB of a new read-only mount, processes: {n}, io_uring={way}",
                  {"firn": runs[way], "plain": runs["plain"]})


def write(b):
    b.say(f"workers: {WORKERS} writing {EACH:,} x {SIZE // 1024} KiB each")
    repo, plain = b.dir / "w-repo", b.dir / "w-plain"
    names = [f"{kind}{rep}" for kind in ("each", "one") for rep in range(b.reps)]
    b.firn("init", repo)
    c = b.mount("c", repo)
    (c / "main/zarr.json").write_bytes(GROUP)
    for name in names:
        (c / "main" / name).mkdir()
        (c / "main" / name / "zarr.json").write_bytes(array_json(WORKERS * EACH * SIZE, chunk=SIZE))
    b.firn("commit", c, "-m", "arrays")

    def each(rep):
        token = b.dir / "fork.json"
        b.firn("fork", c, "-o", token)
        mounts = [b.mount(f"w{k}", "--fork", token) for k in range(WORKERS)]
        os.sync()
        r = b.child("workers", "write", *(m / f"main/each{rep}/c" for m in mounts))
        r["driver_mb"] = sum(map(b.driver_mb, mounts))
        journals = [b.dir / f"w{k}.journal" for k in range(WORKERS)]

        def finish():
            for m, journal in zip(mounts, journals):
                b.umount(m, "--export", journal)
            b.firn("commit", c, *journals, "-m", f"each {rep}")

        return r | {"committed": r["seconds"] + timed(finish)[0]}

    def one(rep):
        os.sync()
        r = b.child("workers", "write", *[c / f"main/one{rep}/c"] * WORKERS)
        r["driver_mb"] = b.driver_mb(c)
        return r | {"committed": r["seconds"] + b.firn("commit", c, "-m", f"one {rep}")["seconds"]}

    def local(rep):
        os.sync()
        r = b.child("workers", "write", *[plain / f"{rep}/c"] * WORKERS)
        return r | {"committed": r["seconds"] + timed(os.sync)[0]}

    runs = b.interleave(each=each, one=one, plain=local)
    b.umount(c)
    for key, end in ("seconds", ""), ("committed", ", and commit (plain directory: sync)"):
        for side, where in ("each", "a mount each"), ("one", "one mount"):
            b.row(f"{WORKERS} processes write {EACH:,} x {SIZE // 1024} KiB each, {where}{end}",
                  {"firn": runs[side], "plain": runs["plain"]}, key)
    ratio = statistics.median(r["seconds"] for r in runs["one"]) / statistics.median(r["seconds"] for r in runs["each"])
    b.note(f"{WORKERS} mounts take what {WORKERS} processes write {ratio:.2f} times as fast as one mount does")


if __name__ == "__main__":
    child_main(globals())
