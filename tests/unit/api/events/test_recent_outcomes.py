"""The outcomes of the last minutes."""

from common.domain.images import Failure, Status
from common.messages import ImageChange
from common.runtime.clock import ManualClock
from services.api.events.recent_outcomes import RecentOutcomes
from tests.making import an_event_factory, an_image

CHANGES: dict[Status, ImageChange] = {
    Status.COMPLETED: "image.completed",
    Status.FAILED: "image.failed",
    Status.CANCELLED: "image.cancelled",
}


async def test_outcomes_are_counted_by_minute_and_code():
    clock = ManualClock()
    outcomes = RecentOutcomes(clock)
    factory = an_event_factory(clock)

    def ended(status: Status, code: str | None = None) -> None:
        error = Failure(code=code, detail="") if code else None
        image = an_image(status=status, error=error, created_at=clock.now())
        outcomes.on_event(factory.changed(image, CHANGES[status]))

    ended(Status.COMPLETED)
    ended(Status.FAILED, "deadline")
    clock.advance(150)
    ended(Status.COMPLETED)
    ended(Status.COMPLETED)
    ended(Status.CANCELLED)
    for code in ("inference_refused", "inference_refused", "deadline"):
        ended(Status.FAILED, code)

    assert outcomes.pictures() == [0, 0, 0, 0, 0, 0, 0, 1, 0, 2]
    assert outcomes.failures() == {"deadline": 2, "inference_refused": 2}
    clock.advance(9 * 60)
    assert outcomes.pictures() == [2, *[0] * 9]
    assert outcomes.failures() == {"inference_refused": 2, "deadline": 1}
    clock.advance(120)
    assert (sum(outcomes.pictures()), outcomes.failures()) == (0, {})
