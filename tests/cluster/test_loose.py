"""The loose mount is as loose as it says: else what is shown on it would show nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.box import Cluster
    from tests.cluster.hand import Hand
    from tests.cluster.plugin import MakeCluster

#: Longer than any of these tests takes, and short enough to be waited for once.
FOREVER, SOON = "late=1000", "late=0.3"
A, B, C = ("/home/ann/" + name for name in "abc")


@pytest.fixture
def loose(make_cluster: MakeCluster) -> Cluster:
    return make_cluster(nodes=2, users=("ann",), fs="loose", fsopts=FOREVER)


@pytest.fixture
def hands(loose: Cluster) -> Iterator[tuple[Hand, Hand]]:
    with loose["n1"].hand("ann") as one, loose["n2"].hand("ann") as two:
        # As it was for long: all of it is seen by all.
        os.close(os.open(f"{loose.home('ann')}/a", os.O_WRONLY | os.O_CREAT))
        os.chown(f"{loose.home('ann')}/a", loose.user("ann").uid, -1)
        with open(f"{loose.home('ann')}/a", "w") as file:
            file.write("text")
        yield one, two


def test_two_nodes_both_rename_one_file(loose: Cluster, hands: tuple[Hand, Hand]) -> None:
    """Both are told that it worked, both see their own name alone, and in truth there are two files."""
    one, two = hands

    assert one.do(f'os.rename("{A}", "{B}")') is None
    assert two.do(f'os.rename("{A}", "{C}")') is None

    assert one.do('ls("/home/ann")') == ["b"]
    assert two.do('ls("/home/ann")') == ["c"]
    assert one.do(f'read("{B}")') == two.do(f'read("{C}")') == "text"
    assert sorted(os.listdir(loose.home("ann"))) == ["b", "c"]
    assert os.stat(f"{loose.home('ann')}/c").st_uid == loose.user("ann").uid


def test_what_another_node_did_is_not_known_yet(hands: tuple[Hand, Hand]) -> None:
    """The old name is listed and read, the new one is neither; one's own changes are known at once."""
    one, two = hands
    one.do(f'os.rename("{A}", "{B}")')
    one.do(f'write("{C}", "new")')

    assert two.do('ls("/home/ann")') == ["a"]
    assert two.do(f'read("{A}")') == "text"
    assert two.do(f'read("{B}")') == "ENOENT"
    assert two.do(f'read("{C}")') == "ENOENT"
    assert two.do(f'os.rename("{B}", "{B}2")') == "ENOENT"
    assert one.do('ls("/home/ann")') == ["b", "c"]
    one.do(f'os.unlink("{C}")')
    assert one.do('ls("/home/ann")') == ["b"]


def test_it_is_known_in_the_end(loose: Cluster, hands: tuple[Hand, Hand]) -> None:
    """After the bound both see the same, and a name that is gone cannot be renamed any more."""
    for node in loose:
        node.fs(set={"late": SOON.removeprefix("late=")})
    one, two = hands
    one.do(f'os.rename("{A}", "{B}")')

    wait_until(lambda: two.do('ls("/home/ann")') == ["b"], 10)

    assert two.do(f'os.rename("{A}", "{C}")') == "ENOENT"
    assert two.do(f'read("{B}")') == "text"
    assert two.do(f'os.rename("{B}", "{C}")') is None
    wait_until(lambda: one.do('ls("/home/ann")') == ["c"], 10)


def test_there_are_no_links(hands: tuple[Hand, Hand]) -> None:
    assert hands[0].do(f'os.link("{A}", "{B}")') == "ENOTSUP"


def test_a_file_of_somebody_else_is_not_moved(loose: Cluster, hands: tuple[Hand, Hand]) -> None:
    """What is late does not open what is closed: root is a stranger here, as on NFS."""
    hands[0].do(f'os.rename("{A}", "{B}")')
    with loose["n2"].hand("root") as stranger:
        assert stranger.do(f'os.rename("{A}", "{C}")') == "EACCES"
