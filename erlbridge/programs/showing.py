"""What an optimizer found, as the host reads it: each signature with its new instructions and demos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from erlbridge.core.modules import module_term
from erlbridge.core.signatures import Signature
from erlbridge.core.spelling import Spelling
from erlbridge.programs.artifacts import Artifact, Predictor, members_of
from erlbridge.programs.ensembles import EnsembleRecipe
from erlbridge.programs.pipelines import PREFIX, PipelineRecipe
from erlbridge.programs.signatures import signature_term
from erlbridge.wire.vocabulary import atom_keys


def optimized(artifact: Artifact, spelling: Spelling) -> dict[str, object]:
    """The entry of a result: `optimized_signature`, `optimized_pipeline` or `optimized_ensemble`, by published name."""
    made = artifact.recipe
    match made:
        case PipelineRecipe():
            return {"optimized_pipeline": _pipeline(made, artifact, spelling)}
        case EnsembleRecipe():
            members = [atom_keys(optimized(member, spelling)) for member in members_of(artifact)]
            return {"optimized_ensemble": atom_keys({"reduce": made.reduce, "members": members})}
        case _:
            return {"optimized_signature": _signature(made.signature, artifact.state, spelling)}


def _pipeline(made: PipelineRecipe, artifact: Artifact, spelling: Spelling) -> dict[object, object]:
    steps = []
    for step, module in zip(made.pipeline.steps, made.modules, strict=True):
        own = {name: part for name, part in artifact.state.items() if name.partition(".")[0] == PREFIX + step.name}
        shown = {
            "name": spelling.key(step.name),
            "module": module_term(module),
            "signature": _signature(step.signature, own, spelling),
        }
        steps.append(atom_keys(shown))
    return atom_keys({"name": made.pipeline.name, "steps": steps})


def _signature(signature: Signature, state: Mapping[str, Predictor], spelling: Spelling) -> dict[object, object]:
    """A signature with the instructions and demos of its first predictor; the others, if its module has more, beside
    them under `predictors`."""
    first = next(iter(state.values()))
    shown = signature_term(replace(signature, instructions=first.instructions), spelling.key)
    shown |= atom_keys({"demos": [spelling.fields(demo) for demo in first.shown_demos]})
    if len(state) > 1:
        predictors = [
            atom_keys(
                {
                    "name": name,
                    "instructions": part.instructions,
                    "demos": [spelling.fields(demo) for demo in part.shown_demos],
                }
            )
            for name, part in state.items()
        ]
        shown |= atom_keys({"predictors": predictors})
    return shown
