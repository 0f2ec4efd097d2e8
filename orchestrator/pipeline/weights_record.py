"""Which weights a node loads, as the graph knows and run.json says it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    """Data of run.json."""

    model_config = ConfigDict(extra="ignore")  # a newer version may have written more


class WeightsRecord(Row):
    """Which weights a stage was given.

    name      in configs/models.yaml, or a path from the params
    place     folder or file, "" where they are missing
    revision  commit of the hub's repository, "" for files of one's own
    digest    of names, sizes and blob ids or times of change, not of contents
    optional  the stage does without them where they are missing
    """

    name: str
    place: str = ""
    revision: str = ""
    digest: str = ""
    optional: bool = False
