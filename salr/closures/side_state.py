"""What an evaluation of a loss may change besides its result, and how it is put back."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_forward_pre_hook,
)
from torch.nn.parameter import is_lazy

from salr.closures.snapshot import MISSING, Place, Plan, Snapshot, Spot, bound, region, tensors_in
from salr.closures.vectors import is_freed, local
from salr.closures.writes import Writes, same_generator, storages


class SideState:
    """Everything that an evaluation of a closure changes besides its result.

    An optimizer receives parameters, not modules. So what may change is found by watching the first
    evaluation, and one more when a parameter has its first gradient later. This is found by itself:

    - the buffers of every module that is called (``module(...)``), and of all its submodules: their values,
      their shapes, and whether a forward pass binds them anew, removes them or registers them;
    - tensors that such a module keeps as plain attributes, also in tuples, if the watched evaluation binds
      them anew;
    - every other tensor that existed before the watched evaluation and that its forward pass changes in
      place: a buffer of a module that is entered by ``module.forward(...)``, the buffers given to
      ``torch.func.functional_call``, another optimizer's parameters, a sum that the closure accumulates;
    - torch's default generators of the CPU and of the parameters' devices, and every ``torch.Generator`` that
      the watched evaluation draws from.

    This is not found: what a module that is entered only by its ``forward`` binds anew (give it as
    ``modules``), a tensor that is changed in place for the first time in a later evaluation or is a new one
    at each step (such as the batch itself), Python numbers and lists, and noise that torch does not own
    (NumPy's, ``random``'s). Use :attr:`measuring` for these, or draw such noise before the step, outside the
    closure.

    A buffer that the watched evaluation registers stays registered, with the values that it had then.

    Buffers that are views of an optimized parameter follow the parameter and are left out. Watching cannot
    look into compiled code, so the watched evaluation runs uncompiled.

    Args:
        parameters: those that the caller moves and whose gradients it takes. They are never put back by a
            snapshot.
        modules: modules that cannot be found by watching, with all their submodules.

    Example:
        >>> import torch
        >>> from salr.closures import SideState
        >>> model = torch.nn.BatchNorm1d(2)
        >>> side = SideState(model.parameters())
        >>> with side.kept(), side.watching():
        ...     output = model(torch.randn(4, 2))
        >>> int(model.num_batches_tracked)
        0
    """

    def __init__(self, parameters: Iterable[Tensor], modules: nn.Module | Iterable[nn.Module] = ()) -> None:
        self.parameters = list(parameters)
        self.modules: dict[nn.Module, None] = {}
        self.complete = False
        """Whether an evaluation has been watched."""
        self.measuring = False
        """Whether the closure is being evaluated once more than a plain step would do."""
        self.sharded: list[Any] = []
        """Those of the modules that gather their parameters for each pass (FSDP2)."""
        self._used: set[int] = set()
        self._followers: set[tuple[int, str]] = set()  # buffers that share a parameter's memory
        self._attributes: list[tuple[nn.Module, str]] = []
        self._written: list[Place] = []
        self._generators: list[Generator] = []
        self._plan: Plan | None = None  # of the last snapshot
        self._planned_buffers = 0
        self._open: list[Snapshot] = []  # those that what is found from now on belongs to
        for module in [modules] if isinstance(modules, nn.Module) else modules:
            self._add(module)

    def reshard(self) -> None:
        """Let sharded modules (FSDP2) gather their parameters anew.

        The root keeps its parameters gathered after a forward pass that no backward pass has followed, and
        the next pass, the user's included, would not see that the shards have moved since.
        """
        for module in self.sharded:
            module.reshard()

    def others(self) -> list[Tensor]:
        """Return the parameters of the modules found that are not the caller's."""
        own = {id(parameter) for parameter in self.parameters}
        return [
            parameter
            for module in self.modules
            for _, parameter in module._parameters.items()
            if parameter is not None and id(parameter) not in own
        ]

    def snapshot(self, noise: bool = True) -> Snapshot:
        """Return what the next evaluation may change, as it is now.

        Args:
            noise: include the generators.
        """
        snapshot = self.noise() if noise else Snapshot()
        buffers = sum(len(module._buffers) for module in self.modules)
        if self._plan is not None and buffers == self._planned_buffers and self._plan.is_current():
            snapshot.follow(self._plan)
        else:
            spots = self._add_buffers(snapshot, self.modules)
            for module, name in self._attributes:
                spots += self._add_name(snapshot, vars(module), name)
            snapshot.add_values(spots)
            self._plan, self._planned_buffers = snapshot.plan(), buffers
        if self._written:
            tensors = [place.tensor() for place in self._written]
            snapshot.add_values(Spot(tensor) for tensor in tensors if tensor is not None)
        return snapshot

    def noise(self) -> Snapshot:
        """Return the states of the generators, as they are now."""
        snapshot = Snapshot()
        snapshot.add_default_generators(self._devices())
        for generator in self._generators:
            snapshot.add_generator(generator)
        return snapshot

    @contextmanager
    def kept(self, gradients: bool = True) -> Iterator[Snapshot]:
        """Put everything back at the end.

        Args:
            gradients: put back also the gradients of the parameters and of all modules found. Within, they
                start from None.
        """
        snapshot = self.snapshot()
        if gradients:
            snapshot.set_gradients_aside([*self.parameters, *self.others()])
        self._open.append(snapshot)
        try:
            yield snapshot
        finally:
            self._open.remove(snapshot)
            snapshot.restore()

    def misses(self, used: Iterable[Tensor]) -> bool:
        """Return whether another evaluation must be watched, now that these parameters have been used."""
        new = {id(parameter) for parameter in used} - self._used
        if new and self._used:
            self.complete = False
        self._used |= new
        return not self.complete

    @contextmanager
    def watching(self, *snapshots: Snapshot) -> Iterator[None]:
        """Find what one evaluation changes, unless that is known.

        Add what is found, as it was before, to the snapshots.
        """
        if self.complete:
            yield
            return
        targets = [*self._open, *snapshots]
        before: dict[nn.Module, dict[str, object]] = {module: _attributes(module) for module in self.modules}

        own = {id(parameter) for parameter in self.parameters}

        def found(module: nn.Module, _arguments: object) -> None:
            if module in self.modules:
                return
            for child in self._add(module):
                before[child] = _attributes(child)
                if hasattr(child, "_infer_parameters"):  # a lazy module makes its buffers before this hook
                    handles.append(child.register_forward_pre_hook(made))
                for snapshot in targets:
                    snapshot.add_values(self._add_buffers(snapshot, [child]))
                    snapshot.extend_gradients_aside(
                        parameter for parameter in child.parameters(recurse=False) if id(parameter) not in own
                    )

        def made(module: nn.Module, _arguments: object) -> None:
            for snapshot in targets:
                snapshot.add_values(self._add_buffers(snapshot, [module]))

        def registered(module: nn.Module, name: str, buffer: Tensor | None) -> None:
            # The name stays, for the module may not register it twice. Its values go back to these.
            if buffer is not None and bound(module._buffers, name) is MISSING and not is_lazy(buffer):
                for snapshot in targets:
                    snapshot.add_values([Spot(buffer)])

        writes = Writes(targets, known={storage for t in self.parameters for storage in storages(t)})
        handles = [
            register_module_forward_pre_hook(found),
            register_module_buffer_registration_hook(registered),
        ]
        try:
            with _uncompiled(), writes:
                yield
        finally:
            for handle in handles:
                handle.remove()
            self._conclude(writes, before, targets)
        if self.sharded:
            _refuse_gathered(self.parameters)
        self.complete = True

    def _devices(self) -> set[torch.device]:
        return {parameter.device for parameter in self.parameters}

    def _add(self, module: nn.Module) -> list[nn.Module]:
        """Add a module with its submodules. Return those that are new."""
        new = [child for child in module.modules() if child not in self.modules]
        own = {storage for parameter in self.parameters for storage in storages(parameter)}
        for child in new:
            _refuse_flattened(child)
            self.modules[child] = None
            if hasattr(child, "reshard") and hasattr(child, "unshard"):
                self.sharded.append(child)
            for name, buffer in child._buffers.items():
                if buffer is not None and own.intersection(storages(buffer)):
                    self._followers.add((id(child), name))
        return new

    def _add_buffers(self, snapshot: Snapshot, modules: Iterable[nn.Module]) -> list[Spot]:
        """Add what the names of buffers stand for. Return where their values are."""
        spots = []
        for module in modules:
            for name, _ in module._buffers.items():  # noqa: PERF102  (a scripted module's have no keys())
                if not self._followers or (id(module), name) not in self._followers:
                    spots += self._add_name(snapshot, module._buffers, name)
        return spots

    def _add_name(self, snapshot: Snapshot, namespace: dict[str, Any], name: str) -> list[Spot]:
        """Add what a name stands for. Return where the values of the tensors in it are."""
        value = bound(namespace, name)
        snapshot.add_binding(namespace, name, value)
        return [Spot(tensor) for tensor in tensors_in(value)]

    def _conclude(
        self, writes: Writes, before: dict[nn.Module, dict[str, object]], targets: list[Snapshot]
    ) -> None:
        """Sort what has been watched into what later evaluations are expected to change."""
        self._plan = None
        for snapshot in targets:
            # functional_call puts other tensors in place of a module's buffers for one call; they are back
            # already.
            snapshot.forget_bindings(lambda present: not writes.created_all(present))
        for module, attributes in before.items():
            for name, present in _attributes(module).items():
                value = attributes.get(name, MISSING)
                rebound = present is not value and bool(tensors_in(present)) and writes.created_all(present)
                if rebound and (module, name) not in self._attributes:
                    self._attributes.append((module, name))
                    for snapshot in targets if name in attributes else ():
                        snapshot.add_binding(vars(module), name, value)
                        snapshot.add_values(Spot(tensor) for tensor in tensors_in(value))
        gradients = [p.grad for p in (*self.parameters, *self.others()) if p.grad is not None]
        taken = {storage for gradient in gradients for storage in storages(gradient)}
        known = {region(t) for module in self.modules for t in module._buffers.values() if t is not None}
        for tensor in writes.tensors:
            if taken.intersection(storages(tensor)):
                for snapshot in targets:
                    snapshot.forget_values(tensor)
            elif region(tensor) not in known:
                self._written.append(Place(tensor))
        self._generators += [
            g for g in writes.generators if all(not same_generator(g, other) for other in self._generators)
        ]


