"""zarr-python's own tests of a store, on directories of a mount."""
import uuid

import pytest
import zarr
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from zarr.core.buffer import cpu
from zarr.storage import LocalStore
from zarr.testing.stateful import ZarrHierarchyStateMachine
from zarr.testing.store import StoreTests

from conftest import Firn, Repo, put, group_json


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

    async def get(self, store, key):
        return self.buffer_cls.from_bytes((store.root / key).read_bytes())

    async def set(self, store, key, value):
        p = store.root / key
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_bytes(value.to_bytes())

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


def test_hierarchy(top):
    d = top / uuid.uuid4().hex
    d.mkdir()
    with zarr.config.set({"array.rectilinear_chunks": True}):
        run_state_machine_as_test(
            lambda: ZarrHierarchyStateMachine(LocalStore(d)),
            settings=settings(max_examples=8, deadline=None, stateful_step_count=15, derandomize=True, database=None,
                              suppress_health_check=list(HealthCheck)))
