"""Which pictures a step sees: shuffled epochs of batches, each of one bucket, as a function of (seed, step)."""

import hashlib
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from ..request import RequestError

UNIT = 1_000_000  # repeats are counted in millionths, exactly


class Order:
    """The global batches of a run.

    In every epoch entry i is seen floor(repeats[i]) times and once more with the chance of the fraction. Batches
    that a bucket cannot fill take more of its own pictures, so none is lost. The number of batches of an epoch
    is the same for all, whatever is drawn, so any step is found without walking there.
    """

    def __init__(self, bucket_of_entry: Sequence[Hashable], repeats: Sequence[float], batch: int, seed: int):
        if len(bucket_of_entry) != len(repeats):
            raise ValueError(f"{len(bucket_of_entry)} entries have {len(repeats)} numbers of repeats")
        if not all(0 <= r < 1e6 for r in repeats):
            raise RequestError(f"repeats is {min(repeats):g} to {max(repeats):g}; it must be between 0 and a million")
        if batch < 1:
            raise RequestError(f"batch is {batch}; it must be at least 1")
        self.batch, self.seed = batch, seed
        self.repeats = torch.tensor(repeats, dtype=torch.float64).mul(UNIT).round().long()
        members: dict[Hashable, list[int]] = {}
        for entry, bucket in enumerate(bucket_of_entry):
            if self.repeats[entry]:
                members.setdefault(bucket, []).append(entry)
        self.members = [torch.tensor(entries) for entries in members.values()]
        self.batches = [self._most(entries) for entries in self.members]
        self.per_epoch = sum(self.batches)  # batches
        if not self.per_epoch:
            raise RequestError("no picture is ever seen: there is none, or all have repeats = 0")
        self._epoch: tuple[int, Tensor] | None = None

    def entries(self, step: int) -> list[int]:
        """The entries of a step's batch; the step is counted from 0."""
        epoch, position = divmod(step, self.per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self._batches(epoch)
        chosen: list[int] = self._epoch[1][position].tolist()
        return chosen

    def _most(self, entries: Tensor) -> int:
        """Batches that hold the entries' repeats, whether the draw of the fractions turns out low or high."""
        return -(-int(self.repeats[entries].sum()) // (UNIT * self.batch))

    def _batches(self, epoch: int) -> Tensor:
        """All batches of an epoch, (batches, batch)."""
        rng = self._generator(epoch)
        parts = [
            self._filled(entries, n * self.batch, rng) for entries, n in zip(self.members, self.batches, strict=True)
        ]
        batches = torch.cat(parts).view(-1, self.batch)
        return batches[torch.randperm(len(batches), generator=rng)]

    def _filled(self, entries: Tensor, places: int, rng: torch.Generator) -> Tensor:
        """A bucket's entries as often as they shall be seen, shuffled, and some more to fill all places."""
        entries = entries[torch.randperm(len(entries), generator=rng)]
        # Systematic sampling: marks at distance 1, shifted at random, count for the entry on which they fall.
        ends = torch.randint(UNIT, (1,), generator=rng) + self.repeats[entries].cumsum(0)
        counts = (ends // UNIT).diff(prepend=torch.zeros(1, dtype=torch.int64))
        seen = entries.repeat_interleave(counts)
        more = entries.flip(0).repeat(-(-places // len(entries)))[: places - len(seen)]
        return torch.cat([seen[torch.randperm(len(seen), generator=rng)], more])

    def _generator(self, epoch: int) -> torch.Generator:
        digest = hashlib.blake2b(repr((self.seed, "order", epoch)).encode(), digest_size=8).digest()
        return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "little") >> 1)
