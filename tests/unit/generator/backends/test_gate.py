"""The consumer of a generator, as its back ends open and close their circuits."""

from services.generator.backends.gate import Gate
from tests.borders.media.test_pause import RecordingConsumer
from tests.unit.generator.backends.test_backends import AnsweringServer, several


async def test_the_consumer_takes_what_the_closed_ones_can_paint():
    consumer, told = RecordingConsumer(), []
    backends = await several(AnsweringServer("a"), AnsweringServer("a"), concurrency=2)
    left, right = backends.all
    gate = Gate(backends, consumer, limit=4, on_circuit=lambda: told.append(left.is_open))

    left.switched_open = True
    await gate.pause()
    assert consumer.calls == ["limit 2", "resume"]
    right.switched_open = True
    await gate.pause()
    assert consumer.calls[2:] == ["pause"]
    left.switched_open = right.switched_open = False
    await gate.resume()
    assert consumer.calls[3:] == ["limit 4", "resume"]
    assert told == [True, True, False]
