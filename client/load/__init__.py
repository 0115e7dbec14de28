"""A load generator for the inference service: what `weightcast bench` runs, in processes of its own.

`generator` starts the processes and gathers what they see; `worker` is one of them, and `pacing` decides when a request
goes out. It promises that a request's latency counts from the moment it was due, whatever held it up.
"""
