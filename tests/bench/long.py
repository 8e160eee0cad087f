"""What takes longer than `make bench` has time for, up to ten million references: `make bench-long`.

    long.py [--json FILE] [--against FILE] [--reps N] [--only merge,grown,history,manifests,names] [--dir DIRECTORY]
"""
import json
import os
import shutil
import subprocess
import sys
import time

import bench
from bench import BIN, GROUP, array_json, hwm, official, put

SMALL, LARGE = 1_000_000, 10_000_000
JOURNALS = 100
COMMITS = 2_000
MANIFESTS = 16_000
SIDE = 1_000                # of a nested array: 1,000 directories of 1,000 chunks


# ---- what runs in fresh processes ----

def child_history(path, n):
    """n commits of one chunk each on the array /a of n chunks."""
    import icechunk
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(path))
    s = repo.writable_session("main")
    put(s.store, "zarr.json", GROUP)
    put(s.store, "a/zarr.json", array_json(2 * COMMITS))
    s.commit("array")
    for i in range(int(n)):
        s = repo.writable_session("main")
        put(s.store, f"a/c/{i}", b"%d" % i)
        s.commit(f"{i}")
    return {}


def child_manifests(path, n):
    """An array of n chunks with a manifest for each."""
    import icechunk
    import numpy as np
    n = int(n)
    config = icechunk.RepositoryConfig.default()
    config.manifest = icechunk.ManifestConfig(splitting=icechunk.ManifestSplittingConfig.from_dict(
        {icechunk.ManifestSplitCondition.AnyArray(): {icechunk.ManifestSplitDimCondition.Any(): 1}}))
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(path), config=config)
    repo.save_config()
    s = repo.writable_session("main")
    put(s.store, "zarr.json", GROUP)
    put(s.store, "a/zarr.json", array_json(n))
    s.store.set_virtual_refs_arr("/a", (n,), [f"s3://bucket/{i // 1000}" for i in range(n)],
                                 np.arange(n, dtype="u8") % 1000 * 100, np.full(n, 100, dtype="u8"), validate_containers=False)
    s.commit("manifests")
    return {}


def child_first_chunk(kind, path, name):
    t = time.perf_counter()
    if kind == "official":
        data = bench.get(official(path).readonly_session("main").store, name)
    else:
        with open(f"{path}/{name}", "rb") as f:
            data = f.read()
    assert data
    return {"seconds": time.perf_counter() - t, "mb": hwm()}


def child_names(command, path):
    """The time until the first name, and until the last."""
    argv = {"ls": ["ls", "-f", path], "find": ["find", path, "-name", "*7"]}[command]
    t = time.perf_counter()
    p = subprocess.Popen(argv, stdout=subprocess.PIPE)
    first = None
    n = 0
    while block := os.read(p.stdout.fileno(), 1 << 20):
        first = first or time.perf_counter() - t
        n += block.count(b"\n")
    assert p.wait() == 0
    return {"seconds": time.perf_counter() - t, "first": first, "names": n, "mb": 0}


# ---- the other side ----

def drop_caches():
    os.sync()
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run([*root, "sh", "-c", "echo 3 >/proc/sys/vm/drop_caches"], check=True)


