"""Commits of one chunk: on top of many references, of many commits, of many manifests."""
import shutil

import merge
from common import child_main, create_official, hwm, official, put, put_array, put_virtual, timed

SMALL = 1_000_000
COMMITS, LOGGED = 2_000, 10_000
MANIFESTS = 16_000


# ---- timed processes ----

def fill(repo, n, message):
    """`n` references in the array /a, as the official library commits them."""
    put_array(repo, n)
    s = repo.writable_session("main")
    put_virtual(s.store, 0, n)
    s.commit(message)
    return {}


def child_million(path):
    return fill(create_official(path), SMALL, "a million")


def child_commit(path, i):
    s = official(path).writable_session("main")
    put(s.store, f"a/c/{i}", b"%d" % int(i))
    return {"seconds": timed(lambda: s.commit("one chunk"))[0], "mb": hwm()}


def child_history(path, lo, hi):
    """Commits of one chunk each."""
    try:
        repo = official(path)
    except Exception:           # not there yet
        repo = create_official(path)
        put_array(repo, 2 * LOGGED)
    for i in range(int(lo), int(hi)):
        s = repo.writable_session("main")
        put(s.store, f"a/c/{i}", b"%d" % i)
        s.commit(f"{i}")
    return {}


def child_log(path):
    import icechunk  # noqa: F401
    seconds, commits = timed(lambda: list(official(path).ancestry(branch="main")))
    assert len(commits) > COMMITS
    return {"seconds": seconds, "mb": hwm()}


def child_manifests(path):
    """An array with a manifest for each chunk."""
    import icechunk
    config = icechunk.RepositoryConfig.default()
    config.manifest = icechunk.ManifestConfig(splitting=icechunk.ManifestSplittingConfig.from_dict(
        {icechunk.ManifestSplitCondition.AnyArray(): {icechunk.ManifestSplitDimCondition.Any(): 1}}))
    return fill(create_official(path, config), MANIFESTS, "manifests")


# ---- the parts ----

def put_chunk(m, i):
    (m / "main/a/c").mkdir(exist_ok=True)
    (m / f"main/a/c/{i}").write_bytes(b"%d" % i)


def firn(b, repo, i):
    m = b.mount("m", repo)
    put_chunk(m, i)
    r = b.firn("commit", m, "-m", f"chunk {i}") | {"driver_mb": b.driver_mb(m)}
    b.umount(m)
    return r


def theirs(b, repo, i):
    return b.child("commit", "commit", repo, i)


def million(b):
    """Each side's own, with a million references."""
    b.say(f"commit: two repositories with {SMALL:,} references")
    b.child("commit", "million", b.dir / "million-theirs")
    return merge.filled(b, "million", SMALL, 10)[0], b.dir / "million-theirs"


def short(b):
    ours, other = b.fixture("million", million)
    b.measure(f"commit 1 chunk of {SMALL:,}", firn=lambda rep: firn(b, ours, rep * 7),
              official=lambda rep: theirs(b, other, rep * 7))
    base, taken = b.dir / "million-base", b.dir / "million-taken"
    shutil.copytree(other, base)

    def first(rep):
        shutil.rmtree(taken, ignore_errors=True)
        shutil.copytree(base, taken)
        return firn(b, taken, rep * 7 + 1)

    b.measure(f"commit 1 chunk of {SMALL:,}, firn's first commit in a repository of the official library",
              firn=first, official=lambda rep: theirs(b, other, rep * 7 + 1))
    for d in base, taken:
        shutil.rmtree(d)


def grown(b):
    small, other = b.fixture("million", million)
    large = b.fixture("ten million", merge.ten_million)[0]
    runs = b.interleave(firn=lambda rep: firn(b, small, 100 + rep * 7), official=lambda rep: theirs(b, other, 100 + rep * 7),
                        large=lambda rep: firn(b, large, 100 + rep * 7))
    a = b.row(f"commit 1 chunk of {SMALL:,}, beside {merge.LARGE:,}", {k: runs[k] for k in ("firn", "official")})
    c = b.row(f"commit 1 chunk of {merge.LARGE:,}", {"firn": runs["large"]})
    b.note(f"commit 1 chunk of {merge.LARGE:,} against {SMALL:,}: {c['firn']['seconds'] / a['firn']['seconds']:.2f} times as long")


def history(b):
    b.say(f"history: {COMMITS:,} commits on each side")
    other, ours, fresh = b.dir / "h-theirs", b.new("h-ours", 2 * LOGGED), b.new("h-fresh", 2 * LOGGED)
    b.child("commit", "history", other, 0, COMMITS)
    m = b.mount("h", ours)
    for i in range(COMMITS):
        put_chunk(m, i)
        b.firn("commit", m, "-m", f"{i}")
    b.umount(m)
    runs = b.interleave(fresh=lambda rep: firn(b, fresh, rep), firn=lambda rep: firn(b, ours, COMMITS + rep),
                        official=lambda rep: theirs(b, other, COMMITS + rep))
    b.row("commit 1 chunk, new repository", {"firn": runs["fresh"]})
    b.row(f"commit 1 chunk after {COMMITS:,} commits", {k: runs[k] for k in ("firn", "official")})
    b.say(f"history: to {LOGGED:,} commits, by the official library")
    b.child("commit", "history", other, COMMITS + b.reps, LOGGED)
    b.measure(f"firn log of {LOGGED:,} commits", firn=lambda rep: b.firn("log", other),
              official=lambda rep: b.child("commit", "log", other))
    for d in other, ours, fresh:
        shutil.rmtree(d)


def manifests(b):
    b.say(f"manifests: {MANIFESTS:,} of one chunk each")
    other, ours = b.dir / "n-theirs", b.dir / "n-ours"
    b.child("commit", "manifests", other)
    shutil.copytree(other, ours)
    b.measure(f"commit 1 chunk of an array with {MANIFESTS:,} manifests", firn=lambda rep: firn(b, ours, rep * 7),
              official=lambda rep: theirs(b, other, rep * 7))
    for d in other, ours:
        shutil.rmtree(d)


if __name__ == "__main__":
    child_main(globals())
