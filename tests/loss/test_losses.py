"""Twenty-four situations in which the official library loses or corrupts data, each of them here.

Every one is either refused with exit code 3 and a report that names path, coordinates and sources,
or it does what was meant. What is not committed stays where it was: in the mount or the journal.
The docstrings say what the official library does (2.3.0).
"""
import datetime
import errno
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import Repo, array_json, assert_committed, assert_same, group_json, put, read_tree, store_tree
from parties import DOC, OURS, Parties, apply, files

POLICIES = ["--rebase", "--rebase=ours", "--rebase=theirs"]


@pytest.fixture
def p(repo, mounts, tmp_path):
    return Parties(repo, mounts, tmp_path)


def official(p):
    return store_tree(p.repo.store())


# ---- merging ----

@pytest.mark.sanitize
def test_d01_same_chunk_in_two_journals(p):
    """Last merged wins, without a word: two writes, and a write and a delete; of two forks, and of
    a fork and its parent after the fork."""
    one, two, gone = (p.journal("one", {"a/c/0": b"AA", "a/c/1": b"A1", "g/b/c/0": b"only one"}),
                      p.journal("two", {"a/c/0": b"BB"}), p.journal("gone", {"a/c/0": None}))
    p.refused(p.m, one, two, conflicts={("chunk", "/a", (0,), one, two)})
    p.refused(p.m, one, gone, conflicts={("chunk-deleted", "/a", (0,), one, gone)})
    put(p.m.main, "a/c/0", b"after the fork")
    p.refused(p.m, one, conflicts={("chunk", "/a", (0,), one, p.m)})
    # Knowingly: in the order given.
    p.commit(p.m, one, args=["--favor", "last"])
    assert official(p)["a/c/0"] == b"AA" and official(p)["a/c/1"] == b"A1" and official(p)["g/b/c/0"] == b"only one"


def test_d01_identical_chunks_are_no_conflict(p):
    same = {"a/c/0": b"same", "a/c/1": b"S" * 4000, "a/c/2": None}
    p.commit(p.m, p.journal("one", same | {"a/c/3": b"one"}), p.journal("two", same | {"g/b/c/0": b"two"}))
    tree = official(p)
    assert tree["a/c/0"] == b"same" and tree["a/c/1"] == b"S" * 4000 and "a/c/2" not in tree
    assert tree["a/c/3"] == b"one" and tree["g/b/c/0"] == b"two"


def test_d02_shrunk_or_given_another_grid_while_written(p):
    """The chunk is dropped at the commit, or decoded with the wrong geometry."""
    shrunk = p.journal("shrunk", {"a/zarr.json": array_json((4,), (2,))})
    writer = p.journal("writer", {"a/c/3": b"BB", "a/c/1": b"in both"})
    p.refused(p.m, shrunk, writer, conflicts={("chunk-outside", "/a", (3,), writer, shrunk)})
    grid = p.journal("grid", {f"a/c/{i}": None for i in range(4)} | {"a/zarr.json": array_json((8,), (4,))})
    p.refused(p.m, grid, writer, conflicts={("chunk-geometry", "/a", (1,), writer, grid),
                                            ("chunk-outside", "/a", (3,), writer, grid)})
    dtype = p.journal("dtype", {f"a/c/{i}": None for i in range(4)} | {"a/zarr.json": array_json((8,), (2,), "int16")})
    p.refused(p.m, dtype, writer, conflicts={("chunk-geometry", "/a", (1,), writer, dtype),
                                             ("chunk-geometry", "/a", (3,), writer, dtype)})
    # What stays inside the smaller grid is kept.
    inside = p.journal("inside", {"a/c/0": b"kept"})
    p.commit(p.m, shrunk, inside)
    assert official(p)["a/c/0"] == b"kept" and "a/c/3" not in official(p)


def test_d03_array_and_group_at_one_path(p):
    """The snapshot gets two nodes of one path."""
    array, group = p.journal("array", {"n/zarr.json": DOC, "n/c/0": b"x"}), p.journal("group", {"n/zarr.json": group_json()})
    p.refused(p.m, array, group, conflicts={("kind", "/n", None, array, group)})
    p.commit(p.m, array)
    assert official(p)["n/c/0"] == b"x"


