"""Records and data of every kind, as hypothesis draws them."""

import string
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from common.domain.images import Batch, Failure, Format, Lease, Parameters, PendingEvent, Status
from tests.contract.store.records import MS
from tests.making import an_image

zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-8))])
seconds = st.integers(0, 32_000_000_000)  # to the year 2984
moments = st.builds(lambda s, ms, zone: datetime.fromtimestamp(s, zone) + ms * MS, seconds, st.integers(0, 999), zones)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
names = st.text(string.ascii_letters + string.digits + "-_:.$/ é", min_size=1, max_size=20)
floats = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**63), 2**63 - 1)
leases = st.builds(Lease, token=texts, worker=texts, until=moments)
records = st.builds(
    an_image,
    owner=texts,
    prompt=texts | st.just("huge 🦊 " * 3000),
    negative_prompt=texts,
    model=texts,
    width=st.integers(1, 2**31),
    parameters=st.builds(
        Parameters, steps=integers, cfg_scale=floats, sampler=texts, seed=integers, hires_fix=st.booleans()
    ),
    status=st.sampled_from(Status),
    created_at=moments,
    pinned=st.booleans(),
    not_before=st.none() | moments,
    lease=st.none() | leases,
    error=st.none() | st.builds(Failure, code=texts, detail=texts),
    format=st.none() | st.sampled_from(Format),
    file_size=st.none() | integers,
    generation_time=st.none() | floats,
    started_at=st.none() | moments,
    sent_at=st.none() | moments,
    pool=st.none() | texts,
    waiting_since=st.none() | moments,
    dispatched_at=st.none() | moments,
    batch=st.none() | st.builds(Batch, id=texts, index=st.integers(0, 9), count=st.integers(1, 10)),
    batch_due=st.none() | moments,
    deleted_at=st.none() | moments,
    pending_event=st.none() | st.builds(PendingEvent, type=texts, revision=integers, since=moments),
)
scalars = st.booleans() | integers | floats | texts
data = st.dictionaries(
    names.filter(lambda name: not name.startswith("$")),
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)),
    max_size=4,
)
