"""Journals that workers published: they go with the commit that takes them, or, if its command died, with the next;
and what is not committed stays."""
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from calls import ALONE, KILL, KILL_AFTER, Calls, points
from conftest import BIN, assert_committed, assert_same, put, put_array, read_tree
from test_sweep import end_round, stepped, sweep

COMMAND = [name for name, driver in points().items() if not driver]
COMMITTED = {"updated", "sources-ended"}
WORKERS = 3


def journals(repo):
    return sorted(repo.path.glob("firn/sessions/*/*.journal"))


def notes(repo):
    """Without temporaries, which are the business of fsck (test_garbage)."""
    return sorted(p for p in repo.path.glob("firn/taken/*") if "#" not in p.name)


def fork_of(repo, m, tmp_path, name="fork"):
    token = tmp_path / f"{name}.json"
    repo.firn("fork", m, "-o", token)
    return token


def published(repo, m, tmp_path, way, n=0):
    """Workers end; how they are named in a commit, and what they wrote."""
    token, copies, wrote = fork_of(repo, m, tmp_path), [], {}
    for i in range(WORKERS):
        with repo.worker(token) as w:
            wrote[f"a/c/{i}"] = b"%d of %d" % (n, i) * 300
            put(w.main, f"a/c/{i}", wrote[f"a/c/{i}"])
            if way == "copies":
                copies.append(shutil.copy(w.path / ".firn/journal", tmp_path / f"{i}.journal"))
    assert len(journals(repo)) == WORKERS
    return copies or ["--fork", token, "--expect", str(WORKERS)], wrote


def published_and_dead(repo, mounts, m, tmp_path):
    """The token of a fork, and a worker's session that has published and can be resumed all the same."""
    token = fork_of(repo, m, tmp_path)
    with repo.firn.watching({"FIRN_CRASH_AT": "fork-published"}):
        w = mounts.enter_context(repo.worker(token, *ALONE))
    id = w.session()["id"]
    put(w.main, "a/c/0", b"taken")
    repo.firn.run("umount", w)
    w.died()
    return token, id


@pytest.fixture
def array(repo, mounts):
    m = mounts.enter_context(repo.mount())
    put_array(m.main, "a", (100,), (1,))
    m.commit("base")
    return m


@pytest.mark.parametrize("way", ["fork", "copies"])
@pytest.mark.parametrize("point", COMMAND)
def test_commit_dies(repo, array, tmp_path, point, way):
    sources, wrote = published(repo, array, tmp_path, way)
    want = read_tree(array.main)
    before = repo.official().lookup_branch("main")
    with repo.firn.watching({"FIRN_CRASH_AT": point}):
        p = repo.firn.run("commit", array, *sources, "-m", "killed")
    assert p.returncode == -signal.SIGKILL, (point, p)
    repo.check()
    committed = repo.official().lookup_branch("main") != before
    assert committed == (point in COMMITTED)
    assert len(journals(repo)) == (0 if point == "sources-ended" else WORKERS)
    if not committed:
        repo.firn("commit", array, *sources, "-m", "again")
    else:
        put(array.main, "a/c/50", b"next")
        want["a/c/50"] = b"next"
        array.commit("the next")
    assert not journals(repo)
    assert_same(read_tree(array.main), want | wrote)
    assert_committed(repo, array.main)
    # A note of what was not made is kept until nobody can be about to make it.
    for note in notes(repo):
        assert not committed
        long_ago = time.time() - 2 * 86400
        os.utime(note, (long_ago, long_ago))
    put(array.main, "a/c/51", b"last")
    array.commit("the last")
    assert not notes(repo)


def test_fsck(repo, array, tmp_path):
    sources, _ = published(repo, array, tmp_path, "fork")
    with repo.firn.watching({"FIRN_CRASH_AT": "updated"}):
        repo.firn.run("commit", array, *sources, "-m", "killed")
    [note] = notes(repo)
    [finding] = repo.firn.json("fsck", repo)["findings"]
    assert finding["kind"] == "leftover" and finding["object"] == f"firn/taken/{note.name}"
    assert len(journals(repo)) == WORKERS and notes(repo)
    repo.firn("fsck", "--repair", repo)
    assert not journals(repo) and not notes(repo)
    assert repo.firn.json("fsck", "--deep", repo)["findings"] == []


def test_damaged_note(repo, array, tmp_path):
    """It says which; nothing is removed for it, and commits go on."""
    sources, _ = published(repo, array, tmp_path, "fork")
    with repo.firn.watching({"FIRN_CRASH_AT": "updated"}):
        repo.firn.run("commit", array, *sources, "-m", "killed")
    [note] = notes(repo)
    note.write_bytes(note.read_bytes()[:-3])
    put(array.main, "a/c/50", b"next")
    p = repo.firn.run("commit", array, "-m", "the next")
    assert p.returncode == 0 and f"firn/taken/{note.name}" in p.stderr, p
    repair = repo.firn.json("fsck", "--repair", repo, code=1)["findings"]
    assert [f["kind"] for f in repair] == ["leftover", "unreadable"] and "firn discard --fork" in repair[1]["what"]
    assert len(journals(repo)) == WORKERS and notes(repo) == [note]
    assert_committed(repo, array.main)


