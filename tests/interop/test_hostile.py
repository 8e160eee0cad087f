"""Damaged and hostile repositories under a mount: EIO on exactly the paths that need what is
damaged, with its name in `errors`; nothing outside the repository is ever read; nobody else
gets in; no secret gets out."""
import errno
import json
import os
import pathlib
import resource
import shutil
import stat
import time

import icechunk as ic
import pytest
from zarr.core.buffer import cpu
from zarr.core.sync import sync

import damage
from conftest import GOLDEN, PATIENCE, Repo, array_json, as_nobody, group_json, put, put_array

EVERYTHING = ("snapshots", "manifests", "transactions")


@pytest.fixture
def three(firn, tmp_path):
    """Arrays a, b and g/c of 4 chunks each, the last two chunks native; a branch `side`; not checked at the end."""
    firn("init", tmp_path / "repo")
    repo = Repo(firn, tmp_path / "repo", tmp_path / "mnt")
    with repo.mount() as m:
        for name in "a", "b", "g/c":
            put_array(m.main, name, (4, 600), (1, 600))
            for i in range(4):
                put(m.main, f"{name}/c/{i}/0", bytes([65 + i]) * 600)
        m.commit("three")
        firn("branch", "create", repo, "side")
        put(m.main, "a/c/0/0", b"x" * 600)
        m.commit("on top")
    return repo


def tip(repo, ref="main"):
    return json.loads(repo.firn("show", repo, ref, "--json"))["id"]


def node(repo, path, ref="main"):
    _, _, tables = damage.parts(repo.path / "snapshots" / tip(repo, ref))
    return next(n for n in tables["nodes"] if n["path"] == path)


def manifest(repo, path, ref="main"):
    return damage.icedump.b32enc(node(repo, path, ref)["node_data"][1]["manifests"][0]["object_id"])


def sound(root, *names):
    for name in names:
        for i in range(4):
            want = b"x" if (name, i) == ("a", 0) else bytes([65 + i])
            assert (root / name / f"c/{i}/0").read_bytes() == want * 600, (name, i)


def refused(repo, *args):
    """What a mount that fails says."""
    at = repo.mountpoint()
    at.mkdir(parents=True, exist_ok=True)
    p = repo.firn.run("mount", *args, repo, at)
    assert p.returncode == 1 and not os.path.ismount(at)
    return p.stderr


def eio(path):
    with pytest.raises(OSError) as e:
        with open(path, "rb") as f:
            f.read()
    assert e.value.errno == errno.EIO, e.value


# ---- damage stays where it is ----

@pytest.mark.sanitize
@pytest.mark.parametrize("how", [damage.cut, pathlib.Path.unlink], ids=["cut", "gone"])
def test_manifest_of_one_array__that_array_only(three, how):
    name = manifest(three, "/b")
    how(three.path / "manifests" / name)
    with three.mount() as m:
        sound(m.main, "a", "g/c")
        assert sorted(os.listdir(m.main)) == ["a", "b", "g", "zarr.json"]
        assert json.loads((m.main / "b/zarr.json").read_bytes())["node_type"] == "array"
        # That there are chunks, the snapshot tells.
        assert (m.main / "b/c").is_dir()
        with pytest.raises(OSError) as e:
            os.listdir(m.main / "b/c")
        assert e.value.errno == errno.EIO
        for i in range(4):
            eio(m.main / f"b/c/{i}/0")
        assert f"manifests/{name}" in m.control("errors")
        # Work goes on beside it, and what replaces the array replaces the damage.
        put(m.main, "a/c/1/0", b"y" * 600)
        m.commit("beside it")
        assert (m.main / "a/c/1/0").read_bytes() == b"y" * 600
        shutil.rmtree(m.main / "b", ignore_errors=True)
    assert three.firn.json("fsck", three, code=1)["findings"][0]["path"] == "/b"


