"""The driver itself: how it starts, ends and talks, and what the kernel makes of its answers."""
import contextlib
import ctypes
import errno
import json
import mmap
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

import pytest

from conftest import BIN, PATIENCE, Mount, alive, array_json, drop_caches, group_json, put, put_array, read_tree

libc = ctypes.CDLL(None, use_errno=True)


def firnfs(firn, *args, **kw):
    kw.setdefault("timeout", 60 * PATIENCE)
    return subprocess.run([BIN / "firnfs", *map(str, args)], env=firn.env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)


def refused(p, code, *words):
    assert p.returncode == code, (p.returncode, p.stderr)
    for word in words:
        assert word in p.stderr, (word, p.stderr)


def fails_with(number, call, *args, **kw):
    with pytest.raises(OSError) as e:
        call(*args, **kw)
    assert e.value.errno == number, e.value


def with_chunks(mount, n=4):
    put_array(mount.main, "a", (n,), (1,))
    (mount.main / "a/c").mkdir()


class Ctl:
    def __init__(self, mount):
        self.fd = os.open(mount.path / ".firn/ctl", os.O_RDWR)

    def raw(self, data):
        assert os.pwrite(self.fd, data, 0) == len(data)
        out = b""
        while part := os.pread(self.fd, 65536, len(out)):
            out += part
        return json.loads(out)

    def __call__(self, op, **kw):
        return self.raw(json.dumps({"op": op} | kw).encode())

    def ok(self, op, **kw):
        reply = self(op, **kw)
        assert reply["ok"] is True, reply
        return reply

    def close(self):
        os.close(self.fd)


@pytest.fixture
def ctl(mount):
    c = Ctl(mount)
    yield c
    with contextlib.suppress(OSError):
        c.close()


# ---- starting ----

def test_start__usable_when_the_parent_returns(repo, firn, tmp_path):
    at = tmp_path / "at"
    at.mkdir()
    for _ in range(5):
        p = firnfs(firn, repo, at)
        assert p.returncode == 0 and p.stderr == "", p.stderr
        assert os.listdir(at) == ["main"]
        pid = json.loads((at / ".firn/session").read_text())["pid"]
        subprocess.run(["fusermount3", "-u", at], check=True)
        os.waitpid(pid, 0)


