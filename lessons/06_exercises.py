# %% [markdown] name="title"
# # The flight test
#
# Seven projects. Each begins with code that runs and grows in stages, and each stage is checked. In the last one, the parts are put together
# and sent through ninety seconds in which everything goes wrong that did so in the course.

# %% name="setup" tags=["needs"]
import asyncio
import tempfile
from pathlib import Path

from course_lib import desk, lm
from course_lib.exercises import check, hint, solution
from course_lib.labs import plot, table

model = lm.connect(cache=False)  # each call asks the model, unless a cell wants the cache

import dspy

scratch = tempfile.TemporaryDirectory(prefix="lantern-")
dspy.configure(lm=model)
print("DSPy", dspy.__version__, "talks to", model.model)

# %% [markdown] name="project-1"
# ## Project 1: a database adapter
#
# (in preparation)

# %% [markdown] name="end-1"
# That was project 1. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-2"
# ## Project 2: a cache in three levels
#
# (in preparation)

# %% [markdown] name="end-2"
# That was project 2. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-3"
# ## Project 3: Streaming answers from documents
#
# (in preparation)

# %% [markdown] name="end-3"
# That was project 3. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-4"
# ## Project 4: a debugging toolkit
#
# (in preparation)

# %% [markdown] name="end-4"
# That was project 4. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-5"
# ## Project 5: Kubernetes
#
# A manifest can be valid, and the service behind it still lose requests with each release, be emptied by a machine's maintenance, or hand its
# passwords to whoever reads the repository. In this project you write what Kubernetes needs for the support desk, and each stage asks what a cluster
# would **do** with it. No cluster is needed: schemas, budgets and network policies are reckoned here.
#
# | stage | you write | minutes |
# | --- | --- | --- |
# | 5.1 | a Deployment and its Service | 15 |
# | 5.2 | how many replicas there are, while load and machines change | 10 |
# | 5.3 | where secrets come from, and who may talk to whom | 10 |
#
# This is what many begin with. It works: `kubectl apply` takes it, and the desk answers.

# %% name="given-6-5" tags=["needs"]
import copy
import json

import yaml

from course_lib.exercises.flight import Pod, connects, evictions, findings

box = {
    "name": "desk",
    "image": "ghcr.io/lantern-gear/desk:latest",
    "ports": [{"containerPort": 8000}],
    "livenessProbe": {"httpGet": {"path": "/health/ready", "port": 8000}},
}
own, name = {"app": "desk"}, {"name": "desk"}
template = {"metadata": {"labels": own}, "spec": {"containers": [box]}}
pods = {"replicas": 2, "selector": {"matchLabels": own}, "template": template}
ports = {"type": "LoadBalancer", "selector": own, "ports": [{"port": 80, "targetPort": 8000}]}
STARTER = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": name, "spec": pods}
STARTER_SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": name, "spec": ports}
both = json.loads(json.dumps([STARTER, STARTER_SERVICE]))  # nothing shared, so that YAML needs no aliases
starter, starter_service = (yaml.safe_dump(each, sort_keys=False) for each in both)
print(starter, starter_service, sep="---\n")

# %% [markdown]
# **Predict first:** how many things would somebody who runs services change in it?

# %% name="starter-findings"
found = findings(starter, starter_service)
print(len(found), "findings")
table([{"what": each.what, "is": each.observed, "should be": each.expected} for each in found])

# %% [markdown]
# Most of these nobody sees on the first day. The liveness probe asks `/health/ready`, which says no while the database is away: then Kubernetes
# restarts *all* replicas, again and again, for a fault that no restart mends. And without a `preStop` each release cuts some answers off.
#
# ### Stage 5.1: a Deployment and its Service (15 minutes, medium)
#
# *Concepts: probes, requests and limits, Pod Security Standards, graceful end.*
#
# Write `deployment` and `service`, the YAML of one resource each. The program listens on port 8000, writes to `/tmp` alone, and needs 300 MiB of memory,
# at times 700. It may take 60 seconds to start. After SIGTERM it answers what is under way, for 20 seconds at most.
#
# - Kubernetes 1.34 takes both, strictly.
# - The Service, of one's own namespace and reached from inside of the cluster only, leads from port 80 to the program.
# - Liveness asks `/health/live`, which asks no other server, readiness `/health/ready`. A process is not ended while it may still be starting; one
#   that hangs is ended within 60 seconds, and a pod that is not ready gets no requests after 10. (Count `periodSeconds` times `failureThreshold`.)
# - It requests cpu and at least 300 MiB of memory; its limit of memory lies between 700 MiB and 2 GiB.
# - The pod meets the Pod Security Standard *restricted*. Its root file system is read-only, `/tmp` an `emptyDir`.
# - There is one container, of the image `ghcr.io/lantern-gear/desk` in version 1.0.0 (or by its digest).
# - Before SIGTERM it waits at least 5 seconds, since others still send requests; after it there are at least 20.

# %% name="ex-6-5-1" tags=["exercise"] exercise="6.5.1"
### BEGIN SOLUTION
### STUB: deployment = ...
deployment = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: desk}
spec:
  replicas: 2
  selector: {matchLabels: {app: desk}}
  template:
    metadata: {labels: {app: desk}}
    spec:
      terminationGracePeriodSeconds: 30
      securityContext:
        runAsNonRoot: true
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: desk
          image: ghcr.io/lantern-gear/desk:1.0.0
          ports: [{name: http, containerPort: 8000}]
          startupProbe:
            httpGet: {path: /health/live, port: http}
            periodSeconds: 2
            failureThreshold: 30
          livenessProbe:
            httpGet: {path: /health/live, port: http}
            periodSeconds: 10
            failureThreshold: 3
          readinessProbe:
            httpGet: {path: /health/ready, port: http}
            periodSeconds: 2
            failureThreshold: 2
          lifecycle: {preStop: {sleep: {seconds: 5}}}
          resources:
            requests: {cpu: 500m, memory: 512Mi}
            limits: {memory: 1Gi}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts: [{name: tmp, mountPath: /tmp}]
      volumes: [{name: tmp, emptyDir: {sizeLimit: 256Mi}}]
"""
### END SOLUTION

# %% name="ex-6-5-1-service" tags=["exercise"] exercise="6.5.1"
### BEGIN SOLUTION
### STUB: service = ...
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""
### END SOLUTION

# %% tags=["right"] exercise="6.5.1"
# Made in Python and written as YAML; numbers for ports, a sleep by command, no startup probe.
import yaml

labels = {"app.kubernetes.io/name": "desk", "track": "stable"}


def asks(path, **times):
    return {"httpGet": {"path": path, "port": 8000}, **times}


box = {
    "name": "main",
    "image": f"ghcr.io/lantern-gear/desk:1.0.0@sha256:{'0a' * 32}",
    "livenessProbe": asks("/health/live", initialDelaySeconds=30, periodSeconds=15, failureThreshold=2),
    "readinessProbe": asks("/health/ready", periodSeconds=5, failureThreshold=1),
    "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "sleep 10"]}}},
    "resources": {"limits": {"cpu": 2, "memory": "1.5Gi"}},
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "volumeMounts": [{"name": "scratch", "mountPath": "/tmp/"}],
}
pod = {
    "containers": [box],
    "volumes": [{"name": "scratch", "emptyDir": {}}],
    "terminationGracePeriodSeconds": 40,
}
chosen = {"matchExpressions": [{"key": "track", "operator": "In", "values": ["stable"]}]}
spec = {"selector": chosen, "template": {"metadata": {"labels": labels}, "spec": pod}}
where = {"name": "desk", "namespace": "desk"}
deployment = yaml.safe_dump({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": where, "spec": spec})
ports = [{"name": "metrics", "port": 9000}, {"name": "web", "port": 80, "targetPort": 8000}]
rest = {"clusterIP": "None", "selector": labels, "ports": ports}
service = yaml.safe_dump({"apiVersion": "v1", "kind": "Service", "metadata": where, "spec": rest})

# %% tags=["right"] exercise="6.5.1"
# JSON is YAML; an alias for the probe that is asked twice; the pod's account of who it runs as.
deployment = """---
kind: Deployment
apiVersion: apps/v1
metadata: {"name": "lantern", "labels": {"app": "lantern"}}
spec:
  selector: &own {matchLabels: {"app": "lantern"}}
  template:
    metadata: {"labels": {"app": "lantern", "tier": "web"}}
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
      volumes:
        - name: t
          emptyDir: {medium: Memory, sizeLimit: 64Mi}
      containers:
        - name: web
          image: ghcr.io/lantern-gear/desk@sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945
          ports: [{containerPort: 8000, name: web}]
          startupProbe: {httpGet: &live {path: /health/live, port: web}, failureThreshold: 60, periodSeconds: 1}
          livenessProbe: {httpGet: *live, timeoutSeconds: 5}
          readinessProbe: {httpGet: {path: /health/ready, port: 8000}, periodSeconds: 1}
          lifecycle: {preStop: {exec: {command: [sleep, "6"]}}}
          resources: {requests: {cpu: "0.25", memory: 314572800}, limits: {memory: 800M, cpu: 1500m}}
          volumeMounts: [{name: t, mountPath: /tmp}]
          securityContext:
            {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL, NET_RAW]}}
"""
service = """
{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "lantern"}, "spec": {"type": "ClusterIP",
 "selector": {"app": "lantern"}, "ports": [{"port": 80, "targetPort": "web", "protocol": "TCP"}]}}
