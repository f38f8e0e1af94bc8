import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rsfm.blocks.queue import Queue


@settings(max_examples=50, deadline=None)
@given(length=st.integers(1, 12), counts=st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_queue_holds_the_latest_keys_as_a_list_written_round_would(length, counts):
    queue = Queue(3, length)
    slow, place = [column.tolist() for column in queue.queue.T], 0
    for count in counts:
        keys = torch.randn(count, 3)
        queue.add(keys)
        for key in keys:
            slow[place] = key.tolist()
            place = (place + 1) % length
    assert queue.queue.T.tolist() == slow
    assert queue.queue_ptr.tolist() == [place]


def test_fresh_queue_holds_unit_vectors():
    torch.testing.assert_close(Queue(16, 50).queue.norm(dim=0), torch.ones(50))
