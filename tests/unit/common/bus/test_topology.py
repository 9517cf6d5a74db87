"""The names, types and arguments of queues that exist on the brokers in use."""

import pytest

from common.bus.port import WorkQueue
from common.bus.rabbitmq.topology import COMMANDS, Topology, subscriber_queue, wait_queue
from common.runtime.settings import Settings

RELIABLY = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
BOUNDED = {"x-max-length": 10_000, "x-max-length-bytes": 100_000_000}
COMMAND = {"x-queue-type": "quorum", "x-delivery-limit": 20, "x-dead-letter-exchange": "image.dead", **RELIABLY}
TIMER = {"x-queue-type": "classic", "x-single-active-consumer": True}


def retry(ttl):
    return {"x-queue-type": "quorum", "x-message-ttl": ttl, "x-dead-letter-exchange": "image.work", **RELIABLY}


EXCHANGES = {
    "image.commands": "direct",
    "image.events": "topic",
    "image.timers": "direct",
    "image.dead": "fanout",
    "image.work": "direct",
    "image.timers.wait": "direct",
    "image.events.log": "fanout",
    "image.retry.5000.v2": "fanout",
    "image.retry.30000.v2": "fanout",
    "image.retry.120000.v2": "fanout",
}
QUEUES = {
    "image.commands.generate.v1": COMMAND,
    "image.commands.cancel.v1": COMMAND,
    "image.work.default.v1": COMMAND,
    "image.retry.5000.v2": retry(5000),
    "image.retry.30000.v2": retry(30000),
    "image.retry.120000.v2": retry(120000),
    "image.timer.reconcile.v1": TIMER,
    "image.timer.purge.v1": TIMER,
    "image.timer.sweep.v1": TIMER,
    "image.dead.v2": {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000, **BOUNDED},
    "image.dead.work.v2": {"x-queue-type": "quorum", "x-delivery-limit": 20, **BOUNDED},
    "image.events.log.v1": {
        "x-queue-type": "stream",
        "x-max-age": "3600s",
        "x-max-length-bytes": 500_000_000,
        "x-stream-max-segment-size-bytes": 20_000_000,
    },
    "image.timer.purge.wait.3600000.v1": {
        "x-queue-type": "classic",
        "x-message-ttl": 3_600_000,
        "x-max-length": 1,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "image.timers",
        "x-dead-letter-routing-key": "purge",
    },
    "image.events.a-process": {"x-queue-type": "classic", "x-expires": 600_000, "x-max-length": 10_000},
}


@pytest.mark.fault(row=16)
def test_queues_keep_their_arguments():
    """A queue keeps the arguments of its first declaration; a process that declares others does not start.

    So a changed argument needs a new name with the next version, a row here, and a line in the CHANGELOG that says
    what happens to the old queue.
    """
    settings = Settings()

    topology = Topology(
        settings.retry_delays, settings.event_log_age, settings.event_log_bytes, settings.event_log_segment
    )
    queues = [
        *topology.queues,
        wait_queue(WorkQueue.PURGE, settings.purge_interval),
        subscriber_queue("a-process", frozenset({"image.cancelled"})),
    ]

    assert topology.exchanges == EXCHANGES
    assert {queue.name: queue.arguments for queue in queues} == QUEUES


@pytest.mark.border(rule="A4")
def test_publishers_reach_only_orders_and_cancels():
    topology = Topology((5,), 60, 1_000_000, 100_000)

    assert {key for queue in topology.queues for exchange, key in queue.bindings if exchange == COMMANDS} == {
        "generate",
        "cancel",
    }


@pytest.mark.border(rule="A8")
def test_every_name_begins_with_the_prefix():
    topology = Topology((5,), 60, 1_000_000, 100_000, "staging-")
    queues = [*topology.queues, wait_queue(WorkQueue.PURGE, 60).prefixed("staging-")]
    bound = [exchange for queue in queues for exchange, _ in queue.bindings]
    targets = [value for queue in queues for name, value in queue.arguments.items() if name == "x-dead-letter-exchange"]

    assert all(name.startswith("staging-image.") for name in [*topology.exchanges, *bound, *targets])
    assert all(queue.name.startswith("staging-image.") for queue in queues)
    assert all(name.startswith("staging-image.") for name in topology.retry_queues())