"""

# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="what Kubernetes 1.34 says of the Deployment"
# A field misspelt: no probe would be asked as often as meant.
deployment = deployment.replace(
    "periodSeconds: 10",
    "periodSecond: 10",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="what the liveness probe asks"
# Liveness asks for the database too.
deployment = deployment.replace(
    "/health/live, port: http}\n            periodSeconds: 10",
    "/health/ready, port: http}\n            periodSeconds: 10",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="what the readiness probe asks"
# Ready as soon as the process is.
deployment = deployment.replace(
    "/health/ready",
    "/health/live",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="still starting"
# A start may take ten seconds.
deployment = deployment.replace(
    "failureThreshold: 30",
    "failureThreshold: 5",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="a process that hangs"
# One that hangs for five minutes goes on.
deployment = deployment.replace(
    "periodSeconds: 10",
    "periodSeconds: 100",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="not ready gets no requests"
# Requests for 40 more seconds.
deployment = deployment.replace(
    "periodSeconds: 2\n            failureThreshold: 2",
    "periodSeconds: 20\n            failureThreshold: 2",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="request of cpu"
# No requests, no limits.
deployment = deployment.replace(
    "          resources:\n            requests: {cpu: 500m, memory: 512Mi}\n            limits: {memory: 1Gi}\n",
    "",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="request of memory in MiB"
# It asks for less than it needs.
deployment = deployment.replace(
    "memory: 512Mi",
    "memory: 128Mi",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="limit of memory"
# It is killed when it needs most.
deployment = deployment.replace(
    "memory: 1Gi",
    "memory: 600Mi",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="runAsNonRoot"
# It may run as root.
deployment = deployment.replace(
    "        runAsNonRoot: true\n",
    "",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="readOnlyRootFilesystem"
# The file system can be written.
deployment = deployment.replace(
    "readOnlyRootFilesystem: true",
    "readOnlyRootFilesystem: false",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="allowPrivilegeEscalation"
# Its default is to allow it.
deployment = deployment.replace(
    "            allowPrivilegeEscalation: false\n",
    "",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="capabilities"
# One capability dropped, all others kept.
deployment = deployment.replace(
    "drop: [ALL]",
    "drop: [NET_RAW]",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="seccompProfile"
# All calls of the kernel.
deployment = deployment.replace(
    "        seccompProfile: {type: RuntimeDefault}\n",
    "",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="what it uses of the node"
# A folder of the node as /tmp.
deployment = deployment.replace(
    "emptyDir: {sizeLimit: 256Mi}",
    "hostPath: {path: /tmp}",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="where it can write"
# Nowhere to write.
deployment = deployment.replace(
    "          volumeMounts: [{name: tmp, mountPath: /tmp}]\n",
    "",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="the image"
# Whatever was built last.
deployment = deployment.replace(
    "desk:1.0.0",
    "desk:latest",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="number of containers"
# A second container, with none of this.
deployment = deployment.replace(
    "      volumes: [",
    "        - {name: shell, image: busybox, resources: {limits: {cpu: 1, memory: 1Gi}}}\n      volumes: [",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="seconds of preStop"
# SIGTERM while others still send requests.
deployment = deployment.replace(
    "          lifecycle: {preStop: {sleep: {seconds: 5}}}\n",
    "",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="from SIGTERM to SIGKILL"
# The wait counts within the grace period.
deployment = deployment.replace(
    "GracePeriodSeconds: 30",
    "GracePeriodSeconds: 20",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="labels of the pods"
# A selector that misses its own pods.
deployment = deployment.replace(
    "selector: {matchLabels: {app: desk}}",
    "selector: {matchLabels: {app: shop}}",
)
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="port of the pods to which port 80"
# A port that nothing listens on.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="selector of the Service"
# Labels of other pods.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="type of the Service"
# Open to the internet.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {type: LoadBalancer, selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="namespace of the Service"
# In another namespace.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk, namespace: shop}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="what the text of the Service holds"
# Two resources in one text.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
---
{apiVersion: v1, kind: Namespace, metadata: {name: desk}}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="the text of the Service"
# A tag that would run a program.
service = "!!python/object/apply:os.getcwd []"


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="aliases"
# Nine levels of nine, which are 300 million words.
service = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'word'] * 9)}]" for n in range(9))


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="the key 'name' twice"
# A key twice, of which one would be lost.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk, name: shop}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}]}
"""


# %% tags=["wrong"] exercise="6.5.1" outcome="failed" message="the text of the Service"
# Not closed.
service = """
apiVersion: v1
kind: Service
metadata: {name: desk}
spec: {selector: {app: desk}, ports: [{name: http, port: 80, targetPort: http}
"""


# %% name="check-6-5-1" tags=["check"] exercise="6.5.1"
check("6.5.1", deployment, service)

# %% [markdown]
# ### Stage 5.2: replicas that come and go (10 minutes, medium)
#
# *Concepts: horizontal autoscaling, disruption budgets, topology spread, rolling updates.*
#
# The count of pods is changed by three hands: the autoscaler, a release, and whoever empties a machine to mend it. The last asks for each pod
# whether it may be **evicted**, and a PodDisruptionBudget answers. **Predict:** which of these budgets let a machine be emptied at every count,
# and leave somebody to answer?

# %% name="budgets"
tried = [{"minAvailable": 2}, {"minAvailable": "50%"}, {"maxUnavailable": 1}, {"maxUnavailable": "60%"}]
table(
    [
        {"budget": str(each), **{f"of {count}": evictions({"spec": each}, count) for count in (2, 3, 5, 12)}}
        for each in tried
    ]
)

# %% [markdown]
# A 0 means that the machine is never emptied: at night, with two replicas, the first budget stops the cluster's update. The last one lets both of
# two go at once.
#
# Write `rolled(deployment)`, which returns the Deployment changed, and `scaled(deployment, least, most)`, which returns a list of two resources for it.
# Both get a Deployment as Python data, leave it as it is, and work for any.
#
# - `rolled` takes `replicas` out, since the autoscaler sets it. A release takes no pod away before its successor is ready, at any count. The pods
#   are spread over zones (`topology.kubernetes.io/zone`) and nodes (`kubernetes.io/hostname`), with a skew of 1; where that cannot be, they run
#   anyway. All else stays.
# - `scaled` returns a HorizontalPodAutoscaler and a PodDisruptionBudget, in the Deployment's namespace, which Kubernetes 1.34 takes.
# - The autoscaler holds `least` to `most` replicas by the pods' metric `desk_requests_in_flight`, 20 on average. It grows at once, and shrinks after
#   5 minutes or more.
# - At each count from `least` (2 or more) to `most` at least one pod can be evicted, and at most half of them.
# - Spread and budget select the Deployment's own pods, of this and later releases, and no others.


# %% name="ex-6-5-2" tags=["exercise"] exercise="6.5.2"
### BEGIN SOLUTION
### STUB: def rolled(deployment):
### STUB:     ...
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


### END SOLUTION


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="the Deployment handed to rolled"
# The given one is changed.
def rolled(deployment):
    made = deployment
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="replicas of the Deployment"
# Two hands set the count.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="0 away and 1 or more more"
# Kubernetes' default, a quarter away.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="type of the strategy"
# All pods at once.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "Recreate"}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="of topology.kubernetes.io/zone"
# Nodes alone: all may be in one zone.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("kubernetes.io/hostname",)
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="maxSkew and whenUnsatisfiable"
# With one zone full, no pod starts.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="the pods that are spread"
# Labels of this release: the next one is spread for itself.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": spec["template"]["metadata"]["labels"]},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return made


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="all else of the Deployment"
# What was there is lost.
def rolled(deployment):
    made = copy.deepcopy(deployment)
    spec = made["spec"]
    spec.pop("replicas", None)
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": spec["selector"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return {**made, "metadata": {"name": made["metadata"]["name"]}}


# %% name="ex-6-5-2-scaled" tags=["exercise"] exercise="6.5.2"
### BEGIN SOLUTION
### STUB: def scaled(deployment, least, most):
### STUB:     ...
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


### END SOLUTION


# %% tags=["right"] exercise="6.5.2"
# YAML with gaps, filled in; a share of the pods as the budget; defaults left out.
import copy
import json

import yaml

SPREAD = """
- {{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {own}}}
- {{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {own}}}
"""
SCALED = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: {name}-budget, namespace: {namespace}}}
spec: {{minAvailable: 50%, selector: {own}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}
  minReplicas: {least}
  maxReplicas: {most}
  metrics:
    - type: Pods
      pods: {{metric: {{name: desk_requests_in_flight}}, target: {{type: AverageValue, averageValue: "20"}}}}
"""


def rolled(deployment):
    spec = {key: value for key, value in copy.deepcopy(deployment)["spec"].items() if key != "replicas"}
    spec["strategy"] = {"rollingUpdate": {"maxUnavailable": "0%", "maxSurge": "50%"}}
    spread = yaml.safe_load(SPREAD.format(own=json.dumps(spec["selector"])))
    template = spec["template"]
    spec["template"] = {**template, "spec": {**template["spec"], "topologySpreadConstraints": spread}}
    return {**deployment, "spec": spec}


def scaled(deployment, least, most):
    own = json.dumps(deployment["spec"]["selector"])
    return list(yaml.safe_load_all(SCALED.format(own=own, least=least, most=most, **deployment["metadata"])))


# %% tags=["right"] exercise="6.5.2"
# The budget reckoned from `least`; labels as expressions.
import copy


def own(deployment):
    chosen = deployment["spec"]["selector"]["matchLabels"].items()
    return {"matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in chosen]}


def rolled(deployment):
    made = copy.deepcopy(deployment)
    made["spec"].pop("replicas")
    made["spec"].update(strategy={"rollingUpdate": {"maxUnavailable": 0}})
    apart = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": own(deployment)}
    keys = ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    made["spec"]["template"]["spec"]["topologySpreadConstraints"] = [
        {**apart, "topologyKey": key} for key in keys
    ]
    return made


def scaled(deployment, least, most):
    def of(kind, version, **spec):
        about = {"name": "x", "namespace": deployment["metadata"]["namespace"]}
        return {"apiVersion": version, "kind": kind, "metadata": about, "spec": spec}

    pods = {
        "metric": {"name": "desk_requests_in_flight"},
        "target": {"type": "AverageValue", "averageValue": 20},
    }
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}
    bounds = {"minReplicas": least, "maxReplicas": most, "metrics": [{"type": "Pods", "pods": pods}]}
    slow = {"scaleDown": {"stabilizationWindowSeconds": 600}}
    return (
        of("HorizontalPodAutoscaler", "autoscaling/v2", scaleTargetRef=target, behavior=slow, **bounds),
        of("PodDisruptionBudget", "policy/v1", selector=own(deployment), maxUnavailable=least // 2),
    )


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="what is scaled"
# One Deployment by heart.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "desk"},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="namespace of the"
# In whatever namespace is the default.
def scaled(deployment, least, most):
    about = {key: deployment["metadata"][key] for key in ("name",) if key in deployment["metadata"]}
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="minReplicas and maxReplicas"
# At least one, whatever was asked.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": 1,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="what it scales by"
# By the processor, which waits for the model.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="seconds that scaleUp waits"
# It grows after a minute.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 60},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="seconds that scaleDown waits"
# It shrinks and grows with each wave.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 30},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="got 0"
# At the least count, no eviction ever.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"minAvailable": least, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="expected 1 to 1, got 2"
# Both of two at once.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": "60%", "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="the pods that the budget protects"
# All pods of the namespace.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": {}}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% tags=["wrong"] exercise="6.5.2" outcome="failed" message="what Kubernetes 1.34 says"
# A field of version v1.
def scaled(deployment, least, most):
    about = {
        key: deployment["metadata"][key] for key in ("name", "namespace") if key in deployment["metadata"]
    }
    target = {"type": "AverageValue", "averageValue": "20"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "desk_requests_in_flight"}, "target": target}}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [metric],
        "targetCPUUtilizationPercentage": 80,
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        },
    }
    budget = {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": about,
            "spec": scaler,
        },
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": budget},
    ]


# %% name="check-6-5-2" tags=["check"] exercise="6.5.2"
check("6.5.2", rolled, scaled)

# %% [markdown]
# ### Stage 5.3: secrets and network (10 minutes, medium)
#
# *Concepts: references to secrets, service accounts, default deny.*
#
# In a cluster without network policies everybody reaches everybody: a pod that was broken into asks the database, or the cloud's metadata for keys.

# %% name="open-network"
desk_pod = Pod("desk", {"app": "desk"}, {"http": 8000})
asked = {
    "the database, from the desk": (desk_pod, Pod("data", {"app": "postgres"}, {}), 5432),
    "the database, from a game": (
        Pod("games", {"app": "chess"}, {}),
        Pod("data", {"app": "postgres"}, {}),
        5432,
    ),
    "the cloud's metadata": (desk_pod, Pod("", {}, {}, "169.254.169.254"), 80),
}
table([{"to": name, "without policies": connects([], *ends)} for name, ends in asked.items()])

# %% [markdown]
# Write `sealed(deployment, secrets)` and `network(deployment)`. Both get a Deployment as Python data, leave it as it is, and work for any.
#
# - `sealed` returns the Deployment changed, and a ServiceAccount for its pods. `secrets` are the names of variables that hold a secret, written out
#   in the manifest until now. In what is returned no secret's value is left, in no form. (There is no Secret in it: it is made where secrets are kept.)
# - Where the Secret `desk-secrets` has a key of each name, every container, init containers too, starts with the variables that it had. All else of the
#   Deployment stays.
# - The pods run under that account, in their namespace, and its token is not mounted.
# - `network` returns NetworkPolicies of the Deployment's namespace. Into its pods come connections from all pods of the namespaces `gateway` and
#   `monitoring`, to port 8000. Out of them go those to the namespace `data`, ports 5432 and 6379, and to the pods `k8s-app: kube-dns` in `kube-system`, port
#   53, UDP and TCP. All others are TCP.
# - Nothing else goes in or out of any pod of the namespace.


# %% name="ex-6-5-3" tags=["exercise"] exercise="6.5.3"
### BEGIN SOLUTION
### STUB: def sealed(deployment, secrets):
### STUB:     ...
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


### END SOLUTION


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="the Deployment handed to sealed"
# The given one is changed.
def sealed(deployment, secrets):
    made = deployment
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="the value of"
# Init containers are forgotten.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"]:
        for variable in box.get("env", []):
            if variable["name"] in secrets:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="the value of"
# Hidden as base64.
import base64


def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets:
                kept = base64.b64encode(variable.pop("value").encode()).decode()
                pod.setdefault("nodeSelector", {})["kept"] = kept
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="with another value than before"
# From another Secret.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="with another value than before"
# Every variable is taken for a secret.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if "value" in variable:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="service account of the pods"
# The account is there, and nobody runs under it.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="whether the token is mounted"
# Mounted, as is the default.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"]}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="all else of the Deployment"
# What was there is lost.
def sealed(deployment, secrets):
    made = copy.deepcopy(deployment)
    pod, about = made["spec"]["template"]["spec"], made["metadata"]
    for box in pod["containers"] + pod.get("initContainers", []):
        for variable in box.get("env", []):
            if variable["name"] in secrets:
                del variable["value"]
                variable["valueFrom"] = {"secretKeyRef": {"name": "desk-secrets", "key": variable["name"]}}
    pod |= {"serviceAccountName": about["name"], "automountServiceAccountToken": False}
    where = {key: about[key] for key in ("name", "namespace") if key in about}
    made["metadata"] = {"name": about["name"], "namespace": about["namespace"]}
    return [made, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}]


# %% name="ex-6-5-3-network" tags=["exercise"] exercise="6.5.3"
### BEGIN SOLUTION
### STUB: def network(deployment):
### STUB:     ...
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


### END SOLUTION


# %% tags=["right"] exercise="6.5.3"
# All keys of the Secret at once; YAML text with gaps, one policy for each direction, named port.
import copy
import json

import yaml

POLICIES = """
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {{name: default-deny, namespace: {namespace}}}
spec: {{podSelector: {{}}, policyTypes: [Egress, Ingress]}}
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {{name: in, namespace: {namespace}}}
spec:
  podSelector: {own}
  ingress:
    - from:
        - namespaceSelector:
            matchExpressions: [{{key: kubernetes.io/metadata.name, operator: In, values: [gateway, monitoring]}}]
      ports: [{{port: 8000, protocol: TCP}}]
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {{name: out, namespace: {namespace}}}
spec:
  podSelector: {own}
  policyTypes: [Egress]
  egress:
    - to: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: data}}}}}}]
      ports: [{{port: 5432}}]
    - to: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: data}}}}}}]
      ports: [{{port: 6379, endPort: 6379}}]
    - to:
        - namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: kube-system}}}}
          podSelector: {{matchExpressions: [{{key: k8s-app, operator: In, values: [kube-dns]}}]}}
      ports: [{{port: 53}}, {{port: 53, protocol: UDP}}]
