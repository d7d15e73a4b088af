"""`make cluster`: a real cluster with MinIO and the operator; a sample is applied and followed to its end."""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from e2e.platforms import choose
from e2e.runs import Run, sample
from e2e.shell import StackError, say
from e2e.stack import TEAM, bring_up


def main() -> int:
    """The tour; the cluster stays."""
    stack = bring_up(choose())
    kubectl = stack.kubectl
    document = sample("minilm-int8")
    say("kubectl apply -f crds/samples/minilm-int8.yaml")
    kubectl("-n", TEAM, "apply", "-f", "-", stdin=json.dumps(document))
    run, last = Run(kubectl, document["metadata"]["name"]), ""
    while not run.condition("Stalled") and run.condition("Ready").get("status") != "True":
        row = kubectl("-n", TEAM, "get", "mopt", run.name, "--no-headers").strip()
        if row != last:
            print(row, flush=True)
            last = row
        time.sleep(1)
    print(kubectl("-n", TEAM, "get", "mopt", run.name))
    print(kubectl("-n", TEAM, "get", "events", f"--field-selector=involvedObject.name={run.name}"))
    print(json.dumps(run.status.get("targets"), indent=1))
    print(f"Look around: export KUBECONFIG={kubectl.kubeconfig}; {kubectl.binary} -n {TEAM} get mopt")
    print("The end: make cluster-down")
    return run.condition("Ready").get("status") != "True"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StackError as error:
        sys.exit(f"The tour ends early: {error}")
