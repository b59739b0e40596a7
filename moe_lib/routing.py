"""Which expert gets what: routers, the record of what they decided, and losses that keep experts in use.

A router is a function of logits that returns ``(gates, Routing)``: the experts' weights, and a record. It
computes in float32 at least, whatever the logits' dtype. Of equal logits the one of lower index wins.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Routed",
    "Routing",
    "cv_squared",
    "dense",
    "dispatch",
    "entropy",
    "importance_loss",
    "load_loss",
    "mutual_information",
    "noisy_top_k",
    "router_logits",
    "switch",
    "switch_loss",
    "top_k",
    "z_loss",
]

# Shapes: R rows (images, windows, tokens, ...), E experts, k of them chosen for a row.
# Logits and the gates that a router returns are (*sizes, E); a record has them as (R, E), R = prod(sizes).


@dataclass(frozen=True, eq=False, repr=False)
class Routing:
    """One decision of a router.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """

    logits: Tensor  # (R, E), without noise
    gates: Tensor  # (R, E), zero where an expert is not chosen
    chosen: Tensor  # (R, k), the experts of each row, the strongest first
    shape: tuple[str, tuple[int, ...]]  # what was routed: ("image", (B,)), ("window", (B, nH, nW)), ...
    noisy: Tensor | None = None  # (R, E), the logits that decided, where noise was added
    prob_in_top_k: Tensor | None = None  # (R, E), if only the expert's own noise were drawn anew

    def __repr__(self) -> str:
        what, sizes = self.shape
        return f"Routing({what} {sizes}: {self.chosen.shape[-1]} of {self.logits.shape[-1]} experts)"

    @property
    def importance(self) -> Tensor:
        """Sum of each expert's gates; ``(E,)``."""
        return self.gates.sum(0)

    @property
    def counts(self) -> Tensor:
        """Rows that use each expert, by a gate above zero; ``(E,)``, whole numbers."""
        return (self.gates > 0).sum(0)

    @property
    def load(self) -> Tensor:
        """Rows that each expert can expect, ``(E,)``: smooth where noise was added, the counts elsewhere."""
        return self.counts.to(self.gates) if self.prob_in_top_k is None else self.prob_in_top_k.sum(0)

    @property
    def entropy(self) -> Tensor:
        """Entropy of each row's gates, in bits; ``(R,)``."""
        return entropy(self.gates)

    def detach(self, *, cpu: bool = False) -> "Routing":
        """The same decision without its gradient; on the CPU, if asked."""
        kept = {f.name: t.detach() for f in fields(self) if isinstance(t := getattr(self, f.name), Tensor)}
        return replace(self, **{name: t.cpu() if cpu else t for name, t in kept.items()})


class Routed(nn.Module):
    """A module whose forward leaves a routing and perhaps a balance loss; copies of it start without them.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """

    routing: Routing | None = None
    balance: Tensor | None = None

    def __getstate__(self) -> dict[str, object]:  # tensors inside a graph cannot be copied, nor pickled
        return {name: value for name, value in vars(self).items() if name not in ("routing", "balance")}