@pytest.mark.parametrize("how", [damage.cut, pathlib.Path.unlink], ids=["cut", "gone"])
def test_chunk__that_chunk_only(three, how):
    [name] = [p.name for p in (three.path / "chunks").iterdir() if b"x" * 600 in p.read_bytes()]
    how(three.path / "chunks" / name)
    with three.mount() as m:
        eio(m.main / "a/c/0/0")
        sound(m.main, "b", "g/c")
        assert (m.main / "a/c/1/0").read_bytes() == b"B" * 600
        assert name in m.control("errors")
        put(m.main, "a/c/0/0", b"x" * 600)
        m.commit("written again")
        sound(m.main, "a", "b", "g/c")
    # What older snapshots need stays damaged.
    found = three.firn.json("fsck", "--deep", three, code=1)["findings"]
    assert [(f["object"], f["path"]) for f in found] == [(f"chunks/{name}", "/a/c/0/0")]


@pytest.mark.parametrize("version", [1, 2])
def test_snapshot_of_another_branch__that_branch_only(firn, tmp_path, version):
    shutil.copytree(GOLDEN / f"v{version}/repo", tmp_path / "repo")
    repo = Repo(firn, tmp_path / "repo", tmp_path / "mnt")
    with repo.mount("--read-only", "-b", "dev", name="dev") as m:
        name = m.session()["base"]
    damage.cut(repo.path / "snapshots" / name)
    with repo.mount("--read-only") as m:
        want = json.loads((GOLDEN / f"v{version}/contents.json").read_text())["branch/main"]
        for key, (size, _) in want.items():
            if not key.startswith("g/b/"):
                assert len((m.main / key).read_bytes()) == size
        # A look-up by name that fails must not read as "no such branch".
        with pytest.raises(OSError) as e:
            os.listdir(m.path / ".firn/branches/dev")
        assert e.value.errno == errno.EIO
        assert f"snapshots/{name}" in m.control("errors")
        assert os.listdir(m.path / ".firn/branches/main")
    assert name in refused(repo, "--read-only", "-b", "dev")


# ---- nothing outside ----

def virtual_repo(tmp_path, locations, config=None):
    repo = ic.Repository.create(ic.local_filesystem_storage(str(tmp_path / "repo")), config=config)
    if config is not None:
        repo.save_config()
    s = repo.writable_session("main")
    sync(s.store.set("zarr.json", cpu.Buffer.from_bytes(group_json())))
    sync(s.store.set("v/zarr.json", cpu.Buffer.from_bytes(array_json((len(locations),), (1,)))))
    for i, location in enumerate(locations):
        s.store.set_virtual_ref(f"v/c/{i}", location, offset=0, length=1, validate_container=False)
    s.commit("virtual")


@pytest.mark.sanitize
def test_virtual_locations__never_leave_the_prefix(firn, tmp_path):
    data, secret = tmp_path / "data", tmp_path / "secret"
    data.mkdir()
    secret.write_bytes(b"S")
    (data / "good").write_bytes(b"G")
    (data / "inside").symlink_to("good")
    (data / "out").symlink_to(secret)
    (data / "dir").symlink_to(tmp_path)
    os.mkfifo(data / "pipe")
    prefix = f"file://{data}"
    bad = ["/../secret", "/%2e%2e/secret", "/x/../../secret", "/out", "/dir/secret", "/pipe", "/dir", ".evil/x"]
    virtual_repo(tmp_path, [f"{prefix}/good", f"{prefix}/inside"] + [prefix + b for b in bad] +
                 [f"file://{secret}", "file:///dev/zero", "file:///etc/hostname", f"file://{tmp_path}/repo/repo"])
    repo = Repo(firn, tmp_path / "repo", tmp_path / "mnt")
    started = time.monotonic()
    with repo.mount("-o", f"virtual={prefix}/") as m:
        names = sorted(os.listdir(m.main / "v/c"), key=int)
        assert len(names) == len(bad) + 6
        for name in names[:2]:
            assert (m.main / "v/c" / name).read_bytes() == b"G"
        for name in names[2:]:
            eio(m.main / "v/c" / name)
            assert f"v/c/{name}" in m.control("errors")
        for name in names[2:]:
            firn.refuses("cat", repo, f"v/c/{name}", "--virtual", f"{prefix}/")
    assert time.monotonic() - started < 60 * PATIENCE, "it waited for the pipe"