def test_start__foreground(repo, firn, tmp_path):
    at = tmp_path / "at"
    at.mkdir()
    p = subprocess.Popen([BIN / "firnfs", "-f", repo.path, at], env=firn.env, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 20 * PATIENCE
    while not (at / ".firn").is_dir() and time.monotonic() < end:
        time.sleep(0.01)
    assert json.loads((at / ".firn/session").read_text())["pid"] == p.pid
    p.send_signal(signal.SIGINT)
    assert p.wait(20 * PATIENCE) == 0
    assert not os.path.ismount(at)


def test_start__usage(repo, firn, tmp_path):
    at = tmp_path / "at"
    at.mkdir()
    refused(firnfs(firn), 2, "mount point")
    refused(firnfs(firn, repo), 2)
    refused(firnfs(firn, repo, at, "more"), 2, "more")
    refused(firnfs(firn, "-o", "tag=t,snapshot=s", repo, at), 2, "only one")
    refused(firnfs(firn, "-o", "cache_size=many", repo, at), 2, "many")
    refused(firnfs(firn, "-o", "name=a/b", repo, at), 2, "a/b")
    refused(firnfs(firn, "-o", "as_of=never", repo, at), 2, "never")
    assert firnfs(firn, "-o", "no_such_option", repo, at).returncode != 0
    assert "usage" in firnfs(firn, "--help").stdout
    assert firnfs(firn, "-V").stdout.startswith("firnfs ")
    assert not os.path.ismount(at)


def test_start__what_cannot_be_mounted(repo, firn, tmp_path):
    at = tmp_path / "at"
    refused(firnfs(firn, repo, at), 1, str(at), "make it")
    at.write_text("a file")
    refused(firnfs(firn, repo, at), 1, "not a directory")
    at.unlink()
    at.mkdir()
    refused(firnfs(firn, tmp_path, at), 1, str(tmp_path))
    refused(firnfs(firn, "-o", "branch=nowhere", repo, at), 1, "nowhere")
    refused(firnfs(firn, "-o", "tag=nothing", repo, at), 1, "nothing")
    refused(firnfs(firn, "-o", "resume=ZZZZ", at), 1, "ZZZZ")
    refused(firnfs(firn, "-o", f"fork={tmp_path}/none", at), 1, "none")
    assert not os.path.ismount(at)
    assert not list(firn.state.rglob("journal"))


def test_start__mounted_already(repo, mount, firn):
    p = firnfs(firn, repo, mount)
    refused(p, 1, "in use", "umount")
    assert len(p.stderr.splitlines()) == 1
    assert os.listdir(mount) == ["main"]


def test_start__several_at_once__one_mounts(repo, firn, tmp_path):
    at = tmp_path / "at"
    at.mkdir()
    for _ in range(3):
        started = [subprocess.Popen([BIN / "firnfs", repo, at], env=firn.env, stderr=subprocess.PIPE, text=True) for _ in range(6)]
        said = [(p.wait(), p.stderr.read()) for p in started]
        assert sorted(code for code, _ in said) == [0, 1, 1, 1, 1, 1], said
        assert all("in use" in text for code, text in said if code), said
        assert pathlib.Path("/proc/self/mounts").read_text().count(f" {at} ") == 1
        firn("umount", at)
        assert not list(firn.state.rglob("journal"))


def test_start__over_a_mount_whose_driver_died__detaches_it(repo, firn, mounts):
    m = repo.mount()
    put(m.main, "zarr.json", group_json())
    id = m.session()["id"]
    m.kill(detach=False)
    fails_with(errno.ENOTCONN, os.listdir, m.path)
    p = firnfs(firn, "-o", f"resume={id}", m.path)
    assert p.returncode == 0 and "detached" in p.stderr, p.stderr
    assert (m.main / "zarr.json").read_bytes() == group_json()
    firn("umount", m)


def test_start__options_with_commas_and_names(repo, firn, mounts, tmp_path):
    state = tmp_path / "a,b"
    m = Mount(firn, repo.mountpoint(), ["--state-dir", state, "-o", "name=store", repo.path], "store")
    with m:
        s = m.session()
        assert s["name"] == "store" and s["state_dir"] == str(state / s["id"]), s
        assert os.listdir(m) == ["store"]


def test_start__fstab(repo, firn, tmp_path):
    """What mount(8) hands to a helper."""
    at = tmp_path / "at"
    at.mkdir()
    helper = pathlib.Path(__file__).resolve().parents[2] / "fs/mount.firn"
    env = firn.env
    p = subprocess.run([helper, repo.path, at, "-o", "rw,noauto,_netdev,x-systemd.automount,nosuid,nodev"], env=env)
    assert p.returncode == 0
    with open("/proc/self/mountinfo") as f:
        line = [x for x in f if str(at) in x]
    assert "fuse.firn" in line[0] and str(repo.path) in line[0] and "nosuid" in line[0], line
    firn("umount", at)


# ---- the top and its control files ----

def test_top(mount):
    assert os.listdir(mount) == ["main"]
    assert sorted(os.listdir(mount.path / ".firn")) == sorted(
        ["session", "journal", "status", "diff", "log", "errors", "stats", "ctl", "branches", "tags", "snapshots"])
    for call in os.mkdir, os.rmdir, os.unlink:
        with pytest.raises(OSError) as e:
            call(mount.path / ".firn")
        assert e.value.errno in (errno.EEXIST, errno.EPERM, errno.EISDIR), (call, e.value)
    fails_with(errno.EPERM, os.mkdir, mount.path / "other")
    fails_with(errno.EPERM, os.mkdir, mount.path / ".firn/other")
    fails_with(errno.EPERM, os.rename, mount.path / ".firn", mount.main / "x")
    fails_with(errno.EPERM, os.unlink, mount.path / ".firn/status")
    fails_with(errno.EPERM, os.link, mount.path / ".firn/status", mount.main / "x")
    fails_with(errno.EPERM, os.chmod, mount.path / ".firn/status", 0o777)
    fails_with(errno.ENOENT, os.stat, mount.path / ".firn/nothing")
    fails_with(errno.EPERM, os.symlink, "x", mount.main / "link")
    fails_with(errno.EPERM, os.mkfifo, mount.main / "fifo")
    fails_with(errno.ENAMETOOLONG, os.stat, mount.main / ("n" * 256))
    fails_with(errno.ENAMETOOLONG, os.mkdir, mount.main / ("n" * 256))


def test_session_file(repo, mount):
    s = mount.session()
    assert set(s) >= {"id", "repository", "branch", "base", "mode", "fork_of", "pid", "state_dir", "started", "version"}
    assert s["repository"] == f"file://{repo.path}" and s["branch"] == "main" and s["mode"] == "rw"
    assert s["fork_of"] is None and alive(s["pid"]) and pathlib.Path(s["state_dir"]).is_dir()
    assert s["mountpoint"] == str(mount.path) and s["name"] == "main"
    assert mount.firn("log", mount.path).split()[0] == s["base"]


def test_control_files__owner_only_and_read_only(mount):
    modes = {n: os.stat(mount.path / ".firn" / n).st_mode & 0o777 for n in os.listdir(mount.path / ".firn")}
    assert modes.pop("ctl") == 0o600
    assert {modes.pop(n) for n in ("branches", "tags", "snapshots")} == {0o555}
    assert set(modes.values()) == {0o400}
    fails_with(errno.EACCES, os.open, mount.path / ".firn/status", os.O_RDWR)


def test_control_files__image_as_of_open(mount, tmp_path):
    put(mount.main, "zarr.json", group_json())
    with open(mount.path / ".firn/status") as f:
        head = f.read(5)
        put(mount.main, "a/zarr.json", array_json((4,), (1,)))
        rest = f.read()
    assert "array /a" not in head + rest and "array /a" in mount.control("status")
    fd = os.open(mount.path / ".firn/journal", os.O_RDONLY)
    size = os.fstat(fd).st_size
    put(mount.main, "a/c/0", b"x" * 300)
    assert len(os.read(fd, 1 << 20)) == size
    os.close(fd)
    for how in "cp", "cat":
        out = tmp_path / how
        subprocess.run(["cp", mount.path / ".firn/journal", out] if how == "cp" else f"cat {mount.path}/.firn/journal >{out}",
                       shell=how == "cat", check=True)
        mount.firn("journal", "verify", out)
    shutil.copyfile(mount.path / ".firn/journal", tmp_path / "shutil")
    assert (tmp_path / "shutil").read_bytes() == (tmp_path / "cp").read_bytes()


def test_text_files__as_the_commands(mount):
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"one")
    assert mount.control("diff") == mount.firn("diff", mount)
    mount.commit("first\nsecond line")
    assert mount.control("diff") == ""
    assert mount.control("log") == mount.firn("log", mount)
    assert "first" in mount.control("log") and "(main)" in mount.control("log")


