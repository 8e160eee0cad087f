"""Reading: golden repositories of both formats, branches, tags, snapshots and times."""
import errno
import hashlib
import json
import os
import shutil
import subprocess
import time

import numpy as np
import pytest
import zarr
from zarr.core.buffer import cpu
from zarr.core.sync import sync

from conftest import (GOLDEN, HERE, Mount, Repo, array_json, assert_same, drop_caches, group_json, put, put_array, read_tree,
                      store_tree)

NAMES = ["v1", "v2", "v2-split"]


@pytest.fixture
def golden(firn, tmp_path):
    def get(name):
        shutil.copytree(GOLDEN / name / "repo", tmp_path / name)
        contents = json.loads((GOLDEN / name / "contents.json").read_text())
        return Repo(firn, tmp_path / name, tmp_path / "mnt"), contents
    return get


def digest(tree):
    return {k: [len(v), hashlib.sha256(v).hexdigest()] for k, v in tree.items()}


def option(ref):
    kind, _, name = ref.partition("/")
    return {"branch": ["-b", name, "--read-only"], "tag": ["--tag", name], "snapshot": ["--snapshot", name]}[kind], name


@pytest.mark.parametrize("name", NAMES)
def test_golden__each_version_through_a_mount_of_its_own(golden, name):
    repo, contents = golden(name)
    for ref, want in contents.items():
        args, dirname = option(ref)
        with repo.mount(*args, name=dirname) as m:
            assert_same(digest(read_tree(m.main)), want, ref, ("mount", "contents.json"))


@pytest.mark.sanitize
@pytest.mark.parametrize("name", NAMES)
def test_golden__each_version_in_one_mount(golden, name):
    repo, contents = golden(name)
    with repo.mount("--read-only") as m:
        for ref, want in contents.items():
            kind, _, n = ref.partition("/")
            at = m.path / ".firn" / {"branch": "branches", "tag": "tags", "snapshot": "snapshots"}[kind] / n
            assert_same(digest(read_tree(at)), want, ref, ("mount", "contents.json"))
            assert_same(read_tree(at), {k: (at / k).read_bytes() for k in want}, ref)   # listed and looked up
        assert sorted(os.listdir(m.path)) == ["main"]
        assert {f"branch/{b}" for b in os.listdir(m.path / ".firn/branches")} == {r for r in contents if r[0] == "b"}
        assert {f"tag/{t}" for t in os.listdir(m.path / ".firn/tags")} == {r for r in contents if r[0] == "t"}
        for dirty in ".firn/branches/none", ".firn/tags/gone", ".firn/snapshots/00000000000000000000":
            assert not (m.path / dirty).exists()


@pytest.mark.parametrize("name", NAMES)
def test_golden__read_with_zarr(golden, name):
    repo, _ = golden(name)
    with repo.mount("--read-only") as m:
        g = zarr.open_group(str(m.main), mode="r")
        official = zarr.open_group(repo.store(), mode="r")
        for key, a in official.members(max_depth=None):
            if isinstance(a, zarr.Array):
                assert (g[key][...] == a[...]).all(), key
            assert dict(g[key].attrs) == dict(a.attrs)
        assert dict(g.attrs) == dict(official.attrs)


@pytest.mark.parametrize("name", NAMES)
def test_golden__refuses_to_change(golden, name):
    repo, contents = golden(name)
    before = read_tree(repo.path)
    with repo.mount("--read-only") as m:
        root = [m.main, m.path / ".firn/branches/main"]
        for d in root:
            for act in (lambda: (d / "zarr.json").write_bytes(b"{}"), lambda: (d / "new").mkdir(),
                        lambda: (d / "zarr.json").unlink(), lambda: (d / "zarr.json").rename(d / "x"),
                        lambda: os.truncate(d / "zarr.json", 0), lambda: shutil.rmtree(d)):
                with pytest.raises(OSError) as e:
                    act()
                assert e.value.errno == errno.EROFS, e.value
        p = m.firn.run("commit", m, "-m", "m")
        assert p.returncode in (1, 4) and p.stderr
    assert_same(read_tree(repo.path), before)