"""


def network(deployment):
    own = json.dumps(deployment["spec"]["selector"])
    return list(yaml.safe_load_all(POLICIES.format(own=own, namespace=deployment["metadata"]["namespace"])))


def sealed(deployment, secrets):
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "desk-account", "namespace": deployment["metadata"]["namespace"]},
        "automountServiceAccountToken": False,
    }
    made = copy.deepcopy(deployment)
    pod = made["spec"]["template"]["spec"]
    pod["serviceAccountName"] = "desk-account"
    for box in (*pod["containers"], *pod.get("initContainers", ())):
        box["env"] = [each for each in box["env"] if each["name"] not in secrets]
        box["envFrom"] = [{"secretRef": {"name": "desk-secrets"}}]
    return made, account


# %% tags=["right"] exercise="6.5.3"
# A table of what is open, a policy for each row; the Deployment rebuilt rather than changed.
OPEN = [
    ("ingress", "gateway", {}, [(8000, "TCP")]),
    ("ingress", "monitoring", {}, [(8000, "TCP")]),
    ("egress", "data", {}, [(5432, "TCP"), (6379, "TCP")]),
    ("egress", "kube-system", {"k8s-app": "kube-dns"}, [(53, "UDP"), (53, "TCP")]),
]


def network(deployment):
    about, own = deployment["metadata"], deployment["spec"]["selector"]["matchLabels"]
    specs = [{"podSelector": {}, "policyTypes": [each]} for each in ("Ingress", "Egress")]
    for way, space, labels, ports in OPEN:
        peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space}}}
        peer |= {"podSelector": {"matchLabels": labels}}
        opened = [{"port": port, "protocol": protocol} for port, protocol in ports]
        rule = {"from" if way == "ingress" else "to": [peer], "ports": opened}
        specs.append({"podSelector": {"matchLabels": own}, "policyTypes": [way.title()], way: [rule]})
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"{about['name']}-{number}", "namespace": about["namespace"]},
            "spec": spec,
        }
        for number, spec in enumerate(specs)
    ]


def hidden(box, secrets):
    def variable(each):
        if each["name"] not in secrets:
            return each
        return {
            "name": each["name"],
            "valueFrom": {"secretKeyRef": {"name": "desk-secrets", "key": each["name"]}},
        }

    return {**box, "env": [variable(each) for each in box.get("env", [])]}


def sealed(deployment, secrets):
    spec, place = deployment["spec"], deployment["metadata"]["namespace"]
    pod = {**spec["template"]["spec"], "serviceAccountName": "who", "automountServiceAccountToken": False}
    pod |= {kind: [hidden(box, secrets) for box in pod[kind]] for kind in ("containers", "initContainers")}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "who", "namespace": place}}
    return [{**deployment, "spec": {**spec, "template": {**spec["template"], "spec": pod}}}, account]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="of another pod of the namespace"
# Only the desk's own pods are closed.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": own}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="let through"
# Ingress alone: everything goes out.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="let through"
# Any port.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="to kube-system, port 53"
# All pods of kube-system answer for names.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system")]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="port 53, UDP"
# TCP alone: names are not found.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="port 53"
# Pods with that label, in the own namespace.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [{"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="from monitoring, port 8000"
# Monitoring is forgotten.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="port 443, TCP"
# The whole internet, for a model that is not there.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy(
            "desk",
            {
                "podSelector": own,
                "ingress": [callers],
                "egress": [dns, data, {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}],
            },
        ),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="port 6379"
# PostgreSQL alone.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": deployment["metadata"].get("namespace", "default")}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% tags=["wrong"] exercise="6.5.3" outcome="failed" message="kinds and namespaces"
# In the default namespace.
def network(deployment):
    def space(name, **labels):
        pods = {"podSelector": {"matchLabels": labels}} if labels else {}
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **pods}

    def policy(name, spec):
        about = {"name": name, "namespace": "default"}
        spec["policyTypes"] = ["Ingress", "Egress"]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    callers = {"from": [space("gateway"), space("monitoring")], "ports": [{"port": 8000}]}
    names = [space("kube-system", **{"k8s-app": "kube-dns"})]
    dns = {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    data = {"to": [space("data")], "ports": [{"port": 5432}, {"port": 6379}]}
    own = deployment["spec"]["selector"]
    return [
        policy("deny-all", {"podSelector": {}}),
        policy("desk", {"podSelector": own, "ingress": [callers], "egress": [dns, data]}),
    ]


# %% name="check-6-5-3" tags=["check"] exercise="6.5.3"
check("6.5.3", sealed, network)

# %% [markdown]
# ### Stretch: beside the course's own
#
# The service of notebook 05 has manifests too, in `deploy/kubernetes`, which Kustomize renders. Each line of this table is a place where yours
# (or the starter, while 5.1 is not solved) differs from them. Not every difference is a fault: say of each who needs it.

# %% name="differences"
import subprocess
import sys

from course_lib.paths import ROOT

kubectl = Path(sys.executable).with_name("kubectl")
base = subprocess.run(
    [kubectl, "kustomize", ROOT / "deploy/kubernetes/base"], capture_output=True, check=True
)
ours = next(
    each
    for each in yaml.safe_load_all(base.stdout)
    if (each["kind"], each["metadata"]["name"]) == ("Deployment", "desk")
)
mine = yaml.safe_load(deployment if isinstance(deployment, str) else starter)


# %% name="differences-table"
def pod_of(resource):
    pod = resource["spec"]["template"]["spec"]
    box = {f"containers[0].{key}": value for key, value in pod["containers"][0].items()}
    return {**{key: value for key, value in pod.items() if key != "containers"}, **box}


pods = pod_of(mine), pod_of(ours)
keys = [key for key in sorted({*pods[0], *pods[1]}) if pods[0].get(key) != pods[1].get(key)]
table([{"field": key, "yours": pods[0].get(key, ""), "the course's": pods[1].get(key, "")} for key in keys])

# %% [markdown]
# A request is what is paid for, used or not: nodes are bought until all requests fit. **Predict first:** which of two makes a replica of the course's
# service dear, its processor or its memory? (A price list is an assumption; put yours in.)

# %% name="costs"
CPU_HOUR_USD, GIB_HOUR_USD = 0.035, 0.004  # what a large provider asks, roughly, for a core and for a GiB
asked = ours["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
cores = int(asked["cpu"].removesuffix("m")) / 1000
gib = int(asked["memory"].removesuffix("Mi")) / 1024
table(
    [
        {
            "replicas": count,
            "processor, USD a month": f"{count * cores * CPU_HOUR_USD * 730:.2f}",
            "memory, USD a month": f"{count * gib * GIB_HOUR_USD * 730:.2f}",
        }
        for count in (2, 12)
    ]
)

# %% [markdown]
# A replica waits for its model most of the time, so half a core is generous: measure with `python -m bench capacity` before you pay for it.

# %% [markdown] name="end-5"
# That was project 5. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-6"
# ## Project 6: Monitoring and alerting
#
# Somebody writes: "the desk gave me nonsense on Tuesday." Can you find that request? Was it one, or a tenth of all? Would you have been told?
# In this project metrics, log and traces get to agree, an alert wakes people when it matters, and a dashboard is tried before it is needed.
# (Exercise 5.5 has a first counter and a first alert; this goes on from there, and does not need it.)
#
# | stage | you write | minutes |
# | --- | --- | --- |
# | 6.1 | metrics and a structured log of each request | 15 |
# | 6.2 | recording rules, and alerts on how fast an error budget burns | 15 |
# | 6.3 | a dashboard as data | 10 |
#
# This monitor is written in two minutes, and everybody has seen one like it:

# %% name="given-6-6" tags=["needs"]
import io
import json
import re
import secrets
import threading
from datetime import UTC, datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics import exposition

SUCCESS = {"answered": True, "cached": True, "degraded": True, "refused": False, "failed": False}
"""All outcomes of a request; the first three are successes."""


# %% name="given-first-monitor"
class FirstMonitor:
    def __init__(self, out):
        self.out, self.registry = out, CollectorRegistry()
        self.requests = Counter("desk_requests", "Requests", ["outcome", "customer"], registry=self.registry)

    def count(self, outcome, took_s, request):
        self.requests.labels(outcome, request["customer"]).inc()
        print(f"{outcome} in {took_s} s: {request['question']}", file=self.out)


# %% [markdown]
# **Predict first:** a thousand customers ask once each. How many series are there, and how many lines has the log?

# %% name="first-monitor"
log = io.StringIO()
first = FirstMonitor(log)
for number in range(1_000):
    asked = {"customer": f"customer-{number}", "question": "Where is my order?\nIt is late."}
    first.count("answered", 0.4, asked)
told = prometheus_client.generate_latest(first.registry).decode()
series = [line for line in told.splitlines() if line.startswith("desk_requests_total{")]
print(f"{len(series):,} series, {len(log.getvalue().splitlines()):,} lines for 1,000 requests")
print(series[-1], log.getvalue().splitlines()[-2:], sep="\n")

# %% [markdown]
# Each series is kept in memory and on disk by Prometheus for weeks: a label with a customer in it is the usual way to bring it down. The log
# has personal data, twice as many lines as requests (anybody can forge one with a line break), and nothing that leads from a line to its trace.
#
# ### Stage 6.1: Metrics and a log that agree (15 minutes, medium)
#
# *Concepts: bounded labels, structured logs, the Elastic Common Schema, trace context, exemplars.*
#
# Write `Monitor(out)`, where `out` is a text stream. `count(outcome, took_s, request=None)` is called when a request has ended, from many threads.
# `request` is a dict that may hold `request_id`, `traceparent`, `question` and `customer`: texts, as the caller sent them. (`fields` is a place for the
# line; the check looks at `Monitor` alone.)
#
# - `text()` returns all metrics in Prometheus' format: `desk_requests_total` by `outcome`, each of `SUCCESS` there from the start; the histogram
#   `desk_request_seconds`, with a bound at 2 s; `desk_log_lost_total`. No more series come with the requests. Two monitors share nothing.
# - Another outcome raises ValueError, and neither counts nor writes.
# - Each request writes one line of JSON, with (flat or nested) `@timestamp` (ISO 8601, UTC), `log.level` (`error` for failed, else `info`),
#   `event.outcome` (`success` or `failure`), `event.duration` (nanoseconds, whole), `labels.outcome`, `http.request.id` and `trace.id`.
# - `http.request.id` is `request_id` if that has 1 to 64 ASCII letters, digits and `-`; else a new one of these.
# - `trace.id` are the 32 digits of a `traceparent` `00-<32>-<16>-<2 hexadecimal digits, small>`, not all 0; without one it is left out.
# - `openmetrics()` returns the metrics as OpenMetrics text, in which the bucket of a request with a trace has an exemplar, `trace_id`.
# - Nothing else of a request is in log or metrics.
# - No line is torn. If `out` raises OSError, `count` does not; metrics count the request, and the lost line.

# %% name="ex-6-6-1" tags=["exercise"] exercise="6.6.1"
### BEGIN SOLUTION
### STUB: def fields(outcome, took_s, request):
### STUB:     ...
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


### END SOLUTION


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="fields of a request that ended with failed"
# Every line is info.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="fields of a request that ended with refused"
# Who was refused is taken for served.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if outcome != "failed" else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="fields of a request"
# Milliseconds.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e3),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="the time zone of @timestamp"
# A time without its zone.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).replace(tzinfo=None).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="http.request.id where the given one"
# Whatever the caller sent.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name or secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="http.request.id where the given one"
# A line break at the end.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if re.match(r"[A-Za-z0-9-]{1,64}$", name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="http.request.id of a request that has one"
# Always a new one.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="http.request.id where the given one"
# One id for all that have none.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else "none",
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="trace.id where traceparent is"
# The trace of nobody.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="trace.id where traceparent is"
# More than the form behind it.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.match(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="what of a request stands in log or metrics"
# The question, since it helps.
ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def fields(outcome, took_s, request):
    name, parent = request.get("request_id", ""), PARENT.fullmatch(request.get("traceparent", ""))
    line = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "log.level": "error" if outcome == "failed" else "info",
        "event.outcome": "success" if SUCCESS[outcome] else "failure",
        "event.duration": round(took_s * 1e9),
        "labels.outcome": outcome,
        "message": request.get("question", ""),
        "http.request.id": name if ID.fullmatch(name) else secrets.token_hex(16),
    }
    return line | ({"trace.id": parent[1]} if parent else {})


# %% name="ex-6-6-1-monitor" tags=["exercise"] exercise="6.6.1"
### BEGIN SOLUTION
### STUB: class Monitor:
### STUB:     """Metrics and a log of requests."""
### STUB:
### STUB:     def __init__(self, out):
### STUB:         ...
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


### END SOLUTION


# %% tags=["right"] exercise="6.6.1"
# The log module writes, nested fields; metrics in a table; ids read by hand.
import json
import logging
import string
import time
import uuid

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics


class Lines(logging.StreamHandler):
    def __init__(self, out, lost):
        super().__init__(out)
        self.lost = lost

    def handleError(self, record):  # noqa: N802  (the name that logging has)
        self.lost.inc()


def trace_of(parent):
    parts = parent.split("-")
    lengths = [len(part) for part in parts] == [2, 32, 16, 2]
    is_one = (
        lengths and parts[0] == "00" and set("".join(parts)) <= set("0123456789abcdef") and int(parts[1], 16)
    )
    return parts[1] if is_one else None


class Monitor:
    def __init__(self, out):
        self.registry = CollectorRegistry()
        self.metrics = {
            "ended": Counter("desk_requests_total", ".", ("outcome",), registry=self.registry),
            "took": Histogram("desk_request_seconds", ".", registry=self.registry, buckets=[2, 20]),
            "lost": Counter("desk_log_lost_total", ".", registry=self.registry),
        }
        self.ended = {outcome: self.metrics["ended"].labels(outcome=outcome) for outcome in SUCCESS}
        self.log = logging.Logger("desk", logging.INFO)
        self.log.addHandler(Lines(out, self.metrics["lost"]))

    def count(self, outcome, took_s, request=None):
        if outcome not in self.ended:
            raise ValueError(outcome)
        given = (request or {}).get("request_id") or ""
        fits = 0 < len(given) < 65 and set(given) <= set(string.ascii_letters + string.digits + "-")
        trace = trace_of((request or {}).get("traceparent") or "")
        line = {
            "@timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "log": {"level": "info" if outcome != "failed" else "error"},
            "event": {"outcome": ("failure", "success")[SUCCESS[outcome]], "duration": int(took_s * 10**9)},
            "labels": {"outcome": outcome},
            "http": {"request": {"id": given if fits else str(uuid.uuid4())}},
            **({"trace": {"id": trace}} if trace else {}),
        }
        self.ended[outcome].inc()
        self.metrics["took"].observe(took_s, trace and {"trace_id": trace})
        self.log.info(json.dumps(line))

    def text(self):
        return generate_latest(self.registry).decode()

    def openmetrics(self):
        return openmetrics(self.registry).decode()


# %% tags=["right"] exercise="6.6.1"
# One lock around all of it; a text of one's own for each line.
import json
import re
import threading
import uuid
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics


class Monitor:
    def __init__(self, out):
        self.all, self.lock, self.out = CollectorRegistry(), threading.RLock(), out
        self.n = Counter("desk_requests", "n", ["outcome"], registry=self.all)
        self.s = Histogram("desk_request_seconds", "s", buckets=[0.5, 2.0], registry=self.all)
        self.l = Counter("desk_log_lost", "l", registry=self.all)
        [self.n.labels(each) for each in SUCCESS]

    def count(self, outcome, took_s, request=None):
        with self.lock:
            SUCCESS.get(outcome) is None and self.refuse(outcome)
            asked = dict.fromkeys(("request_id", "traceparent"), "") | (request or {})
            found = re.match(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\Z", asked["traceparent"])
            trace = found.group(1) if found and found.group(1).strip("0") else ""
            known = re.match(r"[-a-zA-Z0-9]{1,64}\Z", asked["request_id"])
            level, means = (
                "error" if outcome == "failed" else "info",
                "success" if SUCCESS[outcome] else "failure",
            )
            parts = [f'"@timestamp": "{datetime.now(UTC).isoformat(timespec="milliseconds")}"']
            parts += [f'"log.level": "{level}", "event.outcome": "{means}", "labels.outcome": "{outcome}"']
            parts += [f'"event.duration": {took_s * 1e9:.0f}']
            parts += [f'"http.request.id": "{asked["request_id"] if known else uuid.uuid4().hex}"']
            parts += [f'"trace.id": "{trace}"'] if trace else []
            self.n.labels(outcome).inc()
            self.s.observe(took_s, exemplar={"trace_id": trace} if trace else None)
            try:
                print("{" + ", ".join(parts) + "}", file=self.out)
            except OSError:
                self.l.inc()

    def refuse(self, outcome):
        raise ValueError(f"{outcome} is none of {list(SUCCESS)}")

    def text(self):
        return generate_latest(self.all).decode("utf-8")

    def openmetrics(self):
        return openmetrics(self.all).decode("utf-8")


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="desk_requests_total, before the first request"
# No series before the first.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="its bucket of 2.0 seconds"
# No bound at the target.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 1, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="series that were not there"
# A series for each request's id.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        self.seconds_of = Counter("desk_asked", "By request", ["id"], **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.seconds_of.labels(line["http.request.id"]).inc()
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="Monitor(out)"
# One registry for all monitors.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), prometheus_client.REGISTRY
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="count('Answered', 0.1)"
# Any other outcome is a failure.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            outcome = "failed"
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="what is counted of outcomes"
# Counted first, looked at later.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        self.requests.labels(outcome).inc(0)
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="the line"
# Three writes, and no lock.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            self.out.writelines([json.dumps(line)[:9], json.dumps(line)[9:], "\n"])
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="the line"
# A record over several lines.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line, indent=2) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="lines of the log"
# Successes are not worth a line.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        if SUCCESS[outcome]:
            return
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="count('answered', 0.25)"
# A full disk ends the request.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        finally:
            pass

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="what a full disk leaves"
# The lost line is lost without a word.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            pass

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="exemplars of the one request"
# No exemplars.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="exemplars whose trace_id"
# An exemplar of no trace.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line.get("trace.id", "")})
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return exposition.generate_latest(self.registry).decode()


# %% tags=["wrong"] exercise="6.6.1" outcome="failed" message="what openmetrics() returns"
# The other format.
class Monitor:
    """Metrics and a log of requests."""

    def __init__(self, out):
        self.out, self.writing, self.registry = out, threading.Lock(), CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("desk_requests", "Requests that have ended", ["outcome"], **own)
        self.seconds = Histogram("desk_request_seconds", "Duration", buckets=(0.1, 0.5, 1, 2, 5, 10), **own)
        self.lost = Counter("desk_log_lost", "Lines that could not be written", **own)
        for outcome in SUCCESS:
            self.requests.labels(outcome)

    def count(self, outcome, took_s, request=None):
        if outcome not in SUCCESS:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(SUCCESS)}")
        line = fields(outcome, took_s, request or {})
        self.requests.labels(outcome).inc()
        self.seconds.observe(took_s, {"trace_id": line["trace.id"]} if "trace.id" in line else None)
        try:
            with self.writing:
                self.out.write(json.dumps(line) + "\n")
        except OSError:
            self.lost.inc()

    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()

    def openmetrics(self):
        return prometheus_client.generate_latest(self.registry).decode()


# %% name="check-6-6-1" tags=["check"] exercise="6.6.1"
check("6.6.1", Monitor)

# %% [markdown]
# ### Stage 6.2: A budget that burns (15 minutes, hard)
#
# *Concepts: service level objective, error budget, burn rate, two windows, recording rules.*
#
# 99 % of the requests of 30 days are to succeed, so 1 % may fail: the **error budget**. An alert on "more than 5 % of five minutes failed" knows
# nothing of it. **Predict first:** of these days, on which does it wake somebody, and what did each day cost of the month's budget?

# %% name="five-percent-alert"
import numpy as np

DAYS = {  # the share that fails, from one minute to another
    "all fail, for two minutes": (1.0, 600, 602),
    "4 % fail, all day": (0.04, 0, 1_440),
    "all fail, for half an hour": (1.0, 600, 630),
}


def failing(share, begins, ends):
    minutes = np.arange(1_440)
    return np.where((minutes >= begins) & (minutes < ends), share, 0.0)


def over(window, shares):
    """Return the mean of the last minutes, at each minute."""
    sums = np.cumsum(np.concatenate([np.zeros(window), shares]))
    return (sums[window:] - sums[:-window]) / window


# %% name="five-percent-days"
for told, day in DAYS.items():
    shares = failing(*day)
    wakes, burnt = bool((over(5, shares) > 0.05).any()), shares.sum() / (0.01 * 30 * 1_440)
    print(f"{told:26} wakes somebody: {wakes!s:5}  of the month's budget: {burnt:6.1%}")

# %% [markdown]
# It wakes somebody for what cost half a percent, and not for the day that cost most. The **burn rate** is the share that fails, divided by
# what may: at 1 the budget lasts 30 days, at 14.4 two. Two windows look at it, a long one, which says that it matters, and a short one, which says
# that it still goes on.

# %% name="budget-burnt"
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
for told, day in DAYS.items():
    shares = failing(*day)
    axes.plot(np.arange(1_440) / 60, np.cumsum(shares) / (0.01 * 30 * 1_440) * 100, label=told)
    fires = (over(60, shares) > 0.144) & (over(5, shares) > 0.144)
    if fires.any():
        axes.axvspan(fires.argmax() / 60, (1_440 - fires[::-1].argmax()) / 60, alpha=0.3, color="tab:red")
axes.set(xlabel="hour of the day", ylabel="budget burnt, % of the month")
axes.legend()
alt = "Three lines: an outage of two minutes burns almost nothing, 4 % all day the most, at a slow and even rate."
plot(
    figure,
    alt + " A red band marks when one hour and five minutes both burn at 14.4: the outage of half an hour.",
)

# %% [markdown]
# Only the outage of half an hour burns fast (the red band). For 4 % all day nobody has to get up, but somebody should look in the morning: that takes a longer
# window, and a lower rate.
#
# Write `recorded` and `alerts`, texts of rule files of Prometheus, for `desk_requests_total` with the outcomes of before. Prometheus scrapes two
# replicas, and evaluates, every two minutes here; a replica is restarted now and then.
#
# - `recorded` holds four recording rules, `desk:failed:ratio_rate5m`, `...30m`, `...1h` and `...6h`: the share with outcome `failed` of all requests but
#   those refused (anybody can be refused, as often as it takes to hide a fault), over that window and all replicas, as one series without labels.
# - `alerts` holds two alerts, each with a `summary`: `BudgetBurnsFast`, `severity: page`, for a burn rate above 14.4 over an hour and still over five
#   minutes; `BudgetBurnsSlowly`, `severity: ticket`, for one above 6 over six hours and still over 30 minutes.
# - Fast fires, after hours without a failure, within 12 minutes where all fail, within 36 where 30 % do, and no more 12 minutes after that ended.
# - Slowly fires within 270 minutes where 9 % fail, and no more 45 minutes after that ended. Fast does not.
# - Neither fires where all fail for six minutes, where 3 % fail for five hours, or where there are no requests.
#
# `promtool`, which comes with Prometheus, evaluates them (`apt-get install prometheus`, `brew install prometheus`); without it the card says so.

# %% name="ex-6-6-2" tags=["exercise"] exercise="6.6.2"
### BEGIN SOLUTION
### STUB: recorded = ...
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum(rate(desk_requests_total{{outcome="failed"}}[{window}]))
          / sum(rate(desk_requests_total{{outcome!="refused"}}[{window}]))"""