def test_stats(mount):
    put(mount.main, "zarr.json", group_json())
    lines = [x for x in mount.control("stats").splitlines() if not x.startswith("#")]
    values = {name: int(value) for name, value in map(str.split, lines)}
    assert all(name.startswith("firn_") for name in values)
    assert values["firn_writes_total"] >= 1 and values["firn_written_bytes_total"] == len(group_json())


def test_versions(repo, mount):
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"one")
    one = mount.commit("one")
    repo.official().create_tag("v1", one)
    repo.official().create_branch("x/y%z", one)
    top = mount.path / ".firn"
    assert sorted(os.listdir(top / "branches")) == ["main", "x%2Fy%25z"]
    assert os.listdir(top / "tags") == ["v1"]
    assert one in os.listdir(top / "snapshots") and len(os.listdir(top / "snapshots")) == 2
    for kind, name in ("branches", "main"), ("branches", "x%2Fy%25z"), ("tags", "v1"), ("snapshots", one):
        assert (top / kind / name / "a/c/0").read_bytes() == b"one", (kind, name)
        fails_with(errno.EROFS, put, top / kind / name, "a/c/1", b"no")
    put(mount.main, "a/c/0", b"two")
    mount.commit("two")
    assert (top / "branches/main/a/c/0").read_bytes() == b"two"
    assert (top / "tags/v1/a/c/0").read_bytes() == b"one"
    for name in "nothing", one.lower(), one[:-1], "1" * 20:
        fails_with(errno.ENOENT, os.stat, top / "snapshots" / name)
    fails_with(errno.ENOENT, os.stat, top / "branches/x")


def test_versions__many_names_for_one_directory(repo, mount):
    """Two processes that use one snapshot by two names do not disturb each other."""
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"one")
    one = mount.commit("one")
    script = "import sys\nfor i in range(300): assert open(sys.argv[1] + '/a/c/0').read() == 'one'"
    ps = [subprocess.Popen(["python3", "-c", script, mount.path / ".firn" / name])
          for name in ("branches/main", f"snapshots/{one}")]
    assert [p.wait() for p in ps] == [0, 0]


# ---- ctl ----

def test_ctl__bad_requests(ctl):
    for bad in b"", b"{", b"[]", b"{}", b'{"op":1}', b'{"op":"nothing"}', b'{"op":"\\udddd"}', b"\xff", b"x" * 100000:
        reply = ctl.raw(bad) if bad else {"ok": False, "error": "-", "code": "invalid"}
        assert reply["ok"] is False and reply["code"] == "invalid" and reply["error"], (bad, reply)
    assert ctl("commit-end")["code"] == "invalid"
    assert ctl("commit-intent", snapshot="1CECHNKREP0F1RSTCMT0")["code"] == "invalid"
    assert ctl.ok("session")["session"]["branch"] == "main"


