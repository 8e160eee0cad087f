"""zarr-python's own tests of a store, on directories of a mount.

The suite writes any bytes under any key. Under `zarr.json` a mount takes documents only, so
there the bytes travel inside one; and files with names that are no Zarr keys are scratch, which
is not listed, so the two tests that list such files do it here with other names.
"""
import json
import uuid

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.storage import LocalStore, _local
from zarr.testing.stateful import ZarrHierarchyStateMachine
from zarr.testing.store import StoreTests

from conftest import Firn, Repo, group_json, put

_get, _put = _local._get, _local._put


def wrap(data):
    return group_json(payload=data.decode("latin-1"))


def unwrap(data):
    return json.loads(data)["attributes"]["payload"].encode("latin-1")


def cut(data, request):
    match request:
        case None:
            return data
        case RangeByteRequest():
            return data[request.start:request.end]
        case OffsetByteRequest():
            return data[request.offset:]
        case SuffixByteRequest():
            return data[-request.suffix:]


def get_document(path, prototype, byte_range):
    if path.name != "zarr.json":
        return _get(path, prototype, byte_range)
    return prototype.buffer.from_bytes(cut(unwrap(path.read_bytes()), byte_range))


def put_document(path, value, exclusive=False):
    if path.name == "zarr.json":
        value = cpu.Buffer.from_bytes(wrap(value.to_bytes()))
    return _put(path, value, exclusive=exclusive)


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    home = tmp_path_factory.mktemp("suite")
    firn = Firn(home / "firn")
    firn("init", home / "repo")
    with Repo(firn, home / "repo", home / "mnt").mount() as m:
        put(m.main, "zarr.json", group_json())
        yield m.main
    firn.check_reports()


class TestLocalStoreOnMount(StoreTests[LocalStore, cpu.Buffer]):
    store_cls = LocalStore
    buffer_cls = cpu.Buffer

    @pytest.fixture(autouse=True)
    def documents(self, monkeypatch):
        monkeypatch.setattr(_local, "_get", get_document)
        monkeypatch.setattr(_local, "_put", put_document)

    async def get(self, store, key):
        return get_document(store.root / key, default_buffer_prototype(), None)

    async def set(self, store, key, value):
        put_document(store.root / key, value)

    @pytest.fixture
    def store_kwargs(self, top):
        d = top / uuid.uuid4().hex
        d.mkdir()
        return {"root": str(d)}

    def test_store_repr(self, store):
        assert str(store) == f"file://{store.root.as_posix()}"

    def test_store_supports_writes(self, store):
        assert store.supports_writes

    def test_store_supports_listing(self, store):
        assert store.supports_listing

    async def test_is_empty(self, store):
        assert await store.is_empty("")
        await self.set(store, "foo/c/0", cpu.Buffer.from_bytes(b"something"))
        for prefix, empty in {"": False, "fo": True, "foo/": False, "foo": False, "spam/": True}.items():
            assert await store.is_empty(prefix) == empty, prefix

    async def test_list_dir(self, store):
        for root, names in {"foo": ["zarr.json", "c/1"], "foo/bar": ["c/1", "child/zarr.json"]}.items():
            assert [k async for k in store.list_dir(root)] == []
            for n in names:
                await store.set(f"{root}/{n}", cpu.Buffer.from_bytes(b"x"))
            for prefix in root, f"{root}/":
                assert sorted([k async for k in store.list_dir(prefix)]) == sorted(n.split("/")[0] for n in names)


def test_hierarchy(top):
    d = top / uuid.uuid4().hex
    d.mkdir()
    run_state_machine_as_test(
        lambda: ZarrHierarchyStateMachine(LocalStore(d)),
        settings=settings(max_examples=8, deadline=None, stateful_step_count=15, derandomize=True, database=None,
                          suppress_health_check=list(HealthCheck)))
