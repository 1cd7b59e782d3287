"""Answers over HTTP: one process, one bundle, one device; or many of them on Ray.

app.py          the application: routes, errors, start and stop
run.py          uvicorn on it: TLS, SIGTERM drains, SIGHUP reloads
settings.py     serve.yaml
gate.py         around every request: number, log line, metrics, no error that tells anything
bodies.py       a body read within bytes, time and depth
keys.py         API keys, their scopes and budgets
limits.py       what is taken in, and what is refused at once
pre.py          check and tokenise, in threads
loop.py         the thread that owns the engines
jobs.py         a request's token rows while they are in it
memory.py       what the garbage collector need not look at
probes.py       whether each tier answers as it should
post.py         join windows, render
deployment.py   a bundle that is served: its levels, its loop
service.py      the deployment of now, reloads, draining, the watchdog
audit.py        a share of the traffic answered by the full tier besides
canary.py       another bundle on trial
feedback.py     labels that users send, kept apart and tested
metrics.py      Prometheus
logs.py         JSON lines
traces.py       OpenTelemetry
protocols/      what clients speak

On a Ray cluster (extra `ray`):
ray.py          the ingress and the replicas
cluster.py      the cluster: joined or started, and left
relay.py        a request on its way to a replica
replicas.py     what replicas share
scaling.py      how many there should be
"""
