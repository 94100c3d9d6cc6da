"""The local stack: real servers, started from packages, on loopback, in one data folder.

`stack` is the entry point (`up`, `start_workers`, `down`, `status`). `doctor` reports what is
missing. Each service is one module with four methods: `install` its packages, `prepare` its files
and the program for the supervisor, `check` that it answers, and `variables` for the workers.
"""