def test_ctl__status(mount, ctl):
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"x")
    put(mount.main, "a/c/9", b"x")
    put(mount.main, "notes.txt", b"x")
    with open(mount.main / "a/c/1", "wb"):
        s = ctl.ok("status")
        assert len(s["writers"]) == 1 and f"pid {os.getpid()}" in s["writers"][0]
    s = ctl.ok("status")
    assert s["nodes"] == ["new array /a", "new group /"] and s["writers"] == [] and s["changed_chunks"] == 1
    assert [p.lstrip("/") for p in s["pending"]] == ["a/c/1", "a/c/9"] or [p.lstrip("/") for p in s["pending"]] == ["a/c/9"]
    assert [p.lstrip("/") for p in s["scratch"]] == ["notes.txt"] and s["last_seq"] >= 3


def test_ctl__writers_that_closed_are_not_named(mount, ctl):
    put_array(mount.main, "a", (1000,), (1,))
    for i in range(50):
        put(mount.main, f"a/c/{i}", b"x")
        assert ctl.ok("status")["writers"] == []


def test_ctl__commit_is_exclusive_and_ends_with_its_file(mount, ctl):
    put_array(mount.main, "a", (4,), (1,))
    begun = ctl.ok("commit-begin", wait_ms=1000)
    image = pathlib.Path(begun["journal"])
    assert image.stat().st_mode & 0o777 == 0o600
    mount.firn("journal", "verify", image)
    other = Ctl(mount)
    assert other("commit-begin", wait_ms=10)["code"] == "busy"
    assert other("commit-end")["code"] == "invalid"
    ctl.close()
    other.ok("commit-begin", wait_ms=10_000)      # close(2) returns before its end is told
    other.ok("commit-end")
    assert not image.exists()
    assert "new array /a" in other.ok("status")["nodes"]
    other.close()
    mount.commit("after all")


def test_ctl__commit__ends_while_more_documents_wait_than_there_are_idle_threads(mount, ctl):
    put(mount.main, "zarr.json", group_json())
    mount.commit("base")
    put(mount.main, "g/zarr.json", group_json())
    ctl.ok("commit-begin", wait_ms=1000)
    writers = [threading.Thread(target=put, args=(mount.main, f"h{i}/zarr.json", group_json())) for i in range(60)]
    for t in writers:
        t.start()
    time.sleep(0.5)
    assert all(t.is_alive() for t in writers)
    assert (mount.main / "zarr.json").stat().st_size > 0
    ctl.ok("commit-end")
    for t in writers:
        t.join(20)
    assert not any(t.is_alive() for t in writers)
    assert len(list(mount.main.glob("h*/zarr.json"))) == 60


def test_ctl__commit_waits_for_writers_then_names_them(mount, ctl):
    with_chunks(mount)
    with open(mount.main / "a/c/0", "wb") as f:
        f.write(b"x")
        f.flush()
        reply = ctl("commit-begin", wait_ms=100)
        assert reply["code"] == "busy" and "a/c/0" in reply["error"] and str(os.getpid()) in reply["error"]
    ctl.ok("commit-begin", wait_ms=5000)
    ctl.ok("commit-end")


def test_ctl__discard__the_kernel_forgets(mount, ctl):
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"old")
    mount.commit("base")
    put(mount.main, "a/c/0", b"new!")
    put(mount.main, "a/c/1", b"added")
    put(mount.main, "b/zarr.json", group_json())
    os.unlink(mount.main / "a/zarr.json")
    assert (mount.main / "a/c/0").read_bytes() == b"new!"
    fails_with(errno.ENOENT, os.stat, mount.main / "a/zarr.json")
    ctl.ok("discard")
    assert (mount.main / "a/c/0").read_bytes() == b"old"
    assert (mount.main / "a/zarr.json").exists()
    assert not (mount.main / "b").exists() and not (mount.main / "a/c/1").exists()
    assert sorted(os.listdir(mount.main)) == ["a", "zarr.json"]
    assert ctl.ok("status")["nodes"] == []


def test_ctl__fork_token(mount, ctl):
    put_array(mount.main, "a", (4,), (1,))
    token = ctl.ok("fork")["token"]
    assert token["firn_fork"] == 1 and token["branch"] == "main" and token["parent"]


def test_ctl__read_only(repo, mount):
    mount.umount()
    with repo.mount("--read-only") as m:
        c = Ctl(m)
        for op in "commit-begin", "discard", "fork":
            assert c(op)["code"] == "read-only"
        assert c.ok("session")["session"]["mode"] == "ro"
        c.close()
        assert "journal" not in os.listdir(m.path / ".firn")
        fails_with(errno.EROFS, put, m.main, "zarr.json", group_json())
        fails_with(errno.EROFS, os.mkdir, m.main / "d")
        assert not os.access(m.main, os.W_OK) and os.access(m.main, os.R_OK)


