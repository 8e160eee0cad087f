"""What is wrong is refused at once, with an exit code and one line; what was there stays."""
import time
import errno
import json
import os
import random
import shutil

import pytest

from conftest import array_json, assert_committed, assert_same, group_json, put, put_array, read_tree, store_tree

GRID = {"name": "regular", "configuration": {"chunk_shape": [1]}}
BAD_DOCUMENTS = {
    "empty_object": b"{}",
    "no_json": b"hello",
    "half": array_json((4,), (1,))[:-20],
    "nan": array_json((4,), (1,)).replace(b'"fill_value": 0', b'"fill_value": NaN'),
    "trailing_comma": group_json().replace(b"}}", b"},}"),
    "two_values": group_json() + group_json(),
    "unknown_node_type": b'{"zarr_format": 3, "node_type": "table"}',
    "no_shape": b'{"zarr_format": 3, "node_type": "array"}',
    "negative_shape": array_json((-4,), (1,)),
    "huge_grid": array_json((2 ** 33,), (1,)),
    "rank": array_json((4, 4), (1,)),
    "dot_separator": array_json((4,), (1,), chunk_key_encoding={"name": "default", "configuration": {"separator": "."}}),
    "v2_encoding": array_json((4,), (1,), chunk_key_encoding={"name": "v2", "configuration": {"separator": "/"}}),
    "no_utf8": group_json(x="y").replace(b"y", b"\xff\xfe"),
    "nul": group_json(x="y").replace(b"y", b"\x00"),
    "deep": b'{"zarr_format": 3, "node_type": "group", "attributes": ' + b"[" * 100000 + b"]" * 100000 + b"}",
    "empty_file": b"",
}


