"""The likeliest sentence, as far as it is found by keeping a few of the best beginnings in view."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checkpoints.captioners import Writing

Logits = Callable[[Tensor], Tensor]  # ids (B, T) -> logits (B, V) of the token after these
Sentence = tuple[float, list[int]]  # log-likelihood, over length to a power once it is finished; tokens


@torch.no_grad()
def likeliest(logits: Logits, start: int, end: int, how: Writing) -> list[int]:
    """The tokens after `start`, without `end`.

    Twice as many beginnings as are kept compete, so that enough of them go on where others end. The search is over
    once no beginning in view, were it to end here or at the greatest length, beats the finished sentences; with one
    beam that is greedy search.
    """
    running: list[Sentence] = [(0.0, [start])]
    finished: list[Sentence] = []
    for length in range(1, how.most + 1):
        following = F.log_softmax(logits(torch.tensor([ids for _, ids in running])).float().cpu(), dim=-1)
        for row, (_, ids) in zip(following, running, strict=True):
            row[repeating(ids, how.repeat)] = -torch.inf
        likely = (torch.tensor([[score] for score, _ in running]) + following).flatten()
        best = likely.topk(min(2 * how.beams, len(likely)))
        going = list[Sentence]()
        for rank, (score, place) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            row, token = divmod(place, following.shape[1])
            ids = [*running[row][1], token]
            if token != end and length < how.most:
                going.append((score, ids))
            elif rank < how.beams:
                finished.append((score / length**how.penalty, ids))
        running = going[: how.beams]
        finished = sorted(finished, key=lambda one: -one[0])[: how.beams]
        full = len(finished) == how.beams
        longest = how.most if how.early == "never" and how.penalty > 0 else length
        if not running or (full and (how.early is True or running[0][0] / longest**how.penalty <= finished[-1][0])):
            break
    return [token for token in finished[0][1][1:] if token != end] if finished else []


def repeating(ids: Sequence[int], group: int) -> list[int]:
    """The tokens that would make the last `group` tokens a group that was there before; none if that is 0."""
    before = ids[len(ids) - group + 1 :] if group else ids
    starts = range(len(ids) - group + 1) if group else ()
    return [ids[i + group - 1] for i in starts if list(ids[i : i + group - 1]) == list(before)]
