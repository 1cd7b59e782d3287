"""What clients speak.

common.py       what all of them need of a request
huggingface.py  POST / and /models/{name}
classify.py     POST /v1/classify, as vLLM
kserve.py       /v2, the Open Inference Protocol
stream.py       POST /v1/stream, JSON lines both ways
feedback.py     POST /v1/feedback, labels from users
operate.py      health, metrics, reload, the page
"""