def router_logits(router: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``router(x)`` in float32 even under autocast: bfloat16 rounds to 0.4 %, which makes ties.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    with torch.autocast(x.device.type, enabled=False):
        return router(_full(x))


def dense(logits: Tensor, *, by: str = "softmax", routed: str = "image") -> tuple[Tensor, Routing]:
    """All experts, weighted by the "softmax" of the logits ``(*sizes, E)``, or each by its own "sigmoid".

    ``routed`` says what a row is. A logit of -∞ leaves an expert out, such as a missing sensor. Sigmoids
    divided by their sum are the softmax of ``logsigmoid(logits)``.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    _one_of("by", by, ("softmax", "sigmoid"))
    rows = _rows(logits)
    gates = rows.softmax(-1) if by == "softmax" else rows.sigmoid()
    return _decided(logits, routed, rows, gates, _falling(rows))


def top_k(logits: Tensor, k: int, *, softmax: str, routed: str = "image") -> tuple[Tensor, Routing]:
    """The k experts with the largest logits ``(*sizes, E)``, weighted by a softmax.

    Taken "before" the choice, over all experts, the k gates sum to less than 1. Taken "after" it, over the
    chosen, they sum to 1; and if k is 1 the gate *is* 1, so that no gradient reaches the router.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    rows = _rows(logits)
    return _decided(logits, routed, rows, *_choose(rows, k, softmax, _falling(rows)))


def switch(logits: Tensor, *, routed: str = "image") -> tuple[Tensor, Routing]:
    """One expert, weighted by its probability among all: the task trains the router (Fedus et al., 2022).

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    return top_k(logits, 1, softmax="before", routed=routed)


def noisy_top_k(
    clean: Tensor, noise_scale: Tensor | float, k: int, *, training: bool, noise: Tensor | None = None,
    softmax: str = "after", floor: float = 1e-2, routed: str = "image",
) -> tuple[Tensor, Routing]:  # fmt: skip
    """:func:`top_k` of logits with noise, which also makes the load smooth (Shazeer et al., 2017).

    ``noise_scale`` is the noise's standard deviation, if it is a number; if it is a tensor like ``clean``,
    ``softplus(noise_scale) + floor`` is. ``noise`` gives standard normal numbers, such as recorded ones. If
    not ``training`` there is no noise; then, and if k = E, the load is counted.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    for given in (noise_scale, noise):
        if isinstance(given, Tensor) and given.shape != clean.shape:
            raise ValueError(f"got noise {tuple(given.shape)} for logits {tuple(clean.shape)}: not one shape")
    if (fixed := not isinstance(noise_scale, Tensor)) and not noise_scale > 0:
        raise ValueError(f"the noise needs a positive standard deviation, got {noise_scale!r}")
    if not training:
        return top_k(clean, k, softmax=softmax, routed=routed)
    rows = _rows(clean)
    std = torch.full_like(rows, noise_scale) if fixed else F.softplus(_rows(noise_scale).to(rows)) + floor
    noisy = rows + std * (torch.randn_like(rows) if noise is None else _rows(noise).to(rows))
    order = _falling(noisy)
    gates, chosen = _choose(noisy, k, softmax, order)
    if k == rows.shape[-1]:
        return _decided(clean, routed, rows, gates, chosen, noisy)
    last_in, first_out = noisy.gather(-1, order[:, k - 1 : k + 1]).split(1, -1)
    # Who is in must stay above the first who is out; who is out must come above the last who is in.
    bar = torch.where(noisy > first_out, first_out, last_in)
    return _decided(clean, routed, rows, gates, chosen, noisy, torch.special.ndtr((rows - bar) / std))


def _choose(logits: Tensor, k: int, softmax: str, order: Tensor) -> tuple[Tensor, Tensor]:
    """Gates ``(R, E)`` and indices ``(R, k)`` of the k largest logits, given the order of all."""
    _one_of("softmax", softmax, ("before", "after"))
    if not isinstance(k, int) or not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"k is a whole number from 1 to the {logits.shape[-1]} experts, got {k!r}")
    chosen = order[:, :k]
    before = softmax == "before"
    kept = logits.softmax(-1).gather(-1, chosen) if before else logits.gather(-1, chosen).softmax(-1)
    return torch.zeros_like(logits).scatter(-1, chosen, kept), chosen


def _falling(logits: Tensor) -> Tensor:
    # A stable sort: topk takes whichever of equal logits its device likes.
    return logits.detach().sort(dim=-1, descending=True, stable=True).indices


def _rows(logits: Tensor) -> Tensor:
    if logits.ndim < 2 or not logits.shape[-1]:
        raise ValueError(f"logits are (…, E), a row for whatever is routed; got {tuple(logits.shape)}")
    return _full(logits).reshape(-1, logits.shape[-1])


def _full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _one_of(name: str, value: str, possible: Sequence[str]) -> None:
    if value not in possible:
        raise ValueError(f"{name} is one of {', '.join(possible)}; got {value!r}")


