"""The transitions of the record: changes, rejections, soundness under any sequence."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.domain import images, transitions, turns
from common.domain.errors import Invalid, InvalidTransition
from common.domain.images import ALLOWED_NEXT, FINAL, Failure, Format, Image, Lease, Picture, Status
from common.domain.transitions import MAX_LOST
from common.runtime.clock import ManualClock
from tests.making import NOON, an_image

DEADLINE = timedelta(seconds=900)
BROKEN = Failure(code="inference_failed", detail="it answered 503")


def lease(clock, token="a", seconds=30):
    return Lease(token=token, worker=f"worker-{token}", until=clock.now() + timedelta(seconds=seconds))


def claimed(clock, image=None, token="a"):
    return transitions.claim(
        image or an_image(created_at=clock.now()), lease=lease(clock, token), now=clock.now(), deadline=DEADLINE
    )


def a_picture(image):
    return Picture(
        image_file=images.image_key(image, Format.PNG),
        thumbnail=images.thumbnail_key(image, Format.PNG),
        format=Format.PNG,
        file_size=1000,
        width=64,
        height=64,
        generation_time=1.5,
    )


def completed(clock, image):
    return transitions.complete(
        image, lease=image.lease, attempt=image.attempts, picture=a_picture(image), now=clock.now()
    )


def test_new_image_ids_sort_by_time_and_are_version_7():
    clock = ManualClock()
    first = images.new_image_id(clock.now())
    clock.advance(0.001)
    second = images.new_image_id(clock.now())

    assert first < second
    assert first[14] == "7"
    assert first[19] in "89ab"


@pytest.mark.parametrize("text", ["", "x", "../../etc/passwd", "01890000-0000-7000-8000-00000000000", "0" * 32])
def test_image_id_refuses_what_is_not_a_canonical_uuid(text):
    with pytest.raises(Invalid):
        images.parse_image_id(text)


def test_claim_takes_a_queued_image():
    clock = ManualClock()

    image = claimed(clock)

    assert (image.status, image.attempts, image.started_at, image.revision) == ("running", 1, clock.now(), 2)


def test_claim_twice_by_the_same_worker_changes_nothing():
    clock = ManualClock()
    image = claimed(clock)

    assert claimed(clock, image) is image


def test_claim_refuses_an_image_under_a_live_lease():
    clock = ManualClock()
    image = claimed(clock)

    with pytest.raises(InvalidTransition) as refused:
        claimed(clock, image, token="b")
    assert refused.value.code == "leased"


def test_claim_of_an_expired_lease_fences_the_first_worker():
    clock = ManualClock()
    first = claimed(clock)
    clock.advance(31)

    second = claimed(clock, first, token="b")

    assert (second.attempts, second.lost) == (2, 1)
    with pytest.raises(InvalidTransition) as refused:
        transitions.complete(second, lease=first.lease, attempt=1, picture=a_picture(first), now=clock.now())
    assert refused.value.code == "lease_lost"


def test_claim_leaves_the_deadline_to_the_janitor():
    clock = ManualClock()
    image = an_image(created_at=clock.now())
    clock.advance(900)

    assert claimed(clock, image).status == "running"


@pytest.mark.fault(row=17)
def test_a_retry_dated_past_the_deadline_is_claimed():
    clock, ahead = ManualClock(), ManualClock()
    ahead.advance(3600)
    image = claimed(clock)

    given = transitions.give_back(image, lease=image.lease, attempt=1, now=ahead.now())

    assert claimed(clock, given).status == "running"


def test_claim_refuses_a_retry_that_is_not_due():
    clock = ManualClock()
    image = claimed(clock)
    waiting = transitions.retry(
        image,
        lease=image.lease,
        attempt=1,
        error=BROKEN,
        not_before=clock.now() + timedelta(seconds=5),
        counts=True,
        now=clock.now(),
    )

    with pytest.raises(InvalidTransition) as refused:
        claimed(clock, waiting)
    assert refused.value.code == "too_early"
    clock.advance(5)
    assert claimed(clock, waiting).attempts == 2


def test_the_third_transient_error_fails_the_image():
    clock = ManualClock()
    image = an_image(created_at=clock.now())
    for _ in range(3):
        image = claimed(clock, image)
        image = transitions.retry(
            image,
            lease=image.lease,
            attempt=image.attempts,
            error=BROKEN,
            not_before=clock.now(),
            counts=True,
            now=clock.now(),
        )

    assert (image.status, image.failures, image.error) == ("failed", 3, BROKEN)


def test_an_image_that_outlives_six_workers_fails():
    clock = ManualClock()
    image = claimed(clock)
    for number in range(MAX_LOST):
        clock.advance(31)
        image = claimed(clock, image, token=str(number))

    assert (image.status, image.error.code, image.attempts) == ("failed", "worker_lost", MAX_LOST)


def test_giving_back_counts_neither_a_failure_nor_a_lost_worker():
    clock = ManualClock()
    image = claimed(clock)

    given = transitions.give_back(image, lease=image.lease, attempt=1, now=clock.now())

    assert (given.status, given.failures, given.lost, given.sent_at, given.lease) == ("queued", 0, 0, None, None)


def test_a_final_transition_has_its_event_and_frees_the_slot():
    clock = ManualClock()
    image = claimed(clock, an_image(created_at=clock.now(), slot="local:0"))

    done = completed(clock, image)

    assert (done.pending_event.type, done.pending_event.revision, done.slot) == ("image.completed", done.revision, None)


def test_completing_twice_changes_nothing():
    clock = ManualClock()
    image = claimed(clock)
    done = completed(clock, image)

    again = transitions.complete(done, lease=image.lease, attempt=1, picture=a_picture(image), now=clock.now())

    assert again is done


def test_cancel_of_a_final_image_is_refused_with_its_state():
    clock = ManualClock()
    done = completed(clock, claimed(clock))

    with pytest.raises(InvalidTransition) as refused:
        transitions.cancel(done, now=clock.now())
    assert refused.value.status == "completed"


def test_delete_of_a_running_image_cancels_it_too():
    clock = ManualClock()
    image = claimed(clock)

    deleted = transitions.delete(image, now=clock.now())

    assert (deleted.status, deleted.pending_event.type, deleted.revision) == ("cancelled", "image.deleted", 3)
    assert deleted.pending_event.revision == deleted.revision


def test_a_published_event_is_not_pending_after_a_pin():
    clock = ManualClock()
    done = completed(clock, claimed(clock))
    pinned = transitions.pin(done, pinned=True)

    assert transitions.mark_event_published(pinned, pending=done.pending_event).pending_event is None


def test_sent_is_not_noted_once_another_claim_came_in_between():
    clock = ManualClock()
    image = an_image(created_at=clock.now())
    running = claimed(clock, image)

    assert transitions.mark_sent(running, attempts=0, now=clock.now()) is running


def test_a_waiting_image_is_not_claimed_before_its_turn():
    clock = ManualClock()
    image = an_image(created_at=clock.now(), waiting_since=clock.now(), slot="local:w0")

    with pytest.raises(InvalidTransition) as refused:
        claimed(clock, image)
    clock.advance(5)
    dispatched = transitions.dispatch(image, slot="local:1", now=clock.now())

    assert refused.value.code == "waiting"
    assert (dispatched.slot, dispatched.dispatched_at, dispatched.waiting_since) == ("local:1", clock.now(), None)
    assert claimed(clock, dispatched).attempts == 1


def test_a_dispatch_replaces_the_news_that_it_waits():
    image = turns.waiting(an_image(), place=None)

    assert image.pending_event.type == "image.queued"
    assert transitions.dispatch(image, slot=None, now=NOON).pending_event is None


def test_only_a_waiting_image_is_dispatched():
    clock = ManualClock()

    for image in (an_image(), claimed(clock), completed(clock, claimed(clock))):
        with pytest.raises(InvalidTransition):
            transitions.dispatch(image, slot="local:0", now=clock.now())


def test_no_dispatch_is_dated_before_the_request():
    image = an_image(waiting_since=NOON)

    assert transitions.dispatch(image, slot=None, now=NOON - timedelta(hours=1)).dispatched_at == NOON


def test_an_image_that_waits_again_keeps_its_attempts_only():
    clock = ManualClock()
    first = claimed(clock, an_image(created_at=clock.now(), slot="local:0"))
    image = transitions.give_back(first, lease=first.lease, attempt=1, now=clock.now())
    image = transitions.mark_sent(image, attempts=1, now=clock.now())
    later = clock.now() + timedelta(seconds=5)

    waiting = transitions.set_waiting(image, now=clock.now(), not_before=later)

    assert (waiting.attempts, waiting.slot, waiting.sent_at, waiting.queued_since) == (1, None, None, None)
    assert (waiting.waiting_since, waiting.not_before) == (clock.now(), later)
    assert (waiting.pending_event.type, waiting.pending_event.revision) == ("image.queued", waiting.revision)
    assert transitions.set_waiting(waiting, now=later, not_before=later) is waiting
    with pytest.raises(InvalidTransition):
        transitions.set_waiting(first, now=clock.now())


def test_sent_is_not_noted_for_an_earlier_dispatch():
    clock = ManualClock()
    image = transitions.dispatch(an_image(waiting_since=NOON), slot="local:0", now=clock.now())
    waiting = transitions.set_waiting(image, now=clock.now())
    clock.advance(1)
    again = transitions.dispatch(waiting, slot="local:0", now=clock.now())

    for later in (waiting, again):
        sent = transitions.mark_sent(later, attempts=0, dispatched_at=image.dispatched_at, now=clock.now())
        assert sent is later


def test_the_back_end_is_known_until_its_work_is_over():
    """A lost worker, a stop and a first failure keep its name; a refused result, a second failure, the end drop it."""
    clock = ManualClock()

    def at_left(image=None):
        of_left = lease(clock).model_copy(update={"backend": "left"})
        queued = image or an_image(created_at=clock.now())
        return transitions.claim(queued, lease=of_left, now=clock.now(), deadline=DEADLINE)

    def failed(image, **more):
        held = {"lease": image.lease, "attempt": image.attempts, "now": clock.now()}
        error = Failure(code="inference_failed", detail="")
        return transitions.retry(image, error=error, not_before=clock.now(), counts=True, **held, **more)

    running = at_left()
    lost = transitions.expire_lease(running, lease=running.lease, now=clock.now())
    once = failed(running)

    assert (running.backend, running.last_backend, lost.last_backend, once.last_backend) == (None, *["left"] * 3)
    assert transitions.give_back(running, lease=running.lease, attempt=1, now=clock.now()).last_backend == "left"
    assert [failed(running, refused=True).last_backend, failed(at_left(once)).last_backend] == [None, None]
    assert (completed(clock, running).last_backend, transitions.cancel(lost, now=clock.now()).last_backend) == (
        None,
        None,
    )
    assert claimed(clock, lost).last_backend is None, "the worker is of an older version"


def test_the_name_of_a_file_carries_the_attempt():
    clock = ManualClock()
    image = an_image(created_at=clock.now())
    first = claimed(clock, image)
    clock.advance(31)
    second = claimed(clock, first, token="b")

    assert images.image_key(first, Format.PNG) == f"generated_images/2025/01/{image.id}.png"
    assert images.thumbnail_key(second, Format.JPEG) == f"thumbnails/2025/01/{image.id}-2.jpg"


WORKERS = ["a", "b", "c"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.sampled_from(WORKERS)),
        st.tuples(st.just("renew"), st.sampled_from(WORKERS)),
        st.tuples(st.just("complete"), st.sampled_from(WORKERS)),
        st.tuples(st.just("retry"), st.sampled_from(WORKERS)),
        st.tuples(st.just("give_back"), st.sampled_from(WORKERS)),
        st.tuples(st.just("fail"), st.sampled_from(WORKERS)),
        st.tuples(
            st.sampled_from(["expire_lease", "cancel", "delete", "tombstone", "pin", "deadline", "dead_letter"]),
            st.just(""),
        ),
        st.tuples(st.sampled_from(["set_waiting", "dispatch"]), st.just("")),
        st.tuples(st.just("wait"), st.sampled_from([1, 10, 31, 300])),
    ),
    max_size=40,
)


@given(steps=STEPS)
@settings(max_examples=400, deadline=None)
def test_no_sequence_of_transitions_reaches_a_forbidden_state(steps):
    """Each worker acts on its last known claim, however old; the record must be sound after each transition."""
    clock = ManualClock()
    record = an_image(created_at=clock.now(), slot="local:0")
    claims: dict[str, Image] = {}
    finals: list[str] = []
    for what, who in steps:
        if what == "wait":
            clock.advance(who)
            continue
        before = record
        try:
            record = _apply(what, who, record, claims, clock)
        except InvalidTransition:
            continue
        if what == "claim" and record.status is Status.RUNNING:
            claims[who] = record
        _require_sound(before, record, clock)
        if record.status in FINAL and before.status not in FINAL:
            finals.append(record.status)
    assert len(finals) <= 1


def _apply(what, who, record, claims, clock):
    now = clock.now()
    anyones = {
        "claim": lambda: transitions.claim(record, lease=lease(clock, who), now=now, deadline=DEADLINE),
        "expire_lease": lambda: transitions.expire_lease(record, lease=record.lease, now=now),
        "cancel": lambda: transitions.cancel(record, now=now),
        "delete": lambda: transitions.delete(record, now=now),
        "tombstone": lambda: transitions.tombstone(record, now=now),
        "pin": lambda: transitions.pin(record, pinned=not record.pinned),
        "deadline": lambda: transitions.fail_past_deadline(record, now=now),
        "dead_letter": lambda: transitions.fail(record, error=BROKEN, now=now),
        "set_waiting": lambda: transitions.set_waiting(record, now=now),
        "dispatch": lambda: transitions.dispatch(record, slot="local:1", now=now),
    }
    if what in anyones:
        return anyones[what]()
    if who not in claims:
        return record
    mine = {"lease": lease(clock, who), "attempt": claims[who].attempts}
    later = now + timedelta(seconds=5)
    workers = {
        "renew": lambda: transitions.renew(record, **mine),
        "complete": lambda: transitions.complete(record, **mine, picture=a_picture(claims[who]), now=now),
        "retry": lambda: transitions.retry(record, **mine, error=BROKEN, not_before=later, counts=True, now=now),
        "give_back": lambda: transitions.give_back(record, **mine, now=now),
        "fail": lambda: transitions.fail(record, error=BROKEN, now=now, **mine),
    }
    return workers[what]()


def _require_sound(before: Image, after: Image, clock):
    if after is before:
        return
    assert after.revision == before.revision + 1
    if after.status is not before.status:
        assert after.status in ALLOWED_NEXT[before.status]
    assert before.status not in FINAL or after.status is before.status
    assert (after.lease is not None) == (after.status is Status.RUNNING)
    assert after.attempts in {before.attempts, before.attempts + 1}
    assert after.failures < transitions.MAX_FAILURES or after.status is Status.FAILED
    if after.status is Status.COMPLETED and after.tombstoned_at is None:
        # the visible file belongs to the last attempt that held the lease
        assert after.image_file == images.image_key(after, Format.PNG)
    if after.is_waiting:
        assert (after.status, after.slot, after.sent_at) == (Status.QUEUED, None, None)
        assert after.pending_event.type == "image.queued"
    if after.status is Status.RUNNING:
        assert after.slot is not None
    if after.status in FINAL:
        assert after.slot is None
        assert after.pending_event is not None
    if before.deleted_at is not None:
        assert after.deleted_at == before.deleted_at
    if before.status is Status.RUNNING and after.attempts > before.attempts:
        assert before.lease.until <= clock.now()
