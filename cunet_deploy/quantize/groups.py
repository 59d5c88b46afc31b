"""Groups of tensors that share a scale, so that joining and moving them moves bytes only."""

from __future__ import annotations

from dataclasses import dataclass

from cunet_deploy.model.graph import Graph

__all__ = ["Groups", "activation_groups"]


@dataclass(frozen=True)
class Groups:
    """Groups of tensors that share a scale.

    Attributes:
        of: group of each tensor; a group is named after its first tensor.
        signed: groups that can be negative.
    """

    of: dict[str, str]
    signed: frozenset[str]


def activation_groups(graph: Graph) -> Groups:
    """Group the tensors of a graph (without its input) so that concatenating, pooling and upsampling need no rescale.

    A tensor that cannot be negative is never tied to one that can: it would lose the zero point that absorbs its ReLU
    and half of its levels. A concatenation of both kinds rescales the non-negative part.
    """
    signed: dict[str, bool] = {graph.input: True}
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        copies = node.operation.role == "copy"
        inherits = not node.operation.weighted and not node.relu
        signed[node.output] = any(signed[x] for x in node.inputs) if inherits else not node.relu
        parent[node.output] = node.output
        for x in node.inputs if copies else ():
            if signed[x] == signed[node.output]:
                first, second = sorted((root(x), root(node.output)), key=list(parent).index)
                parent[second] = first
    of = {name: root(name) for name in parent}
    return Groups(of, frozenset(of[name] for name in parent if signed[name]))
