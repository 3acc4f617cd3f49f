"""Everything between models and the graph: stages, store, replay, games, training, the command line."""

import os
import sys

if os.path.basename(sys.argv[0]) == "worldline":  # noqa: PTH119 -- first of all, before anything else loads
    from pipelines import process

    process.listen()