@pytest.mark.sanitize
def test_paths_from_a_snapshot__never_leave_the_mount(firn, tmp_path):
    """Node paths that climb make the snapshot unreadable; names that only look so are names."""
    for path in ("/../evil", "/a/../../evil", "/./a", "/a//b", "a", "", "/a/", "/..", "/nul\0byte"):
        shutil.rmtree(tmp_path / "repo", ignore_errors=True)
        shutil.copytree(GOLDEN / "tiny-v2", tmp_path / "repo")
        repo = Repo(firn, tmp_path / "repo", tmp_path / "mnt")
        name = tip(repo)

        def change(tables):
            tables["nodes"][-1]["path"] = path
            tables["nodes"].sort(key=lambda n: n["path"].encode())

        damage.edit(repo.path / "snapshots" / name, change)
        assert name in refused(repo), path
        firn.refuses("ls", repo, saying=name)
        found = firn.json("fsck", repo, code=1)["findings"]
        assert ("damaged", f"snapshots/{name}") in [(f["kind"], f["object"]) for f in found], path


def test_names_in_repo__never_leave_the_repository(firn, tmp_path):
    """Branches and backups named like paths: no file is read or written elsewhere."""
    shutil.copytree(GOLDEN / "v2/repo", tmp_path / "repo")
    repo = Repo(firn, tmp_path / "repo", tmp_path / "mnt")

    def change(tables):
        tables["branches"].append({"name": "../../evil", "snapshot_index": 0})
        tables["branches"].sort(key=lambda b: b["name"].encode())
        tables["repo_before_updates"] = "../../evil"
        for update in tables["latest_updates"][1:]:
            update["backup_path"] = "../../../evil"

    damage.edit(repo.path / "repo", change)
    before = sorted(p for p in tmp_path.rglob("*") if "firn" not in p.parts and "mnt" not in p.parts)
    with repo.mount("--read-only") as m:
        assert os.listdir(m.path / ".firn/branches/..%2F..%2Fevil") == []
        assert "evil" not in os.listdir(m.path)
        firn("log", m)
    firn("tag", "create", repo, "t")
    after = sorted(p for p in tmp_path.rglob("*") if "firn" not in p.parts and "mnt" not in p.parts)
    assert [p for p in after if p not in before and p.parent not in (repo.path / "overwritten", repo.path / "firn")
            and p != repo.path / "firn"] == []


# ---- bombs ----

@pytest.mark.parametrize("kind", ["repo", "snapshots", "manifests", "transactions"])
def test_bomb__refused_with_bounded_memory(three, kind):
    size = (1 << 31) - 1
    code = {"repo": 6, "snapshots": 1, "manifests": 2, "transactions": 4}[kind]
    path = three.path / "repo" if kind == "repo" else three.path / kind / (
        manifest(three, "/b") if kind == "manifests" else tip(three))
    path.write_bytes(damage.bomb(code, size))
    assert path.stat().st_size < 100_000
    key = "repo" if kind == "repo" else f"{kind}/{path.name}"

    def little_memory():
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    limit = {} if PATIENCE > 1 else {"preexec_fn": little_memory}
    p = three.firn.run("fsck", "--json", three, **limit)
    found = [f for f in json.loads(p.stdout)["findings"] if f["object"] == key]
    assert p.returncode == 1 and found
    assert any(word in found[0]["what"] for word in ("exhaust memory", "larger than"))
    if kind == "manifests":
        with three.mount() as m:
            eio(m.main / "b/c/0/0")
            sound(m.main, "a", "g/c")
            status = pathlib.Path(f"/proc/{m.pid}/status").read_text()
            peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
            assert PATIENCE > 1 or peak < 200 * 1024, f"{peak} KiB"
    elif kind == "transactions":
        with three.mount() as m:
            sound(m.main, "a", "b", "g/c")
    else:
        assert key in refused(three)


# ---- nobody else ----

CONTROL = ("session", "journal", "status", "diff", "log", "errors", "stats", "ctl")


def test_control_files__modes(mount):
    for name in CONTROL:
        st = os.stat(mount.path / ".firn" / name)
        assert stat.S_IMODE(st.st_mode) == (0o600 if name == "ctl" else 0o400) and st.st_uid == os.getuid()
    state = pathlib.Path(mount.session()["state_dir"])
    for p in [state, *state.rglob("*")]:
        assert p.stat().st_mode & 0o077 == 0, p


