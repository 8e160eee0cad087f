"""Directories, mounts and processes of a run, and what is left of them cleared away."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import table
from common import GROUP, array_json, drop_caches, hwm

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = (ROOT / os.environ.get("FIRN_BUILD", "build/release")).resolve()
BIN, HELPERS = BUILD / "bin", BUILD / "tests/bench"
MEMORY = pathlib.Path(f"/dev/shm/firn-bench-{os.getuid()}")     # a directory that costs next to nothing


class Bench:
    def __init__(self, directory, reps):
        self.dir, self.reps = directory, reps
        self.env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "XDG_STATE_HOME": str(directory / "state")}
        self.rows, self.notes, self.fixtures, self.started = [], [], {}, time.monotonic()

    def __enter__(self):
        for s in signal.SIGTERM, signal.SIGHUP:
            signal.signal(s, lambda *_: sys.exit("bench: interrupted"))
        self.clear()
        self.dir.mkdir(parents=True)
        return self

    def __exit__(self, *_):
        for s in signal.SIGTERM, signal.SIGHUP, signal.SIGINT:
            signal.signal(s, signal.SIG_IGN)
        self.clear()

    def clear(self):
        """Also what a run that was killed has left."""
        shutil.rmtree(MEMORY, ignore_errors=True)
        for _ in range(10):
            for m in self.mounts():
                subprocess.run([BIN / "firn", "umount", "--discard", m], env=self.env, check=False,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            left = self.mounts()
            for m in left:
                subprocess.run(["fusermount3", "-u", "-z", m], check=False)
            if not left:
                shutil.rmtree(self.dir, ignore_errors=True)
            if not self.dir.exists():
                return
            time.sleep(0.3)
        print(f"bench: {self.dir} could not be removed", file=sys.stderr)

    def mounts(self):
        """Mount points below our directory, the last one first."""
        points = [line.split()[1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
        points = [p.encode().decode("unicode_escape") for p in points]
        return [p for p in reversed(points) if p.startswith(f"{self.dir}/")]

    # ---- processes ----

    def child(self, script, name, *args):
        """child_NAME of a module here, in a process of its own."""
        p = subprocess.run([sys.executable, pathlib.Path(__file__).with_name(script + ".py"), name, *map(str, args)],
                           env=self.env, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(p.stdout.splitlines()[-1])

    def run(self, *argv):
        subprocess.run(list(map(str, argv)), env=self.env, stdout=subprocess.DEVNULL, check=True)

    def firn(self, *args, stderr=None, while_it_runs=None):
        """Run the command: its time, as a user waits for it, its processor time and its peak memory."""
        used = self.dir / f"used-{threading.get_ident()}"
        t = time.perf_counter()
        p = subprocess.Popen([HELPERS / "peak", used, BIN / "firn", *map(str, args)], env=self.env,
                             stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            if while_it_runs:
                while_it_runs(p.pid)
            p.wait()
        finally:
            p.kill()
        seconds = time.perf_counter() - t
        if p.returncode:
            raise SystemExit(f"bench: firn {' '.join(map(str, args))}: exit code {p.returncode}")
        kb, us = map(int, used.read_text().split())
        return {"seconds": seconds, "cpu": us / 1e6, "mb": kb / 1024}

    def mount(self, name, *args):
        m = self.dir / f"mnt-{name}"
        m.mkdir(exist_ok=True)
        self.firn("mount", *args, m)
        return m

    def umount(self, m, *args):
        self.firn("umount", m, *args)

    def driver_mb(self, m, of=hwm):
        """The driver proper, and the process that replaces it should it die."""
        session = json.loads((m / ".firn/session").read_text())
        return sum(of(pid) for pid in {session["pid"], session["worker"]})

    # ---- repositories ----

    def fixture(self, name, make):
        """What several parts need, made once: make(b)."""
        if name not in self.fixtures:
            self.fixtures[name] = make(self)
        return self.fixtures[name]

    def forget(self, *names):
        """Fixtures that no later part needs, and their directories."""
        for name in names:
            for d in self.fixtures.pop(name, ()):
                if isinstance(d, pathlib.Path):
                    shutil.rmtree(d, ignore_errors=True)

    def new(self, name, *shape):
        """A new repository with the array /a of so many chunks."""
        repo = self.dir / name
        self.firn("init", repo)
        m = self.mount("new", repo)
        (m / "main/zarr.json").write_bytes(GROUP)
        (m / "main/a").mkdir()
        (m / "main/a/zarr.json").write_bytes(array_json(*shape))
        self.firn("commit", m, "-m", "array")
        self.umount(m)
        return repo

    def journals(self, repo, n, m, kind):
        """n journals of m chunks each, for the array /a."""
        d = repo.with_name(repo.name + ".journals")
        d.mkdir()
        self.run(HELPERS / "make-journals", repo, n, m, kind, d)
        return d

    # ---- figures ----

    def say(self, text):
        print(f"[{time.monotonic() - self.started:.0f} s] {text}", file=sys.stderr, flush=True)

    def note(self, text):
        self.notes.append(text)
        self.say(text)

    def interleave(self, **sides):
        """Every side once, then every side again: the runs of each."""
        runs = {side: [] for side in sides}
        for rep in range(self.reps):
            for side, f in sides.items():
                runs[side].append(f(rep))
        return runs

    def row(self, what, runs, key="seconds"):
        self.rows.append(table.row_of(what, runs, key))
        self.say(table.line(self.rows[-1]))
        return self.rows[-1]

    def measure(self, what, **sides):
        return self.row(what, self.interleave(**sides))

    def can_drop_caches(self):
        try:
            drop_caches()
            return True
        except (OSError, subprocess.CalledProcessError):
            note = "nothing is measured with cold caches: that needs root, or sudo without a password"
            if note not in self.notes:
                self.note(note)
            return False
