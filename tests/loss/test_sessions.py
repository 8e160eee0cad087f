"""What a session owns: discarding, forking, merging, amending."""
import json
import os
import shutil

import pytest

from conftest import array_json, assert_committed, group_json, put, replaced, store_tree
from parties import DOC, Parties


@pytest.fixture
def p(repo, mounts, tmp_path):
    return Parties(repo, mounts, tmp_path)


def objects(p):
    path = p.repo.path / "chunks"
    return set(os.listdir(path)) if path.is_dir() else set()


# ---- discarding ----

@pytest.mark.sanitize
@pytest.mark.parametrize("size", [pytest.param(3000, id="packs"), pytest.param(70_000, id="objects")])
def test_discard__objects_nobody_else_knows_go(p, size):
    """What was exported, shared with a fork, or is in the base stays; all else leaves no trace."""
    put(p.m.main, "g/b/c/0", b"B" * size)
    p.m.commit("an object in the base")
    put(p.m.main, "a/c/0", b"F" * size)
    worker = p.journal("worker", {"a/c/1": b"W" * size})
    kept = objects(p)                                    # the base's, the fork's start, the worker's
    assert len(kept) == 3
    os.link(p.m.main / "g/b/c/0", p.m.main / "g/b/c/1")  # a second name of the base's object
    for i in range(4):
        put(p.m.main, f"a/c/{i}", b"%d" % i * size)
    put(p.m.main, "new/zarr.json", DOC)
    put(p.m.main, "new/c/0", b"N" * size)
    put(p.m.main, "later/c/0", b"P" * size)              # a pending file
    assert len(objects(p)) >= len(kept) + (1 if size == 3000 else 6)
    with open(p.m.main / "a/c/2", "rb") as reader:
        p.firn("discard", p.m)
        assert reader.read() == b"2" * size              # who has it open reads on
    assert (p.m.main / "g/b/c/0").read_bytes() == b"B" * size
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


@pytest.mark.parametrize("dirty", [True, False], ids=["uncommitted_parent", "committed_parent"])
def test_commit_again__it_was_done_before_the_command_was_killed(p, dirty):
    """The refusal says that this can be, and how to find out; and what it advises does no harm."""
    if dirty:
        put(p.m.main, "n/zarr.json", DOC)
    token = p.fork()
    parent = p.repo.path / "firn/sessions" / json.loads(token.read_text())["fork"] / "parent"
    workers = [p.journal(f"w{i}", {f"a/c/{i}": b"w%d" % i}, token) for i in range(2)]
    with p.firn.watching({"FIRN_CRASH_AT": "updated"}):
        assert p.firn.run("commit", p.m, *workers, "-m", "m").returncode < 0
    p.refused(p.m, *workers, saying=["firn log", "--rebase", *([str(parent.relative_to(p.repo.path))] if dirty else [])])
    assert (p.m.main / "a/c/0").read_bytes() == b"w0"
    again = [parent, *workers] if dirty else workers
    assert p.firn.run("commit", *again, "-m", "m", "--rebase").returncode == 4


# ---- what a parent does after the fork ----

def test_fork__parent_rewrites_the_document_later(p):
    """What the worker started from counts, not what the parent's journal says of the array by now."""
    put(p.m.main, "n/zarr.json", DOC)
    put(p.m.main, "n/c/0", b"parent's")
    worker = p.journal("worker", {"n/c/1": b"worker"})
    put(p.m.main, "n/zarr.json", array_json((8,), (2,), attributes={"later": 1}))
    p.commit(p.m, worker)                                   # another document, the same geometry
    tree = store_tree(p.repo.store())
    assert tree["n/c/0"] == b"parent's" and tree["n/c/1"] == b"worker"
    assert json.loads(tree["n/zarr.json"])["attributes"] == {"later": 1}


@pytest.mark.parametrize("later,kind", [(array_json((8,), (2,), "int16"), "chunk-geometry"),
                                        (array_json((8, 1), (2, 1)), "chunk-no-array"),
                                        (array_json((2,), (2,)), "chunk-outside")],
                         ids=["type", "rank", "shrunk"])
def test_fork__parent_gives_the_array_another_geometry_later(p, later, kind):
    put(p.m.main, "n/zarr.json", DOC)
    worker = p.journal("worker", {"n/c/1": b"worker"})
    put(p.m.main, "n/zarr.json", later)
    p.refused(p.m, worker, conflicts={(kind, "/n", (1,), worker, p.m)})
    # And back: what the worker wrote means again what it meant.
    put(p.m.main, "n/zarr.json", DOC)
    if kind == "chunk-geometry":
        p.commit(p.m, worker)
        assert store_tree(p.repo.store())["n/c/1"] == b"worker"


