"""One run of a loop, beside others that share its programs: its trace, and what is noted there."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from neurosim.building import assembly, facts
from neurosim.building.loading import Protocol
from neurosim.errors import DivergedError
from neurosim.levels.simulator import Simulator
from neurosim.process.progression import Progress
from neurosim.runs.contents import Contents, Plan
from neurosim.runs.positions import Position, checkpoint
from neurosim.runs.recorder import Recorder
from neurosim.runs.results import Run
from neurosim.tasks.data import tested_on
from neurosim.traces.checkpoint import Checkpoint


class Samples(NamedTuple):
    """A data set on the device; axis 0 of the arrays is the seed where the data differ by seed."""

    train: tuple[jax.Array, jax.Array]
    test: tuple[jax.Array, jax.Array]
    axis: int | None
    size: int
    classes: bool


@dataclass(frozen=True)
class Setting:
    """What does not change while a run goes on.

    origin: what the checkpoint says of where the run comes from.
    """

    protocol: Protocol
    seeds: list[int]
    path: Path
    samples: Samples
    weights: Any
    origin: Mapping[str, Any]
    progress: Callable[[Progress], None] | None = None


class Member:
    """A run, as far as it is not what a loop computes for all of its runs at once.

    position: where it is, once it has begun; then `recorder` writes its trace.
    """

    position: Position
    recorder: Recorder

    def __init__(self, setting: Setting, plan: Plan) -> None:
        self.setting, self.spec, self.plan = setting, setting.protocol.spec, plan
        self.seeds = setting.seeds
        self.engines: list[Simulator] = [
            assembly.engine(self.spec, stage, count)
            for stage, (_, count) in zip(self.spec.stages, plan.stages, strict=True)
        ]
        observed = facts.observed(self.spec.model)
        tests = setting.samples.test[0].shape[-2]
        self.contents = Contents(self.spec, plan, observed, self.seeds, tests)

    @property
    def lost(self) -> bool:
        """Whether every seed diverged."""
        return len(self.position.diverged) == len(self.seeds)

    @property
    def at(self) -> tuple[int, int]:
        """How many presentations are done, and how many tests."""
        return self.position.done, self.position.evaluations

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.lost or self.at == (self.plan.total, len(self.plan.evaluations))

    # --- what is kept ------------------------------------------------------------------------

    def save(self, took: float) -> None:
        """A checkpoint. took: how long it took to come here (s)."""
        self.recorder.writer.secure()
        self.position.wall_s = took
        saved = checkpoint(self.position, self.setting.origin, self.recorder.writer.ledger)
        saved.save(self.setting.path)

    def finish(self, took: float) -> Run:
        """Close the trace at its end."""
        self.recorder.weights(1, self.position.states.weights)
        self.position.wall_s = took
        result = self._result()
        self.recorder.writer.close(
            "diverged" if self.lost else "complete", {"summary": json.dumps(result.summary)}
        )
        return result

    def judged(self, result: Run) -> Run:
        """What came of it.

        Raises:
            DivergedError: every seed diverged.
        """
        if not self.lost:
            return result
        first, path = result.diverged[0], self.setting.path
        raise DivergedError(f"{first['message']}; {path} holds all up to there", result)

    def _result(self) -> Run:
        loss, error = self.position.test
        living = self._living()

        def of_seeds(values: Any) -> list[float] | float:
            values = np.where(living, values, np.nan)
            return values.tolist() if len(self.seeds) > 1 else float(values[0])

        tested = tested_on(self.spec.task)
        metrics = {f"{tested}_loss": of_seeds(loss)}
        if self.setting.samples.classes:
            metrics[f"{tested}_error"] = of_seeds(error)
        return Run(
            self.setting.path,
            self.spec,
            metrics,
            sorted(self.position.diverged.values(), key=lambda entry: entry["seed"]),
            self.position.wall_s,
            self.position.settled,
            self.position.residual,
            self.position.shortened,
            (self.plan.total, self.plan.asked),
        )

    # --- what is noted of a chunk --------------------------------------------------------------

    def note(self, stage: int, chunk: Mapping[str, np.ndarray]) -> None:
        """How the phases of a chunk settled, and by which steps."""
        done = self.position.done
        self._note_settling(stage, done, chunk)
        self._note_steps(done, chunk)

    def note_divergence(self, s: int, number: int, where: str) -> None:
        """Seed number s left the bounds in a presentation."""
        seed = self.seeds[s]
        self.position.diverged[seed] = {
            "seed": seed,
            "presentation": number,
            "message": f"seed {seed} diverged at presentation {number}: {where}",
        }
        self.recorder.diverged(s, number)

    def _living(self) -> np.ndarray:
        """Which seeds have not diverged."""
        return ~np.isin(self.seeds, list(self.position.diverged))

    def _note_settling(self, stage: int, done: int, chunk: Mapping[str, np.ndarray]) -> None:
        """The smallest fractions and largest residuals so far, of every seed until it diverges."""
        living = self._lived(done, chunk)
        for k, slot in enumerate(self.contents.slots[stage]):
            name = self.contents.names[slot]
            worst = float(np.min(chunk["settled"][:, :, k], initial=1.0, where=living))
            if not math.isnan(worst):  # spikes never settle
                self.position.settled[name] = min(worst, self.position.settled.get(name, 1.0))
                left = float(np.max(chunk["residual"][:, :, k], initial=0.0, where=living))
                self.position.residual[name] = max(left, self.position.residual.get(name, 0.0))

    def _note_steps(self, done: int, chunk: Mapping[str, np.ndarray]) -> None:
        """In how many presentations fixed steps were cut, of a living seed, and how short."""
        living = self._lived(done, chunk)
        most = np.max(chunk["parts"], axis=2, initial=1.0, where=living[:, :, None]).max(axis=0)
        cut = np.flatnonzero(most > 1)
        if self.contents.step is None or not cut.size:
            return
        so_far, step = self.position.shortened, self.contents.step / float(most.max())
        self.position.shortened = {
            "presentations": so_far.get("presentations", 0) + len(cut),
            "first": so_far.get("first", done + int(cut[0])),
            "step": min(step, so_far.get("step", step)),
        }

    def _lived(self, done: int, chunk: Mapping[str, np.ndarray]) -> np.ndarray:
        """Of every seed and presentation of a chunk, whether that was before it diverged."""
        ends = [self.position.diverged.get(s, {}).get("presentation", math.inf) for s in self.seeds]
        numbers = done + np.arange(chunk["settled"].shape[1])
        return numbers < np.array(ends)[:, None]

    def report(self, chunk: Mapping[str, np.ndarray]) -> None:
        """Tell whoever asked how far it is."""
        if self.setting.progress is None:
            return
        living = slice(None) if self.lost else self._living()
        error = np.asarray(self.position.test[1])[living]
        self.setting.progress(
            Progress(
                self.position.done,
                self.plan.total,
                float(np.mean(chunk["loss"][living, -1])),
                float(np.mean(error)) if self.setting.samples.classes else None,
                tested_on(self.spec.task),
                int(self.position.shortened.get("presentations", 0)),
            )
        )

    def remove_checkpoint(self) -> None:
        """It is not needed any more."""
        Checkpoint.remove(self.setting.path)