def test_format1__is_read_not_written(golden):
    repo, contents = golden("v1")
    before = read_tree(repo.path)
    at = repo.mountpoint()
    at.mkdir(parents=True)
    p = repo.firn.run("mount", repo, at)
    assert p.returncode == 1
    for word in (str(repo.path), "format 1", "--read-only", "upgrade_icechunk_repository"):
        assert word in p.stderr, p.stderr
    with repo.mount("--read-only") as m:
        with pytest.raises(OSError) as e:
            put_array(m.main, "new", (3,), (1,))
        assert e.value.errno == errno.EROFS
        assert_same(digest(read_tree(m.main)), contents["branch/main"])
    assert_same(read_tree(repo.path), before)


V1 = """
import sys, json, icechunk, zarr, numpy as np
assert icechunk.__version__.startswith("1.")
path = sys.argv[1]
if sys.argv[2] == "write":
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(path))
    s = repo.writable_session("main")
    g = zarr.open_group(s.store, mode="a", attributes={"written": "by 1.x"})
    g.create_array("a", shape=(30, 20), chunks=(7, 9), dtype="f8")[:] = np.arange(600).reshape(30, 20)
    g.create_array("g/small", shape=(500,), chunks=(2,), dtype="i4", compressors=None)[:] = np.arange(500)
    repo.create_tag("t", s.commit("one"))
    s = repo.writable_session("main")
    zarr.open_group(s.store)["a"][3] = -1
    s.commit("two")
"""


def test_format1__as_its_own_library_wrote_it(firn, tmp_path):
    """Written by icechunk 1.1.21, in an environment of its own, and read here by both."""
    python = HERE.parent / "build/venv-ic1/bin/python"
    p = subprocess.run([python, "-c", V1, tmp_path / "one", "write"], capture_output=True, text=True, check=False)
    assert p.returncode == 0, p.stderr
    repo = Repo(firn, tmp_path / "one", tmp_path / "mnt")
    with repo.mount("--read-only") as m:
        assert_same(read_tree(m.main), store_tree(repo.store()), names=("mount", "official"))
        assert_same(read_tree(m.path / ".firn/tags/t"), store_tree(repo.store(tag="t")), names=("mount", "official"))
        assert zarr.open_group(str(m.main), mode="r")["a"][3].sum() == -20


def test_as_of(repo, mount):
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"one")
    mount.commit("one")
    time.sleep(1.1)
    between = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    time.sleep(1.1)
    put(mount.main, "a/c/0", b"two")
    put(mount.main, "a/c/1", b"two")
    mount.commit("two")
    m = Mount(repo.firn, repo.mountpoint(), ["--as-of", between, repo.path])
    with m:
        shown = [n for n in os.listdir(m.path)]
        assert len(shown) == 1
        assert_same({k: v for k, v in read_tree(m.path / shown[0]).items() if "/c/" in k}, {"a/c/0": b"one"})
    repo.firn.refuses("mount", "--as-of", "1999-01-01T00:00:00Z", repo, repo.mountpoint())
    repo.firn.refuses("mount", "--as-of", "yesterday-ish", repo, repo.mountpoint(), code=2)


def test_other_branches_in_the_mount_follow(repo, mount, firn):
    put_array(mount.main, "a", (4,), (1,))
    first = mount.commit("one")
    firn("tag", "create", repo, "t1", first)
    firn("branch", "create", repo, "dev", first)
    put(mount.main, "a/c/0", b"later")
    assert (mount.path / ".firn/tags/t1/a/zarr.json").exists()
    assert not (mount.path / ".firn/tags/t1/a/c/0").exists()
    with repo.mount("-b", "dev", name="dev") as dev:
        put(dev.main, "a/c/1", b"dev")
        dev.commit("on dev")
    assert (mount.path / ".firn/branches/dev/a/c/1").read_bytes() == b"dev"
    assert not (mount.main / "a/c/1").exists()
    second = mount.commit("two")
    assert set(os.listdir(mount.path / ".firn/branches")) == {"main", "dev"}
    assert (mount.path / f".firn/snapshots/{second}/a/c/0").read_bytes() == b"later"


