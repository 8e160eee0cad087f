"""One mount, many writers: threads and processes, chunks and documents, reads of what is being replaced."""
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import zarr

from conftest import PATIENCE, assert_committed, assert_same, plain, put, put_array, read_tree

N = 16


def fill(where, i):
    a = zarr.open_array(f"{where}/a", mode="r+")
    for j in range(12):
        a[i * 12 + j] = i * 12 + j + 1
    return i


def prepare(d):
    zarr.open_group(str(d), mode="w").create_array("a", shape=(N * 12, 50), chunks=(1, 25), dtype="i4", compressors=None)


def everyone(kind):
    return ThreadPoolExecutor(N) if kind == "threads" else ProcessPoolExecutor(N, mp_context=get_context("spawn"))


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_sixteen_writers(repo, mount, tmp_path, kind):
    here = tmp_path / "here"
    here.mkdir()
    for d in here, mount.main:
        prepare(d)
        with everyone(kind) as pool:
            assert sorted(pool.map(fill, [str(d)] * N, range(N))) == list(range(N))
    assert_same(plain(read_tree(mount.main)), plain(read_tree(here)), names=("mount", "plain"))
    mount.commit()
    assert_committed(repo, mount.main)


@pytest.mark.sanitize
def test_threads_write_commit_and_read(repo, mount):
    """Writers, readers, listings and commits at once: nothing is lost, nothing is torn."""
    put_array(mount.main, "a", (64,), (1,))
    stop, errors, written = threading.Event(), [], [0] * 8
    rounds = 30 if PATIENCE == 1 else 8

    def guard(f):
        def g(*a):
            try:
                f(*a)
            except BaseException as e:  # noqa: BLE001
                errors.append(e)
                stop.set()
        return g

    @guard
    def writer(i):
        for k in range(1, rounds + 1):
            for j in range(8):
                p = mount.main / f"a/c/{i * 8 + j}"
                t = p.with_name(f"{p.name}.{os.urandom(16).hex()}.partial")
                t.parent.mkdir(parents=True, exist_ok=True)
                t.write_bytes(bytes([k]) * (100 + 100 * i))
                t.rename(p)
            written[i] = k

    @guard
    def reader(i):
        while not stop.is_set():
            for j in range(64):
                try:
                    data = (mount.main / f"a/c/{j}").read_bytes()
                except FileNotFoundError:
                    continue
                assert len(data) == 100 + 100 * (j // 8) and len(set(data)) == 1, (j, len(data), set(data))

    @guard
    def lister():
        while not stop.is_set():
            os.listdir(mount.main / "a")
            if (mount.main / "a/c").exists():
                assert all(n.isdecimal() for n in os.listdir(mount.main / "a/c"))

    @guard
    def committer():
        while not stop.is_set():
            p = mount.firn.run("commit", mount, "-m", "meanwhile")
            # 4: nothing new; 1: a writer was busy for too long, nothing was committed
            assert p.returncode in (0, 1, 4), (p.returncode, p.stderr)

    others = [threading.Thread(target=reader, args=(i,)) for i in range(2)]
    others += [threading.Thread(target=lister), threading.Thread(target=committer)]
    writers = [threading.Thread(target=writer, args=(i,)) for i in range(8)]
    for t in writers + others:
        t.start()
    for t in writers:
        t.join()
    stop.set()
    for t in others:
        t.join()
    assert not errors, (errors, mount.control("errors"))
    for j in range(64):
        assert (mount.main / f"a/c/{j}").read_bytes() == bytes([rounds]) * (100 + 100 * (j // 8))
    mount.firn.run("commit", mount, "-m", "last")
    assert_committed(repo, mount.main)


def test_many_parents_made_at_once(repo, mount):
    def make(i):
        zarr.create_array(str(mount.main), name=f"x/y/z{i % 4}/a{i}", shape=(8,), chunks=(4,), dtype="i2")[:] = i + 1
    with ThreadPoolExecutor(N) as pool:
        list(pool.map(make, range(32)))
    g = zarr.open_group(str(mount.main), mode="r")
    assert all((g[f"x/y/z{i % 4}/a{i}"][:] == i + 1).all() for i in range(32))
    mount.commit()
    assert_committed(repo, mount.main)


def test_many_attributes_writers__last_of_each_wins(mount):
    """Two writers of one document: whole documents, never a mixture."""
    zarr.open_group(str(mount.main), mode="w")

    def write(i):
        for k in range(10):
            g = zarr.open_group(str(mount.main), mode="r+")
            g.attrs.put({"who": i, "k": k, "pad": "x" * (i * 100)})
            a = dict(zarr.open_group(str(mount.main), mode="r").attrs)
            assert len(a["pad"]) == a["who"] * 100
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))


def test_dask_distributed_writes(repo, mount):
    import dask.array as da
    from dask.distributed import Client, LocalCluster
    prepare(mount.main)
    data = np.arange(N * 12 * 50, dtype="i4").reshape(N * 12, 50) + 1
    with LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None) as c, Client(c):
        da.from_array(data, chunks=(12, 25)).to_zarr(zarr.open_array(str(mount.main / "a"), mode="r+"))
    assert (zarr.open_array(str(mount.main / "a"), mode="r")[:] == data).all()
    mount.commit()
    assert (zarr.open_array(repo.store(), path="a", mode="r")[:] == data).all()


def test_commit_waits_for_open_writer_then_names_it(mount):
    put_array(mount.main, "a", (2,), (1,))
    put(mount.main, "a/c/0", b"x")
    script = f"import sys; f = open({str(mount.main / 'a/c/1')!r}, 'wb'); f.write(b'half'); f.flush(); print('open', flush=True); sys.stdin.read()"
    w = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert w.stdout.readline() == "open\n"
    p = mount.firn.refuses("commit", mount, "-m", "m", saying="a/c/1")
    assert str(w.pid) in p.stderr
    w.communicate()
    mount.commit()
    assert (mount.main / "a/c/1").read_bytes() == b"half"


def test_two_mounts_are_two_sessions(repo, mounts):
    """What one mount writes, another does not see; commits of both meet at the branch."""
    a, b = mounts.enter_context(repo.mount()), mounts.enter_context(repo.mount())
    put_array(a.main, "a", (4,), (1,))
    put_array(b.main, "b", (4,), (1,))
    assert not (b.main / "a").exists()
    a.commit()
    p = b.firn.run("commit", b, "-m", "m")
    assert p.returncode == 3, (p.stdout, p.stderr)   # the branch moved, and both made the root group
    assert (b.main / "b/zarr.json").exists()         # and nothing of it is lost
