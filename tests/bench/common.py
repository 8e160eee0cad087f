"""What the processes that are timed have in common: their arguments, one JSON line as result, and small helpers.

Nothing heavy is imported before a function needs it, so that processes can be forked and imports stay untimed.
"""
import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

os.environ.setdefault("ICECHUNK_LOG", "error")
GROUP = b'{"zarr_format":3,"node_type":"group","attributes":{}}'


def end_with_parent():
    """Nobody goes on writing when a benchmark was killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)                  # PR_SET_PDEATHSIG


def child_main(script):
    """`SCRIPT NAME ARGUMENT...` calls child_NAME; see Bench.child."""
    end_with_parent()
    print(json.dumps(script[f"child_{sys.argv[1]}"](*sys.argv[2:])), flush=True)
    os._exit(0)             # the official library's threads may still run, and crash in an interpreter that ends


def array_json(*shape, chunk=1, dtype="int8"):
    return json.dumps({
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk] * len(shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": [{"name": "bytes"}], "attributes": {}}).encode()


def hwm(pid="self"):
    """Peak resident size in MB."""
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))


def pss(pid="self"):
    """Resident size in MB; what several processes map counts for each in part."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("Pss:"))


def drop_caches():
    os.sync()
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run([*root, "sh", "-c", "echo 3 >/proc/sys/vm/drop_caches"], check=True)


def syncfs(path):
    subprocess.run(["sync", "-f", path], check=True)


def timed(f):
    t = time.perf_counter()
    result = f()
    return time.perf_counter() - t, result


def together(n, prepare):
    """n processes that begin at once: from the first start to the last end.  prepare(i) gives what is timed."""
    def run(i):
        end_with_parent()
        work = prepare(i)
        start.wait(300)
        t = time.perf_counter()
        result = work()
        done.put((t, time.perf_counter(), hwm(), result))

    context = multiprocessing.get_context("fork")
    start, done = context.Barrier(n), context.SimpleQueue()
    all_of_them = [context.Process(target=run, args=(i,)) for i in range(n)]
    for p in all_of_them:
        p.start()
    for p in all_of_them:
        p.join()
    assert all(p.exitcode == 0 for p in all_of_them)
    began, ended, mb, results = zip(*(done.get() for _ in all_of_them))
    return {"seconds": max(ended) - min(began), "mb": sum(mb)}, results


# ---- the official library ----

def official(path):
    import icechunk
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))


def create_official(path, config=None):
    import icechunk
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)), config=config)
    if config:
        repo.save_config()
    return repo


def put(store, key, data):
    from zarr.core.buffer import cpu
    from zarr.core.sync import sync
    sync(store.set(key, cpu.Buffer.from_bytes(data)))


def get(store, key):
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync
    return sync(store.get(key, default_buffer_prototype())).to_bytes()


def put_array(repo, n):
    """The array /a of n chunks, committed."""
    s = repo.writable_session("main")
    put(s.store, "zarr.json", GROUP)
    put(s.store, "a/zarr.json", array_json(n))
    s.commit("array")


def put_virtual(store, lo, n):
    """References from chunk lo of /a on, as make-journals makes them."""
    import numpy as np
    at = np.arange(lo, lo + n, dtype="u8")
    store.set_virtual_refs_arr("/a", (n,), [f"s3://bucket/file_{i // 1000:06d}.nc" for i in at], at % 1000 * 100_000,
                               np.full(n, 100_000, dtype="u8"), arr_offset=(lo,), validate_containers=False)