def _decided(logits: Tensor, what: str, rows: Tensor, gates: Tensor, chosen: Tensor, *noisy: Tensor) -> tuple:
    return gates.view(logits.shape), Routing(rows, gates, chosen, (what, tuple(logits.shape[:-1])), *noisy)


def cv_squared(x: Tensor, *, unbiased: bool = True, eps: float = 1e-10) -> Tensor:
    """Variance over squared mean of ``(…, E)``: 0 if all are equal, E (biased: E - 1) if one has everything.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    x = _full(x)
    # Never by a square root: at perfect balance its slope is infinite, and the gradient 0 · ∞ = NaN.
    # One expert alone is balanced, not 0 / 0.
    variance, mean = torch.var_mean(x, -1, correction=int(unbiased and x.shape[-1] > 1))
    return variance / (mean**2 + eps)


def importance_loss(routing: Routing, *, unbiased: bool = True) -> Tensor:
    """:func:`cv_squared` of the importance; without gradient where every gate is 1.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    return cv_squared(routing.importance, unbiased=unbiased)


def load_loss(routing: Routing, *, unbiased: bool = True) -> Tensor:
    """:func:`cv_squared` of the load; without gradient where it is counted.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    return cv_squared(routing.load, unbiased=unbiased)


def switch_loss(routing: Routing) -> Tensor:
    """E · Σ f · P: f is an expert's share of all choices, P its mean probability, which has the gradient.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    share = F.one_hot(routing.chosen, routing.logits.shape[-1]).to(routing.gates).mean((0, 1))
    return len(share) * (share * routing.logits.softmax(-1).mean(0)).sum()


def z_loss(routing: Routing, *, of: str = "logsumexp") -> Tensor:
    """Mean square of the rows' "logsumexp", as in language models, or of all "logits", as in SERA.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    _one_of("of", of, ("logsumexp", "logits"))
    return (routing.logits.logsumexp(-1) if of == "logsumexp" else routing.logits).square().mean()


def entropy(weights: Tensor) -> Tensor:
    """Entropy of weights ``(…, E)`` scaled to sum to 1, in bits, from 0 to log₂ E; ``(…,)``.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    p = F.normalize(_full(weights), p=1, dim=-1)
    return -(p * torch.where(p > 0, p, 1).log2()).sum(-1)  # 0 · log 0 is 0, and has no gradient of NaN


def balance_loss(model: nn.Module) -> Tensor:
    """Sum of the ``balance`` that each routing module left in its last forward; 0 if there is none.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    total = torch.zeros((), device=next((t.device for t in (*model.parameters(), *model.buffers())), None))
    for module, name in _routing_modules(model).items():
        if (term := vars(module).get("balance")) is not None:
            if not isinstance(term, Tensor) or term.ndim:
                raise ValueError(f"the balance of {name!r} should be a tensor of shape (), got {term!r}")
            total = total + term.to(total.device)
    return total


@contextmanager
def watch_routing(model: nn.Module, *, cpu: bool = True) -> Iterator[dict[str, list[Routing]]]:
    """Record every routing made in a model during a ``with`` block, detached, and on the CPU if ``cpu``.

    Yields the name of each module that was called → its routings, one per call; all in the order of calls.
    A routing module has a class attribute ``routing = None``, and its forward sets ``self.routing``. A model
    that ``torch.compile`` ran before skips new hooks, which is an error: watch the model that was compiled.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    records: dict[str, list[Routing]] = {}
    names = _routing_modules(model)
    last = {name: module.routing for module, name in names.items()}

    def record(module: nn.Module, _inputs: object, _output: object) -> None:
        name = names.get(module)  # None for a copy of a watched module, which takes the hook along
        if name is not None and module.routing is not last[name]:  # else it is left from an earlier forward
            last[name] = module.routing
            records.setdefault(name, []).append(module.routing.detach(cpu=cpu))

    handles = [module.register_forward_hook(record) for module in names]
    try:
        yield records
    finally:
        skipped = [name for module, name in names.items() if module.routing is not last[name]]
        names.clear(), last.clear()
        for handle in handles:
            handle.remove()
    if skipped:
        raise RuntimeError(f"the hook of {skipped[0]!r} was skipped: watch the model before it is compiled")


