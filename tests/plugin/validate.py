"""Runs in the backend's Python: validates {"job": ..., "values": ...} lines and prints the config or the error."""

import json
import sys

from rsfm.errors import UserError
from rsfm.worker import find_job, read_config

for line in sys.stdin:
    asked = json.loads(line)
    try:
        config = read_config(find_job(asked["job"]), asked["values"])
        print(json.dumps({"config": config.model_dump(mode="json")}), flush=True)
    except UserError as error:
        print(json.dumps({"error": str(error), "field": error.field}), flush=True)
