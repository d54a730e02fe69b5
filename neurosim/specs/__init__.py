"""What a model and a protocol are: frozen, validated descriptions, independent of any level.

Where a name is expected for an activation, a dynamics, a plasticity rule or a task, a script may
give an object instead; it is used as it is.
"""

from neurosim.specs.cells import CellModelSpec, CellProtocolSpec, CellRecordSpec, StimulusSpec
from neurosim.specs.circuits import (
    CellSpec,
    CreditSpec,
    Optimizer,
    Parameter,
    ParameterField,
    PopulationField,
    PopulationSpec,
    ProjectionRate,
    ProjectionSpec,
    RateLaw,
    SpreadSpec,
    named_credit,
)
from neurosim.specs.common import ByName, LearningRate, PlasticityRate, Spec, describe
from neurosim.specs.models import LayerField, ModelSpec
from neurosim.specs.neurons import FORMULAS, ActivationField, ActivationSpec, NeuronsSpec
from neurosim.specs.protocols import (
    Count,
    EquilibriumSpec,
    LongerField,
    LongerSpec,
    PhaseSpec,
    Places,
    ProtocolSpec,
    RateSpec,
    RecordSpec,
    ScheduleSpec,
    SpikingSpec,
    StageSpec,
    SweepSpec,
)
from neurosim.specs.synapses import (
    CellGroupSpec,
    CurveSpec,
    SpikesSpec,
    SynapsePartSpec,
    SynapseSpec,
    SynapticProtocolSpec,
    SynapticRecordSpec,
)

__all__ = [
    "FORMULAS",
    "ActivationField",
    "ActivationSpec",
    "ByName",
    "CellGroupSpec",
    "CellModelSpec",
    "CellProtocolSpec",
    "CellRecordSpec",
    "CellSpec",
    "Count",
    "CreditSpec",
    "CurveSpec",
    "EquilibriumSpec",
    "LayerField",
    "LearningRate",
    "LongerField",
    "LongerSpec",
    "ModelSpec",
    "NeuronsSpec",
    "Optimizer",
    "Parameter",
    "ParameterField",
    "PhaseSpec",
    "Places",
    "PlasticityRate",
    "PopulationField",
    "PopulationSpec",
    "ProjectionRate",
    "ProjectionSpec",
    "ProtocolSpec",
    "RateLaw",
    "RateSpec",
    "RecordSpec",
    "ScheduleSpec",
    "Spec",
    "SpikesSpec",
    "SpikingSpec",
    "SpreadSpec",
    "StageSpec",
    "StimulusSpec",
    "SweepSpec",
    "SynapsePartSpec",
    "SynapseSpec",
    "SynapticProtocolSpec",
    "SynapticRecordSpec",
    "describe",
    "named_credit",
]
