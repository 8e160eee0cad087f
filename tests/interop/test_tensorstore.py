"""TensorStore's file driver, with each of its ways of locking and of syncing."""
import time

import numpy as np
import pytest
import tensorstore as ts

from conftest import PATIENCE, group_json, put

LOCKS = ["os", "lockfile", "none", "non_atomic"]


def spec(d, path, locking="os", sync=True, **kw):
    mode = {"mode": locking} if locking != "non_atomic" else {"mode": "non_atomic"}
    return {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{d}/{path}/"},
            "context": {"file_io_locking": mode, "file_io_sync": sync}} | kw


def create(d, path, **kw):
    return ts.open(spec(d, path, **kw), create=True, delete_existing=True, dtype=ts.int32, shape=[40, 30],
                   chunk_layout=ts.ChunkLayout(chunk_shape=[10, 10])).result()


def write(locking, sync):
    def write(d):
        put(d, "zarr.json", group_json())
        a = create(d, "a", locking=locking, sync=sync)
        a.write(np.arange(1200, dtype="i4").reshape(40, 30)).result()
        a[5:15, 3:22].write(7).result()                 # partial chunks: read, modify, write
        a[20:30, 10:20].write(0).result()               # fill value: the chunk is deleted
        with ts.Transaction() as txn:
            a.with_transaction(txn)[0, 0] = 99
        b = ts.open(spec(d, "a", locking, sync), open=True).result()
        assert b[0, 0].read().result() == 99 and b[6, 6].read().result() == 7
    write.__name__ = f"write_{locking}_{sync}"
    return write


def resize(d):
    put(d, "zarr.json", group_json())
    a = create(d, "a")
    a.write(np.ones((40, 30), "i4")).result()
    a = a.resize(exclusive_max=[15, 30]).result()
    a = a.resize(exclusive_max=[50, 30]).result()
    a[45:] = 3


def recreate(d):
    put(d, "zarr.json", group_json())
    for value in 1, 2:
        create(d, "a").write(np.full((40, 30), value, "i4")).result()


def sharded(d):
    put(d, "zarr.json", group_json())
    a = ts.open(spec(d, "s"), create=True, delete_existing=True, dtype=ts.uint16, shape=[64, 64],
                chunk_layout=ts.ChunkLayout(write_chunk_shape=[32, 32], read_chunk_shape=[8, 8])).result()
    a.write(np.arange(4096, dtype="u2").reshape(64, 64)).result()
    a[3:40, 10:12].write(5).result()


SCENARIOS = [write(m, s) for m in LOCKS for s in (True, False)] + [resize, recreate, sharded]


@pytest.mark.parametrize("work", SCENARIOS, ids=lambda f: f.__name__)
def test_same_as_directory(same, work):
    same(work)


@pytest.mark.sanitize
def test_sanitized(same):
    same(write("os", True))


def test_over_a_commit(same):
    def edit(d):
        a = ts.open(spec(d, "a"), open=True).result()
        a[5:25, 5:25].write(-1).result()
        a.resize(exclusive_max=[22, 30]).result()
    same(write("os", True), edit)


def test_increments_of_many_threads_are_all_kept(mount):
    """Read-modify-write under TensorStore's optimistic locking: inode and mtime tell versions apart."""
    from concurrent.futures import ThreadPoolExecutor
    put(mount.main, "zarr.json", group_json())
    create(mount.main, "a").write(np.zeros((40, 30), "i4")).result()

    def bump(i):
        a = ts.open(spec(mount.main, "a"), open=True, context=ts.Context()).result()
        a[i % 10, i // 10].write(i + 1).result()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bump, range(100)))
    got = ts.open(spec(mount.main, "a"), open=True).result()[:10, :10].read().result()
    assert (got == np.arange(1, 101).reshape(10, 10).T).all()


def test_left_over_lock_file_goes_with_its_handle(mount):
    """A writer that dies leaves X.__lock; here it does not outlive its last handle."""
    put(mount.main, "zarr.json", group_json())
    create(mount.main, "a").write(np.ones((40, 30), "i4")).result()
    lock = mount.main / "a/c/0/0.__lock"
    lock.write_bytes(b"stale" * 1000)
    end = time.monotonic() + 5 * PATIENCE       # the last handle's end is told asynchronously
    while lock.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    a = ts.open(spec(mount.main, "a"), open=True).result()
    a[:10, :10].write(5).result()
    assert (a[:10, :10].read().result() == 5).all()
