"""The local stack: real servers, started from packages, on loopback, in one data folder.

`stack` is the way in (`up`, `start_workers`, `down`, `status`); `doctor` says what is missing.
Each service is one module with the same four questions answered: what must be installed
(`install`), what does supervisor run (`prepare`), does it answer (`check`), and under which
variables do the workers find it (`variables`).
"""
