"""What the lists show, for programs: one JSON value, which `as_json` describes and promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from roundq.actors.listing import Listing
from roundq.actors.sets import Whole
from roundq.faces import job_fields, values
from roundq.faces.cluster import NodeFacts, UserFacts
from roundq.faces.queue_view import Facts
from roundq.faces.standings import Standing
from roundq.words.findings import Finding
from roundq.words.groups import MARK

SCHEMA = 1

moment, seconds, text_of = values.moment, values.seconds, values.text_of


def as_json(now_ns: int, **lists: Any) -> dict[str, Any]:
    """The value that --json prints.

    Programs may rely on this: the number `schema` grows when a name goes away or changes its meaning;
    names may be added at any time. Times are UTC, as in "2026-03-09T14:05:00.250Z"; durations are
    seconds; sizes are bytes; null is what is not known, or does not apply. Texts are valid Unicode: a
    byte that is none of UTF-8 is written as a backslash, x and two digits.

    Always:

        schema      1
        now         the time of the node where the command ran

    `rq --json`:

        jobs        a list of objects, users by name and each user's states in the order
                    of a job's life, all that wait, are claimed or run, and what ended recently:
            id, user, home     whose job; an id is unique among its user's. home is null if it cannot be
                               read: then only what the user's cards tell is known, see COMMONS in
                               roundqueue(7), and nothing of ended jobs, commands and output
            state              held, waiting, claimed, running, completed, failed, canceled, zombie (lost)
            is_mine            whether it is yours
            node               where it is claimed, runs or ran
            name, command (a list of words), directory
            output, error      as asked for: output null is rq-ID.out, error null the same as output
            priority, restartable, attempt (from 1)
            cores              granted, or asked for; null: all of a node
            memory, memory_limit, time_limit  as asked for; 0 memory: no promise; null: no limit
            gpus               how many it asks for
            licenses           name -> how many it asks for
            nodes, exclude     patterns of nodes that it asks for, and of those that it excludes
            features           what it asks of a node
            scavenge           whether it runs only on what nobody else wants
            notice             the number of a signal and how long before its end it is sent, or null:
                               an object of number, before
            cpus, gpu_ids      granted: logical CPUs that it is pinned to, and GPUs; empty: none
            threads            granted: whether its cores are hardware threads that others left over
            submitted, started, ended
            run_time, wait_time  wait_time is that of this attempt
            exit_code, signal  of its command, signal a number
            reason, detail     why it ended, see roundqueue(7); one sentence for people
            problem            why its file cannot be read; then all that stands in it is null
            silent             for how long nothing was heard of its node
            paused             whether it runs and stands still, by rq pause; of jobs of others false
            set                the set that it is in
            array              null, or of a task: an object of id, index, first, last, step, count, throttle
                               (null: any number), max_fails
            index              the same as that of array, by its id
            on_hold            whether it is held until you release it
            begin              when it may begin at the earliest, as asked for
            after              a list of objects: how (ok, any, fail), job, tasks (null of a single job)
            retries            how often it is run again if it fails
            retired            whether you count it as settled
            why                of a waiting job: what the node that is nearest to starting it says; of one
                               that is held: for what
            starts_within      ... and in how many seconds it starts there at the latest, if nobody comes
                               before it; null if nobody knows
        counts      user -> state -> number of jobs, also of those not listed
        problems    user -> why the queue cannot be listed
        hidden      homes that are closed, without a commons, or do not answer, whose queues, if any,
                    cannot be seen

    `rq show --json`:

        jobs        as above, and of each:
            file                         of its record
            output_path, error_path      where its output goes, whole
            max_output, umask, environment, usage
            attempts                     earlier ones: number, node, started, ended, reason,
                                         exit_code, signal, detail, process
            keep_held, retry_on, backoff, not_before
                                         as in roundqueue(7)
            chunk, results               tasks that it runs one after the other: index and command of each;
                                         and of those that have ended index and exit_code
            process, lease               of this attempt, as in roundqueue(7)

    `rq nodes --json`:

        nodes       a list of objects, also of nodes that are not heard of:
            name
            state              up, draining, silent (not heard of), stopped (no daemon lives there)
            reason             why it drains
            silent             for how long nothing was heard of it; null while it is heard of
            cores, used        offered for jobs, and in use by the jobs of everybody
            offers             user -> cores, if their daemons disagree; `cores` is the largest
            physical_cores, logical_cpus
            jobs, users        how many jobs have cores there; who has a live daemon there
            drains_for         the users for whom it drains
            load, memory, memory_available
            gpus               a list of objects: id, name, busy (by no job, or hung), free (of jobs, too)
            threads, threads_used  hardware threads beside the first ones of the cores, and those with jobs
            features, licenses  words; and name -> number, of this node only
            versions           of the daemons there
        hidden      as above

    `rq users --json`:

        users       a list of objects, those with most cores in use first:
            name, is_me
            cores, running     cores and jobs, running or just claimed, on nodes that are heard of
            scavenging         cores of what scavenges, which are not in `cores`
            waiting            number of waiting jobs
            turn               1 for who goes next of those who wait; null for who does not wait, or
            at_limit           whose limits let nothing more start: true or false
            weight, share      of the administrator; and the part, from 0 to 1, of all cores that is due
                               now, by weight and usage, null for who has nothing running or waiting
            usage              decayed core-seconds
            limit              an object: cores, jobs, waiting, each a number or null; of you also your own
            nodes              where a daemon of the user lives
        cores       of all nodes that are heard of
        hidden      as above

    `rq limit --json`:

        used        what you have now in the whole cluster: an object of cores, jobs, waiting
        own         your own limits, the same; null for none
        admin       those that the administrator set for you
        holds       of each the smaller one

    `rq sets --json`:

        sets        a list of objects, in the order of their first submission:
            group              "%NAME" of a set, or the id of an array
            name               of a set; null of an array
            state              empty, not started, running, finished
            is_well            whether all ended well or were retired; null while that may still be so
            jobs               how many there are
            done, running, waiting, held, failed
                               how many of them; those that a node has taken are running, and of those that
                               ended otherwise failed are all that still count
            retired, removed   set aside by you; canceled before they began
            limit              how many may run at once, null for any number
            throttle           what an array was submitted with, null for nothing
            submitted          the first of them
            ended              the last end so far

    `rq limit GROUP --json`: sets as above, with that one.

    `rq history --json`: jobs as above.

    `rq report --json`:

        since, until, by    from when to when jobs ended, and what the groups are by
        total       the sums of all: an object of
            jobs, failed       how many, and of these how many did not end well, without those canceled
            states, reasons    state -> number of jobs; and why they failed -> number of jobs
            attempts           how often they were begun
            core_seconds, measured_core_seconds, cpu_seconds
                               what they had; of those of which it is known what they computed; and that
            cpu_efficiency, memory_efficiency
                               from 0 to 1: processor time by core-seconds; memory used by memory asked for
            memory_most        the most that any of them used
            wait_mean, wait_p95
                               for the first start: on average, and what 95 of 100 did not exceed
        groups      a list of such objects, each with its name, those with most core-seconds first

    `rq stats --json`:

        jobs        a list of objects: id, state, cores, cpu_time, cpu_efficiency, memory (asked for),
                    memory_used, memory_efficiency, run_time, time_limit, wait_time, attempt

    `rq doctor --json`:

        findings    a list of objects, in the order in which they were made:
            group, check       what was looked at
            level              ok, warning, problem
            found, why, remedy sentences for people; remedy is empty where all is well
            exit_code          of a problem, else 0
            facts              what was measured: an object, whose names depend on the check
        skipped     names of checks that were not made, since what they need has a problem
    """
    return {"schema": SCHEMA, "now": moment(now_ns), **lists}


def jobs(found: Listing, facts: Facts) -> dict[str, Any]:
    """The lists of `rq --json`."""
    return {
        "jobs": [job_fields.object_of(row, facts) for row in found.rows],
        "counts": {text_of(user): counts for user, counts in found.counts.items()},
        "problems": {text_of(user): text_of(problem) for user, problem in found.problems.items()},
        "hidden": [text_of(home) for home in [*facts.hidden, *facts.late]],
    }


def nodes(of: Sequence[NodeFacts], hidden: Sequence[str]) -> dict[str, Any]:
    """The lists of `rq nodes --json`."""
    return {"nodes": [_node(node) for node in of], "hidden": [text_of(home) for home in hidden]}


def _node(node: NodeFacts) -> dict[str, Any]:
    return {
        "name": text_of(node.name),
        "state": node.state,
        "reason": text_of(node.reason) or None,
        "silent": seconds(node.silent_s),
        "cores": node.cores,
        "used": node.used,
        "offers": {text_of(user): cores for user, cores in node.offers.items()} or None,
        "physical_cores": node.physical_cores,
        "logical_cpus": node.logical_cpus,
        "jobs": node.jobs,
        "users": [text_of(user) for user in node.users],
        "drains_for": [text_of(user) for user in node.drainers],
        "load": node.load,
        "memory": node.memory,
        "memory_available": node.memory_available,
        "gpus": [
            {
                "id": text_of(gpu.id),
                "name": text_of(gpu.name),
                "busy": gpu.busy,
                "free": gpu.id in node.gpus_free,
            }
            for gpu in node.gpus
        ],
        "threads": node.threads,
        "threads_used": node.threads_used,
        "features": [text_of(word) for word in node.features],
        "licenses": {text_of(name): count for name, count in node.licenses},
        "versions": [text_of(version) for version in node.versions],
    }


def findings(found: Sequence[tuple[str, Finding]], skipped: Sequence[str]) -> dict[str, Any]:
    """The lists of `rq doctor --json`; each finding comes with its group."""
    return {
        "findings": [
            {
                "group": group,
                "check": one.check,
                "level": one.level,
                "found": text_of(one.found),
                "why": text_of(one.why),
                "remedy": text_of(one.remedy),
                "exit_code": one.exit_code,
                "facts": {
                    name: text_of(value) if isinstance(value, str) else value
                    for name, value in one.facts.items()
                },
            }
            for group, one in found
        ],
        "skipped": list(skipped),
    }


def of_set(whole: Whole) -> dict[str, Any]:
    """One of the sets of `rq sets --json`."""
    name = whole.group.removeprefix(MARK)
    return {
        "group": text_of(whole.group),
        "name": None if name == whole.group else text_of(name),
        "state": whole.state,
        "is_well": whole.is_well,
        "jobs": whole.jobs,
        "done": whole.done,
        "running": whole.running,
        "waiting": whole.waiting,
        "held": whole.held,
        "failed": whole.failed,
        "retired": whole.retired,
        "removed": whole.removed,
        "limit": whole.most,
        "throttle": whole.throttle or None,
        "submitted": moment(whole.submitted_ns),
        "ended": moment(whole.ended_ns),
    }


def users(
    of: Sequence[UserFacts],
    on: Sequence[NodeFacts],
    standings: Mapping[str, Standing],
    hidden: Sequence[str],
) -> dict[str, Any]:
    """The lists of `rq users --json`."""
    return {
        "users": [_user(user, standings.get(user.name, Standing())) for user in of],
        "cores": sum(node.cores for node in on if node.is_live),
        "hidden": [text_of(home) for home in hidden],
    }


def _user(user: UserFacts, standing: Standing) -> dict[str, Any]:
    limit = standing.limit
    return {
        "name": text_of(user.name),
        "is_me": user.is_me,
        "cores": user.cores,
        "running": user.running,
        "scavenging": user.scavenging,
        "waiting": user.waiting,
        "turn": standing.turn,
        "at_limit": standing.is_at_limit,
        "weight": standing.weight,
        "share": None if standing.share is None else round(standing.share, 6),
        "usage": seconds(standing.usage),
        "limit": {"cores": limit.cores, "jobs": limit.jobs, "waiting": limit.waiting},
        "nodes": [text_of(node) for node in user.nodes],
    }
