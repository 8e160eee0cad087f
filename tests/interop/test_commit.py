"""Commits: branches that moved, amendments, metadata, many committers, and what the commands print."""
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from conftest import PATIENCE, assert_committed, assert_same, group_json, put, put_array, read_tree, store_tree


def test_metadata_and_log(firn, repo, mount):
    put_array(mount.main, "a", (4,), (1,))
    id = mount.commit("first: žluť\nsecond line", "--metadata", "who=me", "--metadata", "n=1", "--metadata", 'l=[1,"x",null]',
                      "--metadata", "f=1.5", "--metadata", 'm={"k": true}')
    info = next(iter(repo.official().ancestry(branch="main")))
    assert info.id == id and info.message == "first: žluť\nsecond line"
    assert info.metadata == {"who": "me", "n": 1, "l": [1, "x", None], "f": 1.5, "m": {"k": True}}
    for where in repo, mount:
        log = firn.json("log", where)
        assert log[0]["id"] == id and log[0]["message"] == info.message and len(log) == 2
        assert log[0]["metadata"] == info.metadata
        assert id in firn("log", where)
    assert id in mount.control("log")
    assert id in firn("show", repo, id)


@pytest.mark.parametrize("value", ["[" * 65 + "]" * 65, "123456789012345678901234567890", "9223372036854775808",
                                   '{"a": [1, -9223372036854775809]}', "1e400", '"a\\u0000b"', '"\\ud800"',
                                   '["\\ud83c\\ud83c\\udf89"]', '{"\\udf89": 1}'])
def test_metadata__json_that_cannot_be_kept_is_text(firn, repo, mount, value):
    put(mount.main, "zarr.json", group_json())
    mount.commit("m", "--metadata", f"k={value}", "--metadata", 'l=[9223372036854775807, "\\ud83c\\udf89\\\\u0000", 1e300]',
                 "--metadata", "d=" + "[" * 64 + "]" * 64)
    info = next(iter(repo.official().ancestry(branch="main")))
    assert info.metadata["k"] == value and info.metadata["l"] == [2**63 - 1, "🎉\\u0000", 1e300]
    assert json.loads(firn("log", repo, "--json"))[0]["metadata"]["k"] == value


def raw_metadata(repo):
    """The metadata of the repository and of the snapshots, values as bytes."""
    import icedump
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(icedump, "flex_decode", bytes)
        _, doc = icedump.decode_file((repo.path / "repo").read_bytes())
    return doc["metadata"], {s["id"]: s["metadata"] for s in doc["snapshots"]}


def nested(n):
    return [nested(n - 1)] if n else "x\0"


ODD = {"k": "a\0b", "end": ["x\0", {"deep": "\0\0"}], "a\0b": 1, "a": 2, "n": nested(110), "i": float("inf")}


def test_metadata_of_others__what_json_cannot_hold_stays(firn, repo, mounts):
    official = repo.official()
    session = official.writable_session("main")
    zarr.create_group(session.store)
    theirs = session.commit("m", metadata=ODD)
    official.set_metadata(ODD)
    values = official.metadata, next(iter(official.ancestry(branch="main"))).metadata
    before = raw_metadata(repo)
    assert values[0]["k"] == "a\0b" and before[0]["k"] == before[1][theirs]["k"]
    shown = firn.json("log", repo)[0]["metadata"]
    assert shown["k"] == "a\ufffdb" and shown["end"] == ["x\ufffd", {"deep": "\ufffd\ufffd"}]
    m = mounts.enter_context(repo.mount())
    put(m.main, "zarr.json", group_json(a=1))
    ours = m.commit("ours", "--metadata", "k=v")
    after = raw_metadata(repo)
    assert after[1].pop(ours).keys() == {"k"}
    assert after == before
    official = repo.official()
    assert (official.metadata, list(official.ancestry(branch="main"))[1].metadata) == values
    repo.check()


def test_log_matches_official_over_many(firn, repo, mount):
    put_array(mount.main, "a", (9,), (1,))
    ids = [mount.commit("0")]
    for i in range(9):
        put(mount.main, f"a/c/{i}", b"x")
        ids.append(mount.commit(str(i + 1)))
    theirs = [a.id for a in repo.official().ancestry(branch="main")]
    assert theirs[:-1] == ids[::-1]
    assert [e["id"] for e in firn.json("log", repo)] == theirs
    ops = repo.official().ops_log()
    assert len(list(ops)) >= 10


