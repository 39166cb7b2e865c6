"""`python -m tests.simulation`: seeds, one after the other or for a number of minutes. See --help."""

from __future__ import annotations

import argparse
import collections
import os
import sys
import time


def main(arguments: list[str]) -> int:
    """Plays seeds; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this seed only")
    parser.add_argument("--seeds", default="0-199", help="play these seeds: FIRST-LAST")
    parser.add_argument("--minutes", type=float, help="play seeds from the first on, for so long")
    parser.add_argument("--verbose", action="store_true", help="show the whole history, not its end")
    parser.add_argument("--mutant", help="with the protocol broken in this way; see mutants.py")
    parser.add_argument("--traces", action="store_true", help="print the trace of each seed")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    given = parser.parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets would differ from run to run.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *arguments])

    from tests.simulation import seams
    from tests.simulation.world import Result, play

    seams.install()
    if given.mutant:
        from tests.simulation import mutants

        mutants.apply(given.mutant)
    first, _, last = (str(given.seed) if given.seed is not None else given.seeds).partition("-")
    seed, most = int(first), int(last or first)
    until_s = None if given.minutes is None else time.monotonic() + 60 * given.minutes
    began_s = said_s = time.monotonic()
    faults: collections.Counter[str] = collections.Counter()
    played = jobs = runs = operations = failed = 0
    simulated_s = 0.0
    while seed <= most or until_s is not None:
        if until_s is not None and time.monotonic() > until_s:
            break
        result: Result = play(seed, verbose=given.verbose and given.seed is not None)
        played, jobs, runs = played + 1, jobs + result.jobs, runs + result.runs
        operations, simulated_s = operations + result.operations, simulated_s + result.simulated_s
        faults += result.faults
        if given.traces:
            print(f"{seed} {result.trace:08x} {result.operations}")
        if given.verbose and given.seed is not None and not result.wrong:
            print(*result.history, sep="\n")
        if result.wrong:
            failed += 1
            _tell(play(seed, verbose=True) if not result.history else result, given.mutant, given.verbose)
            if not given.keep_going:
                break
        if until_s is not None and time.monotonic() - said_s > 10:
            said_s = time.monotonic()
            print(f"seed {seed}: {played} seeds, {jobs} jobs, {sum(faults.values())} faults", flush=True)
        seed += 1
    took_s = time.monotonic() - began_s
    crashes = sum(count for kind, count in faults.items() if "kill" in kind or "crash" in kind)
    print(
        f"{played} seeds, {jobs} jobs, {runs} commands begun, {operations} operations,"
        f" {simulated_s / 3600:.1f} simulated hours in {took_s:.1f} s;"
        f" {crashes} crashes among {sum(faults.values())} faults; {failed} failed"
    )
    print("faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items())))
    return 1 if failed else 0


def _tell(result: object, mutant: str | None, everything: bool) -> None:
    from tests.simulation.world import Result

    assert isinstance(result, Result)
    if result.about and not everything:
        about = f"{result.about}"
        lines = [line for line in result.history if _concerns(line, about)][-150:]
    else:
        lines = result.history if everything else result.history[-100:]
    print(*lines, sep="\n")
    broken = f" --mutant {mutant}" if mutant else ""
    print(f"seed {result.seed}: " + "\n".join(result.wrong))
    print(f"again: python -m tests.simulation{broken} --seed {result.seed} --verbose", flush=True)


def _concerns(line: str, id_: str) -> bool:
    """Whether a line of the history is about this job, or about everybody."""
    words = line.split(" ", 3)
    if len(words) > 2 and words[2] in (
        "boot",
        "crash",
        "calm",
        "killed",
        "freeze",
        "cut",
        "exit",
        "fork",
        "reap",
        "died",
        "log",
        "says",
        "begin",
    ):
        return True
    return any(part in line for part in (f"/{id_}.", f"/{id_}@"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
