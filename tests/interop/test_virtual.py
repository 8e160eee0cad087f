"""Virtual chunks of repositories made by the official library."""
import datetime
import errno
import os

import icechunk as ic
import numpy as np
import pytest
import zarr

from conftest import Repo, array_json, assert_same, group_json, put, read_tree
from zarr.core.buffer import cpu
from zarr.core.sync import sync


@pytest.fixture
def data(tmp_path):
    d = tmp_path / "data"
    d.mkdir()
    (d / "cube.bin").write_bytes(np.arange(400, dtype="<i4").tobytes())
    (tmp_path / "data-evil").mkdir()
    (tmp_path / "data-evil/x.bin").write_bytes(b"evil" * 100)
    return d


@pytest.fixture
def virtual(firn, tmp_path, data):
    """/a: 4 virtual chunks of 100 numbers; /b: all the ways to be wrong."""
    prefix = f"file://{data}/"
    config = ic.RepositoryConfig.default()
    config.set_virtual_chunk_container(ic.VirtualChunkContainer(prefix, ic.local_filesystem_store(str(data))))
    repo = ic.Repository.create(ic.local_filesystem_storage(str(tmp_path / "repo")), config=config)
    repo.save_config()
    s = repo.writable_session("main")
    sync(s.store.set("zarr.json", cpu.Buffer.from_bytes(group_json())))
    for name in "a", "b":
        sync(s.store.set(f"{name}/zarr.json", cpu.Buffer.from_bytes(array_json((600,), (100,), dtype="int32"))))
    cube = f"{prefix}cube.bin"
    for i in range(4):
        s.store.set_virtual_ref(f"a/c/{i}", cube, offset=400 * i, length=400)
    s.store.set_virtual_ref("b/c/0", cube, offset=1500, length=400)
    s.store.set_virtual_ref("b/c/1", f"{prefix}missing.bin", offset=0, length=400)
    s.store.set_virtual_ref("b/c/2", cube, offset=0, length=400,
                            checksum=datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc))
    s.store.set_virtual_ref("b/c/3", cube, offset=0, length=400,
                            checksum=datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1))
    s.store.set_virtual_ref("b/c/4", "s3://bucket/key", offset=0, length=400, validate_container=False)
    s.store.set_virtual_ref("b/c/5", f"file://{tmp_path}/data-evil/x.bin", offset=0, length=400,
                            validate_container=False)
    s.commit("virtual")
    return Repo(firn, tmp_path / "repo", tmp_path / "mnt"), prefix


def test_few_chunks_of_many__the_rest_stays_where_it_was(firn, tmp_path, data):
    """So many that their locations have a dictionary; what is not changed is taken over."""
    n = 1500
    (data / "many.bin").write_bytes(np.arange(n, dtype="<i4").tobytes())
    prefix = f"file://{data}/"
    container = ic.VirtualChunkContainer(prefix, ic.local_filesystem_store(str(data)))
    config = ic.RepositoryConfig.default()
    config.set_virtual_chunk_container(container)
    storage = ic.local_filesystem_storage(str(tmp_path / "repo"))
    repo = ic.Repository.create(storage, config=config)
    repo.save_config()
    s = repo.writable_session("main")
    sync(s.store.set("zarr.json", cpu.Buffer.from_bytes(group_json())))
    sync(s.store.set("a/zarr.json", cpu.Buffer.from_bytes(array_json((n + 9,), (1,), dtype="int32"))))
    for i in range(n):
        s.store.set_virtual_ref(f"a/c/{i}", f"{prefix}many.bin", offset=4 * i, length=4)
    s.commit("virtual")
    want = np.concatenate([np.arange(n), np.zeros(9)]).astype("i4")
    for round in range(3):
        with Repo(firn, tmp_path / "repo", tmp_path / "mnt").mount("--virtual", prefix) as m:
            for i in 7 * round, 900 + round, n + round:
                put(m.main, f"a/c/{i}", np.array(-1 - i, dtype="<i4").tobytes())
                want[i] = -1 - i
            (m.main / f"a/c/{40 + round}").unlink()
            want[40 + round] = 0
            m.commit(f"{round}")
            assert (zarr.open_array(str(m.main / "a"), mode="r")[:] == want).all()
        theirs = ic.Repository.open(storage, config=config, authorize_virtual_chunk_access={prefix: None})
        assert (zarr.open_array(theirs.readonly_session("main").store, path="a", mode="r")[:] == want).all()
    # The official library goes on from there.
    s = theirs.writable_session("main")
    zarr.open_array(s.store, path="a", mode="r+")[3] = want[3] = 12345
    s.commit("official")
    assert (zarr.open_array(theirs.readonly_session("main").store, path="a", mode="r")[:] == want).all()