# ---- ends ----

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal__ends_cleanly_and_keeps_the_work(repo, firn, number):
    before = signal.signal(number, lambda *_: None)     # below nohup, drivers would inherit that SIGHUP is ignored
    m = repo.mount()
    signal.signal(number, before)
    with_chunks(m)
    f = open(m.main / "a/c/0", "wb", buffering=0)
    f.write(b"unfinished")
    os.kill(m.pid, number)
    m._ended()
    with contextlib.suppress(OSError):
        f.close()
    id = next(firn.state.rglob("journal")).parent.name
    log = next(firn.state.rglob("log")).read_text()
    assert f"firn mount --resume {id}" in log
    with repo.resume(id) as again:
        assert (again.main / "a/c/0").read_bytes() == b"unfinished"


def test_signal__during_a_commit(repo, firn):
    m = repo.mount()
    put_array(m.main, "a", (4,), (1,))
    c = Ctl(m)
    c.ok("commit-begin", wait_ms=100)
    os.kill(m.pid, signal.SIGTERM)
    m._ended()
    with contextlib.suppress(OSError):
        c.close()
    id = next(firn.state.rglob("journal")).parent.name
    with repo.resume(id) as again:
        again.commit("later")


def test_end__nothing_left__no_state(repo, firn):
    with repo.mount() as m:
        put_array(m.main, "a", (4,), (1,))
        m.commit("done")
        put(m.main, "notes.txt", b"scratch is not kept")
    assert not list(firn.state.rglob("journal"))


def test_end__made_and_removed_again__no_state(repo, firn):
    with repo.mount() as m:
        put_array(m.main, "a", (4,), (1,))
        m.commit("base")
        put_array(m.main, "b", (4,), (1,))
        put(m.main, "b/c/0", b"x")
        shutil.rmtree(m.main / "b")
    assert not list(firn.state.rglob("journal"))


def test_end__discard(repo, firn):
    with repo.mount() as m:
        put_array(m.main, "a", (4,), (1,))
        put(m.main, "a/c/0", b"x" * 5000)
        m.umount("--discard")
    assert not list(firn.state.rglob("journal"))


def test_end__shutdown_discard_can_be_taken_back(repo, firn):
    with repo.mount() as m:
        put_array(m.main, "a", (4,), (1,))
        c = Ctl(m)
        c.ok("shutdown", discard=True)
        c.ok("shutdown", discard=False)
        c.close()
        m.umount()
    assert list(firn.state.rglob("journal"))


def test_end__fork_is_published(repo, firn, mount, tmp_path):
    put_array(mount.main, "a", (4,), (1,))
    firn("fork", mount, "-o", tmp_path / "fork.json")
    token = json.loads((tmp_path / "fork.json").read_text())
    with repo.worker(tmp_path / "fork.json") as w:
        put(w.main, "a/c/2", b"from the worker")
        id = w.session()["id"]
        assert w.session()["fork_of"] == token["fork"]
    assert (repo.path / "firn/sessions" / token["fork"] / f"{id}.journal").exists()
    assert not (firn.state / "firn/sessions" / id).exists()
    with repo.worker(tmp_path / "fork.json") as w:            # what changed nothing is done, too
        pass
    with repo.worker(tmp_path / "fork.json") as w:            # what was dropped is not
        put(w.main, "a/c/1", b"dropped")
        w.umount("--discard")
    assert len(list((repo.path / "firn/sessions" / token["fork"]).glob("*.journal"))) == 2


# ---- what the kernel makes of it ----

@pytest.fixture
def chunk(mount):
    """A committed chunk of 10000 bytes."""
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"0123456789" * 1000)
    mount.commit("base")
    return mount.main / "a/c/0"


def test_truncate_by_open(chunk):
    subprocess.run(["sh", "-c", f": > {chunk}"], check=True)
    assert chunk.stat().st_size == 0 and chunk.read_bytes() == b""
    drop_caches()
    assert chunk.stat().st_size == 0 and chunk.read_bytes() == b""


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR])
def test_truncate_by_open__with_pages_cached(chunk, flags):
    assert len(chunk.read_bytes()) == 10000
    fd = os.open(chunk, flags | os.O_TRUNC)
    os.write(fd, b"short")
    os.close(fd)
    assert chunk.read_bytes() == b"short"
    drop_caches()
    assert chunk.read_bytes() == b"short"


def test_write_in_place__readers_see_it(chunk):
    assert chunk.read_bytes()[:4] == b"0123"
    with open(chunk, "rb", buffering=0) as reader:
        reader.read(10)
        fd = os.open(chunk, os.O_WRONLY)
        os.pwrite(fd, b"XYZ", 5000)
        assert os.pread(reader.fileno(), 3, 5000) == b"XYZ"
        os.close(fd)
    for _ in range(2):
        data = chunk.read_bytes()
        assert data[5000:5003] == b"XYZ" and len(data) == 10000
        drop_caches()


