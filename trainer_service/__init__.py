"""The service that accepts training jobs, trains dense networks and publishes them as versions."""

import os

from shared.store.keys import RQ_PREFIX

os.environ["RQ_KEY_PREFIX"] = RQ_PREFIX  # before any module here imports rq, which reads it once
