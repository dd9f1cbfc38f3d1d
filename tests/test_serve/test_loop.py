"""The server's event loop: nothing that another thread brings is left lying."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading

from casync_compat.serve.loop import ServerLoop


def test_all_that_threads_bring_is_done() -> None:
    """One by one to a loop that waits for each, and many at once; and signals arrive."""

    async def run() -> int:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            for _ in range(500):
                await loop.run_in_executor(None, os.getpid)
            done = [loop.create_future() for _ in range(4)]
            counts = [0] * 4

            def count(number: int) -> None:
                counts[number] += 1
                if counts[number] == 2000:
                    done[number].set_result(None)

            def bring(number: int) -> None:
                for _ in range(2000):
                    loop.call_soon_threadsafe(count, number)

            threads = [threading.Thread(target=bring, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            await asyncio.gather(*done)
            told = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR2, told.set)
            os.kill(os.getpid(), signal.SIGUSR2)
            await told.wait()
            loop.remove_signal_handler(signal.SIGUSR2)
        for thread in threads:
            thread.join()
        return sum(counts)

    with asyncio.Runner(loop_factory=ServerLoop) as runner:
        assert runner.run(run()) == 8000


def test_it_is_woken_once() -> None:
    """While the loop is busy, a second thing costs no further byte."""

    async def run() -> int:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, os.getpid)
        await asyncio.sleep(0)
        for _ in range(100):
            loop.call_soon_threadsafe(lambda: None)
        waits: socket.socket = loop._ssock  # type: ignore[attr-defined]
        return len(waits.recv(4096, socket.MSG_PEEK))

    with asyncio.Runner(loop_factory=ServerLoop) as runner:
        assert runner.run(run()) == 1