def test_control_files__are_the_owners_also_with_allow_other(three, tmp_path):
    # Another user must be able to get to the mount point.
    for p in [tmp_path, *tmp_path.parents]:
        if p.stat().st_uid == os.geteuid() and p.stat().st_mode & 0o001 == 0:
            p.chmod(p.stat().st_mode | 0o011)
    with three.mount("-o", "allow_other") as m:
        assert as_nobody("cat", m.main / "zarr.json").returncode == 0
        assert as_nobody("ls", m.main).stdout.split() == [b"a", b"b", b"g", b"zarr.json"]
        for name in CONTROL:
            p = as_nobody("cat", m.path / ".firn" / name)
            assert p.returncode == 1 and not p.stdout and b"denied" in p.stderr, (name, p)
        for attempt in (f"echo '{{\"op\":\"discard\"}}' >{m.path}/.firn/ctl", f"echo x >{m.main}/a/c/0/0",
                        f"rm {m.main}/a/zarr.json", f"touch {m.main}/new", f"mkdir {m.main}/new", f"chmod 666 {m.path}/.firn/ctl"):
            p = as_nobody("sh", "-c", attempt)
            assert p.returncode != 0, attempt
        sound(m.main, "a", "b", "g/c")
        assert as_nobody("ls", m.path / ".firn/branches/side").returncode == 0
    with three.mount() as m:
        assert as_nobody("ls", m.path).returncode != 0


# ---- requests ----

@pytest.mark.sanitize
def test_ctl__whatever_is_written_gets_an_answer(mount):
    deep = b'{"op":' + b"[" * 30000 + b"]" * 30000 + b"}"
    for request in (b"", b"\0", b"{", b"[]", b"null", b"5", b'{"op":5}', b'{"op":"session"}{"op":"discard"}', deep,
                    b'{"op":"nothing of the kind"}', b'{"op":"\xff"}', b'{"op":"commit-end","snapshot":"../x"}',
                    b'{"op":"commit-intent"}', b'{"op":"commit-begin","wait_ms":-1e300}x', b" " * 70000,
                    b'{"op":"commit-end","snapshot":{}}'):
        fd = os.open(mount.path / ".firn/ctl", os.O_RDWR)
        try:
            if request:
                os.write(fd, request)
            answer = os.pread(fd, 65536, 0)
        finally:
            os.close(fd)
        if request:
            assert json.loads(answer)["ok"] is False and json.loads(answer)["code"] in ("invalid", "failed")
    put_array(mount.main, "a", (4,), (4,))
    mount.commit("still there")


# ---- secrets ----

def test_no_secret__in_state_journal_token_or_errors(firn, tmp_path, mounts):
    word = "hunter2hunter2"
    config = ic.RepositoryConfig.default()
    config.set_virtual_chunk_container(ic.VirtualChunkContainer(
        "s3://bucket/", ic.s3_store(region="us-east-1", endpoint_url=f"http://user:{word}@localhost:1")))
    virtual_repo(tmp_path, [f"s3://user:{word}@bucket/key"], config)
    repo = Repo(firn, tmp_path / "repo", tmp_path / "mnt")
    token = tmp_path / "token"
    m = mounts.enter_context(repo.mount("-o", "virtual=file:///data/"))
    eio(m.main / "v/c/0")
    put(m.main, "zarr.json", group_json(new=True))
    shown = [m.control(name) for name in CONTROL if name not in ("ctl", "journal")]
    shown += [os.getxattr(m.main / "v/c/0", f"user.firn.{name}").decode() for name in ("ref", "state", "node")]
    shown += [firn("status", m), firn("diff", m), firn("sessions"), firn("journal", "show", m, "--json")]
    firn("fork", m, "-o", token)
    shown += [token.read_text(), (m.path / ".firn/journal").read_bytes().decode("latin-1")]
    shown += [firn.run("cat", repo, "v/c/0", "--virtual", "file:///data/").stderr, firn.run("fsck", repo).stdout]
    shown += [firn.refuses("cat", repo, "v/c/0", "--virtual", f"s3://user:{word}@bucket/", code=2).stderr]
    firn("umount", m)
    m._ended()
    for p in firn.state.rglob("*"):
        if p.is_file():
            shown.append(p.read_bytes().decode("latin-1"))
    assert any("..." in text for text in shown)
    assert [text for text in shown if word in text] == []
    assert len(shown) > 15