def test_published_again_after_the_commit__stays(repo, mounts, array, tmp_path):
    """A worker that goes on where it was taken has what is nowhere else."""
    token, id = published_and_dead(repo, mounts, array, tmp_path)
    with repo.firn.watching({"FIRN_CRASH_AT": "updated"}):
        p = repo.firn.run("commit", array, "--fork", token, "-m", "killed")
    assert p.returncode == -signal.SIGKILL
    with repo.resume(id) as again:
        put(again.main, "a/c/1", b"later")
    put(array.main, "a/c/50", b"next")
    array.commit("the next")
    [left] = journals(repo)
    assert "c/1" in repo.firn("journal", "show", left)
    assert not notes(repo)


def test_published_again_during_the_commit__stays(repo, mounts, array, tmp_path):
    token, id = published_and_dead(repo, mounts, array, tmp_path)
    [journal] = journals(repo)
    first = journal.read_bytes()
    with repo.resume(id) as again:
        put(again.main, "a/c/1", b"later")
    later = journal.read_bytes()
    journal.write_bytes(first)
    with open(repo.path / "firn/lock", "a") as lock:          # the branch cannot move
        fcntl.flock(lock, fcntl.LOCK_EX)
        p = subprocess.Popen([BIN / "firn", "commit", array.path, "--fork", token, "-m", "slow"], env=repo.firn.env, stdout=subprocess.PIPE)
        end = time.monotonic() + 20
        while not notes(repo) and time.monotonic() < end:
            time.sleep(0.01)
        assert notes(repo) and p.poll() is None
        (tmp_path / "later").write_bytes(later)
        os.replace(tmp_path / "later", journal)
    assert p.wait(60) == 0
    p.stdout.close()
    assert (array.main / "a/c/0").read_bytes() == b"taken" and not (array.main / "a/c/1").exists()
    assert journal.read_bytes() == later and not notes(repo)


@stepped
@pytest.mark.parametrize("how", [errno.EIO, KILL, KILL_AFTER], ids=["EIO", "killed", "killed-after"])
def test_commit_fails_at_every_call(repo, array, tmp_path, step, how):
    calls = Calls(tmp_path / "calls", repo.path)
    n = left = 0
    for k in sweep(calls, 1, how, step):
        calls.arm(0, 0, 0)
        n += 1
        sources, wrote = published(repo, array, tmp_path, "fork", n)
        want = read_tree(array.main) | wrote
        before = repo.official().lookup_branch("main")
        calls.arm(k, 1, how)
        with repo.firn.watching(calls.env):
            p = repo.firn.run("commit", array, *sources, "-m", f"{k}")
        failed, what, path = end_round(calls)
        committed = repo.official().lookup_branch("main") != before
        assert (p.returncode == 0) <= committed, (k, what, path, p)
        if not committed:
            repo.firn("commit", array, *sources, "-m", "again")
        put(array.main, "a/c/50", b"%d" % n)
        repo.firn("commit", array, "-m", "the next")
        assert not journals(repo), (k, what, path, p)
        # One for each commit that was killed and not made, for a day.
        left += p.returncode < 0 and not committed
        assert len(notes(repo)) <= left, (k, what, path, p)
        assert_same(read_tree(array.main), want | {"a/c/50": b"%d" % n}, f"{k} ({what} of {path})")
    repo.check()
    assert_committed(repo, array.main)
    assert calls.total > 15 // step


def test_fork_is_given_up(repo, mounts, array, tmp_path):
    put(array.main, "a/c/9", b"uncommitted")
    token = fork_of(repo, array, tmp_path)
    other = fork_of(repo, array, tmp_path, "other")
    for t in token, token, other:
        with repo.worker(t) as w:
            put(w.main, "a/c/1", b"work")
    fork = json.loads(token.read_text())["fork"]
    assert len(list(repo.path.glob(f"firn/sessions/{fork}/*"))) == 3
    assert repo.firn.json("discard", "--fork", token) == {"discarded": fork}
    assert not list(repo.path.glob(f"firn/sessions/{fork}/*")) and len(journals(repo)) == 1
    repo.firn.refuses("discard", "--fork", fork, "--repo", repo, saying=["nothing of fork", fork])
    repo.firn.refuses("discard", "--fork", fork, saying="--repo")
    repo.firn.refuses("discard", "--fork", "../..", "--repo", repo, saying="no id of a fork")
    repo.firn.refuses("discard", "--fork", fork, array, code=2, saying="one of them")
    repo.firn.refuses("discard", "--repo", repo, code=2, saying="--fork")
    at = repo.mountpoint()
    at.mkdir(parents=True)
    repo.firn.refuses("mount", "--fork", token, at, saying="was the fork removed")
    repo.firn("commit", array, "--fork", other, "--expect", "1", "-m", "the other")
    assert (array.main / "a/c/1").read_bytes() == b"work"
    assert_committed(repo, array.main)
