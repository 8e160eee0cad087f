"""A committed array gets another chunk grid, and its document changes again after chunks were written: these are of the
new grid, whoever commits, and what was written before is still refused."""
import errno
import os

import pytest

from conftest import array_json, put, read_tree, replaced


class Regridded:
    def __init__(self, repo, mounts):
        self.firn, self.repo, self.mounts = repo.firn, repo, mounts
        self.m = mounts.enter_context(repo.mount())
        self.document(10)
        self.m.commit("an array without chunks")

    def document(self, chunk, m=None, **attributes):
        put((m or self.m).main, "a/zarr.json", array_json((100,), (chunk,), **attributes))

    def work(self):
        self.document(20)
        put(self.m.main, "a/c/1", b"new grid" * 3)
        self.document(20, units="m")

    def check(self):
        assert self.firn("cat", self.repo, "a/c/1") == "new grid" * 3
        self.repo.check()


@pytest.fixture
def a(repo, mounts):
    return Regridded(repo, mounts)


def test_mount__committed(a):
    a.work()
    tree = read_tree(a.m.main)
    a.m.commit("m")
    assert read_tree(a.m.main) == tree
    a.check()


@pytest.mark.parametrize("way", ["export", "merge", "copy"])
def test_given_away__committed(a, tmp_path, way):
    a.work()
    out = tmp_path / "out.journal"
    if way == "export":
        a.firn("journal", "export", a.m, "-o", out)
    elif way == "merge":
        a.firn("merge", "-o", out, a.m)
    else:
        out.write_bytes((a.m.path / ".firn/journal").read_bytes())
    a.firn.snapshot("commit", out, "-m", "m")
    a.check()


def test_dead_session__committed(a):
    a.work()
    id = a.m.session()["id"]
    a.m.kill()
    a.firn.snapshot("commit", id, "-m", "m")
    a.check()


def test_chunk_of_the_old_grid__refused(a):
    put(a.m.main, "a/c/2", b"old grid")
    a.work()
    a.firn.refuses("commit", a.m, "-m", "m", saying=["a", "c/2", "before"])


def test_grid_there_and_back__chunk_between_refused(a):
    a.work()
    a.document(25)
    a.document(20, units="m")
    a.firn.refuses("commit", a.m, "-m", "m", saying=["c/1", "before"])


@pytest.mark.parametrize("driver", ["the same", "another", "resumed"])
def test_grid_of_the_base_again__refused_at_once(a, driver):
    """No commit could tell by then that the chunk is of the grid in between."""
    put(a.m.main, "a/c/3", b"old grid" * 2)
    a.work()
    if driver == "another":
        replaced(a.m)
    elif driver == "resumed":
        id = a.m.session()["id"]
        a.m.kill()
        a.m = a.mounts.enter_context(a.repo.resume(id))
    with pytest.raises(OSError) as e:
        a.document(10)
    assert e.value.errno == errno.EINVAL
    assert "remove them first" in a.m.control("errors")
    (a.m.main / "a/c/1").unlink()
    a.document(10)
    a.m.commit("m")
    assert a.firn("cat", a.repo, "a/c/3") == "old grid" * 2
    assert not (a.m.main / "a/c/1").exists()


@pytest.mark.parametrize("grown", [True, False])
def test_chunk_written_right_after_a_shrink__is_no_file_that_is_gone(a, grown):
    """The kernel may not have been told yet that the name is another file's, or none's."""
    for n in range(30):
        put(a.m.main, "a/c/7", b"before" * 500)
        put(a.m.main, "a/zarr.json", array_json((20,), (10,)))
        if grown:
            a.document(10)
        data = b"after %d" % n
        put(a.m.main, "a/c/7", data)
        if not grown:
            a.document(10)
        assert (a.m.main / "a/c/7").read_bytes() == data
        assert os.listdir(a.m.main / "a/c") == ["7"]
    a.m.commit("m")
    assert a.firn("cat", a.repo, "a/c/7") == "after 29"


@pytest.mark.parametrize("grown", [True, False])
def test_committed_chunk_written_right_after_a_shrink__is_there(a, grown):
    for n in range(15):
        a.document(10)
        put(a.m.main, "a/c/7", b"before %d" % n * 500)
        a.m.commit(f"{n}")
        assert (a.m.main / "a/c/7").read_bytes() == b"before %d" % n * 500
        put(a.m.main, "a/zarr.json", array_json((20,), (10,)))
        if grown:
            a.document(10)
        put(a.m.main, "a/c/7", b"after %d" % n)
        if not grown:
            a.document(10)
        assert (a.m.main / "a/c/7").read_bytes() == b"after %d" % n
        assert os.listdir(a.m.main / "a/c") == ["7"]
    a.m.commit("m")
    assert a.firn("cat", a.repo, "a/c/7") == "after 14"


def test_fork_between__the_parents_later_document_is_still_a_conflict(a, tmp_path):
    """What the fork did not know of may not look as if it had known."""
    a.document(20)
    put(a.m.main, "a/c/1", b"new grid" * 3)
    a.firn("fork", a.m, "-o", tmp_path / "t")
    a.document(20, units="m")
    w = a.mounts.enter_context(a.repo.worker(tmp_path / "t"))
    a.document(20, w, units="km")
    out = tmp_path / "w.journal"
    w.umount("--export", out)
    p = a.firn.run("commit", a.m, out, "-m", "m")
    assert p.returncode == 3 and "/a" in p.stderr, p.stderr