recorded = "groups:\n  - name: desk-recorded\n    rules:"
recorded += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))
### END SOLUTION

# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="desk:failed:ratio_rate5m"
# What was refused hides the fault.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum(rate(desk_requests_total{{outcome="failed"}}[{window}]))
          / sum(rate(desk_requests_total[{window}]))"""
recorded = "groups:\n  - name: desk-recorded\n    rules:"
recorded += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="desk:failed:ratio_rate5m"
# One share for each replica.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum by (instance) (rate(desk_requests_total{{outcome="failed"}}[{window}]))
          / sum by (instance) (rate(desk_requests_total{{outcome!="refused"}}[{window}]))"""
recorded = "groups:\n  - name: desk-recorded\n    rules:"
recorded += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="desk:failed:ratio_rate"
# All that was ever counted.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum(desk_requests_total{{outcome="failed"}})
          / sum(desk_requests_total{{outcome!="refused"}})"""
recorded = "groups:\n  - name: desk-recorded\n    rules:"
recorded += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="desk:failed:ratio_rate"
# One window for all.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum(rate(desk_requests_total{{outcome="failed"}}[5m]))
          / sum(rate(desk_requests_total{{outcome!="refused"}}[5m]))"""
recorded = "groups:\n  - name: desk-recorded\n    rules:"
recorded += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="desk:failed:ratio_rate"
# Summed first: a restart of one replica looks like one of all.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          rate(sum(desk_requests_total{{outcome="failed"}})[{window}:])
          / rate(sum(desk_requests_total{{outcome!="refused"}})[{window}:])"""
recorded = "groups:\n  - name: desk-recorded\n    rules:"
recorded += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="names in recorded"
# One window is missing.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum(rate(desk_requests_total{{outcome="failed"}}[{window}]))
          / sum(rate(desk_requests_total{{outcome!="refused"}}[{window}]))"""