def write_closing(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        if data:
            os.write(fd, data)
    finally:
        os.close(fd)


def eventually(true):
    """The end of a handle, and what the kernel is told then, come after close(2)."""
    deadline = time.monotonic() + 5
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def content(path):
    """None: it is not there, or goes while it is looked at."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


@pytest.mark.sanitize
@pytest.mark.parametrize("name", BAD_DOCUMENTS)
@pytest.mark.parametrize("how", ["in_place", "rename"])
def test_document(repo, mount, name, how):
    """EINVAL at close or at rename, the reason in .firn/errors, the content of before."""
    bad = BAD_DOCUMENTS[name]
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"x")
    mount.commit()
    for target in (mount.main / "a/zarr.json", mount.main / "new/zarr.json"):
        target.parent.mkdir(exist_ok=True)
        old = target.read_bytes() if target.exists() else None
        if name == "empty_file" and how == "in_place":
            # Editors and some tools create or truncate first and write later: no error yet,
            # but never a commit of it.
            write_closing(target, bad)
            mount.firn.run("commit", mount, "-m", "m", "--force")
            assert all(store_tree(repo.store()).values())
            write_closing(target, old if old else group_json())
            continue
        if name in ("no_json", "empty_file") and old is None:
            # Not even an attempt at a document, and no node there: a file like any other,
            # pending, and never part of a commit.
            put(mount.main, "new/zarr.json", bad)
            assert "new/zarr.json" in mount.control("status")
            target.unlink()
            continue
        with pytest.raises(OSError) as e:
            if how == "in_place":
                write_closing(target, bad)
            else:
                t = put(mount.main, f"{target.parent.name}/zarr.0123456789abcdef0123456789abcdef.partial", bad)
                try:
                    os.rename(t, target)
                finally:
                    t.unlink(missing_ok=True)
        assert e.value.errno == errno.EINVAL
        assert "zarr.json" in mount.control("errors")
        eventually(lambda: content(target) == old)
    assert (mount.main / "a/c/0").read_bytes() == b"x"
    mount.firn.run("commit", mount, "-m", "m", "--force")
    assert_committed(repo, mount.main)


def test_child_of_an_array__refused(mount):
    put_array(mount.main, "a", (4,), (1,))
    with pytest.raises(OSError) as e:
        put(mount.main, "a/child/zarr.json", group_json())
    assert e.value.errno == errno.EINVAL


@pytest.mark.parametrize("name", [".zarray", ".zgroup", ".zattrs", ".zmetadata"])
def test_zarr_v2_names__eperm(mount, name):
    put_array(mount.main, "a", (4,), (1,))
    for d in mount.main, mount.main / "a":
        with pytest.raises(PermissionError):
            (d / name).write_bytes(b"{}")
        t = d / f"{name}.tmp"
        t.write_bytes(b"{}")
        with pytest.raises(PermissionError):
            t.rename(d / name)
    assert name in mount.control("errors")


@pytest.mark.parametrize("name", ["00", "+1", "-1", "1.0", "01", "0x1", "4294967296", "99999999999999999999", " 1", "a"])
def test_chunk_names_that_are_none(repo, mount, name):
    """They are scratch or refused; never chunk 0 or 1."""
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"zero")
    put(mount.main, "a/c/1", b"one")
    try:
        put(mount.main, f"a/c/{name}", b"alias")
    except OSError:
        pass
    mount.commit("m", "--force")
    (mount.main / "a/c" / name).unlink(missing_ok=True)
    assert_committed(repo, mount.main)
    assert_same({k: v for k, v in read_tree(mount.main).items() if "/c/" in k}, {"a/c/0": b"zero", "a/c/1": b"one"})


def test_names(mount):
    put(mount.main, "zarr.json", group_json())
    with pytest.raises(OSError) as e:
        (mount.main / ("x" * 300)).mkdir()
    assert e.value.errno == errno.ENAMETOOLONG
    with pytest.raises(OSError):
        os.mkdir(os.fsencode(mount.main) + b"/\xff\xfe")


def test_geometry_change_with_old_chunks__commit_refuses(repo, mount):
    put_array(mount.main, "a", (8,), (1,))
    put(mount.main, "a/c/3", b"x")
    mount.commit()
    put(mount.main, "a/zarr.json", array_json((8,), (2,)))
    p = mount.firn.refuses("commit", mount, "-m", "m", saying="a")
    assert "chunk" in p.stderr
    (mount.main / "a/c/3").unlink()
    mount.commit()
    assert_committed(repo, mount.main)


# ---- repositories ----

def test_no_repository(firn, tmp_path):
    at = tmp_path / "mnt"
    at.mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for what in "empty", "file", "nowhere":
        firn.refuses("mount", tmp_path / what, at, saying=what)
        firn.refuses("log", tmp_path / what, saying=what)
    assert os.listdir(at) == []


def test_damaged_repository(firn, repo, mount, tmp_path):
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"x" * 1000)
    snapshot = mount.commit()
    mount.umount()
    at = tmp_path / "mnt2"
    at.mkdir()
    for victim in ("repo", f"snapshots/{snapshot}"):
        for damage in (b"", b"garbage", None):
            shutil.rmtree(tmp_path / "copy", ignore_errors=True)
            shutil.copytree(repo.path, tmp_path / "copy")
            f = tmp_path / "copy" / victim
            if damage is None:
                data = bytearray(f.read_bytes())
                data[len(data) // 2] ^= 0x55
                data[40] ^= 0xff
                f.write_bytes(data)
            else:
                f.write_bytes(damage)
            firn.refuses("mount", tmp_path / "copy", at, saying=victim.partition("/")[2])


def test_missing_chunk_object__open_works_read_is_eio(repo, mount):
    put_array(mount.main, "a", (4,), (1,))
    put(mount.main, "a/c/0", b"x" * 70_000)
    put(mount.main, "a/c/1", b"y" * 70_000)
    mount.commit()
    mount.umount()
    objects = sorted((repo.path / "chunks").iterdir())
    for o in objects:
        if o.read_bytes()[:1] == b"x":
            o.rename(repo.path.parent / "gone")
            lost = o
        else:
            keep = o.read_bytes()
            o.write_bytes(keep[:100])
            short = o
    try:
        with repo.mount("--read-only") as m:
            for i in 0, 1:
                assert (m.main / f"a/c/{i}").stat().st_size == 70_000
                with open(m.main / f"a/c/{i}", "rb") as f, pytest.raises(OSError) as e:
                    f.read()
                assert e.value.errno == errno.EIO
            assert "a/c/0" in m.control("errors") and "a/c/1" in m.control("errors")
            assert lost.name in m.control("errors")
    finally:
        (repo.path.parent / "gone").rename(lost)
        short.write_bytes(keep)


def test_mount_options(firn, repo, tmp_path):
    at = tmp_path / "mnt2"
    at.mkdir()
    firn.refuses("mount", repo, at, "-b", "nosuch", saying="nosuch")
    firn.refuses("mount", repo, at, "--tag", "nosuch", saying="nosuch")
    firn.refuses("mount", repo, at, "--snapshot", "0" * 20, saying="0" * 20)
    firn.refuses("mount", repo, at, "--snapshot", "no id")
    firn.refuses("mount", repo, at, "-b", "main", "--tag", "t", code=2)
    firn.refuses("mount", repo, at, "-o", "nosuchoption=1", code=2, saying="nosuchoption")
    firn.refuses("mount", repo, code=2)
    firn.refuses("mount", repo, tmp_path / "nodir", saying="nodir")
    f = tmp_path / "file"
    f.write_text("x")
    firn.refuses("mount", repo, f, saying="file")
    firn.refuses("mount", "--resume", "0" * 20, at, saying="0" * 20)
    assert os.listdir(at) == []


def test_mount_point_in_use(firn, repo, mount):
    firn.refuses("mount", repo, mount, saying=str(mount.path))
    put_array(mount.main, "a", (4,), (1,))
    firn.refuses("mount", repo, mount, saying=str(mount.path))
    assert (mount.main / "a/zarr.json").exists()


def test_usage(firn, repo, mount):
    for args in ([], ["nosuch"], ["mount"], ["commit", mount], ["commit", mount, "-m"], ["merge", mount], ["init"],
                 ["log", "--nosuch"], ["commit", mount, "-m", "m", "--favor", "nobody"], ["run", repo, "-m", "m"],
                 ["commit", mount, "-m", "m", "--rebase=sometimes"], ["fork", mount, "a", "b", "c"]):
        p = firn.run(*args)
        assert p.returncode == 2 and p.stderr and not p.stdout, (args, p.returncode, p.stdout, p.stderr)


def test_commit_of_nothing(firn, repo, mount, tmp_path):
    assert firn.run("commit", mount, "-m", "m").returncode == 4
    first = mount.commit("m", "--allow-empty")
    assert repo.official().lookup_branch("main") == first
    firn.refuses("commit", tmp_path / "nothing.journal", "-m", "m", saying="nothing.journal")
    firn.refuses("umount", tmp_path, saying=str(tmp_path))


# ---- journals ----

@pytest.fixture
def journal(repo, mount, tmp_path):
    """A journal of a fork with documents and chunks, and its coordinator."""
    put_array(mount.main, "a", (50,), (1,))
    mount.commit()
    repo.firn("fork", mount, "-o", tmp_path / "fork.json")
    with repo.worker(tmp_path / "fork.json") as w:
        put_array(w.main, "n", (4,), (1,))
        for i in range(30):
            put(w.main, f"a/c/{i}", b"x" * (i + 1))
        put(w.main, "a/c/40", b"L" * 2000)
        w.umount("--export", tmp_path / "w.journal")
    return tmp_path / "w.journal"


@pytest.mark.sanitize
def test_damaged_journal__never_commits_anything_else(firn, repo, mount, journal, tmp_path):
    """Cut anywhere or with a byte changed: refused, or what is left of an unsealed one, never wrong content."""
    good = journal.read_bytes()
    rng = random.Random(1)
    bad = tmp_path / "bad.journal"
    cuts = [0, 1, 7, 8, 20, len(good) // 3, len(good) // 2, len(good) - 30, len(good) - 1]
    flips = sorted(rng.randrange(len(good)) for _ in range(14))
    before = repo.official().lookup_branch("main")
    for data in [good[:n] for n in cuts] + [good[:i] + bytes([good[i] ^ 0x41]) + good[i + 1:] for i in flips]:
        bad.write_bytes(data)
        p = firn.run("journal", "verify", bad)
        assert p.returncode in (1, 3) and p.stderr.count("\n") == 1 and "bad.journal" in p.stderr, (p.returncode, p.stderr)
        p = firn.run("commit", mount, bad, "-m", "m")
        assert p.returncode in (1, 3), (p.returncode, p.stderr)
    bad.write_bytes(good + b"more")
    assert firn.run("commit", mount, bad, "-m", "m").returncode == 1
    assert repo.official().lookup_branch("main") == before
    firn("journal", "verify", journal)
    mount.firn.snapshot("commit", mount, journal, "-m", "good")
    assert_committed(repo, mount.main)
    assert len([k for k in read_tree(mount.main) if k.startswith("a/c/")]) == 31


def test_journal_that_is_something_else(firn, mount, tmp_path):
    other = tmp_path / "other"
    for data in (b"", b"\x00" * 4096, b"not a journal\n", json.dumps({"a": 1}).encode(), os.urandom(3000)):
        other.write_bytes(data)
        firn.refuses("journal", "show", other, saying="other")
        firn.refuses("commit", mount, other, "-m", "m", saying="other")


def test_journal_whose_chunks_are_gone(firn, repo, mount, journal):
    chunk = next(p for p in (repo.path / "chunks").iterdir() if b"L" * 2000 in p.read_bytes())
    data = chunk.read_bytes()
    chunk.unlink()
    firn.refuses("journal", "verify", journal, saying=chunk.name)
    p = firn.run("commit", mount, journal, "-m", "m")
    assert p.returncode == 1 and "a" in p.stderr
    chunk.write_bytes(data[:100])
    firn.refuses("journal", "verify", journal)
    assert firn.run("commit", mount, journal, "-m", "m").returncode == 1
    chunk.write_bytes(data)
    firn.snapshot("commit", mount, journal, "-m", "m")
    assert_committed(repo, mount.main)