def test_append(chunk):
    with open(chunk, "ab") as f:
        f.write(b"more")
    assert chunk.stat().st_size == 10004 and chunk.read_bytes()[-4:] == b"more"


def test_new_file__read_while_it_is_written(mount):
    with_chunks(mount)
    at = mount.main / "a/c/1"
    fd = os.open(at, os.O_WRONLY | os.O_CREAT)
    for i in range(20):
        os.write(fd, bytes([i]) * 1000)
        assert at.stat().st_size == 1000 * (i + 1)
        with open(at, "rb") as f:
            assert f.read() == b"".join(bytes([k]) * 1000 for k in range(i + 1))
    os.close(fd)
    assert len(at.read_bytes()) == 20000


def test_new_file__mapped_right_after_close(mount):
    put_array(mount.main, "a", (100,), (1,))
    for i in range(30):
        at = put(mount.main, f"a/c/{i}", b"x" * 5000)
        with open(at, "r+b") as f, mmap.mmap(f.fileno(), 0) as map:
            assert map[4999:] == b"x"


def test_dup_and_close(mount):
    with_chunks(mount)
    at = mount.main / "a/c/1"
    fd = os.open(at, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"one")
    other = os.dup(fd)
    os.close(fd)
    assert at.read_bytes() == b"one"
    os.write(other, b"two")
    os.close(other)
    assert at.read_bytes() == b"onetwo"
    mount.commit("m")
    assert at.read_bytes() == b"onetwo"


def test_shared_mapping__written_after_close_and_rename(mount):
    with_chunks(mount)
    tmp, at = mount.main / "a/c/0.partial", mount.main / "a/c/0"
    fd = os.open(tmp, os.O_RDWR | os.O_CREAT)
    os.write(fd, b"a" * 8192)
    map = mmap.mmap(fd, 8192)
    os.close(fd)
    map[0:4] = b"1111"
    os.rename(tmp, at)
    map[4096:4100] = b"2222"
    map.flush()
    map.close()
    want = b"1111" + b"a" * 4092 + b"2222" + b"a" * 4092
    assert at.read_bytes() == want
    drop_caches()
    assert at.read_bytes() == want
    mount.commit("m")
    assert at.read_bytes() == want


def test_unlink_while_open(chunk):
    with open(chunk, "r+b") as f:
        os.unlink(chunk)
        assert not chunk.exists()
        assert f.read() == b"0123456789" * 1000
        f.seek(0)
        f.write(b"gone")
        f.flush()
        assert os.fstat(f.fileno()).st_size == 10000
    assert not chunk.exists()


def test_replace_while_open(chunk):
    with open(chunk, "rb", buffering=0) as f:
        ino = os.fstat(f.fileno()).st_ino
        tmp = put(chunk.parent, "0.tmp", b"new")
        os.rename(tmp, chunk)
        assert f.read() == b"0123456789" * 1000
        assert chunk.stat().st_ino != ino and chunk.read_bytes() == b"new"


def test_rename_while_open_for_writing(mount):
    with_chunks(mount)
    tmp, at = mount.main / "a/c/0.__lock", mount.main / "a/c/0"
    fd = os.open(tmp, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"before")
    os.rename(tmp, at)
    assert at.read_bytes() == b"before"
    os.write(fd, b" after")
    os.fsync(fd)
    os.close(fd)
    assert at.read_bytes() == b"before after"


def partial_of(at):
    return at.with_name(f"{at.name}.0123456789abcdef0123456789abcdef.partial")


