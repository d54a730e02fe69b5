"""What a trace of cells says of itself: what wrote it, when, and from what."""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from neurosim.building.loaded import Loaded
from neurosim.runs.environment import commit, versions


def provenance(
    protocol: Loaded[Any], level: str, title: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Attributes and texts. title: after the name of the program."""
    attributes = {
        "Conventions": "CF-1.11",
        "title": f"neurosim {title}",
        "neurosim_version": version("neurosim"),
        "protocol": protocol.spec.name,
        "level": level,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": json.dumps(versions(level)),
    }
    texts = {
        "protocol_json": protocol.spec.model_dump_json(exclude_none=True),
        "overrides": json.dumps({key: str(value) for key, value in protocol.overrides.items()}),
    }
    return attributes, texts