def moved(repo, mount, ours, theirs):
    """The branch moves under a session: `theirs` by the official library, then `ours` in the mount."""
    put_array(mount.main, "a", (9,), (1,))
    put_array(mount.main, "b", (9,), (1,))
    put(mount.main, "a/c/0", b"0")
    mount.commit("base")
    s = repo.official().writable_session("main")
    from zarr.core.buffer import cpu
    from zarr.core.sync import sync
    for k, v in theirs.items():
        sync(s.store.set(k, cpu.Buffer.from_bytes(v)) if v is not None else s.store.delete(k))
    s.commit("theirs")
    for k, v in ours.items():
        put(mount.main, k, v) if v is not None else (mount.main / k).unlink()


def test_moved__refused_without_rebase(firn, repo, mount):
    moved(repo, mount, {"a/c/1": b"ours"}, {"a/c/2": b"theirs"})
    p = firn.run("commit", mount, "-m", "m")
    assert p.returncode == 3 and "--rebase" in p.stderr, p.stderr
    assert (mount.main / "a/c/1").read_bytes() == b"ours" and not (mount.main / "a/c/2").exists()
    mount.commit("m", "--rebase")
    assert (mount.main / "a/c/2").read_bytes() == b"theirs"
    assert_committed(repo, mount.main)
    assert [a.message for a in repo.official().ancestry(branch="main")][:3] == ["m", "theirs", "base"]


@pytest.mark.parametrize("policy,winner", [("ours", b"ours"), ("theirs", b"theirs")])
def test_moved__chunk_conflict(firn, repo, mount, policy, winner):
    moved(repo, mount, {"a/c/1": b"ours", "b/c/5": b"ours"}, {"a/c/1": b"theirs", "a/c/3": b"theirs"})
    p = firn.run("commit", mount, "-m", "m", "--rebase", "--json")
    assert p.returncode == 3
    conflicts = json.loads(p.stdout)["conflicts"]
    assert [(c["path"].strip("/"), c["coords"]) for c in conflicts] == [("a", [1])]
    mount.commit("m", f"--rebase={policy}")
    assert (mount.main / "a/c/1").read_bytes() == winner
    assert (mount.main / "a/c/3").read_bytes() == b"theirs" and (mount.main / "b/c/5").read_bytes() == b"ours"
    assert_committed(repo, mount.main)


@pytest.mark.parametrize("name,ours,theirs", [
    ("document_twice", {"zarr.json": group_json(x=1)}, {"zarr.json": group_json(x=2)}),
    ("chunk_in_changed_array", {"a/c/1": b"x"}, {"a/zarr.json": b"shrunk"}),
    ("new_twice", {"n/zarr.json": group_json(x=1)}, {"n/zarr.json": group_json(x=2)}),
])
def test_moved__what_rebase_refuses(firn, repo, mount, name, ours, theirs):
    from conftest import array_json
    theirs = {k: array_json((1,), (1,)) if v == b"shrunk" else v for k, v in theirs.items()}
    moved(repo, mount, ours, theirs)
    before = read_tree(mount.main)
    for policy in "fail", "ours", "theirs":
        assert firn.run("commit", mount, "-m", "m", f"--rebase={policy}").returncode == 3, policy
    assert_same(read_tree(mount.main), before)


def test_amend(firn, repo, mount):
    put_array(mount.main, "a", (9,), (1,))
    first = mount.commit("first")
    put(mount.main, "a/c/0", b"x")
    second = mount.commit("better", "--amend")
    history = [a.id for a in repo.official().ancestry(branch="main")]
    assert history[0] == second and first not in history and len(history) == 2
    assert_committed(repo, mount.main)


def test_four_committers_lose_nothing(firn, repo, mount, tmp_path):
    """Four processes with sessions of their own, committing to one branch with rebase."""
    n, rounds = 4, 10 if PATIENCE == 1 else 3
    put_array(mount.main, "a", (n * rounds,), (1,))
    mount.commit("base")

    def committer(i):
        ids = []
        with repo.mount() as m:
            for k in range(rounds):
                put(m.main, f"a/c/{i * rounds + k}", b"%d" % i)
                ids.append(m.commit(f"{i}.{k}", "--rebase"))
        return ids

    with ThreadPoolExecutor(n) as pool:
        ids = [id for ids in pool.map(committer, range(n)) for id in ids]
    history = {a.id for a in repo.official().ancestry(branch="main")}
    assert set(ids) <= history and len(set(ids)) == n * rounds
    assert len([k for k in store_tree(repo.store()) if k.startswith("a/c/")]) == n * rounds


def test_official_commits_between(firn, repo, mount):
    """Both write by turns; each opens the other's result."""
    zarr.open_group(str(mount.main), mode="w").create_array("a", shape=(20,), chunks=(2,), dtype="i4")
    mount.commit("0")
    for i in range(6):
        s = repo.official().writable_session("main")
        zarr.open_array(s.store, path="a", mode="r+")[i] = i + 1
        s.commit(f"official {i}")
        zarr.open_array(str(mount.main / "a"), mode="r+")[10 + i] = i + 1
        mount.commit(f"mount {i}", "--rebase=ours") if i % 2 else mount.commit(f"mount {i}", "--rebase")
        assert_committed(repo, mount.main)
    assert list(zarr.open_array(repo.store(), path="a", mode="r")[:6]) == [1, 2, 3, 4, 5, 6]


