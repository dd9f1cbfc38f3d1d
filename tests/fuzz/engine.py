"""The loop: take an input, change it, give it to a target, and keep what made it say something new.

What a target says (the text of its error without the numbers in it, or what it found) stands in for coverage: an input
that leads to words not heard before has gone where none went, and is worth changing further. The same seed takes the
same way, as long as the code under test says the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fuzz.mutator import mutate
from fuzz.targets import Target

__all__ = ["Finding", "attempt", "inputs", "minimise"]

MOST_KEPT = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that a target failed on.

    :ivar error: the exception: an assertion of the target, or what the code under test should never raise
    """

    target: str
    data: bytes
    error: BaseException

    @property
    def kind(self) -> tuple[str, str, int]:
        """The class of the error, and the file and line that raised it: what makes two findings the same."""
        trace = self.error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = ("", 0) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        return type(self.error).__name__, *place


def attempt(target: Target, data: bytes) -> str | Finding:
    """What the target says of an input."""
    try:
        return target.check(data)
    except Exception as error:
        return Finding(target.name, data, error)


def inputs(
    target: Target, seed: int, note: Callable[[bytes], None] = lambda _: None
) -> Iterator[str | Finding]:
    """Try the corpus, and then changed inputs without end; yields what came of each.

    :param note: is told each input before it is tried, for when trying it ends the process
    """
    chance = random.Random(f"{target.name} {seed}")
    kept = target.corpus()
    heard: set[str] = set()
    for data in list(kept):
        note(data)
        said = attempt(target, data)
        heard.add(said if isinstance(said, str) else "")
        yield said
    while True:
        # The newest half as often as all the others.
        data = kept[chance.choice((chance.randrange(len(kept)), -1 - chance.randrange(len(kept) // 2 + 1)))]
        data = mutate(data, chance, others=kept, tokens=target.tokens, largest=target.largest)
        if target.repair is not None and chance.random() < 0.7:
            data = target.repair(data, chance)
        note(data)
        said = attempt(target, data)
        if isinstance(said, str) and said not in heard:
            heard.add(said)
            kept.append(data)
            if len(kept) > MOST_KEPT:
                del kept[chance.randrange(MOST_KEPT)]
        yield said


def minimise(target: Target, found: Finding, tries: int = 3000) -> Finding:
    """A shorter input that fails in the same place, if one is found in so many tries."""
    size = max(len(found.data) // 2, 1)
    while size and tries > 0:
        at = 0
        while at < len(found.data) and tries > 0:
            tries -= 1
            shorter = attempt(target, found.data[:at] + found.data[at + size :])
            if isinstance(shorter, Finding) and shorter.kind == found.kind:
                found = shorter
            else:
                at += size
        size //= 2
    return found
