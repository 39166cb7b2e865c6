"""Claims on mounts where a rename may have two winners: looked at until it is known who has the job.

roundqueue(7), Settle. Between a claim and its check beside the neighbours' claims; without `settle` in the
configuration there is nothing to do. Which copy of a job is right is in `words.copies`.
"""

from __future__ import annotations

from roundq.actors.tenants import Tenant, Tenants
from roundq.records import copies as found
from roundq.records.spool import Entry
from roundq.words import copies
from roundq.words.copies import Copy
from roundq.words.states import CLAIMED


def look(tenants: Tenants, now_s: float, settle_s: float) -> bool:
    """Looks for copies of the claims that are due, and removes, gives back or settles what is decided.

    Whether any was settled. `now_s` is monotonic; `settle_s` is configured. Raises OSError if a directory
    cannot be listed; then nothing was decided.
    """
    due = [one for one in tenants if _looks(one) and one.settling and one.settling.is_due(now_s, settle_s)]
    if not due:
        return False
    others = found.others(tenants.spool, {one.entry.id: one.record for one in due}, tenants.node)
    settled = [_judge(tenants, tenant, others.get(tenant.entry.id, []), now_s) for tenant in due]
    return any(settled)


def again_s(tenants: Tenants, now_s: float, settle_s: float) -> float:
    """Seconds until the next look at the latest; infinite if nothing is to be looked at."""
    return min(
        (one.settling.again_s(now_s, settle_s) for one in tenants if _looks(one) and one.settling),
        default=float("inf"),
    )


def _looks(tenant: Tenant) -> bool:
    return tenant.settling is not None and tenant.entry.state == CLAIMED and tenant.child is None


def _judge(tenants: Tenants, tenant: Tenant, others: list[Copy | Entry], now_s: float) -> bool:
    """Whether the claim is settled now, and was not."""
    settling = tenant.settling
    assert settling is not None
    read = [one for one in others if isinstance(one, Copy)]
    first = copies.before(Copy(CLAIMED, tenants.node, tenant.record.attempt), read)
    if first is not None:
        tenants.drop(tenant, first)
    elif len(read) < len(others):
        unread = next(one for one in others if isinstance(one, Entry))
        tenant.obstacle = f"{unread.state}/{unread.file}: it has the id of a claim and cannot be read"
        settling.looked_in_vain()
    else:
        tenant.obstacle = None
        was_settled = settling.is_settled
        settling.looked(is_alone=not others)
        if settling.is_settled and not was_settled:
            # What follows, follows a claim that counts from now on.
            tenant.claimed_s = now_s
            tenants.supersede(tenant)
        if tenant.goes_back is not None and settling.is_alone:
            tenants.withdraw(tenant, tenant.goes_back)
        return settling.is_settled and not was_settled
    return False
