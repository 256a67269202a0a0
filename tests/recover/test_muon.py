"""Orthogonalised momentum: lengths of steps, directions, and vectors by AdamW."""

from __future__ import annotations

import torch

from onnxprune.recover.muon import Muon, orthogonal


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_singular_values_come_near_one() -> None:
    for shape in ((6, 20), (20, 6)):
        found = orthogonal(drawn(*shape) * 1e-3)
        values = torch.linalg.svdvals(found)
        assert float(values.min()) > 0.6
        assert float(values.max()) < 1.3
        left, _, right = torch.linalg.svd(drawn(*shape), full_matrices=False)
        assert float((found - left @ right).norm() / (left @ right).norm()) < 0.3


def test_a_step_is_the_rate_times_the_norm() -> None:
    kernel = torch.nn.Parameter(drawn(8, 4, 3, 3))
    before = kernel.detach().clone()
    kernel.grad = drawn(8, 4, 3, 3).flip(0) * 1e5
    Muon([kernel], 0.02).step()
    assert abs(float((kernel.detach() - before).norm() / before.norm()) - 0.02) < 1e-5


def test_vectors_go_by_adamw() -> None:
    mine, theirs = (torch.nn.Parameter(drawn(5)) for _ in range(2))
    muon = Muon([mine], 0.02, 0.9, 0.1, vectors=0.5)
    adamw = torch.optim.AdamW([theirs], 0.01, (0.9, 0.999), weight_decay=0.1)
    for k in range(4):
        for parameter, optimiser in ((mine, muon), (theirs, adamw)):
            parameter.grad = drawn(5) * (k + 1) - k
            optimiser.step()
    torch.testing.assert_close(mine, theirs)


def test_what_has_no_gradient_stays() -> None:
    weight = torch.nn.Parameter(drawn(3, 3))
    before = weight.detach().clone()
    assert Muon([weight], 0.1).step(lambda: 2.5) == 2.5
    assert torch.equal(weight, before)
