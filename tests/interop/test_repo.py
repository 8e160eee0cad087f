"""Repositories of ours and the official library's, each used by the other."""
import concurrent.futures
import subprocess
import sys

import icechunk as ic
import numpy as np
import pytest
import zarr

from conftest import HERE, c_program

TOP = HERE.parent


@pytest.fixture(scope="session")
def firn_repo():
    """Run a command of firn-repo.c."""
    tool = c_program("firn-repo")

    def run(*args):
        return subprocess.run([str(tool), *map(str, args)], check=True,
                              capture_output=True, text=True).stdout.splitlines()
    return run


@pytest.fixture
def ours(tmp_path, firn_repo):
    firn_repo("create", tmp_path / "r")
    return tmp_path / "r"


def official(path):
    return ic.Repository.open(ic.local_filesystem_storage(str(path)))


def commit(repo, name, branch="main"):
    session = repo.writable_session(branch)
    group = zarr.open_group(session.store, mode="a")
    array = group.create_array(name, shape=(30, 4), chunks=(10, 2), dtype="u2", compressors=None)
    array[:] = np.arange(120).reshape(30, 4) + 1
    return session.commit(f"add {name}")


def test_create__official_opens_and_commits(ours, firn_repo):
    repo = official(ours)
    root, = repo.ancestry(branch="main")
    assert (root.id, root.message) == ("1CECHNKREP0F1RSTCMT0", "Repository initialized")
    assert root.metadata == {"__icechunk": {"is_root": True}}
    assert list(repo.list_branches()) == ["main"] and not list(repo.list_tags())

    tip = commit(repo, "a")
    assert firn_repo("info", ours) == [
        f"main {tip} add a", "main 1CECHNKREP0F1RSTCMT0 Repository initialized"]
    chunks = [f"/a {i} {j} = 40" for i in range(3) for j in range(2)]
    assert firn_repo("tree", ours, "main") == ["/", "/a", *chunks]
    assert firn_repo("tree", ours, f"{tip[:6].lower()}~1") == []


def test_create__official_refuses_to_create_there(ours):
    with pytest.raises(ic.IcechunkError):
        ic.Repository.create(ic.local_filesystem_storage(str(ours)))


def test_refs__official_sees_them_and_goes_on(ours, firn_repo):
    firn_repo("branch", ours, "dev", "žluť/x")
    firn_repo("tag", ours, "v1")
    repo = official(ours)
    assert set(repo.list_branches()) == {"main", "dev", "žluť/x"}
    assert set(repo.list_tags()) == {"v1"}

    tip = commit(repo, "on_dev", "dev")
    repo.delete_tag("v1")
    repo.create_tag("v2", snapshot_id=tip)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        firn_repo("tag", ours, "v1")
    assert "deleted" in failed.value.stderr

    firn_repo("branch", ours, "last")
    assert len(list(official(ours).ops_log())) == 8


def test_log__official_and_ours_in_turn__is_whole(ours, firn_repo):
    for i in range(5):
        commit(official(ours), f"a{i}")
        firn_repo("branch", ours, f"b{i}")
    assert len(list(official(ours).ancestry(branch="main"))) == 6
    assert len(list(official(ours).ops_log())) == 11
    assert len(list(official(ours).list_branches())) == 6


def test_race__processes_of_ours__no_update_lost(ours, firn_repo):
    names = [[f"b-{i}-{j}" for j in range(25)] for i in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda some: firn_repo("branch", ours, *some), names))
    repo = official(ours)
    assert set(repo.list_branches()) == {"main"} | {n for some in names for n in some}
    assert len(list(repo.ops_log())) == 101


@pytest.mark.parametrize("name", ["v1", "v2", "v2-split"])
def test_golden__trees_agree(name, firn_repo):
    path = TOP / "tests/golden" / name / "repo"
    history = [f"main {s.id} {s.message}" for s in official(path).ancestry(branch="main")]
    assert [line for line in firn_repo("info", path) if line.startswith("main ")] == history


def test_oracle__finds_no_fault(ours, firn_repo):
    firn_repo("branch", ours, "dev")
    firn_repo("tag", ours, "v1")
    result = subprocess.run([sys.executable, "tests/oracle/icedump.py", "check", str(ours)],
                            cwd=TOP, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