def test_few_chunks_of_many__rows_of_the_official_library_are_taken_over(firn, repo, mounts):
    """One change after the other to manifests that the official library wrote, and back again."""
    s = repo.official().writable_session("main")
    root = zarr.open_group(s.store, mode="w")
    for name, size in ("inline", 2), ("native", 300):
        a = root.create_array(name, shape=(20 * size, 20), chunks=(size, 1), dtype="i4", compressors=None)
        a[: 16 * size] = np.arange(16 * size * 20).reshape(16 * size, 20)
    s.commit("official")
    with repo.mount() as m:
        for i in range(4):
            for name, size in ("inline", 8), ("native", 1200):
                put(m.main, f"{name}/c/{i}/3", bytes([i + 1]) * size)          # one that is there
                put(m.main, f"{name}/c/{16 + i}/7", bytes([i + 1]) * size)     # and one that is not
                (m.main / name / f"c/{i + 5}/9").unlink()
            m.commit(f"mount {i}")
            assert_committed(repo, m.main)
        (m.main / "native/c/0/0").unlink()
        m.commit("the first is gone")
        assert_committed(repo, m.main)
    s = repo.official().writable_session("main")
    zarr.open_array(s.store, path="native", mode="r+")[0] = 7
    s.commit("official again")
    with repo.mount() as m:
        put(m.main, "native/c/2/2", b"z" * 1200)
        m.commit("mount again")
        assert_committed(repo, m.main)


def test_branches_and_tags(firn, repo, mount):
    put_array(mount.main, "a", (9,), (1,))
    first = mount.commit("first")
    put(mount.main, "a/c/0", b"x")
    second = mount.commit("second")
    firn("tag", "create", repo, "v1", first)
    firn("branch", "create", repo, "dev", "v1")
    official = repo.official()
    assert official.lookup_tag("v1") == first and official.lookup_branch("dev") == first
    assert {b["name"]: b["snapshot"] for b in firn.json("branch", "list", repo)} == {"main": second, "dev": first}
    assert [t["name"] for t in firn.json("tag", "list", mount)] == ["v1"]
    firn("reset", repo, "dev", second)
    assert repo.official().lookup_branch("dev") == second
    firn.refuses("tag", "create", repo, "v1", second, saying="v1")
    firn("tag", "delete", repo, "v1")
    firn.refuses("tag", "create", repo, "v1", second, saying="v1")       # a deleted tag's name is gone for good
    firn("branch", "delete", repo, "dev")
    firn.refuses("branch", "delete", repo, "main", saying="main")
    assert set(repo.official().list_branches()) == {"main"} and not repo.official().list_tags()
    with pytest.raises(AssertionError):
        firn("branch", "create", repo, "dev", "nosuch")


def test_branch_mount_commits_to_its_branch(firn, repo, mount):
    put_array(mount.main, "a", (9,), (1,))
    first = mount.commit("first")
    firn("branch", "create", repo, "dev", first)
    with repo.mount("-b", "dev", name="dev") as dev:
        put(dev.main, "a/c/1", b"dev")
        id = dev.commit("on dev")
        assert_committed(repo, dev.main, "dev")
    assert repo.official().lookup_branch("dev") == id and repo.official().lookup_branch("main") == first


def test_status_diff_discard(firn, repo, mount):
    put_array(mount.main, "a", (9,), (1,))
    put(mount.main, "a/c/0", b"x")
    mount.commit()
    put(mount.main, "a/c/1", b"y")
    (mount.main / "a/c/0").unlink()
    put_array(mount.main, "new", (9,), (1,))
    for text in firn("status", mount), mount.control("status"):
        assert "/new" in text
    diff = firn("diff", mount)
    assert "/a" in diff and "/new" in diff
    assert firn.json("status", mount)
    assert firn.json("diff", mount)
    assert firn.run("status", cwd=mount.main / "a").stdout == firn("status", mount)
    firn("discard", mount)
    assert set(read_tree(mount.main)) == {"zarr.json", "a/zarr.json", "a/c/0"}
    assert firn.run("commit", mount, "-m", "m").returncode == 4
    put(mount.main, "a/c/5", b"goes on")
    mount.commit()
    assert_committed(repo, mount.main)


