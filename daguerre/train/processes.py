"""Several processes that train one model together: `torchrun --nproc-per-node 2 -m daguerre train RECIPE`.

Each takes an equal share of every batch; gradients are averaged, so weights are those of one process with the whole
batch. Weights are copied to each process (DDP) or, to train what fits on none, spread over them (FSDP2). Checkpoints
are the same files in all cases; with several machines the run's folder must be one that all of them see.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..models.clip import CLIPText
from ..models.unet import Stage, UNet
from ..request import RequestError
from ..runtime.device import pick_device
from .config import Loop, Optimizer

Loss = Callable[[int, range, bool], tuple[Tensor, dict[str, float]]]  # step, places, whether gradients are averaged now
T = TypeVar("T")
PATIENCE = timedelta(hours=2)
UNSHARDED = ("adafactor", "adamw8bit", "prodigy")  # they need sums over whole tensors, or over all of them


class Trainable(Protocol):
    """What of a recipe counts here."""

    @property
    def trained(self) -> nn.Module: ...

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]: ...


@dataclass(frozen=True)
class Processes:
    """This process among all of them."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and talks."""
        return self.rank == 0

    def share(self, places: range) -> range:
        """The places of a batch that this process has: neighbors, and as many as every other has.

        Raises RequestError if the batch does not divide.
        """
        each, rest = divmod(len(places), self.world)
        if rest or not each:
            near = max(1, round(len(places) / self.world)) * self.world
            raise RequestError(
                f"loop.batch is {len(places)}, which {self.world} processes cannot share equally; {near} would do"
            )
        return places[self.rank * each : (self.rank + 1) * each]

    def averaged(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The mean over the processes of each figure, where it is known."""
        if self.world == 1:
            return dict(figures)
        told: list[dict[str, float]] = [{} for _ in range(self.world)]
        dist.all_gather_object(told, dict(figures))
        names = {name: None for each in told for name in each}  # a dict, for its order
        known = {name: [each[name] for each in told if name in each] for name in names}
        return {name: sum(values) / len(values) for name, values in known.items()}

    def agreed(self, choice: T) -> T:
        """What the first process chose, in all of them."""
        if self.world == 1:
            return choice
        told = [choice]
        dist.broadcast_object_list(told, src=0)
        return told[0]

    def together(self) -> None:
        """Waits for all the others to come here."""
        if self.world > 1:
            dist.barrier()


def here() -> Processes:
    """This process: the only one unless a group was joined."""
    if not (dist.is_available() and dist.is_initialized()):
        return Processes()
    return Processes(dist.get_rank(), dist.get_world_size())


@contextmanager
def joined(device: str | None = None) -> Iterator[torch.device]:
    """The device to train on, `device` if given, as one of the processes that torchrun began, if it did.

    They talk by NCCL on CUDA, where each takes the card of its local rank, and else by gloo. Raises DeviceError for a
    device that is not there.
    """
    world, local = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("LOCAL_RANK", "0")
    kind = pick_device(device)
    if world == 1 or here().world > 1:  # a group that has been joined is left by who joined it
        yield kind
        return
    if kind.type == "cuda":
        kind = pick_device(f"cuda:{local}")
        torch.cuda.set_device(kind)
    # Others wait while the first one draws samples, or for room on its disk.
    dist.init_process_group("nccl" if kind.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield kind
    finally:
        dist.destroy_process_group()


@contextmanager
def in_turn() -> Iterator[None]:
    """The first process goes through the body alone, the others after it: they find what it has left in files."""
    if not here().first:
        here().together()
    yield
    if here().first:
        here().together()


class _Loss(nn.Module):
    """A recipe's loss as the forward pass of a module, so that DDP sees the parameters that it is a function of."""

    def __init__(self, recipe: Trainable):
        super().__init__()
        self.trained, self.recipe = recipe.trained, recipe

    def forward(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        return self.recipe.loss(step, part)


def wrap(recipe: Trainable) -> Loss:
    """The recipe's loss, whose backward pass averages gradients over the processes when it is told to.

    Of several micro-batches only the last one's must, which is why it is told. Sharded parameters average always:
    sums of whole gradients would take the memory that sharding saves. Makes the weights those of the first process.
    """
    if here().world == 1 or any(is_sharded(p) for p in recipe.trained.parameters()):
        return lambda step, part, last: recipe.loss(step, part)
    device = next(recipe.trained.parameters()).device
    cards = [device] if device.type == "cuda" else None
    # A text encoder's last layer, for example, may be left out.
    parallel = nn.parallel.DistributedDataParallel(_Loss(recipe), cards, find_unused_parameters=True)

    def loss(step: int, part: range, last: bool) -> tuple[Tensor, dict[str, float]]:
        with nullcontext() if last else parallel.no_sync():
            told: tuple[Tensor, dict[str, float]] = parallel(step, part)
            return told

    return loss


def shard(module: nn.Module, c: Loop, o: Optimizer) -> None:
    """Spreads the parameters of the U-Nets and text encoders in `module` over the processes, in place: FSDP2.

    Names, and what a forward pass gives, stay as they are; weights become those of the first process. Raises
    RequestError where this cannot be: for parameters elsewhere, as of adapters, and settings that need whole ones.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    networks = [part for part in module.modules() if isinstance(part, UNet | CLIPText)]
    inside = {id(p) for network in networks for p in network.parameters()}
    outside = [name for name, p in module.named_parameters() if id(p) not in inside]
    if outside:
        raise RequestError(f"loop.shard is for whole networks, and {outside[0]} is not part of one; leave it off")
    if o.name in UNSHARDED:
        raise RequestError(f"optimizer.name {o.name!r} cannot work on shards; choose adamw, or leave loop.shard off")
    if c.precision == "float16":
        raise RequestError(
            "loop.precision 'float16' cannot be scaled on shards; choose bfloat16, or leave loop.shard off"
        )
    for network in networks:
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, src=0)
        mesh = init_device_mesh(next(network.parameters()).device.type, (here().world,))
        for part in network.modules():
            if isinstance(part, Stage):
                fully_shard(part, mesh=mesh)
        fully_shard(network, mesh=mesh)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean of the processes' gradients, in each: for what learns along beside the loop, such as a discriminator."""
    world = here().world
    for p in parameters if world > 1 else ():
        if p.grad is not None:
            dist.all_reduce(p.grad)
            p.grad /= world


def clip_gradients(parameters: list[nn.Parameter], most: float) -> Tensor:
    """Scales gradients down to a norm of `most`; returns the norm they had, a scalar equal in all processes."""
    norm = nn.utils.clip_grad_norm_(parameters, most)
    return norm.full_tensor() if is_sharded(norm) else norm  # type: ignore[attr-defined]


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a part of the tensor only."""
    if here().world == 1:
        return False
    from torch.distributed.tensor import DTensor  # here, because it takes half a second

    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together on the CPU of the first process, any other as it is. All processes must call.

    The others get an empty one on the meta device, so that no machine holds the model once per process.
    """
    if not is_sharded(tensor):
        return tensor
    full: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return full.to("cpu" if here().first else "meta")


def gather(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`whole` of each: what a checkpoint holds, in the first process."""
    return {name: whole(tensor) for name, tensor in tensors.items()}


def fill(tensor: Tensor, values: Tensor) -> Tensor:
    """Writes `values`, a whole tensor in every process, into one that may be sharded, and returns that."""
    if is_sharded(tensor):
        from torch.distributed.tensor import distribute_tensor

        values = distribute_tensor(values.to(tensor.device), tensor.device_mesh, tensor.placements)  # type: ignore[attr-defined]
    return tensor.copy_(values)


@torch.no_grad()
def load(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """`module.load_state_dict` of whole tensors, also where the module is sharded. Raises RuntimeError as that does."""
    own = module.state_dict()
    if not any(is_sharded(tensor) for tensor in own.values()):
        module.load_state_dict(tensors)
        return
    if own.keys() != tensors.keys():
        raise RuntimeError(f"the state differs in {', '.join(sorted(own.keys() ^ tensors.keys())[:3])}")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise RuntimeError(f"{name} has the shape {tuple(tensors[name].shape)} and not {tuple(tensor.shape)}")
        fill(tensor, tensors[name])
