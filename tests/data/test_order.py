import time
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given

from daguerre.data.order import Order
from daguerre.request import RequestError

ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", (3, 4)]),
        st.one_of(st.integers(0, 3), st.integers(0, 350).map(lambda hundredths: hundredths / 100)),
    ),
    min_size=1,
    max_size=40,
).filter(lambda entries: any(repeats for _, repeats in entries))


def epoch(order, number):
    return [order.entries(step) for step in range(number * order.per_epoch, (number + 1) * order.per_epoch)]


@given(entries=ENTRIES, batch=st.integers(1, 9), seed=st.integers(0, 5), number=st.integers(0, 10**6))
def test_every_picture_is_seen_as_often_as_its_repeats_say(entries, batch, seed, number):
    places, repeats = zip(*entries, strict=True)
    order = Order(places, repeats, batch, seed)
    batches = epoch(order, number)
    assert all(len(b) == batch for b in batches)
    assert all(len({places[i] for i in b}) == 1 for b in batches)
    counts = Counter(i for b in batches for i in b)
    for i, r in enumerate(repeats):
        assert counts[i] >= int(r)
        if r == 0:
            assert counts[i] == 0
    for place in set(places):
        members = [i for i, p in enumerate(places) if p == place and repeats[i]]
        wanted = sum(repeats[i] for i in members)
        seen = sum(counts[i] for i in members)
        assert wanted - 1 <= seen
        assert seen < wanted + 1 + batch  # no more than what fills the last batch
        if all(float(repeats[i]).is_integer() for i in members):
            extra = seen - int(wanted)
            assert 0 <= extra < batch
            assert sum(counts[i] - int(repeats[i]) for i in members) == extra


@given(entries=ENTRIES, batch=st.integers(1, 5), steps=st.lists(st.integers(0, 10**6), max_size=5))
def test_the_order_is_a_function_of_seed_and_step(entries, batch, steps):
    places, repeats = zip(*entries, strict=True)
    order = Order(places, repeats, batch, 7)
    for step in [*steps, *reversed(steps)]:
        assert order.entries(step) == Order(places, repeats, batch, 7).entries(step)


def test_whole_epochs_without_filling_are_exact():
    order = Order([0] * 8 + [1] * 4, [1] * 8 + [2] * 4, 4, 0)
    assert order.per_epoch == 4
    for number in range(3):
        assert Counter(i for b in epoch(order, number) for i in b) == {i: 1 if i < 8 else 2 for i in range(12)}


def test_epochs_are_shuffled_and_differ_by_seed():
    order = Order([0] * 32, [1] * 32, 4, 0)
    assert epoch(order, 0) != epoch(order, 1)
    assert epoch(order, 0) != epoch(Order([0] * 32, [1] * 32, 4, 1), 0)
    seen = [i for batch in epoch(order, 0) for i in batch]
    assert seen != sorted(seen)


def test_batches_of_buckets_are_mixed():
    order = Order([0] * 40 + [1] * 40, [1] * 80, 4, 0)
    firsts = [batch[0] // 40 for batch in epoch(order, 0)]
    assert 0 < sum(firsts[:10]) < 10


def test_a_fraction_is_a_chance():
    order = Order([0] * 4, [0.25, 0.75, 1.5, 3.5], 6, 0)
    assert order.per_epoch == 1
    counts = Counter(i for number in range(4000) for b in epoch(order, number) for i in b)
    for i, expected in enumerate([0.25, 0.75, 1.5, 3.5]):
        assert counts[i] / 4000 == pytest.approx(expected, abs=0.03)


def test_a_late_step_is_found_at_once():
    order = Order([i % 5 for i in range(100_000)], [1.5] * 100_000, 8, 0)
    begun = time.process_time()
    order.entries(10**6)
    order.entries(10**9)
    assert time.process_time() - begun < 1
    begun = time.process_time()
    for step in range(10**6, 10**6 + 1000):
        order.entries(step)
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    ("repeats", "batch", "message"),
    [
        ([1, -1], 2, "repeats is -1 to 1"),
        ([1, float("nan")], 2, "repeats is"),
        ([1, 1], 0, "batch is 0"),
        ([0, 0], 2, "no picture is ever seen"),
    ],
)
def test_settings_that_cannot_be(repeats, batch, message):
    with pytest.raises(RequestError, match=message):
        Order([0, 0], repeats, batch, 0)
    with pytest.raises(ValueError, match="2 entries have 1"):
        Order([0, 0], [1], 1, 0)
