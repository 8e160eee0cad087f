"""Many writers, many rounds, signals and locks: what stays as it was, and what every one of them reads at the end.

The long forms are marked `soak`.
"""
import contextlib
import fcntl
import mmap
import multiprocessing
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
import zlib

import pytest

from conftest import PATIENCE, VARIANT, assert_committed, drop_caches, put, put_array, read_tree


def worker_of(m):
    return int(m.session()["worker"])


def processes(n, call):
    """`call(index)` in n processes at once; all must end well."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(n)

    def run(i):
        start.wait()
        call(i)

    them = [context.Process(target=run, args=(i,)) for i in range(n)]
    for p in them:
        p.start()
    for p in them:
        p.join(200 * PATIENCE)
    assert [p.exitcode for p in them] == [0] * n


@pytest.fixture
def base(mount):
    """The directory of an array's chunk files, some of them committed, inline and native."""
    put_array(mount.main, "a", (400,), (1,))
    put(mount.main, "a/c/0", b"0" * 100)
    put(mount.main, "a/c/1", b"1" * 300000)
    mount.commit("base")
    return mount.main / "a/c"


# ---- many writers ----

def write_and_check(directory, index, rounds):
    """A model of one writer's own chunks and its bytes of shared ones, read back after every step."""
    rng, model = random.Random(index), {}
    shared = os.open(directory / "1", os.O_RDWR)
    mine = b""
    for step in range(rounds):
        name = str(2 + index * 4 + rng.randrange(4))
        how = rng.randrange(4)
        data = rng.randbytes(rng.choice((1, 400, 600, 5000, 70000)))
        if how == 0 or name not in model:
            temporary = directory / f"{name}.{index:032x}.partial"
            temporary.write_bytes(data)
            os.rename(temporary, directory / name)
            model[name] = data
        elif how == 1:
            (directory / name).write_bytes(data)
            model[name] = data
        elif how == 2:
            at = rng.randrange(len(model[name]))
            with open(directory / name, "r+b", buffering=0) as f:
                f.seek(at)
                f.write(data)
            model[name] = model[name][:at] + data + model[name][at + len(data):]
        else:
            os.unlink(directory / name)
            del model[name]
        mine = b"%06d%06d" % (index, step) * 5
        os.pwrite(shared, mine, index * 4000)
        if name in model:
            assert (directory / name).read_bytes() == model[name], (index, step, name)
        assert os.pread(shared, 60, index * 4000) == mine
    os.close(shared)
    return model, mine