def test_ls_cat_diff_of_snapshots(firn, repo, mount):
    put_array(mount.main, "g/a", (9,), (1,))
    put(mount.main, "g/a/c/0", b"content")
    first = mount.commit()
    put(mount.main, "g/a/c/1", b"more")
    second = mount.commit()
    assert "a" in firn("ls", repo, "/g")
    assert firn("cat", repo, "/g/a/c/0") == "content"
    assert json.loads(firn("cat", repo, "/g/zarr.json"))["node_type"] == "group"
    assert "/g/a" in firn("diff", repo, first, second)
    firn.refuses("cat", repo, "/g/nothing", saying="nothing")


def test_diff__tells_the_chunk_of_a_scalar(firn, repo, mount):
    put_array(mount.main, "s", (), ())
    put(mount.main, "s/c", b"1")
    first = mount.commit()
    put(mount.main, "s/c", b"2")
    uncommitted = [e["chunks"] for e in firn.json("diff", mount) if e["path"] == "/s"]
    second = mount.commit()
    [changed] = [e for e in firn.json("diff", repo, first, second) if e["path"] == "/s"]
    assert [changed["chunks"]] == uncommitted == [[[]]]
    assert "c" in firn("diff", repo, first, second, "-c").replace("changed array", "")


def test_huge_and_sparse__has_no_more_manifests_than_anybody_can_look_at(repo, mount):
    """Most of such a grid stays empty, and every commit, of the official library too, looks at each part of it."""
    put_array(mount.main, "a", (4_000_000_000, 1_000_000), (1, 1))
    for i in range(3):
        put(mount.main, f"a/c/{i * 1_900_000_000}/7", b"x")
    mount.commit()
    assert_committed(repo, mount.main)
    s = repo.official().writable_session("main")
    zarr.open_array(s.store, path="a")[5, 5] = 1
    s.commit("official")
    [split] = repo.official().config.manifest.splitting.to_dict().values()
    grid = {"axis(0)": 4_000_000_000, "axis(1)": 1_000_000}
    cells = 1
    for axis, size in split.items():
        cells *= -(-grid[str(axis).rpartition(".")[2]] // size)
    assert 1000 < cells <= 16384


def test_run(firn, repo):
    script = "import os, zarr; zarr.create_array(os.environ['FIRN_MOUNT'], name='a', shape=(4,), chunks=(2,), dtype='u1')[:] = 1"
    id = firn.snapshot("run", repo, "-m", "by run", "--", sys.executable, "-c", script)
    assert repo.official().lookup_branch("main") == id
    firn.snapshot("run", repo, "-m", "copy", "--", "cp", "-r", "{}/a", "{}/b")
    assert (zarr.open_array(repo.store(), path="b", mode="r")[:] == 1).all()
    p = firn.run("run", repo, "-m", "fails", "--", "sh", "-c", "rm -rf {}/a; exit 7")
    assert p.returncode == 7
    assert "a/zarr.json" in store_tree(repo.store())
    assert firn.run("run", repo, "-m", "nothing", "--", "true").returncode == 4
    assert not [line for line in open("/proc/mounts") if str(repo.path) in line]


def test_sessions_and_stats(firn, repo, mount):
    put_array(mount.main, "a", (9,), (1,))
    s = mount.session()
    listed = firn.json("sessions")
    assert s["id"] in json.dumps(listed) and s["id"] in firn("sessions", repo)
    for key in "id", "repository", "branch", "base", "mode", "pid", "started", "version":
        assert key in s, key
    stats = mount.control("stats")
    assert all(line.startswith("#") or len(line.split()) == 2 for line in stats.splitlines()) and "firn_" in stats
    assert os.listdir(mount.path) == ["main"]


def test_doctor(firn, repo):
    assert firn("doctor") and firn("doctor", repo)
    assert firn.json("doctor", repo)


def test_help(firn):
    commands = [line.split()[0] for line in firn("--help").splitlines() if line.startswith("  ") and line.strip()]
    assert {"init", "mount", "umount", "commit", "fork", "merge", "log"} <= set(commands)
    for c in commands:
        assert c in firn(c, "--help")
    assert firn("--version").startswith("firn ")


def test_driver_itself(repo, tmp_path, firn):
    """firnfs with options of FUSE, and in the foreground."""
    from conftest import BIN, Mount
    at = repo.mountpoint()
    at.mkdir(parents=True)
    p = subprocess.Popen([BIN / "firnfs", "-f", "-o", "ro,name=x", repo.path, at], env=firn.env)
    import time
    for _ in range(500 * PATIENCE):
        if os.path.ismount(at):
            break
        time.sleep(0.02)
    with Mount(firn, at, [], name="x", mounted=True) as m:
        assert os.listdir(m.path) == ["x"] and m.pid == p.pid
        subprocess.run(["fusermount3", "-u", at], check=True)
        assert p.wait(30) == 0
        m.gone = True
