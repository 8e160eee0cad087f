"""Behaviours of the official tests that no other test here holds, and the table that says which test holds which.

The table is tests/behaviours.md.
"""
import ast
import datetime
import os
import re
import shutil

import icechunk as ic
import numpy as np
import pytest
import zarr

from conftest import (HERE, Repo, array_json, assert_committed, assert_same, group_json, put, put_array,
                      store_tree)
from parties import DOC, OURS, Parties, apply

COUNTS = {"A": 17, "B": 15, "C": 19, "D": 12, "E": 20, "F": 15, "G": 16, "H": 16, "I": 13, "J": 7, "K": 15, "L": 12,
          "M": 8, "N": 7, "O": 7}


@pytest.fixture
def p(repo, mounts, tmp_path):
    return Parties(repo, mounts, tmp_path)


# ---- the table ----

def names_in(path):
    text = path.read_text()
    if path.suffix == ".c":
        return set(re.findall(r"^START_TEST\((\w+)\)", text, re.M))
    tree = ast.parse(text)
    inherited = {f"{c.name}" for c in tree.body if isinstance(c, ast.ClassDef) and c.name.startswith("Test")}
    return inherited | {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")}


def rows(table="behaviours.md"):
    for line in (HERE / table).read_text().splitlines():
        if m := re.fullmatch(r"\| ([A-O]\d+) \| (.+?) \| (.+) \|", line):
            yield m.groups()


def test_table__every_behaviour_is_held_or_explained():
    held_by_tests("behaviours.md", COUNTS)


def test_traps__every_one_is_held():
    held_by_tests("traps.md", {"C": 20})


def held_by_tests(table, counts):
    known = {}
    seen = [row[0] for row in rows(table)]
    assert seen == [f"{letter}{i}" for letter, n in counts.items() for i in range(1, n + 1)]
    for number, what, held in rows(table):
        tests = re.findall(r"`([^`]+::[^`]+)`", held)
        if not tests:
            assert held.startswith("not here: ") and len(held) > 30, f"{number}: neither a test nor a reason"
        for test in tests:
            file, name = test.split("::")
            if file not in known:
                known[file] = names_in(HERE / file)
            assert name in known[file], f"{number}: there is no {test}"


# ---- documents and chunks ----

def test_documents__null_dimension_names_and_unknown_members(repo, mount):
    put(mount.main, "zarr.json", group_json())
    docs = {"x/zarr.json": array_json((4, 4), (2, 2), dimension_names=[None, "y"], storage_transformers=[]),
            "g/zarr.json": b'{"zarr_format":3,"node_type":"group","somebody":{"else": [1, null]}}',
            "bare/zarr.json": b'{"node_type":"group",   "zarr_format":3}\n\n'}
    apply(mount.main, docs)
    mount.commit()
    tree = store_tree(repo.store())
    assert {k: tree[k] for k in docs} == docs
    assert_committed(repo, mount.main)


def test_fill_values__not_a_number_and_complex(repo, mount):
    root = zarr.open_group(str(mount.main), mode="w")
    for i, (dtype, value) in enumerate([("f4", np.nan), ("f8", -np.inf), ("c16", complex(np.nan, np.inf)), ("f2", -0.0)]):
        a = root.create_array(f"a{i}", shape=(4,), chunks=(2,), dtype=dtype, fill_value=value)
        a[0] = 1
    mount.commit()
    got = zarr.open_group(repo.store(), mode="r")
    for i in range(4):
        assert_same({"": got[f"a{i}"][:].tobytes()}, {"": root[f"a{i}"][:].tobytes()})
        assert repr(got[f"a{i}"].fill_value) == repr(root[f"a{i}"].fill_value)


@pytest.mark.parametrize("threshold,inline", [(0, [False, False]), (512, [True, False]), (60000, [True, True])])
def test_inline_threshold_of_the_repository(firn, tmp_path, threshold, inline):
    path = tmp_path / "repo"
    ic.Repository.create(ic.local_filesystem_storage(str(path)),
                         config=ic.RepositoryConfig(inline_chunk_threshold_bytes=threshold))
    repo = Repo(firn, path, tmp_path / "mnt")
    with repo.mount() as m:
        put_array(m.main, "a", (2,), (1,))
        put(m.main, "a/c/0", b"s")
        put(m.main, "a/c/1", b"b" * 5000)
        m.commit()
        kinds = [os.getxattr(m.main / f"a/c/{i}", "user.firn.ref").startswith(b"inline") for i in (0, 1)]
        assert kinds == inline
        assert_committed(repo, m.main)
    repo.check()


@pytest.mark.parametrize("size", [pytest.param(1000, id="packs"), pytest.param(30_000, id="objects")])
def test_storage_grows_by_what_changed(repo, mount, size):
    def objects():
        path = repo.path / "chunks"
        return len(os.listdir(path)) if path.is_dir() else 0
    put_array(mount.main, "a", (9,), (1,))
    for work, grows in [({f"a/c/{i}": b"old" * size for i in range(3)}, 1 if size == 1000 else 3), ({"a/c/1": b"new" * size}, 1),
                        ({"a/c/4": b"inline"}, 0), ({"a/c/0": None}, 0),
                        ({"a/zarr.json": array_json((9,), (1,), attributes={"x": 1})}, 0)]:
        before = objects()
        apply(mount.main, work)
        mount.commit()
        assert objects() == before + grows, work
    # What is replaced before it was committed was never needed.
    before = objects()
    for i in range(5):
        put(mount.main, "a/c/7", b"%d%d%d" % (i, i, i) * size)
    mount.commit()
    assert objects() == before + 1


def test_siblings_with_a_common_beginning(repo, mount):
    put_array(mount.main, "foo", (4,), (1,))
    for path in "foo1", "fo", "foo.x", "foo-bar":
        put_array(mount.main, path, (4,), (1,))
        put(mount.main, f"{path}/c/0", b"x")
    mount.commit()
    shutil.rmtree(mount.main / "foo")
    assert sorted(os.listdir(mount.main)) == ["fo", "foo-bar", "foo.x", "foo1", "zarr.json"]
    mount.commit()
    assert not [k for k in store_tree(repo.store()) if k.startswith("foo/")]
    assert_committed(repo, mount.main)


# ---- manifests ----

def manifests(repo, id):
    return {m.id for m in repo.official().list_manifest_files(id)}


def test_manifests__only_those_touched_are_written(repo, mount):
    for path in "a", "b", "empty":
        put_array(mount.main, path, (8,), (1,))
    for i in range(8):
        put(mount.main, f"a/c/{i}", b"a")
        put(mount.main, f"b/c/{i}", b"b")
    before = manifests(repo, mount.commit())
    assert len(before) == 2                                     # none for an array without chunks

    def step(work):
        nonlocal before
        apply(mount.main, work)
        now = manifests(repo, mount.commit())
        kept, before = now & before, now
        return len(now), len(kept)
    assert step({"a/c/1": b"new"}) == (2, 1)                    # b's is used again
    assert step({"a/zarr.json": array_json((8,), (1,), attributes={"x": 1})}) == (2, 2)
    assert step({"a/zarr.json": array_json((12,), (1,))}) == (2, 2)        # growing writes none
    assert step({"a/zarr.json": array_json((3,), (1,))}) == (2, 1)         # shrinking drops refs
    assert step({f"a/c/{i}": None for i in range(3)}) == (1, 1)
    assert step({"b": None}) == (0, 0)
    repo.check()


@pytest.mark.parametrize("before,after", [(None, 2), (2, None), (3, 5)])
def test_manifests__another_split_since_the_session_began(firn, tmp_path, before, after):
    """The rule in force at the commit counts; what was written under another one is read and rebased over."""
    def config(size):
        if size is None:
            return ic.RepositoryConfig()
        split = ic.ManifestSplittingConfig.from_dict(
            {ic.ManifestSplitCondition.AnyArray(): {ic.ManifestSplitDimCondition.Any(): size}})
        return ic.RepositoryConfig(manifest=ic.ManifestConfig(splitting=split))
    path = tmp_path / "repo"
    storage = ic.local_filesystem_storage(str(path))
    ic.Repository.create(storage, config=config(before)).save_config()
    repo = Repo(firn, path, tmp_path / "mnt")
    with repo.mount() as m, repo.mount() as other:
        put_array(m.main, "a", (20,), (1,))
        for i in range(20):
            put(m.main, f"a/c/{i}", b"%d" % i)
        m.commit("before")
        with repo.mount() as late:
            put(late.main, "a/c/3", b"late")
            s = ic.Repository.open(storage, config=config(after))
            s.save_config()
            put(m.main, "a/c/17", b"other rule")
            m.commit("after")
            late.commit("rebased", "--rebase")
            tree = store_tree(repo.store())
            assert {k: v for k, v in tree.items() if "/c/" in k} == \
                {f"a/c/{i}": b"%d" % i for i in range(20)} | {"a/c/3": b"late", "a/c/17": b"other rule"}
            assert_committed(repo, late.main)
        other.umount("--discard")
    repo.check()


# ---- history ----

def test_history__is_a_chain_in_time(firn, repo, mount):
    put_array(mount.main, "a", (9,), (1,))
    ids = [mount.commit("0")]
    for i in range(5):
        put(mount.main, f"a/c/{i}", b"x")
        ids.append(mount.commit(str(i), *(["--amend"] if i == 2 else [])))
    firn("tag", "create", repo, "t", ids[-1])
    official = repo.official()
    chain = list(official.ancestry(branch="main"))
    times = [a.written_at for a in chain]
    assert times == sorted(set(times), reverse=True) and len({a.id for a in chain}) == len(chain) == 6
    assert [a.id for a in official.ancestry(tag="t")] == [a.id for a in official.ancestry(snapshot_id=ids[-1])] == \
        [a.id for a in chain] == [e["id"] for e in firn.json("log", repo)]
    assert all(a.parent_id == b.id for a, b in zip(chain, chain[1:])) and chain[-1].parent_id is None
    ops = [u.updated_at for u in official.ops_log()]
    assert ops == sorted(set(ops), reverse=True)


def test_tag_and_branch_of_one_name(firn, repo, mount):
    put_array(mount.main, "a", (9,), (1,))
    first = mount.commit("first")
    put(mount.main, "a/c/0", b"x")
    second = mount.commit("second")
    firn("branch", "create", repo, "same", first)
    firn("tag", "create", repo, "same", second)
    assert repo.official().lookup_branch("same") == first and repo.official().lookup_tag("same") == second
    with repo.mount("--tag", "same", name="same") as m:
        assert (m.main / "a/c/0").read_bytes() == b"x"
    with repo.mount("-b", "same", name="same") as m:
        assert not (m.main / "a/c/0").exists()


def test_repository_set_read_only(firn, repo, mount):
    """No commit gets through, and nothing of the session is lost."""
    put_array(mount.main, "a", (9,), (1,))
    official = repo.official()
    official.set_status(ic.RepoStatus(ic.RepoAvailability.read_only, None, "maintenance"))
    p = firn.run("commit", mount, "-m", "m")
    assert p.returncode == 1 and "maintenance" in p.stderr, p.stderr
    official.set_status(ic.RepoStatus(ic.RepoAvailability.online, None, None))
    mount.commit()
    assert_committed(repo, mount.main)


@pytest.mark.parametrize("kept", [True, False], ids=["base_kept", "base_expired"])
def test_conflict_in_expired_history(p, kept):
    """Commits between are no snapshots any more; what they changed still counts."""
    put(p.m.main, "a/c/0", b"before")
    base = p.m.commit("what we start from")
    tips = [p.committed_by_others({"a/c/1": b"theirs"}), p.committed_by_others({"g/b/c/0": b"theirs"}),
            p.committed_by_others({"zarr.json": group_json(last=1)})]
    if kept:
        p.firn("tag", "create", p.repo, "base", base)
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    released = p.repo.official().expire_snapshots(later)
    assert released >= set(tips[:2]) and (base in released) != kept
    put(p.m.main, "a/c/1", b"ours")
    p.refused(p.m, args=["--rebase"], conflicts={("chunk", "/a", (1,), OURS, tips[2])})
    log = p.repo.path / "transactions" / tips[0]
    content = log.read_bytes()
    log.unlink()
    p.firn.refuses("commit", p.m, "-m", "m", "--rebase=ours", saying=[tips[0]])
    log.write_bytes(content)
    put(p.m.main, "a/c/0", b"ours")              # theirs changed it before we began
    p.commit(p.m, args=["--rebase=ours"])
    tree = store_tree(p.repo.store())
    assert tree["a/c/0"] == tree["a/c/1"] == b"ours" and tree["g/b/c/0"] == b"theirs"


# ---- moves, as the official library makes them ----

def test_moved_nodes_are_read(firn, repo, mount):
    put_array(mount.main, "g/a", (4,), (1,))
    put(mount.main, "g/a/c/0", b"x" * 3000)
    put(mount.main, "g/zarr.json", group_json())
    put_array(mount.main, "z", (4,), (1,))
    mount.commit()
    id = os.getxattr(mount.main / "g/a/zarr.json", "user.firn.node")
    for moves in [("/g", "/h")], [("/h/a", "/z2"), ("/z", "/h/z")]:
        s = repo.official().rearrange_session("main")
        for move in moves:
            s.move(*move)
        s.commit("moved")
    with repo.mount() as m:
        assert_committed(repo, m.main)
        assert (m.main / "z2/c/0").read_bytes() == b"x" * 3000 and not (m.main / "g").exists()
        assert os.getxattr(m.main / "z2/zarr.json", "user.firn.node") == id
        put(m.main, "z2/c/1", b"after")
        m.commit("on top of moves")
        assert_committed(repo, m.main)
    assert "/z2" in firn("diff", repo, "main~1", "main")


# ---- workers ----

def test_workers_on_an_array_made_anew_before_the_fork(p):
    """What a worker writes belongs to the array that is there now, not to the one that was."""
    shutil.rmtree(p.m.main / "a")
    apply(p.m.main, {"a/zarr.json": DOC, "a/c/3": b"new"})
    shutil.rmtree(p.m.main / "g/b/c", ignore_errors=True)
    token = p.fork()
    one = p.journal("one", {"a/c/0": b"one", "g/b/c/0": b"one"}, token)
    two = p.journal("two", {"a/c/1": b"two", "g/b/c/1": b"two"}, token)
    p.commit(p.m, one, two)
    tree = {k: v for k, v in store_tree(p.repo.store()).items() if "/c/" in k}
    assert tree == {"a/c/0": b"one", "a/c/1": b"two", "a/c/3": b"new", "g/b/c/0": b"one", "g/b/c/1": b"two"}


def test_append_along_both_axes_by_workers(p):
    """Each worker appends its part; chunks that straddle the old edge are read, changed and written again."""
    rng = np.random.default_rng(1)
    expected = rng.integers(1, 99, (5, 7), dtype="i4")
    a = zarr.create_array(str(p.m.main / "x"), shape=(5, 7), chunks=(2, 3), dtype="i4", fill_value=0)
    a[:] = expected
    for axis, size, step in (0, 8, 2), (1, 10, 3):
        new = rng.integers(1, 99, (size, expected.shape[1]) if axis == 0 else (expected.shape[0], size), dtype="i4")
        old = expected.shape[axis]
        expected = np.concatenate([expected, new], axis)
        zarr.open_array(str(p.m.main / "x"), mode="r+").resize(expected.shape)
        token = p.fork()
        # Cut at the borders of chunks, but for the first, which begins within one.
        cuts = [old, *range(-(-(old + 1) // step) * step, expected.shape[axis], step), expected.shape[axis]]
        journals = []
        for lo, hi in zip(cuts, cuts[1:]):
            part = (slice(lo, hi), slice(None)) if axis == 0 else (slice(None), slice(lo, hi))

            def work(root, part=part, expected=expected):
                zarr.open_array(str(root / "x"), mode="r+")[part] = expected[part]
            journals.append(p.journal(f"w{axis}.{lo}", work, token))
        p.commit(p.m, *journals)
        assert (zarr.open_array(p.repo.store(), path="x", mode="r")[:] == expected).all()
        assert (zarr.open_array(str(p.m.main / "x"), mode="r")[:] == expected).all()
