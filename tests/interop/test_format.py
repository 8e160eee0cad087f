"""Our codecs against an independent decoder and the official library."""

import asyncio
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

import icechunk
import pytest

from conftest import c_program

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
ORACLE = ROOT / "tests" / "oracle" / "icedump.py"
REPOS = [GOLDEN / "tiny-v1", GOLDEN / "tiny-v2"] + [
    GOLDEN / name / "repo" for name in ("v1", "v2", "v2-split")
]
FILES = sorted(
    path
    for repo in REPOS
    for kind in ("snapshots", "manifests", "transactions")
    for path in (repo / kind).glob("*")
    if "#" not in path.name
)


def name_of(path):
    return str(path.relative_to(GOLDEN))


@pytest.fixture(scope="session")
def tool():
    return c_program("format_tool")


def ours(tool, path):
    return json.loads(subprocess.check_output([tool, "dump", path]))


def theirs(path):
    out = subprocess.check_output([sys.executable, ORACLE, "file", path])
    return json.loads(out)


def verify(path, limits):
    subprocess.run(
        [sys.executable, ORACLE, "verify", path, "--limits", limits],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def assert_same(ours, theirs):
    """What we report is what the oracle reports; the oracle tells more."""
    if isinstance(ours, dict):
        for key, value in ours.items():
            if key == "moved_nodes" and theirs[key] is None:
                assert value == []
            else:
                assert_same(value, theirs[key])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            assert_same(a, b)
    else:
        assert ours == theirs


def content(dump):
    """A dump without what legitimately differs between two encodings of the same thing."""
    drop = {"header", "problems", "flushed_at_iso", "manifest_files_source", "parent_id"}
    drop |= {"compression_algorithm", "compression_algorithm_present"}
    dump = {key: value for key, value in dump.items() if key not in drop}
    for node in dump.get("nodes", []):
        node.pop("shape_source", None)
        for dim in node.get("shape", []):
            dim.pop("chunk_length", None)
    for array in dump.get("updated_chunks", []):
        array["chunks"].sort()
    dump["moved_nodes"] = dump.get("moved_nodes") or []
    return dump


def test_golden_files_are_there():
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_decodes_what_the_oracle_decodes(tool, path):
    assert_same(ours(tool, path), theirs(path))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_oracle_decodes_what_we_encode(tool, path, tmp_path):
    out = tmp_path / path.name
    subprocess.run([tool, "reencode", path, out], check=True)
    written = theirs(out)
    assert written["problems"] == []
    assert written["header"]["spec_version"] == 2
    assert written["header"]["impl"].startswith("firn-")
    assert written["header"]["zstd"]["frames"] == 1
    assert written["header"]["zstd"]["content_size"] == written["header"]["zstd"]["payload_bytes"]
    assert content(written) == content(theirs(path))
    assert_same(ours(tool, out), written)
    for limits in ("2.1", "2.3"):
        verify(out, limits)


@pytest.mark.parametrize("n", [1, 999, 1000, 5000])
def test_virtual_locations(tool, tmp_path, n):
    out = tmp_path / "manifest"
    subprocess.run([tool, "virtual", out, str(n)], check=True)
    written = theirs(out)
    assert written["problems"] == []
    refs = written["arrays"][0]["refs"]
    assert [r["location"] for r in refs] == [
        f"s3://bucket/model/run-{i // 3:05}/temperature.nc" for i in range(n)
    ]
    compressed = n >= 1000
    assert all(("compressed_bytes" in r) == compressed for r in refs)
    assert written["compression_algorithm"] == (1 if compressed else 0)
    assert written["compression_algorithm_present"] == (not compressed)
    assert refs[1 % n].get("etag") == ('"etag-1"' if n > 1 else None)
    assert_same(ours(tool, out), written)
    for limits in ("2.1", "2.3"):
        verify(out, limits)


def read_everything(store):
    """{key: [size, sha256]} of a store, as the golden contents.json has it."""
    from zarr.core.buffer import default_buffer_prototype

    async def read():
        found = {}
        async for key in store.list():
            data = (await store.get(key, default_buffer_prototype())).to_bytes()
            found[key] = [len(data), hashlib.sha256(data).hexdigest()]
        return found

    return asyncio.run(read())


@pytest.mark.parametrize("name", ["v2", "v2-split"])
def test_official_library_reads_and_extends_what_we_encode(tool, tmp_path, name):
    repo_dir = tmp_path / "repo"
    shutil.copytree(GOLDEN / name / "repo", repo_dir)
    manifests = repo_dir / "manifests"
    for kind in ("manifests", "snapshots", "transactions"):
        for path in sorted((repo_dir / kind).iterdir()):
            out = tmp_path / "out"
            subprocess.run([tool, "reencode", path, out, manifests], check=True)
            out.replace(path)
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(repo_dir)))
    contents = json.loads((GOLDEN / name / "contents.json").read_text())
    for ref, wanted in contents.items():
        kind, _, value = ref.partition("/")
        argument = {"snapshot": "snapshot_id"}.get(kind, kind)
        session = repo.readonly_session(**{argument: value})
        assert read_everything(session.store) == wanted, ref
    history = [info.id for info in repo.ancestry(branch="main")]
    repo.diff(from_snapshot_id=history[-1], to_snapshot_id=history[0])
    session = repo.writable_session("main")
    import zarr

    root = zarr.open_group(session.store, mode="a")
    root.attrs["touched"] = True
    session.commit("on top of ours")
    assert len(list(repo.ancestry(branch="main"))) == len(history) + 1