@pytest.mark.parametrize("n, rounds", [(64, 6), pytest.param(64, 150, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_64_writers__each_finds_what_it_wrote(repo, mount, base, n, rounds):
    """Their random choices are those of seeds, so that we know what each one left."""
    queue = multiprocessing.get_context("fork").SimpleQueue()
    results = {}
    reader = threading.Thread(target=lambda: [results.__setitem__(*queue.get()) for _ in range(n)], daemon=True)
    reader.start()
    processes(n, lambda i: queue.put((i, write_and_check(base, i, rounds))))
    reader.join(60)
    assert len(results) == n
    want = {"0": b"0" * 100}
    shared = bytearray((b"1" * 300000))
    for i, (model, mine) in results.items():
        want |= model
        shared[i * 4000:i * 4000 + 60] = mine
    want["1"] = bytes(shared)
    assert read_tree(base) == want
    mount.commit("m")
    assert read_tree(base) == want
    assert_committed(repo, mount.main)


def add_ones(path, index, rounds):
    """Read, modify and write counters that all share, under a lock of their bytes; and bytes of our own without."""
    fd = os.open(path, os.O_RDWR)
    for step in range(rounds):
        at = (index + step) % 16 * 64
        fcntl.lockf(fd, fcntl.LOCK_EX, 8, at)
        n = int.from_bytes(os.pread(fd, 8, at), "little")
        os.pwrite(fd, (n + 1).to_bytes(8, "little"), at)
        fcntl.lockf(fd, fcntl.LOCK_UN, 8, at)
        os.pwrite(fd, bytes([step % 251]) * 7, 2048 + index * 7)
    os.close(fd)


@pytest.mark.sanitize
@pytest.mark.parametrize("chunk", ["in memory", "in its object", "committed"])
def test_parts_of_one_chunk__read_modified_and_written_by_processes(repo, mount, base, chunk):
    n, rounds = 8, 60
    name, size = {"in memory": ("2", 3000), "in its object": ("3", 400000), "committed": ("4", 5000)}[chunk]
    put(base, name, bytes(size))
    if chunk == "committed":
        mount.commit("zeros")
    processes(n, lambda i: add_ones(base / name, i, rounds))
    data = (base / name).read_bytes()
    assert len(data) == size
    assert sum(int.from_bytes(data[i * 64:i * 64 + 8], "little") for i in range(16)) == n * rounds
    assert data[2048:2048 + 7 * n] == bytes([(rounds - 1) % 251]) * 7 * n
    mount.commit("m")
    assert (base / name).read_bytes() == data
    assert_committed(repo, mount.main)


def test_two_threads_on_one_chunk(mount, base):
    """One writes in place, one replaces the name: every read is of one of them, whole, and the last name wins."""
    stop = threading.Event()
    seen, failed = set(), []

    def read():
        while not stop.is_set():
            try:
                with open(base / "2", "rb", buffering=0) as f:
                    data = f.readall()
                # Replaced as a whole; in place, byte for byte, so that the parts may be of two writes.
                assert len(data) == 20000 and set(data) <= set(b"abcdefghijxy"), (len(data), set(data))
                seen.add(data[0])
            except BaseException as e:
                failed.append(e)
                return

    def in_place():
        for i in range(150):
            with open(base / "2", "r+b", buffering=0) as f:
                f.write(b"xy"[i % 2:i % 2 + 1] * 20000)

    def replace():
        for i in range(150):
            os.rename(put(base, "2.tmp", b"abcdefghij"[i % 10:i % 10 + 1] * 20000), base / "2")

    put(base, "2", b"a" * 20000)
    threads = [threading.Thread(target=t) for t in (in_place, replace)]
    reader = threading.Thread(target=read)
    reader.start()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    stop.set()
    reader.join()
    assert not failed, failed
    os.rename(put(base, "2.tmp", b"j" * 20000), base / "2")
    mount.commit("m")
    assert (base / "2").read_bytes() == b"j" * 20000


@pytest.mark.parametrize("name", ["2", "notes.txt"])
def test_append__of_many_processes__whole_and_all_there(base, name):
    def append(i):
        fd = os.open(base / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for k in range(50):
            line = f"{i:03} {k:04} ".encode() + bytes([65 + i]) * 50 + b"\n"
            assert os.write(fd, line) == len(line)
        os.close(fd)

    processes(6, append)
    lines = (base / name).read_bytes().split(b"\n")[:-1]
    assert sorted(lines) == sorted(f"{i:03} {k:04} ".encode() + bytes([65 + i]) * 50 for i in range(6) for k in range(50))


def test_exclusive_create_and_link__one_winner(base):
    def race(i):
        for k in range(25):
            with contextlib.suppress(FileExistsError):
                os.close(os.open(base / f"{100 + k}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                (base / f"won.{k}.{i}.txt").write_bytes(b"")
            mine = put(base, f"x{i}.partial", b"%d" % i * 700)
            with contextlib.suppress(FileExistsError):
                os.link(mine, base / f"{200 + k}")
                (base / f"link.{k}.{i}.txt").write_bytes(b"")

    processes(6, race)
    names = os.listdir(base)
    for k in range(25):
        assert sum(n.startswith(f"won.{k}.") for n in names) == 1
        (winner,) = [n.split(".")[2] for n in names if n.startswith(f"link.{k}.")]
        assert (base / f"{200 + k}").read_bytes() == winner.encode() * 700


# ---- locks ----

@pytest.mark.parametrize("lock", ["fcntl", "flock", "open file description"])
@pytest.mark.parametrize("name", ["0", "2", "x.lock"])
def test_locks__between_processes(base, name, lock):
    """One holder at a time, handed on when it unlocks, closes, or is killed; a signal ends the wait for it."""
    F_OFD_SETLK, F_OFD_SETLKW = 37, 38

    def take(fd, wait):
        if lock == "fcntl":
            fcntl.lockf(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        elif lock == "flock":
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        else:
            import struct
            fcntl.fcntl(fd, F_OFD_SETLKW if wait else F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))

    if name != "0":
        put(base, name, b"x" * 100)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        fd = os.open(base / name, os.O_RDWR)
        take(fd, False)
        os.write(theirs, b"!")
        time.sleep(60)
        os._exit(0)
    assert os.read(ours, 1) == b"!"
    fd = os.open(base / name, os.O_RDWR)
    try:
        with pytest.raises(BlockingIOError):
            take(fd, False)

        def interrupted(number, frame):
            raise InterruptedError

        before = signal.signal(signal.SIGALRM, interrupted)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with pytest.raises(InterruptedError):
                take(fd, True)
        finally:
            signal.signal(signal.SIGALRM, before)
        waiting = threading.Thread(target=take, args=(fd, True))
        waiting.start()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        waiting.join(10)
        assert not waiting.is_alive()
    finally:
        os.close(fd)
        os.close(ours)
        os.close(theirs)


# ---- interrupted calls ----

INTERRUPTED = """
import os, signal, sys, time
count = [0]
signal.signal(signal.SIGALRM, lambda *_: count.__setitem__(0, count[0] + 1))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
d, own, end = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
i = 0
while i < 5 or count[0] < 200 or time.monotonic() < end:
    data = bytes([i % 251]) * (300000 if i % 3 else 300)
    fd = os.open(f"{d}/{own}.tmp", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    assert os.write(fd, data) == len(data)
    os.fsync(fd)
    assert os.pread(fd, len(data) + 1, 0) == data
    os.close(fd)
    os.rename(f"{d}/{own}.tmp", f"{d}/{own}")
    with open(f"{d}/{own}", "rb", buffering=0) as f:
        assert f.read(len(data) + 1) == data
    os.listdir(d), os.stat(f"{d}/{own}")
    i += 1
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_signals_that_are_caught__interrupt_nothing_halfway(mount, base):
    """2000 signals a second: every call does all it should, whatever the kernel told the driver meanwhile."""
    them = [subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(base), str(10 + i), "2"]) for i in range(2)]
    for p in them:
        assert p.wait(60 * PATIENCE) == 0
    mount.commit("m")
    assert len(read_tree(base)) == 4


@pytest.mark.parametrize("rounds", [25, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_clients_killed_at_any_moment(repo, mount, base, rounds):
    """SIGKILL in the middle of requests: nothing stays open, nothing half made appears under a name that is renamed to."""
    rng = random.Random(rounds)
    program = ("import os, sys\nd, k, i = sys.argv[1], sys.argv[2], 0\nprint(flush=True)\nwhile True:\n"
               "    t = f'{d}/{k}.{i:032x}.partial'; i += 1\n"
               "    open(t, 'wb').write(bytes([i % 251]) * 200000); os.rename(t, f'{d}/{k}')\n"
               "    open(f'{d}/{k}', 'rb').read(); os.listdir(d)\n")
    for i in range(rounds):
        p = subprocess.Popen([sys.executable, "-S", "-E", "-c", program, str(base), str(50 + i % 4)], stdout=subprocess.PIPE)
        p.stdout.readline()
        time.sleep(rng.uniform(0, 0.03))
        p.kill()
        p.wait(10 * PATIENCE)
        p.stdout.close()
    for k in range(50, 54):
        with contextlib.suppress(FileNotFoundError):
            data = (base / str(k)).read_bytes()
            assert len(data) == 200000 and len(set(data)) == 1
    assert mount.firn.json("status", mount)["writers"] == []
    mount.commit("m")
    assert_committed(repo, mount.main)


# ---- mappings ----

def test_mappings_of_two_processes__share_their_pages(mount, base):
    put(base, "2", bytes(100000))
    fd = os.open(base / "2", os.O_RDWR)
    pages = mmap.mmap(fd, 100000)
    os.close(fd)
    pid = os.fork()
    if pid == 0:
        with open(base / "2", "r+b") as f, mmap.mmap(f.fileno(), 0) as mine:
            for i in range(0, 100000, 1000):
                mine[i:i + 4] = i.to_bytes(4, "little")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    want = bytearray(100000)
    for i in range(0, 100000, 1000):
        want[i:i + 4] = i.to_bytes(4, "little")
        assert pages[i:i + 4] == want[i:i + 4]
    pages[500:504] = want[500:504] = b"ours"
    pages.flush()
    assert (base / "2").read_bytes() == want
    pages.close()
    drop_caches()
    assert (base / "2").read_bytes() == want
    mount.commit("m")
    assert zlib.crc32((base / "2").read_bytes()) == zlib.crc32(want)


# ---- round after round ----

@pytest.mark.parametrize("cycles", [5000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_open_and_close__driver_stays_as_it_was(mount, base, cycles):
    """Memory and descriptors of the driver after any number of cycles are what they were after the first ones."""
    pid = worker_of(mount)

    def size():
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        memory, threads = (int(status.split(key)[1].split()[0]) for key in ("VmRSS:", "Threads:"))
        # A thread has a buffer for the largest request; how many there are depends on what else the machine does.
        return memory - threads * 1100, threads, len(os.listdir(f"/proc/{pid}/fd"))

    def cycle(i):
        for name, flags in (("0", os.O_RDONLY), ("1", os.O_RDONLY), (str(10 + i % 50), os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
                            ("n.txt", os.O_RDWR | os.O_CREAT)):
            fd = os.open(base / name, flags)
            if flags == os.O_RDONLY:
                os.pread(fd, 10, 0)
            else:
                os.pwrite(fd, b"%8d" % i * 100, 0)
            os.close(fd)

    for i in range(1000):
        cycle(i)
    memory, _, descriptors = size()
    for i in range(cycles // 4):
        cycle(i)
    grown, threads, now = size()
    print(f"{cycles} opens: {memory} -> {grown} kB, {descriptors} -> {now} descriptors, {threads} threads")
    assert now <= descriptors + 2 and threads <= 24
    if VARIANT != "asan":           # which keeps what is freed; what is never freed it reports
        assert grown <= memory + 2048 * PATIENCE
    mount.commit("m")
    assert (base / "0").read_bytes() == b"0" * 100