def test_d04_nodes_without_a_parent(p):
    """Orphans that no listing shows: below a group the other deleted, after everything was cleared,
    below what the other made an array."""
    child = p.journal("child", {"g/n/zarr.json": DOC, "g/n/c/0": b"x"})
    gone = p.journal("gone", {"g": None})
    p.refused(p.m, child, gone, conflicts={("parent", "/g/n", None, child, gone)})
    cleared = p.journal("cleared", {"a": None, "g": None, "zarr.json": None})
    new = p.journal("new", {"q/zarr.json": DOC})
    p.refused(p.m, cleared, new, conflicts={("parent", "/q", None, new, cleared)})
    array = p.journal("array", {"n/zarr.json": DOC})
    below = p.journal("below", {"n/m/zarr.json": DOC, "n/zarr.json": group_json()})
    p.refused(p.m, array, below, saying=["/n", array, below])
    p.commit(p.m, child, new)
    assert official(p)["g/n/c/0"] == b"x"


def test_d05_fork_edits_what_its_parent_made(p):
    """The fork's document is ignored, and its chunks beyond the old shape are dropped."""
    put(p.m.main, "n/zarr.json", array_json((4,), (2,)))
    put(p.m.main, "n/c/0", b"00")
    worker = p.journal("worker", {"n/zarr.json": DOC, "n/c/3": b"33"})
    p.commit(p.m, worker)
    tree = official(p)
    assert json.loads(tree["n/zarr.json"])["shape"] == [8] and tree["n/c/3"] == b"33" and tree["n/c/0"] == b"00"
    assert_committed(p.repo, p.m.main)


def test_d05_fork_adds_to_a_group_that_its_parent_renames(p):
    put(p.m.main, "n/zarr.json", group_json())
    put(p.m.main, "n/b/zarr.json", DOC)
    worker = p.journal("worker", {"n/w/zarr.json": DOC})
    (p.m.main / "n").rename(p.m.main / "o")
    p.refused(p.m, worker, conflicts={("parent", "/n/w", None, worker, p.m)})
    (p.m.main / "o").rename(p.m.main / "n")
    p.commit(p.m, worker)
    assert {"n/zarr.json", "n/b/zarr.json", "n/w/zarr.json"} <= official(p).keys()


def test_d05_fork_writes_where_its_parent_shrinks_and_grows(p):
    """Whatever the parent did before the fork; and in an array of the base, and one that the parent made."""
    put(p.m.main, "n/zarr.json", DOC)
    put(p.m.main, "n/c/3", b"parent's")
    token = p.fork()
    worker = p.journal("worker", {"a/c/3": b"lost", "n/c/3": b"lost too"}, token)
    put(p.m.main, "a/zarr.json", array_json((4,), (2,)))
    put(p.m.main, "a/zarr.json", DOC)
    p.refused(p.m, worker, conflicts={("chunk-outside", "/a", (3,), worker, p.m)})
    shrinks = p.journal("shrinks", lambda d: [put(d, "n/zarr.json", array_json((2 * n,), (2,))) for n in (2, 4)], token)
    p.refused(p.m, worker, shrinks, conflicts={("chunk-outside", "/a", (3,), worker, p.m),
                                               ("chunk-outside", "/n", (3,), worker, shrinks)})
    p.commit(p.m, shrinks)
    assert not {"a/c/2", "a/c/3", "n/c/3"} & official(p).keys()


def test_d05_fork_and_parent_edit_what_the_parent_made(p):
    put(p.m.main, "n/zarr.json", array_json((4,), (2,)))
    worker = p.journal("worker", {"n/zarr.json": DOC, "n/c/3": b"33"})
    put(p.m.main, "n/zarr.json", array_json((6,), (2,)))
    p.refused(p.m, worker, saying=["/n", worker, p.m])
    put(p.m.main, "n/zarr.json", DOC)
    p.commit(p.m, worker)
    assert official(p)["n/c/3"] == b"33"


