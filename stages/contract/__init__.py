"""What a stage is: class, params, artifact specs, codec, registry. Third parties need only this.

`from stages.contract import Context, Stage` is what a stage of one's own begins with. The names
come from `stages.contract.stage` when one of them is asked for: that takes pydantic, which modules
of this room that only look at files do without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.contract.stage import (
        ArtifactSpec,
        BadInput,
        Context,
        ContractError,
        FailureKind,
        Kind,
        Mesh,
        Params,
        Stage,
        StageError,
    )
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from stages.contract import stage

        return getattr(stage, name)


__all__ = [
    "ArtifactSpec",
    "BadInput",
    "Context",
    "ContractError",
    "FailureKind",
    "Kind",
    "Mesh",
    "Params",
    "Stage",
    "StageError",
]