def test_name_option(repo):
    with repo.mount("-o", "name=data", name="data") as m:
        put_array(m.main, "a", (4,), (1,))
        assert os.listdir(m.path) == ["data"]
        m.commit()


def test_mtime_is_the_snapshots(repo, mount):
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"x")
    mount.commit()
    with repo.mount("--read-only") as m:
        flushed = next(iter(repo.official().ancestry(branch="main"))).written_at.timestamp()
        assert abs((m.main / "a/c/0").stat().st_mtime - flushed) < 1.5
        assert (m.main / "a/c/0").stat().st_size == 1


def times(root):
    """Time of change of everything, looked at without listing first."""
    def of(path):
        st = os.stat(path)
        return st.st_mtime_ns, st.st_ctime_ns

    paths = ["", "zarr.json", "a", "a/zarr.json", "a/c", "a/c/0", "g", "g/zarr.json", "g/h", "g/h/zarr.json", "g/h/b", "g/h/b/c/1/0"]
    return {path: of(root / path) for path in paths}


@pytest.mark.parametrize("where", ["session", "read-only", "branch"])
def test_looking_changes_no_time(repo, tmp_path, where):
    """tar says of a directory whose time changes while it is read that it changed, and fails."""
    with repo.mount() as m:
        put_array(m.main, "a", (4,), (1,))
        put(m.main, "a/c/0", b"x")
        put(m.main, "g/zarr.json", group_json())
        put(m.main, "g/h/zarr.json", group_json())
        put_array(m.main, "g/h/b", (4, 4), (1, 1))
        put(m.main, "g/h/b/c/1/0", b"y" * 1000)
        m.commit()
    written = next(iter(repo.official().ancestry(branch="main"))).written_at.timestamp()
    with repo.mount(*["--read-only"] * (where == "read-only")) as m:
        root = m.path / ".firn/branches/main" if where == "branch" else m.main
        r = subprocess.run(["tar", "cf", tmp_path / "x.tar", "-C", root, "."], capture_output=True, text=True)
        assert (r.returncode, r.stderr) == (0, "")
        for _ in range(2):
            assert {p for p, t in times(root).items() if abs(t[0] / 1e9 - written) > 1.5 or abs(t[1] / 1e9 - written) > 1.5} == set()
            read_tree(root)
            drop_caches()


def test_changes_change_the_time_of_their_directory(repo):
    with repo.mount() as m:
        put_array(m.main, "a", (4, 4), (1, 1))
        put(m.main, "a/c/0/0", b"x")
        put(m.main, "g/zarr.json", group_json())
        m.commit()
    with repo.mount() as m:
        def changed(what):
            before = {d: os.stat(m.main / d).st_mtime_ns for d in ("", "a", "a/c", "a/c/0", "g")}
            what()
            return {d for d, t in before.items() if os.stat(m.main / d).st_mtime_ns != t}

        assert changed(lambda: os.mkdir(m.main / "a/c/1")) == {"a/c"}
        assert changed(lambda: (m.main / "a/c/0/1").write_bytes(b"new")) == {"a/c/0"}
        assert changed(lambda: (m.main / "a/c/0/x.partial").write_bytes(b"replaces")) == {"a/c/0"}
        assert changed(lambda: os.rename(m.main / "a/c/0/x.partial", m.main / "a/c/0/0")) == {"a/c/0"}
        assert changed(lambda: os.unlink(m.main / "a/c/0/0")) == {"a/c/0"}
        assert changed(lambda: os.rmdir(m.main / "a/c/1")) == {"a/c"}
        assert changed(lambda: os.mkdir(m.main / "new")) == {""}
        assert changed(lambda: os.rename(m.main / "new", m.main / "g/new")) == {"", "g"}
        assert changed(lambda: (m.main / "g/note").write_bytes(b"note")) == {"g"}
        assert changed(lambda: os.listdir(m.main / "a/c/0")) == set()


