"""python -m experiments.bench compile | exactness"""

import tyro

from experiments.bench import compile, exactness

tyro.extras.subcommand_cli_from_dict({"compile": compile.main, "exactness": exactness.main})
