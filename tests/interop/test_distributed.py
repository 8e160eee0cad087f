"""Forks, workers with mounts of their own, journals, merges and conflicts."""
import itertools
import json
import os
import random
import shutil
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from conftest import (PATIENCE, Firn, Mount, Repo, array_json, assert_committed, assert_same, group_json, plain, put,
                      put_array, read_tree, store_tree)


# ---- the whole cycle, with processes and xarray ----

def dataset():
    rng = np.random.default_rng(4)
    return xr.Dataset({"t": (("time", "y", "x"), rng.random((24, 5, 6)).astype("f4"))},
                      coords={"time": pd.date_range("2001-01", periods=24, freq="MS"), "y": np.arange(5.0)})


def worker(home, token, mountpoint, months, way, out):
    """What a job on another machine does."""
    firn = Firn(home)
    with Mount(firn, mountpoint, ["--fork", token]) as m:
        part = dataset().isel(time=months)[["t"]]
        part.to_zarr(m.main, region="auto", mode="r+", consolidated=False)
        if way == "copy":
            shutil.copy(m.path / ".firn/journal", out)
        m.umount(*(["--export", out] if way == "export" else []))
    return out


def run_workers(firn, repo, token, tmp_path, way, n=4):
    with ProcessPoolExecutor(n, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(worker, firn.home, token, tmp_path / f"w{i}", slice(i * 24 // n, (i + 1) * 24 // n), way,
                            tmp_path / f"w{i}.journal") for i in range(n)]
        return [j.result() for j in jobs]


@pytest.mark.sanitize
@pytest.mark.parametrize("way", ["export", "copy", "publish"])
@pytest.mark.parametrize("dirty", [True, False], ids=["uncommitted_parent", "committed_parent"])
def test_region_writes_of_four_processes(firn, repo, mount, tmp_path, way, dirty):
    ds = dataset()
    ds.chunk(time=3).to_zarr(mount.main, mode="w", compute=False, consolidated=False)
    if not dirty:
        mount.commit("initialize store")
    token = tmp_path / "fork.json"
    firn("fork", mount, "-o", token)
    journals = run_workers(firn, repo, token, tmp_path, way)
    if way == "publish":
        fork = json.loads(token.read_text())["fork"]
        p = firn.run("commit", mount, "--fork", fork, "--expect", 5, "-m", "too few")
        assert p.returncode not in (0, 2), (p.stdout, p.stderr)
        assert "5" in p.stderr and "4" in p.stderr
        id = firn.snapshot("commit", mount, "--fork", fork, "--expect", 4, "-m", "finished writes")
    else:
        id = firn.snapshot("commit", mount, *journals, "-m", "finished writes")
    assert repo.official().lookup_branch("main") == id
    with xr.open_zarr(repo.store(), consolidated=False) as got:
        xr.testing.assert_identical(got.compute(), ds)
    with xr.open_zarr(mount.main, consolidated=False) as got:
        xr.testing.assert_identical(got.compute(), ds)
    assert_committed(repo, mount.main)
    assert not list(repo.path.glob("firn/sessions/*/*.journal"))    # also where copies were handed back
    log = repo.official().ancestry(branch="main")
    assert next(iter(log)).message == "finished writes"


def test_each_worker_adds_a_variable(firn, repo, mount, mounts, tmp_path):
    """Each also writes the root's document: with consolidated metadata that lists its own variable."""
    ds = xr.Dataset({name: (f"on_{name}", np.arange(10) + i) for i, name in enumerate("tuvw")}, attrs={"v": 1})
    ds[["t"]].to_zarr(mount.main, mode="w")
    mount.commit("base")
    firn("fork", mount, "-o", tmp_path / "fork.json")
    journals = []
    for name in "uv":
        w = mounts.enter_context(repo.worker(tmp_path / "fork.json"))
        ds[[name]].assign_attrs(ds.attrs | ({"of": "u"} if name == "u" else {})).to_zarr(w.main, mode="a")
        journals.append(tmp_path / f"{name}.journal")
        w.umount("--export", journals[-1])
    ds[["w"]].to_zarr(mount.main, mode="a")
    firn("merge", "-o", tmp_path / "both", *journals)
    id = firn.snapshot("commit", mount, tmp_path / "both", "-m", "a variable each")
    assert repo.official().lookup_branch("main") == id
    for store in repo.store(), mount.main:
        with xr.open_zarr(store, consolidated=False) as got:
            xr.testing.assert_identical(got.compute(), ds.assign_attrs(of="u"))
    assert "consolidated_metadata" not in store_tree(repo.store())["zarr.json"].decode()
    assert_committed(repo, mount.main)


# ---- journals of one array, made quickly ----

class Forks:
    """A coordinator with an array /a of `n` chunks in a clean or dirty session, and its forks."""

    def __init__(self, repo, mounts, tmp_path, n=32, commit=True, token=None, base=None):
        self.repo, self.firn, self.tmp, self.mounts = repo, repo.firn, tmp_path, mounts
        self.m = base or mounts.enter_context(repo.mount())
        if base is None:
            put_array(self.m.main, "a", (n,), (1,))
            put(self.m.main, "g/zarr.json", group_json())
            put(self.m.main, "a/c/0", b"base")
            if commit:
                self.m.commit("base")
        self.token = token or tmp_path / "fork.json"
        self.firn("fork", self.m, "-o", self.token)

    def journal(self, name, work):
        """What a worker that does `work(directory)` returns."""
        with self.repo.worker(self.token) as w:
            work(w.main)
            out = self.tmp / f"{name}.journal"
            w.umount("--export", out)
        return out

    def chunks(self, name, **chunks):
        def work(d):
            for k, v in chunks.items():
                if v is None:
                    (d / f"a/c/{k[1:]}").unlink()
                else:
                    put(d, f"a/c/{k[1:]}", v)
        return self.journal(name, work)

    def commit(self, *sources, code=0):
        p = self.firn.run("commit", self.m, *sources, "-m", "merged")
        assert p.returncode == code, (p.returncode, p.stdout, p.stderr)
        return p


@pytest.fixture
def forks(repo, mounts, tmp_path):
    return Forks(repo, mounts, tmp_path)


def test_twenty_four_journals_in_any_order(forks):
    """The merged journal depends on the set of journals only; so do merges of merges."""
    big = b"L" * 3000
    journals = [forks.chunks(f"w{i}", **{f"_{i + 1}": b"small%d" % i} | ({f"_{i - 23}": big} if i == 31 else {}))
                for i in range(24)]
    rng = random.Random(24)
    reference = None
    for k in range(4):
        rng.shuffle(journals)
        out = forks.tmp / f"merged{k}.journal"
        forks.firn("merge", "-o", out, *journals)
        forks.firn("journal", "verify", out)
        reference = reference or out.read_bytes()
        assert out.read_bytes() == reference, "the order of the arguments shows"
    for k in range(3):                                  # trees of merges
        level = list(journals)
        rng.shuffle(level)
        for step in itertools.count():
            if len(level) == 1:
                break
            n = rng.randrange(2, 5)
            out = forks.tmp / f"tree{k}.{step}.journal"
            forks.firn("merge", "-o", out, *level[:n])
            level = level[n:] + [out]
        assert level[0].read_bytes() == reference
    forks.commit(level[0])
    tree = read_tree(forks.m.main)
    assert {k: v for k, v in tree.items() if k.startswith("a/c/")} == \
        {"a/c/0": b"base"} | {f"a/c/{i + 1}": b"small%d" % i for i in range(24)}
    assert_committed(forks.repo, forks.m.main)


def test_coordinators_own_changes_come_too(forks):
    w = forks.chunks("w", _5=b"worker")
    put(forks.m.main, "a/c/6", b"mine")
    put(forks.m.main, "note/zarr.json", group_json(by="coordinator"))
    forks.commit(w)
    assert (forks.m.main / "a/c/5").read_bytes() == b"worker" and (forks.m.main / "a/c/6").read_bytes() == b"mine"
    assert_committed(forks.repo, forks.m.main)


def test_worker_sees_what_it_was_forked_from(repo, mounts, tmp_path):
    f = Forks(repo, mounts, tmp_path, commit=False)
    put(f.m.main, "a/c/1", b"after the fork")

    def work(d):
        assert (d / "a/c/0").read_bytes() == b"base"
        assert not (d / "a/c/1").exists()
        put(d, "a/c/2", b"w")
    j = f.journal("w", work)
    f.commit(j)
    assert_same({k: v for k, v in read_tree(f.m.main).items() if "/c/" in k},
                {"a/c/0": b"base", "a/c/1": b"after the fork", "a/c/2": b"w"})


def test_fork_of_a_fork(forks):
    with forks.repo.worker(forks.token) as child:
        put(child.main, "a/c/1", b"child")
        inner = forks.tmp / "inner.json"
        forks.firn("fork", child, "-o", inner)
        grandchildren = []
        for i in (2, 3):
            with forks.repo.worker(inner) as g:
                assert (g.main / "a/c/1").read_bytes() == b"child"
                put(g.main, f"a/c/{i}", b"grandchild")
                put(g.main, "a/c/1", b"grandchild's")if i == 2 else None
                grandchildren.append(forks.tmp / f"g{i}.journal")
                g.umount("--export", grandchildren[-1])
        j = forks.tmp / "child.journal"
        child.umount("--export", j)
    p = forks.commit(*grandchildren, code=3)     # the child's changes are missing
    assert "session" in p.stderr or "journal" in p.stderr
    forks.commit(*grandchildren, j)
    tree = read_tree(forks.m.main)
    assert [tree[f"a/c/{i}"] for i in (1, 2, 3)] == [b"grandchild's", b"grandchild", b"grandchild"]
    assert_committed(forks.repo, forks.m.main)


def test_journals_alone__without_the_coordinator(forks):
    js = [forks.chunks("w1", _1=b"1"), forks.chunks("w2", _2=b"2")]
    forks.m.umount("--discard")
    id = forks.firn.snapshot("commit", *js, "-m", "from journals")
    assert forks.repo.official().lookup_branch("main") == id
    assert store_tree(forks.repo.store())["a/c/2"] == b"2"


def test_uncommitted_parent_left_out__refused(repo, mounts, tmp_path):
    f = Forks(repo, mounts, tmp_path, commit=False)
    j = f.chunks("w", _1=b"1")
    p = f.firn.run("commit", j, "-m", "m")
    assert p.returncode == 3, (p.returncode, p.stderr)


def test_uncommitted_parent_in_each_step_of_a_tree_of_merges(repo, mounts, tmp_path):
    forks = Forks(repo, mounts, tmp_path, commit=False)
    journals = [forks.chunks(i, **{f"_{i + 1}": b"%d" % i}) for i in range(4)]
    forks.firn("merge", "-o", tmp_path / "first", forks.m, *journals[:2])
    put(forks.m.main, "a/c/6", b"later")
    forks.firn("merge", "-o", tmp_path / "second", *journals[2:], forks.m)
    forks.firn("merge", "-o", tmp_path / "both", tmp_path / "second", tmp_path / "first")
    p = forks.firn.run("commit", forks.m, tmp_path / "both", journals[0], "-m", "m")
    assert p.returncode == 3 and "twice" in p.stderr
    forks.firn.snapshot("commit", forks.m, tmp_path / "both", "-m", "m")
    tree = store_tree(repo.store())
    assert [tree[f"a/c/{i}"] for i in (1, 2, 3, 4, 6)] == [b"0", b"1", b"2", b"3", b"later"]
    assert_committed(repo, forks.m.main)


@pytest.mark.parametrize("how", ["commit", "discard"])
def test_late_worker_of_an_uncommitted_parent__is_told_what_to_give(repo, mounts, tmp_path, how):
    forks = Forks(repo, mounts, tmp_path, commit=False)
    late = forks.chunks("late", _1=b"late")
    forks.firn(how, forks.m, *(["-m", "m"] if how == "commit" else []))
    p = forks.firn.run("commit", late, "-m", "late", "--rebase")
    assert p.returncode == 3
    published = next(word for word in p.stderr.split() if word.endswith("/parent"))
    forks.firn.snapshot("commit", repo.path / published, late, "-m", "late", "--rebase")
    assert store_tree(repo.store())["a/c/1"] == b"late"


def test_branch_moved_since_the_fork__needs_rebase(forks):
    j = forks.chunks("w", _1=b"1")
    put(forks.m.main, "a/c/9", b"meanwhile")
    forks.m.commit("meanwhile")
    assert forks.firn.run("commit", j, "-m", "m").returncode == 3
    forks.firn.snapshot("commit", j, "-m", "m", "--rebase")
    tree = store_tree(forks.repo.store())
    assert tree["a/c/9"] == b"meanwhile" and tree["a/c/1"] == b"1"


# ---- conflicts ----

def both(a, b):
    return lambda f: (f.chunks("one", **a), f.chunks("two", **b))


def docs(a, b):
    """Two workers who each put {key: bytes or None}."""
    def run(d, tree):
        for k, v in tree.items():
            if v is None:
                shutil.rmtree(d / k) if (d / k).is_dir() else (d / k).unlink()
            else:
                put(d, k, v)
    return lambda f: (f.journal("one", lambda d: run(d, a)), f.journal("two", lambda d: run(d, b)))


CONFLICTS = {
    "same_chunk": (both({"_1": b"1"}, {"_1": b"2"}), "a", "1"),
    "same_chunk_native": (both({"_1": b"1" * 2000}, {"_1": b"2" * 2000}), "a", "1"),
    "written_and_erased": (both({"_0": b"1"}, {"_0": None}), "a", "0"),
    "written_and_array_deleted": (docs({"a/c/3": b"x"}, {"a": None}), "a", None),
    "written_and_shrunk": (docs({"a/c/20": b"x"}, {"a/zarr.json": array_json((10,), (1,))}), "a", "20"),
    "written_and_regridded": (docs({"a/c/3": b"x"}, {"a/c/0": None, "a/zarr.json": array_json((32,), (4,))}), "a", None),
    "document_two_ways": (docs({"a/zarr.json": array_json((32,), (1,), attributes={"x": 1})},
                               {"a/zarr.json": array_json((32,), (1,), attributes={"x": 2})}), "a", None),
    "group_two_ways": (docs({"zarr.json": group_json(x=1)}, {"zarr.json": group_json(x=2)}), "/", None),
    "created_differently": (docs({"n/zarr.json": array_json((3,), (1,))}, {"n/zarr.json": array_json((4,), (1,))}), "n", None),
    "array_and_group": (docs({"n/zarr.json": array_json((3,), (1,))}, {"n/zarr.json": group_json()}), "n", None),
    "below_deleted_group": (docs({"g/n/zarr.json": group_json()}, {"g": None}), "g", None),
    "below_new_array": (docs({"n/m/zarr.json": group_json()}, {"n/zarr.json": array_json((3,), (1,))}), "n", None),
    "document_and_deleted": (docs({"a/zarr.json": array_json((32,), (1,), attributes={"x": 1})}, {"a": None}), "a", None),
}


@pytest.mark.parametrize("order", ["forward", "backward"])
@pytest.mark.parametrize("name", CONFLICTS)
def test_conflict(forks, name, order):
    make, path, index = CONFLICTS[name]
    one, two = make(forks)
    sources = (one, two) if order == "forward" else (two, one)
    before = forks.repo.official().lookup_branch("main")
    tree = read_tree(forks.m.main)
    p = forks.commit(*sources, code=3)
    text = p.stdout + p.stderr
    assert path in text and "one.journal" in text and "two.journal" in text, text
    assert index is None or f"c/{index}" in text, text
    merged = forks.tmp / "merged.journal"
    assert forks.firn.run("merge", "-o", merged, *sources).returncode == 3 and not merged.exists()
    listing = json.loads(forks.firn.run("commit", forks.m, *sources, "-m", "m", "--json").stdout)
    found = listing["conflicts"]
    assert found and all(path.strip("/") in c["path"] for c in found), listing
    assert "one.journal" in json.dumps(found) and "two.journal" in json.dumps(found)
    # Nothing was committed, and the mount goes on.
    assert forks.repo.official().lookup_branch("main") == before
    assert_same(read_tree(forks.m.main), tree)
    forks.commit(one if name != "below_deleted_group" else two)
    assert_committed(forks.repo, forks.m.main)


def test_no_conflict__identical_changes(forks):
    doc = array_json((7,), (1,))

    def work(d):
        put(d, "a/c/1", b"same")
        put(d, "a/c/2", b"same" * 1000)
        (d / "a/c/0").unlink()
        put(d, "n/zarr.json", doc)
    one = forks.journal("one", lambda d: (work(d), put(d, "n/c/1", b"one"), put(d, "a/zarr.json", array_json((32,), (1,)))))
    two = forks.journal("two", lambda d: (work(d), put(d, "n/c/2", b"two"), put(d, "a/zarr.json", array_json((32,), (1,)))))
    forks.commit(one, two)
    tree = read_tree(forks.m.main)
    assert tree["n/c/1"] == b"one" and tree["n/c/2"] == b"two" and "a/c/0" not in tree and tree["a/c/2"] == b"same" * 1000
    assert_committed(forks.repo, forks.m.main)


@pytest.mark.parametrize("favor,winner", [("first", b"1"), ("last", b"2")])
def test_favor(forks, favor, winner):
    one, two = forks.chunks("one", _1=b"1", _3=b"only one"), forks.chunks("two", _1=b"2")
    merged = forks.tmp / "merged.journal"
    forks.firn("merge", "-o", merged, "--favor", favor, one, two)
    p = forks.firn.run("commit", forks.m, one, two, "--favor", favor, "-m", "m")
    assert p.returncode == 0, p.stderr
    assert (forks.m.main / "a/c/1").read_bytes() == winner
    assert (forks.m.main / "a/c/3").read_bytes() == b"only one"
    assert_committed(forks.repo, forks.m.main)


def test_favor__settles_no_document(forks):
    one, two = CONFLICTS["document_two_ways"][0](forks)
    p = forks.firn.run("commit", forks.m, one, two, "--favor", "last", "-m", "m")
    assert p.returncode == 3, p.stderr


def test_coordinator_conflicts_with_worker(forks):
    w = forks.chunks("w", _5=b"worker")
    put(forks.m.main, "a/c/5", b"mine")
    p = forks.commit(w, code=3)
    assert "c/5" in p.stdout + p.stderr
    assert (forks.m.main / "a/c/5").read_bytes() == b"mine"


def test_journal_twice__refused(forks, tmp_path):
    j = forks.chunks("w", _1=b"1")
    copy = tmp_path / "copy.journal"
    shutil.copy(j, copy)
    p = forks.commit(j, copy, code=3)
    assert "copy.journal" in p.stderr or "twice" in p.stderr


def test_journal_of_another_repository__refused(firn, forks, tmp_path, mounts):
    from conftest import Repo
    other = Repo(firn, tmp_path / "other", tmp_path / "othermnt")
    firn("init", other)
    place = tmp_path / "otherplace"
    place.mkdir()
    theirs = Forks(other, mounts, place)
    j = theirs.chunks("foreign", _1=b"1")
    p = forks.commit(j, code=3)
    assert "repository" in p.stderr


def test_fork_token_of_another_place(firn, forks, tmp_path):
    """A token whose repository is gone, or is another one by now."""
    x = tmp_path / "x"
    x.mkdir()
    token = json.loads(forks.token.read_text())
    lost = tmp_path / "lost.json"
    lost.write_text(json.dumps(token | {"repository": str(tmp_path / "nowhere")}))
    firn.refuses("mount", "--fork", lost, x, saying="nowhere")
    firn("init", tmp_path / "fresh")
    lost.write_text(json.dumps(token | {"repository": str(tmp_path / "fresh")}))
    firn.refuses("mount", "--fork", lost, x, saying="repository", code=3)
    lost.write_text("{}")
    firn.refuses("mount", "--fork", lost, x, saying="lost.json")
    lost.write_text("no json")
    firn.refuses("mount", "--fork", lost, x, saying="lost.json")


def test_worker_does_not_commit_by_itself(forks):
    with forks.repo.worker(forks.token) as w:
        put(w.main, "a/c/1", b"1")
        p = forks.firn.run("commit", w, "-m", "m")
        assert p.returncode == 1 and "fork" in p.stderr, (p.returncode, p.stderr)
        w.umount("--discard")


def test_merge_of_live_mounts_and_sessions(forks):
    """Sources may be mounts and session ids as well as files."""
    with forks.repo.worker(forks.token) as w1, forks.repo.worker(forks.token) as w2:
        put(w1.main, "a/c/1", b"1")
        put(w2.main, "a/c/2", b"2" * 900)
        id2 = w2.session()["id"]
        out = forks.tmp / "m.journal"
        forks.firn("merge", "-o", out, w1, id2)
        forks.commit(out)
        w1.umount("--discard")
        w2.umount("--discard")
    assert (forks.m.main / "a/c/1").read_bytes() == b"1"
    assert (forks.m.main / "a/c/2").read_bytes() == b"2" * 900
    assert_committed(forks.repo, forks.m.main)


def test_merge_by_session_id__asks_no_mount_of_others(forks, firn, tmp_path):
    """One whose driver does not answer would have everybody wait for it."""
    firn("init", tmp_path / "other")
    other = Repo(firn, tmp_path / "other", tmp_path / "others")
    with other.mount() as stopped, forks.repo.worker(forks.token) as w:
        put(w.main, "a/c/1", b"1")
        worker = stopped.session()["worker"]
        os.kill(worker, signal.SIGSTOP)
        try:
            forks.firn("merge", "-o", forks.tmp / "m.journal", w.session()["id"], timeout=20 * PATIENCE)
        finally:
            os.kill(worker, signal.SIGCONT)
        w.umount("--discard")


def test_superseded_chunks_of_an_exported_journal_stay(forks):
    """What a copied journal names must exist, even if the worker writes on."""
    with forks.repo.worker(forks.token) as w:
        put(w.main, "a/c/1", b"A" * 5000)
        out = forks.tmp / "early.journal"
        shutil.copy(w.path / ".firn/journal", out)
        put(w.main, "a/c/1", b"B" * 5000)
        (w.main / "a/c/1").unlink()
        w.umount("--discard")
    forks.firn("journal", "verify", out)
    forks.commit(out)
    assert (forks.m.main / "a/c/1").read_bytes() == b"A" * 5000


def test_journal_show(forks):
    j = forks.chunks("w", _1=b"1", _2=b"2" * 900)
    text = forks.firn("journal", "show", j)
    assert "a" in text and "1" in text and "2" in text
    shown = forks.firn.json("journal", "show", j)
    assert shown
    forks.firn("journal", "verify", j)
    tree = plain(read_tree(forks.m.main))
    assert "a/c/1" not in tree


@pytest.mark.sanitize
@pytest.mark.parametrize("interleaved", [False, True], ids=["ranges", "interleaved"])
def test_large_journals__chunks_stay_in_their_files(repo, mounts, tmp_path, interleaved):
    """Merged, given cut off, and committed: journals that are not read into memory."""
    n, workers = 4_000, 4
    forks = Forks(repo, mounts, tmp_path, n)
    content = {i: b"%08d" % i * 30 for i in range(n)}

    def work(w):
        mine = range(w, n, workers) if interleaved else range(w * n // workers, (w + 1) * n // workers)

        def write(d):
            (d / "a/c").mkdir(exist_ok=True)
            for i in mine:
                (d / f"a/c/{i}").write_bytes(content[i])
        return write

    journals = [forks.journal(f"w{w}", work(w)) for w in range(workers)]
    assert all(j.stat().st_size > 128 * 1024 for j in journals)
    cut = tmp_path / "cut.journal"
    cut.write_bytes(journals[0].read_bytes()[:-1000])
    assert "was not copied whole" in forks.commit(cut, *journals[1:], code=1).stderr
    other = forks.chunks("other", _3000=b"something else")
    assert "/a c/3000" in forks.commit(*journals, other, code=3).stderr
    forks.firn("merge", "-o", tmp_path / "two.journal", *journals[:2])
    forks.commit(tmp_path / "two.journal", *journals[2:])
    tree = store_tree(repo.store())
    assert {int(k.removeprefix("a/c/")): v for k, v in tree.items() if k.startswith("a/c/")} == content
    assert_committed(repo, forks.m.main)


def test_copy_older_than_what_was_published__stays_published(firn, repo, mount, tmp_path):
    put_array(mount.main, "a", (4,), (1,))
    mount.commit("base")
    firn("fork", mount, "-o", tmp_path / "fork.json")
    with repo.worker(tmp_path / "fork.json") as w:
        put(w.main, "a/c/0", b"copied")
        shutil.copy(w.path / ".firn/journal", tmp_path / "w.journal")
        put(w.main, "a/c/1", b"later")
    firn.snapshot("commit", mount, tmp_path / "w.journal", "-m", "the copy")
    [left] = repo.path.glob("firn/sessions/*/*.journal")
    assert "c/1" in firn("journal", "show", left)


@pytest.mark.parametrize("kind", ["worker", "session"])
def test_export_has_all_that_was_closed(firn, repo, mount, tmp_path, kind):
    """Also what is closed while the mount is on its way out; and nothing of it stays published."""
    put_array(mount.main, "a", (1_000_000,), (1,))
    mount.commit("base")
    token = tmp_path / "fork.json"
    firn("fork", mount, "-o", token)
    for k in range(3):
        m = repo.worker(token) if kind == "worker" else repo.mount()
        journal, closed = tmp_path / f"{k}.journal", []
        with m:
            (m.main / "a/c").mkdir()
            device = os.stat(m.main).st_dev

            def write():
                i = 0
                while True:
                    try:
                        with open(m.main / f"a/c/{i}", "xb") as f:
                            f.write(b"%d" % i)
                            if os.fstat(f.fileno()).st_dev != device:
                                return
                    except OSError:
                        return
                    closed.append(i)
                    i += 1

            writer = threading.Thread(target=write)
            writer.start()
            while len(closed) < 20:
                time.sleep(0.001)
            while firn.run("umount", m, "--export", journal).returncode:
                pass
            m._ended()
            writer.join()
        shown = {int(line.split()[0].removeprefix("c/")) for line in firn("journal", "show", journal).splitlines()
                 if line.strip().startswith("c/")}
        assert set(closed) <= shown, sorted(set(closed) - shown)
        assert not list(repo.path.glob("firn/sessions/*/*.journal"))


def test_export_into_a_pipe_and_into_the_mount(firn, repo, mount, tmp_path):
    put_array(mount.main, "a", (4,), (1,))
    mount.commit("base")
    firn("fork", mount, "-o", tmp_path / "fork.json")
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    for k in range(2):          # with something in it, and without
        with repo.worker(tmp_path / "fork.json") as w:
            if k:
                put(w.main, "a/c/0", b"x")
            firn.refuses("umount", w, "--export", w.main / "w.journal", saying=["gone with the mount"])
            reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
            reader.start()
            w.umount("--export", pipe)
            reader.join()
        (tmp_path / f"{k}.journal").write_bytes(got[k])
        assert ("c/0" in firn("journal", "show", tmp_path / f"{k}.journal")) == bool(k)
    firn.snapshot("commit", mount, tmp_path / "0.journal", tmp_path / "1.journal", "-m", "m")
    assert (mount.main / "a/c/0").read_bytes() == b"x"
