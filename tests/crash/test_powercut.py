"""Power cuts, simulated on what the command and the driver wrote and synced: no acknowledged commit or fsync is
lost, the repository opens, the session goes on."""
import json
import os
import random
import shutil
import threading
import time

import pytest

from calls import Calls
from conftest import Mount, group_json, put, put_array, read_tree, store_tree
from disk import Disk, restart


class Recorder:
    """A workload that says in the log what it starts and what was acknowledged."""

    def __init__(self, repo, mount, calls, seed):
        self.repo, self.m, self.calls, self.rng = repo, mount, calls, random.Random(seed)
        self.versions, self.lock = {}, threading.Lock()      # path -> [bytes or None], oldest first
        self.trees = {}                                      # snapshot -> tree

    def start(self, path, data):
        with self.lock:
            self.versions.setdefault(path, [None]).append(data)
            n = len(self.versions[path]) - 1
        self.calls.mark("start", json.dumps([path, n]))
        return n

    def write(self, path, data, sync=False, rename=False):
        n = self.start(path, data)
        if data is None:
            (self.m.main / path).unlink(missing_ok=True)
            return
        name = f"{path}.{n}.partial" if rename else path
        target = self.m.main / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "wb") as f:
            f.write(data)
            if sync and not rename:
                f.flush()
                os.fsync(f.fileno())
        if rename:
            os.replace(target, self.m.main / path)
            if sync:
                with open(self.m.main / path, "rb+") as f:
                    os.fsync(f.fileno())
        if sync:
            self.calls.mark("synced", json.dumps({path: n}))

    def sync_all(self):
        with self.lock:
            upto = {path: len(v) - 1 for path, v in self.versions.items()}
        fd = os.open(self.m.main, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        self.calls.mark("synced", json.dumps(upto))

    def syncs(self):
        """Of the journal, and finished."""
        return sum(1 for e in self.calls.entries() if e[0] == "fsync" and e[4].endswith(("/journal", "/journal.next")))

    def settle(self):
        """Without asking: the driver syncs by itself.  Its second sync from now began after now."""
        with self.lock:
            upto = {path: len(v) - 1 for path, v in self.versions.items()}
        end = time.monotonic() + 60
        for _ in range(2):
            seen = self.syncs()
            self.write("a/c/99", b"tick %d" % seen)
            while self.syncs() == seen:
                assert time.monotonic() < end, "the driver does not sync by itself"
                time.sleep(0.1)
        self.calls.mark("synced", json.dumps(upto))

    def commit(self, quiet=True):
        with self.lock:
            upto = {path: len(v) - 1 for path, v in self.versions.items()}
        tree = read_tree(self.m.main) if quiet else None
        id = self.m.commit("m")
        if quiet:
            self.trees[id] = tree
        self.calls.mark("committed", id)
        if quiet:
            self.calls.mark("synced", json.dumps(upto))

    def data(self):
        n = self.rng.choice([20, 400, 600, 5000, 40_000, 300_000])
        return self.rng.randbytes(16) * (n // 16)

    def run(self, rounds):
        rng = self.rng
        for path, data in (("zarr.json", group_json()), ("a/zarr.json", array())):
            self.write(path, data)
        for round in range(rounds):
            for _ in range(12):
                i, roll = rng.randrange(12), rng.random()
                if roll < 0.08:
                    self.write(f"a/c/{i}", None)
                elif roll < 0.16:
                    self.write(f"g{i % 3}/zarr.json", group_json(n=rng.random()), sync=roll < 0.12)
                elif roll < 0.2:
                    self.sync_all()
                else:
                    self.write(f"a/c/{i}", self.data(), sync=roll < 0.45, rename=rng.random() < 0.4)
            if round % 3 == 1:
                self.settle()
            if round % 3 == 2:
                # Writes during the commit belong to the next one.
                other = threading.Thread(target=lambda: [self.write(f"a/c/{50 + k}", b"%d" % round * (300 * k + 5), sync=k % 2 == 0)
                                                         for k in range(8)])
                other.start()
                self.commit(quiet=False)
                other.join()
            else:
                self.commit()


def array():
    from conftest import array_json
    return array_json((100,), (1,))


def check(repo, recorder, disk, out, rng, acknowledged, started, committed, mountpoint):
    """One disk after the cut."""
    order = rng.choice(["any", "prefix"])
    keep = rng.choice([0.0, 0.0, 0.2, 0.5, 0.8, 1.0])
    disk.write(out, rng, order, keep)
    import icechunk
    import icedump
    problems = icedump.RepoDir(str(out / "repo")).everything()["problems"]
    assert not problems, "\n".join(problems)
    official = icechunk.Repository.open(icechunk.local_filesystem_storage(str(out / "repo")))
    history = [s.id for s in official.ancestry(branch="main")]
    for id in committed:
        assert id in history, f"commit {id} is lost"
    if committed and committed[-1] in recorder.trees:
        got = store_tree(official.readonly_session(snapshot_id=committed[-1]).store)
        assert got == recorder.trees[committed[-1]], "an acknowledged commit has another content"
    restart(out / "state")
    sessions = [p.name for p in (out / "state").iterdir() if p.is_dir()]
    assert len(sessions) == 1, sessions
    with Mount(repo.firn, mountpoint, ["-o", "restart=off", "--state-dir", out / "state", "--resume", sessions[0], out / "repo"]) as m:
        got = read_tree(m.main)
        for path, versions in recorder.versions.items():
            first, last = acknowledged.get(path, 0), started.get(path, 0)
            # Removed files may be seen as they were, never older than what was acknowledged.
            allowed = versions[first:last + 1]
            assert got.get(path) in allowed, (
                f"{path}: version {[i for i, v in enumerate(versions) if v == got.get(path)]}, acknowledged {first}, started {last}")
        extra = got.keys() - recorder.versions.keys()
        assert not extra, extra
        if "a/zarr.json" not in got:
            put_array(m.main, "a", (100,), (1,))
        put(m.main, "a/c/98", b"after the cut")
        recorder.repo.firn("commit", m, "-m", "after the cut")
    return order, keep


def play(repo, mounts, tmp_path, seed, rounds, cuts):
    root = tmp_path / "disk"
    root.mkdir()
    repo.firn("init", root / "repo")
    disk = Disk(root)
    disk.load(root)
    calls = Calls(tmp_path / "calls", root, record=True)
    with repo.firn.watching(calls.env):
        m = mounts.enter_context(Mount(repo.firn, tmp_path / "m", ["-o", "restart=off", "--state-dir", root / "state", root / "repo"]))
        calls.mark("mounted")
        recorder = Recorder(repo, m, calls, seed)
        recorder.run(rounds)
        m.umount()
    entries = list(calls.entries())
    rng = random.Random(seed)
    first = next(i for i, e in enumerate(entries) if e[0] == "MARK" and e[4] == "mounted")
    last = max(i for i, e in enumerate(entries) if e[0] == "MARK") + 1
    wanted = sorted(rng.sample(range(first + 1, last), min(cuts, last - first - 1)))
    acknowledged, started, committed, done = {}, {}, [], 0
    for i, (what, ino, offset, length, path, path2, data) in enumerate(entries):
        while wanted and wanted[0] == i:
            wanted.pop(0)
            out = tmp_path / "cut"
            where = f"seed {seed}, cut {i} of {len(entries)}"
            try:
                check(repo, recorder, disk, out, random.Random(f"{seed} {i}"), acknowledged, started, committed, tmp_path / "m2")
            except BaseException:
                print(f"{where}; before it: {[e[:2] + e[4:6] for e in entries[max(0, i - 12):i]]}")
                raise
            shutil.rmtree(out)
            done += 1
        if what != "MARK":
            disk.apply(what, ino, offset, path, path2, data)
        elif path == "start":
            name, n = json.loads(path2)
            started[name] = max(n, started.get(name, 0))
        elif path == "synced":
            for name, n in json.loads(path2).items():
                acknowledged[name] = max(n, acknowledged.get(name, 0))
        elif path == "committed":
            committed.append(path2)
    print(f"{done} power cuts survived (seed {seed}, {len(entries)} calls recorded, {len(committed)} commits)")
    assert done >= min(cuts, last - first - 1) and committed
    return done


def test_simulated_disk__directory_with_the_inode_number_of_a_removed_file__is_synced(tmp_path):
    disk = Disk("/r")
    for call in [("create", 7, 0, "/r/f", "", b""), ("unlink", 0, 0, "/r/f", "", b""), ("mkdir", 0, 0, "/r/d", "", b""),
                 ("fsync", 1, 0, "/r", "", b""), ("create", 8, 0, "/r/d/g", "", b""), ("write", 8, 0, "/r/d/g", "", b"x"),
                 ("fsync", 8, 0, "/r/d/g", "", b""), ("fsync", 7, 0, "/r/d", "", b"")]:
        disk.apply(*call)
    disk.write(tmp_path / "cut", random.Random(1), "any", 0)
    assert (tmp_path / "cut/d/g").read_bytes() == b"x"


def test_power_cuts(repo, mounts, tmp_path):
    play(repo, mounts, tmp_path, 1, 3, 25)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_power_cuts(repo, mounts, tmp_path, seed):
    play(repo, mounts, tmp_path, seed, 6, 120)
