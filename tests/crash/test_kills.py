"""The driver killed again and again at moments nobody chose: resumed, the mount has everything close() returned for."""
import ctypes
import os
import random
import signal
import subprocess
import threading
import time

import pytest

from calls import ALONE, Committing
from conftest import BIN, assert_committed, assert_same, put, put_array, read_tree

MNT_FORCE = 1
WRITERS, CHUNKS = 4, 12          # each writer has chunks of its own


class Writer(threading.Thread):
    """Writes until the mount dies; knows what must be there, and what may."""

    def __init__(self, main, number, rng, known):
        super().__init__()
        self.main, self.number, self.rng, self.known = main, number, rng, known
        self.unsure = {}         # chunk -> what may be there instead
        self.n = 0

    def write(self, name, data):
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, dir_fd=self.directory)
        try:
            while data:
                data = data[os.write(fd, data):]
        finally:
            os.close(fd)

    def unlink(self, name):
        try:
            os.unlink(name, dir_fd=self.directory)
        except FileNotFoundError:
            pass

    def step(self):
        i = self.number + WRITERS * self.rng.randrange(CHUNKS)
        data = self.rng.randbytes(8) * self.rng.choice([1, 64, 65, 700, 5000, 40_000])
        how = self.rng.randrange(5)
        self.unsure = {i: [None] if how == 0 else [data] if how == 1 else [None, data]}
        if how == 0:
            self.unlink(f"{i}")
        elif how == 1:
            self.write(f"{i}.{self.n:032x}.partial", data)
            os.replace(f"{i}.{self.n:032x}.partial", f"{i}", src_dir_fd=self.directory, dst_dir_fd=self.directory)
        else:
            # Created anew: in place, O_TRUNC may leave nothing of it for a moment.
            self.unlink(f"{i}")
            self.known[i] = None
            self.write(f"{i}", data)
        self.known[i] = None if how == 0 else data
        self.unsure = {}
        self.n += 1

    def run(self):
        # By path, what lies below a mount that is gone would answer, and say that there is no such file.
        try:
            self.directory = os.open(self.main / "a/c", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return
        try:
            while True:
                self.step()
        except OSError:
            pass
        finally:
            os.close(self.directory)


def committer(m, stop):
    while not stop.is_set():
        subprocess.run([BIN / "firn", "commit", m.path, "-m", "under way"], env=m.firn.env, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False)
        time.sleep(0.02)


def kills(repo, mounts, seed, n):
    rng = random.Random(seed)
    m = mounts.enter_context(repo.mount(*ALONE))
    put_array(m.main, "a", (WRITERS * CHUNKS,), (1,))
    (m.main / "a/c").mkdir()
    known, written = {}, 0
    for kill in range(n):
        id, stop = m.session()["id"], threading.Event()
        mine = [{i: d for i, d in known.items() if i % WRITERS == t} for t in range(WRITERS)]
        writers = [Writer(m.main, t, random.Random(f"{seed} {kill} {t}"), mine[t]) for t in range(WRITERS)]
        extra = [threading.Thread(target=committer, args=(m, stop))] if rng.random() < 0.5 else []
        for t in writers + extra:
            t.start()
        time.sleep(rng.random() ** 2 * 0.8 + 0.01)
        os.kill(m.pid, signal.SIGKILL)
        stop.set()
        # Killed while it told the kernel what to forget, it may not get away from there, nor writers from it:
        # umount -f ends that, but a process started here would first close what the writers have open.
        ctypes.CDLL(None).umount2(os.fsencode(m.path), MNT_FORCE)
        for t in writers + extra:
            t.join()
        m.died()
        m = mounts.enter_context(repo.resume(id, *ALONE))
        got = {int(p[4:]): d for p, d in read_tree(m.main).items() if p.startswith("a/c/")}
        known = {}
        for w in writers:
            written += w.n
            for i in range(w.number, WRITERS * CHUNKS, WRITERS):
                allowed = [w.known.get(i), *w.unsure.get(i, [])]
                assert got.get(i) in allowed, (seed, kill, i, got.get(i) and len(got[i]), [d and len(d) for d in allowed])
                known[i] = got.get(i)
    p = m.firn.run("commit", m, "-m", "the end", "--force")
    assert p.returncode in (0, 4), p.stderr
    assert_committed(repo, m.main)
    print(f"{n} kills survived, {written} writes acknowledged (seed {seed})")
    assert written > n


def test_kills(repo, mounts):
    kills(repo, mounts, 1, 12)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 7))
def test_many_kills(repo, mounts, seed):
    kills(repo, mounts, seed, 200)


@pytest.mark.parametrize("killed", [False, True])
def test_chunk_removed_during_the_commit_that_has_it__stays_removed(repo, mounts, killed):
    m = mounts.enter_context(repo.mount())
    put_array(m.main, "a", (10,), (1,))
    for i in range(3):
        put(m.main, f"a/c/{i}", b"x" * 600)
    c = Committing(m)
    image = c.ask(op="commit-begin", wait_ms=1000)["journal"]
    (m.main / "a/c/1").unlink()
    put(m.main, "a/c/2", b"new")
    want = read_tree(m.main)
    snapshot = m.firn.snapshot("commit", image, "-m", "slow")
    c.ask(op="commit-intent", snapshot=snapshot)
    if killed:
        id = m.session()["id"]
        m.kill()
        m = mounts.enter_context(repo.resume(id))
    else:
        c.ask(op="commit-end", snapshot=snapshot)
    os.close(c.fd)
    assert "a/c/1" not in want
    assert_same(read_tree(m.main), want)
    m.commit("the rest")
    assert_committed(repo, m.main)
