"""Sessions of a machine that stopped, committed, merged and exported without a mount: what did not survive is left out,
which is said, and it is kept."""
import json
import struct

import pytest

from conftest import put, put_array
from disk import restart


def records(data):
    """(kind, bytes) of the records of a journal of one section."""
    at = 24 + struct.unpack_from("<I", data, 12)[0]
    while at < len(data):
        end = at + 12 + struct.unpack_from("<I", data, at)[0]
        yield data[at + 4], data[at:end]
        at = end


def without_notes(data):
    """As a power cut leaves a journal of which no note of what is durable was synced."""
    head = data[:24 + struct.unpack_from("<I", data, 12)[0]]
    return head + b"".join(record for kind, record in records(data) if kind != 8)


class Stopped:
    """A session with a document, an inline chunk and, from there on, nothing that is known to have survived."""

    def __init__(self, repo, mounts):
        self.firn, self.repo = repo.firn, repo
        m = mounts.enter_context(repo.mount())
        put_array(m.main, "a", (10,), (1,))
        put(m.main, "a/c/1", b"inline")
        put(m.main, "a/c/2", b"native" * 1000)
        put(m.main, "a/c/3", b"later")
        self.id = m.session()["id"]
        m.umount()
        self.directory = next(p for p in self.firn.state.rglob(self.id) if p.is_dir())
        self.journal = self.directory / "journal"
        self.journal.write_bytes(without_notes(self.journal.read_bytes()))
        # The object has its size, and lacks its bytes.
        for p in (repo.path / "chunks").iterdir():
            p.write_bytes(bytes(p.stat().st_size))
        restart(self.firn.state)
        self.before = self.journal.read_bytes()

    def show(self, what):
        return self.firn("journal", "show", what)


@pytest.fixture
def stopped(repo, mounts):
    return Stopped(repo, mounts)


def warned(p, *words):
    assert p.returncode == 0, p.stderr
    for word in ("warning", *words):
        assert word in p.stderr, (word, p.stderr)


def only_what_survived(text):
    assert "c/1" in text and "c/2" not in text and "c/3" not in text, text


def test_commit__says_what_did_not_survive_and_keeps_it(stopped):
    firn = stopped.firn
    p = firn.run("commit", stopped.id, "-m", "m")
    warned(p, stopped.id, "did not survive", "journal.cut")
    assert firn("cat", stopped.repo, "a/c/1") == "inline"
    firn.refuses("cat", stopped.repo, "a/c/2", saying="never written")
    firn.refuses("cat", stopped.repo, "a/c/3", saying="never written")
    # As it was, and nothing of it is committed twice.
    assert (stopped.directory / "journal.cut").read_bytes() == stopped.before
    assert "c/3" in stopped.show(stopped.directory / "journal.cut")
    firn("commit", stopped.id, "-m", "again", code=4)
    firn("discard", stopped.id)
    assert not stopped.directory.exists()


def test_commit__json(stopped):
    [torn] = stopped.firn.json("commit", stopped.id, "-m", "m")["torn"]
    assert torn["source"] == stopped.id and torn["bytes"] > 0 and torn["kept"] == str(stopped.directory / "journal.cut")


def test_commit__refused_then_done__still_kept(stopped, mounts):
    firn = stopped.firn
    with stopped.repo.mount() as other:
        put_array(other.main, "b", (10,), (1,))
        other.commit()
    firn("commit", stopped.id, "-m", "m", code=3)
    warned(firn.run("commit", stopped.id, "-m", "m", "--rebase"), "journal.cut")
    assert (stopped.directory / "journal.cut").read_bytes() == stopped.before


def test_commit__nothing_cut__nothing_said(repo, mounts):
    m = mounts.enter_context(repo.mount())
    put_array(m.main, "a", (10,), (1,))
    put(m.main, "a/c/2", b"native" * 1000)
    id = m.session()["id"]
    m.umount()
    restart(repo.firn.state)
    reply = repo.firn.run("commit", id, "-m", "m", "--json")
    assert json.loads(reply.stdout)["torn"] == [] and "warning" not in reply.stderr
    assert not repo.firn.json("sessions")["sessions"]


@pytest.mark.parametrize("way", ["export", "merge"])
def test_given_away__without_what_did_not_survive(stopped, tmp_path, way):
    firn, out = stopped.firn, tmp_path / "out.journal"
    args = ["journal", "export", stopped.id, "-o", out] if way == "export" else ["merge", "-o", out, stopped.id]
    warned(firn.run(*args), stopped.id, "did not survive")
    only_what_survived(stopped.show(out))
    [torn] = firn.json(*args)["torn"]
    assert torn["bytes"] > 0 and torn["kept"] is None
    # Nothing was cut by looking.
    assert stopped.journal.read_bytes() == stopped.before and not (stopped.directory / "journal.cut").exists()
    firn.snapshot("commit", out, "-m", "m")
    firn.refuses("cat", stopped.repo, "a/c/2", saying="never written")


def test_looked_at__without_what_did_not_survive(stopped):
    p = stopped.firn.run("diff", stopped.id)
    warned(p, "did not survive")
    only_what_survived(p.stdout)


def test_resume__keeps_what_is_cut(stopped, mounts):
    m = mounts.enter_context(stopped.repo.resume(stopped.id))
    assert "torn" in m.control("errors")
    assert sorted(p.name for p in (m.main / "a/c").iterdir()) == ["1"]
    assert (stopped.directory / "journal.cut").read_bytes() == stopped.before