def test_d06_fork_of_what_was_deleted_and_made_again(p):
    """Merged and committed, and nothing of it is stored: the old node's id is unknown by now."""
    stale = p.journal("stale", {"a/c/0": b"FF"})
    again = {"a": None, "a/zarr.json": DOC, "a/c/1": b"new"}
    tip = p.committed_by_others(lambda root: (shutil.rmtree(root / "a"), apply(root, {"a/zarr.json": DOC, "a/c/1": b"new"})))
    p.refused(stale, saying=["main", tip])
    for policy in POLICIES:
        p.refused(stale, args=[policy], conflicts={("chunk-no-array", "/a", (0,), OURS, tip)})
    # As the official library is used: a new session on the new base takes the old fork in.
    with p.repo.mount() as m:
        r = p.firn.run("commit", m, stale, "-m", "m")
        assert r.returncode == 3 and str(stale) in r.stderr and str(m) in r.stderr, r.stderr
    # The same within one lineage.
    q = p.mounts.enter_context(p.repo.mount())
    late = p.journal("late", {"a/c/0": b"FF"}, p.fork(q))
    shutil.rmtree(q.main / "a")
    apply(q.main, {k: v for k, v in again.items() if v is not None})
    r = p.firn.run("commit", q, late, "-m", "m")
    assert r.returncode == 3 and "/a c/0: " in r.stderr and str(late) in r.stderr and str(q) in r.stderr, r.stderr
    assert p.repo.official().lookup_branch("main") == tip


def test_d07_journal_of_another_repository(p, firn, tmp_path, mounts):
    """Merged; the writes vanish, and the chunks of what is new dangle."""
    place = tmp_path / "other"
    place.mkdir()
    firn("init", place / "repo")
    other = Parties(Repo(firn, place / "repo", place / "mnt"), mounts, place)
    foreign = other.journal("foreign", {"a/c/0": b"XX", "n/zarr.json": DOC, "n/c/0": b"N" * 3000})
    p.refused(p.m, foreign, saying=[foreign, "another repository", p.repo, other.repo], orders=False)
    p.refused(foreign, p.m, saying=[p.m, "another repository", p.repo, other.repo], orders=False)
    before = files(p.repo.path)
    r = firn.run("commit", foreign, "--repo", p.repo, "-m", "m")
    assert r.returncode == 3 and str(foreign) in r.stderr and files(p.repo.path) == before, r.stderr
    other.commit(other.m, foreign)
    assert official(other)["n/c/0"] == b"N" * 3000


def test_d08_parent_discarded_after_the_fork(p):
    """The fork's writes to what the parent had made vanish."""
    put(p.m.main, "n/zarr.json", DOC)
    token = p.fork()
    worker = p.journal("worker", {"n/c/0": b"xx"}, token)
    p.firn("discard", p.m)
    p.refused(p.m, worker, saying=[worker])
    p.refused(worker, saying=[worker])
    put(p.m.main, "a/c/0", b"the parent goes on")
    p.refused(p.m, worker, saying=[worker])
    # What the fork started from was published with it.
    parent = p.repo.path / f"firn/sessions/{json.loads(token.read_text())['fork']}/parent"
    p.commit(parent, worker)
    assert official(p)["n/c/0"] == b"xx" and official(p)["a/c/0"] == b"00"


def test_d09_grandchild_without_its_parent(p):
    """The child's changes vanish, and all that hangs on what it had made."""
    child_journal = p.tmp / "child.journal"
    with p.repo.worker(p.fork()) as child:
        put(child.main, "q/zarr.json", DOC)
        grandchild = p.journal("grandchild", {"q/c/0": b"QQ"}, p.fork(child))
        child.umount("--export", child_journal)
    p.refused(p.m, grandchild, saying=[grandchild])
    p.commit(p.m, grandchild, child_journal)
    assert official(p)["q/c/0"] == b"QQ"


# ---- branches that moved ----