@pytest.mark.parametrize("how", [os.rename, os.link])
def test_temporary_name__published_while_open__goes_on_being_written(mount, how):
    """The kernel says nothing of the closes of such a descriptor, only of its end."""
    put_array(mount.main, "a", (100,), (1,))
    for i in range(20):
        at = mount.main / f"a/c/{i}"
        at.parent.mkdir(exist_ok=True)
        fd = os.open(partial_of(at), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(fd, b"before")
        os.close(os.dup(fd))
        how(partial_of(at), at)
        assert at.read_bytes() == b"before"
        if how is os.rename:
            os.write(fd, b" after")
            assert at.stat().st_size == 12
        os.close(fd)
        assert at.read_bytes() == (b"before after" if how is os.rename else b"before")
    mount.commit("m")
    drop_caches()
    assert at.read_bytes() == (b"before after" if how is os.rename else b"before")


def test_temporary_name__nobody_waits_for_who_closed_it(mount):
    put_array(mount.main, "a", (100,), (1,))
    for i in range(20):
        at = mount.main / f"a/c/{i}"
        put(mount.main, f"a/c/{i}", b"old")
        put(mount.main, f"a/c/{partial_of(at).name}", b"x" * 5000)
        os.rename(partial_of(at), at)
        assert mount.firn.json("status", mount)["writers"] == []
        with open(at, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as map:
            assert map[4999:] == b"x"
    mount.firn("discard", mount)
    assert not at.exists()


def test_temporary_name__never_renamed(mount):
    """Its bytes stay readable, in the page cache or not, large or small, and go with it."""
    with_chunks(mount)
    for size in 0, 5, 5000, 300_000, 3_000_000:
        at = put(mount.main, "a/c/7.0123456789abcdef0123456789abcdef.partial", b"y" * size)
        for _ in range(2):
            assert at.read_bytes() == b"y" * size and at.stat().st_size == size
            drop_caches()
        with open(at, "ab") as f:
            f.write(b"more")
        assert at.read_bytes() == b"y" * size + b"more"
        at.unlink()
        assert not at.exists()
    mount.commit("m", "--force")


def test_rename_flags(chunk):
    def renameat2(a, b, flags):
        if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), flags):
            raise OSError(ctypes.get_errno(), "renameat2")

    tmp = put(chunk.parent, "1.tmp", b"new")
    fails_with(errno.EEXIST, renameat2, tmp, chunk, 1)
    fails_with(errno.EINVAL, renameat2, tmp, chunk, 2)
    assert chunk.stat().st_size == 10000 and tmp.read_bytes() == b"new"
    renameat2(tmp, chunk.parent / "1", 1)
    assert (chunk.parent / "1").read_bytes() == b"new"


def test_link__exclusive_copy(mount):
    tmp = put(mount.main, "zarr.json.tmp", group_json())
    os.link(tmp, mount.main / "zarr.json")
    fails_with(errno.EEXIST, os.link, tmp, mount.main / "zarr.json")
    os.unlink(tmp)
    assert (mount.main / "zarr.json").read_bytes() == group_json()


