"""Many committers of one branch at once: every acknowledged commit is in the history, and nothing is left over.

The official library loses 3 to 10 of 80 on a local file system.
"""
import fcntl
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import pytest

from conftest import BIN, PATIENCE, array_json, group_json, put, store_tree
from parties import files

COMMITTER = """
import pathlib, subprocess, sys
firn, me, rounds, journals, mount = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
for k in range(rounds):
    source = f"{journals}/{me}.{k}.journal"
    if mount:
        source = mount
        chunks = pathlib.Path(f"{mount}/main/a/c")
        chunks.mkdir(exist_ok=True)
        (chunks / str(me * rounds + k)).write_bytes(b"%d.%d " % (me, k) * (1 + 200 * (k % 2)))
    p = subprocess.run([firn, "commit", source, "-m", f"{me}.{k}", "--rebase"], stdout=subprocess.PIPE, text=True)
    if p.returncode:
        sys.exit(f"commit {me}.{k}: exit code {p.returncode}")
    print(p.stdout.strip(), flush=True)
"""


def content(me, k):
    return b"%d.%d " % (me, k) * (1 + 200 * (k % 2))


def start(repo, n, rounds):
    with repo.mount() as m:
        put(m.main, "zarr.json", group_json())
        put(m.main, "a/zarr.json", array_json((n * rounds,), (1,)))
        m.commit("start")


def make_journals(repo, tmp_path, me, rounds):
    """One journal a commit, all from one base, as workers on other machines would bring them."""
    for k in range(rounds):
        with repo.mount() as m:
            put(m.main, f"a/c/{me * rounds + k}", content(me, k))
            m.umount("--export", tmp_path / f"{me}.{k}.journal")


def race(repo, firn, mounts, tmp_path, n, rounds, with_mounts):
    """The ids of all commits, as they were printed."""
    start(repo, n, rounds)
    own = [str(mounts.enter_context(repo.mount())) if i % 2 in with_mounts else "" for i in range(n)]
    for i in range(n):
        if not own[i]:
            make_journals(repo, tmp_path, i, rounds)
    env = firn.env
    running = [subprocess.Popen([sys.executable, "-c", COMMITTER, BIN / "firn", str(i), str(rounds),
                                 str(tmp_path), own[i]], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True) for i in range(n)]
    ids = []
    for p in running:
        out, err = p.communicate(timeout=400 * PATIENCE)
        assert p.returncode == 0, err
        ids += out.split()
    return ids


def check(repo, ids, n, rounds):
    assert len(set(ids)) == n * rounds
    history = list(repo.official().ancestry(branch="main"))
    assert {a.id for a in history} >= set(ids) and len(history) == n * rounds + 2
    assert {a.message for a in history} >= {f"{i}.{k}" for i in range(n) for k in range(rounds)}
    assert [e["id"] for e in repo.firn.json("log", repo)] == [a.id for a in history]
    tree = {k: v for k, v in store_tree(repo.store()).items() if k.startswith("a/c/")}
    assert tree == {f"a/c/{i * rounds + k}": content(i, k) for i in range(n) for k in range(rounds)}
    repo.check()
    check_no_leftovers(repo, history)


def check_no_leftovers(repo, history):
    """Nothing but what the history needs: no temporary file, no object of an attempt that was overtaken."""
    there = files(repo.path).keys() - {"firn/lock"}
    assert not [name for name in there if "#" in name or name.startswith("firn/")], there
    ids = {a.id for a in history}
    assert {n.partition("/")[2] for n in there if n.startswith("snapshots/")} == ids
    assert {n.partition("/")[2] for n in there if n.startswith("transactions/")} == ids
    official = repo.official()
    needed = {"manifests/" + m.id for id in ids for m in official.list_manifest_files(id)}
    assert {n for n in there if n.startswith("manifests/")} == needed
    assert len([n for n in there if n.startswith("overwritten/")]) == len(ids) - 1


def test_mounts_and_journals(firn, repo, mounts, tmp_path):
    """Eight processes, half of them with a mount of their own, half with journals made before."""
    n, rounds = 8, 4 if PATIENCE == 1 else 2
    check(repo, race(repo, firn, mounts, tmp_path, n, rounds, {0}), n, rounds)


@pytest.mark.soak
@pytest.mark.parametrize("with_mounts", [{0, 1}, set(), {0}], ids=["mounts", "journals", "both"])
def test_eight_processes_of_twenty_five_commits(firn, repo, mounts, tmp_path, with_mounts):
    check(repo, race(repo, firn, mounts, tmp_path, 8, 25, with_mounts), 8, 25)


def test_killed_committers_hold_nobody_up(firn, repo, mounts, tmp_path):
    """SIGKILL at any moment, also with the lock held: others go on, and every acknowledged commit counts."""
    rounds = 12
    start(repo, 2, rounds)
    make_journals(repo, tmp_path, 1, rounds)
    done = threading.Event()
    killed = []

    def victim():
        """Commits one of the journals again and again, and dies every time after a while."""
        for k in range(rounds):
            if done.is_set():
                return
            p = subprocess.Popen([BIN / "firn", "commit", tmp_path / f"1.{k}.journal", "-m", f"1.{k}", "--rebase"],
                                 env=firn.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            time.sleep(0.003 * k * PATIENCE)
            p.send_signal(signal.SIGKILL)
            killed.append((f"1.{k}", p.communicate()[0].strip(), p.returncode))

    t = threading.Thread(target=victim)
    t.start()
    with repo.mount() as m:
        ids = []
        for k in range(rounds):
            put(m.main, f"a/c/{k}", content(0, k))
            ids.append(m.commit(f"0.{k}", "--rebase"))
    done.set()
    t.join()
    history = {a.id: a.message for a in repo.official().ancestry(branch="main")}
    assert set(ids) <= history.keys()
    assert any(code == -signal.SIGKILL for _, _, code in killed)
    assert {id for _, id, _ in killed if id} <= history.keys(), "an id was printed, and the commit is gone"
    tree = store_tree(repo.store())
    for k in range(rounds):
        assert tree[f"a/c/{k}"] == content(0, k)
        assert (f"1.{k}" in history.values()) == (f"a/c/{rounds + k}" in tree)
    repo.check()


def test_killed_with_the_lock_held(firn, repo, tmp_path):
    """A committer that stands still in the update of `repo` holds the others up until it is dead, and no longer.

    It takes two kinds of locks: with one of them held here, it stands still with the other one.
    """
    start(repo, 3, 1)
    for i in range(3):
        make_journals(repo, tmp_path, i, 1)

    def committer(i):
        return subprocess.Popen([BIN / "firn", "commit", tmp_path / f"{i}.0.journal", "-m", f"{i}.0", "--rebase"],
                                env=firn.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def locked(file):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
        except BlockingIOError:
            return True

    with open(repo.path / "firn/lock", "r+b") as lock:
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        victim = committer(0)
        end = time.monotonic() + 20 * PATIENCE
        while not locked(lock):
            assert victim.poll() is None and time.monotonic() < end, "it did not take the lock"
            time.sleep(0.01)
        others = [committer(1), committer(2)]
        time.sleep(0.5 * PATIENCE)
        assert all(p.poll() is None for p in [victim, *others])
        victim.kill()
        victim.communicate()
    for p in others:
        out, err = p.communicate(timeout=20 * PATIENCE)
        assert p.returncode == 0, err
    assert sorted(a.message for a in repo.official().ancestry(branch="main"))[:2] == ["1.0", "2.0"]
    repo.check()