def test_d10_shrunk_over_what_the_branch_wrote(p):
    """Not even the strictest solver sees it: the branch's chunk is dropped, or misread."""
    tip = p.committed_by_others({"a/c/3": b"PP"})
    put(p.m.main, "a/zarr.json", array_json((4,), (2,)))
    for policy in POLICIES:
        p.refused(p.m, args=[policy], conflicts={("chunk-outside", "/a", (3,), tip, OURS)})
    put(p.m.main, "a/zarr.json", DOC)
    p.refused(p.m, args=["--rebase"], saying=["/a", tip])        # grown again: what was dropped stays dropped
    p.firn("discard", p.m)
    put(p.m.main, "a/zarr.json", array_json((10,), (2,)))
    p.commit(p.m, args=["--rebase"])
    assert official(p)["a/c/3"] == b"PP"


@pytest.mark.sanitize
def test_d10_given_another_grid_over_what_the_branch_wrote(p):
    tip = p.committed_by_others({"a/c/1": b"PP"})
    apply(p.m.main, {f"a/c/{i}": None for i in range(4)} | {"a/zarr.json": array_json((8,), (4,))})
    p.refused(p.m, args=["--rebase"], conflicts={("chunk-deleted", "/a", (1,), tip, OURS)})
    p.refused(p.m, args=["--rebase=theirs"], conflicts={("chunk-geometry", "/a", (1,), tip, OURS)})
    p.commit(p.m, args=["--rebase=ours"])                         # erased knowingly
    assert not [k for k in official(p) if k.startswith("a/c/")]


def test_d10_another_grid_over_chunks_we_did_not_know(p):
    shutil.rmtree(p.m.main / "a/c")
    p.m.commit("empty")
    tip = p.committed_by_others({"a/c/1": b"PP", "a/c/2": b"PP"})
    put(p.m.main, "a/zarr.json", array_json((8,), (4,)))
    for policy in POLICIES:
        p.refused(p.m, args=[policy], conflicts={("chunk-geometry", "/a", (1,), tip, OURS),
                                                 ("chunk-geometry", "/a", (2,), tip, OURS)})


def test_d11_deleted_and_made_again_on_both_sides(p):
    """The snapshot gets two nodes of one path."""
    tip = p.committed_by_others(lambda root: (shutil.rmtree(root / "a"), apply(root, {"a/zarr.json": DOC, "a/c/1": b"PP"})))
    shutil.rmtree(p.m.main / "a")
    apply(p.m.main, {"a/zarr.json": array_json((8,), (2,), attributes={"by": "ours"}), "a/c/2": b"CC"})
    for policy in POLICIES:
        p.refused(p.m, args=[policy], conflicts={("created", "/a", None, OURS, tip)})
    # The same document on both sides is one array.
    put(p.m.main, "a/zarr.json", DOC)
    p.commit(p.m, args=["--rebase"])
    tree = official(p)
    assert {k: v for k, v in tree.items() if k.startswith("a/c/")} == {"a/c/1": b"PP", "a/c/2": b"CC"}


ORPHANS = {
    "branch_deletes_group": ({"g": None}, {"g/n/zarr.json": DOC}, "/g/n"),
    "we_delete_group": ({"g/n/zarr.json": DOC}, {"g": None}, "/g/n"),
    "branch_makes_an_array_of_it": ({"n/zarr.json": DOC}, {"n/x/zarr.json": DOC}, "/n/x"),
    "we_make_an_array_of_it": ({"n/x/zarr.json": DOC}, {"n/zarr.json": DOC}, "/n/x"),
}


@pytest.mark.parametrize("name", ORPHANS)
def test_d12_orphans_after_a_rebase(p, name):
    """Accepted: nodes without parents, and nodes below an array."""
    theirs, ours, path = ORPHANS[name]
    tip = p.committed_by_others(theirs)
    apply(p.m.main, ours)
    for policy in POLICIES:
        p.refused(p.m, args=[policy], saying=[path, tip])
    report = p._json(["commit", p.m, "-m", "m", "--rebase"])
    assert ("parent", path) in {(c["kind"], c["path"]) for c in report["conflicts"]}, report


DELETED = {
    "array_document": ({"a/zarr.json": array_json((16,), (2,))}, {"a": None}, ("meta-deleted", "/a", None)),
    "array_chunk": ({"a/c/2": b"PP"}, {"a": None}, ("chunk-no-array", "/a", (2,))),
    "group_document": ({"g/zarr.json": group_json(x=1)}, {"g": None}, ("meta-deleted", "/g", None)),
    "array_in_deleted_group": ({"g/b/c/0": b"PP"}, {"g": None}, ("chunk-no-array", "/g/b", (0,))),
}


