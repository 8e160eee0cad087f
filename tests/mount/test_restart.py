"""A driver that dies is replaced, and nobody who uses the mount notices."""
import contextlib
import errno
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest
import zarr

from conftest import BIN, PATIENCE, alive, children, put_array, read_tree


def worker_of(m):
    """The driver proper: the supervisor's only child; None while there is none."""
    return next(iter(children(m.pid)), None)


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < end:
        got = what()
        if got:
            return got
        time.sleep(0.002)
    raise AssertionError("waited in vain")


def kill_worker(m, signum=signal.SIGKILL):
    """Kill the driver; returns when another one is there."""
    old = wait_for(lambda: worker_of(m))
    os.kill(old, signum)
    wait_for(lambda: worker_of(m) not in (None, old))


@contextlib.contextmanager
def killing(m, every=(0.02, 0.15), seed=1):
    """Kill the driver again and again; gives the list of kills."""
    stop = threading.Event()
    kills = []
    rng = random.Random(seed)

    def run():
        while not stop.wait(rng.uniform(*every) * PATIENCE):
            pid = worker_of(m)
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills.append(pid)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield kills
    finally:
        stop.set()
        thread.join()


def doc(shape, chunks, dtype="uint8"):
    return json.dumps({
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": dtype, "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes"}], "attributes": {}}).encode()


def test_an_idle_driver_that_dies_is_replaced_and_says_so(firn, repo):
    with repo.mount() as m:
        before = m.session()
        assert before["pid"] == m.pid and before["worker"] == worker_of(m) and before["restarts"] == 0
        (m.main / "x").mkdir()
        (m.main / "x" / "notes.txt").write_text("kept")
        inode = os.stat(m.main / "x" / "notes.txt").st_ino
        kill_worker(m)
        after = m.session()
        assert after["pid"] == m.pid and after["worker"] != before["worker"] and after["restarts"] == 1
        assert after["id"] == before["id"]
        assert os.stat(m.main / "x" / "notes.txt").st_ino == inode
        assert (m.main / "x" / "notes.txt").read_text() == "kept"
        assert "died of signal 9" in m.control("errors")
        state = json.loads((pathlib.Path(after["state_dir"]) / "session.json").read_text())
        assert state["pid"] == m.pid and state["mountpoint"] == str(m.path)
        assert "another one goes on" in (pathlib.Path(after["state_dir"]) / "log").read_text()
        crash = signal.SIGSEGV if PATIENCE == 1 else signal.SIGABRT     # sanitizers handle most such signals
        kill_worker(m, crash)
        assert m.session()["restarts"] == 2 and f"died of signal {crash:d}" in m.control("errors")
        state = json.loads((pathlib.Path(after["state_dir"]) / "session.json").read_text())
        assert state["restarts"] == 2
        assert "replaced: 2 times" in m.control("status") and "firn_restarts_total 2" in m.control("stats")


def test_the_state_keeps_its_mount_point_over_a_commit(firn, repo):
    with repo.mount() as m:
        (m.main / "zarr.json").write_text('{"zarr_format":3,"node_type":"group","attributes":{"b":2}}')
        m.commit()
        state = json.loads((pathlib.Path(m.session()["state_dir"]) / "session.json").read_text())
        assert state["mountpoint"] == str(m.path) and state["pid"] == m.pid
        assert state["base"] == m.session()["base"]


def test_a_mount_that_fails_says_so_in_one_line(firn, repo, tmp_path):
    (tmp_path / "at").mkdir()
    p = subprocess.run([BIN / "firnfs", "-o", "context=nonsense", repo, tmp_path / "at"], env=firn.env,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 1 and len(p.stderr.splitlines()) == 1, p.stderr
    assert f"cannot mount on {tmp_path / 'at'}" in p.stderr


def test_open_files_go_on(firn, repo):
    with repo.mount() as m:
        a = m.main / "a"
        a.mkdir()
        (a / "zarr.json").write_bytes(doc([4 << 20], [1 << 20]))
        (a / "c").mkdir()
        (a / "c" / "0").write_bytes(b"0" * (1 << 20))
        big = os.urandom(1 << 20)
        small = os.urandom(3000)
        with contextlib.ExitStack() as stack:
            reader = stack.enter_context(open(a / "c" / "0", "rb", buffering=0))
            streamed = stack.enter_context(open(a / "c" / "1", "wb", buffering=0))
            held = stack.enter_context(open(a / "c" / "2", "wb", buffering=0))
            scratch = stack.enter_context(open(a / "t.partial", "w+b", buffering=0))
            gone = stack.enter_context(open(a / "gone.txt", "w+b", buffering=0))
            listing = os.open(a, os.O_RDONLY)
            stack.callback(os.close, listing)
            control = stack.enter_context(open(m.path / ".firn" / "session", "rb", buffering=0))
            streamed.write(big[:700_000])
            held.write(small[:1000])
            scratch.write(b"first ")
            gone.write(b"no name any more")
            os.unlink(a / "gone.txt")
            first = reader.read(10)
            kill_worker(m)
            streamed.write(big[700_000:])
            held.write(small[1000:])
            kill_worker(m)
            scratch.write(b"second")
            assert scratch.seek(0) == 0 and scratch.read() == b"first second"
            gone.seek(0)
            assert gone.read() == b"no name any more"
            assert first + reader.read() == b"0" * (1 << 20)
            assert json.loads(control.read())["restarts"] == 0
            assert "c" in os.listdir(listing) and "gone.txt" not in os.listdir(listing)
            # Replaced while it is read: the reader goes on in what it has opened.
            (a / "n.partial").write_bytes(b"1" * (1 << 20))
            reader.seek(0)
            os.rename(a / "n.partial", a / "c" / "0")
            kill_worker(m)
            assert reader.read(5) == b"00000" and (a / "c" / "0").read_bytes()[:5] == b"11111"
        os.rename(a / "t.partial", a / "c" / "3")
        kill_worker(m)
        assert (a / "c" / "1").read_bytes() == big
        assert (a / "c" / "2").read_bytes() == small
        assert (a / "c" / "3").read_bytes() == b"first second"
        (a / "c" / "2").unlink(), (a / "c" / "3").unlink()
        m.commit()
        assert (a / "c" / "1").read_bytes() == big
        kill_worker(m)
        assert (a / "c" / "1").read_bytes() == big and (a / "c" / "0").read_bytes()[:5] == b"11111"
        assert sorted(os.listdir(a / "c")) == ["0", "1"]


def read_if_any(path):
    with contextlib.suppress(OSError):
        return path.read_bytes()


@pytest.mark.parametrize("there", [None, b"old" * 300_000, b"old"], ids=["new", "object", "inline"])
def test_what_was_being_written_is_lost_with_its_file__the_writer_is_told(repo, there):
    """Chunks being written lie in the repository's file system; if that loses one, what was there before is there."""
    with repo.mount() as m:
        put_array(m.main, "a", (10,), (1,))
        (m.main / "a/c").mkdir()
        chunk = m.main / "a/c/1"
        if there:
            chunk.write_bytes(there)
        before = set(repo.path.glob("chunks/*"))
        f = open(chunk, "wb", buffering=0)
        f.write(b"new" * 300_000)
        [spool] = set(repo.path.glob("chunks/*")) - before
        spool.unlink()
        kill_worker(m)
        with contextlib.suppress(OSError):             # the kernel may have it
            assert chunk.read_bytes() == b"new" * 300_000
        for call in lambda: f.write(b"more"), f.close:
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.EIO
        assert "a/c/1: what was being written when the driver died is lost" in m.control("errors")
        # The kernel tells of a file's end some time after close(), and is told then what to forget.
        with contextlib.suppress(AssertionError):
            wait_for(lambda: (read_if_any(chunk) or None) == there, 5)
        assert (read_tree(m.main).get("a/c/1") or None) == there
        kill_worker(m)
        assert (read_tree(m.main).get("a/c/1") or None) == there
        chunk.write_bytes(b"again" * 300_000)
        assert chunk.read_bytes() == b"again" * 300_000
        m.commit()
        assert read_tree(m.main)["a/c/1"] == b"again" * 300_000


def test_a_chunk_changed_in_place_stays_changed(firn, repo):
    """Its inode is that of the base's chunk, which the kernel need not look up again."""
    with repo.mount() as m:
        a = m.main / "a"
        a.mkdir()
        (a / "zarr.json").write_bytes(doc([4], [2]))
        (a / "c").mkdir()
        (a / "c" / "0").write_bytes(b"aa")
        m.commit()
        with open(a / "c" / "0", "r+b") as f:
            before = os.fstat(f.fileno()).st_ino
            f.write(b"b")
        stat = os.stat(a / "c" / "0")
        kill_worker(m)
        assert os.stat(a / "c" / "0").st_ino == stat.st_ino == before
        assert os.stat(a / "c" / "0").st_mtime_ns == stat.st_mtime_ns
        with open(a / "c" / "0", "r+b") as f:
            assert f.read() == b"ba"
            f.seek(1)
            f.write(b"c")
        kill_worker(m)
        assert (a / "c" / "0").read_bytes() == b"bc"
        os.truncate(a / "c" / "0", 1)
        kill_worker(m)
        assert (a / "c" / "0").read_bytes() == b"b"


WRITER = """
import sys, zarr, numpy as np
from concurrent.futures import ThreadPoolExecutor
path, n = sys.argv[1], int(sys.argv[2])
group = zarr.create_group(store=path, zarr_format=3, overwrite=True)
array = group.create_array("data", shape=(n * 8, 64, 64), chunks=(4, 64, 64), dtype="float32", compressors=None)
values = np.arange(n * 8 * 64 * 64, dtype="float32").reshape(n * 8, 64, 64)
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda i: array.__setitem__(slice(8 * i, 8 * i + 8), values[8 * i:8 * i + 8]), range(n)))
group.attrs["done"] = True
assert (array[:] == values).all()
"""


def test_removed_chunk_directories_stay_removed(firn, repo):
    with repo.mount() as m:
        (m.main / "zarr.json").write_text('{"zarr_format":3,"node_type":"group","attributes":{}}')
        (m.main / "a").mkdir()
        (m.main / "a/zarr.json").write_bytes(doc([6, 2], [1, 1]))
        for i in range(6):
            (m.main / f"a/c/{i}").mkdir(parents=True)
            (m.main / f"a/c/{i}/0").write_bytes(b"x")
        m.commit()
        for i in range(5):
            shutil.rmtree(m.main / f"a/c/{i}")
        kill_worker(m)
        assert sorted(os.listdir(m.main / "a/c")) == ["5"]
        (m.main / "a/c/2").mkdir()
        kill_worker(m)
        assert sorted(os.listdir(m.main / "a/c")) == ["2", "5"] and os.listdir(m.main / "a/c/2") == []
        os.rmdir(m.main / "a/c/2")
        kill_worker(m)
        assert sorted(os.listdir(m.main / "a/c")) == ["5"]
        m.commit()
        kill_worker(m)
        assert sorted(os.listdir(m.main / "a/c")) == ["5"]


def write_under_kills(m, n, every=(0.02, 0.15)):
    with killing(m, every) as kills:
        p = subprocess.run([sys.executable, "-c", WRITER, str(m.main), str(n)], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=120 * PATIENCE)
    assert p.returncode == 0, p.stdout + m.control("errors")
    assert kills
    group = zarr.open_group(str(m.main), mode="r")
    values = np.arange(n * 8 * 64 * 64, dtype="float32").reshape(n * 8, 64, 64)
    assert group.attrs["done"] and (group["data"][:] == values).all()
    return len(kills)


def test_zarr_writes_with_threads_and_sees_nothing(firn, repo):
    with repo.mount() as m:
        write_under_kills(m, 40)
        status = json.loads(firn("status", m, "--json"))
        assert not status["pending"], status
        m.commit()
    with repo.mount() as m:
        values = np.arange(40 * 8 * 64 * 64, dtype="float32").reshape(320, 64, 64)
        assert (zarr.open_group(str(m.main), mode="r")["data"][:] == values).all()


def test_reads_of_open_files_see_nothing(firn, repo):
    with repo.mount() as m:
        a = m.main / "a"
        a.mkdir()
        (a / "zarr.json").write_bytes(doc([16 << 16], [1 << 16]))
        (a / "c").mkdir()
        data = [os.urandom(1 << 16) for _ in range(16)]
        for i, d in enumerate(data):
            (a / "c" / str(i)).write_bytes(d)
        m.commit()
        files = [os.open(a / "c" / str(i), os.O_RDONLY) for i in range(16)]
        wrong = []

        def read(seed):
            rng = random.Random(seed)
            end = time.monotonic() + 2.0
            try:
                while time.monotonic() < end:
                    i, at = rng.randrange(16), rng.randrange(1 << 16)
                    if rng.random() < 0.2:
                        os.posix_fadvise(files[i], 0, 0, os.POSIX_FADV_DONTNEED)
                    if os.pread(files[i], 5000, at) != data[i][at:at + 5000]:
                        wrong.append((i, at))
                    if rng.random() < 0.2 and (a / "c" / str(i)).read_bytes() != data[i]:
                        wrong.append(i)
                    if rng.random() < 0.05 and len(os.listdir(a / "c")) != 16:
                        wrong.append("listing")
            except OSError as e:
                wrong.append(repr(e))

        with killing(m) as kills:
            threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
            [t.start() for t in threads], [t.join() for t in threads]
        [os.close(f) for f in files]
        assert not wrong, wrong[:5]
        assert len(kills) > 5 / PATIENCE


class Storm:
    """Random changes of names in a directory of its own, and what must be there then."""

    def __init__(self, root, seed):
        self.root, self.rng, self.files, self.dirs, self.n = root, random.Random(seed), {}, {""}, 0
        root.mkdir()

    def new(self):
        self.n += 1
        parent = self.rng.choice(sorted(self.dirs))
        return f"{parent}/n{self.n}" if parent else f"n{self.n}"

    def step(self):
        kind = self.rng.choice(("make", "make", "mkdir", "rename", "rename", "replace", "unlink", "rmdir", "excl",
                                "append", "truncate", "read", "link"))
        name = self.new()
        some = self.rng.choice(sorted(self.files)) if self.files else None
        path = self.root / name
        if kind == "make":
            self.files[name] = os.urandom(self.rng.choice((1, 100, 5000, 300_000)))
            path.write_bytes(self.files[name])
        elif kind == "mkdir" and len(self.dirs) < 12:
            path.mkdir()
            self.dirs.add(name)
        elif kind == "rename" and some:
            os.rename(self.root / some, path)
            self.files[name] = self.files.pop(some)
        elif kind == "replace" and some:
            other = self.rng.choice(sorted(self.files))
            if other != some:
                os.rename(self.root / some, self.root / other)
                self.files[other] = self.files.pop(some)
        elif kind == "unlink" and some:
            os.unlink(self.root / some)
            del self.files[some]
        elif kind == "rmdir":
            empty = [d for d in self.dirs if d and not any(x.startswith(d + "/") for x in self.dirs | set(self.files))]
            if empty:
                os.rmdir(self.root / empty[0])
                self.dirs.remove(empty[0])
        elif kind == "excl":
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            self.files[name] = b""
            with pytest.raises(FileExistsError):
                os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        elif kind == "append" and some:
            with open(self.root / some, "ab") as f:
                f.write(b"more")
            self.files[some] += b"more"
        elif kind == "truncate" and some:
            size = self.rng.randrange(len(self.files[some]) + 1)
            os.truncate(self.root / some, size)
            self.files[some] = self.files[some][:size]
        elif kind == "read" and some:
            assert (self.root / some).read_bytes() == self.files[some], some
        elif kind == "link" and some:
            os.link(self.root / some, path)
            self.files[name] = self.files[some]

    def check(self):
        found_files, found_dirs = {}, {""}
        for top, dirs, files in os.walk(self.root):
            rel = os.path.relpath(top, self.root)
            rel = "" if rel == "." else rel + "/"
            found_dirs |= {rel + d for d in dirs}
            for f in files:
                found_files[rel + f] = pathlib.Path(top, f).read_bytes()
        assert found_dirs == self.dirs
        assert sorted(found_files) == sorted(self.files)
        assert [n for n in self.files if found_files[n] != self.files[n]] == []


def storm(m, seconds, seeds, every=(0.01, 0.1)):
    storms = [Storm(m.main / f"storm{s}", s) for s in seeds]
    failures = []

    def run(s):
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                s.step()
        except BaseException as e:
            failures.append(f"{s.root.name} at {s.n}: {e!r}\n{traceback.format_exc()}")

    with killing(m, every) as kills:
        threads = [threading.Thread(target=run, args=(s,)) for s in storms]
        [t.start() for t in threads], [t.join() for t in threads]
    assert not failures, failures[0] + "\n" + m.control("errors")[-2000:]
    for s in storms:
        s.check()
    return len(kills), sum(s.n for s in storms)


def test_storms_of_names_do_what_they_should(firn, repo):
    with repo.mount() as m:
        kills, steps = storm(m, 4, (1, 2, 3))
        assert kills > 10 / PATIENCE and steps > 100


def test_a_commit_goes_through(firn, repo):
    with repo.mount() as m:
        a = m.main / "a"
        a.mkdir()
        (a / "zarr.json").write_bytes(doc([240], [1]))
        (a / "c").mkdir()
        ids = []
        with killing(m, every=(0.003, 0.06)) as kills:
            while len(ids) < 12 or len(kills) <= 5 / PATIENCE:
                for i in range(8 * len(ids), 8 * len(ids) + 8):
                    (a / "c" / str(i)).write_bytes(bytes([i + 1]))
                ids.append(m.commit(f"round {len(ids)}"))
        assert len(set(ids)) == len(ids)
        assert m.session()["base"] == ids[-1]
        want = [bytes([i + 1]) for i in range(8 * len(ids))]
        assert [(a / "c" / str(i)).read_bytes() for i in range(len(want))] == want
        log = json.loads(firn("log", repo, "--json"))
        entries = log["snapshots"] if isinstance(log, dict) else log
        assert [e["id"] for e in entries][:len(ids)] == ids[::-1]
        assert json.loads(firn("status", m, "--json"))["changed_chunks"] == 0
    with repo.mount() as m:
        assert [(m.main / "a" / "c" / str(i)).read_bytes() for i in range(len(want))] == want


def test_kills_while_the_kernel_is_told_what_to_forget(firn, repo):
    """It takes the lock of the directory, whose holder waits for the driver: neither ends before the other."""
    stop = threading.Event()
    done = [0] * 5

    def commit():
        while not stop.is_set():
            m.firn.run("commit", m, "-m", "under way")

    def change(k):
        rng = random.Random(k)
        while not stop.is_set():
            path = m.main / f"a/c/{rng.randrange(2000)}"
            if rng.random() < 0.5:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(b"x" * 600)
            done[k] += 1

    with repo.mount() as m:
        (m.main / "zarr.json").write_text('{"zarr_format":3,"node_type":"group","attributes":{}}')
        (m.main / "a").mkdir()
        (m.main / "a/zarr.json").write_bytes(doc([2000], [1]))
        (m.main / "a/c").mkdir()
        threads = [threading.Thread(target=change, args=(k,), daemon=True) for k in range(5)]
        threads.append(threading.Thread(target=commit, daemon=True))
        for t in threads:
            t.start()
        with killing(m, every=(0.02, 0.15)) as kills:
            for _ in range(6):
                before = list(done)
                time.sleep(1)
                wait_for(lambda: all(count > last for count, last in zip(done, before)))
        stop.set()
        for t in threads:
            t.join(30 * PATIENCE)
        assert not any(t.is_alive() for t in threads) and len(kills) > 5 / PATIENCE
        m.commit("at the end", "--allow-empty")


def test_a_discard_goes_through(firn, repo):
    with repo.mount() as m:
        (m.main / "kept").mkdir()
        (m.main / "kept" / "zarr.json").write_text('{"zarr_format":3,"node_type":"group","attributes":{}}')
        m.commit()
        with killing(m, every=(0.005, 0.05)) as kills:
            for i in range(15):
                (m.main / "g").mkdir()
                (m.main / "g" / "zarr.json").write_text('{"zarr_format":3,"node_type":"group","attributes":{}}')
                firn("discard", m)
                assert sorted(os.listdir(m.main)) == ["kept", "zarr.json"], i
        assert kills


def test_fifty_deaths_leave_the_supervisor_as_it_was(firn, repo):
    def size(pid):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return (int(status.split("VmRSS:")[1].split()[0]), len(os.listdir(f"/proc/{pid}/fd")))

    with repo.mount() as m:
        (m.main / "f.txt").write_text("x")
        kill_worker(m)
        assert (m.main / "f.txt").read_text() == "x"
        rss, fds = size(m.pid)
        inodes = worker_fds = 0
        with open(m.main / "w.txt", "w", buffering=1) as f:
            for i in range(49):
                kill_worker(m)
                f.write(f"{i}\n")
                if i == 5:
                    worker_fds = size(worker_of(m))[1]
        assert (m.main / "w.txt").read_text() == "".join(f"{i}\n" for i in range(49))
        assert m.session()["restarts"] == 50
        after_rss, after_fds = size(m.pid)
        assert after_fds == fds and after_rss <= rss + 512 * PATIENCE
        assert size(worker_of(m))[1] <= worker_fds + 1


def test_a_driver_that_dies_again_and_again_is_given_up(firn, repo):
    m = repo.mount()
    try:
        (m.main / "d").mkdir()
        (m.main / "d" / "zarr.json").write_text('{"zarr_format":3,"node_type":"group","attributes":{}}')
        session = m.session()
        for _ in range(4):
            kill_worker(m, signal.SIGABRT)
        os.kill(worker_of(m), signal.SIGABRT)
        wait_for(lambda: not alive(m.pid))
        with pytest.raises(OSError) as e:
            os.stat(m.main)
        assert e.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        log = (pathlib.Path(session["state_dir"]) / "log").read_text()
        assert "is not replaced: it dies again and again" in log and "--resume" in log
    finally:
        m.kill()
    with repo.resume(session["id"]) as m:
        assert (m.main / "d" / "zarr.json").exists()


def test_without_restart_the_mount_ends_and_can_be_resumed(firn, repo):
    m = repo.mount("-o", "restart=off")
    session = m.session()
    assert session["worker"] == session["pid"] == m.pid
    (m.main / "d").mkdir()
    (m.main / "d" / "zarr.json").write_text('{"zarr_format":3,"node_type":"group","attributes":{}}')
    os.kill(m.pid, signal.SIGKILL)
    wait_for(lambda: not alive(m.pid))
    with pytest.raises(OSError) as e:
        os.stat(m.main)
    assert e.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    m.kill()
    with repo.resume(session["id"]) as m:
        assert (m.main / "d" / "zarr.json").exists()


def test_the_end_of_the_supervisor_is_the_end_of_the_mount(firn, repo):
    m = repo.mount()
    worker = worker_of(m)
    m.kill()
    wait_for(lambda: not alive(worker))
    with repo.mount() as m:
        kill_worker(m)
        os.kill(m.pid, signal.SIGTERM)
        m._ended()


def test_read_only_mounts_go_on_too(firn, repo):
    with repo.mount() as m:
        (m.main / "zarr.json").write_text('{"zarr_format":3,"node_type":"group","attributes":{"a":1}}')
        m.commit()
    with repo.mount("--read-only") as m:
        with open(m.main / "zarr.json") as f:
            kill_worker(m)
            assert json.load(f)["attributes"] == {"a": 1}
        assert os.listdir(m.main) == ["zarr.json"]


@pytest.mark.soak
def test_soak_storms(firn, repo):
    for seed in range(20):
        with repo.mount() as m:
            storm(m, 15, (seed, seed + 100, seed + 200), every=(0.005, 0.2))
            write_under_kills(m, 100, every=(0.005, 0.2))
            m.umount("--discard")