def test_exclusive_create(mount):
    fails_with(errno.EEXIST, os.open, put(mount.main, "x", b""), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.mknod(mount.main / "y")
    assert (mount.main / "y").stat().st_size == 0


def test_sync(chunk):
    fd = os.open(chunk.parent, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    fd = os.open(chunk, os.O_RDWR)
    os.pwrite(fd, b"z", 0)
    os.fdatasync(fd)
    os.fsync(fd)
    os.close(fd)


def test_locks(chunk):
    import fcntl
    with open(chunk, "r+b") as f:
        fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_is_not_offered__falls_back(chunk, tmp_path):
    assert subprocess.run(["cp", "--reflink=auto", chunk, tmp_path / "x"]).returncode == 0
    with open(chunk, "r+b") as f:
        assert libc.fallocate(f.fileno(), 1, ctypes.c_long(0), ctypes.c_long(20000)) == -1
        assert ctypes.get_errno() == errno.EOPNOTSUPP
        assert os.lseek(f.fileno(), 0, os.SEEK_END) == 10000
        assert not os.isatty(f.fileno())


def test_extended_attributes(mount, chunk):
    assert os.getxattr(chunk, "user.firn.ref").startswith(b"native ")
    assert "user.firn.node" in os.listxattr(chunk)
    for kernels in "security.capability", "security.selinux", "system.posix_acl_access":
        # No such thing on the whole file system: with ENODATA, ls -l would ask for each file.
        fails_with(errno.ENOTSUP, os.getxattr, chunk, kernels)
        fails_with(errno.ENOTSUP, os.getxattr, mount.path / ".firn/status", kernels)
    fails_with(errno.ENOTSUP, os.getxattr, chunk, "user.other")
    fails_with(errno.ENOTSUP, os.setxattr, chunk, "user.other", b"x")
    fails_with(errno.ENOTSUP, os.setxattr, chunk, "user.firn.ref", b"x")
    fails_with(errno.ENOTSUP, os.removexattr, chunk, "user.firn.ref")
    assert os.listxattr(mount.path / ".firn/status") == []
    subprocess.run(["ls", "-lR", mount.path], stdout=subprocess.DEVNULL, check=True)


def test_no_extended_attributes(repo, firn):
    with Mount(firn, repo.mountpoint(), ["-o", "noxattr", repo.path]) as m:
        put(m.main, "zarr.json", group_json())
        fails_with(errno.ENOTSUP, os.getxattr, m.main / "zarr.json", "user.firn.state")


def test_names_that_are_not_there_are_remembered(mount):
    def lookups():
        return mount.counted("lookups")

    fails_with(errno.ENOENT, os.stat, mount.main / "nothing")
    before = lookups()
    for _ in range(20):
        fails_with(errno.ENOENT, os.stat, mount.main / "nothing")
    assert lookups() == before
    put(mount.main, "nothing", b"now")
    assert (mount.main / "nothing").read_bytes() == b"now"


def test_large_directory__removed_while_listed(mount):
    d = mount.main / "d"
    d.mkdir()
    names = {f"n{i:05}" for i in range(2500)}
    for n in names:
        (d / n).mkdir()
    assert set(os.listdir(d)) == names
    with os.scandir(d) as entries:
        for e in entries:
            os.rmdir(e.path)
    assert os.listdir(d) == []


def test_cwd_in_the_mount__refuses_to_unmount(mount):
    p = subprocess.Popen(["sleep", "60"], cwd=mount.main)
    try:
        assert mount.firn.run("umount", mount).returncode == 1
        assert os.listdir(mount) == ["main"]
    finally:
        p.kill()
        p.wait()


def test_rmdir_and_mkdir_of_the_hierarchy(mount):
    put_array(mount.main, "a", (4,), (1,))
    shutil.rmtree(mount.main)
    assert os.listdir(mount) == []
    fails_with(errno.EPERM, os.mkdir, mount.path / "other")
    os.mkdir(mount.main)
    assert read_tree(mount.main) == {}


def test_killed_client__does_not_block_the_mount(chunk):
    for _ in range(20):
        p = subprocess.Popen(["sh", "-c", f"exec cat {chunk} {chunk} {chunk} >/dev/null"])
        time.sleep(0.002)
        p.kill()
        p.wait()
    assert len(chunk.read_bytes()) == 10000


def test_statfs(mount):
    s = os.statvfs(mount.main)
    assert s.f_namemax == 255 and s.f_blocks > 0


def test_no_descriptor_stays_open(mount, chunk):
    worker = mount.session()["worker"]

    def n_open():
        return len(os.listdir(f"/proc/{worker}/fd"))

    def work():
        for _ in range(50):
            chunk.read_bytes()
            put(chunk.parent, "1", b"L" * 4000)
            mount.control("status")
            os.listdir(chunk.parent)

    work()
    time.sleep(0.2)
    before = n_open()
    work()
    time.sleep(0.2)
    assert n_open() <= before + 2


def test_rebase__what_others_committed_appears(repo, mount):
    """Entries, absent names and pages the kernel keeps for ever are dropped when the base moves."""
    put_array(mount.main, "a", (10,), (1,))
    put(mount.main, "a/c/0", b"old" * 1000)
    put(mount.main, "a/c/5", b"goes")
    put(mount.main, "gone/zarr.json", group_json())
    mount.commit("base")
    with repo.mount() as other:
        put(other.main, "a/c/0", b"new!" * 1000)
        put(other.main, "a/c/1", b"added")
        (other.main / "a/c/5").unlink()
        put_array(other.main, "b", (4,), (1,))
        put(other.main, "b/c/0", b"b")
        put(other.main, "zarr.json", group_json(title="changed"))
        shutil.rmtree(other.main / "gone")
        want = read_tree(other.main)
        assert (mount.main / "a/c/0").read_bytes() == b"old" * 1000
        assert (mount.main / "a/c/5").read_bytes() == b"goes" and (mount.main / "gone/zarr.json").exists()
        for name in "b", "a/c/1", "b/zarr.json", "b/c/0":
            assert not (mount.main / name).exists()
        os.listdir(mount.main), os.listdir(mount.main / "a/c")
        other.commit("theirs")
    put(mount.main, "a/c/2", b"mine")
    mount.commit("mine", "--rebase")
    assert read_tree(mount.main) == want | {"a/c/2": b"mine"}
    assert not (mount.main / "gone").exists()


def test_commit__open_files_and_directories_stay_usable(mount, chunk):
    with open(chunk, "rb", buffering=0) as f:
        at = os.open(chunk.parent, os.O_RDONLY)
        put(chunk.parent, "1", b"more")
        put(chunk.parent, "0", b"changed")
        mount.commit("next")
        assert f.read(10) in (b"0123456789", b"changed")
        assert sorted(os.listdir(at)) == ["0", "1"]
        fd = os.open("1", os.O_RDONLY, dir_fd=at)
        assert os.read(fd, 100) == b"more"
        os.close(fd)
        os.close(at)
    assert chunk.read_bytes() == b"changed"


def test_cwd__follows_a_commit(mount, chunk):
    here = os.getcwd()
    os.chdir(chunk.parent)
    try:
        put(".", "2", b"two")
        mount.commit("next")
        assert sorted(os.listdir(".")) == ["0", "2"]
        put(".", "3", b"three")
        assert pathlib.Path("3").read_bytes() == b"three"
    finally:
        os.chdir(here)
