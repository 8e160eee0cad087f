"""Our repo infos, FlexBuffers and configurations against the official library and an independent decoder."""

import datetime
import json
import pathlib
import random
import shutil
import subprocess
import sys

import icechunk as ic
import pytest
import zarr

from conftest import c_program

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
ORACLE = ROOT / "tests" / "oracle" / "icedump.py"
sys.path.insert(0, str(ROOT / "tests" / "oracle"))
import flexenc  # noqa: E402


@pytest.fixture(scope="session")
def tool():
    return c_program("repo_tool")


def oracle(command, *args):
    return json.loads(subprocess.check_output([sys.executable, ORACLE, command, *args]))


def recode(tool, repo):
    """Rewrite `repo` in place, as a new file: backups may be hard links to the old one."""
    subprocess.run([tool, "recode", repo / "repo", repo / "repo.new"], check=True)
    (repo / "repo.new").rename(repo / "repo")


# ---- against the independent decoder ----

OFFICIAL = sorted(p for p in GOLDEN.rglob("repo*") if p.is_file() and p.parent.name != "tiny-v2-payloads")


@pytest.mark.parametrize("path", OFFICIAL, ids=lambda p: str(p.relative_to(GOLDEN)))
def test_recoded_file_means_the_same(tool, tmp_path, path):
    out = tmp_path / "repo"
    subprocess.run([tool, "recode", path, out], check=True)
    before, after = oracle("file", path), oracle("file", out)
    for doc in before, after:
        del doc["header"]
    assert before == after
    for limits in "2.1", "2.3":
        subprocess.run([sys.executable, ORACLE, "verify", out, "--limits", limits], check=True,
                       stdout=subprocess.DEVNULL)


def random_value(rng, depth=0):
    kind = rng.randrange(10 if depth < 4 else 7)
    if kind == 0:
        return None
    if kind == 1:
        return rng.random() < 0.5
    if kind == 2:
        return rng.randrange(2 ** rng.choice((7, 8, 15, 16, 31, 32, 62)))
    if kind == 3:
        return -rng.randrange(2 ** rng.choice((7, 8, 15, 16, 31, 32, 62)))
    if kind == 4:
        return rng.choice((rng.random(), rng.randrange(1000) / 8, 1e300, -1e-300, 0.0))
    if kind in (5, 6):
        return "".join(rng.choice("abčž🧊 ") for _ in range(rng.choice((0, 1, 5, 80, 300))))
    if kind == 7:
        one = [random_value(rng, 4) for _ in range(rng.randrange(6))]
        return one * 2 if rng.random() < 0.2 else one
    if kind == 8:
        same = rng.choice((lambda: rng.randrange(300), lambda: rng.random(), lambda: rng.random() < 0.5))
        return [same() for _ in range(rng.randrange(1, 7))]
    return {rng.choice("abcdefgh") * rng.choice((1, 3, 40)): random_value(rng, depth + 1)
            for _ in range(rng.randrange(8))}


def test_flexbuffers_are_byte_identical(tool):
    rng = random.Random(1)
    values = [random_value(rng) for _ in range(1500)]
    lines = "".join(json.dumps(v) + "\n" for v in values)
    ours = subprocess.run([tool, "flex"], input=lines, text=True, capture_output=True, check=True)
    theirs = [flexenc.encode(v).hex() for v in values]
    assert ours.stdout.split() == theirs
    again = subprocess.run([tool, "reflex"], input=ours.stdout, text=True, capture_output=True, check=True)
    assert again.stdout == ours.stdout


def test_uniform_width_flexbuffers_are_read(tool):
    rng = random.Random(2)
    values = [random_value(rng) for _ in range(300)]
    lines = "".join(flexenc.encode_fixed(v).hex() + "\n" for v in values)
    ours = subprocess.run([tool, "reflex"], input=lines, text=True, capture_output=True, check=True)
    assert ours.stdout.split() == [flexenc.encode(v).hex() for v in values]


# ---- against the official library ----

def official(path, **options):
    return ic.Repository.open(ic.local_filesystem_storage(str(path)), **options)


def write(repo, name, branch="main", **options):
    session = repo.writable_session(branch)
    zarr.create_array(session.store, name=name, shape=(8,), chunks=(1,), dtype="i4", fill_value=0)[:] = 7
    return session.commit(f"write {name}", **options)


def view(repo):
    """All that a repo info tells."""
    branches = {b: repo.lookup_branch(b) for b in sorted(repo.list_branches())}
    tags = {t: repo.lookup_tag(t) for t in sorted(repo.list_tags())}
    logs = {b: [(s.id, s.parent_id, s.message, s.metadata, s.written_at) for s in repo.ancestry(branch=b)]
            for b in branches}
    ops = [(str(type(op.kind)), str(op.kind), op.updated_at, op.backup_path) for op in repo.ops_log()]
    return branches, tags, logs, ops, repo.metadata, str(repo.config)


