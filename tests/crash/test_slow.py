"""A store that is slow holds up who waits for it, and nobody else."""
import os
import threading
import time

import pytest

from calls import DELAY, Calls
from conftest import PATIENCE, put, put_array


@pytest.mark.sanitize
@pytest.mark.parametrize("spin", ["on", "off"])
def test_an_open_that_takes_long__others_go_on(repo, mounts, tmp_path, spin):
    """Opening the journal makes all of it durable first: a request of a kind that is short as a rule."""
    calls = Calls(tmp_path / "calls", tmp_path)
    with repo.firn.watching(calls.env):
        m = mounts.enter_context(repo.mount("-o", f"spin={spin}"))
        put_array(m.main, "a", (10,), (1,))
        for round in range(3):
            put(m.main, "a/c/1", bytes([round]) * 100_000)
            calls.arm(1, 1, DELAY + 700)
            begin, took = time.monotonic(), []
            reader = threading.Thread(target=lambda: ((m.path / ".firn/journal").read_bytes(), took.append(time.monotonic() - begin)))
            reader.start()
            slowest, n = 0, 0
            while reader.is_alive():
                at = time.monotonic()
                assert not os.path.exists(m.main / f"none {round} {n}")
                slowest, n = max(slowest, time.monotonic() - at), n + 1
            calls.disarm()
            assert took[0] > 0.5 and n > 20, (took, n)
            assert slowest < 0.2 * PATIENCE, (slowest, n)
        assert (m.main / "a/c/1").read_bytes() == bytes([2]) * 100_000
        m.commit()
