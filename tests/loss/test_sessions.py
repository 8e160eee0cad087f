"""What a session owns: discarding, forking, merging, amending."""
import json
import os
import shutil

import pytest

from conftest import array_json, assert_committed, assert_same, group_json, put, read_tree, store_tree
from parties import DOC, Parties, apply


@pytest.fixture
def p(repo, mounts, tmp_path):
    return Parties(repo, mounts, tmp_path)


def objects(p):
    path = p.repo.path / "chunks"
    return set(os.listdir(path)) if path.is_dir() else set()


# ---- discarding ----

def test_discard__objects_nobody_else_knows_go(p):
    """What was exported, shared with a fork, or is in the base stays; all else leaves no trace."""
    put(p.m.main, "g/b/c/0", b"B" * 3000)
    p.m.commit("an object in the base")
    put(p.m.main, "a/c/0", b"F" * 3000)
    worker = p.journal("worker", {"a/c/1": b"W" * 3000})
    kept = objects(p)                                    # the base's, the fork's start, the worker's
    assert len(kept) == 3
    os.link(p.m.main / "g/b/c/0", p.m.main / "g/b/c/1")  # a second name of the base's object
    for i in range(4):
        put(p.m.main, f"a/c/{i}", b"%d" % i * 3000)
    put(p.m.main, "new/zarr.json", DOC)
    put(p.m.main, "new/c/0", b"N" * 3000)
    put(p.m.main, "later/c/0", b"P" * 3000)              # a pending file
    assert len(objects(p)) >= len(kept) + 6
    with open(p.m.main / "a/c/2", "rb") as reader:
        p.firn("discard", p.m)
        assert reader.read() == b"2" * 3000              # who has it open reads on
    assert (p.m.main / "g/b/c/0").read_bytes() == b"B" * 3000
    p.m.umount()
    assert objects(p) == kept
    p.firn("journal", "verify", worker)


def test_discard__at_the_end_of_a_mount(p):
    put(p.m.main, "a/c/0", b"F" * 3000)
    p.m.umount("--discard")
    assert objects(p) == set()


def test_discard__exported_objects_stay(p):
    put(p.m.main, "a/c/0", b"E" * 3000)
    copy = p.tmp / "copy.journal"
    shutil.copy(p.m.path / ".firn/journal", copy)
    put(p.m.main, "a/c/1", b"L" * 3000)
    p.firn("discard", p.m)
    p.m.umount()
    assert len(objects(p)) == 1
    p.commit(copy)
    assert store_tree(p.repo.store())["a/c/0"] == b"E" * 3000


def test_discard__what_is_written_then_was_not_known_to_earlier_forks(p):
    """A fork saw what was dropped.  As many changes later, the parent's are still not what it saw."""
    put(p.m.main, "a/c/0", b"dropped")
    worker = p.journal("worker", {"a/c/0": b"worker"})
    p.firn("discard", p.m)
    for i in range(4):
        put(p.m.main, f"a/c/{i}", b"parent's")
    p.refused(p.m, worker, saying=[worker])
    id = p.m.session()["id"]
    p.m.umount()
    with p.repo.resume(id) as again:                      # the session is still known by its name
        assert again.session()["id"] == id
        assert (again.main / "a/c/1").read_bytes() == b"parent's"
        again.commit("parent's")
    assert store_tree(p.repo.store())["a/c/0"] == b"parent's"


# ---- workers ----

def test_expect__workers_without_changes_count(p):
    """All of them have unmounted: nobody is missing, whatever they changed."""
    token = p.fork()
    fork = json.loads(token.read_text())["fork"]
    with p.repo.worker(token) as w:
        put(w.main, "a/c/0", b"worker")
    p.firn.refuses("commit", p.m, "--fork", fork, "--expect", "3", "-m", "m", saying=["1 of 3", "2 missing"])
    for _ in range(2):
        with p.repo.worker(token):
            pass
    p.firn.snapshot("commit", p.m, "--fork", fork, "--expect", "3", "-m", "m")
    assert store_tree(p.repo.store())["a/c/0"] == b"worker"
    assert not list((p.repo.path / "firn/sessions" / fork).glob("*.journal"))


def test_expect__nobody_changed_anything(p):
    token = p.fork()
    with p.repo.worker(token):
        pass
    assert p.firn.run("commit", p.m, "--fork", token, "--expect", "1", "-m", "m").returncode == 4
    put(p.m.main, "a/c/0", b"after all")
    p.commit(p.m, args=["--fork", str(token), "--expect", "1"])


def test_expect__worker_that_was_committed_as_a_mount(p):
    """Its part is in: when it goes, it leaves nothing."""
    token = p.fork()
    with p.repo.worker(token) as w:
        put(w.main, "a/c/0", b"worker")
        p.commit(p.m, w)
        assert (p.m.main / "a/c/0").read_bytes() == b"worker"
    assert not list((p.repo.path / "firn/sessions").rglob("*.journal"))