@pytest.fixture
def busy(tmp_path):
    """A repository with an entry of most kinds."""
    path = tmp_path / "busy"
    config = ic.RepositoryConfig.default()
    config.inline_chunk_threshold_bytes = 3
    condition, axis = ic.ManifestSplitCondition, ic.ManifestSplitDimCondition
    config.manifest = ic.ManifestConfig(splitting=ic.ManifestSplittingConfig.from_dict(
        {condition.path_matches("a$"): {axis.Axis(0): 3}, condition.AnyArray(): {axis.Any(): 100}}))
    repo = ic.Repository.create(ic.local_filesystem_storage(str(path)), config=config)
    write(repo, "a", metadata={"author": "me", "deep": {"list": [1, 2.5, None, "x"], "big": 2**63 + 11}})
    first = write(repo, "b")
    repo.create_tag("v1", first)
    repo.create_tag("gone", first)
    repo.delete_tag("gone")
    repo.create_branch("dev/x", first)
    write(repo, "c", branch="dev/x")
    repo.create_branch("old", first)
    repo.delete_branch("old")
    repo.reset_branch("main", first)
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="d", shape=(2,), dtype="i1")
    session.commit("amend me")
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="e", shape=(2,), dtype="i1")
    session.amend("amended")
    repo.set_metadata({"title": "busy", "n": [1, 2, 3]})
    repo.save_config()
    return path


def test_official_reads_what_we_rewrote_and_commits_on_top(tool, busy):
    before = view(official(busy))
    recode(tool, busy)
    repo = official(busy)
    assert view(repo) == before
    assert oracle("check", busy) == []
    for name in "fgh":
        tip = write(repo, name)
        recode(tool, busy)
        repo = official(busy)
        assert repo.lookup_branch("main") == tip
    assert oracle("check", busy) == []
    session = repo.readonly_session("main")
    assert zarr.open_array(session.store, path="h", mode="r")[3] == 7
    assert view(repo)[3][3:] == [
        (kind, text, when, path) if i else (kind, text, when, view(repo)[3][3][3])
        for i, (kind, text, when, path) in enumerate(before[3])
    ]


def test_official_reads_status_and_flags_we_rewrote(tool, busy):
    repo = official(busy)
    repo.set_feature_flag("create_tag", False)
    repo.set_status(ic.RepoStatus(ic.RepoAvailability.read_only, datetime.datetime.now(datetime.UTC), "moving"))
    before = view(official(busy)), str(official(busy).get_status())
    recode(tool, busy)
    assert (view(official(busy)), str(official(busy).get_status())) == before


def test_official_opens_a_repo_info_of_ours(tool, tmp_path):
    ic.Repository.create(ic.local_filesystem_storage(str(tmp_path / "r")))
    (tmp_path / "r" / "repo").unlink()
    subprocess.run([tool, "new", tmp_path / "r" / "repo"], check=True)
    repo = official(tmp_path / "r")
    write(repo, "a")
    write(repo, "b")
    doc = oracle("file", tmp_path / "r" / "repo")
    assert doc["config"]["storage"] is None
    assert [s.message for s in repo.ancestry(branch="main")] == ["write b", "write a", "Repository initialized"]
    # The rule for /a: eight chunks, two in a manifest.
    assert len(list((tmp_path / "r" / "manifests").iterdir())) == 4 + 1


def test_operations_log_spills_as_official_expects(tool, tmp_path):
    path = tmp_path / "r"
    repo = ic.Repository.create(ic.local_filesystem_storage(str(path)))
    write(repo, "a")
    for i in range(7):
        name = f"repo.{32503680000000 - 1795000000000 - i:014}.0000000000000000000{'0G'[i % 2]}"
        (path / "overwritten").mkdir(exist_ok=True)
        shutil.copy(path / "repo", path / "overwritten" / name)
        subprocess.run([tool, "tag", path / "repo", path / "repo.new", f"t{i}", name, "3"], check=True)
        (path / "repo.new").rename(path / "repo")
    repo = official(path)
    assert sorted(repo.list_tags()) == [f"t{i}" for i in range(7)]
    assert len(list(repo.ops_log())) == 9
    assert oracle("file", path / "repo")["repo_before_updates"] is not None
    write(repo, "b")
    assert len(list(official(path).ops_log())) == 10


def test_yaml_configuration_of_version_1(tool, tmp_path):
    config = ic.RepositoryConfig.default()
    config.set_virtual_chunk_container(
        ic.VirtualChunkContainer("s3://bucket/prefix/", ic.s3_store(region="us-east-1")))
    condition, axis = ic.ManifestSplitCondition, ic.ManifestSplitDimCondition
    rules = {
        condition.or_conditions([condition.path_matches("a.*"), condition.name_matches("b")]):
            {axis.Axis(0): 3, axis.DimensionName("t|x"): 4, axis.Any(): 9},
        condition.AnyArray(): {axis.Any(): 10},
    }
    config.manifest = ic.ManifestConfig(splitting=ic.ManifestSplittingConfig.from_dict(rules))
    docs = []
    for version in 1, 2:
        at = tmp_path / str(version)
        repo = ic.Repository.create(ic.local_filesystem_storage(str(at)), config=config, spec_version=version)
        repo.save_config()
        if version == 1:
            out = subprocess.check_output([tool, "yaml"], input=(at / "config.yaml").read_bytes())
            docs.append(json.loads(out))
        else:
            docs.append(oracle("file", at / "repo")["config"])
    assert docs[0] == docs[1]
