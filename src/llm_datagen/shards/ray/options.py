"""What a Ray executor is told, checked: where the cluster is, and what a shard needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from llm_datagen.config import is_number
from llm_datagen.errors import ConfigError

_OWN = ("num_cpus", "num_gpus", "memory")
"""What Ray has parameters for; everything else that a node may have is a custom resource."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a shard needs of the node that it runs on.

    Attributes:
        num_cpus: cores.
        num_gpus: GPUs.
        memory: bytes; None: Ray does not count them.
        custom: other resources, by name.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory: float | None = None
    custom: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, resources: Mapping[str, float] | None) -> Self:
        """Return what a mapping of resources says: `num_cpus`, `num_gpus`, `memory`, and custom ones by name.

        Raises:
            ConfigError: when it is none, or an amount is no number from 0.
        """
        if resources is not None and not isinstance(resources, Mapping):
            raise ConfigError(f"resources must be an object such as {{'num_cpus': 2}}, got {resources!r}")
        given = dict(resources or {})
        for name, amount in given.items():
            if not isinstance(name, str) or not is_number(amount) or not 0 <= amount < float("inf"):
                raise ConfigError(f"resources: {name!r} must be a number from 0, got {amount!r}")
        if wrong := {"CPU": "num_cpus", "GPU": "num_gpus"}.keys() & given.keys():
            raise ConfigError(f"resources: {min(wrong)} is named num_{min(wrong).lower()}s here")
        own = {name: given.pop(name) for name in _OWN if name in given}
        return cls(**own, custom=given)

    def actor_options(self) -> dict[str, Any]:
        """Return the options of an actor."""
        return {
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "memory": self.memory,
            "resources": dict(self.custom) or None,
        }

    def __str__(self) -> str:
        """Return what they are, as they are given."""
        amounts = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "memory": self.memory, **self.custom}
        return ", ".join(f"{name}={amount:g}" for name, amount in amounts.items() if amount)

    def fit(self, node: Mapping[str, float]) -> bool:
        """Return whether a node may have them, when nothing else runs on it.

        Args:
            node: its resources, as Ray names them.
        """
        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory or 0.0, **self.custom}
        return all(node.get(name, 0.0) >= amount for name, amount in wanted.items() if amount)


@dataclass(frozen=True, slots=True)
class RayOptions:
    """What a connection to Ray needs to know. It is sent to the process that makes it.

    Attributes:
        address: where the cluster is.
        needs: what a shard needs.
        runtime_env: Ray's runtime environment of the actors.
        lost_seconds: how long a shard may be out of reach.
        shows_output: whether what the nodes print is shown here.
        paths: where the driver finds modules, besides its own Python.
    """

    address: str
    needs: Needs
    runtime_env: Mapping[str, Any] | None
    lost_seconds: float
    shows_output: bool
    paths: tuple[str, ...]