def test_fork_between__the_parent_alone_is_committed(a, tmp_path):
    """Nobody asks what the fork knew."""
    a.document(20)
    put(a.m.main, "a/c/1", b"new grid" * 3)
    a.firn("fork", a.m, "-o", tmp_path / "t")
    a.document(20, units="m")
    a.m.commit("m")
    a.check()


def commit_with_worker(a, tmp_path):
    """A worker of the fork `t` makes an array, and its journal is committed with the parent."""
    w = a.mounts.enter_context(a.repo.worker(tmp_path / "t"))
    put(w.main, "b/zarr.json", array_json((10,), (1,)))
    out = tmp_path / "w.journal"
    w.umount("--export", out)
    a.firn.snapshot("commit", a.m, out, "-m", "m")
    a.check()


@pytest.mark.parametrize("driver", ["another", "resumed"])
def test_another_driver_between__committed_with_a_worker(a, tmp_path, driver):
    """It knows whether there are forks, and of what."""
    a.firn("fork", a.m, "-o", tmp_path / "t")
    a.document(20)
    put(a.m.main, "a/c/1", b"new grid" * 3)
    if driver == "another":
        replaced(a.m)
    else:
        id = a.m.session()["id"]
        a.m.kill()
        a.m = a.mounts.enter_context(a.repo.resume(id))
    a.document(20, units="m")
    commit_with_worker(a, tmp_path)


def test_fork_before__worker_commits_with_the_parent(a, tmp_path):
    a.firn("fork", a.m, "-o", tmp_path / "t")
    a.work()
    commit_with_worker(a, tmp_path)


def rectilinear(length, *edges):
    grid = {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": [list(edges)]}}
    return array_json((length,), (1,), chunk_grid=grid)


@pytest.fixture
def edged(repo, mounts):
    """A committed array of chunks of one, two and three elements, all there."""
    m = mounts.enter_context(repo.mount())
    put(m.main, "a/zarr.json", rectilinear(6, 1, 2, 3))
    for i, data in enumerate([b"A", b"BB", b"CCC"]):
        put(m.main, f"a/c/{i}", data)
    m.commit("edges")
    return m


@pytest.mark.parametrize("edges", [(1, 3, 2), (1, 5), (2, 1, 3)])
def test_other_edges__old_chunks_refused(repo, edged, edges):
    put(edged.main, "a/zarr.json", rectilinear(6, *edges))
    repo.firn.refuses("commit", edged, "-m", "m", saying=["/a:", "c/0", "before"])
    for i, size in enumerate(edges):
        put(edged.main, f"a/c/{i}", b"n" * size)
    edged.commit("all of them anew")
    assert repo.firn("cat", repo, "a/c/1") == "n" * edges[1]
    repo.check()


@pytest.mark.parametrize("edges", [(1, 2, 3, 4), (1, 2, [3, 3], 9), ([1, 1], [2, 1], 3, 1)])
def test_more_edges__committed(repo, edged, edges):
    put(edged.main, "a/zarr.json", rectilinear(7, *edges))
    put(edged.main, "a/c/3", b"more")
    edged.commit("m")
    assert [repo.firn("cat", repo, f"a/c/{i}") for i in range(4)] == ["A", "BB", "CCC", "more"]
    repo.check()


@pytest.mark.parametrize("grown", [True, False])
def test_edges_against_a_forks_chunk(repo, mounts, edged, tmp_path, grown):
    repo.firn("fork", edged, "-o", tmp_path / "t")
    w = mounts.enter_context(repo.worker(tmp_path / "t"))
    put(w.main, "a/c/1", b"bb")
    out = tmp_path / "w.journal"
    w.umount("--export", out)
    if not grown:
        for i in range(3):
            (edged.main / f"a/c/{i}").unlink()
    put(edged.main, "a/zarr.json", rectilinear(7, 1, 2, 3, 1) if grown else rectilinear(6, 1, 3, 2))
    if grown:
        repo.firn.snapshot("commit", edged, out, "-m", "m")
        assert [repo.firn("cat", repo, f"a/c/{i}") for i in range(3)] == ["A", "bb", "CCC"]
    else:
        p = repo.firn.run("commit", edged, out, "-m", "m")
        assert p.returncode == 3 and "/a" in p.stderr and "c/1" in p.stderr, p.stderr


def test_other_edges_of_an_array_of_this_session__refused_at_once(repo, mounts):
    m = mounts.enter_context(repo.mount())
    put(m.main, "a/zarr.json", rectilinear(6, 1, 2, 3))
    put(m.main, "a/c/1", b"BB")
    with pytest.raises(OSError) as e:
        put(m.main, "a/zarr.json", rectilinear(6, 1, 3, 2))
    assert e.value.errno == errno.EINVAL
    put(m.main, "a/zarr.json", rectilinear(7, 1, 2, 3, 1))
    m.commit("m")
    assert repo.firn("cat", repo, "a/c/1") == "BB"