recorded = "groups:\n  - name: desk-recorded\n    rules:"
recorded += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h"))


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="what promtool says of recorded"
# A bracket is missing.
RULE = """
      - record: desk:failed:ratio_rate{window}
        expr: |
          sum(rate(desk_requests_total{{outcome="failed"}}[{window}])
          / sum(rate(desk_requests_total{{outcome!="refused"}}[{window}]))"""
recorded = "groups:\n  - name: desk-recorded\n    rules:"
recorded += "".join(RULE.format(window=window) for window in ("5m", "30m", "1h", "6h"))


# %% name="ex-6-6-2-alerts" tags=["exercise"] exercise="6.6.2"
### BEGIN SOLUTION
### STUB: alerts = ...
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""
### END SOLUTION

# %% tags=["right"] exercise="6.6.2"
# One minus the share that succeeded; alerts made as data, in one loop, with a short wait.
import json

GOOD, ALL = 'outcome=~"answered|cached|degraded"', 'outcome=~"answered|cached|degraded|failed"'


def total(labels, window):
    return f"sum(increase(desk_requests_total{{{labels}}}[{window}]))"


def file_of(*rules):
    return json.dumps({"groups": [{"name": "one", "rules": list(rules)}]})


recorded = file_of(
    *(
        {"record": f"desk:failed:ratio_rate{each}", "expr": f"1 - {total(GOOD, each)} / {total(ALL, each)}"}
        for each in ("6h", "1h", "30m", "5m")
    )
)
alerts = file_of(
    *(
        {
            "alert": name,
            "expr": f"min(desk:failed:ratio_rate{short} or desk:failed:ratio_rate{long}) > {rate / 100}"
            f" and desk:failed:ratio_rate{long} > {rate / 100} and desk:failed:ratio_rate{short} > {rate / 100}",
            "for": "2m",
            "labels": {"severity": severity, "team": "desk"},
            "annotations": {"summary": "The budget burns."},
        }
        for name, rate, short, long, severity in (
            ("BudgetBurnsSlowly", 6, "30m", "6h", "ticket"),
            ("BudgetBurnsFast", 14.4, "5m", "1h", "page"),
        )
    )
)

