"""L-BFGS over many convex problems at once, each with its own history and step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: pairs of steps and changes of the gradient that are kept, and halvings of a step at most
_HISTORY, _HALVINGS = 10, 30
#: share of the decrease that the slope promises which a step must give (Armijo)
_SUFFICIENT = 1e-4


def minimise(
    objective: Callable[[Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    *,
    iterations: int = 200,
    tolerance: float = 1e-5,
) -> Tensor:
    """The minimum (P, D) of P smooth convex problems from ``start`` (P, D), by L-BFGS (Nocedal and Wright 2006, ch. 7).

    ``objective`` gives values (P,) and gradients (P, D) at (P, D). A problem stops where no entry of its gradient is
    above ``tolerance``, or where no step lowers it; so none depends on its neighbours.
    """
    x = start
    value, gradient = objective(x)
    steps: list[Tensor] = []
    changes: list[Tensor] = []
    going = gradient.abs().amax(1) > tolerance
    for _ in range(iterations):
        if not going.any():
            break
        direction = -_inverse_hessian(gradient, steps, changes)
        slope = (direction * gradient).sum(1)
        # the first step is along the gradient, whose length says nothing
        length = torch.ones_like(value) if steps else 1 / gradient.norm(dim=1).clamp(min=1.0)
        accepted, new_x, new_value, new_gradient = ~going, x, value, gradient
        for _ in range(_HALVINGS):
            tried = x + length.unsqueeze(1) * direction
            tried_value, tried_gradient = objective(tried)
            lower = (tried_value <= value + _SUFFICIENT * length * slope) & ~accepted
            new_x = torch.where(lower.unsqueeze(1), tried, new_x)
            new_value = torch.where(lower, tried_value, new_value)
            new_gradient = torch.where(lower.unsqueeze(1), tried_gradient, new_gradient)
            accepted = accepted | lower
            if accepted.all():
                break
            length = torch.where(accepted, length, length / 2)
        going = going & accepted & (new_value < value)
        steps.append(new_x - x)
        changes.append(new_gradient - gradient)
        del steps[:-_HISTORY], changes[:-_HISTORY]
        x, value, gradient = new_x, new_value, new_gradient
        going = going & (gradient.abs().amax(1) > tolerance)
    return x


def _inverse_hessian(gradient: Tensor, steps: list[Tensor], changes: list[Tensor]) -> Tensor:
    """The inverse Hessian's estimate times the gradient (P, D); the two loops over the kept pairs, last first."""
    direction = gradient.clone()
    curvatures = [(step * change).sum(1, keepdim=True) for step, change in zip(steps, changes, strict=True)]
    # a problem that stopped has steps of 0, which must not count
    rates = [torch.where(curvature > 0, 1 / curvature, 0.0) for curvature in curvatures]
    shares = []
    for step, change, rate in zip(reversed(steps), reversed(changes), reversed(rates), strict=True):
        share = rate * (step * direction).sum(1, keepdim=True)
        direction -= share * change
        shares.append(share)
    if steps:
        squares = changes[-1].square().sum(1, keepdim=True)
        direction *= torch.where(squares > 0, curvatures[-1] / squares, 1.0)
    for step, change, rate, share in zip(steps, changes, rates, reversed(shares), strict=True):
        direction += step * (share - rate * (change * direction).sum(1, keepdim=True))
    return direction