def fails(path, size=400):
    assert os.stat(path).st_size == size
    with open(path, "rb") as f, pytest.raises(OSError) as e:    # open works: it is there
        f.read()
    assert e.value.errno == errno.EIO


@pytest.mark.sanitize
def test_authorised__reads(virtual):
    repo, prefix = virtual
    with repo.mount("-o", f"virtual={prefix}") as m:
        a = zarr.open_array(str(m.main / "a"), mode="r")
        assert (a[:400] == np.arange(400)).all() and (a[400:] == 0).all()
        with open(m.main / "a/c/1", "rb") as f:
            f.seek(100)
            assert f.read(8) == np.arange(125, 127, dtype="<i4").tobytes()
        assert os.getxattr(m.main / "a/c/1", "user.firn.ref").decode() == f"virtual {prefix}cube.bin 400 400"
        assert (m.main / "b/c/3").read_bytes() == np.arange(100, dtype="<i4").tobytes()
        for i in (0, 1, 2, 4, 5):
            fails(m.main / f"b/c/{i}")
            assert f"b/c/{i}" in m.control("errors"), m.control("errors")


def test_not_authorised__eio_with_reason(virtual):
    repo, prefix = virtual
    with repo.mount() as m:
        fails(m.main / "a/c/0")
        errors = m.control("errors")
        assert "a/c/0" in errors and "virtual" in errors
        with pytest.raises(OSError):
            zarr.open_array(str(m.main / "a"), mode="r")[:]     # an error, not fill values


def test_prefix_is_a_directory_not_a_beginning(virtual):
    repo, prefix = virtual
    with repo.mount("-o", f"virtual={prefix.rstrip('/')}") as m:
        fails(m.main / "b/c/5")


def test_commits_keep_virtual_refs(virtual):
    """Changes next to virtual refs: their manifest is written anew with them in it."""
    repo, prefix = virtual
    with repo.mount("-o", f"virtual={prefix}") as m:
        put(m.main, "a/c/5", b"\1" * 400)
        put(m.main, "a/c/0", b"\2" * 400)
        m.commit("over")
    auth = ic.containers_credentials({prefix: ic.credentials.LocalFileSystemAccess}) \
        if hasattr(ic.credentials, "LocalFileSystemAccess") else {prefix: None}
    r = repo.official(authorize_virtual_chunk_access=auth)
    a = zarr.open_array(r.readonly_session("main").store, path="a", mode="r")
    assert (a[100:400] == np.arange(100, 400)).all() and a[0] == 0x02020202 and a[599] == 0x01010101
    with repo.mount("-o", f"virtual={prefix}") as m:
        keys = {k: v for k, v in store_tree_of(r, "a").items()}
        assert_same({k: v for k, v in read_tree(m.main / "a").items()}, keys)


def test_commits_next_to_many_virtual_refs(firn, tmp_path):
    """Of 1,000 and more, locations are compressed: commit after commit, with the dictionary that was there."""
    n = 3000
    repo = ic.Repository.create(ic.local_filesystem_storage(str(tmp_path / "repo")))
    s = repo.writable_session("main")
    sync(s.store.set("zarr.json", cpu.Buffer.from_bytes(group_json())))
    sync(s.store.set("a/zarr.json", cpu.Buffer.from_bytes(array_json((n,), (1,), dtype="int8"))))
    wanted = [f"s3://bucket/file_{i:05d}.nc" for i in range(n)]
    s.store.set_virtual_refs_arr("/a", (n,), wanted, np.arange(n, dtype="u8"), np.full(n, 100, dtype="u8"),
                                 validate_containers=False)
    s.commit("virtual")
    ours = Repo(firn, tmp_path / "repo", tmp_path / "mnt")
    with ours.mount() as m:
        for i in 0, 1777, n - 1:
            put(m.main, f"a/c/{i}", b"7")
            wanted[i] = None
            m.commit(f"chunk {i}")
    s = ic.Repository.open(ic.local_filesystem_storage(str(tmp_path / "repo"))).readonly_session("main")
    assert sorted(s.all_virtual_chunk_locations()) == [x for x in wanted if x]
    a = zarr.open_array(s.store, path="a", mode="r")
    assert [int(a[i]) for i in (0, 1777, n - 1)] == [ord("7")] * 3


def store_tree_of(repo, below):
    from zarr.core.buffer import default_buffer_prototype

    async def go():
        store = repo.readonly_session("main").store
        return {k.removeprefix(f"{below}/"): (await store.get(k, default_buffer_prototype())).to_bytes()
                async for k in store.list_prefix(below) if k.startswith(f"{below}/")}
    return sync(go())