# %% tags=["right"] exercise="6.6.2"
# Written out; each alert in a group of its own; two conditions as a multiplication.
recorded = """
groups:
- name: short
  rules:
  - record: desk:failed:ratio_rate5m
    expr: sum without (instance, job, outcome) (rate(desk_requests_total{outcome="failed"}[5m])) / sum(rate(desk_requests_total{outcome!~"refused"}[5m]))
  - record: desk:failed:ratio_rate30m
    expr: sum by () (rate(desk_requests_total{outcome="failed"}[30m])) / sum(rate(desk_requests_total{outcome!="refused"}[30m]))
- name: long
  rules:
  - record: desk:failed:ratio_rate1h
    expr: sum(rate(desk_requests_total{outcome="failed"}[1h])) / (sum(rate(desk_requests_total{outcome!="refused"}[1h])) > 0)
  - record: desk:failed:ratio_rate6h
    expr: sum(rate(desk_requests_total{outcome="failed"}[6h])) / (sum(rate(desk_requests_total[6h])) - sum(rate(desk_requests_total{outcome="refused"}[6h])))
"""
alerts = """
groups:
- name: page
  rules:
  - alert: BudgetBurnsFast
    expr: (desk:failed:ratio_rate1h > bool 0.144) * (desk:failed:ratio_rate5m > bool 0.144) == 1
    labels: {severity: page}
    annotations: {summary: two days at this rate}
- name: ticket
  rules:
  - alert: BudgetBurnsSlowly
    expr: |
      desk:failed:ratio_rate6h / 0.01 > 6
      and on () desk:failed:ratio_rate30m / 0.01 > 6
    labels: {severity: ticket}
    annotations: {summary: five days at this rate, description: look in the morning}
"""

# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsFast fires, where all fail, from"
# The long window alone: an hour of alarm after the fault.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsFast fires, where all fail, but not longer"
# The short window alone.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsFast fires, where all fail, from"
# A burn rate compared with a share.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 and desk:failed:ratio_rate5m > 14.4
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsFast fires, where 9 % fail"
# Fast at a burn rate of 5.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 5 * 0.01 and desk:failed:ratio_rate5m > 5 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsFast fires, where all fail, from"
# It waits ten more minutes.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        for: 10m
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsSlowly fires, where 3 % fail"
# Slowly at a burn rate of 2.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 2 * 0.01 and desk:failed:ratio_rate30m > 2 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="when BudgetBurnsSlowly fires, where 9 % fail"
# The long window alone: hours after the end.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="where there are no requests"
# All that is not known to be well.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: vector(1) unless desk:failed:ratio_rate1h <= 0.144 unless desk:failed:ratio_rate5m <= 0.144 unless absent(desk:failed:ratio_rate1h)
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="the alerts and their severity"
# Both wake somebody.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of six hours' requests failed; 1 % may"}
"""


# %% tags=["wrong"] exercise="6.6.2" outcome="failed" message="alerts without an annotation summary"
# Nobody knows what it says.
alerts = """
groups:
  - name: desk-alerts
    rules:
      - alert: BudgetBurnsFast
        expr: desk:failed:ratio_rate1h > 14.4 * 0.01 and desk:failed:ratio_rate5m > 14.4 * 0.01
        labels: {severity: page}
        annotations: {summary: "{{ $value | humanizePercentage }} of an hour's requests failed; 1 % may"}
      - alert: BudgetBurnsSlowly
        expr: desk:failed:ratio_rate6h > 6 * 0.01 and desk:failed:ratio_rate30m > 6 * 0.01
        labels: {severity: ticket}