@pytest.mark.parametrize("name", DELETED)
def test_d13_deleting_what_the_branch_updated(p, name):
    """By default the solver deletes it, update and all."""
    theirs, ours, (kind, path, coords) = DELETED[name]
    tip = p.committed_by_others(theirs)
    apply(p.m.main, ours)
    for policy in POLICIES:
        p.refused(p.m, args=[policy], conflicts={(kind, path, coords, tip, OURS)})


# ---- what an array can hold ----

def test_d14_chunk_of_an_empty_axis(p):
    """Accepted, readable until the commit, then gone."""
    put(p.m.main, "z/zarr.json", array_json((0, 4), (2, 2)))
    put(p.m.main, "z/c/0/0", b"00")
    assert "z/c/0/0" in p.m.control("status")
    p.firn.refuses("commit", p.m, "-m", "m", saying=["/z/c/0/0"])
    assert (p.m.main / "z/c/0/0").read_bytes() == b"00"
    put(p.m.main, "z/zarr.json", array_json((2, 4), (2, 2)))      # now it has a place
    p.commit(p.m)
    assert official(p)["z/c/0/0"] == b"00"


def test_d15_more_chunks_than_can_be_counted(p):
    """The count of chunks wraps to 0, and what is written is gone."""
    for shape in (2**33,), (2**32,), (2**32 + 5,), (4, 2**40):
        doc = array_json(shape, (1,) * len(shape))
        put(p.m.main, "z/zarr.json", array_json((8,), (1,)))
        with pytest.raises(OSError) as e:
            put(p.m.main, "z/zarr.json", doc)
        assert e.value.errno == errno.EINVAL and "z/zarr.json" in p.m.control("errors")
        assert json.loads((p.m.main / "z/zarr.json").read_bytes())["shape"] == [8]
    put(p.m.main, "z/zarr.json", array_json((2**32 - 1,), (1,)))
    put(p.m.main, f"z/c/{2**32 - 2}", b"last")
    p.commit(p.m)
    assert official(p)[f"z/c/{2**32 - 2}"] == b"last"


def test_d16_two_slashes(p):
    """A node of its own that no normal name reaches after the commit."""
    os.mkdir(f"{p.m.main}//x")
    os.mkdir(f"{p.m.main}/x//y")
    with open(f"{p.m.main}/x//y/./zarr.json", "wb") as f:
        f.write(group_json(here=1))
    p.commit(p.m)
    assert json.loads(official(p)["x/y/zarr.json"])["attributes"] == {"here": 1}
    assert not [k for k in official(p) if "//" in k or "." in k.split("/")]


def test_d17_wrong_number_of_indices(p):
    """Accepted; some of it vanishes at a commit."""
    put(p.m.main, "z/zarr.json", array_json((4, 4), (2, 2)))
    for key in "z/c/1", "z/c/0/0/0", "z/c":
        apply(p.m.main, {key: b"misplaced"})
        p.firn.refuses("commit", p.m, "-m", "m", saying=["/" + key])
        assert (p.m.main / key).read_bytes() == b"misplaced"
        apply(p.m.main, {key: None})
        if (p.m.main / "z/c").is_dir():
            shutil.rmtree(p.m.main / "z/c")
    put(p.m.main, "z/c/1/1", b"placed")
    p.commit(p.m)
    assert {k: v for k, v in official(p).items() if k.startswith("z/c")} == {"z/c/1/1": b"placed"}


def test_d18_other_spellings_of_a_chunk(p):
    """`ac/0`, `arc`, `c/+1` and `c/00` are other names of chunks."""
    before = official(p)
    for key in "ac/0", "arc", "a/c/+1", "a/c/00", "a/c/ 1", "a/c/1.0", "a/c/0x1":
        put(p.m.main, key, b"another file")
        assert (p.m.main / key).read_bytes() == b"another file"
    assert_same({k: v for k, v in read_tree(p.m.main).items() if k in before}, before)
    r = p.firn.run("commit", p.m, "-m", "m")
    assert r.returncode != 0, r.stdout                # nothing of it can be committed
    assert_same(official(p), before)
    assert (p.m.main / "a/c/+1").read_bytes() == b"another file"


