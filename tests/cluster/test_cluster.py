"""The test cluster keeps its own promises: every trait of a node and of NFS, and every fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.plugin import MakeCluster


def test_every_node_has_a_name_of_its_own(make_cluster: MakeCluster) -> None:
    """A node calls itself by its name."""
    c = make_cluster(2)

    assert c["n1"].run(["hostname"], user="ann").stdout == "n1\n"
    assert c["n2"].run(["hostname"], user="ann").stdout == "n2\n"
