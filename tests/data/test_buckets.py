import hypothesis.strategies as st
import pytest
from hypothesis import given

from daguerre.data.buckets import bucket_of, buckets
from daguerre.data.config import Data
from daguerre.request import RequestError

SIDES = st.integers(1, 70_000)


def test_without_buckets_there_is_one_square():
    assert buckets(Data(size=500)) == [(500, 500)]
    assert bucket_of(30, 4000, Data(size=500)) == (500, 500)


def test_sizes_at_512_and_1024():
    assert buckets(Data(buckets=True)) == [(384, 640), (448, 576), (512, 512), (576, 448), (640, 384)]
    sizes = buckets(Data(buckets=True, size=1024))
    for known in [(768, 1344), (832, 1216), (896, 1152), (960, 1088), (1024, 1024), (1152, 896), (1344, 768)]:
        assert known in sizes  # as SDXL was trained with, arXiv:2307.01952, appendix I


@given(size=st.integers(8, 2048), step=st.sampled_from([8, 16, 32, 64]), reach=st.floats(1, 4), w=SIDES, h=SIDES)
def test_every_picture_gets_a_size_of_the_area_and_shape(size, step, reach, w, h):
    data = Data(size=max(size, step), buckets=True, bucket_step=step, bucket_reach=reach)
    sizes = buckets(data)
    assert (data.size // step * step,) * 2 in [(a, b) for a, b in sizes if a == b]
    for a, b in sizes:
        assert a % step == b % step == 0
        assert a * b <= data.size**2
        assert max(a, b) <= reach * min(a, b)
        assert (b, a) in sizes
    chosen = bucket_of(w, h, data)
    assert chosen in sizes
    assert bucket_of(h, w, data) == chosen[::-1]
    off = max(chosen[0] * h, w * chosen[1]) / min(chosen[0] * h, w * chosen[1])
    assert all(off <= max(a * h, w * b) / min(a * h, w * b) * 1.000001 for a, b in sizes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 7}, "size is 7"),
        ({"buckets": True, "bucket_step": 0}, "bucket_step is 0"),
        ({"buckets": True, "size": 32}, "bucket_step is 64; it must be between 1 and size, 32"),
        ({"buckets": True, "bucket_reach": 0.5}, r"bucket_reach is 0\.5"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(RequestError, match=message):
        buckets(Data(**settings))