def test_fork__parent_changes_the_geometry_back_and_forth(p):
    """The worker wrote under the second of three geometries: neither the first nor the last is its."""
    put(p.m.main, "n/zarr.json", DOC)
    put(p.m.main, "n/zarr.json", array_json((8,), (4,)))
    worker = p.journal("worker", {"n/c/1": b"worker"})
    put(p.m.main, "n/zarr.json", DOC)
    p.refused(p.m, worker, conflicts={("chunk-geometry", "/n", (1,), worker, p.m)})


def there_and_back(path, document=DOC):
    """A worker that changes a document and puts it back as it was."""
    def work(root):
        put(root, f"{path}/zarr.json", array_json((8,), (2,), attributes={"not": "this"}))
        put(root, f"{path}/c/1", b"worker")
        put(root, f"{path}/zarr.json", document)
    return work


@pytest.mark.parametrize("path", ["a", "n"], ids=["base", "parent"])
@pytest.mark.parametrize("changes", ["worker", "parent"])
def test_fork__document_written_as_it_was(p, path, changes):
    """By one; and changed by another: that is what counts, and no conflict."""
    put(p.m.main, "n/zarr.json", DOC)
    token = p.fork()
    other = array_json((8,), (2,), attributes={"other": 1})
    back = p.journal("back", there_and_back(path), token)
    sources = [back, p.journal("changed", {f"{path}/zarr.json": other}, token)] if changes == "worker" else [back]
    if changes == "parent":
        put(p.m.main, f"{path}/zarr.json", other)
    p.commit(p.m, *sources)
    tree = store_tree(p.repo.store())
    assert tree[f"{path}/zarr.json"] == other and tree[f"{path}/c/1"] == b"worker"
    assert_committed(p.repo, p.m.main)


def test_fork__document_put_back_to_what_the_base_has(p):
    """Not what the worker began with: a change like any other."""
    put(p.m.main, "a/zarr.json", array_json((8,), (2,), attributes={"parent": 1}))
    token = p.fork()
    back = p.journal("back", {"a/zarr.json": DOC, "a/c/0": b"worker"}, token)
    other = p.journal("other", {"a/zarr.json": array_json((8,), (2,), attributes={"other": 1})}, token)
    p.refused(p.m, back, other, conflicts={("meta", "/a", None, back, other)})
    p.commit(p.m, back)
    assert store_tree(p.repo.store())["a/zarr.json"] == DOC


def test_fork__document_written_as_it_was_of_which_nobody_knows_any_more(p):
    """What the fork started from is gone from the repository, and its parent went on: no guess is made."""
    put(p.m.main, "n/zarr.json", DOC)
    token = p.fork()
    back = p.journal("back", there_and_back("n"), token)
    other = p.journal("other", {"n/zarr.json": array_json((8,), (2,), attributes={"other": 1})}, token)
    put(p.m.main, "n/zarr.json", array_json((8,), (2,), attributes={"parent": 1}))
    (p.repo.path / "firn/sessions" / json.loads(token.read_text())["fork"] / "parent").unlink()
    p.refused(p.m, back, other)