def _attributes(module: nn.Module) -> dict[str, object]:
    """Return the plain attributes that hold tensors, or nothing yet."""
    if isinstance(module, torch.jit.ScriptModule):
        return {}
    return {name: value for name, value in vars(module).items() if value is None or tensors_in(value)}


def _refuse_flattened(module: nn.Module) -> None:
    if type(module).__name__ == "FullyShardedDataParallel":
        raise ValueError(
            "the closure calls a FullyShardedDataParallel module, whose flat parameters cannot be measured; "
            "shard the model with torch.distributed.fsdp.fully_shard instead"
        )


def _refuse_gathered(parameters: Iterable[Tensor]) -> None:
    """Refuse what ``fully_shard`` frees after each pass."""
    if any(is_freed(parameter) for parameter in parameters if local(parameter) is parameter):
        raise ValueError(
            "a parameter is one that fully_shard has gathered for a pass and freed; expected the shards: "
            "call model.reshard() before model.parameters()"
        )


@contextmanager
def _uncompiled() -> Iterator[None]:
    with warnings.catch_warnings():
        # A compiled module warns that such a hook runs for it and for what it has compiled; the second finds
        # nothing new.
        warnings.filterwarnings("ignore", message="Using `torch.compile")
        with torch.compiler.set_stance("force_eager"):
            yield