class Long(bench.Bench):
    script = __file__

    def new(self, name, n):
        repo = self.dir / name
        self.firn("init", repo)
        m = self.mount("new", repo)
        (m / "main/zarr.json").write_bytes(GROUP)
        (m / "main/a").mkdir()
        (m / "main/a/zarr.json").write_bytes(array_json(n))
        self.firn("commit", m, "-m", "array")
        self.umount(m)
        return repo

    def filled(self, name, n, journals):
        """A repository with n virtual refs, and what their commit cost."""
        repo, handed_in = self.new(name, n), self.dir / f"{name}.journals"
        handed_in.mkdir()
        subprocess.run([BIN.parent / "tests/bench/make-journals", repo, str(journals), str(n // journals), "virtual", handed_in],
                       check=True)
        r = self.firn("commit", *sorted(handed_in.iterdir()), "-m", "filled")
        shutil.rmtree(handed_in)
        return repo, r

    def put(self, m, i):
        (m / "main/a/c").mkdir(exist_ok=True)
        (m / f"main/a/c/{i}").write_bytes(b"%d" % i)

    def commit_one(self, repo, i, m=None):
        m = self.mount("m", repo)
        self.put(m, i)
        r = self.firn("commit", m, "-m", f"chunk {i}") | {"driver_mb": self.driver_mb(m)}
        self.umount(m)
        return r

    def note(self, text):
        self.notes.append(text)
        self.say(text)

    # a hundred journals of a hundred thousand

    def bench_merge(self):
        runs = []
        for rep in range(3):
            shutil.rmtree(self.dir / "merged", ignore_errors=True)
            self.say(f"merge: {JOURNALS} journals x {LARGE // JOURNALS:,} virtual refs")
            repo, r = self.filled("merged", LARGE, JOURNALS)
            runs.append(r)
        r = sorted(runs, key=lambda r: r["seconds"])[1]
        self.note(f"merge and commit {JOURNALS} journals x {LARGE // JOURNALS:,} virtual refs: {r['seconds']:.1f} s, "
                  f"{r['cpu'] / LARGE * 1e6:.2f} us of processor a ref, {r['mb']:.0f} MB")
        shutil.rmtree(repo)

    # one chunk of ten million

    def bench_grown(self):
        self.say(f"grown: repositories of {SMALL:,} and {LARGE:,} refs")
        small, large = self.filled("small", SMALL, 10)[0], self.filled("large", LARGE, JOURNALS)[0]
        theirs = self.dir / "theirs"
        self.child_of(bench.__file__, "create_official", theirs)
        self.child_of(bench.__file__, "virtual", theirs)
        self.measure(f"commit 1 chunk of {SMALL:,}", firn=lambda rep: self.commit_one(small, rep * 7),
                     official=lambda rep: self.child_of(bench.__file__, "commit_official", theirs, rep * 7))
        self.measure(f"commit 1 chunk of {LARGE:,}", firn=lambda rep: self.commit_one(large, rep * 7))
        a, b = (row["firn"]["seconds"] for row in self.rows[-2:])
        self.note(f"{LARGE:,} refs against {SMALL:,}: {b / a:.2f} times as long")

        def first(rep):
            drop_caches()
            t = time.perf_counter()
            m = self.mount("m", "--read-only", large)
            mounted = time.perf_counter() - t
            r = self.child("first_chunk", "plain", m / "main", "a/c/0") | {"driver_mb": self.driver_mb(m)}
            self.umount(m)
            return r | {"seconds": r["seconds"] + mounted}

        def first_official(rep):
            drop_caches()
            return self.child("first_chunk", "official", large, "a/c/0")

        self.measure(f"open and read 1 chunk of {LARGE:,}, nothing cached (with the mount; without importing icechunk)",
                     firn=first, official=first_official)
        for d in small, large, theirs:
            shutil.rmtree(d)

    # after many commits

    def bench_history(self):
        self.say(f"history: {COMMITS:,} commits on each side")
        theirs, ours, fresh = self.dir / "h-theirs", self.new("h-ours", 2 * COMMITS), self.new("h-fresh", 2 * COMMITS)
        self.child("history", theirs, COMMITS)
        m = self.mount("h", ours)
        for i in range(COMMITS):
            self.put(m, i)
            self.firn("commit", m, "-m", f"{i}")
        self.umount(m)
        at = COMMITS
        self.measure("commit 1 chunk, new repository", firn=lambda rep: self.commit_one(fresh, rep))
        self.measure(f"commit 1 chunk after {COMMITS:,} commits", firn=lambda rep: self.commit_one(ours, at + rep),
                     official=lambda rep: self.child_of(bench.__file__, "commit_official", theirs, at + rep))
        self.measure(f"firn log of {COMMITS:,} commits", firn=lambda rep: self.firn("log", ours))
        for d in theirs, ours, fresh:
            shutil.rmtree(d)

    # an array of many manifests

    def bench_manifests(self):
        self.say(f"manifests: {MANIFESTS:,} of one chunk each")
        theirs, ours = self.dir / "n-theirs", self.dir / "n-ours"
        self.child("manifests", theirs, MANIFESTS)
        shutil.copytree(theirs, ours)
        self.measure(f"commit 1 chunk of an array with {MANIFESTS:,} manifests", firn=lambda rep: self.commit_one(ours, rep * 7),
                     official=lambda rep: self.child_of(bench.__file__, "commit_official", theirs, rep * 7))
        for d in theirs, ours:
            shutil.rmtree(d)

    # names alone

    def bench_names(self):
        for what, n, nested in ((f"{SMALL:,} chunks in one directory", SMALL, False),
                                (f"{SMALL:,} chunks in {SIDE:,} directories", SMALL, True)):
            self.names(what, n, nested)
        self.say(f"names: {LARGE:,}")
        repo = self.filled("names", LARGE, JOURNALS)[0]
        m = self.mount("n", "--read-only", repo)
        before = self.driver_mb(m)
        r = self.child("names", "ls", m / "main/a/c")
        self.note(f"ls -f of {LARGE:,} chunks: {r['seconds']:.1f} s, the first names after {r['first'] * 1000:.0f} ms; "
                  f"the driver grew by {self.driver_mb(m) - before:.0f} MB")
        self.umount(m)
        shutil.rmtree(repo)

    def names(self, what, n, nested):
        self.say(f"names: {what}")
        plain, repo = self.dir / "plain-names", self.dir / "names"
        shape = [SIDE, n // SIDE] if nested else [n]
        d = plain / "main/a"
        d.mkdir(parents=True)
        document = json.loads(array_json(n)) | {"shape": shape}
        document["chunk_grid"]["configuration"]["chunk_shape"] = [1] * len(shape)
        self.firn("init", repo)
        m = self.mount("n", repo)
        (m / "main/zarr.json").write_bytes(GROUP)
        (m / "main/a").mkdir()
        (m / "main/a/zarr.json").write_text(json.dumps(document))
        for root in m / "main/a/c", d / "c":
            subprocess.run([sys.executable, "-c", MAKER, root, str(n), str(SIDE if nested else 0)], check=True)
        self.firn("commit", m, "-m", "names")
        self.umount(m)
        m = self.mount("n", "--read-only", repo)
        for command in "ls", "find":
            if nested and command == "ls":
                continue
            self.measure(f"{command} of {what}", firn=lambda rep: self.child("names", command, m / "main/a/c") | {"driver_mb": self.driver_mb(m)},
                         plain=lambda rep: self.child("names", command, d / "c"))
        self.umount(m)
        for x in plain, repo:
            shutil.rmtree(x)


MAKER = """
import os, sys
root, n, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.makedirs(root)
def fill(d, n):
    d = os.open(d, os.O_RDONLY)
    for i in range(n):
        f = os.open(str(i), os.O_WRONLY | os.O_CREAT, dir_fd=d)
        os.write(f, b"%08d" % i)
        os.close(f)
    os.close(d)
if side:
    for k in range(side):
        os.mkdir(f"{root}/{k}")
        fill(f"{root}/{k}", n // side)
else:
    fill(root, n)
"""


if __name__ == "__main__":
    bench.main(Long, "merge,grown,history,manifests,names", globals())
