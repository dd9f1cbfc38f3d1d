"""Progress is told now and then, not with every chunk."""

from __future__ import annotations

import itertools
import time

from casync_compat.progress import Progress, Reporter


def test_reports_at_most_ten_times_a_second() -> None:
    """Whoever asks in a loop is due at once, and then every tenth of a second."""
    calls: list[float] = []
    reporter = Reporter(lambda progress: calls.append(time.monotonic()))
    end = time.monotonic() + 0.35
    while time.monotonic() < end:
        if reporter.due:
            reporter.report()
    assert 2 <= len(calls) <= 4
    assert all(later - earlier > 0.09 for earlier, later in itertools.pairwise(calls))


def test_the_callback_gets_the_state() -> None:
    """What was noted in `state` is what the callback sees; nothing is known at first."""
    seen: list[tuple[int, int | None, int, int, int, bytes]] = []

    def callback(p: Progress) -> None:
        seen.append((p.done, p.total, p.entries, p.chunks, p.new_chunks, p.path))

    reporter = Reporter(callback)
    assert reporter.active
    reporter.report()
    reporter.state.done = 7
    reporter.state.total = 9
    reporter.state.path = b"etc/hosts"
    reporter.report()
    assert seen == [(0, None, 0, 0, 0, b""), (7, 9, 0, 0, 0, b"etc/hosts")]


def test_what_was_told_stays_as_it_was() -> None:
    """A callback may keep what it gets: the run goes on with a value of its own."""
    seen: list[Progress] = []
    reporter = Reporter(seen.append)
    for done in (1, 2):
        reporter.state.done = done
        reporter.report()
    assert seen == [Progress(1), Progress(2)]
    assert len(set(seen)) == 2


def test_without_a_callback_nothing_is_ever_due() -> None:
    """Nobody listens: it costs nothing."""
    reporter = Reporter(None)
    assert not reporter.active
    assert not reporter.due
    reporter.report()
    assert reporter.state.now() == Progress()
