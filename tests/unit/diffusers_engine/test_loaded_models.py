"""The bound on the models in memory."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.diffusers_engine.loaded_models import LoadedModels


class Loader:
    def __init__(self, *, limit):
        self.did: list[str] = []
        self.broken: set[str] = set()
        self.go: dict[str, threading.Event] = {}
        self.began = threading.Semaphore(0)
        self.models = LoadedModels(self.load, lambda name: self.did.append(f"release {name}"), limit=limit)

    def load(self, name):
        self.began.release()
        if name in self.go:
            assert self.go[name].wait(20)
        if name in self.broken:
            raise OSError(name)
        self.did.append(f"load {name}")
        return name.upper()

    def use(self, *names):
        for name in names:
            with self.models.use(name) as model:
                assert model == name.upper()


def test_the_least_recently_used_makes_room():
    loader = Loader(limit=2)

    loader.use("a", "b", "a", "c", "a", "b")

    assert loader.did == ["load a", "load b", "release b", "load c", "release c", "load b"]
    assert loader.models.loaded == ("a", "b")


def test_one_model_is_released_before_the_next_is_loaded():
    loader = Loader(limit=1)

    loader.use("a", "b", "b", "a")

    assert loader.did == ["load a", "release a", "load b", "release b", "load a"]


def test_a_model_that_cannot_be_loaded_takes_no_room():
    loader = Loader(limit=1)
    loader.broken = {"b"}
    loader.use("a")

    with pytest.raises(OSError, match="b"):
        loader.use("b")
    assert (loader.models.loaded, loader.models.loading) == ((), ())

    loader.broken = set()
    loader.use("b")
    assert loader.models.loaded == ("b",)


def test_a_model_is_loaded_while_none_is_used():
    """A third model waits for two users, and a user who comes later waits for the third model."""
    loader = Loader(limit=2)
    loader.use("a", "b")
    loader.go["c"] = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        with loader.models.use("a"), loader.models.use("b"):
            third = threads.submit(loader.use, "c")
            assert not loader.models.release_idle(but="a")
            assert loader.models.loaded == ("a", "b")
        later = threads.submit(loader.use, "b")
        loader.go["c"].set()
        third.result(20)
        later.result(20)

    assert loader.did[:4] == ["load a", "load b", "release a", "load c"]


def test_a_model_has_one_user_at_a_time():
    loader, inside, most = Loader(limit=3), [0], []

    def use(_number):
        with loader.models.use("a"):
            inside[0] += 1
            most.append(inside[0])
            inside[0] -= 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(200)))

    assert most == [1] * 200
    assert loader.did == ["load a"]


def test_what_is_being_loaded_is_named():
    """A user of another model waits until the load is over."""
    loader = Loader(limit=2)
    loader.use("b")
    assert loader.began.acquire(timeout=20)
    loader.go["a"] = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        loading = threads.submit(loader.use, "a")
        assert loader.began.acquire(timeout=20)
        other = threads.submit(loader.use, "b")
        assert list(loader.models.loading) == ["a"]
        assert not other.done()
        loader.go["a"].set()
        loading.result(20)
        other.result(20)

    assert not loader.models.loading


def test_idle_models_are_released_except_one():
    loader = Loader(limit=3)
    loader.use("a", "b", "c")

    assert loader.models.release_idle(but="b")
    assert not loader.models.release_idle(but="b")
    assert loader.models.loaded == ("b",)
    assert loader.did[3:] == ["release a", "release c"]