def test_wide_array__listing_and_memory(repo):
    """200,000 refs: directories come from sorted refs; the driver's memory does not grow with a walk."""
    n = 200_000
    w = repo.official().writable_session("main")
    sync(w.store.set("zarr.json", cpu.Buffer.from_bytes(group_json())))
    sync(w.store.set("a/zarr.json", cpu.Buffer.from_bytes(array_json((n, 1), (1, 1)))))
    w.store.set_virtual_refs_arr("/a", (n, 1), ["s3://bucket/file.nc"] * n, np.arange(n, dtype="u8") * 8,
                                 np.full(n, 8, dtype="u8"), validate_containers=False)
    w.commit("virtual")
    with repo.mount("--read-only") as m:
        def hwm():
            with open(f"/proc/{m.pid}/status") as f:
                return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        before = hwm()
        assert (m.main / "a/c/199999/0").stat().st_size == 8
        assert sum(1 for _ in os.scandir(m.main / "a/c")) == n
        assert os.listdir(m.main / "a/c/77") == ["0"]
        assert hwm() - before < 150_000


def test_damaged_ref_of_format_1__is_missing_alone(golden):
    """The rest of the repository can be read; who asks for that ref is told which object is broken."""
    repo, contents = golden("v1")
    refs = sorted(p.name for p in (repo.path / "refs").iterdir())
    branch = next(r.partition(".")[2] for r in refs if r.startswith("branch.") and r != "branch.main")
    tag = next(n for n in refs if n.startswith("tag.") and not (repo.path / f"refs/{n}/ref.json.deleted").exists()).partition(".")[2]
    (repo.path / f"refs/branch.{branch}/ref.json").write_text('{"snapshot": "half')
    sound = (repo.path / f"refs/tag.{tag}/ref.json").read_bytes()
    (repo.path / f"refs/tag.{tag}/ref.json").write_bytes(b"")
    with repo.mount("--read-only") as m:
        assert_same(digest(read_tree(m.main)), contents["branch/main"])
        assert branch in os.listdir(m.path / ".firn/branches") and tag in os.listdir(m.path / ".firn/tags")
        for path in f".firn/branches/{branch}", f".firn/tags/{tag}":
            with pytest.raises(OSError) as caught:
                os.listdir(m.path / path)
            assert caught.value.errno == errno.EIO
        errors = m.control("errors")
        assert f"refs/branch.{branch}/ref.json" in errors and f"refs/tag.{tag}/ref.json" in errors
    at = repo.mountpoint()
    at.mkdir()
    for args in (["-b", branch, "--read-only"], ["--tag", tag]):
        repo.firn.refuses("mount", *args, repo, at, saying=["refs/", "ref.json", "restore it"])
    repo.firn.refuses("log", repo, "-b", branch, saying=f"refs/branch.{branch}/ref.json")
    listed = {r["name"]: r for r in repo.firn.json("branch", "list", repo)}
    assert listed[branch]["snapshot"] is None and "ref.json" in listed[branch]["damage"]
    assert len(listed["main"]["snapshot"]) == 20
    assert "damaged" in repo.firn("tag", "list", repo)
    # main itself: the others are there still.
    (repo.path / f"refs/tag.{tag}/ref.json").write_bytes(sound)
    (repo.path / "refs/branch.main/ref.json").write_bytes(b"\xff")
    repo.firn.refuses("mount", "--read-only", repo, at, saying="refs/branch.main/ref.json")
    with repo.mount("--tag", tag, name=tag) as m:
        assert_same(digest(read_tree(m.main)), contents[f"tag/{tag}"])
