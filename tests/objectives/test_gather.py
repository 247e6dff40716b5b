"""The global batch over real processes: two and three of them, with shares of seven rows, against one process."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing import start_processes
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from mac_ray.config import Contrastive
from mac_ray.objectives.contrastive import ContrastiveObjective
from mac_ray.objectives.gather import gather

TOTAL = 7
SAMPLES = torch.tensor([3, 1, 4, 1, 5, 9, 2])  # one sample twice
SHARES = {2: [range(4), range(4, 7)], 3: [range(3), range(3, 5), range(5, 7)]}
LONE_ROW = {
    2: [range(1), range(1, 1)],
    3: [range(1), range(1, 1), range(1, 1)],
}  # fewer rows than ranks


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.video, self.text = nn.Linear(5, 4), nn.Linear(6, 4)

    def forward(self, clips: Tensor, captions: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(self.video(clips), dim=1), F.normalize(self.text(captions), dim=1)


def whole_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(TOTAL, 5, generator=generator), torch.randn(TOTAL, 6, generator=generator)


def losses_and_gradients(rows: range, num_ranks: int) -> dict[str, Any]:
    """One step of contrast on the given rows of the batch, averaged over ranks as training does."""
    torch.manual_seed(1)
    heads: nn.Module = Heads()
    objective: nn.Module = ContrastiveObjective(Contrastive(temperature=0.2, learn_temperature=True))
    encoder = DistributedDataParallel(heads) if num_ranks > 1 else heads
    loss_of = DistributedDataParallel(objective) if num_ranks > 1 else objective
    clips, captions = whole_batch()
    own = slice(rows.start, rows.stop)
    video, text = encoder(clips[own], captions[own])
    loss, parts = loss_of(video, text, SAMPLES[own], TOTAL)
    loss.backward()
    named = [*heads.named_parameters(), *objective.named_parameters()]
    return {
        "loss": loss.detach(),
        "parts": {name: part.detach() for name, part in parts.items()},
        "gradients": {name: parameter.grad for name, parameter in named},
    }


def shared_gradient(rows: range) -> Tensor:
    """Of two gathers whose results are added, so that autograd hands both the same tensor."""
    first = torch.ones(len(rows), 2, requires_grad=True)
    second = torch.ones(len(rows), 2, requires_grad=True)
    weights = torch.arange(2.0 * TOTAL).reshape(TOTAL, 2)
    ((gather(first, TOTAL) + gather(second, TOTAL)) * weights).sum().backward()
    assert first.grad is not None
    assert second.grad is not None
    return torch.stack([first.grad, second.grad])


def one_rank(rank: int, num_ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=num_ranks
    )
    rows, lone = SHARES[num_ranks][rank], LONE_ROW[num_ranks][rank]
    found = {
        "step": losses_and_gradients(rows, num_ranks),
        "integers": gather(SAMPLES[rows.start : rows.stop], TOTAL),
        "images": gather(whole_batch()[0][rows.start : rows.stop, :4].reshape(-1, 2, 2), TOTAL),
        "lone": gather(torch.full((len(lone), 3), 5.0), 1),
        "shared_gradient": shared_gradient(rows),
    }
    torch.save(found, f"{folder}/rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each rank computed, by rank."""
    num_ranks: int = request.param
    folder: Path = tmp_path_factory.mktemp(f"{num_ranks}_ranks")
    start_processes(one_rank, (num_ranks, str(folder)), num_ranks, start_method="forkserver")
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(num_ranks)]


def test_loss_of_uneven_shares_is_that_of_one_process_on_every_rank(found: list[Any]):
    alone = losses_and_gradients(range(TOTAL), 1)
    for rank in found:
        torch.testing.assert_close(rank["step"]["loss"], alone["loss"], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(rank["step"]["parts"], alone["parts"], rtol=1e-6, atol=1e-6)


def test_averaged_gradients_of_uneven_shares_are_those_of_one_process(found: list[Any]):
    alone = losses_and_gradients(range(TOTAL), 1)["gradients"]
    assert all(gradient.abs().max() > 1e-3 for gradient in alone.values())
    for rank in found:
        torch.testing.assert_close(rank["step"]["gradients"], alone, rtol=1e-5, atol=1e-6)


def test_rows_of_any_type_and_shape_come_in_rank_order(found: list[Any]):
    for rank in found:
        assert torch.equal(rank["integers"], SAMPLES)
        assert torch.equal(rank["images"], whole_batch()[0][:, :4].reshape(-1, 2, 2))


def test_ranks_without_a_row_take_part(found: list[Any]):
    for rank in found:
        assert rank["lone"].tolist() == [[5.0, 5.0, 5.0]]


def test_gradient_is_the_sum_over_ranks_even_where_autograd_shares_it(found: list[Any]):
    weights = torch.arange(2.0 * TOTAL).reshape(TOTAL, 2)
    for rank, rows in zip(found, SHARES[len(found)], strict=True):
        expected = len(found) * weights[rows.start : rows.stop]
        assert torch.equal(rank["shared_gradient"], expected.expand(2, -1, -1))


def test_one_process_gets_its_rows_back():
    rows = torch.randn(3, 2, requires_grad=True)
    gathered = gather(rows, 3)
    assert torch.equal(gathered, rows)
    gathered.sum().backward()
    assert torch.equal(rows.grad, torch.ones(3, 2))
