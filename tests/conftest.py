"""What the tests of mounts share: the command, repositories, mounts, and comparisons.

FIRN_BUILD names the build under test (build/release by default).
"""
import contextlib
import ctypes
import errno
import hashlib
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
BUILD = (HERE.parent / os.environ.get("FIRN_BUILD", "build/release")).resolve()
BIN = BUILD / "bin"
GOLDEN = HERE / "golden"
VARIANT = BUILD.name
# A sanitizer build is several times slower.
PATIENCE = 1 if VARIANT in ("release", "debug") else 5
KERNEL = tuple(int(n) for n in platform.release().split(".")[:2])
# Whether the kernel reads files by itself for us: Linux 6.9, and only for root.
PASSTHROUGH = os.geteuid() == 0 and KERNEL >= (6, 9)
# Whether we decide what listings tell beside names.
OUR_LISTINGS = KERNEL >= (6, 16)

os.environ.setdefault("ICECHUNK_LOG", "error")
os.environ["G_SLICE"] = "always-malloc"     # GLib's own allocator hides what sanitizers look for
sys.path.insert(0, str(HERE / "oracle"))


def pytest_configure(config):
    if config.getoption("--tools-table") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(ToolsTable(config.getoption("--tools-table")))
    if not os.path.exists("/dev/fuse"):
        pytest.exit("there is no /dev/fuse: these tests mount, and skip nothing", 1)
    for name in ("firn", "firnfs"):
        if not (BIN / name).is_file():
            pytest.exit(f"{BIN / name} is not built: make VARIANT={VARIANT}", 1)
    # Not /tmp/pytest-of-USER, where other runs tidy up.
    (BUILD / "tmp").mkdir(exist_ok=True)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(BUILD / "tmp"))
    # Where we run in the background of a script, SIGINT is ignored, and drivers would inherit that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # The drivers of mounts become our children when `firn mount` returns, so that
    # how they ended can be asked.
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


# Whether drivers may use io_uring: tests let them, and in the end it is as it was.
URING = pathlib.Path("/sys/module/fuse/parameters/enable_uring")
URING_BEFORE = URING.read_text().strip() if URING.exists() else None


def pytest_unconfigure(config):
    if URING_BEFORE and not hasattr(config, "workerinput") and URING.read_text().strip() != URING_BEFORE:
        as_root("sh", "-c", f"echo {URING_BEFORE} >{URING}")


# ---- the table of tools ----

def pytest_addoption(parser):
    parser.addoption("--tools-table", metavar="FILE", help="write what the tests say of tools (their property `row`) there")


class ToolsTable:
    """Rows by line of the test, from the reports, so that the tests may run in processes."""

    def __init__(self, path):
        self.path, self.rows, self.bad = pathlib.Path(path), [], []

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.bad.append(report.nodeid)
        if report.when == "call" and report.passed:
            self.rows += [(report.location[1], report.nodeid, value) for name, value in report.user_properties if name == "row"]

    def pytest_sessionfinish(self, session):
        if self.bad or not self.rows:
            print(f"\n{self.path} is not written: {len(self.bad)} tests failed", file=sys.stderr)
            return
        lines = ["# Tools on a mount", "",
                 "Written by `make matrix`; each line is a test of `test_tool_matrix.py` that passed. \"Works\": writes on a mount,",
                 "unmodified, the bytes are those on a plain directory before and after a commit, and another tool reads them.", "",
                 "| tool | version | | test |", "| --- | --- | --- | --- |"]
        for _, nodeid, value in sorted(self.rows):
            tool, version, verdict = value.split("|")
            lines.append(f"| {tool} | {version} | {verdict} | `{nodeid.rpartition('::')[2]}` |")
        self.path.write_text("\n".join(lines) + "\n")


