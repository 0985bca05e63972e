"""What PyInstaller does not find in the code: the drivers that URLs name, and the migrations."""

from __future__ import annotations

from agentx_persistence.schemes import MODULES

hiddenimports = sorted({f"agentx_persistence.{module}" for module in MODULES.values()})
datas = []
try:
    from agentx_persistence._sql.schema import migrations
except ModuleNotFoundError:  # without SQLAlchemy, no SQL database will be opened
    pass
else:
    datas.append((str(migrations()), "agentx_persistence/_sql/migrations"))