@pytest.mark.parametrize("driver", ["the same", "another", "resumed", "dead"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_fork__parent_erases_a_chunk_of_its_own_array_later(p, driver, when):
    """The worker saw the chunk and wrote another: the erasing is not made undone without a word."""
    put(p.m.main, "n/zarr.json", DOC)
    for i in range(3):
        put(p.m.main, f"n/c/{i}", b"parent's")
    worker = p.journal("worker", {"n/c/1": b"worker"})
    id = p.m.session()["id"]

    def next_driver():
        if driver == "another":
            replaced(p.m)
        elif driver != "the same":
            p.m.kill()
            p.m = p.mounts.enter_context(p.repo.resume(id))
    if when == "before":
        next_driver()
    (p.m.main / "n/c/1").unlink()
    (p.m.main / "n/c/2").unlink()
    if when == "after":
        next_driver()
    p.refused(p.m, worker, conflicts={("chunk-deleted", "/n", (1,), worker, p.m)})
    parent = p.m
    if driver == "dead":
        p.m.kill()
        parent = id
    p.commit(parent, worker, args=["--favor", "last"])
    tree = store_tree(p.repo.store())
    assert tree["n/c/0"] == b"parent's" and tree["n/c/1"] == b"worker" and "n/c/2" not in tree


def test_fork__parent_erases_a_chunk_of_an_array_the_fork_does_not_know(p):
    token = p.fork()
    put(p.m.main, "n/zarr.json", DOC)
    put(p.m.main, "n/c/1", b"parent's")
    (p.m.main / "n/c/1").unlink()
    worker = p.journal("worker", {"n/zarr.json": DOC, "n/c/1": b"worker"}, token)
    p.commit(p.m, worker)
    assert store_tree(p.repo.store())["n/c/1"] == b"worker"


def test_fork__pending_file_of_the_parent(p):
    """A file without a place in the parent, which the worker gives one, removes, or replaces."""
    put(p.m.main, "n/c/0", b"early")                        # no zarr.json yet
    put(p.m.main, "n/c/1", b"early too")
    token = p.fork()
    adopts = p.journal("adopts", {"n/zarr.json": DOC, "n/c/2": b"worker"}, token)
    p.commit(p.m, adopts)
    assert {k: v for k, v in store_tree(p.repo.store()).items() if k.startswith("n/c")} == \
        {"n/c/0": b"early", "n/c/1": b"early too", "n/c/2": b"worker"}
    assert_committed(p.repo, p.m.main)


@pytest.mark.sanitize
def test_fork__chunks_of_an_array_that_another_worker_makes(p):
    """Without the document they are files without a place; with it, chunks, as in one mount."""
    token = p.fork()
    chunks = p.journal("chunks", {"n/c/0": b"zero", "n/c/3": b"T" * 3000, "a/c/5": b"outside",
                                  "a/c/7/0": b"of another rank"}, token)
    makes = p.journal("makes", {"n/zarr.json": DOC, "n/c/1": b"one"}, token)
    p.firn.refuses("commit", p.m, chunks, makes, "-m", "m", saying=["/a/c/5", "/a/c/7/0"])
    grows = p.journal("grows", {"a/zarr.json": array_json((12,), (2,))}, token)
    p.firn.refuses("commit", p.m, chunks, makes, grows, "-m", "m", saying=["/a/c/7/0"])
    merged = p.tmp / "merged.journal"
    p.firn("merge", "-o", merged, chunks, makes, grows)
    p.commit(p.m, merged, args=["--force"])
    tree = store_tree(p.repo.store())
    assert {k: v for k, v in tree.items() if k.startswith("n/c/")} == \
        {"n/c/0": b"zero", "n/c/1": b"one", "n/c/3": b"T" * 3000}
    assert tree["a/c/5"] == b"outside" and "a/c/7/0" not in tree
    assert_committed(p.repo, p.m.main)


def test_fork__file_without_a_place_that_is_a_chunk_of_another(p):
    token = p.fork()
    one = p.journal("one", {"n/c/0": b"one", "n/c/1": b"same"}, token)
    two = p.journal("two", {"n/zarr.json": DOC, "n/c/0": b"two", "n/c/1": b"same"}, token)
    p.refused(p.m, one, two, conflicts={("chunk", "/n", (0,), one, two)})
    p.commit(p.m, one, two, args=["--favor", "first"])
    tree = store_tree(p.repo.store())
    assert tree["n/c/0"] == b"one" and tree["n/c/1"] == b"same"
    assert_committed(p.repo, p.m.main)


def test_fork__emptied_chunk_is_no_file_that_finds_a_place(p):
    token = p.fork()
    emptied = p.journal("emptied", {"a/c/1": b""}, token)
    other = p.journal("other", {"a/c/2": b"other"}, token)
    p.firn.refuses("commit", p.m, emptied, other, "-m", "m", saying=["/a/c/1"])
    p.firn.refuses("commit", p.m, other, emptied, "-m", "m", "--favor", "last", saying=["/a/c/1"])


@pytest.mark.sanitize
def test_fork__pending_file_removed_by_the_worker(p):
    put(p.m.main, "n/c/0", b"by mistake")
    put(p.m.main, "a/c/0", b"parent's")
    removes = p.journal("removes", {"n/c/0": None, "a/c/1": b"worker"})
    p.firn("journal", "verify", removes)
    merged = p.tmp / "merged.journal"
    p.firn("merge", "-o", merged, removes, p.m)
    p.commit(p.m, removes)
    tree = store_tree(p.repo.store())
    assert tree["a/c/0"] == b"parent's" and tree["a/c/1"] == b"worker" and "n/c/0" not in tree
    assert not (p.m.main / "n/c/0").exists()


# ---- amending ----

@pytest.mark.sanitize
def test_amend__nodes_made_renamed_and_removed(p):
    """A commit's new nodes are renamed, moved and removed by others that take its place."""
    put(p.m.main, "n/zarr.json", group_json())
    put(p.m.main, "n/x/zarr.json", DOC)
    put(p.m.main, "n/x/c/0", b"x" * 3000)
    os.rename(p.m.main / "n", p.m.main / "m")               # made in this session: it just moves
    first = p.m.commit("first")
    with pytest.raises(OSError):
        os.rename(p.m.main / "m", p.m.main / "k")           # committed: mv copies
    shutil.copytree(p.m.main / "m", p.m.main / "k")
    shutil.rmtree(p.m.main / "m")
    put(p.m.main, "tmp/zarr.json", DOC)
    put(p.m.main, "tmp/c/1", b"t")
    os.rename(p.m.main / "tmp", p.m.main / "k/y")
    second = p.m.commit("second", "--amend")
    assert_committed(p.repo, p.m.main)
    os.rename(p.m.main / "k/y/c/1", p.m.main / "k/y/c/2")
    third = p.m.commit("third", "--amend")
    assert_committed(p.repo, p.m.main)
    tree = store_tree(p.repo.store())
    assert tree["k/x/c/0"] == b"x" * 3000 and tree["k/y/c/2"] == b"t" and "k/y/c/1" not in tree
    assert not [key for key in tree if key.startswith(("n/", "m/", "tmp/"))]
    official = p.repo.official()
    history = [a.id for a in official.ancestry(branch="main")]
    assert history[:2] == [third, p.base] and not {first, second} & set(history)
    diff = official.diff(from_snapshot_id=p.base, to_snapshot_id=third)
    assert {"/k/x", "/k/y"} <= diff.new_arrays and diff.new_groups == {"/k"}
    assert not diff.deleted_arrays & {"/a", "/g/b"}
    p.repo.check()


def test_amend__of_a_commit_that_moved_nodes(p):
    """The official library's moves stay in the log of what takes the place of its commit."""
    s = p.repo.official().rearrange_session("main")
    s.move("/a", "/bb")
    s.commit("moved")
    with p.repo.mount() as m:
        put(m.main, "bb/c/0", b"amended")
        put(m.main, "g/b/c/0", b"amended")
        id = m.commit("amended", "--amend")
        assert_committed(p.repo, m.main)
    official = p.repo.official()
    assert [a.id for a in official.ancestry(branch="main")][:2] == [id, p.base]
    diff = official.diff(from_snapshot_id=p.base, to_snapshot_id=id)
    assert ("/a", "/bb") in diff.moved_nodes, diff
    assert set(diff.updated_chunks) == {"/bb", "/g/b"}
    with p.repo.mount() as m:
        assert (m.main / "bb/c/0").read_bytes() == b"amended" and (m.main / "bb/c/1").read_bytes() == b"01"


def test_amend__branch_moved_meanwhile(p):
    """What would be amended is not the tip any more: refused, and it stays possible to commit on top."""
    put(p.m.main, "a/c/0", b"ours")
    p.committed_by_others({"a/c/1": b"theirs"})
    p.refused(p.m, args=["--amend"], saying=["main"])
    p.refused(p.m, args=["--amend", "--rebase"], saying=["main"])
    p.commit(p.m, args=["--rebase"])
    tree = store_tree(p.repo.store())
    assert tree["a/c/0"] == b"ours" and tree["a/c/1"] == b"theirs"


# ---- nothing to commit ----

@pytest.mark.parametrize("policy", ["fail", "ours", "theirs"])
def test_written_and_removed_again__erases_nothing_of_others(p, policy):
    put(p.m.main, "g/b/c/3", b"new")
    (p.m.main / "g/b/c/3").unlink()                          # a chunk the base never had
    put(p.m.main, "a/c/0", b"ours")
    p.committed_by_others({"g/b/c/3": b"theirs"})
    p.commit(p.m, args=[f"--rebase={policy}"])
    tree = store_tree(p.repo.store())
    assert tree["g/b/c/3"] == b"theirs" and tree["a/c/0"] == b"ours"
    assert (p.m.main / "g/b/c/3").read_bytes() == b"theirs"


def test_nothing_changed_in_the_end(p):
    """Made and removed again, written as it was: the session equals its base, and that is what is said."""
    put(p.m.main, "a/c/0", b"00")                            # the base's bytes
    put(p.m.main, "g/b/c/3", b"new")
    (p.m.main / "g/b/c/3").unlink()                          # a chunk the base never had
    put(p.m.main, "zarr.json", group_json(x=1))
    put(p.m.main, "zarr.json", group_json())
    assert p.firn.run("commit", p.m, "-m", "m").returncode == 4
    assert p.repo.official().lookup_branch("main") == p.base
    changed = p.m.control("status").partition("changed:")[2]     # before it: paths of this machine
    assert changed and "g/b" not in changed, changed