def as_root(*command, **kw):
    """Run it as root, through sudo where we are not: the finished process. Nothing that needs root is skipped."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if prefix and subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.fail("this test needs root: run the tests as root, or let sudo work without a password")
    return subprocess.run([*prefix, *map(str, command)], **{"capture_output": True, "timeout": 60, "check": False} | kw)


def as_nobody(*command):
    """Run it as a user who owns nothing: the finished process."""
    return as_root("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *command)


def drop_caches():
    """Let the kernel forget names and attributes nobody holds."""
    as_root("sh", "-c", "echo 2 >/proc/sys/vm/drop_caches", check=True)


def pytest_report_header():
    return (f"firn: {BUILD.name}; passthrough " +
            ("tested" if PASSTHROUGH else f"not possible here ({platform.release()}, user {os.geteuid()}): tested that we do without") +
            ("" if OUR_LISTINGS else f"; {platform.release()} decides on listings: tested that they are right"))


class FirnError(AssertionError):
    pass


class Firn:
    """The command, with state and sanitizer reports below `home`."""

    def __init__(self, home):
        self.home = pathlib.Path(home)
        self.home.mkdir(parents=True, exist_ok=True)
        self.reports = self.home / "reports"
        self.reports.mkdir(exist_ok=True)
        self.logs = self.home / "logs"
        self.logs.mkdir(exist_ok=True)
        self.state = self.home / "state"
        log = f"log_path={self.reports}/"
        self.env = os.environ | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "XDG_STATE_HOME": str(self.state),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "ASAN_OPTIONS": f"{log}asan:detect_leaks=1:exitcode=66",
            "UBSAN_OPTIONS": f"{log}ubsan:print_stacktrace=1:exitcode=67",
            "TSAN_OPTIONS": f"{log}tsan:halt_on_error=0:exitcode=68:suppressions={HERE}/tsan.supp",
            "G_DEBUG": "fatal-criticals",   # what GLib calls critical is a fault of ours
            "LC_ALL": "C.UTF-8",
        }

    def run(self, *args, **kw):
        """Run it; the finished process, whatever its exit code."""
        kw.setdefault("timeout", 100 * PATIENCE)
        return subprocess.run([BIN / "firn", *map(str, args)], env=self.env, stdin=kw.pop("stdin", subprocess.DEVNULL),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)

    def __call__(self, *args, code=0, **kw):
        """Run it; what it printed. Fails unless it exits with `code`."""
        p = self.run(*args, **kw)
        if p.returncode != code:
            raise FirnError(f"firn {' '.join(map(str, args))}: exit code {p.returncode}, wanted {code}\n"
                            f"stdout: {p.stdout}\nstderr: {p.stderr}")
        return p.stdout

    def refuses(self, *args, code=1, saying=(), **kw):
        """Run it, wanting a failure with `code` and a message of one line that names `saying`."""
        p = self.run(*args, **kw)
        assert p.returncode == code, (args, p.returncode, p.stdout, p.stderr)
        lines = p.stderr.strip().splitlines()
        assert lines, f"firn {args} failed without a word"
        if code == 1:
            assert len(lines) == 1, p.stderr
        for word in [saying] if isinstance(saying, str) else saying:
            assert word.lower() in p.stderr.lower(), (word, p.stderr)
        return p

    def json(self, *args, code=0, **kw):
        return json.loads(self(*args, "--json", code=code, **kw))

    def snapshot(self, *args):
        """A command that commits: the snapshot id, alone on stdout."""
        out = self(*args)
        assert len(out.splitlines()) == 1 and len(out.strip()) == 20, out
        return out.strip()

    @contextlib.contextmanager
    def watching(self, env):
        """More variables for what is started inside."""
        before, self.env = self.env, self.env | env
        try:
            yield
        finally:
            self.env = before

    def check_reports(self):
        text = "".join(p.read_text(errors="replace") for p in sorted(self.reports.iterdir()))
        assert not text, f"a sanitizer reported:\n{text}"


LIVE = set()  # mounts to kill if a test hangs


def alive(pid):
    """Also if it has ended but for threads, which hold what is open until they have gone."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def children(pid):
    try:
        return [int(x) for x in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Mount:
    """A mount made with `firn mount ARGS PATH`, or one that is there already."""

    def __init__(self, firn, path, args, name="main", mounted=False):
        self.firn, self.path, self.name = firn, pathlib.Path(path), name
        self.path.mkdir(parents=True, exist_ok=True)
        self.gone = False
        if not mounted:
            self.firn("mount", *args, self.path)
        session = self.session()
        self.pid = int(session["pid"])
        # Its log goes with the session, and with it the last words: they have a second name.
        if session["state_dir"]:
            with contextlib.suppress(OSError):
                os.link(f"{session['state_dir']}/log", firn.logs / session["id"])
        LIVE.add(self)

    @property
    def main(self):
        return self.path / self.name

    def __fspath__(self):
        return str(self.path)

    def __str__(self):
        return str(self.path)

    def control(self, name):
        return (self.path / ".firn" / name).read_text()

    def counted(self, what):
        """A counter of `stats`."""
        return next(int(line.split()[1]) for line in self.control("stats").splitlines() if line.startswith(f"firn_{what}_total "))

    def session(self):
        return json.loads(self.control("session"))

    def commit(self, message="commit", *args):
        return self.firn.snapshot("commit", self, "-m", message, *args)

    def umount(self, *args):
        self.firn("umount", self, *args)
        self._ended()

    def kill(self, detach=True):
        """The driver dies as by power cut for it: SIGKILL, with its supervisor."""
        workers = children(self.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._reap()
        end = time.monotonic() + 30 * PATIENCE
        while any(alive(pid) for pid in workers) and time.monotonic() < end:
            time.sleep(0.002)
        if detach:
            self._detach()
        else:
            # A request on its way while the last thread ends is told ECONNABORTED.
            while self._says() == errno.ECONNABORTED and time.monotonic() < end:
                time.sleep(0.002)
        self.gone = True
        LIVE.discard(self)

    def died(self):
        """The driver ended without being asked, which leaves the mount: how it ended."""
        status = self._reap()
        self.gone = True
        LIVE.discard(self)
        self._detach()
        return status

    def _detach(self):
        subprocess.run(["fusermount3", "-u", "-z", self.path], stderr=subprocess.DEVNULL, check=False)

    def _says(self):
        try:
            os.stat(self.main)
        except OSError as e:
            return e.errno
        return 0

    def abort(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _reap(self):
        end = time.monotonic() + 30 * PATIENCE
        while time.monotonic() < end:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # in a worker process: the test's, which sees how it ended
                if not alive(self.pid):
                    return 0
                pid = 0
            if pid:
                return status
            time.sleep(0.005)
        raise FirnError(f"driver {self.pid} of {self.path} did not end")

    def _logs(self):
        """What drivers and sanitizers said."""
        said = [*self.firn.logs.iterdir(), *self.firn.reports.iterdir()]
        return "".join(f"\n{p}:\n{p.read_text(errors='replace')[-5000:]}" for p in said)

    def _ended(self):
        self.gone = True
        LIVE.discard(self)
        status = self._reap()
        assert status == 0, f"driver of {self.path} ended with status {status:#x}{self._logs()}"
        assert not os.path.ismount(self.path)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.gone:
            return
        try:
            self.umount()
        except BaseException:
            self.abort()
            self._detach()
            LIVE.discard(self)
            if kind is None:
                raise


class Repo:
    def __init__(self, firn, path, mountpoints):
        self.firn, self.path, self.mountpoints, self.n = firn, pathlib.Path(path), pathlib.Path(mountpoints), 0

    def __fspath__(self):
        return str(self.path)

    def __str__(self):
        return str(self.path)

    def mountpoint(self):
        self.n += 1
        return self.mountpoints / f"m{self.n}"

    def mount(self, *args, name="main"):
        """`firn mount REPO MOUNTPOINT ARGS`, as a context that unmounts."""
        return Mount(self.firn, self.mountpoint(), [*args, self.path], name)

    def worker(self, token, *args):
        """A mount of a fork."""
        return Mount(self.firn, self.mountpoint(), [*args, "--fork", token])

    def resume(self, session, *args):
        return Mount(self.firn, self.mountpoint(), [*args, "--resume", session])

    def official(self, **kw):
        import icechunk
        return icechunk.Repository.open(icechunk.local_filesystem_storage(str(self.path)), **kw)

    def store(self, branch="main", **kw):
        """A read-only store of the official library."""
        r = self.official()
        return r.readonly_session(**kw).store if kw else r.readonly_session(branch).store

    def check(self):
        """What the independent decoder finds wrong."""
        import icedump
        problems = icedump.RepoDir(str(self.path)).everything()["problems"]
        assert not problems, "\n".join(problems)


@pytest.fixture
def firn(tmp_path):
    f = Firn(tmp_path / "firn")
    yield f
    f.check_reports()


@pytest.fixture
def mounts():
    """A stack for mounts; all are unmounted at the end, whatever happens."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def repo(firn, tmp_path):
    path = tmp_path / "repo"
    firn("init", path)
    r = Repo(firn, path, tmp_path / "mnt")
    yield r
    r.check()


@pytest.fixture
def mount(repo, mounts):
    """A writable mount of a new repository."""
    return mounts.enter_context(repo.mount())


@pytest.fixture
def array(mount):
    """A mount with an array of 20 chunks, committed."""
    put_array(mount.main, "a", (20,), (1,))
    put(mount.main, "a/c/0", b"x")
    mount.commit("array")
    return mount


@pytest.fixture(autouse=True)
def unhang(request):
    """A system call on a mount whose driver hangs cannot be interrupted: kill the driver."""
    marker = request.node.get_closest_marker("timeout")
    limit = (marker.args[0] if marker else request.config.getoption("timeout")) - 40

    def fire():
        for m in list(LIVE):
            print(f"killing the driver of {m.path}: the test takes longer than {limit} s", file=sys.stderr)
            m.abort()

    t = threading.Timer(limit, fire)
    t.daemon = True
    t.start()
    yield
    t.cancel()


def pytest_collection_modifyitems(items):
    if PATIENCE > 1:
        for item in items:
            item.add_marker(pytest.mark.timeout(240 * PATIENCE))


def c_program(name):
    """A C program of tests/interop, linked with the library under test."""
    exe = BUILD / "tests/interop" / name
    assert exe.exists(), f"{exe} is not built: make VARIANT={VARIANT} programs"
    return exe


# ---- comparisons ----

def read_tree(root):
    """{relative path: bytes} of all files below a directory."""
    out = {}
    for at, dirs, files in os.walk(root):
        for name in files:
            p = os.path.join(at, name)
            with open(p, "rb") as f:
                out[os.path.relpath(p, root)] = f.read()
    return out


def store_tree(store):
    """{key: bytes} of all a Zarr store holds."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    async def go():
        proto = default_buffer_prototype()
        return {k: (await store.get(k, proto)).to_bytes() async for k in store.list()}

    return sync(go())


def plain(tree):
    """A tree with documents parsed and without what firn says it drops: consolidated metadata."""
    out = {}
    for key, data in tree.items():
        if key.rpartition("/")[2] == "zarr.json":
            out[key] = {k: v for k, v in json.loads(data).items() if k != "consolidated_metadata"}
        else:
            out[key] = data
    return out


def _brief(value):
    if isinstance(value, bytes):
        return f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()[:12]}, {value[:40]!r}"
    return str(value)[:300]


def assert_same(a, b, what="", names=("left", "right")):
    """Two trees are equal, or an account of how they differ."""
    if a == b:
        return
    lines = [f"only {names[0]}: {k}" for k in sorted(a.keys() - b.keys())]
    lines += [f"only {names[1]}: {k}" for k in sorted(b.keys() - a.keys())]
    lines += [f"{k}: {names[0]} {_brief(a[k])} | {names[1]} {_brief(b[k])}"
              for k in sorted(a.keys() & b.keys()) if a[k] != b[k]]
    raise AssertionError(f"{what}: {len(lines)} differences\n" + "\n".join(lines[:30]))


def assert_committed(repo, root, branch="main"):
    """A hierarchy under a mount is, byte for byte, what the official library reads."""
    assert_same(read_tree(root), store_tree(repo.store(branch)), "mount and official library", ("mount", "official"))


@pytest.fixture
def same(repo, mounts, tmp_path):
    """same(work): work(directory) leaves the same on a mount, before and after a commit and in a
    new mount, as on a plain directory and in the official library."""
    def run(*works, commit_between=True):
        here = tmp_path / "plain"
        here.mkdir()
        m = mounts.enter_context(repo.mount())
        for i, work in enumerate(works):
            work(here)
            work(m.main)
            expected = plain(read_tree(here))
            assert_same(plain(read_tree(m.main)), expected, f"step {i}, before the commit", ("mount", "plain"))
            if commit_between or i == len(works) - 1:
                firn_commit(m)
                got = read_tree(m.main)
                assert_same(plain(got), expected, f"step {i}, after the commit", ("mount", "plain"))
                assert_same(got, store_tree(repo.store()), f"step {i}, official", ("mount", "official"))
        m.umount()
        with repo.mount("--read-only") as again:
            assert_same(read_tree(again.main), got, "mounted again", ("again", "before"))
        return here

    def firn_commit(m):
        p = m.firn.run("commit", m, "-m", "step")
        assert p.returncode in (0, 4), (p.stdout, p.stderr)

    return run


# ---- trees without a tool ----

def group_json(**attributes):
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}).encode()


def array_json(shape, chunks, dtype="int8", **more):
    return json.dumps({
        "zarr_format": 3, "node_type": "array", "shape": list(shape), "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {}} | more).encode()


def replaced(m):
    """The driver dies, and another one takes over."""
    before = m.session()["worker"]
    os.kill(before, signal.SIGKILL)
    end = time.monotonic() + 30
    while children(m.pid) in ([], [before]) and time.monotonic() < end:
        time.sleep(0.005)
    assert m.session()["worker"] != before


def put(root, key, data):
    p = pathlib.Path(root) / key
    p.parent.mkdir(parents=True, exist_ok=True)
    p.write_bytes(data)
    return p


def put_array(root, path, shape, chunks, **more):
    """A group at the root if there is none, and an array."""
    if not (pathlib.Path(root) / "zarr.json").exists():
        put(root, "zarr.json", group_json())
    put(root, f"{path}/zarr.json", array_json(shape, chunks, **more))


def copytree(src, dst):
    shutil.copytree(src, dst, dirs_exist_ok=True)
