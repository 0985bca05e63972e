"""Calls on whole stores: copy, compare, export, import, count, examine and prune.

All work on open `Persistence` objects of any backend, and can be repeated after any interruption.
`copy`, `compare`, `import_file` and `prune` take bounded memory. The others hold at least the ids
of some records: `export` holds those of all sessions that it has written.
"""

from __future__ import annotations

from agentx_persistence.transfer.ancestor import import_ancestor
from agentx_persistence.transfer.comparing import compare
from agentx_persistence.transfer.copying import copy
from agentx_persistence.transfer.counting import Statistics, Tally, statistics
from agentx_persistence.transfer.examining import Finding, examine
from agentx_persistence.transfer.files import export, import_file
from agentx_persistence.transfer.foreign import import_foreign
from agentx_persistence.transfer.pruning import prune
from agentx_persistence.transfer.reports import (
    Comparison,
    CopyReport,
    Difference,
    ImportReport,
    Progress,
    Step,
)

__all__ = [
    "Comparison",
    "CopyReport",
    "Difference",
    "Finding",
    "ImportReport",
    "Progress",
    "Statistics",
    "Step",
    "Tally",
    "compare",
    "copy",
    "examine",
    "export",
    "import_ancestor",
    "import_file",
    "import_foreign",
    "prune",
    "statistics",
]