def test_d19_shrunk_and_grown_again(p):
    """What was outside comes back; of the base, and of this session."""
    put(p.m.main, "a/zarr.json", array_json((12,), (2,)))
    put(p.m.main, "a/c/5", b"ours")
    put(p.m.main, "a/zarr.json", array_json((4,), (2,)))
    put(p.m.main, "a/zarr.json", array_json((12,), (2,)))
    assert sorted(os.listdir(p.m.main / "a/c")) == ["0", "1"]
    p.commit(p.m)
    assert sorted(k for k in official(p) if k.startswith("a/c/")) == ["a/c/0", "a/c/1"]
    # In a worker's journal, and relative to what others do with the chunks meanwhile.
    shrunk = p.journal("shrunk", lambda root: [put(root, "a/zarr.json", array_json(s, (2,))) for s in ((2,), (12,))])
    erased = p.journal("erased", {"a/c/1": None})
    p.commit(p.m, shrunk, erased)
    assert sorted(k for k in official(p) if k.startswith("a/c/")) == ["a/c/0"]


# ---- failures on the way ----

def test_d20_rebase_fails_for_another_reason(p):
    """All uncommitted work is gone: the session was emptied before, and is not filled again."""
    tip = p.committed_by_others({"a/c/3": b"PP"})
    put(p.m.main, "a/c/1", b"CC")
    put(p.m.main, "g/b/c/0", b"C" * 3000)
    image, tree = p.image(), read_tree(p.m.main)
    for damaged in f"snapshots/{tip}", f"transactions/{tip}":
        file = p.repo.path / damaged
        content = file.read_bytes()
        for broken in None, content[:50], b"":
            file.unlink()
            if broken is not None:
                file.write_bytes(broken)
            for policy in POLICIES:
                p.firn.refuses("commit", p.m, "-m", "m", policy, saying=[tip])
            assert p.image() == image
            assert_same(read_tree(p.m.main), tree)
            file.write_bytes(content)
    p.commit(p.m, args=["--rebase"])
    assert official(p)["a/c/1"] == b"CC" and official(p)["a/c/3"] == b"PP"


def test_d20_branch_reset_below_the_session(p):
    put(p.m.main, "a/c/1", b"second")
    second = p.m.commit("second")
    put(p.m.main, "a/c/2", b"CC")
    p.firn("reset", p.repo, "main", p.base)
    for policy in ["--allow-empty", *POLICIES]:
        p.refused(p.m, args=[policy], saying=["main"])
    p.firn("reset", p.repo, "main", second)
    p.commit(p.m)
    assert official(p)["a/c/1"] == b"second" and official(p)["a/c/2"] == b"CC"


def test_d21_renamed_onto_what_the_branch_made(p):
    """A move onto a path the branch filled meanwhile: the branch's node and its chunks vanish."""
    tip = p.committed_by_others({"bb/zarr.json": DOC, "bb/c/0": b"PP"})
    with pytest.raises(OSError) as e:
        os.rename(p.m.main / "a", p.m.main / "bb")     # a committed node
    assert e.value.errno == errno.EXDEV
    put(p.m.main, "new/zarr.json", array_json((6,), (2,)))
    put(p.m.main, "new/c/0", b"CC")
    os.rename(p.m.main / "new", p.m.main / "bb")
    for policy in POLICIES:
        p.refused(p.m, args=[policy], conflicts={("created", "/bb", None, OURS, tip)})
    os.rename(p.m.main / "bb", p.m.main / "cc")
    p.commit(p.m, args=["--rebase"])
    assert official(p)["bb/c/0"] == b"PP" and official(p)["cc/c/0"] == b"CC"


def test_d21_branch_that_moved_nodes(p):
    """Paths of before and after a move cannot be told apart: nothing is put on top of one."""
    s = p.repo.official().rearrange_session("main")
    s.move("/a", "/bb")
    tip = s.commit("moved")
    put(p.m.main, "g/b/c/0", b"CC")
    for policy in POLICIES:
        p.refused(p.m, args=[policy], conflicts={("moved", "/a", None, OURS, tip)})