def _routing_modules(model: nn.Module) -> dict[nn.Module, str]:
    # The class is asked: a compiled module passes questions on to the one inside.
    found = {m: name for name, m in model.named_modules() if getattr(type(m), "routing", ...) is None}
    return {m: ".".join(part for part in found[m].split(".") if part != "_orig_mod") for m in found}


def dispatch(x: Tensor, routing: Routing, experts: Sequence[Callable], *, how: str = "gather") -> Tensor:
    """Σ gate · expert(x), in the dtype of ``x``. The ways differ in the calls they make, not in the result.

    "loop" calls an expert for one row at a time; "gather" calls it once, with the rows that use it, and
    leaves one without rows without gradient; "dense" calls every expert with all rows. ``x`` is
    ``(*sizes, …)``, and an expert maps ``(n, …)`` row by row: no batch norm.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    _one_of("how", how, ("loop", "gather", "dense"))
    sizes, number = routing.shape[1], routing.logits.shape[-1]
    if len(experts) != number or x.shape[: len(sizes)] != sizes:
        raise ValueError(f"{routing} does not fit {len(experts)} experts and x of shape {tuple(x.shape)}")
    rows = x.flatten(0, len(sizes) - 1)
    gates = routing.gates.to(torch.promote_types(routing.gates.dtype, x.dtype))
    every = torch.arange(len(rows), device=x.device)
    calls = [(e, every) for e in range(number)]
    if how == "loop":
        calls = [(e, every[i : i + 1]) for i, best in enumerate(routing.chosen.tolist()) for e in best]
    elif how == "gather":
        calls = [(e, some) for e in range(number) if len(some := gates[:, e].nonzero()[:, 0])]
    total = None
    for e, some in calls or [(0, every)]:  # without calls, an expert still tells the shape of its output
        out = experts[e](rows if len(some) == len(rows) else rows[some])
        part = (gates[some, e].view(-1, *[1] * (out.ndim - 1)) * out).to(gates.dtype)
        total = part.new_zeros(len(rows), *part.shape[1:]) if total is None else total
        total.index_add_(0, some, part)  # no row twice in a call: the order of the sum is fixed on any device
    return total.to(x.dtype).unflatten(0, sizes)


def mutual_information(
    chosen: Tensor, labels: Tensor, *, permutations: int = 1000, seed: int = 0
) -> dict[str, float]:
    """How many bits the chosen expert ``(N,)`` tells about a discrete label ``(N,)``, and shuffled labels.

    Chance alone tells more than 0: hence ``null``, the mean over shuffles, and ``p``, the share of them that
    tell as much. Rows must be exchangeable: of many windows with the label of their one image, give one.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    shapes = np.shape(chosen), np.shape(labels)
    if len(shapes[0]) != 1 or shapes[0] != shapes[1] or not len(chosen) or permutations < 1:
        raise ValueError(f"needs two of (N,) and permutations, got {shapes} and {permutations!r}")
    values = [np.asarray(v.cpu() if isinstance(v, Tensor) else v) for v in (chosen, labels)]
    a, b = ((v[:, None] == np.unique(v)).astype(float) for v in values)  # one-hot

    def bits(b: np.ndarray) -> float:
        joint = a.T @ b / len(a)
        apart = joint.sum(1, keepdims=True) * joint.sum(0)
        return float((joint * np.log2(np.where(joint > 0, joint, apart) / apart)).sum())

    random = np.random.default_rng(seed)
    found, null = bits(b), np.array([bits(random.permutation(b)) for _ in range(permutations)])
    reached = int((null >= found - 1e-9).sum())  # the same table, summed in another order, may round down
    return {"bits": found, "null": float(null.mean()), "p": (1 + reached) / (1 + permutations)}