"""


# %% name="check-6-6-2" tags=["check"] exercise="6.6.2"
check("6.6.2", recorded, alerts)

# %% [markdown]
# ### Stage 6.3: A dashboard as data (10 minutes, medium)
#
# *Concepts: rate, errors, duration, saturation; units; panels that are tested.*
#
# A panel over a metric that was renamed shows an empty picture, which looks like a quiet day. As data a dashboard can be asked beforehand. These are the
# metrics of two replicas of the desk:

# %% name="metrics-6-6-3"
METRICS = {
    "desk_requests_total": "counter; outcome: one of SUCCESS",
    "desk_request_seconds": "histogram; le: 0.1, 0.5, 1, 2, 5, 10, +Inf",
    "desk_requests_in_flight": "gauge: under way in a replica",
    "desk_requests_allowed": "gauge: so many at once, a replica",
    "up": "gauge: 1 while a replica answers Prometheus",
}
table([{"metric": name, "what": told, "labels too": "job, instance"} for name, told in METRICS.items()])

# %% [markdown]
# Write `dashboard()`, which returns a dict as Grafana 10 reads it: a `title`, and `panels`, each of them with `type`, `title`, `targets` (each with `expr`) and
# `fieldConfig`, whose `defaults` have the `unit`. The course's `grafana_foundation_sdk` knows the form; by hand it is short, too.
# (`PANELS` is a place for the table; the check looks at `dashboard` alone.)
#
# - Each panel has a title that no other has, a unit, and one expression or more, which Prometheus reads.
# - Each expression shows something while the desk is in use: it asks for metrics and labels that exist. At even load it shows the same all the time: a
#   counter is asked for its rate.
# - For each of *rate* (how many requests), *errors* (how many of them fail), *duration* and *saturation* (how full it is) there is a panel that changes when
#   that alone changes.
# - Units fit: `reqps` (or `ops`, `cps`) for a rate, `percentunit` for a share, `s` for seconds, `short` for a count.
# - A target that shows the duration has `"exemplar": True`, so that a point leads to a trace.

# %% name="ex-6-6-3" tags=["exercise"] exercise="6.6.3"
### BEGIN SOLUTION
### STUB: PANELS = ...
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}
### END SOLUTION

# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="expected a value at even load"
# A metric that does not exist.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="expected a value at even load"
# A label that does not exist.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="error"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="expected the same at even load"
# A counter as it is.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (desk_requests_total)"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="an expression of"
# A bracket is missing.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="when only this does: rate"
# How many requests is not seen.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="when only this does: errors"
# How many fail is not seen.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", ALL),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="when only this does: duration"
# How long it takes is not seen.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="when only this does: saturation"
# How full it is is not seen.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("s", f"histogram_quantile(0.95, {BUCKETS})"),
}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="unit of 'Duration, 95 %'"
# Seconds, shown as a number without a unit.
ALL = "sum(rate(desk_requests_total[5m]))"
BUCKETS = "sum by (le) (rate(desk_request_seconds_bucket[5m]))"
PANELS = {
    "Requests": ("reqps", "sum by (outcome) (rate(desk_requests_total[5m]))"),
    "Failed requests": ("percentunit", f'sum(rate(desk_requests_total{{outcome="failed"}}[5m])) / {ALL}'),
    "Duration, 95 %": ("short", f"histogram_quantile(0.95, {BUCKETS})"),
    "In flight": ("percentunit", "sum(desk_requests_in_flight) / sum(desk_requests_allowed)"),
}


# %% name="ex-6-6-3-dashboard" tags=["exercise"] exercise="6.6.3"
### BEGIN SOLUTION
### STUB: def dashboard():
### STUB:     ...
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [{"refId": "A", "expr": expression, "exemplar": unit == "s"}],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return {"uid": "desk", "title": "Desk", "refresh": "15s", "schemaVersion": 38, "panels": panels}


### END SOLUTION


# %% tags=["right"] exercise="6.6.3"
# Built with Grafana's own SDK, in rows; several expressions to a panel; the window of the picture.
import json

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.cog.encoder import JSONEncoder


def panel(kind, title, unit, *expressions):
    made = kind().title(title).unit(unit)
    for each in expressions:
        made = made.with_target(Dataquery().expr(each).exemplar(unit == "s"))
    return made


def dashboard():
    rate = "rate(desk_requests_total[$__rate_interval])"
    failed = rate.replace("[", '{outcome="failed"}[')
    buckets = "sum by (le) (rate(desk_request_seconds_bucket[10m]))"
    board = Dashboard("The desk").uid("d").with_row(Row("Is it broken?"))
    board = board.with_panel(panel(Panel, "Rate", "ops", f"sum({rate})", f"sum by (instance) ({rate})"))
    board = board.with_panel(panel(Stat, "Errors", "cps", f"sum({failed})"))
    quantiles = (f"histogram_quantile({each}, {buckets})" for each in (0.5, 0.99))
    board = board.with_row(Row("Why?")).with_panel(panel(Panel, "Duration", "s", *quantiles))
    board = board.with_panel(
        panel(Panel, "Under way", "short", "avg(desk_requests_in_flight)", "max(desk_requests_allowed)")
    )
    return json.loads(JSONEncoder().encode(board.build()))


# %% tags=["right"] exercise="6.6.3"
# By hand, one panel for each expression; the mean as the duration; one for who is up.
def dashboard():
    def shown(kind, title, unit, expr, **target):
        return {
            "type": kind,
            "title": title,
            "fieldConfig": {"defaults": {"unit": unit}},
            "targets": [{"expr": expr, **target}],
        }

    mean = "sum(rate(desk_request_seconds_sum[5m])) / sum(rate(desk_request_seconds_count[5m]))"
    lost = '100 * sum(increase(desk_requests_total{outcome="failed"}[5m])) / sum(increase(desk_requests_total{outcome!="refused"}[5m]))'
    inner = [
        shown("timeseries", "How full", "percentunit", "max(desk_requests_in_flight / desk_requests_allowed)")
    ]
    panels = [
        shown("gauge", "Replicas", "short", "count(up == 1)"),
        shown("timeseries", "Requests a second", "reqps", "sum(rate(desk_request_seconds_count[5m]))"),
        shown("timeseries", "Failures", "percent", lost),
        shown("timeseries", "Mean duration", "s", mean, exemplar=True),
        {"type": "text", "title": "", "options": {"content": "Look at the log next."}},
        {"type": "row", "title": "More", "collapsed": True, "panels": inner},
    ]
    return {"title": "Desk", "panels": panels}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="titles of the panels"
# Two panels under one title.
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": "Requests" if number < 2 else title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [{"refId": "A", "expr": expression, "exemplar": unit == "s"}],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return {"uid": "desk", "title": "Desk", "refresh": "15s", "schemaVersion": 38, "panels": panels}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="unit of 'Requests'"
# No units.
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"min": 0}, "overrides": []},
            "targets": [{"refId": "A", "expr": expression, "exemplar": unit == "s"}],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return {"uid": "desk", "title": "Desk", "refresh": "15s", "schemaVersion": 38, "panels": panels}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="exemplar in the targets"
# Nothing leads to a trace.
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [{"refId": "A", "expr": expression}],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return {"uid": "desk", "title": "Desk", "refresh": "15s", "schemaVersion": 38, "panels": panels}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="expressions of 'Requests'"
# Panels that ask nothing.
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return {"uid": "desk", "title": "Desk", "refresh": "15s", "schemaVersion": 38, "panels": panels}


# %% tags=["wrong"] exercise="6.6.3" outcome="failed" message="expected a dict"
# A text.
def dashboard():
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [{"refId": "A", "expr": expression, "exemplar": unit == "s"}],
        }
        for number, (title, (unit, expression)) in enumerate(PANELS.items())
    ]
    return json.dumps({"title": "Desk", "panels": panels})


# %% name="check-6-6-3" tags=["check"] exercise="6.6.3"
check("6.6.3", dashboard)

# %% [markdown]
# ### Stretch: from a metric to its trace
#
# A point in a histogram says that *some* request was slow. Its exemplar says which: here a slow request is found by it, first in the log, then in the
# spans of the course's tracer. (This runs with your `Monitor`, once stage 6.1 is passed.)

# %% name="to-the-trace"
from course_lib.debugging import Tracer


def slow_request(monitor, tracer):
    with tracer.span("request"), tracer.span("search the help centre"):
        carried = tracer.inject({})
    monitor.count("answered", 3.2, carried)


# %% name="by-its-exemplar"
if hasattr(Monitor, "openmetrics"):
    log = io.StringIO()
    monitor, tracer = Monitor(log), Tracer()
    for _ in range(50):
        monitor.count("answered", 0.2)
    slow_request(monitor, tracer)
    exemplar = re.search(r'le="5.0"\} .*trace_id="(\w+)"', monitor.openmetrics())[1]
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    print("exemplar of the bucket of 5 s:", exemplar)
    print("in the log:", *(line["http.request.id"] for line in lines if line.get("trace.id") == exemplar))
    spans = [span.name for span in tracer.spans if f"{span.context.trace_id:032x}" == exemplar]
    print("spans of this trace:", ", ".join(spans))
else:
    print("stage 6.1 comes first; then run this cell again")

# %% [markdown]
# ### Stretch: asked by a real Prometheus
#
# The check gave promtool invented series. Here a real Prometheus scrapes a process that counts, once a second, and each expression of your dashboard is
# asked, with windows of 3 seconds, since the process is young (once stage 6.3 is solved, and where Prometheus is installed; it takes some eight
# seconds).


# %% name="a-process-that-counts"
def serving(ended):
    """Count in a thread until `ended` is set; return the port where Prometheus may ask."""
    own = {"registry": CollectorRegistry()}
    requests = Counter("desk_requests", "Requests", ["outcome"], **own)
    seconds = Histogram("desk_request_seconds", "From request to answer", buckets=(0.1, 0.5, 1, 2), **own)
    Gauge("desk_requests_in_flight", "Under way", **own).set(3)
    Gauge("desk_requests_allowed", "At most", **own).set(20)
    server, _ = prometheus_client.start_http_server(0, addr="127.0.0.1", **own)

    def work():
        while not ended.wait(0.02):
            requests.labels("failed" if secrets.randbelow(20) == 0 else "answered").inc()
            seconds.observe(secrets.randbelow(1_000) / 1_000)
        server.shutdown()
        server.server_close()

    threading.Thread(target=work, daemon=True).start()
    return server.server_port


# %% name="real-prometheus"
import time

from course_lib.services import has_prometheus, running_prometheus


def asked_of(prometheus, board):
    """Return what each expression of a dashboard says now."""
    while not prometheus.query("count_over_time(desk_requests_total[3s]) >= 3"):
        time.sleep(0.5)
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            short = re.sub(r"\[[^]]+\]", "[3s]", target["expr"])
            now = ", ".join(f"{value:.3g}" for _, value in prometheus.query(short))
            yield {"panel": panel["title"], "expression": short, "now": now}


# %% name="asked-by-prometheus"
rows, ended = [], threading.Event()
if dashboard() is None:
    print("stage 6.3 comes first; then run this cell again")
elif not has_prometheus():
    print("Prometheus is not installed: apt-get install prometheus prometheus-alertmanager")
else:
    with running_prometheus({"desk": [f"127.0.0.1:{serving(ended)}"]}) as prometheus:
        rows = list(asked_of(prometheus, dashboard()))
    ended.set()
table(rows) if rows else None

# %% [markdown] name="end-6"
# That was project 6. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-7"
# ## Project 7: The flight
#
# The parts are there: documents, cache, runner, tracer, monitor. What makes a system of them is decided where they meet: what becomes of a
# question when one of them fails. You write that, a worker's handling of one job, and the canary that takes a bad version back. Then all of
# it flies. Whatever you have not written is ours.

# %% name="given-7" tags=["needs"]
from course_lib.flight import Busy, Reply, Request

request = Request("r-1", "north", "Can I return a tent that I have used?")
print(request)

# %% [markdown]
# ### Stage 6.7.1: one question, whatever is broken (20 minutes, medium)
#
# *Concepts: graceful degradation, cache keys, tenants.*
#
# Write `async def reply(request, made, ask)`. `made` has the parts: `made.cache`, `made.runner`, `made.documents`, `made.canary`.
# `await ask(request)` searches, asks the models with all that stands around them, and returns a `Reply`; it raises when no model answers.
#
# - The version of the program is `made.canary.version(request.id)`. A question that the same tenant asked the same version before, and that
#   was answered, gets `Reply("cached", text, citations)` with the text and the citations of then; neither the runner nor `ask` nor a search is
#   needed for it. Questions are the same if their texts are.
# - A key of the cache does not show the question. The cache takes a `str` under a `str`.
# - Any other question is run: `made.runner.run(call, within_s)` with 4 seconds. What `ask` returns is returned as it is, and kept.
# - Where the runner or `ask` raises, the reply is `Reply("degraded", article)` with the first article that `made.documents.search(text)` finds.
#   Nothing of it is kept.
# - Where the search raises too, finds nothing, or takes longer than a second: `Reply("failed")`.
# - A cache that raises, or gives back what is no answer, costs no answer.
# - `reply` raises nothing, except that a cancelled question is cancelled.


# %% name="ex-6-7-1" tags=["exercise"] exercise="6.7.1"
### BEGIN SOLUTION
### STUB: async def reply(request, made, ask):
### STUB:     """Return the Reply to a request, whatever is broken."""
### STUB:     ...
import hashlib
import json


async def reply(request, made, ask):
    """Return the Reply to a request, whatever is broken."""
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    if kept := await kept_reply(made.cache, key):
        return kept
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        return await best_article(made.documents, request.text)
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception as error:
        print("not kept:", type(error).__name__)
    return answered


async def kept_reply(cache, key):
    try:
        text, citations = json.loads(await cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:  # a cache that is gone or holds something else has no answer
        return None


async def best_article(documents, text):
    try:
        async with asyncio.timeout(1.0):
            return Reply("degraded", (await documents.search(text))[0])
    except Exception:
        return Reply("failed")


### END SOLUTION


# %% tags=["right"] exercise="6.7.1"
# A class, pydantic for what is kept, and the outcome decided in one place.
import hmac

from pydantic import BaseModel


class Kept(BaseModel, extra="forbid"):
    text: str
    citations: tuple[str, ...]


class Replies:
    secret = b"of this process"

    async def __call__(self, request, made, ask):
        key = self.key(request, made.canary.version(request.id))
        found = await self.quietly(self.look(made.cache, key))
        if found is not None:
            return found
        got = await self.quietly(made.runner.run(lambda: ask(request), within_s=4.0))
        if got is None:
            return await self.quietly(self.article(made, request)) or Reply("failed")
        kept = Kept(text=got.text, citations=got.citations).model_dump_json()
        await self.quietly(made.cache.set(key, kept))
        return got

    def key(self, request, version):
        sizes = f"{len(request.tenant)},{len(version)}:{request.tenant}{version}{request.text}"
        return hmac.digest(self.secret, sizes.encode(), "sha256").hex()

    async def look(self, cache, key):
        kept = Kept.model_validate_json(await cache.get(key))
        return Reply("cached", kept.text, kept.citations)

    async def article(self, made, request):
        found = await asyncio.wait_for(made.documents.search(request.text, 1), 1)
        return Reply("degraded", found[0])

    async def quietly(self, awaitable):
        try:
            return await awaitable
        except Exception:
            return None


reply = Replies()


# %% tags=["right"] exercise="6.7.1"
# Nested, with suppress; what is kept is a dict that is checked by hand.
import base64
import hashlib
import json
from contextlib import suppress


async def reply(request, made, ask):
    digest = hashlib.blake2b()
    for part in (request.tenant, made.canary.version(request.id), request.text):
        digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    key = base64.b64encode(digest.digest()).decode()
    with suppress(Exception):
        kept = json.loads(await made.cache.get(key) or "null")
        if isinstance(kept, dict) and isinstance(kept.get("text"), str) and "citations" in kept:
            return Reply("cached", kept["text"], tuple(kept["citations"]))

    async def call():
        return await ask(request)

    with suppress(Exception):
        result = await made.runner.run(call, 4)
        with suppress(Exception):
            await made.cache.set(key, json.dumps({"text": result.text, "citations": [*result.citations]}))
        return result
    articles = []
    with suppress(Exception):
        async with asyncio.timeout(1):
            articles = await made.documents.search(request.text, 3)
    return Reply("degraded", articles[0]) if articles else Reply("failed")


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="by tenant and version"
# Tenants share what is kept.
import hashlib
import json


async def reply(request, made, ask):
    parts = [made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="by tenant and version"
# Versions share what is kept.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="by tenant and version"
# Where the tenant ends and the version begins cannot be told.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256("".join(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="differs by a blank"
# Texts are made alike first.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text.strip()]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="nothing of the question in them"
# The question is the key.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = json.dumps(parts)
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="seconds that the runner was given"
# Half a minute.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 30.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="seconds that the runner was given"
# Not by the runner.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await asyncio.wait_for(ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="the same question again"
# Nothing is kept.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        pass
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="the same question again"
# What is kept is not marked as such.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("answered", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="the same question again"
# The citations are forgotten.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, ())
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="the same question when all is well again"
# A degraded reply is kept.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                article = (await made.documents.search(request.text))[0]
                await made.cache.set(key, json.dumps([article, []]))
                return Reply("degraded", article)
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="raises Busy"
# Only a lost connection is expected.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except ConnectionError:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="no model answers and the search"
# An empty search is not thought of.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", "".join((await made.documents.search(request.text))[:1]))
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="no model answers and the search takes"
# The search may take as long as it likes.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(60.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="where the cache raises"
# The cache is always there.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="is kept under the key"
# What comes out of the cache is believed.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        kept = await made.cache.get(key)
    except Exception:
        kept = None
    if kept is not None:
        text, citations = json.loads(kept)
        return Reply("cached", text, tuple(citations))
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="how a cancelled question ends"
# Who leaves gets an article.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except BaseException:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="with what ask was called"
# Once more, to be sure.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: asyncio.gather(ask(request), ask(request)), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", (await made.documents.search(request.text))[0])
        except Exception:
            return Reply("failed")
    answered = answered[0]
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% tags=["wrong"] exercise="6.7.1" outcome="failed" message="An article about tents"
# The end is silence.
import hashlib
import json


async def reply(request, made, ask):
    parts = [request.tenant, made.canary.version(request.id), request.text]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    try:
        text, citations = json.loads(await made.cache.get(key))
        return Reply("cached", text, tuple(citations))
    except Exception:
        pass
    try:
        answered = await made.runner.run(lambda: ask(request), 4.0)
    except Exception:
        try:
            async with asyncio.timeout(1.0):
                return Reply("degraded", "Please ask again later.")
        except Exception:
            return Reply("failed")
    try:
        await made.cache.set(key, json.dumps([answered.text, answered.citations]))
    except Exception:
        pass
    return answered


# %% name="check-6-7-1" tags=["check"] exercise="6.7.1"
check("6.7.1", reply)

# %% [markdown]
# ### Stage 6.7.2: a job, once (15 minutes, medium)
#
# *Concepts: at least once, idempotent effects, transactions.*
#
# A queue delivers a job at least once: a worker may be killed after the work and before it has said so. In the flight it is. Write
# `async def handle(job, sort, path)`. `job` has `id` and `text`; `await sort(text)` returns a category (a model is asked); `path` is an SQLite
# file with the table `outbox (id text, category text)`.
#
# - When it returns, the table has exactly one row of the job, with its id and category: also when the job is handled again, or by several at
#   once. Other workers use the same file.
# - A job that has a row is not sorted again.
# - Where `sort` raises, its error is raised, and there is no row. A later delivery does the job.
# - While one job is being sorted, others are handled. While another process writes to the file, `handle` waits for it, up to five seconds.
# - A process that is killed while it sorts leaves nothing behind that keeps the job from being done.


# %% name="ex-6-7-2" tags=["exercise"] exercise="6.7.2"
### BEGIN SOLUTION
### STUB: async def handle(job, sort, path):
### STUB:     """Do a job, so that it has one row in the outbox."""
### STUB:     ...
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    """Do a job, so that it has one row in the outbox."""
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


### END SOLUTION


# %% tags=["right"] exercise="6.7.2"
# In a thread, with a transaction that locks before it looks.
import sqlite3
from contextlib import closing


def transact(path, work):
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as outbox:
        outbox.execute("begin immediate")
        try:
            result = work(outbox)
            outbox.execute("commit")
        except BaseException:
            outbox.execute("rollback")
            raise
        return result


def is_done(outbox, job_id):
    return bool(outbox.execute("select count(*) from outbox where id = ?", (job_id,)).fetchone()[0])


async def handle(job, sort, path):
    if await asyncio.to_thread(transact, path, lambda outbox: is_done(outbox, job.id)):
        return
    category = await sort(job.text)

    def write(outbox):
        if not is_done(outbox, job.id):
            outbox.execute("insert into outbox (id, category) values (?, ?)", (job.id, category))

    await asyncio.to_thread(transact, path, write)


# %% tags=["right"] exercise="6.7.2"
# A unique index, and what it refuses is ignored.
import sqlite3


class Handler:
    def rows(self, path, sql, *values):
        outbox = sqlite3.connect(path, timeout=10)
        try:
            with outbox:
                outbox.execute("create unique index if not exists one_each on outbox (id)")
                return outbox.execute(sql, values).fetchall()
        finally:
            outbox.close()

    async def __call__(self, job, sort, path):
        if not self.rows(path, "select id from outbox where id = ?", job.id):
            category = await sort(job.text)
            self.rows(path, "insert or ignore into outbox values (?, ?)", job.id, category)


handle = Handler()


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="rows after each job came twice"
# Each delivery has a row.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute("insert into outbox values (?, ?)", [job.id, category])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="ids of the rows"
# Between looking and writing, another one writes.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute("insert into outbox values (?, ?)", [job.id, category])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="texts that were sorted"
# Whether it is done is looked at last.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="rows after each job came twice"
# Nothing is committed.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="rows after each job came twice"
# What was done is remembered in the process, by text, and nothing else.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        job = type(job)(job.id + " ", job.tenant, job.text)
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="the error of a job whose sort fails"
# An error is printed.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    try:
        category = await sort(job.text)
    except Exception as error:
        print(error)
        return
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="rows after it"
# The row is written first, so that nobody else begins.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, "being sorted", job.id])
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute("update outbox set category = ? where id = ?", [category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="handling of a job.*TimeoutError"
# One transaction around all of it.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path, isolation_level=None)) as outbox:
        while True:
            try:
                outbox.execute("begin immediate")
                break
            except sqlite3.OperationalError:
                await asyncio.sleep(0.05)
        if not outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone():
            outbox.execute(WRITE, [job.id, await sort(job.text), job.id])
        outbox.execute("commit")


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="handling of a job"
# A locked file is an error at once.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    category = await sort(job.text)
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute("pragma busy_timeout = 0")
        outbox.execute(WRITE, [job.id, category, job.id])


# %% tags=["wrong"] exercise="6.7.2" outcome="failed" message="rows after the job came again"
# Who begins says so in a file, and takes it away at the end.
import sqlite3
from contextlib import closing

WRITE = "insert into outbox select ?, ? where not exists (select 1 from outbox where id = ?)"


async def handle(job, sort, path):
    with closing(sqlite3.connect(path)) as outbox:
        is_done = outbox.execute("select 1 from outbox where id = ?", [job.id]).fetchone()
    if is_done:
        return
    mark = path.parent / job.id
    if mark.exists():
        return
    mark.touch()
    try:
        category = await sort(job.text)
    finally:
        mark.unlink()
    with closing(sqlite3.connect(path)) as outbox, outbox:
        outbox.execute(WRITE, [job.id, category, job.id])


# %% name="check-6-7-2" tags=["check"] exercise="6.7.2"
check("6.7.2", handle)

# %% [markdown]
# ### Stage 6.7.3: a version that is taken back (20 minutes, hard)
#
# *Concepts: canary, sequential test, false alarm.*
#
# Write a class `Canary` with three methods. An answer is good if it cites an article; that is known at once, without a label.
#
# - At first version `"1"` answers all. `deploy(version)` begins with a new one. `version(request_id)` then gives it a fifth to two fifths of the
#   requests, and one request always the same version, as long as nothing changes.
# - `saw(version, is_good=...)` is called after each answer. A new version whose answers are good 40 points less often than those of version
#   `"1"` meanwhile is taken back within 100 of its own answers: `"1"` answers all again.
# - Of new versions that are as good, 19 of 20 are still there after 300 answers.
# - What was seen of one version says nothing of the next one. An answer of a version that was taken back, which was under way, changes nothing.


# %% name="ex-6-7-3" tags=["exercise"] exercise="6.7.3"
### BEGIN SOLUTION
### STUB: class Canary:
### STUB:     """Tries a new version of the program, and takes it back."""
### STUB:
### STUB:     def deploy(self, version):
### STUB:         ...
### STUB:
### STUB:     def version(self, request_id):
### STUB:         ...
### STUB:
### STUB:     def saw(self, version, *, is_good):
### STUB:         ...
import math
import zlib


class Canary:
    """Tries a new version of the program, and takes it back."""

    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            self.tried = None

    def errors_apart(self):
        """Return how many standard errors the live version is better."""
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


### END SOLUTION


# %% tags=["right"] exercise="6.7.3"
# A bet on each pair of answers, one of each version: at twenty times the stake it is over.
import hashlib


class Canary:
    def __init__(self):
        self.tried, self.won, self.waiting = "", 1.0, []

    def deploy(self, version):
        self.tried, self.won, self.waiting = version, 1.0, []

    def version(self, request_id):
        first = hashlib.md5(request_id.encode()).digest()[0]
        return self.tried if self.tried and first < 80 else "1"

    def saw(self, version, *, is_good):
        if version == "1":
            self.waiting = [*self.waiting, is_good][-200:]
        elif version == self.tried and self.waiting:
            others, self.waiting = self.waiting, []
            self.won *= 1 + 0.45 * (sum(others) / len(others) - is_good)
            if self.won > 20:
                self.tried = ""


# %% tags=["right"] exercise="6.7.3"
# The posterior: how likely it is, after each ten answers, that the new version is worse by 10 points.
import random as draws
import zlib

import numpy as np


class Canary:
    def __init__(self):
        self.new, self.seen = None, {}

    def deploy(self, version):
        self.new, self.seen = version, {"1": [1, 1], version: [1, 1]}

    def version(self, request_id):
        chosen = draws.Random(zlib.adler32(request_id.encode())).random() < 0.25
        return self.new if self.new is not None and chosen else "1"

    def saw(self, version, *, is_good):
        if self.new is None or version not in self.seen:
            return
        self.seen[version][not is_good] += 1
        if version == self.new and sum(self.seen[version]) % 10 == 2:
            random = np.random.default_rng(1)
            old, new = (random.beta(*self.seen[each], 20_000) for each in ("1", self.new))
            if (old - new > 0.05).mean() > 0.998:
                self.new = None


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="share of the new version"
# Half of the requests.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 50
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="number of versions that answer one request"
# By the throw of a die, each time.
import math
import random


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and random.random() < 0.3
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="versions of 600 requests before"
# The new version is there from the start.
import math
import zlib


class Canary:
    live, tried = "1", "2"
    answers, good = {"1": 0, "2": 0}, {"1": 0, "2": 0}

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="a version that is good in"
# It is never taken back.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            pass

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="a version that is good in"
# Only a version that is nearly always wrong is bad.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.good[self.tried] / self.answers[self.tried] < 0.3:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="versions that are as good as the live one"
# Below a fixed share it is bad, whatever the live one does.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.good[self.tried] / self.answers[self.tried] < 0.7:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="versions that are as good as the live one"
# Two standard errors, looked at after each answer.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 2:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="versions that are as good as the live one"
# The first three bad answers in a row.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if version == self.tried:
            self.row = 0 if is_good else getattr(self, "row", 0) + 1
        if getattr(self, "row", 0) > 2:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="versions after"
# The next version is refused for the sake of the last one.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version if not getattr(self, "was_bad", False) else None
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in self.answers:
            return
        self.answers[version] += 1
        self.good[version] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            self.tried, self.was_bad = None, True

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="whether.*as good as the live one, is there"
# What was seen of one version counts against the next one.
import math
import zlib


class Canary:
    live, tried = "1", None

    def __init__(self):
        self.answers, self.good = {"live": 0, "new": 0}, {"live": 0, "new": 0}

    def deploy(self, version):
        self.tried = version

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried or version not in (self.live, self.tried):
            return
        whose = "live" if version == self.live else "new"
        self.answers[whose] += 1
        self.good[whose] += is_good
        if min(self.answers.values()) >= 10 and self.errors_apart() > 3.5:
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in ("live", "new")]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% tags=["wrong"] exercise="6.7.3" outcome="failed" message="versions after"
# Answers of any version but the live one are those of the new one.
import math
import zlib


class Canary:
    live, tried = "1", None

    def deploy(self, version):
        self.tried = version
        self.answers, self.good = {self.live: 0, version: 0}, {self.live: 0, version: 0}

    def version(self, request_id):
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 100 < 30
        return self.tried if is_tried else self.live

    def saw(self, version, *, is_good):
        if not self.tried:
            return
        version = version if version == self.live else self.tried
        self.answers[version] += 1
        self.good[version] += is_good
        if self.answers[self.tried] >= 10 and (self.good[self.tried] == 0 or self.errors_apart() > 3.5):
            self.tried = None

    def errors_apart(self):
        (n, m), both = self.answers.values(), sum(self.good.values()) / sum(self.answers.values())
        error = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
        shares = [self.good[each] / self.answers[each] for each in (self.live, self.tried)]
        return (shares[0] - shares[1]) / error if error else 0.0


# %% name="check-6-7-3" tags=["check"] exercise="6.7.3"
check("6.7.3", Canary)

# %% [markdown] name="end-7"
# That was project 7. Stop here if you like: the next one needs nothing of it.