def test_d21_branch_that_moved_nodes__a_mount_without_changes_follows(p, firn):
    """As the refusal says: drop the changes, and go on from there."""
    s = p.repo.official().rearrange_session("main")
    s.move("/a", "/old")
    s.move("/g/b", "/a")
    tip = s.commit("moved")
    put(p.m.main, "a/c/0", b"CC")
    p.refused(p.m, args=["--rebase"], saying=["firn discard"])
    firn("discard", p.m)
    assert firn.run("commit", p.m, "-m", "m", "--rebase").returncode == 4
    assert p.repo.official().lookup_branch("main") == tip
    assert_committed(p.repo, p.m.main)
    put(p.m.main, "old/c/0", b"CC")
    put(p.m.main, "a/c/1", b"CC")
    firn("commit", p.m, "-m", "on top of moves")
    assert_committed(p.repo, p.m.main)


def test_d22_collected_while_in_flight(p):
    """The commit succeeds, and what it names is gone."""
    worker = p.journal("worker", {"a/c/2": b"W" * 3000})
    put(p.m.main, "a/c/1", b"C" * 3000)
    image = p.image()
    repo = p.repo.official()
    repo.garbage_collect(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1))
    before = repo.lookup_branch("main")
    p.firn.refuses("commit", p.m, "-m", "m", saying=["/a c/1", "chunks/"])
    p.firn.refuses("journal", "verify", worker, saying=["c/2"])
    put(p.m.main, "a/c/1", b"C" * 3000)               # as the message says
    p.firn.refuses("commit", p.m, worker, "-m", "m", saying=["/a c/2", "chunks/"])
    assert p.repo.official().lookup_branch("main") == before and p.image() != image
    p.commit(p.m)
    assert official(p)["a/c/1"] == b"C" * 3000 and official(p)["a/c/2"] == b"02"


# ---- committers ----

def race(repo, firn, n, rounds):
    def committer(i):
        with repo.mount() as m:
            for k in range(rounds):
                put(m.main, f"r/c/{i * rounds + k}", b"%d" % i)
                m.commit(f"{i}.{k}", "--rebase")

    with repo.mount() as m:
        put(m.main, "r/zarr.json", array_json((n * rounds,), (1,)))
        m.commit("race")
    with ThreadPoolExecutor(n) as pool:
        list(pool.map(committer, range(n)))
    messages = [a.message for a in repo.official().ancestry(branch="main")]
    assert {f"{i}.{k}" for i in range(n) for k in range(rounds)} <= set(messages)
    tree = store_tree(repo.store())
    assert {k: v for k, v in tree.items() if k.startswith("r/c/")} == \
        {f"r/c/{i * rounds + k}": b"%d" % i for i in range(n) for k in range(rounds)}


def test_d23_unsafe_settings_of_a_repository(firn, tmp_path):
    """Settings that switch safe updates off are kept in a repository, and hold wherever it is served from."""
    import icechunk as ic
    path = tmp_path / "repo"
    ic.Repository.create(ic.local_filesystem_storage(str(path)), config=ic.RepositoryConfig(
        inline_chunk_threshold_bytes=100,
        storage=ic.StorageSettings(unsafe_use_conditional_update=False, unsafe_use_conditional_create=False)))
    repo = Repo(firn, path, tmp_path / "mnt")
    kept = ic.Repository.fetch_config(ic.local_filesystem_storage(str(path)))
    assert kept.storage.unsafe_use_conditional_update is False
    race(repo, firn, 3, 3)
    repo.check()
    # Ours keeps none: what a backend can do is asked of the backend.
    firn("init", tmp_path / "ours")
    config = ic.Repository.fetch_config(ic.local_filesystem_storage(str(tmp_path / "ours")))
    assert config is None or config.storage is None, config


def test_d24_committers_at_once(firn, repo):
    """3 to 10 of 80 acknowledged commits are missing from the history (see test_committers.py for many more)."""
    race(repo, firn, 4, 4)
