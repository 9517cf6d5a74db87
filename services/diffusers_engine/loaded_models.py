"""The models in memory: at most a number of them, of which the least recently used makes room.

    use(a) ─▶ load a            use(b) ─▶ release a, load b         (with a limit of 1)

A model is used by one thread at a time, because a pipeline of diffusers keeps the state of its picture. A model is
loaded only while none is used, and none is used meanwhile: the loaders of transformers and accelerate change torch for
the whole process, such as its default type of numbers. Two loads at the same time left torch unusable.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Loaded = TypeVar("Loaded")


class LoadedModels(Generic[Loaded]):
    """Thread-safe; `load` and `release` are called by one thread at a time."""

    def __init__(self, load: Callable[[str], Loaded], release: Callable[[str], None], *, limit: int) -> None:
        """`release` is called after the last reference here is gone."""
        self._load, self._release, self._limit = load, release, limit
        self._entrance = threading.Lock()  # who waits for a load is not overtaken by users of other models
        self._changed = threading.Condition()
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()  # the least recently used first
        self._busy: set[str] = set()  # in use, or being loaded

    @property
    def loading(self) -> tuple[str, ...]:
        with self._changed:
            return tuple(sorted(self._busy - self._loaded.keys()))

    @property
    def loaded(self) -> tuple[str, ...]:
        """The least recently used first."""
        with self._changed:
            return tuple(self._loaded)

    @contextmanager
    def use(self, name: str) -> Iterator[Loaded]:
        """The model for this thread alone; waits for other threads where it must be alone.

        Raises:
            Exception: what `load` raised; the model is not loaded.
        """
        with self._entrance, self._changed:
            self._changed.wait_for(lambda: self._may_use(name))
            self._busy.add(name)
            released = self._make_room()
        try:
            for other in released:
                self._release(other)
            yield self._get(name)
        finally:
            with self._changed:
                self._busy.discard(name)
                self._changed.notify_all()

    def release_idle(self, *, but: str) -> bool:
        """Release the models that no thread uses, except one; returns whether there was any."""
        with self._changed:
            idle = [name for name in self._loaded if name not in self._busy and name != but]
            for name in idle:
                del self._loaded[name]
            self._changed.notify_all()
        for name in idle:
            self._release(name)
        return bool(idle)

    def _get(self, name: str) -> Loaded:
        with self._changed:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                return self._loaded[name]
        model = self._load(name)
        with self._changed:
            self._loaded[name] = model
            self._changed.notify_all()
        return model

    def _may_use(self, name: str) -> bool:
        if name not in self._loaded:
            return not self._busy
        is_loading = self._busy - self._loaded.keys()
        return name not in self._busy and not is_loading

    def _make_room(self) -> list[str]:
        """Called with the lock held. Returns the models that are to be released."""
        released = []
        while len(self._loaded.keys() | self._busy) > self._limit:
            released.append(next(other for other in self._loaded if other not in self._busy))
            del self._loaded[released[-1]]
        return released
