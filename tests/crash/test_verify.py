"""What `journal verify` calls whole is: pending files have their objects, and all chunks could be read."""
import pytest

from calls import Calls
from conftest import put, put_array


@pytest.fixture
def journal(repo, mounts, tmp_path):
    m = mounts.enter_context(repo.mount())
    put_array(m.main, "a", (3000,), (1,))
    put(m.main, "nowhere/c/5", b"pending" * 20_000)
    for i in range(3000):
        (m.main / "a/c").mkdir(exist_ok=True)
        (m.main / f"a/c/{i}").write_bytes(b"%08d" % i * 10)
    repo.firn("journal", "export", m, "-o", tmp_path / "j.journal")
    return tmp_path / "j.journal"


def test_object_of_a_pending_file_is_missing__said(repo, journal):
    firn = repo.firn
    assert firn("journal", "verify", journal).startswith(f"{journal} is whole")
    for p in (repo.path / "chunks").iterdir():
        p.unlink()
    p = firn.run("journal", "verify", journal)
    assert p.returncode == 1 and "nowhere/c/5" in p.stdout and "missing" in p.stdout
    result = firn.json("journal", "verify", journal, code=1)
    assert not result["ok"] and len(result["problems"]) == 1


def test_object_of_a_pending_file_is_short__said(repo, journal):
    for p in (repo.path / "chunks").iterdir():
        p.write_bytes(p.read_bytes()[:-1])
    p = repo.firn.run("journal", "verify", journal)
    assert p.returncode == 1 and "140000 are needed" in p.stdout, p.stdout


@pytest.mark.parametrize("args", [["verify"], ["show"], ["show", "--json"]], ids="-".join)
def test_chunks_cannot_be_read__fails(repo, journal, tmp_path, args):
    assert journal.stat().st_size > 128 * 1024, "it is left in its file only if it is large"
    firn = repo.firn
    whole = firn("journal", *args, journal)
    calls, failed = Calls(tmp_path / "calls", tmp_path), 0
    for n in range(1, 100):
        with firn.watching(calls.env | {"FIRN_CALLS_UNREADABLE": f"{n}:{journal}"}):
            p = firn.run("journal", *args, journal)
        if p.returncode == 0:
            assert p.stdout == whole, f"not all was read from read {n} on"
            break
        assert p.returncode == 1 and "read" in p.stderr, p.stderr
        failed += 1
    assert 3 < failed < 90
