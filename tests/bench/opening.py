"""From nothing to the first byte: a mount, an opened repository."""
import statistics

import commit
import merge
from common import child_main, drop_caches, get, hwm, official, timed
from harness import HELPERS

MANIFEST_HEADER = 39


# ---- timed processes ----

def child_first(kind, path, name, cold):
    """Opened and read; importing the library is not counted."""
    import icechunk  # noqa: F401
    import zarr  # noqa: F401

    def read():
        if kind == "official":
            return get(official(path).readonly_session("main").store, name)
        with open(f"{path}/{name}", "rb") as f:
            return f.read()

    if cold == "cold":
        drop_caches()
    seconds, data = timed(read)
    assert data
    return {"seconds": seconds, "mb": hwm()}


def child_unpacked(*files):
    """Sizes of manifests in memory, in MB."""
    from numcodecs.zstd import Zstd
    sizes = []
    for file in files:
        with open(file, "rb") as f:
            sizes.append(len(Zstd().decode(f.read()[MANIFEST_HEADER:])) / 2**20)
    return {"mb": sizes}


# ---- the parts ----

def mount(b, repo, name, cold):
    """A mount and a tool that reads one chunk in it."""
    if cold == "cold":
        drop_caches()
    seconds, m = timed(lambda: b.mount("first", "--read-only", repo))
    idle = b.driver_mb(m)
    used = b.dir / "used-first"
    t, _ = timed(lambda: b.run(HELPERS / "peak", used, "cat", m / f"main/{name}"))
    r = {"seconds": seconds + t, "mb": int(used.read_text().split()[0]) / 1024, "driver_mb": b.driver_mb(m), "idle_mb": idle}
    b.umount(m)
    return r


def there(b, repo, n):
    """The last chunk, committed: what other parts leave of the array are virtual references that lead nowhere."""
    commit.firn(b, repo, n - 1)
    return f"a/c/{n - 1}"


def first(b, repo, name, what, cold):
    return b.measure(what, firn=lambda rep: mount(b, repo, name, cold),
                     official=lambda rep: b.child("opening", "first", "official", repo, name, cold))


def short(b):
    repo = b.fixture("million", commit.million)[0]
    name = there(b, repo, commit.SMALL)
    first(b, repo, name, f"mount (open) a repository of {commit.SMALL:,} refs and read one chunk", "new mount")
    if b.can_drop_caches():
        first(b, repo, name, f"mount (open) a repository of {commit.SMALL:,} refs and read one chunk, cold", "cold")


def huge(b):
    if not b.can_drop_caches():
        return
    repo = b.fixture("ten million", merge.ten_million)[0]
    name = there(b, repo, merge.LARGE)
    row = first(b, repo, name, f"mount (open) a repository of {merge.LARGE:,} refs and read one chunk, cold", "cold")
    files = sorted((repo / "manifests").iterdir(), key=lambda f: f.stat().st_mtime)
    touched = files[-1]                                         # the commit above has written it anew
    runs = row["runs"]["firn"]
    peak, idle = (statistics.median(f(r) for r in runs) for f in (lambda r: r["driver_mb"], lambda r: r["idle_mb"]))
    b.note(f"in that, the driver has {idle:.1f} MB when mounted and {peak:.1f} MB at its peak, {peak - idle:.1f} MB more; the manifest "
           f"that it needs has {touched.stat().st_size / 2**20:.1f} MB, {b.child('opening', 'unpacked', touched)['mb'][0]:.1f} MB unpacked")


if __name__ == "__main__":
    child_main(globals())
